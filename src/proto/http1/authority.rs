//! `host [":" port]` as it appears in Host and absolute targets (RFC 9110 §7.2, RFC 3986 §3.2), without userinfo.

use super::bytes::is_host_name;
use std::net::Ipv6Addr;

/// Checked host and port. The host keeps its case and, for IPv6, its brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    pub host: &'a [u8],
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Letters, digits, `-`, `.`, `_` or a bracketed IPv6 address; a port of 1 to 65535. `None` for anything else:
    /// commas, userinfo, paths, percent-encoding and empty ports make servers disagree about which host is meant.
    pub fn parse(bytes: &'a [u8]) -> Option<Authority<'a>> {
        let (host, rest) = match bytes.first()? {
            b'[' => {
                let end = bytes.iter().position(|byte| *byte == b']')? + 1;
                let (host, rest) = bytes.split_at_checked(end)?;
                let inside = host.get(1..end - 1)?;
                std::str::from_utf8(inside).ok()?.parse::<Ipv6Addr>().ok()?;
                (host, rest)
            }
            _ => {
                let end = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
                let (host, rest) = bytes.split_at_checked(end)?;
                if !is_host_name(host) {
                    return None;
                }
                (host, rest)
            }
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Authority { host, port })
    }

    /// Equal hosts (ASCII case ignored) and ports, an absent port being the scheme's default.
    pub fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_with_optional_ports_are_accepted() {
        for (text, host, port) in [
            ("a", "a", None),
            ("Cloud.Example.com:8443", "Cloud.Example.com", Some(8443)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("[::1]:65535", "[::1]", Some(65535)),
            ("nc_web", "nc_web", None),
        ] {
            let expected = Authority { host: host.as_bytes(), port };
            assert_eq!(Authority::parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:99999",
            "a:+80",
            "a:8o",
            "a, b",
            "a,b",
            "u@a",
            "a/b",
            "a b",
            "[::1",
            "::1",
            "[::g]",
            "[]",
            "[::1]x",
            "a%41",
            "a:80:80",
            "a\\b",
            "a?b",
            "[::1%25eth0]",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Authority::parse(b"\xffa"), None);
        assert_eq!(Authority::parse(b"a\0.b"), None);
    }

    #[test]
    fn the_default_port_equals_no_port() {
        let plain = Authority::parse(b"A").unwrap();
        assert!(plain.is_same(&Authority::parse(b"a:80").unwrap(), 80));
        assert!(!plain.is_same(&Authority::parse(b"a:81").unwrap(), 80));
        assert!(!plain.is_same(&Authority::parse(b"b").unwrap(), 80));
    }
}
