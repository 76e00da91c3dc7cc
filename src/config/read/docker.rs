//! `[exapps.docker]`: the container engine of this node, and what ExApps may have of its host.

use super::{Context, files};
use crate::config::file::{Item, Section};
use crate::config::settings::Secret;
use crate::config::settings::docker::{Docker, FrpClient};
use std::path::Path;

/// Docker's own place; Podman's service has `/run/podman/podman.sock`.
const SOCKET: &str = "/var/run/docker.sock";

/// What the kernel's address of a Unix socket has room for, with the zero behind it.
const SOCKET_BYTES_MAX: usize = 107;

pub(super) fn read(c: &mut Context, exapps: &mut Section) -> Option<Docker> {
    let mut section = exapps.optional("docker")?.section(&mut c.f)?;
    let socket = match section.optional("socket") {
        Some(item) => socket(c, &item),
        None => Some(SOCKET.to_owned()),
    };
    let mounts = section.optional("mounts").map(|item| mounts(c, &item)).unwrap_or_default();
    let mut flag = |c: &mut Context, name| section.optional(name).and_then(|item| item.flag(&mut c.f)).unwrap_or(true);
    let (devices, host_network) = (flag(c, "devices"), flag(c, "host_network"));
    let frp_client = section.optional("frp_client").and_then(|item| frp_client(c, &item));
    section.finish(&mut c.f);
    Some(Docker { socket: Path::new(&socket?).into(), mounts, devices, host_network, frp_client })
}

fn socket(c: &mut Context, item: &Item) -> Option<String> {
    let text = item.text(&mut c.f)?;
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if !is_whole(path) || path.ends_with('/') || path.len() > SOCKET_BYTES_MAX {
        let hint = format!(
            "Write a whole path of at most {SOCKET_BYTES_MAX} bytes: {SOCKET:?}. An engine on another host comes in \
             through a tunnel."
        );
        item.error(&mut c.f, format!("{text:?} is no path of a Unix socket"), hint);
        return None;
    }
    Some(path.to_owned())
}

fn mounts(c: &mut Context, list: &Item) -> Vec<String> {
    let mut mounts = Vec::new();
    for item in list.list(&mut c.f) {
        let Some(path) = item.text(&mut c.f) else { continue };
        if !is_whole(path) {
            let hint = "Write whole paths without \"..\": mounts = [\"/srv/models\"].";
            item.error(&mut c.f, format!("{path:?} is no directory that can be allowed"), hint);
            continue;
        }
        if path.trim_end_matches('/').is_empty() {
            item.warning(&mut c.f, "whoever has the shared key may mount all of this host", "Name single directories.");
        }
        mounts.push(path.to_owned());
    }
    mounts
}

fn is_whole(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|segment| segment == "..")
}

/// `{ ca, cert, key }`.
fn frp_client(c: &mut Context, item: &Item) -> Option<FrpClient> {
    let mut section = item.section(&mut c.f)?;
    let mut pem = |c: &mut Context, name, is_secret| {
        let hint = "Write frp_client = { ca = \"ca.crt\", cert = \"client.crt\", key = \"client.key\" }.";
        let item = section.required(&mut c.f, name, hint)?;
        let (path, file) = files::content(c, &item)?;
        if !file.bytes.windows(11).any(|text| text == b"-----BEGIN ") {
            item.error(&mut c.f, format!("there is nothing in PEM in {}", path.display()), "");
            return None;
        }
        if is_secret {
            files::warn_if_public(c, &item, &path, &file);
        }
        Some(Secret(file.bytes.to_vec().into()))
    };
    let (ca, certificate, key) = (pem(c, "ca", false), pem(c, "cert", false), pem(c, "key", true));
    section.finish(&mut c.f);
    Some(FrpClient { ca: ca?, certificate: certificate?, key: key? })
}
