//! Between the parts: what `lyre check` would refuse is taken out here, and said.

use super::roles::{self, Role};
use super::{Backend, Certificate, Edge, Kind, Route};
use crate::import::error::Position;
use crate::import::findings::{Class, Findings, one_line};
use crate::import::names::unique;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

/// As `lyre check` has them.
const SERVERS_MAX: usize = 256;
const LISTENERS_MAX: usize = 32;
const TCP_ADDRESSES_MAX: usize = 64;
const CERTIFICATES_MAX: usize = 1000;

/// Stands where a certificate is missing.
const UNKNOWN_CERTIFICATE: &str = "tls/cloud.pem";

pub(super) fn settle(findings: &mut Findings, edge: &mut Edge, source: &Path) {
    edge.trusted_proxies.dedup();
    listeners(findings, edge);
    backends(findings, edge);
    routes(findings, edge);
    unused(findings, edge);
    services(findings, edge);
    certificates(findings, edge, source);
    let is_usable = |index: usize| edge.backends.get(index).is_some_and(|backend| backend.problem.is_none());
    let serves = edge.routes.iter().any(|route| is_usable(route.backend))
        || edge.services.iter().any(|service| service.problem.is_none());
    if !serves {
        findings.at(&whole(source), Class::Refused, "the whole file", "has nothing that Lyre could serve");
    }
}

fn whole(source: &Path) -> Position {
    Position { file: one_line(&source.display().to_string()).into(), line: 0 }
}

fn listeners(findings: &mut Findings, edge: &mut Edge) {
    let mut seen: Vec<(SocketAddr, Kind)> = Vec::new();
    edge.listeners.retain(|listener| {
        let why = match seen.iter().find(|(address, _)| *address == listener.address) {
            Some((_, kind)) if *kind == listener.kind => return false,
            Some(_) => "this address is listened on already, in another way",
            None if listener.address.ip().is_multicast() => "is a multicast address",
            None if seen.len() >= LISTENERS_MAX => "there are more listeners than 32",
            None => {
                seen.push((listener.address, listener.kind));
                return true;
            }
        };
        findings.at(&listener.at, Class::Refused, &*listener.shown, why);
        false
    });
}

fn backends(findings: &mut Findings, edge: &mut Edge) {
    let listeners: Vec<SocketAddr> = edge.listeners.iter().map(|listener| listener.address).collect();
    for backend in edge.backends.iter_mut().filter(|backend| backend.role != Role::Unused) {
        let mut seen = HashSet::new();
        backend.servers.retain(|server| seen.insert(server.clone()));
        let is_loop = |server: &String| server.parse().is_ok_and(|address| listeners.contains(&address));
        let problem = match () {
            () if backend.problem.is_some() => continue,
            () if backend.servers.iter().any(is_loop) => {
                "one of its servers is a listener of this file, so requests would go round in a circle; name the web \
                 server itself"
            }
            () if backend.servers.is_empty() && !backend.names.is_empty() => {
                "servers are addresses, names are not looked up yet; write theirs and remove the comment signs"
            }
            () if backend.servers.is_empty() => "it has no server that can be used",
            () if backend.servers.len() > SERVERS_MAX => "it has more than 256 servers",
            () => continue,
        };
        refuse(findings, backend, problem);
    }
    let is_lost = |backend: &&Backend| backend.role == Role::Nextcloud && backend.problem.is_some();
    if edge.backends.iter().any(|backend| is_lost(&backend)) {
        let beside = |backend: &&mut Backend| matches!(backend.role, Role::Service(_)) && backend.problem.is_none();
        for backend in edge.backends.iter_mut().filter(beside) {
            refuse(findings, backend, "it needs [nextcloud], which cannot be used as it is");
        }
    }
}

fn refuse(findings: &mut Findings, backend: &mut Backend, problem: &str) {
    if let Some(at) = &backend.at {
        findings.at(at, Class::Refused, &*backend.shown, problem);
    }
    backend.problem = Some(problem.to_owned());
}

