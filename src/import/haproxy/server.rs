//! `server` and `default-server`: where requests go.

use super::sections::Line;
use super::time::ms;
use crate::import::edge::{self, Check};
use crate::import::findings::{Class, Findings};

#[derive(Clone)]
pub(super) struct Server {
    pub(super) place: edge::Server,
    pub(super) is_backup: bool,
    pub(super) options: Options,
}

/// What `default-server` gives to those after it.
#[derive(Clone, Default)]
pub(super) struct Options {
    pub(super) check: Check,
    pub(super) check_port: Option<u16>,
    pub(super) max_requests: Option<u64>,
    pub(super) send_proxy: Option<&'static str>,
    pub(super) has_tls: bool,
    is_backup: bool,
    is_out: bool,
}

/// `port` is for those that have none.
pub(super) fn read(findings: &mut Findings, line: &Line, defaults: &Options, port: u16) -> Option<Server> {
    let mut options = defaults.clone();
    read_options(findings, line, 3, &mut options);
    let typed = line.word(2);
    let text = typed.strip_prefix("ipv4@").or_else(|| typed.strip_prefix("ipv6@")).unwrap_or(typed);
    let text = match text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        Some(path) => format!("unix:{path}"),
        None => text.to_owned(),
    };
    let place = edge::server(&text, port);
    match &place {
        edge::Server::Bad => {
            findings.refused(line, "its address and port cannot be read; a server is ADDRESS:PORT");
            return None;
        }
        _ if options.is_out => {
            findings.remark(line, "is disabled or has weight 0 and gets no requests, so it is left out");
            return None;
        }
        edge::Server::Name(name) => {
            findings.refused(line, format!("names are not looked up yet: write the address of {name} into servers"));
        }
        edge::Server::Ip(_) | edge::Server::Unix(_) => findings.mapped(line, "servers of its section"),
    }
    Some(Server { place, is_backup: options.is_backup, options })
}

pub(super) fn defaults(findings: &mut Findings, line: &Line, options: &mut Options) {
    findings.mapped(line, "options of the servers after it");
    read_options(findings, line, 1, options);
}

fn read_options(findings: &mut Findings, line: &Line, from: usize, options: &mut Options) {
    let keyword = line.word(0);
    let mut note =
        |class: Class, word: &str, why: &str| findings.at(&line.at, class, format!("{keyword} ... {word}"), why);
    let mut words = line.from(from).iter();
    while let Some(word) = words.next() {
        let (name, is_on) = match word.strip_prefix("no-") {
            Some(name @ ("check" | "backup" | "ssl" | "send-proxy" | "send-proxy-v2" | "disabled")) => (name, false),
            Some(name) if OPTIONS.iter().any(|(known, ..)| *known == name) => {
                note(Class::Ignored, word, "nothing depends on what it turns off");
                continue;
            }
            _ => (word.as_str(), true),
        };
        let arguments = arguments(name);
        let value = words.clone().next().filter(|_| arguments > 0).map(String::as_str).unwrap_or_default();
        words.by_ref().take(arguments).for_each(drop);
        let number: Option<u64> = value.parse().ok();
        match name {
            "check" => {} // every server is checked
            "enabled" => options.is_out = false,
            "disabled" => options.is_out = is_on,
            "backup" => options.is_backup = is_on,
            "inter" | "rise" | "fall" | "maxconn" | "port" | "weight" => {
                if !numeric(options, name, value, number) {
                    note(Class::Refused, &format!("{name} {value}"), "is no number that can be used");
                } else if name == "port" {
                    note(
                        Class::Remark,
                        "port",
                        "a server is checked where its requests go; MariaDB by the Galera check",
                    );
                } else if name == "weight" && number != Some(0) {
                    note(Class::Ignored, "weight", "all servers have the same weight; the less busy one is taken");
                }
            }
            "send-proxy" => options.send_proxy = is_on.then_some("v1"),
            "send-proxy-v2" => options.send_proxy = is_on.then_some("v2"),
            "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                options.send_proxy = Some("v2");
                note(Class::Remark, name, "version 2 without extensions about TLS");
            }
            "ssl" => options.has_tls = is_on,
            _ => match OPTIONS.iter().find(|(known, ..)| *known == name) {
                Some((_, _, class, why)) => note(*class, word, why),
                None => note(Class::Unknown, word, "no option of servers that haproxy has; is it misspelt?"),
            },
        }
    }
}

