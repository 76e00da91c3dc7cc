//! `bind`: where clients connect.

use super::certificates::{self, Tls};
use super::sections::Line;
use crate::import::error::Position;
use crate::import::files::Files;
use crate::import::findings::{Class, Findings, Said as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[derive(Clone)]
pub(super) struct Bind {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) has_tls: bool,
    /// Every connection begins with a PROXY header.
    pub(super) has_proxy: bool,
    pub(super) at: Position,
    pub(super) shown: String,
}

pub(super) fn read(findings: &mut Findings, line: &Line, tls: &mut Tls, files: &dyn Files) -> Option<Bind> {
    let options = line.from(2);
    let is_both = options.iter().any(|word| word == "v4v6");
    let mut addresses = Vec::new();
    for text in line.word(1).split(',') {
        match address(text, is_both) {
            Ok(found) => addresses.extend(found),
            Err(why) => findings.at(&line.at, Class::Refused, format!("bind {text}"), why),
        }
    }
    let has_tls = options.iter().any(|word| word == "ssl");
    let has_proxy = options.iter().any(|word| word == "accept-proxy");
    let bind = Bind { addresses, has_tls, has_proxy, at: line.at.clone(), shown: line.shown() };
    read_options(findings, line, options, tls, files);
    if bind.addresses.is_empty() {
        return None;
    }
    findings
        .mapped(line, if has_tls { "listener.address, kind = \"https\"" } else { "listener.address, or tcp.listen" });
    Some(bind)
}

fn read_options(findings: &mut Findings, line: &Line, options: &[String], tls: &mut Tls, files: &dyn Files) {
    let mut words = options.iter();
    let mut note = |class: Class, word: &str, why: &str| findings.at(&line.at, class, format!("bind ... {word}"), why);
    while let Some(word) = words.next() {
        match word.as_str() {
            "ssl" | "v4v6" | "v6only" => {}
            "accept-proxy" => note(
                Class::Remark,
                word,
                "listener.proxy_protocol names who may send the headers, as everybody else could claim any address",
            ),
            "crt" | "crt-list" => {
                let path = words.next().map(String::as_str).unwrap_or_default();
                let found = certificates::find(tls, files, word, path);
                note(found.class, &format!("{word} {path}"), &found.why);
            }
            "alpn" | "npn" => {
                let protocols = words.next().map(String::as_str).unwrap_or_default();
                let has_h2 = protocols.split(',').any(|protocol| protocol == "h2");
                tls.http2.push(has_h2);
                note(Class::Mapped, &format!("{word} {protocols}"), "tls.http2");
            }
            _ => match OPTIONS.iter().find(|(name, ..)| name == word) {
                Some((_, arguments, class, why)) => {
                    words.by_ref().take(*arguments).for_each(drop);
                    note(*class, word, why);
                }
                None => note(Class::Unknown, word, "no option of bind that haproxy has; is it misspelt?"),
            },
        }
    }
}

const SUITES: &str = "versions and suites are those of Mozilla's intermediate recommendation; nothing to choose";
const SOCKETS: &str = "Lyre sizes its sockets itself";
const CLIENTS: &str = "certificates of clients are not asked for in this version; keep such a service behind a VPN";
const PLACE: &str = "each core of Lyre listens on every address";