/// Each path of a host leads to one pool; what a section brings needs no `[[route]]`.
fn routes(findings: &mut Findings, edge: &mut Edge) {
    let index = edge.backends.iter().position(|backend| backend.role == Role::Nextcloud);
    let nextcloud_hosts = index.map(|index| roles::hosts_of(edge, index)).unwrap_or_default();
    let is_ours = |host: &String| nextcloud_hosts.is_empty() || nextcloud_hosts.contains(host);
    let mut taken: Vec<(Option<String>, String, usize)> = Vec::new();
    let keys = |hosts: &[String]| match hosts {
        [] => vec![None],
        hosts => hosts.iter().cloned().map(Some).collect::<Vec<_>>(),
    };
    for (index, backend) in edge.backends.iter().enumerate() {
        let paths: Vec<&str> = match backend.role {
            Role::Nextcloud => vec!["/"],
            Role::Service(name) => {
                let own = roles::SERVICES.iter().filter(|(service, _)| *service == name);
                own.flat_map(|(_, paths)| paths.iter().copied()).collect()
            }
            Role::Unused | Role::Pool => continue,
        };
        for host in keys(&nextcloud_hosts) {
            taken.extend(paths.iter().map(|path| (host.clone(), (*path).to_owned(), index)));
        }
    }
    let mut kept: Vec<Route> = Vec::new();
    for (mut route, is_copy) in with_copies(std::mem::take(&mut edge.routes), edge.shares_paths) {
        let Some(backend) = edge.backends.get(route.backend) else { continue };
        let path = normal(&route.path);
        // Nextcloud's own paths, and those of the services, are there by their sections.
        let is_by_section = match backend.role {
            Role::Nextcloud => true,
            Role::Service(_) => route.hosts.is_empty() || route.hosts.iter().any(is_ours),
            Role::Unused | Role::Pool => false,
        };
        if is_by_section {
            continue;
        }
        if route.is_rewritten {
            let why = "the target is passed on as it came, not with another path; let the server answer under this one";
            findings.at(&route.at, Class::Refused, &*route.shown, why);
            continue;
        }
        let mut lost = Vec::new();
        let hosts = keys(&route.hosts);
        let mut left = Vec::new();
        for host in hosts {
            match taken.iter().find(|(h, p, _)| *h == host && *p == path) {
                Some((_, _, other)) if *other == route.backend => {}
                Some(_) => lost.push(host.unwrap_or_else(|| "any host".to_owned())),
                None => {
                    taken.push((host.clone(), path.clone(), route.backend));
                    left.push(host);
                }
            }
        }
        if !lost.is_empty() && !is_copy {
            let why = format!("{} {path} leads elsewhere already, and each path leads to one pool", lost.join(", "));
            findings.at(&route.at, Class::Refused, &*route.shown, why);
        }
        if left.is_empty() || backend.problem.is_some() {
            continue;
        }
        route.hosts = left.into_iter().flatten().collect();
        route.path = if route.path.is_empty() { "/".to_owned() } else { route.path };
        kept.push(route);
    }
    // Something to serve is there as soon as [nextcloud] is.
    edge.routes = kept;
    let nextcloud = edge.backends.iter().position(|b| b.role == Role::Nextcloud);
    if let Some((index, at)) = nextcloud.and_then(|index| Some((index, edge.backends.get(index)?.at.clone()?))) {
        let own = Route {
            hosts: nextcloud_hosts,
            path: "/".to_owned(),
            backend: index,
            is_rewritten: false,
            at,
            shown: String::new(),
        };
        edge.routes.push(own);
    }
}

