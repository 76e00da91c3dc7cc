//! `[[track]]`: what a node must be able to do to hold the addresses.

use super::{Context, files, vips, worker};
use crate::config::file::{Item, Section};
use crate::config::findings::Place;
use crate::config::names;
use crate::config::settings::VirtualRouter;
use crate::config::settings::track::{
    Command, Effect, FileMode, HttpCheck, ProcessMatch, TlsCheck, TlsTrust, Tracker, TrackerKind,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Each may be a process of its own every second.
const TRACKERS_MAX: usize = 64;

/// The tracker that is there without being written.
const BUILT_IN: &str = "proxy";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Link,
    Proxy,
    BackendPool,
    Gateway,
    Http,
    Script,
    Process,
    File,
}

const KINDS: [(&str, Kind); 8] = [
    ("link", Kind::Link),
    ("proxy", Kind::Proxy),
    ("backend_pool", Kind::BackendPool),
    ("gateway", Kind::Gateway),
    ("http", Kind::Http),
    ("script", Kind::Script),
    ("process", Kind::Process),
    ("file", Kind::File),
];

/// `serves`: this node is a proxy at all.
pub(super) fn read(
    c: &mut Context,
    sections: Vec<Section>,
    routers: &[VirtualRouter],
    pools: &[(String, usize)],
    serves: bool,
) -> Vec<Tracker> {
    let mut trackers: Vec<Tracker> = Vec::new();
    // Routers whose `proxy` tracker is written out, be it turned off.
    let mut spoken_for: Vec<String> = Vec::new();
    for (index, section) in sections.into_iter().enumerate() {
        let place = section.place.clone();
        if index == TRACKERS_MAX {
            c.f.error(&place, format!("there are more than {TRACKERS_MAX} trackers"), "");
        }
        let Some((tracker, is_enabled)) = tracker(c, section, routers, pools, &trackers) else { continue };
        if tracker.kind == TrackerKind::Proxy {
            if let Some(twice) = tracker.routers.iter().find(|router| spoken_for.contains(router)) {
                let message = format!("another tracker of kind proxy speaks about {twice} already");
                c.f.error(&place, message, "Limit each of them with vips.");
            }
            spoken_for.extend(tracker.routers.iter().cloned());
        }
        if is_enabled {
            trackers.push(tracker);
        }
    }
    let rest: Vec<String> =
        routers.iter().map(|router| router.name.clone()).filter(|name| !spoken_for.contains(name)).collect();
    if serves && !rest.is_empty() {
        trackers.insert(0, built_in(rest, &trackers));
    }
    trackers
}

fn built_in(routers: Vec<String>, others: &[Tracker]) -> Tracker {
    let is_taken = others.iter().any(|other| other.name == BUILT_IN);
    let name = if is_taken { format!("{BUILT_IN}-built-in") } else { BUILT_IN.to_owned() };
    Tracker {
        name,
        kind: TrackerKind::Proxy,
        routers,
        effect: Effect::Fault,
        is_inverted: false,
        rise: 1,
        fall: 1,
        interval: S,
        timeout: S,
        up_delay: Duration::ZERO,
        down_delay: Duration::ZERO,
    }
}

fn tracker(
    c: &mut Context,
    mut section: Section,
    routers: &[VirtualRouter],
    pools: &[(String, usize)],
    before: &[Tracker],
) -> Option<(Tracker, bool)> {
    let name = section.required(&mut c.f, "name", "Write name = \"uplink\".");
    let kind = section.required(&mut c.f, "kind", "Write kind = \"gateway\", or another of docs/configuration.md.");
    let typed_kind = kind.and_then(|item| item.choice(&mut c.f, &KINDS));
    let routers = vips::read(c, &mut section, routers);
    let effect = section.optional("weight").and_then(|item| weight(c, &item)).map_or(Effect::Fault, Effect::Weight);
    let is_inverted = section.optional("invert").and_then(|item| item.flag(&mut c.f)).unwrap_or(false);
    let is_enabled = section.optional("enabled").and_then(|item| item.flag(&mut c.f)).unwrap_or(true);
    // Without a kind nobody knows which keys there may be.
    let kind = typed_kind?;
    let times = times(c, &mut section, kind);
    let kind = match kind {
        Kind::Link => link(c, &mut section),
        Kind::Proxy => proxy(c, &section.place.clone(), is_inverted),
        Kind::BackendPool => backend_pool(c, &mut section, pools),
        Kind::Gateway => gateway(c, &mut section),
        Kind::Http => http(c, &mut section).map(TrackerKind::Http),
        Kind::Script => script(c, &mut section),
        Kind::Process => process(c, &mut section),
        Kind::File => file(c, &mut section),
    };
    section.finish(&mut c.f);
    let name = name.and_then(|item| tracker_name(c, &item, before));
    let Times { rise, fall, interval, timeout, up_delay, down_delay } = times;
    let tracker = Tracker {
        name: name?,
        kind: kind?,
        routers,
        effect,
        is_inverted,
        rise,
        fall,
        interval,
        timeout,
        up_delay,
        down_delay,
    };
    Some((tracker, is_enabled))
}

