//! Which backend is Nextcloud, which are the services beside it, and which are other applications.

use super::{Backend, Edge, Route};
use crate::import::findings::{Class, Findings};
use crate::import::names::unique;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::import) enum Role {
    /// No route leads to it.
    #[default]
    Unused,
    Nextcloud,
    /// The section beside `[nextcloud]`.
    Service(&'static str),
    Pool,
}

/// Sections and the paths of Nextcloud's hosts that are theirs.
pub(super) const SERVICES: [(&str, &[&str]); 5] = [
    ("push", &["/push"]),
    ("talk", &["/standalone-signaling"]),
    ("collabora", &["/browser", "/hosting", "/cool", "/loleaflet", "/lool"]),
    ("onlyoffice", &["/onlyoffice"]),
    ("whiteboard", &["/whiteboard"]),
];

/// Paths that only Nextcloud's web servers have.
const NEXTCLOUD_PATHS: [&str; 6] = ["/remote.php", "/status.php", "/ocs", "/index.php", "/public.php", "/.well-known"];

pub(super) fn decide(findings: &mut Findings, edge: &mut Edge) {
    let Some(nextcloud) = nextcloud(findings, edge) else { return others(findings, edge, &[]) };
    let hosts = hosts_of(edge, nextcloud);
    if let Some(backend) = edge.backends.get_mut(nextcloud) {
        backend.role = Role::Nextcloud;
        backend.pool_name = "web".to_owned();
        note(findings, backend, Class::Mapped, "[nextcloud]");
    }
    others(findings, edge, &hosts);
}

/// The section that has this path.
pub(super) fn service_of(path: &str) -> Option<&'static str> {
    let within = |own: &str| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    SERVICES.iter().find(|(_, paths)| paths.iter().any(|own| within(own))).map(|(name, _)| *name)
}

/// Hosts of a backend's routes, each once; empty for any.
pub(super) fn hosts_of(edge: &Edge, backend: usize) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for route in edge.routes.iter().filter(|route| route.backend == backend) {
        if route.hosts.is_empty() {
            return Vec::new();
        }
        for host in &route.hosts {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
    }
    hosts
}

/// The backend that most speaks for, if any is likely.
fn nextcloud(findings: &mut Findings, edge: &Edge) -> Option<usize> {
    let is_root = |route: &&Route| service_of(&route.path).is_none();
    let mut candidates: Vec<usize> = edge.routes.iter().filter(is_root).map(|route| route.backend).collect();
    candidates.retain(|index| edge.backends.get(*index).is_some_and(|backend| !is_office(backend)));
    candidates.sort_unstable();
    candidates.dedup();
    let score = |index: &usize| signs(edge, *index);
    // Of equals the first.
    let best = candidates.iter().copied().rev().max_by_key(score)?;
    let backend = edge.backends.get(best)?;
    match (score(&best), candidates.len()) {
        (0, 1) => {
            let why =
                "[nextcloud], as nothing else is served; if it is no Nextcloud, make it a [[pool]] with a [[route]]";
            note(findings, backend, Class::Remark, why);
        }
        (0, _) => {
            let why =
                "nothing tells which of these is Nextcloud, so it is a [[pool]]; write [nextcloud] for the one that is";
            note(findings, backend, Class::Remark, why);
            return None;
        }
        _ => {}
    }
    Some(best)
}

fn signs(edge: &Edge, index: usize) -> u32 {
    let Some(backend) = edge.backends.get(index) else { return 0 };
    let name = backend.name.to_ascii_lowercase();
    let by_name = match () {
        () if name.contains("nextcloud") || name.contains("owncloud") => 4,
        () if name.contains("cloud") || name.split(['-', '_', '.']).any(|part| part == "nc") => 2,
        () => 0,
    };
    let by_path = edge.routes.iter().filter(|route| route.backend == index).map(|route| {
        let has_path = NEXTCLOUD_PATHS.iter().any(|path| route.path.starts_with(path));
        let has_host = route.hosts.iter().any(|host| host.contains("cloud") || host.starts_with("nc."));
        if has_path { 3 } else { u32::from(has_host) }
    });
    let by_check = backend.check.http.as_ref().is_some_and(|(path, _)| path.contains("status.php"));
    backend.nextcloud_signs + by_name + by_path.max().unwrap_or(0) + if by_check { 4 } else { 0 }
}

/// Everything but Nextcloud, whose hosts are `hosts`, if there is one.
fn others(findings: &mut Findings, edge: &mut Edge, hosts: &[String]) {
    let has_nextcloud = edge.backends.iter().any(|backend| backend.role == Role::Nextcloud);
    let mut taken: Vec<String> =
        std::iter::once("web").chain(SERVICES.map(|(name, _)| name)).map(str::to_owned).collect();
    for index in 0..edge.backends.len() {
        let routes: Vec<&Route> = edge.routes.iter().filter(|route| route.backend == index).collect();
        let service = routes.first().and_then(|route| service_of(&route.path));
        let is_of_nextcloud = |route: &&Route| {
            hosts.is_empty() || route.hosts.is_empty() || route.hosts.iter().any(|h| hosts.contains(h))
        };
        let is_service = has_nextcloud
            && service.is_some()
            && routes.iter().all(|route| service_of(&route.path) == service && is_of_nextcloud(route));
        let has_routes = !routes.is_empty();
        let is_claimed = edge.backends.iter().any(|backend| service.is_some_and(|s| backend.role == Role::Service(s)));
        let Some(backend) = edge.backends.get_mut(index) else { continue };
        match service {
            _ if backend.role == Role::Nextcloud => {}
            _ if !has_routes => {
                backend.role = Role::Unused;
                backend.pool_name = unique(&backend.name, &taken);
            }
            Some(name) if is_service && !is_claimed => {
                backend.role = Role::Service(name);
                backend.pool_name = name.to_owned();
                note(findings, backend, Class::Mapped, &format!("[{name}]"));
            }
            _ => {
                backend.role = Role::Pool;
                backend.pool_name = unique(&backend.name, &taken);
                taken.push(backend.pool_name.clone());
                office(backend);
                note(findings, backend, Class::Mapped, &format!("[[pool]] {}", backend.pool_name));
            }
        }
    }
}

/// Office servers under a name of their own: conversions and open documents take their time.
fn office(backend: &mut Backend) {
    if is_office(backend) {
        backend.tunnel_ms = backend.tunnel_ms.or(Some(36_000_000));
        backend.response_ms = Some(backend.response_ms.unwrap_or(0).max(600_000));
    }
}

fn is_office(backend: &Backend) -> bool {
    let name = backend.name.to_ascii_lowercase();
    ["collabora", "office", "coolwsd"].iter().any(|word| name.contains(word))
        || name == "code"
        || backend.servers.iter().chain(&backend.names).any(|server| server.ends_with(":9980"))
}

fn note(findings: &mut Findings, backend: &Backend, class: Class, why: &str) {
    if let Some(at) = &backend.at {
        findings.at(at, class, &*backend.shown, why);
    }
}
