//! `[limits]`, `[timeouts]`, `[dns]`, `[worker]`, `[admin]`, `[log]`. Reasons of the defaults are in docs/configuration.md.

use super::Context;
use crate::config::file::{Item, Section};
use crate::config::findings::{Findings, Place};
use crate::config::names;
use crate::config::settings::{
    AccessLog, Admin, Dns, DriverChoice, LeastRate, Limits, Log, LogFormat, Spool, Timeouts, Worker,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The page that worker and parent share has this many lines for cores.
const CORES_MAX: usize = 255;

/// `sun_path` holds 108 bytes with the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A lookup that nobody answers goes through all of them, twice.
const DNS_SERVERS_MAX: usize = 8;

/// Environment variable that overrules `log.level`.
const LOG_LEVEL: &str = "LYRE_LOG";

/// The table `name`, or an empty one: every key has a default.
fn section<'a>(c: &mut Context, root: &mut Section<'a>, name: &'static str) -> Section<'a> {
    let typed = root.optional(name).and_then(|item| item.section(&mut c.f));
    typed.unwrap_or_else(|| Section::absent(name))
}

pub(super) fn limits(c: &mut Context, root: &mut Section) -> Limits {
    let mut section = section(c, root, "limits");
    let f = &mut c.f;
    let head_bytes_max = section.size(f, "max_head", KIB..=MIB, 64 * KIB);
    let limits = Limits {
        max_connections: section.whole(f, "max_connections", 16..=1_000_000, 16_384) as usize,
        max_connections_per_client: section.whole(f, "max_connections_per_client", 1..=1_000_000, 1024) as usize,
        head_bytes_max,
        header_line_bytes_max: within_head(f, &mut section, "max_header_line", head_bytes_max),
        header_count_max: section.whole(f, "max_headers", 8..=1_000, 100) as usize,
        target_bytes_max: within_head(f, &mut section, "max_target", head_bytes_max),
        body_bytes_max: section.optional("max_body").and_then(|item| body_bytes_max(f, &item)),
        keepalive_requests_max: section.count(f, "max_keepalive_requests", 1..=100_000_000, 10_000),
        handshakes_max: section.whole(f, "max_handshakes", 1..=100_000, 64) as usize,
    };
    section.finish(f);
    limits
}

pub(super) fn timeouts(c: &mut Context, root: &mut Section) -> Timeouts {
    let mut section = section(c, root, "timeouts");
    let f = &mut c.f;
    let timeouts = Timeouts {
        head: section.duration(f, "head", S..=HOUR, 10 * S),
        handshake: section.duration(f, "handshake", S..=HOUR, 10 * S),
        keepalive: section.duration(f, "keepalive", S..=HOUR, 60 * S),
        client_idle: section.duration(f, "client_idle", S..=24 * HOUR, 60 * S),
        upload: least_rate(f, &mut section, ["upload_rate", "upload_window"], UPLOAD),
        download: least_rate(f, &mut section, ["download_rate", "download_window"], DOWNLOAD),
        drain: section.duration(f, "drain", Duration::ZERO..=24 * HOUR, 30 * S),
    };
    section.finish(f);
    timeouts
}

pub(super) fn dns(c: &mut Context, root: &mut Section) -> Dns {
    let mut section = section(c, root, "dns");
    let hint = "Write servers = [\"192.0.2.53\"], or remove it: /etc/resolv.conf names some.";
    let list = section.optional("servers").map(|item| item.filled_list(&mut c.f, hint)).unwrap_or_default();
    let mut servers = Vec::new();
    for item in list {
        let Some(text) = item.text(&mut c.f) else { continue };
        let address = match text.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, 53)),
            Err(_) => names::endpoint(text, 53),
        };
        match address {
            Ok(address) if address.ip().is_unspecified() || address.ip().is_multicast() => {
                item.error(&mut c.f, format!("{} is no address of a server", address.ip()), "");
            }
            Ok(address) if servers.contains(&address) => {
                item.error(&mut c.f, format!("{address} is listed twice"), "");
            }
            Ok(address) if servers.len() < DNS_SERVERS_MAX => servers.push(address),
            Ok(_) => item.error(&mut c.f, format!("there are more than {DNS_SERVERS_MAX} servers"), ""),
            Err((message, hint)) => item.error(&mut c.f, message, hint),
        }
    }
    section.finish(&mut c.f);
    Dns { servers }
}

pub(super) fn spool(c: &mut Context, root: &mut Section) -> Spool {
    let mut section = section(c, root, "spool");
    let typed = section.optional("directory").and_then(|item| item.text(&mut c.f)).map(|text| c.base.join(text));
    let bytes_max = section.size(&mut c.f, "size", MIB..=u64::MAX, 8 * GIB) as u64;
    let body = section.optional("max_body");
    let body_bytes_max = body.as_ref().and_then(|item| item.size(&mut c.f, 1..=u64::MAX));
    if let (Some(item), Some(bytes)) = (&body, body_bytes_max)
        && bytes > bytes_max
    {
        item.error(&mut c.f, "is more than size, the room of all bodies together", "Raise size too.");
    }
    section.finish(&mut c.f);
    Spool {
        // Everybody may make files there, and those without a name concern nobody else.
        directory: typed.unwrap_or_else(|| PathBuf::from("/var/tmp")),
        bytes_max,
        body_bytes_max: body_bytes_max.unwrap_or(bytes_max),
    }
}

