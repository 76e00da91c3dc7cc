//! `[[tcp]]`: services whose bytes are passed on as they are.

use super::{Context, files, web};
use crate::config::file::{Item, Section};
use crate::config::names;
use crate::config::settings::tcp::{Check, CheckKind, CheckTls, Mode, ProxyVersion, Service};
use crate::config::settings::{Listener, Place, Pool, Secret, Server};
use ipnet::IpNet;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// As many as pools may have servers.
const SERVERS_MAX: usize = 256;
/// Listening addresses times cores is descriptors passed at once.
const ADDRESSES_MAX: usize = 64;

const S: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

const MODES: [(&str, Mode); 4] = [
    ("least-connections", Mode::LeastConnections),
    ("source", Mode::Source),
    ("first", Mode::First),
    ("single-writer", Mode::SingleWriter),
];

const PROXY_VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

#[derive(Clone, Copy)]
enum Kind {
    Connect,
    Galera,
}

const KINDS: [(&str, Kind); 2] = [("tcp", Kind::Connect), ("galera", Kind::Galera)];

const SERVERS_HINT: &str = "Write servers = [\"10.0.0.31:3306\", \"10.0.0.32:3306\"].";
const LISTEN_HINT: &str = "Write listen = \"192.0.2.10:3306\".";

pub(super) fn read(c: &mut Context, sections: Vec<Section>, listeners: &[Listener], pools: &[Pool]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for section in sections {
        let service = service(c, section, listeners, pools, &services);
        services.push(service);
    }
    let addresses: usize = services.iter().map(|service| service.listen.len()).sum();
    if addresses > ADDRESSES_MAX {
        let place = crate::config::findings::Place { key: "tcp".to_owned(), span: 0..0 };
        c.f.error(&place, format!("the services listen on more than {ADDRESSES_MAX} addresses"), "");
    }
    services
}

fn service(
    c: &mut Context,
    mut section: Section,
    listeners: &[Listener],
    pools: &[Pool],
    before: &[Service],
) -> Service {
    let name = section.required(&mut c.f, "name", "Write name = \"galera\".");
    let name = name.and_then(|item| name_of(c, &item, pools, before)).unwrap_or_default();
    let listen = section.required(&mut c.f, "listen", LISTEN_HINT);
    let listen = listen.map(|item| addresses(c, &item, listeners, before)).unwrap_or_default();
    let typed_servers = section.required(&mut c.f, "servers", SERVERS_HINT);
    let servers = typed_servers.as_ref().map(|item| servers_of(c, item, &listen)).unwrap_or_default();
    let check = section.optional("check").and_then(|item| item.section(&mut c.f));
    let check = check_of(c, check);
    let usual = match check.kind {
        CheckKind::Galera { .. } => Mode::SingleWriter,
        CheckKind::Connect => Mode::LeastConnections,
    };
    let mode = section.choice(&mut c.f, "mode", &MODES, usual);
    let named = servers.iter().find(|server| matches!(server.place, Place::Name { .. }));
    if let (Some(item), Some(server), Mode::SingleWriter) = (&typed_servers, named, mode) {
        // Sessions stay where a name led when they began, and it may lead to several machines at once.
        let hint = "One server writes, and a name can lead to another one any time; write its address.";
        item.error(&mut c.f, format!("{} is a name, which a single writer cannot have", server.name), hint);
    }
    let connect_timeout = section.duration(&mut c.f, "connect_timeout", 10 * MS..=60 * S, 5 * S);
    let idle_timeout = section.optional("idle_timeout").and_then(|item| idle(c, &item));
    let proxy_protocol = section.optional("proxy_protocol").and_then(|item| proxy(c, &item));
    let max_connections_per_server = section.count(&mut c.f, "max_connections_per_server", 1..=1_000_000, 1_000_000);
    let allow = section.optional("allow").map(|item| networks(c, &item)).unwrap_or_default();
    section.finish(&mut c.f);
    Service {
        name,
        listen,
        servers,
        mode,
        check,
        connect_timeout,
        idle_timeout,
        proxy_protocol,
        max_connections_per_server,
        allow,
    }
}

fn name_of(c: &mut Context, item: &Item, pools: &[Pool], before: &[Service]) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if !names::is_given_name(name) {
        let hint = "Use 1 to 63 letters, digits, hyphens, dots and underscores, a letter or digit first.";
        item.error(&mut c.f, format!("{name:?} is no name of a service"), hint);
        return None;
    }
    if before.iter().any(|service| service.name == name) {
        item.error(&mut c.f, format!("two services are named {name}"), "");
    } else if ["web", "push"].contains(&name) || pools.iter().any(|pool| pool.name == name) {
        item.error(&mut c.f, format!("a pool is named {name} already"), "Trackers and metrics could not tell them.");
    }
    Some(name.to_owned())
}