/// A named host wins over any host here, so a path of any host is said again for each name.
fn with_copies(routes: Vec<Route>, shares_paths: bool) -> Vec<(Route, bool)> {
    let mut named: Vec<String> = Vec::new();
    for host in routes.iter().flat_map(|route| &route.hosts) {
        if !named.contains(host) {
            named.push(host.clone());
        }
    }
    let mut all = Vec::new();
    for route in routes {
        let is_shared = shares_paths && route.hosts.is_empty() && normal(&route.path) != "/" && !named.is_empty();
        let copy = is_shared.then(|| Route { hosts: named.clone(), ..route.clone() });
        all.push((route, false));
        all.extend(copy.map(|copy| (copy, true)));
    }
    all
}

/// Without the slash that says nothing: `/push/` and `/push` are one path.
fn normal(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

fn unused(findings: &mut Findings, edge: &mut Edge) {
    for (index, backend) in edge.backends.iter_mut().enumerate() {
        let has_route = edge.routes.iter().any(|route| route.backend == index);
        match backend.role {
            Role::Unused if backend.problem.is_none() => {
                refuse(findings, backend, "no rule that is carried over leads to it");
            }
            Role::Pool if !has_route && backend.problem.is_none() => {
                refuse(findings, backend, "no route is left that leads to it");
            }
            _ => {}
        }
    }
}

fn services(findings: &mut Findings, edge: &mut Edge) {
    let mut listening: Vec<SocketAddr> = edge.listeners.iter().map(|listener| listener.address).collect();
    let listeners = listening.len();
    let mut names: Vec<String> =
        edge.backends.iter().map(|backend| backend.pool_name.clone()).chain(["web".into(), "push".into()]).collect();
    for service in &mut edge.services {
        service.name = unique(&service.name, &names);
        names.push(service.name.clone());
        let mut seen = HashSet::new();
        service.servers.retain(|server| seen.insert(*server));
        let own: HashSet<SocketAddr> = service.listen.iter().copied().collect();
        let problem = match () {
            () if service.problem.is_some() => service.problem.clone().unwrap_or_default(),
            () if service.listen.is_empty() => "it listens on no address that can be used".to_owned(),
            () if own.len() < service.listen.len() || own.iter().any(|address| listening.contains(address)) => {
                "something else listens on its address".to_owned()
            }
            () if own.iter().any(|address| address.ip().is_multicast()) => "it has a multicast address".to_owned(),
            () if own.len() + listening.len() > listeners + TCP_ADDRESSES_MAX => {
                "there are more addresses of TCP services than 64".to_owned()
            }
            () if service.servers.iter().any(|server| own.contains(server)) => {
                "one of its servers is the service itself".to_owned()
            }
            () if service.servers.is_empty() && !service.names.is_empty() => {
                "servers are addresses, names are not looked up yet; write theirs and remove the comment signs"
                    .to_owned()
            }
            () if service.servers.is_empty() => "it has no server that can be used".to_owned(),
            () if service.servers.len() > SERVERS_MAX => "it has more than 256 servers".to_owned(),
            () => {
                listening.extend(own);
                if let Some(at) = &service.at {
                    findings.at(at, Class::Mapped, &*service.shown, format!("[[tcp]] {}", service.name));
                }
                continue;
            }
        };
        if let Some(at) = &service.at {
            findings.at(at, Class::Refused, &*service.shown, &*problem);
        }
        service.problem = Some(problem);
    }
}

fn certificates(findings: &mut Findings, edge: &mut Edge, source: &Path) {
    let mut seen = HashSet::new();
    edge.certificates.retain(|certificate| seen.insert(certificate.cert.clone()));
    edge.certificates.truncate(CERTIFICATES_MAX);
    let serves_tls = edge.listeners.iter().any(|listener| listener.kind == Kind::Https);
    if serves_tls && edge.certificates.is_empty() {
        edge.certificates.push(Certificate {
            cert: UNKNOWN_CERTIFICATE.to_owned(),
            key: None,
            comment: Some("FILL IN: no certificate was found".to_owned()),
        });
        let why = "an https listener needs a certificate, and none is named; write it into tls.certificates";
        findings.at(&whole(source), Class::Refused, "the whole file", why);
    }
}
