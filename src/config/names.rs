//! Names as they may be written: host names (RFC 1123 §2.1), node and pool names, server and listener addresses.

use super::settings::Place;
use std::net::{IpAddr, SocketAddr};

/// A host of requests as routes compare it: lower case, without port; addresses as Rust prints them.
/// The error says what is wrong, and what to write if that can be guessed.
pub(crate) fn host(text: &str) -> Result<String, (String, String)> {
    let wrong = |message: &str, hint: String| Err((format!("{text:?} {message}"), hint));
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':']).next().unwrap_or("");
        return wrong("is a URL, not a host name", format!("Write {name:?}."));
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return wrong("has a port; hosts are compared without it", format!("Write {name:?}."));
    }
    if let Some((name, _)) = text.split_once('/') {
        return wrong("has a path, which no host name has", format!("Write {name:?}."));
    }
    if text.contains('*') {
        return wrong("has a wildcard: not in this version yet", "Name each host, or write \"*\" for any.".to_owned());
    }
    if !text.is_ascii() {
        return wrong("has letters outside ASCII", "Write its xn-- form (IDNA).".to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 {
        return wrong("is longer than the 253 characters of a host name", String::new());
    }
    if let Some(label) = name.split('.').find(|label| !is_label(label)) {
        let hint = "Parts are 1 to 63 letters, digits and hyphens, with no hyphen at either end.".to_owned();
        return wrong(&format!("is no host name: the part {label:?} is not allowed"), hint);
    }
    Ok(name.to_ascii_lowercase())
}

/// Names the operator gives: nodes and pools. They appear in logs, metrics and on command lines.
pub(crate) fn is_given_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    text.len() <= 63 && text.bytes().all(allowed) && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// `192.0.2.1:80` or `[2001:db8::1]:80`, with a port.
pub(crate) fn endpoint(text: &str, port: u16) -> Result<SocketAddr, (String, String)> {
    let wrong = |message: &str, hint: String| Err((format!("{text:?} {message}"), hint));
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return wrong("has port 0", format!("Write \"{}\".", SocketAddr::new(address.ip(), port)));
        }
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return wrong("has no port", format!("Write \"{}\".", SocketAddr::new(address, port)));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let address = rest.split('/').next().unwrap_or("");
        return wrong("is a URL, not an address", format!("Write {address:?} with its port."));
    }
    if let Some((name, number)) = text.rsplit_once(':') {
        if number.parse::<u16>().is_err() {
            return wrong("has no valid port", "Ports are 1..65535.".to_owned());
        }
        if let Ok(address) = name.parse::<std::net::Ipv6Addr>() {
            return wrong("is ambiguous", format!("Write \"[{address}]:{number}\"."));
        }
        if is_name(name) {
            let hint = format!("Write the address of {name}, as \"192.0.2.1:{number}\".");
            return wrong("is a name, and this must be an address", hint);
        }
    }
    wrong("is no address with a port", format!("Write it as \"192.0.2.1:{port}\" or \"[2001:db8::1]:{port}\"."))
}

/// Where a server is: an address or a name, with a port.
pub(crate) fn server(text: &str, port: u16) -> Result<Place, (String, String)> {
    if is_name(text) {
        return Err((format!("{text:?} has no port"), format!("Write \"{text}:{port}\".")));
    }
    match text.rsplit_once(':').map(|(name, number)| (name, number.parse::<u16>())) {
        Some((name, Ok(0))) if is_name(name) => {
            Err((format!("{text:?} has port 0"), format!("Write \"{name}:{port}\".")))
        }
        Some((name, Ok(port))) if is_name(name) => Ok(Place::Name { host: name.to_ascii_lowercase(), port }),
        _ => endpoint(text, port).map(Place::Ip),
    }
}

