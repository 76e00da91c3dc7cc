//! `virtual_server`: a balanced service of the kernel becomes a pool of the proxy where it speaks HTTP, else a TCP
//! service.

use super::numbers;
use crate::import::error::Position;
use crate::import::findings::{Class, Findings};
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use std::net::{IpAddr, SocketAddr};

/// As `lyre check` has it.
const SERVERS_MAX: usize = 256;

const DIRECT: &str = "with direct routing or tunnels the servers answer clients themselves, which no proxy can do; behind Lyre they see its address, and the client's in X-Forwarded-For";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    Tcp,
    Http { path: String, host: Option<String> },
}

/// A `[[pool]]` with its `[[route]]` and listener, or a `[[tcp]]`.
pub(super) struct Service {
    /// Of the pool.
    pub(super) name: String,
    /// As the file names it.
    pub(super) shown: String,
    /// With its port; what was typed when that cannot be read.
    pub(super) address: String,
    pub(super) at: Position,
    /// Of the listener.
    pub(super) port: u16,
    pub(super) is_v6: bool,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) hosts: Vec<String>,
    /// Of a TCP service; none of a pool.
    pub(super) mode: Option<&'static str>,
    pub(super) probe: Probe,
    pub(super) interval_ms: Option<u64>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) fall: Option<u8>,
    pub(super) notes: Vec<String>,
    /// Why it is commented out.
    pub(super) problem: Option<String>,
}

/// What the lines of a virtual_server say besides the service itself.
#[derive(Default)]
struct Seen {
    is_direct: bool,
    is_other_protocol: bool,
    has_tls: bool,
    has_http: bool,
    weights: Vec<String>,
}

pub(super) fn read(findings: &mut Findings, block: &Statement) -> Service {
    let address = endpoint(block, None);
    let shown: Vec<&str> = block.arguments.iter().map(|word| word.text.as_str()).collect();
    let mut service = Service {
        name: address.map(pool_name).unwrap_or_else(|| "vs".to_owned()),
        shown: shown.join(" "),
        address: address.map_or_else(|| shown.join(":"), |address| address.to_string()),
        at: block.at().clone(),
        port: address.map_or(0, |address| address.port()),
        is_v6: address.is_some_and(|address| address.is_ipv6()),
        servers: Vec::new(),
        hosts: Vec::new(),
        mode: is_tcp(block, address).then_some("least-connections"),
        probe: Probe::Tcp,
        interval_ms: None,
        timeout_ms: None,
        fall: None,
        notes: Vec::new(),
        problem: None,
    };
    let mut seen = Seen::default();
    for statement in block.inside() {
        line(findings, statement, &mut service, &mut seen);
    }
    verdict(findings, block, address, &mut service, &seen);
    service
}

fn line(findings: &mut Findings, statement: &Statement, service: &mut Service, seen: &mut Seen) {
    let argument = statement.argument(0);
    match statement.name() {
        "delay_loop" => match numbers::seconds_ms(argument) {
            Some(ms) => {
                let near = ms.clamp(100, 3_600_000);
                service.interval_ms = Some(near);
                if near > 5000 {
                    service
                        .notes
                        .push("A check every 2 to 5 s finds a dead server sooner; Lyre's default is 2s.".to_owned());
                }
                findings.mapped(statement, service.key("check.interval"));
            }
            None => findings.refused(statement, "is no number of seconds"),
        },
        "lb_algo" | "lvs_sched" => algorithm(findings, statement, service),
        "lb_kind" | "lvs_method" => match argument {
            Some("NAT") if service.mode.is_some() => findings
                .remark(statement, "a proxy: servers see Lyre's address; proxy_protocol tells them the client's"),
            Some("NAT") => {
                findings.remark(statement, "a proxy: servers see Lyre's address, and the client's in X-Forwarded-For")
            }
            _ => {
                seen.is_direct = true;
                findings.refused(statement, DIRECT);
            }
        },
        "protocol" => match argument {
            Some("TCP") => findings.mapped(statement, "TCP is the only one"),
            _ => {
                seen.is_other_protocol = true;
                findings.refused(statement, "only TCP can be proxied");
            }
        },
        "virtualhost" => host(findings, statement, service, "route.hosts"),
        "connect_timeout" => timeout(findings, statement, service),
        "retry" => retry(findings, statement, service),
        "real_server" => real_server(findings, statement, service, seen),
        _ => keywords::note(findings, Block::VirtualServer, statement),
    }
}

