//! `listen`: where clients connect.

use super::tree::Directive;
use crate::import::findings::{Class, Findings};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) struct Listen {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) has_tls: bool,
    pub(super) has_proxy: bool,
}

pub(super) fn read(findings: &mut Findings, directive: &Directive) -> Option<Listen> {
    let options = directive.from(2);
    let has = |name: &str| options.iter().any(|word| word == name);
    if has("quic") || has("http3") {
        findings.refused(directive, "HTTP/3 is not spoken; clients use HTTP/2");
        return None;
    }
    let addresses = match addresses(directive.word(1), has("ipv6only=off")) {
        Ok(addresses) => addresses,
        Err(why) => {
            findings.refused(directive, why);
            return None;
        }
    };
    for word in options {
        let name = word.split('=').next().unwrap_or_default();
        let (class, why) = match name {
            "ssl" | "http2" | "default_server" | "default" | "ipv6only" | "proxy_protocol" | "spdy" => continue,
            "reuseport" | "backlog" | "rcvbuf" | "sndbuf" | "accept_filter" | "deferred" | "bind" | "fastopen"
            | "so_keepalive" | "setfib" | "multipath" => (Class::Ignored, "Lyre sizes its sockets itself"),
            "udp" => (Class::Refused, "only TCP can be proxied"),
            _ => (Class::Unknown, "no option of listen that nginx has; is it misspelt?"),
        };
        findings.at(&directive.at, class, format!("listen ... {word}"), why);
    }
    if has("udp") {
        return None;
    }
    match has("proxy_protocol") {
        true => findings.remark(
            directive,
            "listener.address; proxy_protocol names who may send the headers, as everybody else could claim any address",
        ),
        false => findings.mapped(directive, "listener.address"),
    }
    Some(Listen { addresses, has_tls: has("ssl"), has_proxy: has("proxy_protocol") })
}

/// As nginx without a line of `listen`.
pub(super) fn default() -> Listen {
    let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80);
    Listen { addresses: vec![address], has_tls: false, has_proxy: false }
}

fn addresses(text: &str, is_both: bool) -> Result<Vec<SocketAddr>, &'static str> {
    if text.starts_with("unix:") {
        return Err("a listener is an address with a port; Unix sockets are not listened on");
    }
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let every = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let (ip, port) = match () {
        () if port_of(text).is_some() => (every, port_of(text)),
        () if text.bytes().all(|b| b.is_ascii_digit()) => return Err("has no port from 1 to 65535"),
        () => match text.rsplit_once(':') {
            Some((host, port)) if !host.starts_with('[') || host.ends_with(']') => {
                (ip(host).ok_or("is no address; names are not looked up")?, port_of(port))
            }
            _ => (ip(text).ok_or("is no address; names are not looked up")?, Some(80)),
        },
    };
    let port = port.ok_or("has no port from 1 to 65535")?;
    let also = (is_both && ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED)).then_some(every);
    Ok(also.into_iter().chain([ip]).map(|ip| SocketAddr::new(ip, port)).collect())
}

fn ip(text: &str) -> Option<IpAddr> {
    if text == "*" {
        return Some(Ipv4Addr::UNSPECIFIED.into());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip: IpAddr = bare.parse().ok()?;
    (!ip.is_multicast()).then(|| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_are_nginxs() {
        for (text, wanted) in [
            ("80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("[::]:443", "[::]:443"),
            ("[::]", "[::]:80"),
            ("192.0.2.1", "192.0.2.1:80"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
        ] {
            assert_eq!(addresses(text, false), Ok(vec![wanted.parse().unwrap()]), "{text}");
        }
        assert_eq!(addresses("[::]:80", true).unwrap().len(), 2);
        for text in ["", "0", "99999", "unix:/run/x", "localhost:80", "*:x", "[::"] {
            assert!(addresses(text, false).is_err(), "{text}");
        }
    }
}
