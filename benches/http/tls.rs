//! A TLS 1.3 client that knows whether a session was resumed, and that waits for its tickets.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) struct Client {
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
}

impl Client {
    pub(crate) fn new() -> Client {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tickets = Arc::new(Tickets::default());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.resumption = Resumption::store(tickets.clone());
        Client { config: Arc::new(config), tickets }
    }

    /// Connects, and stays until a ticket has come, which is the last the server does for a handshake.
    pub(crate) fn connect(&self, address: SocketAddr, resume: bool) -> (TcpStream, ClientConnection) {
        let mut kept = self.tickets.0.lock().unwrap();
        if !resume {
            kept.clear();
        }
        kept.truncate(1);
        drop(kept);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let name = ServerName::try_from("bench.test").unwrap();
        let mut tls = ClientConnection::new(self.config.clone(), name).unwrap();
        loop {
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            if !tls.is_handshaking() && !self.tickets.0.lock().unwrap().is_empty() {
                break;
            }
            assert!(tls.read_tls(&mut stream).expect("no session ticket came") > 0, "closed in the handshake");
            tls.process_new_packets().unwrap();
        }
        (stream, tls)
    }

    /// One handshake; true when it was a resumed one.
    pub(crate) fn handshake(&self, address: SocketAddr, resume: bool) -> bool {
        let (_stream, tls) = self.connect(address, resume);
        tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// What servers gave for the next time.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().unwrap().push(ticket);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().pop()
    }
}

/// The certificates were made a minute ago by this program.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
