//! `upstream` and `proxy_pass`: where requests go.

use super::keywords::{self, Block};
use super::tree::Directive;
use super::units::ms;
use crate::import::edge::{self, Backend, Edge};
use crate::import::findings::{Class, Findings, Said as _};
use std::collections::HashMap;

const VARIABLE: &str = "a target out of a variable: write a [[pool]] and a [[route]] for each that is meant";

/// The `upstream` blocks by name, and which backend each target is.
#[derive(Default)]
pub(super) struct Backends {
    upstreams: HashMap<String, Upstream>,
    indices: HashMap<String, usize>,
}

#[derive(Default, Clone)]
pub(super) struct Upstream {
    pub(super) directive: Option<Directive>,
    pub(super) servers: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) max_connections: Option<u64>,
    pub(super) mode: Option<&'static str>,
    pub(super) has_backup: bool,
}

/// Of a `proxy_pass`.
pub(super) struct Target {
    pub(super) backend: usize,
    /// What replaces the location's path.
    pub(super) path: Option<String>,
}

impl Backends {
    /// Reads the `upstream` blocks; `is_stream` are connections, not requests.
    pub(super) fn read(findings: &mut Findings, directives: &[Directive], is_stream: bool) -> Backends {
        let mut backends = Backends::default();
        for block in directives.iter().filter(|directive| directive.name() == "upstream") {
            let upstream = upstream(findings, block, is_stream);
            findings.mapped(block, "the servers of what leads to it");
            backends.upstreams.insert(block.word(1).to_owned(), upstream);
        }
        backends
    }

    /// Servers behind a name or an address.
    pub(super) fn servers(&self, authority: &str, port: u16) -> Upstream {
        if let Some(upstream) = self.upstreams.get(authority) {
            return upstream.clone();
        }
        let mut upstream = Upstream::default();
        put(&mut upstream, edge::server(authority, port));
        upstream
    }

    /// `http://NAME/PATH` of a `proxy_pass`; the reason why not.
    pub(super) fn target(&mut self, edge: &mut Edge, directive: &Directive, url: &str) -> Result<Target, &'static str> {
        let (rest, is_tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ if url.starts_with('$') => return Err(VARIABLE),
            _ => return Err("is no http:// URL"),
        };
        let (authority, path) = match rest.strip_prefix("unix:") {
            Some(socket) => {
                let (socket, path) =
                    socket.split_once(':').map_or((socket, None), |(socket, path)| (socket, Some(path)));
                (format!("unix:{socket}"), path.map(str::to_owned))
            }
            None => match rest.find('/') {
                Some(at) => (rest.get(..at).unwrap_or_default().to_owned(), rest.get(at..).map(str::to_owned)),
                None => (rest.to_owned(), None),
            },
        };
        // What names the request's own target changes nothing.
        let path = path.filter(|path| !matches!(path.as_str(), "$request_uri" | "/$request_uri"));
        let authority = authority.trim_end_matches("$request_uri").to_owned();
        if authority.contains('$') {
            return Err(VARIABLE);
        }
        let key = format!("{is_tls} {authority}");
        let backend = match self.indices.get(&key) {
            Some(index) => *index,
            None => {
                let backend = self.backend(directive, &authority, is_tls);
                edge.backends.push(backend);
                self.indices.insert(key, edge.backends.len() - 1);
                edge.backends.len() - 1
            }
        };
        Ok(Target { backend, path })
    }

    fn backend(&self, directive: &Directive, authority: &str, is_tls: bool) -> Backend {
        let upstream = self.servers(authority, if is_tls { 443 } else { 80 });
        let named = upstream.directive.as_ref();
        let problem = is_tls.then(|| {
            "its servers want TLS, and Lyre speaks plain HTTP to servers: give them a plain port in the internal network, \
             write it into servers and remove the comment signs"
                .to_owned()
        });
        Backend {
            name: authority.trim_start_matches("unix:").trim_start_matches('/').to_owned(),
            shown: named.unwrap_or(directive).shown(),
            at: Some(named.unwrap_or(directive).at.clone()),
            max_requests: upstream.max_connections,
            servers: upstream.servers,
            names: upstream.names,
            problem,
            ..Backend::default()
        }
    }
}

fn put(upstream: &mut Upstream, server: edge::Server) {
    match server {
        edge::Server::Ip(address) => upstream.servers.push(address.to_string()),
        edge::Server::Unix(path) => upstream.servers.push(format!("unix:{path}")),
        edge::Server::Name(name) => upstream.names.push(name),
        edge::Server::Bad => {}
    }
}

