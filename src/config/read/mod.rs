//! From the typed file to settings, section by section. Problems are noted and reading goes on; what a problem leaves
//! behind is a stand-in that nobody sees, because settings only leave here when there was no error.

mod abuse;
mod cluster;
mod docker;
mod exapps;
mod files;
mod frp;
mod listener;
mod notify;
mod services;
mod tcp;
mod tls;
mod track;
mod vip;
mod vips;
mod web;
mod worker;

use super::file::Section;
use super::findings::{Findings, Place};
use super::host::Host;
use super::settings::{self, Settings};
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// What every section reader has at hand.
pub(crate) struct Context<'a, 'h> {
    pub(crate) f: Findings<'a>,
    pub(crate) host: &'h mut dyn Host,
    /// Directory that relative paths start from: the one of lyre.toml.
    pub(crate) base: PathBuf,
    /// `--node`.
    pub(crate) node: Option<String>,
    /// Seconds since 1970, to tell expired certificates.
    pub(crate) now: i64,
}

/// Reads the whole file. `None` after an error.
pub(crate) fn settings(c: &mut Context, path: &Path, text: &str) -> Option<Settings> {
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let span = error.span().unwrap_or(0..0);
        let place = Place { key: String::new(), span: span.start..span.end.max(span.start + 1) };
        c.f.error(&place, error.message(), "");
    }
    if !syntax_errors.is_empty() {
        // What the parser salvaged would be blamed for what it lost.
        return None;
    }
    let settings = sections(c, path, Section::root(document.get_ref()));
    (!c.f.has_errors()).then_some(settings)
}

fn sections(c: &mut Context, path: &Path, mut root: Section) -> Settings {
    let cluster_typed = root.optional("cluster").and_then(|item| item.section(&mut c.f));
    let cluster = cluster::read(c, cluster_typed);
    let vips = root.tables(&mut c.f, "vip");
    let routers = vip::read(c, vips, &cluster);

    let certificates = root.optional("tls").and_then(|item| item.section(&mut c.f));
    let (certificates, http2) = tls::read(c, certificates);
    let mut web = web::read(c, &mut root);
    let nodes = cluster.iter().flat_map(|read| &read.cluster.nodes).map(|node| node.address);
    let addresses = c.host.interfaces().iter().flat_map(|interface| &interface.addresses).map(|network| network.addr());
    web.trust.own = nodes.chain(addresses).map(|address| address.to_canonical()).collect();
    let listeners_typed = root.tables(&mut c.f, "listener");
    let listeners = listener::read(c, listeners_typed, &certificates, !web.routes.is_empty());
    web.check_loops(c, &listeners);
    tls::check_names(c, &certificates, &web.routes);

    let services = root.tables(&mut c.f, "tcp");
    let services = tcp::read(c, services, &listeners, &web.pools);
    let exapps = exapps::read(c, &mut root, &web.pools, &listeners, &services);
    let serves = !listeners.is_empty() || !services.is_empty();

    let trackers = root.tables(&mut c.f, "track");
    let trackers = track::read(c, trackers, &routers, &pools_of(&web.pools, &services), serves);
    let hooks = root.tables(&mut c.f, "notify");
    let hooks = notify::read(c, hooks, &routers);

    let limits = worker::limits(c, &mut root);
    let abuse = abuse::read(c, &mut root, &web.trust, &web.pools);
    let timeouts = worker::timeouts(c, &mut root);
    let dns = worker::dns(c, &mut root);
    let spool = worker::spool(c, &mut root);
    let worker = worker::worker(c, &mut root);
    let admin = worker::admin(c, &mut root);
    let log = worker::log(c, &mut root);
    if routers.is_empty() && web.routes.is_empty() && services.is_empty() && !c.f.has_errors() {
        let place = root.place.clone();
        c.f.error(&place, "there is nothing to do", "Add [nextcloud] with hosts and servers, or a [[vip]].");
    }
    root.finish(&mut c.f);

    Settings {
        source: path.to_owned(),
        cluster: cluster.map(|read| read.cluster),
        routers,
        trackers,
        hooks,
        listeners,
        certificates: certificates.into_iter().map(|read| read.certificate).collect(),
        http2,
        pools: web.pools,
        routes: web.routes,
        services,
        exapps,
        trust: web.trust,
        hsts: web.hsts,
        limits,
        abuse,
        timeouts,
        dns,
        spool,
        worker,
        admin,
        log,
    }
}

/// What `backend_pool` trackers may name, with the number of servers.
fn pools_of(pools: &[settings::Pool], services: &[settings::tcp::Service]) -> Vec<(String, usize)> {
    let pools = pools.iter().map(|pool| (pool.name.clone(), pool.servers.len()));
    pools.chain(services.iter().map(|service| (service.name.clone(), service.servers.len()))).collect()
}
