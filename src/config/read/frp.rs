//! `frp_listen` and what belongs to it in `[exapps]`: where ExApps' tunnels come in.

use super::{Context, files, tls};
use crate::config::file::{Item, Section};
use crate::config::names;
use crate::config::settings::frp::{Frp, Tls};
use crate::config::settings::{Listener, tcp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// HaRP's port.
const PORT: u16 = 8_782;

const LISTEN_HINT: &str = "Write frp_listen = \"0.0.0.0:8782\".";
const TLS_HINT: &str = "Write frp_tls = { cert = \"server.crt\", key = \"server.key\", client_ca = \"ca.crt\" } with \
                        HaRP's files, or frp_tls = \"off\" where the network is yours.";

/// `None` without `frp_listen`, or after an error.
pub(super) fn read(
    c: &mut Context,
    section: &mut Section,
    listeners: &[Listener],
    services: &[tcp::Service],
) -> Option<Frp> {
    let tls = section.optional("frp_tls");
    let Some(listen) = section.optional("frp_listen") else {
        if let Some(tls) = tls {
            tls.error(&mut c.f, "there is no frp_listen", LISTEN_HINT);
        }
        return None;
    };
    let listen = address(c, &listen, listeners, services);
    let tls = match tls {
        Some(item) => tls_of(c, &item),
        None => {
            section.required(&mut c.f, "frp_tls", TLS_HINT);
            None
        }
    };
    Some(Frp { listen: listen?, tls: tls? })
}

fn address(c: &mut Context, item: &Item, listeners: &[Listener], services: &[tcp::Service]) -> Option<SocketAddr> {
    let text = item.text(&mut c.f)?;
    let address = match names::endpoint(text, PORT) {
        Ok(address) => address,
        Err((message, hint)) => {
            item.error(&mut c.f, message, hint);
            return None;
        }
    };
    let taken = listeners.iter().map(|listener| listener.address);
    let mut taken = taken.chain(services.iter().flat_map(|service| service.listen.iter().copied()));
    if taken.any(|other| other == address) {
        item.error(&mut c.f, format!("something else listens on {address}"), LISTEN_HINT);
        return None;
    }
    Some(address)
}

/// The inner one is `None` for "off".
fn tls_of(c: &mut Context, item: &Item) -> Option<Option<Tls>> {
    if item.is_text() {
        if item.text(&mut c.f)? == "off" {
            return Some(None);
        }
        item.error(&mut c.f, "is neither \"off\" nor a table", TLS_HINT);
        return None;
    }
    let mut section = item.section(&mut c.f)?;
    let certificate = tls::pair(c, &mut section);
    let client_ca = section.optional("client_ca");
    section.finish(&mut c.f);
    let client_ca = match client_ca {
        Some(item) => Some(roots(c, &item)?),
        None => {
            let hint = "Add client_ca, so that only clients with a certificate get as far as the shared key.";
            item.warning(&mut c.f, "clients need no certificate", hint);
            None
        }
    };
    Some(Some(Tls { certificate: certificate?.0, client_ca }))
}

fn roots(c: &mut Context, item: &Item) -> Option<Arc<[u8]>> {
    let (path, file) = files::content(c, item)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Some(file.bytes.into()),
        Ok(_) => {
            item.error(&mut c.f, format!("{} has no certificate", path.display()), "It must hold PEM.");
            None
        }
        Err(error) => {
            item.error(&mut c.f, format!("{} is no valid PEM: {error}", path.display()), "");
            None
        }
    }
}
