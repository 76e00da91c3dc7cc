//! What is served: `[nextcloud]`, and other web applications by `[[pool]]` and `[[route]]`. What stands beside Nextcloud is
//! in `services`.

use super::{Context, services};
use crate::config::file::{Item, Section};
use crate::config::settings::{
    Balance, Check, CheckKind, Listener, Place, Pool, PoolKind, Prefix, ProxyVersion, Route, Server, Trust,
};
use crate::config::{cloudflare, names};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const PROXY_VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

/// A name in `trusted_proxies`.
const CLOUDFLARE: &str = "cloudflare";

/// What the kernel's address of a Unix socket has room for, with the zero behind it.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Each server costs a probe every interval and a line in every status.
const SERVERS_MAX: usize = 256;

pub(super) struct Web<'a> {
    pub(super) pools: Vec<Pool>,
    pub(super) routes: Vec<Route>,
    pub(super) trust: Trust,
    pub(super) hsts: Option<String>,
    /// What was typed, beside what it became: for problems found later.
    servers: Vec<(Item<'a>, SocketAddr)>,
}

/// What a pool is when nothing else is written. Reasons are in docs/configuration.md.
pub(super) struct Defaults {
    pub(super) port: u16,
    pub(super) max_requests_per_server: u32,
    pub(super) response: Duration,
    pub(super) idle: Duration,
    pub(super) tunnel: Duration,
    pub(super) keepalive: Duration,
    pub(super) balance: Balance,
    /// How many servers take part in what a WebSocket costs; `None`: those of the pool.
    pub(super) upgrading_servers: Option<usize>,
    pub(super) kind: PoolKind,
    pub(super) check: CheckKind,
}

/// Handshakes of WebSockets a second that one server can be expected to stand.
const UPGRADES_PER_SERVER: usize = 50;

pub(super) const S: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MS: Duration = Duration::from_millis(1);

/// PHP gives a request an hour; the web server must be the one that times out first.
const PHP_LIMIT: Duration = Duration::from_secs(3610);

#[derive(Clone, Copy)]
enum Kind {
    Nextcloud,
    Http,
    Tcp,
}

const KINDS: [(&str, Kind); 3] = [("nextcloud", Kind::Nextcloud), ("http", Kind::Http), ("tcp", Kind::Tcp)];

pub(super) fn read<'a>(c: &mut Context, root: &mut Section<'a>) -> Web<'a> {
    let mut web =
        Web { pools: Vec::new(), routes: Vec::new(), trust: Trust::default(), hsts: None, servers: Vec::new() };
    let hosts = nextcloud(c, root, &mut web);
    services::read(c, root, &mut web, hosts.as_deref());
    let pools = root.tables(&mut c.f, "pool");
    let named: Vec<Option<(Item, String)>> = pools.into_iter().map(|section| pool(c, section, &mut web)).collect();
    for section in root.tables(&mut c.f, "route") {
        route(c, section, &mut web);
    }
    for (item, name) in named.into_iter().flatten() {
        let is_used = web.routes.iter().any(|route| web.pools.get(route.pool).is_some_and(|pool| pool.name == name));
        if !is_used && !c.f.has_errors() {
            item.warning(&mut c.f, format!("no route leads to pool {name}"), "Add a [[route]], or remove the pool.");
        }
    }
    // First match wins: a named host before any host, then the longer path.
    web.routes.sort_by_key(|route| (route.hosts.is_empty(), std::cmp::Reverse(route.path.len())));
    web
}

impl Web<'_> {
    /// A server that is one of our own listeners would be asked by us, ask us, and so on.
    pub(super) fn check_loops(&self, c: &mut Context, listeners: &[Listener]) {
        for (item, server) in &self.servers {
            let interfaces = c.host.interfaces();
            let is_ours = interfaces.iter().flat_map(|i| &i.addresses).any(|own| own.addr() == server.ip());
            let is_met = |listener: &&Listener| {
                let any = listener.address.ip().is_unspecified() && listener.address.is_ipv4() == server.is_ipv4();
                listener.address.port() == server.port() && (listener.address.ip() == server.ip() || any && is_ours)
            };
            if let Some(listener) = listeners.iter().find(is_met) {
                let message = format!("{server} is this node's own listener {}", listener.address);
                item.error(&mut c.f, message, "Requests would go round in a circle; name the web server itself.");
            }
        }
    }
}

