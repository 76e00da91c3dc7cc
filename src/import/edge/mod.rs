//! What a web proxy's configuration becomes: the part that haproxy and nginx have in common.
//!
//! A reader of one program fills an [`Edge`] with what stands in its file; [`settle`] finds Nextcloud and the services
//! beside it among the backends and takes out what `lyre check` would refuse; [`document`] writes it down.

mod document;
pub(super) mod headers;
mod parse;
mod roles;
mod settle;

pub(super) use parse::{Server, host, is_hidden, is_path, network, pattern, server};

use super::Import;
use super::error::Position;
use super::findings::{Findings, Said};
use std::net::SocketAddr;
use std::path::Path;

#[derive(Default)]
pub(super) struct Edge {
    pub(super) listeners: Vec<Listener>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) backends: Vec<Backend>,
    pub(super) routes: Vec<Route>,
    pub(super) services: Vec<Service>,
    pub(super) values: Vec<Value>,
    pub(super) hsts: Option<Hsts>,
    /// A path that is said for any host holds for those with rules of their own, too.
    pub(super) shares_paths: bool,
    /// Addresses, networks and the name cloudflare.
    pub(super) trusted_proxies: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Redirect,
}

pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) kind: Kind,
    /// Who sends PROXY headers; with nobody in it, the file does not say who.
    pub(super) balancers: Option<Vec<String>>,
    pub(super) at: Position,
    pub(super) shown: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) cert: String,
    /// In the same file, if none.
    pub(super) key: Option<String>,
    pub(super) comment: Option<String>,
}

/// Servers of requests.
#[derive(Default)]
pub(super) struct Backend {
    pub(super) name: String,
    /// As the file has it: `backend nextcloud`.
    pub(super) shown: String,
    pub(super) at: Option<Position>,
    /// As lyre.toml takes them.
    pub(super) servers: Vec<String>,
    /// Names: left to be filled in.
    pub(super) names: Vec<String>,
    pub(super) check: Check,
    pub(super) connect_ms: Option<u64>,
    pub(super) response_ms: Option<u64>,
    pub(super) tunnel_ms: Option<u64>,
    pub(super) queue_ms: Option<u64>,
    pub(super) max_requests: Option<u64>,
    pub(super) send_proxy: Option<&'static str>,
    /// How much speaks for these being Nextcloud's web servers.
    pub(super) nextcloud_signs: u32,
    /// Why it cannot be used.
    pub(super) problem: Option<String>,
    /// Found out later.
    pub(super) role: roles::Role,
    pub(super) pool_name: String,
}

#[derive(Default, Clone)]
pub(super) struct Check {
    pub(super) http: Option<(String, Option<String>)>,
    pub(super) interval_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) rise: Option<u8>,
    pub(super) fall: Option<u8>,
}

impl Check {
    /// How often and how many times, where it is not known yet: the first server that says it speaks for all.
    pub(super) fn adopt_pace(&mut self, other: &Check) {
        self.interval_ms = self.interval_ms.or(other.interval_ms);
        self.rise = self.rise.or(other.rise);
        self.fall = self.fall.or(other.fall);
    }
}

#[derive(Clone)]
pub(super) struct Route {
    /// Any, if empty.
    pub(super) hosts: Vec<String>,
    pub(super) path: String,
    /// Index.
    pub(super) backend: usize,
    /// The path is replaced on the way to the server.
    pub(super) is_rewritten: bool,
    pub(super) at: Position,
    pub(super) shown: String,
}

/// A `[[tcp]]`.
#[derive(Default)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) shown: String,
    pub(super) at: Option<Position>,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) names: Vec<String>,
    pub(super) mode: Option<&'static str>,
    /// The account of the Galera check.
    pub(super) galera: Option<String>,
    pub(super) check: Check,
    pub(super) connect_ms: Option<u64>,
    pub(super) idle_ms: Option<u64>,
    pub(super) proxy_protocol: Option<&'static str>,
    pub(super) max_connections: Option<u64>,
    pub(super) allow: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) problem: Option<String>,
}

/// A key of a section that is there once.
pub(super) struct Value {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// As it is written.
    pub(super) text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hsts {
    pub(super) seconds: u64,
    pub(super) has_subdomains: bool,
}

impl Edge {
    /// Sets a key once for all; where the file says different things at different places, the first counts.
    pub(super) fn set(
        &mut self,
        findings: &mut Findings,
        statement: &impl Said,
        (section, key): (&'static str, &'static str),
        text: String,
    ) {
        match self.values.iter().find(|value| value.section == section && value.key == key) {
            Some(value) if value.text != text => {
                let why = format!("{section}.{key} is one for all, and {} was said before", value.text);
                findings.remark(statement, why);
            }
            Some(_) => findings.mapped(statement, format!("{section}.{key}")),
            None => {
                self.values.push(Value { section, key, text });
                findings.mapped(statement, format!("{section}.{key}"));
            }
        }
    }

    /// Strict-Transport-Security, as a response has it.
    pub(super) fn hsts(&mut self, findings: &mut Findings, statement: &impl Said, value: &str) {
        let part = |part: &str| part.trim().to_ascii_lowercase();
        let parts: Vec<String> = value.split(';').map(part).collect();
        let age = parts.iter().find_map(|part| part.strip_prefix("max-age="));
        let seconds: Option<u64> = age.and_then(|age| age.trim_matches('"').parse().ok());
        let Some(seconds @ 1..=315_360_000) = seconds else {
            let why = "has no max-age of 1 s to 3650 d; write nextcloud.hsts, or \"off\"";
            return findings.refused(statement, why);
        };
        let hsts = Hsts { seconds, has_subdomains: parts.iter().any(|part| part == "includesubdomains") };
        match &self.hsts {
            Some(before) if *before != hsts => {
                return findings.remark(statement, "nextcloud.hsts is one for all, and another was said before");
            }
            _ => self.hsts = Some(hsts),
        }
        match parts.iter().any(|part| part == "preload") {
            true => findings.remark(statement, "nextcloud.hsts; preload is not sent, browsers keep their list without"),
            false => findings.mapped(statement, "nextcloud.hsts"),
        }
    }
}

/// Whether a path of Nextcloud's hosts belongs to a service beside it.
pub(super) fn is_service(path: &str) -> bool {
    roles::service_of(path).is_some()
}

/// Ends an import: what was read becomes lyre.toml.
pub(super) fn finish<'a>(
    mut edge: Edge,
    mut findings: Findings,
    program: &str,
    source: &Path,
    statements: impl Iterator<Item = &'a Position>,
) -> Import {
    roles::decide(&mut findings, &mut edge);
    settle::settle(&mut findings, &mut edge, source);
    findings.sort(statements);
    let toml = document::write(&edge, program, source, &findings.0);
    Import { toml, findings: findings.0 }
}
