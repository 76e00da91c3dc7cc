//! `lyre check`: every problem of a configuration, or what it amounts to.

use super::FAILED;
use super::output::{self, Colour, Style};
use crate::config;
use crate::config::error::Problem;
use crate::config::settings::vip::{Authentication, Peers};
use crate::config::settings::{
    Check, CheckKind, Listener, ListenerKind, Pool, Prefix, Route, Settings, VirtualRouter, tcp,
};
use crate::config::units::show_duration;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(path: &Path, node: Option<&str>, json: bool) -> ExitCode {
    let report = config::read(path, node);
    let settings = report.outcome.as_ref().map(|(settings, _)| settings);
    let text = if json {
        let object = json!({
            "ok": settings.is_some(),
            "file": path,
            "errors": report.errors.iter().map(problem_json).collect::<Vec<_>>(),
            "warnings": report.warnings.iter().map(problem_json).collect::<Vec<_>>(),
            "effective": settings.map(summary_json),
        });
        format!("{object:#}\n")
    } else {
        people(path, settings, &report.errors, &report.warnings)
    };
    let printed = output::print(&text);
    if settings.is_some() { printed } else { ExitCode::from(FAILED) }
}

fn people(path: &Path, settings: Option<&Settings>, errors: &[Problem], warnings: &[Problem]) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    for problem in errors {
        text += &format!("{} {problem}\n", style.paint(Colour::Bad, "error:"));
    }
    for problem in warnings {
        text += &format!("{} {problem}\n", style.paint(Colour::Odd, "warning:"));
    }
    for (name, value) in settings.map(summary).unwrap_or_default() {
        text += &format!("{name:<9}{value}\n");
    }
    let verdict = match settings {
        Some(_) => style.paint(Colour::Good, "ok"),
        None => style.paint(Colour::Bad, "not usable"),
    };
    let counts = [(errors.len(), "error"), (warnings.len(), "warning")];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| counted(*n, what)).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(", {}", counts.join(", ")) };
    text += &format!("{}: {verdict}{counts}\n", path.display());
    text
}

/// What will be, one line a thing.
fn summary(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(cluster) = &settings.cluster {
        let this = cluster.nodes.get(cluster.this).map_or("", |node| &node.name);
        let nodes: Vec<String> = cluster.nodes.iter().map(|node| format!("{} {}", node.name, node.address)).collect();
        lines.push(("node", format!("{this}, of {}", nodes.join(", "))));
    }
    lines.extend(settings.routers.iter().map(|router| ("address", router_line(router))));
    lines.extend(settings.listeners.iter().map(|listener| ("listen", listener_line(listener))));
    for certificate in &settings.certificates {
        lines.push(("tls", certificate.cert_path.display().to_string()));
    }
    for route in &settings.routes {
        let hosts = if route.hosts.is_empty() { "any host".to_owned() } else { route.hosts.join(", ") };
        let pool = settings.pools.get(route.pool).map_or("", |pool| &pool.name);
        lines.push(("route", format!("{hosts} {} to {pool}{}", route.path, prefix_note(route))));
    }
    lines.extend(settings.pools.iter().map(|pool| ("pool", pool_line(pool))));
    lines.extend(settings.services.iter().map(|service| ("tcp", service_line(service))));
    if !settings.trust.proxies.is_empty() {
        lines.push(("trust", counted(settings.trust.proxies.len(), "proxy network")));
    }
    if settings.addresses().next().is_some() {
        lines.push(("worker", counted(settings.worker.cores, "core")));
    }
    lines.push(("admin", settings.admin.socket.display().to_string()));
    lines
}

fn prefix_note(route: &Route) -> &'static str {
    match route.prefix {
        Prefix::Kept => "",
        Prefix::Stripped | Prefix::Hosted => ", without this prefix",
    }
}

fn router_line(router: &VirtualRouter) -> String {
    let addresses: Vec<String> = router.held().map(|address| address.to_string()).collect();
    let interval = Duration::from_millis(u64::from(router.advert_interval_cs) * 10);
    let mut line = format!(
        "{} on {}: vrid {}, priority {}, adverts every {}, the other node takes over after {} of silence",
        addresses.join(", "),
        router.interface,
        router.vrid,
        router.priority,
        show_duration(interval),
        show_duration(interval * u32::from(router.down_adverts)),
    );
    for remark in router_remarks(router) {
        line += ", ";
        line += &remark;
    }
    line
}