/// Whether the number could be used.
fn numeric(options: &mut Options, name: &str, value: &str, number: Option<u64>) -> bool {
    let small = number.and_then(|number| u8::try_from(number).ok()).filter(|count| (1..=100).contains(count));
    match name {
        "inter" => match ms(value) {
            Some(ms) => options.check.interval_ms = Some(ms),
            None => return false,
        },
        "rise" | "fall" if small.is_none() => return false,
        "rise" => options.check.rise = small,
        "fall" => options.check.fall = small,
        "maxconn" if number.is_none() => return false,
        // 0 is no limit, which every pool has by default.
        "maxconn" => options.max_requests = number.filter(|count| *count > 0),
        "weight" if number.is_none() => return false,
        "weight" => options.is_out |= number == Some(0),
        "port" => match value.parse() {
            Ok(port) => options.check_port = Some(port),
            Err(_) => return false,
        },
        _ => {}
    }
    true
}

fn arguments(name: &str) -> usize {
    match name {
        "inter" | "rise" | "fall" | "maxconn" | "port" | "weight" => 1,
        _ => OPTIONS.iter().find(|(known, ..)| *known == name).map_or(0, |(_, count, ..)| *count),
    }
}

const TLS: &str = "part of TLS to servers, which are spoken to in plain HTTP";
const POOL: &str = "connections to servers are kept and shared by Lyre itself";
const MARKS: &str = "connections to a lost server end by themselves, and at once with mode = \"single-writer\"";
const NAMES: &str = "names are not looked up yet; servers are addresses";
const STICKY: &str =
    "no cookie ties a client to a server; keep sessions in Redis, and each server can answer each request";
const PACE: &str = "checks keep their pace, and failing connections start one at once";