/// Name, how many words follow, what becomes of it.
const OPTIONS: &[(&str, usize, Class, &str)] = &[
    ("accept-netscaler-cip", 1, Class::Refused, "only PROXY headers of version 1 and 2 are understood"),
    ("allow-0rtt", 0, Class::Ignored, "early data can be replayed, and is not accepted"),
    ("backlog", 1, Class::Ignored, SOCKETS),
    ("ca-file", 1, Class::Refused, CLIENTS),
    ("ca-verify-file", 1, Class::Refused, CLIENTS),
    ("ca-ignore-err", 1, Class::Refused, CLIENTS),
    ("ca-sign-file", 1, Class::Refused, "certificates are not made on the way"),
    ("ca-sign-pass", 1, Class::Refused, "certificates are not made on the way"),
    ("ciphers", 1, Class::Ignored, SUITES),
    ("ciphersuites", 1, Class::Ignored, SUITES),
    ("client-sigalgs", 1, Class::Ignored, SUITES),
    ("crl-file", 1, Class::Refused, CLIENTS),
    ("crt-ignore-err", 1, Class::Refused, CLIENTS),
    ("curves", 1, Class::Ignored, SUITES),
    ("default-crt", 1, Class::Refused, "the first certificate of tls.certificates is the default: put it there"),
    ("defer-accept", 0, Class::Ignored, SOCKETS),
    ("ecdhe", 1, Class::Ignored, SUITES),
    ("expose-fd", 1, Class::Ignored, "lyre reload keeps every connection without"),
    ("force-sslv3", 0, Class::Ignored, SUITES),
    ("force-tlsv10", 0, Class::Ignored, SUITES),
    ("force-tlsv11", 0, Class::Ignored, SUITES),
    ("force-tlsv12", 0, Class::Ignored, SUITES),
    ("force-tlsv13", 0, Class::Ignored, SUITES),
    ("generate-certificates", 0, Class::Refused, "certificates are not made on the way"),
    ("gid", 1, Class::Ignored, "no listener is a Unix socket"),
    ("group", 1, Class::Ignored, "no listener is a Unix socket"),
    ("id", 1, Class::Ignored, "listeners are known by their address"),
    (
        "interface",
        1,
        Class::Refused,
        "listeners are bound to addresses, not to interfaces; write the interface's address",
    ),
    ("level", 1, Class::Ignored, "no listener takes orders; lyre's admin socket does"),
    ("maxconn", 1, Class::Ignored, "limits.max_connections is one for all listeners"),
    ("mode", 1, Class::Ignored, "no listener is a Unix socket"),
    ("mss", 1, Class::Ignored, SOCKETS),
    ("name", 1, Class::Ignored, "listeners are known by their address"),
    ("namespace", 1, Class::Refused, "start lyre inside the network namespace, by NetworkNamespacePath= of its unit"),
    ("nbconn", 1, Class::Ignored, SOCKETS),
    ("nice", 1, Class::Ignored, PLACE),
    ("no-alpn", 0, Class::Refused, "write tls.http2 = false"),
    ("no-ca-names", 0, Class::Ignored, SUITES),
    ("no-sslv3", 0, Class::Ignored, SUITES),
    ("no-strict-sni", 0, Class::Ignored, "the first certificate is for those who ask for another name"),
    ("no-tls-tickets", 0, Class::Ignored, "sessions resume by tickets, whose keys follow from the cluster secret"),
    ("no-tlsv10", 0, Class::Ignored, SUITES),
    ("no-tlsv11", 0, Class::Ignored, SUITES),
    ("no-tlsv12", 0, Class::Ignored, SUITES),
    ("no-tlsv13", 0, Class::Ignored, SUITES),
    ("ocsp-update", 1, Class::Ignored, "no OCSP responses are stapled"),
    ("prefer-client-ciphers", 0, Class::Ignored, SUITES),
    ("proc", 1, Class::Ignored, PLACE),
    ("process", 1, Class::Ignored, PLACE),
    ("proto", 1, Class::Remark, "a listener finds out by itself what a client speaks; h2c is not spoken"),
    ("quic-force-retry", 0, Class::Ignored, "HTTP/3 is not spoken"),
    ("severity-output", 1, Class::Ignored, "no listener takes orders; lyre's admin socket does"),
    ("shards", 1, Class::Ignored, PLACE),
    ("sigalgs", 1, Class::Ignored, SUITES),
    ("ssl-max-ver", 1, Class::Ignored, SUITES),
    ("ssl-min-ver", 1, Class::Ignored, SUITES),
    ("strict-sni", 0, Class::Remark, "the first certificate is shown to those who ask for another name"),
    ("tcp-ut", 1, Class::Ignored, "a dead connection is found by timeouts.client_idle and keep-alives"),
    ("tfo", 0, Class::Ignored, SOCKETS),
    ("thread", 1, Class::Ignored, PLACE),
    ("tls-ticket-keys", 1, Class::Ignored, "keys of tickets follow from the cluster secret"),
    (
        "transparent",
        0,
        Class::Remark,
        "Lyre listens on the addresses that are there; a wildcard is there before the virtual address",
    ),
    ("uid", 1, Class::Ignored, "no listener is a Unix socket"),
    ("user", 1, Class::Ignored, "no listener is a Unix socket"),
    ("verify", 1, Class::Remark, "certificates of clients are not asked for in this version"),
];

fn address(text: &str, is_both: bool) -> Result<Vec<SocketAddr>, &'static str> {
    let is_six = text.starts_with("ipv6@");
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    if text.starts_with("quic") {
        return Err("HTTP/3 is not spoken; clients use HTTP/2");
    }
    if text.starts_with('/') || text.contains('@') {
        return Err("a listener is an address with a port; Unix sockets and inherited ones are not listened on");
    }
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    if port.contains('-') {
        return Err("is a range of ports; write a [[listener]] or tcp.listen for each");
    }
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or("has no port from 1 to 65535")?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let ip: IpAddr = match bare {
        "" | "*" if is_six => Ipv6Addr::UNSPECIFIED.into(),
        "" | "*" => Ipv4Addr::UNSPECIFIED.into(),
        bare => bare.parse().map_err(|_| "is no address; names are not looked up")?,
    };
    let ip = ip.to_canonical();
    if ip.is_multicast() {
        return Err("is a multicast address");
    }
    let every = (is_both && ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)).then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Ok(every.into_iter().chain([ip]).map(|ip| SocketAddr::new(ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_are_haproxys() {
        for (text, wanted) in [
            ("*:80", "0.0.0.0:80"),
            (":80", "0.0.0.0:80"),
            (":::80", "[::]:80"),
            ("[::]:80", "[::]:80"),
            ("ipv6@:80", "[::]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("2001:db8::1:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(address(text, false), Ok(vec![wanted.parse().unwrap()]), "{text}");
        }
        assert_eq!(address(":::443", true).unwrap().len(), 2);
        for text in ["", "80", "*:0", "*:80-90", "/run/x", "unix@/x", "abns@x", "quic4@:443", "web:80", "fd@3", "*:x"] {
            assert!(address(text, false).is_err(), "{text}");
        }
    }
}
