//! `[tls]`: certificates and their keys, read, matched and looked at before anybody serves with them.

use super::{Context, files};
use crate::config::file::{Item, Section};
use crate::config::settings::{Certificate, Route};
use crate::config::{calendar, x509};
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::PathBuf;

/// Certificates one node may have; each costs memory and a look at every handshake.
const CERTIFICATES_MAX: usize = 1_000;

/// Somebody should have renewed it by then.
const EXPIRES_SOON_S: i64 = 7 * 86_400;

pub(super) struct Read<'a> {
    pub(super) item: Item<'a>,
    pub(super) certificate: Certificate,
    leaf: CertificateDer<'static>,
}

/// The certificates, and whether HTTP/2 is offered beside HTTP/1.1.
pub(super) fn read<'a>(c: &mut Context, section: Option<Section<'a>>) -> (Vec<Read<'a>>, bool) {
    let Some(mut section) = section else { return (Vec::new(), true) };
    let http2 = section.optional("http2").and_then(|item| item.flag(&mut c.f)).unwrap_or(true);
    (certificates(c, section), http2)
}

fn certificates<'a>(c: &mut Context, mut section: Section<'a>) -> Vec<Read<'a>> {
    section.later(&mut c.f, "acme", "certificates by ACME");
    let hint = "Write certificates = [{ cert = \"/etc/lyre/tls/cloud.pem\", key = \"/etc/lyre/tls/cloud.key\" }].";
    let list = if section.has("acme") {
        section.optional("certificates")
    } else {
        section.required(&mut c.f, "certificates", hint)
    };
    section.finish(&mut c.f);
    let Some(list) = list else { return Vec::new() };
    let items = list.filled_list(&mut c.f, hint);
    if items.len() > CERTIFICATES_MAX {
        list.error(&mut c.f, format!("there are more than {CERTIFICATES_MAX} certificates"), "");
    }
    items.into_iter().filter_map(|item| certificate(c, item)).collect()
}

/// Warns of hosts that no certificate is for.
pub(super) fn check_names(c: &mut Context, certificates: &[Read], routes: &[Route]) {
    let Some(first) = certificates.first() else { return };
    let mut hosts: Vec<&str> = routes.iter().flat_map(|route| &route.hosts).map(String::as_str).collect();
    hosts.sort_unstable();
    hosts.dedup();
    for host in hosts {
        let Ok(name) = ServerName::try_from(host) else { continue };
        let is_for_host = |read: &Read| {
            let leaf = ParsedCertificate::try_from(&read.leaf);
            leaf.is_ok_and(|leaf| rustls::client::verify_server_name(&leaf, &name).is_ok())
        };
        if !certificates.iter().any(is_for_host) {
            first.item.warning(&mut c.f, format!("no certificate is for {host}"), "Browsers will refuse it there.");
        }
    }
}

fn certificate<'a>(c: &mut Context, item: Item<'a>) -> Option<Read<'a>> {
    let mut section = item.section(&mut c.f)?;
    let pair = pair(c, &mut section);
    section.finish(&mut c.f);
    let (certificate, leaf) = pair?;
    Some(Read { item, certificate, leaf })
}

/// `cert`, and `key` where it is not in the same file.
pub(super) fn pair(c: &mut Context, section: &mut Section) -> Option<(Certificate, CertificateDer<'static>)> {
    let cert_item = section.required(&mut c.f, "cert", "Write cert = \"/etc/lyre/tls/cloud.pem\".");
    let key_item = section.optional("key");
    let cert_item = cert_item?;
    let chain = chain(c, &cert_item);
    let key = key(c, key_item.as_ref().unwrap_or(&cert_item));
    let ((cert_path, chain_pem, chain), (key_path, key_pem, key)) = chain.zip(key)?;
    let leaf = chain.first()?.clone();
    check_validity(c, &cert_item, &leaf);
    check_match(c, key_item.as_ref().unwrap_or(&cert_item), &cert_path, chain, key)?;
    Some((Certificate { cert_path, key_path, chain_pem: chain_pem.into(), key_pem: key_pem.into() }, leaf))
}