/// Whether this is HTTP that the proxy can take over.
fn verdict(
    findings: &mut Findings,
    block: &Statement,
    address: Option<SocketAddr>,
    service: &mut Service,
    seen: &Seen,
) {
    if seen.weights.windows(2).any(|pair| pair.first() != pair.last()) {
        let why = "weights differ, and are not in this version; the server with fewer requests is taken";
        findings.at(block.at(), Class::Remark, format!("virtual_server {}", service.shown), why);
    }
    let problem = match block.argument(0) {
        Some("fwmark") => "packets chosen by a firewall mark have no form here",
        Some("group") => "a virtual_server_group has no form here; name each address in a virtual_server",
        _ if seen.is_other_protocol => "only TCP can be proxied",
        _ if address.is_none() => "its address and port cannot be read",
        _ if service.servers.is_empty() => "it has no server that can be used",
        _ if service.servers.len() > SERVERS_MAX => "it has more than 256 servers",
        _ if seen.is_direct => DIRECT,
        _ if seen.has_tls || service.port == 443 => {
            "TLS ends at Lyre, with [tls] and plain HTTP to the servers: give them a plain port, then use this as a pool"
        }
        _ => return,
    };
    findings.refused(block, problem);
    service.problem = Some(problem.to_owned());
}

fn real_server(findings: &mut Findings, block: &Statement, service: &mut Service, seen: &mut Seen) {
    let is_out = block.inside().iter().any(|s| s.name() == "weight" && s.argument(0) == Some("0"));
    match endpoint(block, Some(service.port)) {
        Some(_) if is_out => findings.remark(block, "has weight 0 and gets no requests, so it is left out"),
        Some(address) if service.servers.contains(&address) => {
            findings.remark(block, "is there twice, and written once")
        }
        Some(address) => {
            service.servers.push(address);
            findings.mapped(block, service.key("servers"));
        }
        None => findings.refused(block, "its address and port cannot be read"),
    }
    for statement in block.inside() {
        match statement.name() {
            "weight" => {
                seen.weights.push(statement.argument(0).unwrap_or_default().to_owned());
                findings.ignored(statement, "all servers have the same weight; the one with fewer requests is taken");
            }
            "TCP_CHECK" => probe(findings, statement, service),
            "HTTP_GET" => {
                seen.has_http = true;
                probe(findings, statement, service);
            }
            "SSL_GET" => {
                seen.has_tls = true;
                probe(findings, statement, service);
            }
            "SMTP_CHECK" | "DNS_CHECK" | "MISC_CHECK" | "BFD_CHECK" | "FILE_CHECK" | "PING_CHECK" | "UDP_CHECK" => {
                findings.refused(
                    statement,
                    match service.mode {
                        Some(_) => "this kind of check is not in this version; the servers are checked by a TCP connection (Galera: check.kind = \"galera\")",
                        None => "this kind of check is not in this version; the pool is checked by a TCP connection",
                    },
                );
            }
            "connect_timeout" => timeout(findings, statement, service),
            "retry" => retry(findings, statement, service),
            "delay_loop" => findings.ignored(statement, "all servers of a pool are checked alike"),
            _ => keywords::note(findings, Block::RealServer, statement),
        }
    }
}

fn probe(findings: &mut Findings, block: &Statement, service: &mut Service) {
    let is_http = block.name() != "TCP_CHECK";
    findings.mapped(block, service.key(if is_http { "check.kind = \"http\"" } else { "check.kind = \"tcp\"" }));
    let mut urls = 0;
    for statement in block.inside() {
        match statement.name() {
            "url" if is_http => {
                urls += 1;
                if urls > 1 {
                    findings.refused(statement, "one path is checked; take the one that fails first");
                    continue;
                }
                url(findings, statement, service);
            }
            "connect_timeout" => timeout(findings, statement, service),
            "retry" | "nb_get_retry" => retry(findings, statement, service),
            "virtualhost" if is_http => {
                if let Some(name) = statement.argument(0).filter(|name| is_host(name)) {
                    set_host(service, name);
                }
                host(findings, statement, service, "route.hosts and pool.check.host");
            }
            _ => keywords::note(findings, Block::Check, statement),
        }
    }
    if is_http && urls == 0 && service.probe == Probe::Tcp {
        service.probe = Probe::Http { path: "/".to_owned(), host: None };
    }
}

fn url(findings: &mut Findings, block: &Statement, service: &mut Service) {
    let host_before = match &service.probe {
        Probe::Http { host, .. } => host.clone(),
        Probe::Tcp => None,
    };
    let find = |name: &str| block.inside().iter().find(|s| s.name() == name).and_then(|s| s.argument(0));
    let path = find("path").filter(|path| is_path(path)).unwrap_or("/").to_owned();
    if let Probe::Http { path: before, .. } = &service.probe
        && *before != path
    {
        findings.remark(
            block,
            format!("servers of one pool are checked alike; {before} stays, of a server before this one"),
        );
    } else {
        service.probe = Probe::Http { path, host: host_before };
    }
    for statement in block.inside() {
        match (statement.name(), statement.argument(0)) {
            ("path", Some(path)) if is_path(path) => findings.mapped(statement, "pool.check.path"),
            ("path", _) => findings.refused(statement, "is no path of a URL"),
            ("virtualhost", Some(name)) if is_host(name) => {
                set_host(service, name);
                host(findings, statement, service, "route.hosts and pool.check.host");
            }
            ("virtualhost", _) => findings.refused(statement, "is no host name"),
            ("status_code", _) => {
                findings.remark(statement, "any well-formed answer is life; a server that answers errors stays in")
            }
            _ => keywords::note(findings, Block::Url, statement),
        }
    }
}

