//! The client's handshake, for upstreams behind https and for the pair's own link.

use super::config::provider;
use super::session::{Machine, Session, broken};
use super::stream::TlsStream;
use super::{ConfigError, TlsInfo};
use crate::net::driver::Socket;
use crate::net::stream::Stream;
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::sync::Arc;

/// Whom a client believes.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Certificates issued under these roots (PEM) for the name asked for.
    Roots(Vec<u8>),
    /// Exactly one of these certificates (DER), whatever it says about names and dates.
    Pinned(Vec<Vec<u8>>),
    /// Anybody. The connection is private against listeners, not against an active attacker.
    Anybody,
}

/// Opens TLS to servers it trusts. Cheap to clone; shares remembered sessions.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// `alpn` may be empty.
    pub fn new(trust: Trust, alpn: &[&[u8]]) -> Result<Connector, ConfigError> {
        let provider = Arc::new(provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(ConfigError::Protocol)?;
        let pinned = match trust {
            Trust::Roots(pem) => Err(roots(&pem)?),
            Trust::Pinned(certificates) => Ok(Some(certificates)),
            Trust::Anybody => Ok(None),
        };
        let mut config = match pinned {
            Err(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            Ok(pinned) => {
                let verifier = Arc::new(Exact { pinned, provider });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Connector { config: Arc::new(config) })
    }

    /// Runs the handshake with the server called `name`. Bound it with a timer; dropping the future closes the
    /// socket.
    pub async fn connect(&self, socket: Socket, name: ServerName<'static>) -> io::Result<(Stream, TlsInfo)> {
        let sni = match &name {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let machine = UnbufferedClientConnection::new(self.config.clone(), name).map_err(broken)?;
        let stream = Box::new(TlsStream::new(socket, Session::new(Machine::Client(machine))));
        stream.start()?;
        while stream.is_handshaking() {
            stream.send_control().await?;
            if let Err(error) = stream.step().await {
                let _ = stream.send_control().await;
                return Err(error);
            }
        }
        // Our Finished: the server waits for it even if we have nothing to send.
        stream.send_control().await?;
        let info = stream.info(sni);
        Ok((Stream::Tls(stream), info))
    }
}

pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let name = || String::from("roots");
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| ConfigError::Pem { name: name(), error })?;
        store.add(certificate).map_err(|error| ConfigError::Unusable { name: name(), error })?;
    }
    if store.is_empty() { Err(ConfigError::EmptyChain { name: name() }) } else { Ok(store) }
}

/// Accepts listed certificates only, or any; signatures are always checked.
#[derive(Debug)]
struct Exact {
    pinned: Option<Vec<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exact {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pinned {
            Some(pinned) if !pinned.iter().any(|certificate| certificate == end_entity.as_ref()) => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