fn tracker_name(c: &mut Context, item: &Item, before: &[Tracker]) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if !names::is_given_name(name) {
        let hint = "Use 1 to 63 letters, digits, hyphens, dots and underscores, a letter or digit first.";
        item.error(&mut c.f, format!("{name:?} is no name"), hint);
        return None;
    }
    if before.iter().any(|other| other.name == name) {
        item.error(&mut c.f, format!("two trackers are named {name}"), "");
    }
    Some(name.to_owned())
}

fn weight(c: &mut Context, item: &Item) -> Option<i16> {
    let weight = item.integer(&mut c.f, -253..=253)?;
    if weight == 0 {
        item.error(&mut c.f, "0 would change nothing", "Remove the line: then a bad tracker is a fault.");
        return None;
    }
    i16::try_from(weight).ok()
}

struct Times {
    rise: u32,
    fall: u32,
    interval: Duration,
    timeout: Duration,
    up_delay: Duration,
    down_delay: Duration,
}

/// Polled kinds have counts, those that are told of changes have delays; the keys of the others are unknown.
fn times(c: &mut Context, section: &mut Section, kind: Kind) -> Times {
    let f = &mut c.f;
    let mut times =
        Times { rise: 1, fall: 1, interval: S, timeout: S, up_delay: Duration::ZERO, down_delay: Duration::ZERO };
    match kind {
        Kind::Proxy => {}
        Kind::Link | Kind::Process | Kind::File => {
            times.up_delay = section.duration(f, "up_delay", Duration::ZERO..=HOUR, Duration::ZERO);
            times.down_delay = section.duration(f, "down_delay", Duration::ZERO..=HOUR, Duration::ZERO);
        }
        Kind::BackendPool | Kind::Gateway | Kind::Http | Kind::Script => {
            let (rise, fall) = if matches!(kind, Kind::Gateway | Kind::Http) { (2, 3) } else { (1, 1) };
            let interval = if kind == Kind::BackendPool { 100 * MS } else { S };
            times.rise = section.count(f, "rise", 1..=255, rise);
            times.fall = section.count(f, "fall", 1..=255, fall);
            times.interval = section.duration(f, "interval", 50 * MS..=HOUR, interval);
            times.timeout = match kind {
                Kind::BackendPool => times.interval,
                _ => section.duration(f, "timeout", 10 * MS..=HOUR, times.interval),
            };
        }
    }
    times
}

fn proxy(c: &mut Context, place: &Place, is_inverted: bool) -> Option<TrackerKind> {
    if is_inverted {
        c.f.error(place, "a dead worker is never good", "Remove invert.");
    }
    Some(TrackerKind::Proxy)
}

fn link(c: &mut Context, section: &mut Section) -> Option<TrackerKind> {
    let item = section.required(&mut c.f, "interface", "Write interface = \"eth1\".")?;
    let interface = interface_name(c, &item)?;
    Some(TrackerKind::Link { interface })
}

/// IFNAMSIZ, and what ip(8) refuses.
fn interface_name(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if name.len() > 15 || name.contains(['/', ' ']) || name.chars().any(char::is_control) {
        item.error(&mut c.f, format!("{name:?} is no name of an interface"), "");
        return None;
    }
    Some(name.to_owned())
}

fn backend_pool(c: &mut Context, section: &mut Section, pools: &[(String, usize)]) -> Option<TrackerKind> {
    let item = section.required(&mut c.f, "pool", "Write pool = \"web\".");
    let min_item = section.optional("min");
    let min = min_item.as_ref().and_then(|item| item.whole(&mut c.f, 1..=1_000)).unwrap_or(1);
    let item = item?;
    let name = item.text(&mut c.f)?;
    let Some((_, servers)) = pools.iter().find(|(pool, _)| pool == name) else {
        let known: Vec<&str> = pools.iter().map(|(pool, _)| pool.as_str()).collect();
        let hint = if known.is_empty() { String::new() } else { format!("There is {}.", known.join(", ")) };
        item.error(&mut c.f, format!("there is no pool {name}"), hint);
        return None;
    };
    if let (Some(item), true) = (min_item, min > *servers as u64) {
        item.error(&mut c.f, format!("pool {name} has {servers} servers only"), "");
    }
    Some(TrackerKind::BackendPool { pool: name.to_owned(), min: u32::try_from(min).unwrap_or(1) })
}