/// `[nextcloud]`: the web tier. Answers its hosts, empty for any.
fn nextcloud<'a>(c: &mut Context, root: &mut Section<'a>, web: &mut Web<'a>) -> Option<Vec<String>> {
    let mut section = root.optional("nextcloud")?.section(&mut c.f)?;
    let hint = "Write hosts = [\"cloud.example.com\"], the names people use for your Nextcloud.";
    let typed = section.required(&mut c.f, "hosts", hint);
    let hosts = typed.map(|item| hosts(c, &item, hint)).unwrap_or_default();
    // Nextcloud trusts the name localhost always.
    let host = hosts.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    trust(c, &mut section, &mut web.trust);
    web.hsts = hsts(c, &mut section);
    let defaults = Defaults {
        port: 80,
        max_requests_per_server: 64,
        response: PHP_LIMIT,
        idle: PHP_LIMIT,
        tunnel: HOUR,
        keepalive: 4 * S,
        balance: Balance::Load,
        upgrading_servers: None,
        kind: PoolKind::Nextcloud,
        check: CheckKind::NextcloudStatus { host },
    };
    let pool = add_pool(c, &mut section, web, "web".to_owned(), defaults);
    section.finish(&mut c.f);
    web.routes.push(Route { hosts: hosts.clone(), path: "/".to_owned(), pool, prefix: Prefix::Kept });
    Some(hosts)
}

/// Nextcloud's set-up check wants half a year at least.
const HSTS_MIN: Duration = Duration::from_secs(15_552_000);

/// The field's value, or `None` for `hsts = "off"`.
fn hsts(c: &mut Context, section: &mut Section) -> Option<String> {
    let age = section.optional("hsts");
    let has_subdomains = section.optional("hsts_subdomains").and_then(|item| item.flag(&mut c.f)).unwrap_or(true);
    let age = match age {
        Some(item) if item.is_text() && item.text(&mut c.f) == Some("off") => return None,
        Some(item) => {
            let age = item.duration(&mut c.f, S..=DAY * 3650)?;
            if age < HSTS_MIN {
                let hint = "Nextcloud's set-up check wants 180d at least; browsers remember it for this long.";
                item.warning(&mut c.f, "this is too short to satisfy Nextcloud", hint);
            }
            age
        }
        None => DAY * 730,
    };
    Some(format!("max-age={}{}", age.as_secs(), if has_subdomains { "; includeSubDomains" } else { "" }))
}

/// One `[[pool]]`; its name, and where it stands.
fn pool<'a>(c: &mut Context, mut section: Section<'a>, web: &mut Web<'a>) -> Option<(Item<'a>, String)> {
    let item = section.required(&mut c.f, "name", "Write name = \"wiki\".");
    let name = item.as_ref().and_then(|item| pool_name(c, item, &web.pools));
    let defaults = Defaults {
        port: 80,
        max_requests_per_server: 64,
        response: 60 * S,
        idle: 60 * S,
        tunnel: HOUR,
        keepalive: 4 * S,
        balance: Balance::Load,
        upgrading_servers: None,
        kind: PoolKind::Other,
        check: CheckKind::HttpAlive { path: "/".to_owned(), host: "localhost".to_owned() },
    };
    add_pool(c, &mut section, web, name.clone().unwrap_or_default(), defaults);
    section.finish(&mut c.f);
    item.zip(name)
}

fn pool_name(c: &mut Context, item: &Item, before: &[Pool]) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if !names::is_given_name(name) {
        let hint = "Use 1 to 63 letters, digits, hyphens, dots and underscores, a letter or digit first.";
        item.error(&mut c.f, format!("{name:?} is no pool name"), hint);
        return None;
    }
    if services::is_taken(name) {
        let hint = "[nextcloud] makes the pool web, and [push] and its like one of their names; take another.";
        item.error(&mut c.f, format!("the name {name} is taken"), hint);
    } else if before.iter().any(|pool| pool.name == name) {
        item.error(&mut c.f, format!("two pools are named {name}"), "");
    }
    Some(name.to_owned())
}