/// One address, or a list of them.
fn addresses(c: &mut Context, item: &Item, listeners: &[Listener], before: &[Service]) -> Vec<SocketAddr> {
    let items = if item.is_list() { item.filled_list(&mut c.f, LISTEN_HINT) } else { vec![item.clone()] };
    let mut found: Vec<SocketAddr> = Vec::new();
    for item in items {
        let Some(address) = address(c, &item) else { continue };
        let is_taken = listeners.iter().any(|listener| listener.address == address)
            || before.iter().any(|service| service.listen.contains(&address))
            || found.contains(&address);
        if is_taken {
            item.error(&mut c.f, format!("something listens on {address} already"), "");
            continue;
        }
        found.push(address);
    }
    found
}

fn address(c: &mut Context, item: &Item) -> Option<SocketAddr> {
    let text = item.text(&mut c.f)?;
    let wrong = match names::endpoint(text, 3306) {
        Err(wrong) => wrong,
        Ok(address) if address.ip().is_multicast() => {
            (format!("{} is a multicast address", address.ip()), String::new())
        }
        Ok(address) => match address.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
                let hint = format!("Write \"{}\".", SocketAddr::new(ip.to_canonical(), address.port()));
                (format!("{ip} is an IPv4 address in IPv6 form"), hint)
            }
            _ => return Some(address),
        },
    };
    item.error(&mut c.f, wrong.0, wrong.1);
    None
}

fn servers_of(c: &mut Context, list: &Item, listen: &[SocketAddr]) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::new();
    for item in list.filled_list(&mut c.f, SERVERS_HINT) {
        let Some(text) = item.text(&mut c.f) else { continue };
        let Some(place) = web::place(c, &item, text, 3306, &servers) else { continue };
        if let Some(address) = place.ip() {
            check_loop(c, &item, address, listen);
        }
        servers.push(Server { name: text.to_owned(), place });
    }
    if servers.len() > SERVERS_MAX {
        list.error(&mut c.f, format!("there are more than {SERVERS_MAX} servers"), "");
    }
    servers
}

/// A server that is the service itself would be connected to by us, connect to us, and so on.
fn check_loop(c: &mut Context, item: &Item, server: SocketAddr, listen: &[SocketAddr]) {
    let is_ours = c.host.interfaces().iter().flat_map(|i| &i.addresses).any(|own| own.addr() == server.ip());
    let is_met = |listen: &&SocketAddr| {
        let any = listen.ip().is_unspecified() && listen.is_ipv4() == server.is_ipv4();
        listen.port() == server.port() && (listen.ip() == server.ip() || any && is_ours)
    };
    if let Some(listen) = listen.iter().find(is_met) {
        let hint = "Connections would go round in a circle; name the server itself.";
        item.error(&mut c.f, format!("{server} is this service's own address {listen}"), hint);
    }
}

/// Keys of a check that logs in.
const GALERA_KEYS: [&str; 7] =
    ["user", "password_file", "password_env", "tls", "ca_file", "tls_name", "skip_certificate_check"];

fn check_of(c: &mut Context, section: Option<Section>) -> Check {
    let mut check = Check { kind: CheckKind::Connect, interval: 2 * S, timeout: 5 * S, rise: 2, fall: 3 };
    let Some(mut section) = section else { return check };
    let kind = section.choice(&mut c.f, "kind", &KINDS, Kind::Connect);
    let has_account = GALERA_KEYS.iter().any(|key| section.has(key));
    match kind {
        Kind::Connect => {
            if has_account {
                let place = section.place.clone();
                c.f.error(&place, "only kind = \"galera\" logs in", "Write kind = \"galera\", or remove the account.");
            }
            // Said above, and known.
            let _ = GALERA_KEYS.map(|key| section.optional(key));
        }
        Kind::Galera => {
            check = Check { kind: galera(c, &mut section), interval: S, timeout: 2 * S, rise: 3, fall: 2 };
        }
    }
    check.interval = section.duration(&mut c.f, "interval", 100 * MS..=HOUR, check.interval);
    check.timeout = section.duration(&mut c.f, "timeout", 10 * MS..=60 * S, check.timeout);
    check.rise = section.count(&mut c.f, "rise", 1..=100, check.rise);
    check.fall = section.count(&mut c.f, "fall", 1..=100, check.fall);
    section.finish(&mut c.f);
    check
}

/// The account of the check.
fn galera(c: &mut Context, section: &mut Section) -> CheckKind {
    let hint = "Write user = \"lyre\" of an account without grants: CREATE USER 'lyre'@'%' IDENTIFIED BY '...'.";
    let user = section.required(&mut c.f, "user", hint);
    let user = user.and_then(|item| item.text(&mut c.f).map(|text| (item.clone(), text.to_owned())));
    if let Some((item, _)) = user.as_ref().filter(|(_, user)| user.len() > 128 || user.contains('\0')) {
        item.error(&mut c.f, "is no name of an account", "");
    }
    let password = password(c, section).unwrap_or_else(|| Secret([].into()));
    let tls = tls(c, section);
    CheckKind::Galera { user: user.map(|(_, user)| user).unwrap_or_default(), password, tls }
}