pub(super) fn worker(c: &mut Context, root: &mut Section) -> Worker {
    let mut section = section(c, root, "worker");
    let cpus = c.host.cpus().clamp(1, CORES_MAX);
    let cores_item = section.optional("cores");
    let cores = cores_item.as_ref().and_then(|item| item.whole(&mut c.f, 1..=CORES_MAX as u64));
    let cores = cores.and_then(|cores| usize::try_from(cores).ok()).unwrap_or(cpus);
    if let (Some(item), true) = (cores_item, cores > cpus) {
        let message = format!("{cores} cores, but this process may use {cpus} CPUs");
        item.warning(&mut c.f, message, "Two executors on one CPU only take turns.");
    }
    let user = section.optional("user").and_then(|item| user(c, &item));
    let drivers = [("auto", DriverChoice::Auto), ("io_uring", DriverChoice::Ring), ("epoll", DriverChoice::Epoll)];
    let hang_range = 100 * MS..=60 * S;
    let worker = Worker {
        cores,
        user,
        hang_timeout: section.duration(&mut c.f, "hang_timeout", hang_range, 500 * MS),
        driver: section.choice(&mut c.f, "driver", &drivers, DriverChoice::Auto),
    };
    section.finish(&mut c.f);
    worker
}

pub(super) fn admin(c: &mut Context, root: &mut Section) -> Admin {
    let mut section = section(c, root, "admin");
    let item = section.optional("socket");
    section.finish(&mut c.f);
    let typed = item.as_ref().and_then(|item| item.text(&mut c.f)).map(|text| c.base.join(text));
    let socket = typed.unwrap_or_else(|| c.host.admin_socket());
    let bytes = socket.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let place = item.map_or(Place { key: "admin.socket".to_owned(), span: 0..0 }, |item| item.place);
        let message = format!("the path has {bytes} bytes; sockets allow {SOCKET_PATH_BYTES_MAX}");
        c.f.error(&place, message, "Write socket = \"/run/lyre/lyre.sock\".");
    }
    Admin { socket }
}

pub(super) fn log(c: &mut Context, root: &mut Section) -> Log {
    let mut section = section(c, root, "log");
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [("error", Level::ERROR), ("warn", Level::WARN), ("info", Level::INFO), ("debug", Level::DEBUG)];
    let log = Log {
        format: section.choice(&mut c.f, "format", &formats, LogFormat::Text),
        access: section.optional("access").and_then(|item| access(c, &item)).unwrap_or(AccessLog::Stderr),
        level: section.choice(&mut c.f, "level", &levels, Level::INFO),
    };
    section.finish(&mut c.f);
    let Some(wanted) = c.host.variable(LOG_LEVEL).filter(|wanted| !wanted.is_empty()) else { return log };
    match levels.iter().find(|(name, _)| *name == wanted) {
        Some((_, level)) => Log { level: *level, ..log },
        None => {
            let place = Place { key: LOG_LEVEL.to_owned(), span: 0..0 };
            c.f.error(&place, format!("{wanted:?} is no log level"), "Set it to error, warn, info or debug.");
            log
        }
    }
}

/// The limit of a part of the head: 16 KiB, or the whole head where that is less.
fn within_head(f: &mut Findings, section: &mut Section, name: &'static str, head_bytes_max: usize) -> usize {
    let default = head_bytes_max.min(16 << 10);
    let Some(item) = section.optional(name) else { return default };
    let bytes = item.size(f, 256..=MIB).and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default);
    if bytes > head_bytes_max {
        item.error(f, "is more than max_head, of which it is a part", "Raise max_head too.");
    }
    bytes
}

/// `"unlimited"` or a size.
fn body_bytes_max(f: &mut Findings, item: &Item) -> Option<u64> {
    if item.is_text() && item.text(f) == Some("unlimited") {
        return None;
    }
    item.size(f, 1..=u64::MAX)
}

const UPLOAD: LeastRate = LeastRate { bytes_per_second: KIB, window: Duration::from_secs(30) };
const DOWNLOAD: LeastRate = LeastRate { bytes_per_second: 256, window: Duration::from_secs(60) };

/// `"off"`, or bytes a second.
fn least_rate(
    f: &mut Findings,
    section: &mut Section,
    [rate, window]: [&'static str; 2],
    default: LeastRate,
) -> Option<LeastRate> {
    let item = section.optional(rate);
    let window = section.duration(f, window, S..=HOUR, default.window);
    let bytes_per_second = match item {
        None => default.bytes_per_second,
        Some(item) if item.is_text() && item.text(f) == Some("off") => return None,
        Some(item) => item.size(f, 1..=GIB)?,
    };
    Some(LeastRate { bytes_per_second, window })
}

pub(super) fn user(c: &mut Context, item: &Item) -> Option<String> {
    let name = item.text(&mut c.f)?;
    if !c.host.has_user(name) {
        item.error(&mut c.f, format!("this host has no user {name}"), format!("Make one: useradd --system {name}."));
    }
    Some(name.to_owned())
}

fn access(c: &mut Context, item: &Item) -> Option<AccessLog> {
    match item.text(&mut c.f)? {
        "off" => Some(AccessLog::Off),
        "stderr" => Some(AccessLog::Stderr),
        path if path.contains('/') => Some(AccessLog::File(PathBuf::from(&c.base).join(path))),
        other => {
            let hint = "Write \"stderr\", \"off\" or the path of a file.";
            item.error(&mut c.f, format!("{other:?} is not known here"), hint);
            None
        }
    }
}