fn gateway(c: &mut Context, section: &mut Section) -> Option<TrackerKind> {
    let item = section.required(&mut c.f, "address", "Write address = \"192.0.2.1\", the router's.");
    let interface = section.optional("interface");
    let interface = interface.map(|item| interface_name(c, &item));
    let item = item?;
    let text = item.text(&mut c.f)?;
    let Ok(address) = text.parse::<IpAddr>() else {
        item.error(&mut c.f, format!("{text:?} is no IP address"), "Write address = \"192.0.2.1\", the router's.");
        return None;
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        item.error(&mut c.f, format!("{address} is no address of a gateway"), "");
        return None;
    }
    if let Some(typed) = interface {
        return Some(TrackerKind::Gateway { address, interface: typed? });
    }
    let holds = |own: &&ipnet::IpNet| own.contains(&address) && own.prefix_len() > 0;
    let found = c.host.interfaces().iter().find(|known| known.addresses.iter().any(|own| holds(&own)));
    match found.map(|known| known.name.clone()) {
        Some(interface) => Some(TrackerKind::Gateway { address, interface }),
        None => {
            let message = format!("no interface of this host is in a network with {address}");
            item.error(&mut c.f, message, "Correct it, or write interface = \"eth0\".");
            None
        }
    }
}

fn http(c: &mut Context, section: &mut Section) -> Option<HttpCheck> {
    let hint = "Write url = \"http://127.0.0.1:8080/health\".";
    let url = section.required(&mut c.f, "url", hint);
    let status = section.optional("status");
    let host = section.optional("host");
    let status = status.map_or(Some(200..=399), |item| status_range(c, &item));
    let host = host.map(|item| item.text(&mut c.f).map(str::to_owned));
    let item = url?;
    let text = item.text(&mut c.f)?;
    let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => {
            item.error(&mut c.f, format!("{text:?} is no http:// or https:// URL"), hint);
            return None;
        }
    };
    // Read only then, so that the keys are unknown where they would do nothing.
    let trust = if is_tls { Some(tls_trust(c, section)?) } else { None };
    let port = if is_tls { 443 } else { 80 };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let with_port =
        if authority.parse::<SocketAddr>().is_ok() { authority.to_owned() } else { format!("{authority}:{port}") };
    let address = match names::endpoint(&with_port, port) {
        Ok(address) => address,
        Err((message, hint)) => {
            item.error(&mut c.f, message, hint);
            return None;
        }
    };
    let host = host.unwrap_or_else(|| Some(authority.to_owned()))?;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain(path) || !is_plain(&host) {
        item.error(&mut c.f, "has white space, or letters outside ASCII", "Percent-encode them.");
        return None;
    }
    let tls = match trust {
        Some(trust) => Some(tls(c, trust, &item, &host, address)?),
        None => None,
    };
    Some(HttpCheck { address, path: path.to_owned(), host, status: status?, tls })
}

/// `ca_file` or `skip_certificate_check`; the system's roots without either.
fn tls_trust(c: &mut Context, section: &mut Section) -> Option<TlsTrust> {
    let file = section.optional("ca_file");
    let skip = section.optional("skip_certificate_check");
    let is_skipped = skip.as_ref().and_then(|item| item.flag(&mut c.f)).unwrap_or_default();
    match (file, skip) {
        (Some(_), Some(item)) if is_skipped => {
            item.error(&mut c.f, "there is a ca_file too", "Keep one of the two.");
            None
        }
        (Some(item), _) => {
            let (path, file) = files::content(c, &item)?;
            if CertificateDer::pem_slice_iter(&file.bytes).any(|certificate| certificate.is_ok()) {
                return Some(TlsTrust::Roots(file.bytes));
            }
            item.error(&mut c.f, format!("{} holds no PEM certificate", path.display()), "");
            None
        }
        (None, _) if is_skipped => Some(TlsTrust::Nobody),
        (None, _) => Some(TlsTrust::System),
    }
}