/// Reads the keys that every pool has; its index.
pub(super) fn add_pool<'a>(
    c: &mut Context,
    section: &mut Section<'a>,
    web: &mut Web<'a>,
    name: String,
    defaults: Defaults,
) -> usize {
    let hint = format!("Write servers = [\"10.0.0.21:{0}\", \"10.0.0.22:{0}\"].", defaults.port);
    let list = section.required(&mut c.f, "servers", &hint);
    let servers = list.map(|list| servers(c, &list, &hint, defaults.port, web)).unwrap_or_default();
    let f = &mut c.f;
    let max = defaults.max_requests_per_server;
    let max_requests_per_server = section.count(f, "max_requests_per_server", 1..=1_000_000, max);
    let connect_timeout = section.duration(f, "connect_timeout", 10 * MS..=60 * S, 5 * S);
    let response_timeout = section.duration(f, "response_timeout", S..=DAY, defaults.response);
    let idle_timeout = section.duration(f, "idle_timeout", S..=DAY, defaults.idle);
    let tunnel_timeout = section.duration(f, "tunnel_timeout", S..=DAY, defaults.tunnel);
    let keepalive = section.duration(f, "keepalive", Duration::ZERO..=HOUR, defaults.keepalive);
    let queue_timeout = section.duration(f, "queue_timeout", Duration::ZERO..=HOUR, 30 * S);
    let send_proxy = section.optional("send_proxy").and_then(|item| item.choice(f, &PROXY_VERSIONS));
    let queue_max = section.count(f, "max_queue", 0..=1_000_000, 1024);
    let upgrades = defaults.upgrading_servers.unwrap_or(servers.len()).max(1) * UPGRADES_PER_SERVER;
    let upgrades = u32::try_from(upgrades).unwrap_or(u32::MAX);
    let upgrades_per_second = section.count(f, "upgrades_per_second", 1..=1_000_000, upgrades);
    let check = section.optional("check").and_then(|item| item.section(&mut c.f));
    let check = check_of(c, check, defaults.check);
    web.pools.push(Pool {
        name,
        servers,
        check,
        max_requests_per_server,
        connect_timeout,
        response_timeout,
        idle_timeout,
        tunnel_timeout,
        keepalive,
        queue_timeout,
        send_proxy,
        queue_max,
        balance: defaults.balance,
        upgrades_per_second,
        kind: defaults.kind,
    });
    web.pools.len() - 1
}

fn servers<'a>(c: &mut Context, list: &Item<'a>, hint: &str, port: u16, web: &mut Web<'a>) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for item in list.filled_list(&mut c.f, hint) {
        let Some(text) = item.text(&mut c.f) else { continue };
        if let Some(path) = text.strip_prefix("unix:") {
            let Some(place) = unix(c, &item, path) else { continue };
            if servers.iter().any(|other| other.place == place) {
                item.error(&mut c.f, format!("{place} is listed twice"), "");
                continue;
            }
            servers.push(Server { name: text.to_owned(), place });
            continue;
        }
        let Some(place) = place(c, &item, text, port, &servers) else { continue };
        web.servers.extend(place.ip().map(|address| (item, address)));
        servers.push(Server { name: text.to_owned(), place });
    }
    if servers.len() > SERVERS_MAX {
        list.error(&mut c.f, format!("there are more than {SERVERS_MAX} servers"), "");
    }
    servers
}

/// An address or a name that is not among the servers yet.
pub(super) fn place(c: &mut Context, item: &Item, text: &str, port: u16, before: &[Server]) -> Option<Place> {
    let place = match names::server(text, port) {
        Ok(place) => place,
        Err((message, hint)) => {
            item.error(&mut c.f, message, hint);
            return None;
        }
    };
    if let Some(ip) = place.ip().map(|address| address.ip())
        && (ip.is_unspecified() || ip.is_multicast())
    {
        item.error(&mut c.f, format!("{ip} is no address of a server"), "");
        return None;
    }
    if before.iter().any(|other| other.place == place) {
        item.error(&mut c.f, format!("{place} is listed twice"), "");
        return None;
    }
    Some(place)
}

/// `unix:/PATH`.
fn unix(c: &mut Context, item: &Item, path: &str) -> Option<Place> {
    if !path.starts_with('/') || path.ends_with('/') || path.len() > UNIX_PATH_BYTES_MAX || path.contains('\0') {
        let hint =
            format!("Write a whole path of at most {UNIX_PATH_BYTES_MAX} bytes: \"unix:/run/nextcloud/web.sock\".");
        item.error(&mut c.f, format!("{path:?} is no path of a Unix socket"), hint);
        return None;
    }
    Some(Place::Unix(Path::new(path).into()))
}

