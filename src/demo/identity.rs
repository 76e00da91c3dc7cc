//! The demo's certificate: self-signed, made at start, gone with the laboratory.

use crate::demo::client;
use crate::demo::error::DemoError;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name people reach the pair by.
pub const NAME: &str = "cloud.demo";

pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub bundle: PathBuf,
    /// A client that trusts this certificate only.
    pub trust: Arc<rustls::ClientConfig>,
}

impl Identity {
    /// Makes key and certificate (ECDSA P-256) and writes them to `directory`.
    pub fn make(directory: &Path) -> Result<Identity, DemoError> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])
            .map_err(|error| DemoError::Certificate(error.to_string()))?;
        let (certificate_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        let identity = Identity {
            certificate: directory.join("cloud.pem"),
            key: directory.join("cloud.key"),
            bundle: directory.join("cloud.bundle.pem"),
            trust: client::trust(made.cert.der().clone())?,
        };
        let write = |path: &Path, text: &str| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(text.as_bytes()))
                .map_err(DemoError::lab(format!("writing {}", path.display())))
        };
        write(&identity.certificate, &certificate_pem)?;
        write(&identity.key, &key_pem)?;
        write(&identity.bundle, &format!("{certificate_pem}{key_pem}"))?;
        Ok(identity)
    }
}
