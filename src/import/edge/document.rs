//! The text of lyre.toml.

use super::roles::Role;
use super::{Backend, Check, Edge, Kind, Listener, Route, Service};
use crate::config::units::show_duration;
use crate::import::findings::Finding;
use crate::import::write::{self, block, comment, list, place, quoted};
use std::path::Path;
use std::time::Duration;

/// Stands for balancers nobody named: an address for documentation (RFC 5737), nobody's.
const UNKNOWN_BALANCER: &str = "203.0.113.1";

/// What Nextcloud's web servers are given by default; a shorter time would cut requests that PHP still works on.
const PHP_MS: u64 = 3_610_000;

pub(super) fn write(edge: &Edge, program: &str, source: &Path, findings: &[Finding]) -> String {
    let mut out = String::new();
    comment(&mut out, &format!("Made by: lyre import {program} {}", source.display()));
    comment(&mut out, "Correct what says FILL IN, then: lyre check");
    comment(
        &mut out,
        "It is one node: a pair needs [cluster] and [[vip]] too, and keepalived.conf is imported by itself.",
    );
    tls(&mut out, edge);
    let of = |role: fn(Role) -> bool| edge.backends.iter().enumerate().filter(move |(_, b)| role(b.role));
    for (index, backend) in of(|role| role == Role::Nextcloud) {
        nextcloud(&mut out, edge, index, backend, source);
    }
    for (_, backend) in of(|role| matches!(role, Role::Service(_))) {
        section(&mut out, backend, source);
    }
    for (index, backend) in of(|role| matches!(role, Role::Pool | Role::Unused)) {
        pool(&mut out, edge, index, backend, source);
    }
    edge.listeners.iter().for_each(|listener| listen(&mut out, listener, source));
    edge.services.iter().for_each(|service| tcp(&mut out, service, source));
    values(&mut out, edge);
    write::summary(&mut out, source, findings);
    out
}

fn tls(out: &mut String, edge: &Edge) {
    if edge.certificates.is_empty() {
        return;
    }
    out.push_str("\n[tls]\n");
    comment(out, "A file may hold the certificate, its chain and the key together.");
    out.push_str("certificates = [\n");
    for certificate in &edge.certificates {
        let key = certificate.key.iter().map(|key| format!(", key = {}", quoted(key))).collect::<String>();
        let note = certificate.comment.iter().map(|text| format!(" # {text}")).collect::<String>();
        out.push_str(&format!("    {{ cert = {}{key} }},{note}\n", quoted(&certificate.cert)));
    }
    out.push_str("]\n");
    for value in edge.values.iter().filter(|value| value.section == "tls") {
        out.push_str(&format!("{} = {}\n", value.key, value.text));
    }
}

fn head(out: &mut String, backend: &Backend, source: &Path) {
    out.push('\n');
    let at = backend.at.as_ref().map(|at| format!("{}: ", place(source, at))).unwrap_or_default();
    comment(out, &format!("{at}{}", backend.shown));
}

fn nextcloud(out: &mut String, edge: &Edge, index: usize, backend: &Backend, source: &Path) {
    head(out, backend, source);
    let hosts: Vec<String> = super::roles::hosts_of(edge, index);
    if hosts.is_empty() {
        comment(out, "Any host; better name those of Nextcloud's trusted_domains.");
    }
    let mut lines = vec!["[nextcloud]".to_owned()];
    lines.extend(list("hosts", &if hosts.is_empty() { vec!["*".to_owned()] } else { hosts }));
    lines.extend(servers(backend));
    if !edge.trusted_proxies.is_empty() {
        lines.extend(list("trusted_proxies", &edge.trusted_proxies));
    }
    match &edge.hsts {
        Some(hsts) => {
            lines.push(format!("hsts = \"{}\"", duration(hsts.seconds.saturating_mul(1000))));
            lines.push(format!("hsts_subdomains = {}", hsts.has_subdomains));
        }
        None if edge.listeners.iter().any(|listener| listener.kind == Kind::Https) => {
            comment(
                out,
                "HSTS is 730d with subdomains by default; hsts_subdomains = false if one of them is only there in clear.",
            );
        }
        None => {}
    }
    lines.extend(keys(backend));
    block(out, &lines, backend.problem.as_deref());
}