fn upstream(findings: &mut Findings, block: &Directive, is_stream: bool) -> Upstream {
    let mut upstream = Upstream { directive: Some(block.clone()), ..Upstream::default() };
    let mut backups = Upstream::default();
    for directive in block.inside() {
        match directive.name() {
            "server" => server(findings, directive, &mut upstream, &mut backups, is_stream),
            "least_conn" | "random" | "least_time" => match is_stream {
                true => findings.mapped(directive, "tcp.mode = \"least-connections\""),
                false => findings.mapped(directive, "the server with fewer requests of two is taken"),
            },
            "ip_hash" | "hash" if is_stream => {
                upstream.mode = Some("source");
                findings.mapped(directive, "tcp.mode = \"source\"");
            }
            "ip_hash" | "hash" | "sticky" => findings.refused(
                directive,
                "a client is tied to no server: keep Nextcloud's sessions in Redis, then each server can answer each request; \
                 documents stay together by [collabora] and [onlyoffice]",
            ),
            _ => keywords::note(findings, Block::Upstream, directive),
        }
    }
    if is_stream && !backups.servers.is_empty() {
        upstream.has_backup = true;
        upstream.servers.extend(backups.servers);
    } else if upstream.servers.is_empty() {
        upstream.servers = backups.servers;
    }
    upstream
}

fn server(
    findings: &mut Findings,
    directive: &Directive,
    upstream: &mut Upstream,
    backups: &mut Upstream,
    is_stream: bool,
) {
    let options = directive.from(2);
    let has = |name: &str| options.iter().any(|word| word == name);
    for word in options {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let (class, why) = match name {
            "backup" | "down" => continue,
            "max_conns" => {
                upstream.max_connections = value.parse().ok().filter(|count| *count > 0).or(upstream.max_connections);
                (Class::Mapped, "how much one server has at once")
            }
            "weight" => (Class::Ignored, "all servers have the same weight; the less busy one is taken"),
            "max_fails" | "fail_timeout" => {
                (Class::Ignored, "servers are asked every 2s whether they live: the pool's check")
            }
            "slow_start" | "route" | "drain" | "service" | "resolve" => {
                (Class::Ignored, "has no form, and is not needed")
            }
            _ => (Class::Unknown, "no option of server that nginx has; is it misspelt?"),
        };
        findings.at(&directive.at, class, format!("server ... {word}"), why);
    }
    if has("down") {
        return findings.remark(directive, "is marked down, so it is left out");
    }
    let place = edge::server(directive.word(1), 80);
    match (&place, has("backup"), is_stream) {
        (edge::Server::Bad, ..) => {
            return findings.refused(directive, "its address and port cannot be read; a server is ADDRESS:PORT");
        }
        (edge::Server::Name(name), ..) => {
            findings
                .refused(directive, format!("names are not looked up yet: write the address of {name} into servers"));
        }
        (_, true, false) => {
            findings.refused(
                directive,
                "backup servers are left out: all servers serve; write a whole web server into servers",
            );
        }
        (_, true, true) => findings.mapped(directive, "tcp.servers, behind the others: mode = \"first\""),
        _ => findings.mapped(directive, "servers"),
    }
    put(if has("backup") { backups } else { upstream }, place);
}

/// `proxy_*_timeout` of the location that leads there; of several the first.
pub(super) fn timeouts(findings: &mut Findings, directive: &Directive, backend: Option<&mut Backend>) -> bool {
    let name = directive.name();
    if !matches!(name, "proxy_connect_timeout" | "proxy_read_timeout" | "proxy_send_timeout") {
        return false;
    }
    let Some(ms) = ms(directive.word(1)) else {
        findings.refused(directive, "is no time");
        return true;
    };
    if let Some(backend) = backend {
        match name {
            "proxy_connect_timeout" => backend.connect_ms = backend.connect_ms.or(Some(ms)),
            "proxy_read_timeout" => backend.response_ms = backend.response_ms.or(Some(ms)),
            _ => {}
        }
    }
    match name {
        "proxy_connect_timeout" => findings.mapped(directive, "connect_timeout"),
        "proxy_read_timeout" => findings.remark(
            directive,
            "response_timeout and idle_timeout; Nextcloud and the services beside it keep their own where those are longer",
        ),
        _ => findings.ignored(directive, "idle_timeout is for both directions"),
    }
    true
}