/// What is not as it is by default.
fn router_remarks(router: &VirtualRouter) -> Vec<String> {
    let mut remarks = Vec::new();
    match router.preempt {
        None => {}
        Some(Duration::ZERO) => remarks.push("preempts".to_owned()),
        Some(after) => remarks.push(format!("preempts after {}", show_duration(after))),
    }
    if router.version == 2 {
        remarks.push("version 2".to_owned());
    }
    if let Peers::Unicast(peers) = &router.peers {
        let peers: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
        remarks.push(format!("unicast to {}", peers.join(" and ")));
    }
    match &router.authentication {
        Authentication::None => {}
        Authentication::Password(_) => remarks.push("with password".to_owned()),
        Authentication::Hmac(_) => remarks.push("signed".to_owned()),
    }
    if router.virtual_mac.is_some() {
        remarks.push("virtual MAC".to_owned());
    }
    remarks.extend(router.sync_group.iter().map(|group| format!("in sync group {group}")));
    remarks
}

fn listener_line(listener: &Listener) -> String {
    format!("{} {}", listener.address, kind_name(listener.kind))
}

fn kind_name(kind: ListenerKind) -> &'static str {
    match kind {
        ListenerKind::Http => "http",
        ListenerKind::Https => "https",
        ListenerKind::RedirectToHttps => "redirect to https",
    }
}

fn pool_line(pool: &Pool) -> String {
    let servers: Vec<&str> = pool.servers.iter().map(|server| server.name.as_str()).collect();
    format!(
        "{}: {}; {} requests each, {}",
        pool.name,
        servers.join(", "),
        pool.max_requests_per_server,
        check_line(&pool.check)
    )
}

fn service_line(service: &tcp::Service) -> String {
    let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
    let servers: Vec<&str> = service.servers.iter().map(|server| server.name.as_str()).collect();
    let check = match &service.check.kind {
        tcp::CheckKind::Connect => "TCP connect",
        tcp::CheckKind::Galera { .. } => "Galera state",
    };
    format!(
        "{}: {} to {}; {}, checked by {check} every {}",
        service.name,
        listen.join(", "),
        servers.join(", "),
        mode_name(service.mode),
        show_duration(service.check.interval)
    )
}

fn mode_name(mode: tcp::Mode) -> &'static str {
    match mode {
        tcp::Mode::LeastConnections => "least-connections",
        tcp::Mode::Source => "source",
        tcp::Mode::First => "first",
        tcp::Mode::SingleWriter => "single-writer",
    }
}

fn check_line(check: &Check) -> String {
    let what = match &check.kind {
        CheckKind::NextcloudStatus { host } => format!("/status.php of {host}"),
        CheckKind::HttpAlive { path, .. } => path.clone(),
        CheckKind::Tcp => "TCP connect".to_owned(),
    };
    format!("checked by {what} every {}", show_duration(check.interval))
}

fn summary_json(settings: &Settings) -> Value {
    let nodes = settings.cluster.as_ref().map(|cluster| cluster.nodes.as_slice()).unwrap_or_default();
    let this = settings.cluster.as_ref().and_then(|cluster| cluster.nodes.get(cluster.this));
    json!({
        "node": this.map(|node| &node.name),
        "nodes": nodes.iter().map(|node| json!({ "name": node.name, "address": node.address })).collect::<Vec<_>>(),
        "routers": settings.routers.iter().map(|router| json!({
            "name": router.name,
            "interface": router.interface,
            "vrid": router.vrid,
            "priority": router.priority,
            "advert_interval_ms": u32::from(router.advert_interval_cs) * 10,
            "addresses": router.addresses,
            "excluded_addresses": router.excluded,
            "version": router.version,
            "peers": match &router.peers {
                Peers::Multicast => json!("multicast"),
                Peers::Unicast(peers) => json!(peers.iter().map(|peer| peer.address).collect::<Vec<_>>()),
            },
            "sync_group": router.sync_group,
        })).collect::<Vec<_>>(),
        "listeners": settings.listeners.iter().map(|listener| json!({
            "address": listener.address,
            "kind": match listener.kind {
                ListenerKind::Http => "http",
                ListenerKind::Https => "https",
                ListenerKind::RedirectToHttps => "redirect",
            },
        })).collect::<Vec<_>>(),
        "certificates": settings.certificates.iter().map(|certificate| &certificate.cert_path).collect::<Vec<_>>(),
        "routes": settings.routes.iter().map(|route| json!({
            "hosts": route.hosts,
            "path": route.path,
            "strips_path": route.prefix != Prefix::Kept,
            "pool": settings.pools.get(route.pool).map(|pool| &pool.name),
        })).collect::<Vec<_>>(),
        "pools": settings.pools.iter().map(|pool| json!({
            "name": pool.name,
            "servers": pool.servers.iter().map(|server| server.place.to_string()).collect::<Vec<_>>(),
            "max_requests_per_server": pool.max_requests_per_server,
        })).collect::<Vec<_>>(),
        "services": settings.services.iter().map(|service| json!({
            "name": service.name,
            "listen": service.listen,
            "servers": service.servers.iter().map(|server| &server.name).collect::<Vec<_>>(),
            "mode": mode_name(service.mode),
        })).collect::<Vec<_>>(),
        "cores": settings.worker.cores,
        "admin_socket": settings.admin.socket,
    })
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    })
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