fn section(out: &mut String, backend: &Backend, source: &Path) {
    head(out, backend, source);
    let mut lines = vec![format!("[{}]", backend.pool_name)];
    lines.extend(servers(backend));
    lines.extend(keys(backend));
    block(out, &lines, backend.problem.as_deref());
}

fn pool(out: &mut String, edge: &Edge, index: usize, backend: &Backend, source: &Path) {
    head(out, backend, source);
    let mut lines = vec!["[[pool]]".to_owned(), format!("name = {}", quoted(&backend.pool_name))];
    lines.extend(servers(backend));
    lines.extend(keys(backend));
    block(out, &lines, backend.problem.as_deref());
    for route in edge.routes.iter().filter(|route| route.backend == index && backend.problem.is_none()) {
        out.push('\n');
        block(out, &route_lines(route, &backend.pool_name), None);
    }
}

fn route_lines(route: &Route, pool: &str) -> Vec<String> {
    let mut lines = vec!["[[route]]".to_owned()];
    if !route.hosts.is_empty() {
        lines.extend(list("hosts", &route.hosts));
    }
    if route.path != "/" {
        lines.push(format!("path = {}", quoted(&route.path)));
    }
    lines.push(format!("pool = {}", quoted(pool)));
    lines
}

fn servers(backend: &Backend) -> Vec<String> {
    let all: Vec<String> = match backend.servers.is_empty() {
        true => backend.names.clone(),
        false => backend.servers.clone(),
    };
    list("servers", &all)
}

/// The keys that every pool has.
fn keys(backend: &Backend) -> Vec<String> {
    let mut lines = Vec::new();
    let mut time = |key: &str, ms: Option<u64>, min: u64, max: u64| {
        lines.extend(ms.map(|ms| format!("{key} = \"{}\"", duration(ms.clamp(min, max)))));
    };
    time("connect_timeout", backend.connect_ms, 10, 60_000);
    // Nextcloud and what stands beside it have defaults of their own, which are long enough.
    let least = match backend.role {
        Role::Nextcloud => PHP_MS + 1,
        Role::Service(_) => 600_001,
        Role::Pool | Role::Unused => 0,
    };
    let response = backend.response_ms.filter(|ms| *ms >= least);
    time("response_timeout", response, 1000, 86_400_000);
    time("idle_timeout", response, 1000, 86_400_000);
    time("tunnel_timeout", backend.tunnel_ms, 1000, 86_400_000);
    time("queue_timeout", backend.queue_ms, 0, 3_600_000);
    lines.extend(backend.max_requests.map(|count| format!("max_requests_per_server = {}", count.clamp(1, 1_000_000))));
    lines.extend(backend.send_proxy.map(|version| format!("send_proxy = \"{version}\"")));
    lines.extend(check(backend));
    lines
}

fn check(backend: &Backend) -> Option<String> {
    let mut parts = Vec::new();
    match (&backend.check.http, backend.role) {
        // Nextcloud's own check reads status.php, whatever was asked before.
        (Some((_, Some(host))), Role::Nextcloud) => parts.push(format!("host = {}", quoted(host))),
        (_, Role::Nextcloud) | (None, Role::Service(_)) => {}
        (Some((path, host)), _) => {
            parts.push(format!("kind = \"http\", path = {}", quoted(path)));
            parts.extend(host.iter().map(|host| format!("host = {}", quoted(host))));
        }
        (None, _) => parts.push("kind = \"tcp\"".to_owned()),
    }
    parts.extend(numbers(&backend.check));
    (!parts.is_empty()).then(|| format!("check = {{ {} }}", parts.join(", ")))
}