/// Digits and dots alone are an address gone wrong.
fn is_name(text: &str) -> bool {
    let is_host = host(text).is_ok() && text.parse::<IpAddr>().is_err() && !text.starts_with('[');
    is_host && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn is_label(label: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    label.len() <= 63 && edge(label.bytes().next()) && edge(label.bytes().last()) && label.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lowered_and_bare() {
        for (typed, kept) in [
            ("Cloud.Example.com", "cloud.example.com"),
            ("cloud.example.com.", "cloud.example.com"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("a_b.example", "a_b.example"),
        ] {
            assert_eq!(host(typed).unwrap(), kept);
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_to_write() {
        for (typed, hint) in [
            ("https://cloud.example.com/nextcloud", "Write \"cloud.example.com\"."),
            ("cloud.example.com:443", "Write \"cloud.example.com\"."),
            ("cloud.example.com/nextcloud", "Write \"cloud.example.com\"."),
            ("*.example.com", "Name each host, or write \"*\" for any."),
            ("wölkchen.example", "Write its xn-- form (IDNA)."),
        ] {
            assert_eq!(host(typed).unwrap_err().1, hint, "{typed}");
        }
        for typed in ["a..b", "-a.b", "a-.b", "a b", ".", "", "a\nb"] {
            assert!(host(typed).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn servers_are_addresses_or_names_with_a_port() {
        let name = |host: &str, port| Place::Name { host: host.to_owned(), port };
        for (typed, place) in [
            ("10.0.0.1:80", Place::Ip(([10, 0, 0, 1], 80).into())),
            ("[::1]:80", Place::Ip((std::net::Ipv6Addr::LOCALHOST, 80).into())),
            ("web1:80", name("web1", 80)),
            ("Web-1.Example.com:8080", name("web-1.example.com", 8080)),
            ("web1.example.com.:80", name("web1.example.com.", 80)),
            ("localhost:80", name("localhost", 80)),
            ("web_1:80", name("web_1", 80)),
        ] {
            assert_eq!(server(typed, 80), Ok(place), "{typed}");
        }
        for (typed, hint) in [
            ("web1", "Write \"web1:80\"."),
            ("web1.example.com.", "Write \"web1.example.com.:80\"."),
            ("web1:0", "Write \"web1:80\"."),
            ("web1:http", "Ports are 1..65535."),
            ("10.0.0.1", "Write \"10.0.0.1:80\"."),
            ("10.0.0.300:80", "Write it as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"."),
            ("http://web1:80/", "Write \"web1:80\" with its port."),
            ("2001:db8::1", "Write \"[2001:db8::1]:80\"."),
        ] {
            assert_eq!(server(typed, 80).unwrap_err().1, hint, "{typed}");
        }
        for typed in [
            "-web:80",
            "we b:80",
            "web..a:80",
            "*.web:80",
            "",
            ":80",
            "wölkchen:80",
            &format!("{}:80", "a.".repeat(200)),
        ] {
            assert!(server(typed, 80).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn endpoints_need_an_address_and_a_port() {
        assert_eq!(endpoint("10.0.0.1:80", 80).unwrap().to_string(), "10.0.0.1:80");
        assert_eq!(endpoint("[2001:db8::1]:80", 80).unwrap().to_string(), "[2001:db8::1]:80");
        for (typed, hint) in [
            ("10.0.0.1", "Write \"10.0.0.1:80\"."),
            ("2001:db8::1", "Write \"[2001:db8::1]:80\"."),
            ("[2001:db8::1]", "Write \"[2001:db8::1]:80\"."),
            ("http://10.0.0.1:80/", "Write \"10.0.0.1:80\" with its port."),
            ("web1:80", "Write the address of web1, as \"192.0.2.1:80\"."),
            ("10.0.0.1:0", "Write \"10.0.0.1:80\"."),
            ("10.0.0.1:http", "Ports are 1..65535."),
            ("10.0.0.300:80", "Write it as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"."),
            ("banana", "Write it as \"192.0.2.1:80\" or \"[2001:db8::1]:80\"."),
        ] {
            assert_eq!(endpoint(typed, 80).unwrap_err().1, hint, "{typed}");
        }
    }
}
