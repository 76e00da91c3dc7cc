//! TLS of the `http` probe, over a socket that never waits.

use crate::config::settings::track::{TlsCheck, TlsTrust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Where distributions keep the roots they trust: Debian and Alpine, Fedora, openSUSE.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// Made once for a tracker, for all its connections.
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// The text says what is missing.
    pub fn new(check: &TlsCheck) -> Result<Client, String> {
        let provider = Arc::new(default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &check.trust {
            TlsTrust::Nobody => Arc::new(Unchecked(provider.signature_verification_algorithms)),
            TlsTrust::Roots(pem) => checked(&provider, pem)?,
            TlsTrust::System => checked(&provider, &system_roots()?)?,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        Ok(Client { config: Arc::new(config), name: check.name.clone() })
    }

    pub fn session(&self) -> Result<Session, Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map(|connection| Session(Box::new(connection)))
    }
}

/// One connection's.
pub struct Session(Box<ClientConnection>);

impl Session {
    /// Whether the next step waits for room to send rather than for bytes.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    pub fn write(&mut self, socket: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<usize> {
        let sent = rustls::Stream::new(&mut *self.0, socket).write(bytes)?;
        // Whatever does not go out now goes with the next read.
        match rustls::Stream::new(&mut *self.0, socket).flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(sent),
        }
    }

    pub fn read(&mut self, socket: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut *self.0, socket).read(buffer)
    }
}

fn checked(provider: &Arc<rustls::crypto::CryptoProvider>, pem: &[u8]) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    // A bundle of hundreds may hold one that is too odd to be read; it is believed as little as if it were not there.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| format!("no certificate can be believed: {error}"))
}

fn system_roots() -> Result<Vec<u8>, String> {
    let mut found = SYSTEM_ROOTS.iter().filter_map(|path| std::fs::read(path).ok());
    found.next().ok_or_else(|| "this system has no CA certificates; install ca-certificates or set ca_file".to_owned())
}

/// Believes every certificate. That the server has its key is checked all the same.
#[derive(Debug)]
struct Unchecked(rustls::crypto::WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
