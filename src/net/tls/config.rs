//! What a server offers: certificates chosen by name and by what the client can verify, and the suites of Mozilla's
//! intermediate recommendation (forward secrecy and AEAD only).

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Tickets of one handshake: two let a client reconnect twice before it needs a new one; each costs an encryption.
const TICKETS: usize = 2;

/// One certificate as the operator has it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// For error messages: the file.
    pub name: String,
    /// PEM: the certificate, then its intermediates.
    pub chain: Vec<u8>,
    /// PEM: PKCS#8, SEC1 or PKCS#1.
    pub key: Vec<u8>,
}

#[derive(Debug)]
pub enum ConfigError {
    /// A server without any certificate cannot answer.
    NoCertificate,
    Pem {
        name: String,
        error: rustls_pki_types::pem::Error,
    },
    EmptyChain {
        name: String,
    },
    /// The key type is unknown, the certificate cannot be parsed, or they do not belong together.
    Unusable {
        name: String,
        error: rustls::Error,
    },
    Names {
        name: String,
        error: webpki::Error,
    },
    Protocol(rustls::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NoCertificate => write!(f, "no certificate given"),
            ConfigError::Pem { name, error } => write!(f, "{name}: not readable as PEM: {error}"),
            ConfigError::EmptyChain { name } => write!(f, "{name}: contains no certificate"),
            ConfigError::Unusable { name, error } => write!(f, "{name}: {error}"),
            ConfigError::Names { name, error } => write!(f, "{name}: certificate not understood: {error}"),
            ConfigError::Protocol(error) => write!(f, "TLS set-up: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::NoCertificate | ConfigError::EmptyChain { .. } => None,
            ConfigError::Pem { error, .. } => Some(error),
            ConfigError::Unusable { error, .. } | ConfigError::Protocol(error) => Some(error),
            ConfigError::Names { error, .. } => Some(error),
        }
    }
}

/// Checks `certificates` and makes the configuration all cores share. The first certificate answers clients that
/// name no known host. Resumption is by tickets alone, so that it works on every core and, with keys derived from a
/// shared secret, on every node. `protocols` are offered in this order (ALPN).
pub fn server_config(
    certificates: &[Certificate],
    tickets: Arc<dyn ProducesTickets>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(ConfigError::Protocol)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver::new(certificates)?));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TICKETS;
    Ok(Arc::new(config))
}

/// For peers of our own making: one certificate, no tickets, and only clients with a certificate of `client_ca` (PEM) if
/// there is one. Their names are not looked at.
pub fn checked_config(certificate: &Certificate, client_ca: Option<&[u8]>) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(ConfigError::Protocol)?;
    let builder = match client_ca {
        Some(pem) => {
            let roots = Arc::new(super::connect::roots(pem)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let error = |error: rustls::server::VerifierBuilderError| rustls::Error::General(error.to_string());
            builder.with_client_cert_verifier(verifier.map_err(error).map_err(ConfigError::Protocol)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(std::slice::from_ref(certificate))?));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Which certificate is for which name, for those who ask after the handshake.
#[derive(Debug, Default)]
pub struct Names {
    /// As in [`Resolver::by_name`]; the first certificate of the list that has the name.
    by_name: HashMap<String, usize>,
}

impl Names {
    pub fn new(certificates: &[Certificate]) -> Result<Names, ConfigError> {
        let mut by_name = HashMap::new();
        for (index, certificate) in certificates.iter().enumerate() {
            for name in load(certificate)?.1 {
                by_name.entry(name).or_insert(index);
            }
        }
        Ok(Names { by_name })
    }

    /// Both names are served with the same certificate, or both with none of their own.
    pub fn are_together(&self, one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other) || self.find(one) == self.find(other)
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wildcard = || name.find('.').and_then(|dot| self.by_name.get(name.get(dot..)?));
        self.by_name.get(&name).or_else(wildcard).copied()
    }
}

/// Tickets under random keys of this process, rotated every six hours.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    aws_lc_rs::Ticketer::new().map_err(ConfigError::Protocol)
}

/// Chosen explicitly: with two providers compiled in, rustls has no default.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: KX_GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    }
}

const KX_GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

thread_local! {
    /// The name in the ClientHello this thread handled last. rustls keeps it from callers of the interface we use;
    /// the handshake takes it right after the call that handled the hello, so no other can come between.
    static LAST_SNI: RefCell<Option<String>> = const { RefCell::new(None) };
}

pub(super) fn take_last_sni() -> Option<String> {
    LAST_SNI.take()
}

/// Certificates by the DNS names they are valid for, each list in order of preference.
#[derive(Debug)]
struct Resolver {
    /// Lower case; a wildcard under its suffix with the leading dot.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    otherwise: Vec<Arc<CertifiedKey>>,
}

impl Resolver {
    fn new(certificates: &[Certificate]) -> Result<Resolver, ConfigError> {
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        let mut default_names = None;
        let mut otherwise = Vec::new();
        for certificate in certificates {
            let (key, names) = load(certificate)?;
            // Another algorithm for the same names as the default belongs to the default too.
            if default_names.get_or_insert_with(|| names.clone()) == &names {
                otherwise.push(key.clone());
            }
            for name in names {
                by_name.entry(name).or_default().push(key.clone());
            }
        }
        if otherwise.is_empty() {
            return Err(ConfigError::NoCertificate);
        }
        by_name.values_mut().for_each(|keys| prefer_fast(keys));
        prefer_fast(&mut otherwise);
        Ok(Resolver { by_name, otherwise })
    }

    fn candidates(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let Some(name) = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase()) else {
            return &self.otherwise;
        };
        let wildcard = || name.find('.').and_then(|dot| self.by_name.get(name.get(dot..)?));
        self.by_name.get(&name).or_else(wildcard).unwrap_or(&self.otherwise)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        LAST_SNI.set(hello.server_name().map(str::to_owned));
        let candidates = self.candidates(hello.server_name());
        let offered = hello.signature_schemes();
        let verifiable = candidates.iter().find(|key| key.key.choose_scheme(offered).is_some());
        verifiable.or(candidates.first()).cloned()
    }
}

/// Signing with an elliptic curve costs a fraction of RSA: first among equals.
fn prefer_fast(keys: &mut [Arc<CertifiedKey>]) {
    keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
}

/// The key with its chain, and the names for [`Resolver::by_name`].
fn load(certificate: &Certificate) -> Result<(Arc<CertifiedKey>, Vec<String>), ConfigError> {
    let name = || certificate.name.clone();
    let pem = |error| ConfigError::Pem { name: name(), error };
    let unusable = |error| ConfigError::Unusable { name: name(), error };
    let chain = CertificateDer::pem_slice_iter(&certificate.chain).collect::<Result<Vec<_>, _>>().map_err(pem)?;
    let leaf = chain.first().ok_or_else(|| ConfigError::EmptyChain { name: name() })?;
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|error| ConfigError::Names { name: name(), error })?;
    let mut names: Vec<String> =
        parsed.valid_dns_names().map(|name| name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    let key = PrivateKeyDer::from_pem_slice(&certificate.key).map_err(pem)?;
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(unusable)?;
    Ok((Arc::new(key), names))
}
