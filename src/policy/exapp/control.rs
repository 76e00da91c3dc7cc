//! Calls of AppAPI to `/exapps/app_api/…`: which they are, what they say, and what is wrong with them.
//!
//! The key was compared before. Texts and statuses are HaRP's as far as AppAPI shows them to people.

mod payload;

use super::path::{decode, has_parent_segment, is_app_id};
use super::reply::Reply;
use crate::proto::http1::Method;
pub use payload::{Command, Create, Device, Mount, Names};
use serde_json::json;

/// The release of HaRP that AppAPI is told; it compares it with the least one it wants.
pub const HARP_VERSION: &str = "0.4.4";

/// A body may hold every certificate a system trusts.
pub const BODY_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Heartbeat,
    Info,
    /// An app was enabled; the body is its record.
    Push(String),
    /// An app was disabled.
    Withdraw(String),
    Docker(Verb),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Exists,
    Create,
    Start,
    Stop,
    WaitForStart,
    Remove,
    ImageRemove,
    InstallCertificates,
}

impl Verb {
    fn of(name: &str) -> Option<Verb> {
        Some(match name {
            "exists" => Verb::Exists,
            "create" => Verb::Create,
            "start" => Verb::Start,
            "stop" => Verb::Stop,
            "wait_for_start" => Verb::WaitForStart,
            "remove" => Verb::Remove,
            "image_remove" => Verb::ImageRemove,
            "install_certificates" => Verb::InstallCertificates,
            _ => return None,
        })
    }
}

const KUBERNETES: [&str; 7] = ["exists", "create", "start", "stop", "wait_for_start", "remove", "expose"];

/// What the path behind `/exapps/app_api` is.
pub fn endpoint(method: Method, target: &[u8]) -> Result<Endpoint, Reply> {
    let not_found = || Reply::text(404, "404: Not Found");
    let target = std::str::from_utf8(target).map_err(|_| not_found())?;
    let not_allowed = || Reply::text(405, "405: Method Not Allowed");
    let only = |allowed: &[Method], endpoint| match allowed.contains(&method) {
        true => Ok(endpoint),
        false => Err(not_allowed()),
    };
    const READ: [Method; 2] = [Method::Get, Method::Head];
    match target {
        "/heartbeat" => return only(&READ, Endpoint::Heartbeat),
        "/info" => return only(&READ, Endpoint::Info),
        _ => {}
    }
    if let Some(id) = target.strip_prefix("/exapp_storage/").filter(|id| is_app_id(id.as_bytes())) {
        return match method {
            Method::Delete => Ok(Endpoint::Withdraw(id.to_ascii_lowercase())),
            _ => only(&[Method::Post], Endpoint::Push(id.to_ascii_lowercase())),
        };
    }
    if let Some(verb) = target.strip_prefix("/docker/exapp/").and_then(Verb::of) {
        return only(&[Method::Post], Endpoint::Docker(verb));
    }
    let kubernetes = target.strip_prefix("/k8s/exapp/");
    if kubernetes.is_some_and(|verb| KUBERNETES.contains(&verb) || verb == "install_certificates") {
        return match method {
            Method::Post => Err(Reply::text(503, "Kubernetes backend is disabled in HaRP.")),
            _ => Err(not_allowed()),
        };
    }
    Err(not_found())
}

pub fn heartbeat() -> Reply {
    Reply::json(200, &json!({ "status": "ok" }))
}

/// `version` is always HaRP's: a plain text of three numbers, or AppAPI reads something else.
pub fn info(own_version: &str) -> Reply {
    let info = json!({
        "version": HARP_VERSION,
        "docker": true,
        "kubernetes": { "enabled": false },
        "implementation": "lyre",
        "lyre_version": own_version,
    });
    Reply::json(200, &info)
}

/// A body that is no record.
pub fn bad_record() -> Reply {
    Reply::text(400, "400: Bad Request")
}

/// Reads a Docker call: the engine's port, and what to do there.
pub fn docker(verb: Verb, engine_port: Option<&[u8]>, body: &[u8]) -> Result<(u16, Command), Reply> {
    let port = engine_port.ok_or_else(|| Reply::text(400, "Missing 'docker-engine-port' header."))?;
    let number = std::str::from_utf8(port).ok().and_then(|port| port.trim().parse().ok()).filter(|port| *port != 0);
    let port = number.ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(port).chars().take(32).collect();
        Reply::text(400, format!("Invalid 'docker-engine-port' header value: {shown}"))
    })?;
    Ok((port, payload::parse(verb, body)?))
}

/// The path to ask the engine with, for a raw call that may pass. The query goes on as it is.
///
/// HaRP binds most of these patterns at their start only and ignores case; here a call is one of these as a whole.
pub fn raw_call(method: Method, target: &[u8]) -> Option<String> {
    let decoded = decode(target);
    let path = std::str::from_utf8(&decoded).ok().filter(|_| !has_parent_segment(&decoded))?;
    let (_, rest) = split_version(path);
    let is_read = matches!(method, Method::Get | Method::Head);
    let may_pass = match rest {
        "/_ping" => is_read,
        "/images/create" => method == Method::Post,
        _ if !is_read => false,
        _ => is_image(rest) || is_own_container(rest),
    };
    may_pass.then(|| encode(path, b"/:@"))
}

/// The version that a path begins with, and the rest of it.
pub(super) fn split_version(path: &str) -> (Option<&str>, &str) {
    let version = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    match version {
        Some((version, rest)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            (Some(version), path.get(path.len() - rest.len() - 1..).unwrap_or(path))
        }
        _ => (None, path),
    }
}

fn is_image(path: &str) -> bool {
    let name = path.strip_prefix("/images/").and_then(|rest| rest.strip_suffix("/json"));
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
}

fn is_own_container(path: &str) -> bool {
    let rest = path.strip_prefix("/containers/nc_app_");
    let name = rest.and_then(|rest| rest.strip_suffix("/json").or_else(|| rest.strip_suffix("/logs")));
    name.is_some_and(is_name)
}

/// Letters, digits, `_`, `.` and `-`.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Percent-encodes all but unreserved characters and those of `kept`.
pub(super) fn encode(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
