//! What a host has written down about names: `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)). Lines that
//! make no sense are left out, as everybody does.

use super::{ADDRESSES_MAX, Family, is_host};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const PORT: u16 = 53;

const SERVERS_MAX: usize = 8;
const SEARCH_MAX: usize = 8;
const NDOTS_MAX: usize = 15;

/// What is taken from `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Never empty: the host itself if none is named.
    pub servers: Vec<SocketAddr>,
    /// Domains that short names are looked for in.
    pub search: Vec<String>,
    /// Names with fewer dots are looked for in `search` first.
    pub ndots: usize,
}

impl ResolvConf {
    pub fn read(text: &str) -> ResolvConf {
        let mut conf = ResolvConf { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(address.map(|address| SocketAddr::new(address, PORT)));
                }
                // The last of them counts.
                Some("search" | "domain") => conf.search = words.filter_map(domain).take(SEARCH_MAX).collect(),
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse::<usize>().ok()).next_back();
                    conf.ndots = ndots.unwrap_or(conf.ndots).min(NDOTS_MAX);
                }
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        conf
    }

    /// The whole names that `name` may stand for, in the order in which to ask. One that ends in a dot is whole.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let mut all: Vec<String> = self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let has_dots = name.bytes().filter(|byte| *byte == b'.').count() >= self.ndots;
        all.insert(if has_dots { 0 } else { all.len() }, name.to_owned());
        all
    }
}

fn domain(word: &str) -> Option<String> {
    let word = word.strip_suffix('.').unwrap_or(word);
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!word.is_empty() && word.len() <= 253 && word.bytes().all(is_allowed)).then(|| word.to_ascii_lowercase())
}

/// The addresses of `name` in the text of a hosts file; empty if it is not there. `localhost` is known without one
/// (RFC 6761 §6.3).
pub fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && is_host(address) && !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() && name.eq_ignore_ascii_case("localhost") {
        found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    found.sort_unstable();
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            let of = found.iter().copied().filter(move |address| Family::of(*address) == family);
            of.take(ADDRESSES_MAX).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_like_the_c_library_reads_it() {
        let text = "# made by hand\ndomain old.example\nsearch  Example.com. corp.example bad\\name ; why\n\
             nameserver 192.0.2.53\nnameserver 2001:db8::53 # second\nnameserver fe80::1%eth0\nnameserver nonsense\n\
             options edns0 ndots:2 timeout:1\nsortlist 10.0.0.0\n";
        let conf = ResolvConf::read(text);
        assert_eq!(conf.servers, ["192.0.2.53:53", "[2001:db8::53]:53"].map(|server| server.parse().unwrap()));
        assert_eq!(conf.search, ["example.com", "corp.example"]);
        assert_eq!(conf.ndots, 2);
    }

    #[test]
    fn without_a_server_the_host_itself_is_asked() {
        for text in ["", "search example.com", "nameserver", "\0\u{1}nameserver 1.1.1.1"] {
            assert_eq!(ResolvConf::read(text).servers, ["127.0.0.1:53".parse().unwrap()], "{text:?}");
        }
    }

    #[test]
    fn a_file_of_any_length_gives_a_bounded_list() {
        let text = "nameserver 192.0.2.1\n".repeat(1000) + "search" + &" a.example".repeat(1000) + "\noptions ndots:99";
        let conf = ResolvConf::read(&text);
        assert_eq!((conf.servers.len(), conf.search.len(), conf.ndots), (SERVERS_MAX, SEARCH_MAX, NDOTS_MAX));
    }

    #[test]
    fn short_names_are_searched_for_and_whole_ones_are_not() {
        let conf = ResolvConf::read("search a.example b.example");
        assert_eq!(conf.candidates("web"), ["web.a.example", "web.b.example", "web"]);
        assert_eq!(conf.candidates("web.c"), ["web.c", "web.c.a.example", "web.c.b.example"]);
        assert_eq!(conf.candidates("web."), ["web"]);
        let container = ResolvConf::read("nameserver 127.0.0.11\nsearch a.example\noptions ndots:0");
        assert_eq!(container.candidates("web"), ["web", "web.a.example"]);
        assert_eq!(ResolvConf::read("").candidates("web"), ["web"]);
    }

    #[test]
    fn the_hosts_file_is_looked_through_for_every_name_of_a_line() {
        let text = "127.0.0.1 localhost\n10.0.0.21\tweb1.example web1 # web1.old\n10.0.0.22 WEB1\n10.0.0.22 web1\n\
             2001:db8::21 web1\n0.0.0.0 ads.example\nnonsense web1\n";
        let expected: Vec<IpAddr> =
            ["10.0.0.21", "10.0.0.22", "2001:db8::21"].map(|address| address.parse().unwrap()).into();
        assert_eq!(hosts(text, "web1"), expected);
        assert_eq!(hosts(text, "web1."), expected);
        for absent in ["web1.old", "web", "ads.example", "10.0.0.21", ""] {
            assert!(hosts(text, absent).is_empty(), "{absent}");
        }
    }

    #[test]
    fn localhost_needs_no_file() {
        assert_eq!(hosts("", "localhost").len(), 2);
        assert_eq!(hosts("127.0.0.2 localhost", "localhost"), ["127.0.0.2".parse::<IpAddr>().unwrap()]);
    }
}