fn numbers(check: &Check) -> Vec<String> {
    let interval = check.interval_ms.map(|ms| format!("interval = \"{}\"", duration(ms.clamp(100, 3_600_000))));
    let timeout = check.timeout_ms.map(|ms| format!("timeout = \"{}\"", duration(ms.clamp(10, 60_000))));
    let rise = check.rise.map(|count| format!("rise = {}", count.clamp(1, 100)));
    let fall = check.fall.map(|count| format!("fall = {}", count.clamp(1, 100)));
    [interval, timeout, rise, fall].into_iter().flatten().collect()
}

fn listen(out: &mut String, listener: &Listener, source: &Path) {
    out.push('\n');
    comment(out, &format!("{}: {}", place(source, &listener.at), listener.shown));
    let kind = match listener.kind {
        Kind::Http => "http",
        Kind::Https => "https",
        Kind::Redirect => "redirect",
    };
    out.push_str(&format!("[[listener]]\naddress = \"{}\"\nkind = \"{kind}\"\n", listener.address));
    match listener.balancers.as_deref() {
        None => {}
        Some([]) => out.push_str(&format!(
            "proxy_protocol = [\"{UNKNOWN_BALANCER}\"] # FILL IN: who sends the PROXY headers; nobody else may connect\n"
        )),
        Some(balancers) => {
            list("proxy_protocol", balancers).iter().for_each(|line| out.push_str(&format!("{line}\n")));
        }
    }
}

fn tcp(out: &mut String, service: &Service, source: &Path) {
    out.push('\n');
    let at = service.at.as_ref().map(|at| format!("{}: ", place(source, at))).unwrap_or_default();
    comment(out, &format!("{at}{}", service.shown));
    service.notes.iter().for_each(|note| comment(out, note));
    let text = |addresses: &[std::net::SocketAddr]| addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>();
    let mut lines = vec!["[[tcp]]".to_owned(), format!("name = {}", quoted(&service.name))];
    match text(&service.listen).as_slice() {
        [one] => lines.push(format!("listen = {}", quoted(one))),
        all => lines.extend(list("listen", all)),
    }
    let servers = text(&service.servers);
    lines.extend(list("servers", if servers.is_empty() { &service.names } else { &servers }));
    lines.extend(service.mode.map(|mode| format!("mode = \"{mode}\"")));
    let mut parts: Vec<String> =
        service.galera.iter().map(|user| format!("kind = \"galera\", user = {}", quoted(user))).collect();
    parts.extend(numbers(&service.check));
    if !parts.is_empty() {
        lines.push(format!("check = {{ {} }}", parts.join(", ")));
    }
    lines.extend(service.connect_ms.map(|ms| format!("connect_timeout = \"{}\"", duration(ms.clamp(10, 60_000)))));
    lines.extend(service.idle_ms.map(|ms| format!("idle_timeout = \"{}\"", duration(ms.clamp(1000, 864_000_000)))));
    lines.extend(service.proxy_protocol.map(|version| format!("proxy_protocol = \"{version}\"")));
    let count = service.max_connections.map(|count| count.clamp(1, 1_000_000));
    lines.extend(count.map(|count| format!("max_connections_per_server = {count}")));
    if !service.allow.is_empty() {
        lines.extend(list("allow", &service.allow));
    }
    block(out, &lines, service.problem.as_deref());
}

fn values(out: &mut String, edge: &Edge) {
    for section in ["limits", "timeouts", "abuse", "worker", "log"] {
        let own: Vec<String> = edge
            .values
            .iter()
            .filter(|value| value.section == section)
            .map(|value| format!("{} = {}", value.key, value.text))
            .collect();
        if !own.is_empty() {
            out.push('\n');
            block(out, &[vec![format!("[{section}]")], own].concat(), None);
        }
    }
}

/// As lyre.toml writes it.
fn duration(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}
