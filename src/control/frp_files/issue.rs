//! Makes what is in the files: an authority and two leaves, as HaRP makes them with openssl.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RsaKeySize,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// Of the authority and of the server: frpc wants the server to be called so, wherever it is.
pub const SERVER: &str = "harp.nc";
pub const CLIENT: &str = "harp.client.nc";

const DAY: Duration = Duration::from_secs(86_400);

/// Clocks of engines' hosts may be behind.
const EARLIER: Duration = Duration::from_secs(3_600);

/// How long something is good for.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    /// Since 1970.
    pub from: Duration,
    pub days: u32,
}

/// What signs.
pub struct Authority {
    pub certificate_pem: String,
    key: KeyPair,
}

/// Neither keys nor files are named: the caller knows which they are.
#[derive(Debug)]
pub enum IssueError {
    /// What was made could not be made, or what is there could not be read.
    Certificate(rcgen::Error),
    /// What the authority signed is not believed: certificate and key are not a pair, or it is not HaRP's.
    Authority(rustls::Error),
    Random,
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> IssueError {
        IssueError::Certificate(error)
    }
}

impl Authority {
    pub fn make(term: Term) -> Result<Authority, IssueError> {
        let key = key()?;
        let certificate_pem = authority_params(term)?.self_signed(&key)?.pem();
        Ok(Authority { certificate_pem, key })
    }

    /// One that is there, of Lyre's or HaRP's making.
    pub fn of(certificate_pem: String, key_pem: &str) -> Result<Authority, IssueError> {
        Ok(Authority { certificate_pem, key: KeyPair::from_pem(key_pem)? })
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A leaf of this name, proven.
    pub fn issue(&self, name: &str, key: &KeyPair, term: Term) -> Result<String, IssueError> {
        let mut params = params(name, term)?;
        params.subject_alt_names = CertificateParams::new(vec![name.to_owned()])?.subject_alt_names;
        // The server's name is its authority's, too: without identifiers of keys openssl takes its leaf for self-signed.
        params.is_ca = IsCa::ExplicitNoCa;
        let mut issuer = authority_params(term)?;
        if let Some(id) = self.key_id() {
            params.use_authority_key_identifier_extension = true;
            issuer.key_identifier_method = KeyIdMethod::PreSpecified(id);
        }
        let leaf = params.signed_by(key, &Issuer::from_params(&issuer, &self.key))?.pem();
        self.prove(&leaf, name, term.from).map_err(IssueError::Authority)?;
        Ok(leaf)
    }

    /// What the certificate calls its own key: the value of its subjectKeyIdentifier (RFC 5280 §4.2.1.2).
    fn key_id(&self) -> Option<Vec<u8>> {
        /// The extension's name, and the beginning of two octet strings of fewer than 128 bytes, one in the other.
        const OID: [u8; 5] = [0x06, 0x03, 0x55, 0x1d, 0x0e];
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let at = der.windows(OID.len()).position(|bytes| bytes == OID)? + OID.len();
        match der.get(at..)? {
            [0x04, _, 0x04, length @ 0..0x80, rest @ ..] => rest.get(..usize::from(*length)).map(<[u8]>::to_vec),
            _ => None,
        }
    }

    /// As frpc looks at it.
    fn prove(&self, leaf: &str, name: &str, now: Duration) -> Result<(), rustls::Error> {
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
        let broken = |_| rustls::Error::General("no certificate".to_owned());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(&self.certificate_pem).map_err(broken)?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = ServerName::try_from(name).map_err(|error| rustls::Error::General(error.to_string()))?;
        let leaf = der(leaf).map_err(broken)?;
        verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::since_unix_epoch(now)).map(drop)
    }
}

/// RSA with 2048 bits, as HaRP has it.
pub fn key() -> Result<KeyPair, IssueError> {
    Ok(KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

fn authority_params(term: Term) -> Result<CertificateParams, IssueError> {
    let mut params = params(SERVER, term)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}

fn params(name: &str, term: Term) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + term.from.saturating_sub(EARLIER);
    params.not_after = epoch + term.from + DAY * term.days;
    // Two leaves of one key must not have one number.
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IssueError::Random)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    Ok(params)
}