fn check_of(c: &mut Context, section: Option<Section>, default: CheckKind) -> Check {
    let mut check = Check { kind: default, interval: 2 * S, timeout: 5 * S, rise: 2, fall: 3 };
    let Some(mut section) = section else { return check };
    let host = section.optional("host");
    let host_name = host.as_ref().and_then(|item| host_of(c, item));
    let path = section.optional("path");
    let path_text = path.as_ref().and_then(|item| path_of(c, item));
    let kind = section.optional("kind").and_then(|item| item.choice(&mut c.f, &KINDS));
    let (default_path, default_host) = match &check.kind {
        CheckKind::NextcloudStatus { host } => ("/".to_owned(), host.clone()),
        CheckKind::HttpAlive { path, host } => (path.clone(), host.clone()),
        CheckKind::Tcp => ("/".to_owned(), "localhost".to_owned()),
    };
    let kind = kind.unwrap_or(match &check.kind {
        CheckKind::NextcloudStatus { .. } => Kind::Nextcloud,
        CheckKind::HttpAlive { .. } => Kind::Http,
        CheckKind::Tcp => Kind::Tcp,
    });
    let useless: &[Option<Item>] = match kind {
        Kind::Nextcloud => &[path],
        Kind::Http => &[],
        Kind::Tcp => &[host, path],
    };
    for item in useless.iter().flatten() {
        item.error(&mut c.f, "this kind of check does not use it", "Remove it, or write kind = \"http\".");
    }
    let host = host_name.unwrap_or(default_host);
    check.kind = match kind {
        Kind::Nextcloud => CheckKind::NextcloudStatus { host },
        Kind::Http => CheckKind::HttpAlive { path: path_text.unwrap_or(default_path), host },
        Kind::Tcp => CheckKind::Tcp,
    };
    check.interval = section.duration(&mut c.f, "interval", 100 * MS..=HOUR, check.interval);
    check.timeout = section.duration(&mut c.f, "timeout", 10 * MS..=60 * S, check.timeout);
    check.rise = section.count(&mut c.f, "rise", 1..=100, check.rise);
    check.fall = section.count(&mut c.f, "fall", 1..=100, check.fall);
    section.finish(&mut c.f);
    check
}

/// One `[[route]]`.
fn route(c: &mut Context, mut section: Section, web: &mut Web) {
    let typed_hosts = section.optional("hosts");
    let hosts = typed_hosts.map(|item| hosts(c, &item, "Remove the line to serve any host.")).unwrap_or_default();
    let path_item = section.optional("path");
    let path = match &path_item {
        Some(item) => path_of(c, item),
        None => Some("/".to_owned()),
    };
    let pool_item = section.required(&mut c.f, "pool", "Write pool = \"NAME\" of a [[pool]], or web or push.");
    let pool = pool_item.and_then(|item| pool_named(c, &item, &web.pools));
    let place = section.place.clone();
    section.finish(&mut c.f);
    let (Some(path), Some(pool)) = (path, pool) else { return };
    for other in web.routes.iter().filter(|other| other.path == path) {
        let same =
            if hosts.is_empty() { other.hosts.is_empty().then_some("any host") } else { shared(&hosts, &other.hosts) };
        if let Some(host) = same {
            let message = format!("{host} has a route for {path} already");
            let place = path_item.as_ref().map_or(&place, |item| &item.place);
            c.f.error(place, message, "Each path leads to one pool.");
        }
    }
    web.routes.push(Route { hosts, path, pool, prefix: Prefix::Kept });
}

fn pool_named(c: &mut Context, item: &Item, pools: &[Pool]) -> Option<usize> {
    let name = item.text(&mut c.f)?;
    let found = pools.iter().position(|pool| pool.name == name);
    if found.is_none() {
        let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).filter(|name| !name.is_empty()).collect();
        let hint = match crate::config::suggest::nearest(name, &names) {
            Some(meant) => format!("Did you mean {meant:?}?"),
            None if names.is_empty() => "Add a [[pool]] with this name.".to_owned(),
            None => format!("There is {}.", names.join(", ")),
        };
        item.error(&mut c.f, format!("there is no pool {name:?}"), hint);
    }
    found
}