fn set_host(service: &mut Service, name: &str) {
    if let Probe::Http { host, .. } = &mut service.probe {
        host.get_or_insert_with(|| name.to_owned());
    }
}

fn host(findings: &mut Findings, statement: &Statement, service: &mut Service, to: &str) {
    match statement.argument(0).filter(|name| is_host(name)) {
        Some(name) => {
            let name = name.to_ascii_lowercase();
            if !service.hosts.contains(&name) {
                service.hosts.push(name);
            }
            findings.mapped(statement, to);
        }
        None => findings.refused(statement, "is no host name"),
    }
}

fn timeout(findings: &mut Findings, statement: &Statement, service: &mut Service) {
    match numbers::seconds_ms(statement.argument(0)) {
        Some(ms) => {
            service.timeout_ms.get_or_insert(ms.clamp(10, 60_000));
            findings.mapped(statement, service.key("check.timeout"));
        }
        None => findings.refused(statement, "is no number of seconds"),
    }
}

/// That many more after the first failure.
fn retry(findings: &mut Findings, statement: &Statement, service: &mut Service) {
    match numbers::whole(statement.argument(0), 0..=99) {
        Some(count) => {
            service.fall.get_or_insert(count + 1);
            findings.mapped(statement, service.key("check.fall, the first failure counted too"));
        }
        None => findings.refused(statement, "is not 0..99"),
    }
}

impl Service {
    /// A key of what the service becomes.
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", if self.mode.is_some() { "tcp" } else { "pool" })
    }
}

/// Whether nothing says that the service speaks HTTP.
fn is_tcp(block: &Statement, address: Option<SocketAddr>) -> bool {
    let checks = block.inside().iter().filter(|s| s.name() == "real_server").flat_map(|server| server.inside());
    let is_web = checks.into_iter().any(|check| matches!(check.name(), "HTTP_GET" | "SSL_GET"));
    address.is_some_and(|address| ![80, 443].contains(&address.port())) && !is_web
}

fn algorithm(findings: &mut Findings, statement: &Statement, service: &mut Service) {
    if service.mode.is_some() {
        return mode(findings, statement, service);
    }
    match statement.argument(0) {
        Some("lc" | "wlc" | "sed" | "nq" | "twos") => {
            findings.mapped(statement, "the server with fewer requests of two is taken")
        }
        Some("rr" | "wrr") => {
            findings.remark(statement, "the server with fewer requests of two is taken, not the next one")
        }
        Some("sh" | "dh" | "mh") => {
            findings.refused(statement, "hashing is not in this version; Nextcloud needs no stickiness")
        }
        Some("fo" | "ovf") => {
            findings.refused(statement, "an order of servers is not in this version; all of them serve")
        }
        _ => findings.remark(statement, "the server with fewer requests of two is taken"),
    }
}

fn mode(findings: &mut Findings, statement: &Statement, service: &mut Service) {
    match statement.argument(0) {
        Some("lc" | "wlc" | "sed" | "nq" | "twos") => findings.mapped(statement, "tcp.mode = \"least-connections\""),
        Some("sh" | "mh") => {
            service.mode = Some("source");
            findings.mapped(statement, "tcp.mode = \"source\"");
        }
        Some("fo" | "ovf") => {
            service.mode = Some("first");
            findings.remark(statement, "the first server of the list that lives is taken; put them in their order");
        }
        _ => findings.remark(statement, "the server with the fewest connections is taken"),
    }
}

/// `IP PORT` after the keyword. keepalived's port 0 or none is `port`.
fn endpoint(statement: &Statement, port: Option<u16>) -> Option<SocketAddr> {
    let ip: IpAddr = statement.argument(0)?.parse().ok()?;
    let typed = match statement.argument(1) {
        Some(text) => Some(text.parse::<u16>().ok()?).filter(|port| *port != 0),
        None => None,
    };
    let port = typed.or(port).filter(|port| *port != 0)?;
    (!ip.is_unspecified() && !ip.is_multicast()).then(|| SocketAddr::new(ip, port))
}

fn pool_name(address: SocketAddr) -> String {
    format!("vs-{}-{}", address.ip(), address.port()).replace(':', "-")
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"#?\"\\<>^`{|}".contains(&b))
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
