//! Mutual TLS 1.3 from the cluster secret: both nodes derive the same Ed25519 key and the same certificate, and each
//! accepts only that certificate from the other. No CA, no files, nothing to renew.

use aws_lc_rs::hkdf;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;

/// Name in the certificate; never looked up.
const NAME: &str = "lyre-pair";
/// PKCS #8 wrapping of a 32-byte Ed25519 seed (RFC 8410 §7).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Configurations of both ends of the link.
#[derive(Clone)]
pub struct Identity {
    pub client: Arc<rustls::ClientConfig>,
    pub server: Arc<rustls::ServerConfig>,
}

/// The secret could not be turned into a key.
#[derive(Debug)]
pub struct IdentityError(String);

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no identity for the pair link: {}", self.0)
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    pub fn derive(cluster_secret: &[u8]) -> Result<Identity, IdentityError> {
        let seed = derive_key(cluster_secret, b"lyre pair link v1")?;
        let failed = |what: &str, error: &dyn std::fmt::Display| IdentityError(format!("{what}: {error}"));
        let pkcs8 = [PKCS8_PREFIX.as_slice(), &seed].concat();
        let key = rcgen::KeyPair::try_from(pkcs8.as_slice()).map_err(|e| failed("key", &e))?;
        let certificate = certificate(&key).map_err(|e| failed("certificate", &e))?;
        let private = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.clone()));

        let provider = Arc::new(provider::default_provider());
        let pinned = Arc::new(Pinned { certificate: certificate.clone(), provider: provider.clone() });
        let tls = |e: Error| failed("TLS", &e);
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(pinned.clone())
            .with_client_auth_cert(vec![certificate.clone()], private())
            .map_err(tls)?;
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(pinned)
            .with_single_cert(vec![certificate], private())
            .map_err(tls)?;
        Ok(Identity { client: Arc::new(client), server: Arc::new(server) })
    }

    pub fn server_name() -> ServerName<'static> {
        ServerName::try_from(NAME).unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
    }
}

/// 32 bytes for one purpose, named by `label` (HKDF-SHA256, RFC 5869).
fn derive_key(secret: &[u8], label: &[u8]) -> Result<[u8; 32], IdentityError> {
    let failed = |_| IdentityError("key derivation".to_owned());
    let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lyre").extract(secret);
    let labels = [label];
    let output = pseudo_random.expand(&labels, hkdf::HKDF_SHA256).map_err(failed)?;
    let mut key = [0; 32];
    output.fill(&mut key).map_err(failed)?;
    Ok(key)
}

/// The same bytes on both nodes: fixed serial and validity, and Ed25519 signatures are deterministic.
fn certificate(key: &rcgen::KeyPair) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut parameters = rcgen::CertificateParams::new(vec![NAME.to_owned()])?;
    parameters.serial_number = Some(rcgen::SerialNumber::from(1_u64));
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2120, 1, 1);
    Ok(parameters.self_signed(key)?.der().clone())
}

/// Accepts exactly one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn check(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        // Not a secret, so no constant-time comparison: what proves the peer is its signature.
        if *end_entity == self.certificate {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn tls12() -> Error {
        Error::General("the pair link speaks TLS 1.3 only".to_owned())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Pinned::tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Pinned::tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