fn shared<'t>(ours: &[String], theirs: &'t [String]) -> Option<&'t str> {
    theirs.iter().find(|host| ours.contains(host)).map(String::as_str)
}

/// Host names of a list; empty for `["*"]`, any host.
fn hosts(c: &mut Context, list: &Item, hint: &str) -> Vec<String> {
    let items = list.filled_list(&mut c.f, hint);
    let mut hosts: Vec<String> = Vec::new();
    let mut is_any = false;
    for item in &items {
        let Some(text) = item.text(&mut c.f) else { continue };
        if text == "*" {
            is_any = true;
            continue;
        }
        let Some(host) = host_of(c, item) else { continue };
        if hosts.contains(&host) {
            item.error(&mut c.f, format!("{host} is listed twice"), "");
            continue;
        }
        hosts.push(host);
    }
    if is_any && items.len() > 1 {
        list.error(&mut c.f, "\"*\" is any host, so the others say nothing", "Keep \"*\" or the names.");
    }
    hosts
}

fn host_of(c: &mut Context, item: &Item) -> Option<String> {
    match names::host(item.text(&mut c.f)?) {
        Ok(host) => Some(host),
        Err((message, hint)) => {
            item.error(&mut c.f, message, hint);
            None
        }
    }
}

/// The raw form that requests are compared with: nothing is decoded.
fn path_of(c: &mut Context, item: &Item) -> Option<String> {
    let text = item.text(&mut c.f)?;
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b);
    if !text.starts_with('/') {
        item.error(&mut c.f, format!("{text:?} does not start with /"), "");
        return None;
    }
    if !text.bytes().all(is_plain) {
        let hint = "Write the path as it stands in the request line, encoded, without query.";
        item.error(&mut c.f, format!("{text:?} is no path"), hint);
        return None;
    }
    Some(text.to_owned())
}

/// Who may say for whom it speaks.
fn trust(c: &mut Context, section: &mut Section, trust: &mut Trust) {
    let item = section.optional("trusted_proxies");
    let typed = section.optional("cloudflare_networks");
    let cloudflare = match &typed {
        Some(item) => networks(c, item, &[]).0,
        None => cloudflare::networks(),
    };
    let (proxies, has_cloudflare) = item.map(|item| networks(c, &item, &cloudflare)).unwrap_or_default();
    trust.proxies = proxies;
    if has_cloudflare {
        trust.cloudflare = cloudflare;
    } else if let Some(typed) = typed {
        let hint = "Write trusted_proxies = [\"cloudflare\"] too, or remove it.";
        typed.error(&mut c.f, "\"cloudflare\" is not among the trusted proxies", hint);
    }
}

/// Addresses and networks of peers; the name "cloudflare", if it may be used, stands for `cloudflare`. Whether it was.
pub(super) fn networks(c: &mut Context, list: &Item, cloudflare: &[IpNet]) -> (Vec<IpNet>, bool) {
    let (mut proxies, mut has_cloudflare) = (Vec::new(), false);
    for item in list.list(&mut c.f) {
        let Some(text) = item.text(&mut c.f) else { continue };
        if text == CLOUDFLARE && !cloudflare.is_empty() {
            proxies.extend_from_slice(cloudflare);
            has_cloudflare = true;
        } else if let Ok(network) = text.parse::<IpNet>() {
            if network.trunc() != network {
                let hint =
                    format!("Write \"{}\" for the network or \"{}\" for the host.", network.trunc(), network.addr());
                item.error(&mut c.f, format!("{text} has address bits beyond its prefix length"), hint);
            }
            if network.prefix_len() == 0 {
                let hint = "Anyone could then claim any client address. Name your proxies.";
                item.error(&mut c.f, format!("{text} trusts everybody"), hint);
            }
            proxies.push(network);
        } else if let Ok(address) = text.parse() {
            proxies.push(IpNet::from(std::net::IpAddr::to_canonical(&address)));
        } else {
            let name = if cloudflare.is_empty() { "" } else { ", or \"cloudflare\"" };
            let hint = format!("Write addresses, networks as \"10.0.0.0/8\"{name}.");
            item.error(&mut c.f, format!("{text:?} is no address or network"), hint);
        }
    }
    (proxies, has_cloudflare)
}
