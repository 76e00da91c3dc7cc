//! Addresses, hosts and paths as lyre.toml takes them.

use crate::config::names;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What a Unix socket's address has room for.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// Where requests or connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::import) enum Server {
    Ip(SocketAddr),
    /// The path.
    Unix(String),
    /// With its port; to be looked up by the operator.
    Name(String),
    Bad,
}

/// `ADDRESS:PORT`, `NAME:PORT`, `ADDRESS`; `port` where none is written.
pub(in crate::import) fn server(text: &str, port: u16) -> Server {
    if let Some(path) = text.strip_prefix("unix:") {
        let is_good = path.starts_with('/')
            && !path.ends_with('/')
            && path.len() <= UNIX_PATH_BYTES_MAX
            && !path.contains(|c: char| c.is_control());
        return if is_good { Server::Unix(path.to_owned()) } else { Server::Bad };
    }
    let ip = |ip: IpAddr, port: u16| {
        let is_good = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
        if is_good { Server::Ip(SocketAddr::new(ip, port)) } else { Server::Bad }
    };
    if let Ok(address) = text.parse::<SocketAddr>() {
        return ip(address.ip(), address.port());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return ip(address, port);
    }
    let (name, port) = match text.rsplit_once(':') {
        None => (text, Some(port)),
        Some((name, number)) => (name, number.parse::<u16>().ok()),
    };
    let Some(port) = port.filter(|port| *port != 0) else { return Server::Bad };
    match name.parse::<Ipv6Addr>() {
        Ok(address) => ip(address.into(), port),
        Err(_) if names::host(name).is_ok() && !is_number(name) => Server::Name(format!("{name}:{port}")),
        Err(_) => Server::Bad,
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// A host of requests, without its port.
pub(in crate::import) fn host(text: &str) -> Option<String> {
    let bare = match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => text,
    };
    names::host(bare).ok()
}

pub(in crate::import) fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b))
}

/// Whether `[nextcloud]` answers this path with 404 by itself.
pub(in crate::import) fn is_hidden(path: &str) -> bool {
    const WHOLE: [&str; 12] = [
        "/config",
        "/data",
        "/lib",
        "/3rdparty",
        "/templates",
        "/tests",
        "/build",
        "/autotest",
        "/occ",
        "/console",
        "/issue",
        "/indie",
    ];
    WHOLE.contains(&path.trim_end_matches('/')) || ["/db_", "/.ht"].iter().any(|start| path.starts_with(start))
}

/// An address or a network, without bits beyond its prefix; nobody's everything.
pub(in crate::import) fn network(text: &str) -> Option<String> {
    if let Ok(network) = text.parse::<IpNet>() {
        return (network.prefix_len() > 0).then(|| network.trunc().to_string());
    }
    text.parse::<IpAddr>().ok().map(|address| address.to_string())
}

/// The paths that a pattern as `^/(a|b)/.*` begins with; none of one that is more than that.
pub(in crate::import) fn pattern(pattern: &str) -> Option<Vec<String>> {
    const ENDS: [&str; 9] = ["(/.*)?$", "(?:$|/)", "(/|$)", "($|/)", "/.*$", "/.*", ".*$", ".*", "$"];
    let rest = pattern.strip_prefix('^')?;
    let rest = ENDS.iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
    let rest = rest.replace("\\.", ".").replace("\\/", "/");
    // What a WebSocket's path has in the middle is not needed to tell it.
    let rest = rest.split_once("/(.*)").map_or(rest.as_str(), |(before, _)| before);
    let (before, inner, after) = match rest.split_once('(') {
        None => (rest, "", ""),
        Some((before, inner)) => {
            let (inner, after) = inner.split_once(')')?;
            (before, inner.trim_start_matches("?:"), after)
        }
    };
    let whole: Vec<String> = inner.split('|').map(|choice| format!("{before}{choice}{after}")).collect();
    let is_plain = |path: &String| is_path(path) && !path.contains(['*', '+', '[', ']', '(', ')', '$']);
    whole.iter().all(is_plain).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_sockets_or_names() {
        for (typed, wanted) in [
            ("10.0.0.1:81", Server::Ip("10.0.0.1:81".parse().unwrap())),
            ("10.0.0.1", Server::Ip("10.0.0.1:80".parse().unwrap())),
            ("[::1]:81", Server::Ip("[::1]:81".parse().unwrap())),
            ("2001:db8::1", Server::Ip("[2001:db8::1]:80".parse().unwrap())),
            ("unix:/run/x.sock", Server::Unix("/run/x.sock".to_owned())),
            ("nextcloud", Server::Name("nextcloud:80".to_owned())),
            ("nextcloud:8080", Server::Name("nextcloud:8080".to_owned())),
            ("0.0.0.0:80", Server::Bad),
            ("10.0.0.1:0", Server::Bad),
            ("10.0.0.1:x", Server::Bad),
            ("10.0.0:80", Server::Bad),
            ("", Server::Bad),
            ("unix:x", Server::Bad),
        ] {
            assert_eq!(server(typed, 80), wanted, "{typed}");
        }
    }

    #[test]
    fn networks_trust_nobody_by_accident() {
        assert_eq!(network("10.0.0.7/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(network("10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(network("0.0.0.0/0"), None);
        assert_eq!(network("x"), None);
    }

    #[test]
    fn only_patterns_that_are_paths_are_taken() {
        for (typed, wanted) in [
            ("^/push/.*", vec!["/push"]),
            ("^/(cool|lool)/.*$", vec!["/cool", "/lool"]),
            ("^/(c|l)ool", vec!["/cool", "/lool"]),
            ("^/cool/(.*)/ws$", vec!["/cool"]),
            ("^/remote\\.php", vec!["/remote.php"]),
            ("^/(?:data|config)(?:$|/)", vec!["/data", "/config"]),
        ] {
            assert_eq!(pattern(typed).unwrap(), wanted, "{typed}");
        }
        for typed in ["/push", "^/[a-z]+", "^/a(b", "^/a.+b", "", "^", "\\.php$"] {
            assert_eq!(pattern(typed), None, "{typed}");
        }
    }
}