/// `tls = true` with `ca_file`, or with the word that nobody is to be checked.
fn tls(c: &mut Context, section: &mut Section) -> Option<CheckTls> {
    let wish = section.optional("tls");
    let is_wanted = wish.as_ref().and_then(|item| item.flag(&mut c.f)).unwrap_or_default();
    let (file, name) = (section.optional("ca_file"), section.optional("tls_name"));
    let skip = section.optional("skip_certificate_check");
    let is_skipped = skip.as_ref().and_then(|item| item.flag(&mut c.f)).unwrap_or_default();
    let Some(wish) = wish.filter(|_| is_wanted) else {
        for item in [file, name, skip].into_iter().flatten() {
            item.error(&mut c.f, "without tls there is no certificate", "Write tls = true beside it.");
        }
        return None;
    };
    let roots = match (file, skip) {
        (Some(_), Some(item)) if is_skipped => {
            item.error(&mut c.f, "there is a ca_file too", "Keep one of the two.");
            None
        }
        (Some(item), _) => {
            let (path, file) = files::content(c, &item)?;
            if !CertificateDer::pem_slice_iter(&file.bytes).any(|certificate| certificate.is_ok()) {
                item.error(&mut c.f, format!("{} holds no PEM certificate", path.display()), "");
            }
            Some(file.bytes.into())
        }
        (None, _) if is_skipped => None,
        (None, _) => {
            let hint = "Write ca_file = \"galera-ca.pem\", or skip_certificate_check = true where the path is yours.";
            wish.error(&mut c.f, "nothing says whose certificate is to be believed", hint);
            None
        }
    };
    let name = name.and_then(|item| {
        let name = item.text(&mut c.f)?;
        let found = ServerName::try_from(name.to_owned());
        if found.is_err() {
            item.error(
                &mut c.f,
                format!("{name:?} is no name for a certificate"),
                "Write tls_name = \"db.example.com\".",
            );
        }
        found.ok()
    });
    Some(CheckTls { roots, name })
}

/// None is an account without password.
fn password(c: &mut Context, section: &mut Section) -> Option<Secret> {
    match (section.optional("password_file"), section.optional("password_env")) {
        (Some(item), None) => {
            let typed = Path::new(item.text(&mut c.f)?);
            let path = c.base.join(typed);
            let (_, file) = files::content(c, &item)?;
            files::warn_if_public(c, &item, &path, &file);
            Some(Secret(file.bytes.trim_ascii().into()))
        }
        (None, Some(item)) => {
            let name = item.text(&mut c.f)?;
            let value = c.host.variable(name);
            if value.is_none() {
                item.error(&mut c.f, format!("the environment has no variable {name}"), "");
            }
            value.map(|value| Secret(value.trim().as_bytes().into()))
        }
        (Some(_), Some(item)) => {
            item.error(&mut c.f, "there is a password_file too", "Keep one of the two.");
            None
        }
        (None, None) => None,
    }
}

/// A duration, or false for none.
fn idle(c: &mut Context, item: &Item) -> Option<Duration> {
    if item.is_flag() {
        if item.flag(&mut c.f) == Some(true) {
            item.error(&mut c.f, "true is no duration", "Write false, or a duration as \"8h\".");
        }
        return None;
    }
    item.duration(&mut c.f, S..=240 * HOUR)
}

fn proxy(c: &mut Context, item: &Item) -> Option<ProxyVersion> {
    if item.is_flag() {
        if item.flag(&mut c.f) == Some(true) {
            item.error(&mut c.f, "true names no version", "Write \"v2\", or \"v1\".");
        }
        return None;
    }
    item.choice(&mut c.f, &PROXY_VERSIONS)
}

fn networks(c: &mut Context, list: &Item) -> Vec<IpNet> {
    let mut found = Vec::new();
    for item in list.filled_list(&mut c.f, "Remove the line to let everybody connect.") {
        let Some(text) = item.text(&mut c.f) else { continue };
        if let Ok(network) = text.parse::<IpNet>() {
            if network.trunc() != network {
                let hint =
                    format!("Write \"{}\" for the network or \"{}\" for the host.", network.trunc(), network.addr());
                item.error(&mut c.f, format!("{text} has address bits beyond its prefix length"), hint);
            }
            found.push(network);
        } else if let Ok(address) = text.parse::<IpAddr>() {
            found.push(IpNet::from(address.to_canonical()));
        } else {
            item.error(&mut c.f, format!("{text:?} is no address or network"), "Write \"10.0.0.0/24\".");
        }
    }
    found
}