fn chain(c: &mut Context, item: &Item) -> Option<(PathBuf, Vec<u8>, Vec<CertificateDer<'static>>)> {
    let (path, file) = files::content(c, item)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    match parsed {
        Ok(chain) if !chain.is_empty() => Some((path, file.bytes, chain)),
        Ok(_) => {
            let hint = "It must hold PEM: -----BEGIN CERTIFICATE----- lines, the server's own certificate first.";
            item.error(&mut c.f, format!("{} has no certificate", path.display()), hint);
            None
        }
        Err(error) => {
            item.error(&mut c.f, format!("{} is no valid PEM: {error}", path.display()), "");
            None
        }
    }
}

fn key(c: &mut Context, item: &Item) -> Option<(PathBuf, Vec<u8>, PrivateKeyDer<'static>)> {
    let (path, file) = files::content(c, item)?;
    files::warn_if_public(c, item, &path, &file);
    match PrivateKeyDer::from_pem_slice(&file.bytes) {
        Ok(key) => Some((path, file.bytes, key)),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => {
            let is_encrypted = file.bytes.windows(9).any(|window| window == b"ENCRYPTED");
            let hint = match is_encrypted {
                true => "It is encrypted: write it without a password (openssl pkey) into a file only root can read.",
                false => "It must hold PEM: -----BEGIN PRIVATE KEY----- lines.",
            };
            item.error(&mut c.f, format!("{} has no private key", path.display()), hint);
            None
        }
        Err(error) => {
            item.error(&mut c.f, format!("{} is no valid PEM: {error}", path.display()), "");
            None
        }
    }
}

fn check_validity(c: &mut Context, item: &Item, leaf: &CertificateDer) {
    let Some(validity) = x509::validity(leaf) else { return };
    let renew = "Renew it, then lyre reload.";
    if c.now >= validity.not_after {
        item.warning(&mut c.f, format!("the certificate expired on {}", calendar::show_day(validity.not_after)), renew);
    } else if c.now < validity.not_before {
        let message = format!("the certificate is not valid before {}", calendar::show_day(validity.not_before));
        item.warning(&mut c.f, message, "Is this machine's clock right?");
    } else if c.now + EXPIRES_SOON_S >= validity.not_after {
        item.warning(&mut c.f, format!("the certificate expires on {}", calendar::show_day(validity.not_after)), renew);
    }
}

/// The key fits the first certificate, and rustls can sign with it.
fn check_match(
    c: &mut Context,
    item: &Item,
    cert_path: &std::path::Path,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Option<()> {
    let key = match rustls::crypto::aws_lc_rs::sign::any_supported_type(&key) {
        Ok(key) => key,
        Err(_) => {
            item.error(
                &mut c.f,
                "the key cannot be used",
                "Keys are RSA of 2048 bits or more, ECDSA P-256..P-521 or Ed25519.",
            );
            return None;
        }
    };
    let public = key.public_key();
    let of_other = chain.iter().skip(1).any(|other| {
        ParsedCertificate::try_from(other).is_ok_and(|other| Some(other.subject_public_key_info()) == public)
    });
    match rustls::sign::CertifiedKey::new(chain, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Some(()),
        Err(rustls::Error::InconsistentKeys(_)) if of_other => {
            let message = format!("the key belongs to another certificate of {} than the first", cert_path.display());
            item.error(&mut c.f, message, "Put the server's own certificate first, then the chain.");
            None
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("the key does not belong to the certificate in {}", cert_path.display());
            item.error(&mut c.f, message, "");
            None
        }
        Err(_) => {
            let message = format!("the first certificate in {} cannot be read", cert_path.display());
            item.error(&mut c.f, message, "");
            None
        }
    }
}