fn tls(c: &mut Context, trust: TlsTrust, item: &Item, host: &str, address: SocketAddr) -> Option<TlsCheck> {
    let name = host.parse::<SocketAddr>().map(|address| address.ip().to_string());
    let name = name.unwrap_or_else(|_| host.split(':').next().unwrap_or(host).to_owned());
    // `host` is the address itself where none is written, IPv6 in brackets.
    let name = if host.starts_with('[') { address.ip().to_string() } else { name };
    match ServerName::try_from(name) {
        Ok(name) => Some(TlsCheck { name, trust }),
        Err(_) => {
            item.error(
                &mut c.f,
                format!("{host:?} is no name for a certificate"),
                "Write host = \"cloud.example.com\".",
            );
            None
        }
    }
}

/// `"200"` or `"200-399"`
fn status_range(c: &mut Context, item: &Item) -> Option<RangeInclusive<u16>> {
    let text = item.text(&mut c.f)?;
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Some(low..=high),
        _ => {
            item.error(&mut c.f, format!("{text:?} is no range of HTTP statuses"), "Write status = \"200-399\".");
            None
        }
    }
}

fn script(c: &mut Context, section: &mut Section) -> Option<TrackerKind> {
    let item = section.required(&mut c.f, "command", "Write command = \"/usr/local/bin/check.sh\".");
    let user = section.optional("user").and_then(|item| worker::user(c, &item));
    let command = item.and_then(|item| command(c, &item))?;
    Some(TrackerKind::Script { command, user })
}

/// A path, or a list of path and arguments.
pub(super) fn command(c: &mut Context, item: &Item) -> Option<Command> {
    let mut words = match item.is_text() {
        true => vec![item.text(&mut c.f)?.to_owned()],
        false => {
            let list = item.filled_list(&mut c.f, "Write command = [\"/usr/local/bin/check.sh\", \"argument\"].");
            list.iter().map(|item| item.any_text(&mut c.f).map(str::to_owned)).collect::<Option<Vec<_>>>()?
        }
    };
    if words.iter().any(|word| word.contains('\0')) {
        item.error(&mut c.f, "has a zero byte", "");
        return None;
    }
    if words.is_empty() {
        return None;
    }
    let program = words.remove(0);
    if !program.contains('/') {
        item.error(
            &mut c.f,
            format!("{program:?} is no path"),
            format!("Write \"/usr/bin/{program}\"; PATH is not searched."),
        );
        return None;
    }
    if item.is_text() && program.contains(' ') {
        let list: Vec<String> = program.split_whitespace().map(|word| format!("{word:?}")).collect();
        let hint = format!("There is no shell: write [{}] if these are arguments.", list.join(", "));
        item.warning(&mut c.f, "the path has white space", hint);
    }
    Some(Command { program: absolute(c, &program), arguments: words })
}

/// Relative to the directory of lyre.toml.
pub(super) fn absolute(c: &Context, path: &str) -> std::path::PathBuf {
    let joined = c.base.join(path);
    std::path::absolute(&joined).unwrap_or_else(|_| Path::new("/").join(joined))
}

fn process(c: &mut Context, section: &mut Section) -> Option<TrackerKind> {
    let name = section.optional("process");
    let line = section.optional("command_line");
    let min = section.count(&mut c.f, "min", 1..=10_000, 1);
    let which = match (name, line) {
        (Some(item), None) => ProcessMatch::Name(item.text(&mut c.f)?.to_owned()),
        (None, Some(item)) => {
            let list = item.filled_list(&mut c.f, "Write command_line = [\"/usr/sbin/haproxy\", \"-f\", ...].");
            let words = list.iter().map(|item| item.any_text(&mut c.f).map(str::to_owned));
            ProcessMatch::CommandLine(words.collect::<Option<Vec<_>>>()?)
        }
        (Some(_), Some(item)) => {
            item.error(&mut c.f, "there is process too", "Keep one of the two.");
            return None;
        }
        (None, None) => {
            section.required(&mut c.f, "process", "Write process = \"haproxy\", or command_line.");
            return None;
        }
    };
    Some(TrackerKind::Process { which, min })
}

fn file(c: &mut Context, section: &mut Section) -> Option<TrackerKind> {
    let modes = [("number", FileMode::Number), ("exists", FileMode::Exists), ("absent", FileMode::Absent)];
    let item = section.required(&mut c.f, "path", "Write path = \"/run/lyre/maintenance\".");
    let mode = section.choice(&mut c.f, "mode", &modes, FileMode::Number);
    let item = item?;
    let path = item.text(&mut c.f)?;
    if path.ends_with('/') || path.contains('\0') {
        item.error(&mut c.f, format!("{path:?} is no file"), "");
        return None;
    }
    Some(TrackerKind::File { path: absolute(c, path), mode })
}