/// Name, how many words follow, what becomes of it.
const OPTIONS: &[(&str, usize, Class, &str)] = &[
    ("addr", 1, Class::Refused, "a server is checked where its requests go"),
    ("agent-addr", 1, Class::Refused, "no agent is asked; what a server bears is max_requests_per_server"),
    ("agent-check", 0, Class::Refused, "no agent is asked; what a server bears is max_requests_per_server"),
    ("agent-inter", 1, Class::Refused, "no agent is asked"),
    ("agent-port", 1, Class::Refused, "no agent is asked"),
    ("agent-send", 1, Class::Refused, "no agent is asked"),
    ("allow-0rtt", 0, Class::Ignored, TLS),
    ("alpn", 1, Class::Ignored, TLS),
    ("ca-file", 1, Class::Ignored, TLS),
    ("check-alpn", 1, Class::Ignored, TLS),
    ("check-proto", 1, Class::Remark, "checks speak HTTP/1.1"),
    ("check-send-proxy", 0, Class::Mapped, "checks send a header whenever send_proxy is set"),
    ("check-sni", 1, Class::Ignored, TLS),
    ("check-ssl", 0, Class::Refused, "checks speak plain HTTP, as requests do"),
    ("check-via-socks4", 0, Class::Refused, "servers are connected to directly"),
    ("ciphers", 1, Class::Ignored, TLS),
    ("ciphersuites", 1, Class::Ignored, TLS),
    ("cookie", 1, Class::Ignored, STICKY),
    ("crl-file", 1, Class::Ignored, TLS),
    ("crt", 1, Class::Ignored, TLS),
    ("downinter", 1, Class::Ignored, PACE),
    ("error-limit", 1, Class::Ignored, "checks decide; check.fall is how many must fail"),
    ("fastinter", 1, Class::Ignored, PACE),
    ("id", 1, Class::Ignored, "servers are known by their address"),
    ("init-addr", 1, Class::Ignored, NAMES),
    ("log-proto", 1, Class::Refused, "log servers have no form here"),
    ("max-reuse", 1, Class::Ignored, POOL),
    ("maxqueue", 1, Class::Remark, "max_queue is one for all servers of a pool; 1024 unless written"),
    ("minconn", 1, Class::Ignored, "max_requests_per_server does not move"),
    ("namespace", 1, Class::Refused, "start lyre inside the network namespace instead"),
    ("no-tls-tickets", 0, Class::Ignored, TLS),
    ("no-verifyhost", 0, Class::Ignored, TLS),
    ("non-stick", 0, Class::Ignored, "there is no table to stick to"),
    (
        "observe",
        1,
        Class::Ignored,
        "requests that fail to connect are tried at another server, and a check starts at once",
    ),
    ("on-error", 1, Class::Ignored, PACE),
    ("on-marked-down", 1, Class::Remark, MARKS),
    ("on-marked-up", 1, Class::Remark, "with mode = \"single-writer\" a server that comes back is not gone back to"),
    ("pool-low-conn", 1, Class::Ignored, POOL),
    ("pool-max-conn", 1, Class::Ignored, POOL),
    ("pool-purge-delay", 1, Class::Ignored, POOL),
    ("proto", 1, Class::Remark, "servers are spoken to in HTTP/1.1"),
    ("redir", 1, Class::Refused, "requests are passed on, not redirected to servers"),
    ("resolve-net", 1, Class::Ignored, NAMES),
    ("resolve-opts", 1, Class::Ignored, NAMES),
    ("resolve-prefer", 1, Class::Ignored, NAMES),
    ("resolvers", 1, Class::Ignored, NAMES),
    ("shard", 1, Class::Ignored, "there is no table of peers"),
    ("slowstart", 1, Class::Ignored, "a server that comes back is given at most max_requests_per_server at once"),
    ("npn", 1, Class::Ignored, TLS),
    ("proxy-v2-options", 1, Class::Remark, "version 2 without extensions"),
    ("send-proxy-v2-ssl", 0, Class::Ignored, TLS),
    ("send-proxy-v2-ssl-cn", 0, Class::Ignored, TLS),
    ("sni", 1, Class::Ignored, TLS),
    ("socks4", 1, Class::Refused, "servers are connected to directly"),
    ("source", 1, Class::Remark, "servers see the node's own address of the route to them"),
    ("ssl-max-ver", 1, Class::Ignored, TLS),
    ("ssl-min-ver", 1, Class::Ignored, TLS),
    ("force-sslv3", 0, Class::Ignored, TLS),
    ("force-tlsv10", 0, Class::Ignored, TLS),
    ("force-tlsv11", 0, Class::Ignored, TLS),
    ("force-tlsv12", 0, Class::Ignored, TLS),
    ("force-tlsv13", 0, Class::Ignored, TLS),
    ("ssl-reuse", 0, Class::Ignored, TLS),
    ("sslv3", 0, Class::Ignored, TLS),
    ("stick", 0, Class::Ignored, "there is no table to stick to"),
    ("tls-tickets", 0, Class::Ignored, TLS),
    ("tlsv10", 0, Class::Ignored, TLS),
    ("tlsv11", 0, Class::Ignored, TLS),
    ("tlsv12", 0, Class::Ignored, TLS),
    ("tlsv13", 0, Class::Ignored, TLS),
    ("usesrc", 1, Class::Refused, "servers see the node's own address; nobody else's is taken"),
    ("tcp-ut", 1, Class::Ignored, "dead connections are found by timeouts and keep-alives"),
    ("tfo", 0, Class::Ignored, "Lyre sizes its sockets itself"),
    ("track", 1, Class::Remark, "each pool checks its servers itself"),
    ("verify", 1, Class::Ignored, TLS),
    ("verifyhost", 1, Class::Ignored, TLS),
    ("ws", 1, Class::Ignored, "WebSockets go to servers by HTTP/1.1 always"),
];
