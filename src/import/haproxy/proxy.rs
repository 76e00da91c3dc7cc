//! `defaults`, `frontend`, `backend` and `listen`: read into plain values.

use super::bind::{self, Bind};
use super::certificates::Tls;
use super::check;
use super::condition::{self, Acls, Test};
use super::keywords::{self, Block};
use super::rules;
use super::sections::{Line, Section};
use super::server::{self, Options, Server};
use super::time::ms;
use crate::import::edge::{Check, Edge, network};
use crate::import::error::Position;
use crate::import::files::Files;
use crate::import::findings::{Findings, Said as _};
use std::path::Path;

/// What reading needs besides the section.
pub(super) struct Reader<'a> {
    pub(super) findings: &'a mut Findings,
    pub(super) edge: &'a mut Edge,
    pub(super) tls: &'a mut Tls,
    pub(super) files: &'a dyn Files,
    pub(super) source: &'a Path,
}

#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) shown: String,
    pub(super) at: Position,
    /// HAProxy's own default.
    pub(super) is_tcp: bool,
    pub(super) is_off: bool,
    pub(super) binds: Vec<Bind>,
    pub(super) servers: Vec<Server>,
    pub(super) default_server: Options,
    pub(super) acls: Acls,
    pub(super) uses: Vec<Line>,
    pub(super) default_backend: Option<Line>,
    /// What has no TLS is sent there.
    pub(super) redirects: bool,
    pub(super) check: Check,
    pub(super) check_port: Option<u16>,
    pub(super) has_mysql_check: bool,
    pub(super) mysql_user: Option<String>,
    pub(super) balance: Option<&'static str>,
    /// One server for all, by a table with one entry.
    pub(super) is_single: bool,
    pub(super) times: Times,
    pub(super) allow: Vec<String>,
    pub(super) balancers: Option<Vec<String>>,
    pub(super) nextcloud_signs: u32,
}

/// Milliseconds.
#[derive(Clone, Default)]
pub(super) struct Times {
    pub(super) connect: Option<u64>,
    pub(super) client: Option<u64>,
    pub(super) server: Option<u64>,
    pub(super) tunnel: Option<u64>,
    pub(super) queue: Option<u64>,
    pub(super) head: Option<u64>,
    pub(super) keepalive: Option<u64>,
}

/// Reads a section on top of the `defaults` it inherits.
pub(super) fn read(reader: &mut Reader, section: &Section, base: Option<&Proxy>) -> Option<Proxy> {
    let first = section.lines.first()?;
    let mut proxy = Proxy {
        kind: section.kind().to_owned(),
        name: section.name().to_owned(),
        shown: first.shown(),
        at: first.at.clone(),
        ..base.cloned().unwrap_or_else(|| Proxy::empty(first.at.clone()))
    };
    // ACLs are used by lines above them too.
    for line in section.inside().iter().filter(|line| line.word(0) == "acl") {
        acl(reader, line, &mut proxy);
    }
    // The mode decides what others mean, and bind is needed for the servers' ports.
    for line in section.inside().iter().filter(|line| line.word(0) == "mode") {
        mode(reader.findings, line, &mut proxy);
    }
    for line in section.inside().iter().filter(|line| line.word(0) == "bind") {
        proxy.binds.extend(bind::read(reader.findings, line, reader.tls, reader.files));
    }
    for line in section.inside().iter().filter(|line| !matches!(line.word(0), "acl" | "mode" | "bind")) {
        statement(reader, line, &mut proxy);
    }
    Some(proxy)
}

impl Proxy {
    fn empty(at: Position) -> Proxy {
        Proxy {
            kind: String::new(),
            name: String::new(),
            shown: String::new(),
            at,
            is_tcp: true,
            is_off: false,
            binds: Vec::new(),
            servers: Vec::new(),
            default_server: Options::default(),
            acls: Acls::default(),
            uses: Vec::new(),
            default_backend: None,
            redirects: false,
            check: Check::default(),
            check_port: None,
            has_mysql_check: false,
            mysql_user: None,
            balance: None,
            is_single: false,
            times: Times::default(),
            allow: Vec::new(),
            balancers: None,
            nextcloud_signs: 0,
        }
    }
}

fn acl(reader: &mut Reader, line: &Line, proxy: &mut Proxy) {
    match condition::define(&mut proxy.acls, line, reader.files, reader.source) {
        Test::Other => {
            reader.findings.ignored(line, "looks at what no route can say; each rule that uses it is refused")
        }
        Test::Rate => reader.findings.ignored(line, "counts; each rule that uses it says what there is instead"),
        Test::WebSocket => reader.findings.ignored(line, "WebSockets need no rule"),
        Test::Hosts(_) => reader.findings.mapped(line, "hosts of the rules that use it"),
        Test::Paths(_) => reader.findings.mapped(line, "paths of the rules that use it"),
        Test::Tls | Test::Source(_) | Test::Always | Test::Never => {
            reader.findings.mapped(line, "part of the rules that use it");
        }
    }
}

fn mode(findings: &mut Findings, line: &Line, proxy: &mut Proxy) {
    match line.word(1) {
        "http" => proxy.is_tcp = false,
        "tcp" => proxy.is_tcp = true,
        _ => return findings.refused(line, "is not http or tcp"),
    }
    findings.mapped(line, if proxy.is_tcp { "a [[tcp]]" } else { "requests, by [nextcloud] or a [[pool]]" });
}

fn statement(reader: &mut Reader, line: &Line, proxy: &mut Proxy) {
    let is_read = rules::read(reader, line, proxy)
        || check::read(reader.findings, line, proxy)
        || balance(reader.findings, line, proxy);
    if is_read {
        return;
    }
    match line.word(0) {
        "server" => {
            let port = proxy.binds.iter().flat_map(|bind| &bind.addresses).next().map_or(0, |address| address.port());
            proxy.servers.extend(server::read(reader.findings, line, &proxy.default_server, port));
        }
        "default-server" => server::defaults(reader.findings, line, &mut proxy.default_server),
        "server-template" => {
            reader.findings.refused(line, "names are not looked up yet; write the addresses of these servers");
        }
        "use_backend" => proxy.uses.push(line.clone()),
        "default_backend" => proxy.default_backend = Some(line.clone()),
        "timeout" | "clitimeout" | "contimeout" | "srvtimeout" => timeout(reader.findings, line, proxy),
        "option" if line.word(1) == "forwardfor" => forwardfor(reader, line),
        "disabled" => {
            proxy.is_off = true;
            reader.findings.remark(line, "this section is left out");
        }
        "enabled" => {
            proxy.is_off = false;
            reader.findings.mapped(line, "this section is used");
        }
        "option" => keywords::note_option(reader.findings, line),
        "no" if line.word(1) == "option" => reader.findings.ignored(line, "nothing depends on what it turns off"),
        "no" if line.word(1) == "log" => reader.findings.ignored(line, "log.access is one for all"),
        _ => keywords::note(reader.findings, Block::Proxy, line),
    }
}

fn timeout(findings: &mut Findings, line: &Line, proxy: &mut Proxy) {
    let (name, value) = match line.word(0) {
        "clitimeout" => ("client", line.word(1)),
        "contimeout" => ("connect", line.word(1)),
        "srvtimeout" => ("server", line.word(1)),
        _ => (line.word(1), line.word(2)),
    };
    let Some(value) = ms(value) else { return findings.refused(line, "is no time") };
    let times = &mut proxy.times;
    let (place, to) = match name {
        "connect" => (&mut times.connect, "connect_timeout"),
        "client" => (&mut times.client, "timeouts.client_idle, and idle_timeout of a [[tcp]]"),
        "server" => {
            times.server = Some(value);
            let why = "response_timeout and idle_timeout; Nextcloud and the services beside it keep their own where those are \
                       longer, as PHP must be the first to give up";
            return findings.remark(line, why);
        }
        "tunnel" => (&mut times.tunnel, "tunnel_timeout, and idle_timeout of a [[tcp]]"),
        "queue" => (&mut times.queue, "queue_timeout"),
        "http-request" => (&mut times.head, "timeouts.head"),
        "http-keep-alive" => (&mut times.keepalive, "timeouts.keepalive"),
        "check" => (&mut proxy.check.timeout_ms, "check.timeout"),
        "client-fin" | "server-fin" => {
            return findings.ignored(line, "a connection whose one end is closed has the same timeouts");
        }
        "tarpit" => return findings.ignored(line, "abuse.tarpit is about who is banned"),
        "client-hs" => return findings.ignored(line, "timeouts.handshake is 10s"),
        _ => return findings.unknown(line, "timeout"),
    };
    *place = Some(value);
    findings.mapped(line, to);
}

fn forwardfor(reader: &mut Reader, line: &Line) {
    let except = line.words.iter().position(|word| word == "except").map(|index| line.word(index + 1));
    let network = except.and_then(network);
    match (except, network) {
        (Some(except), _) if except.starts_with("127.") || except == "::1" => {
            reader.findings.mapped(line, "X-Forwarded-For is always sent");
        }
        (Some(_), Some(network)) => {
            reader.edge.trusted_proxies.push(network);
            let why = "nextcloud.trusted_proxies: whose X-Forwarded-For is kept; what others send is written anew";
            reader.findings.remark(line, why);
        }
        (Some(_), None) => {
            reader.findings.refused(line, "is no network; write the proxies in front into nextcloud.trusted_proxies")
        }
        (None, _) if line.words.iter().any(|word| word == "header") => {
            reader
                .findings
                .remark(line, "the client is in X-Forwarded-For and X-Real-IP, not in a header of another name");
        }
        (None, _) => reader.findings.mapped(line, "X-Forwarded-For is always sent"),
    }
}

/// `balance`, `stick …` and `cookie`: who gets the next one.
fn balance(findings: &mut Findings, line: &Line, proxy: &mut Proxy) -> bool {
    match (line.word(0), line.word(1)) {
        ("balance", algorithm) => algorithm_of(findings, line, proxy, algorithm),
        ("hash-type", _) => findings.ignored(line, "a lost server moves only its own clients always"),
        ("stick-table", _) if proxy.is_tcp => {
            findings.ignored(line, "mode = \"single-writer\" and \"source\" need no table");
        }
        ("stick-table", _) => findings.ignored(line, "there are no tables; abuse counts by itself, and Nextcloud needs no stickiness"),
        ("stick", _) if proxy.is_tcp => match line.word(2) {
            "src" => {
                proxy.balance = Some("source");
                findings.mapped(line, "tcp.mode = \"source\"");
            }
            _ => {
                proxy.is_single = true;
                findings.mapped(line, "tcp.mode = \"single-writer\"");
            }
        },
        ("stick" | "cookie" | "appsession", _) => findings.refused(
            line,
            "a client is tied to no server: keep Nextcloud's sessions in Redis, then each server can answer each request",
        ),
        _ => return false,
    }
    true
}

fn algorithm_of(findings: &mut Findings, line: &Line, proxy: &mut Proxy, algorithm: &str) {
    if proxy.is_tcp {
        proxy.balance = match algorithm {
            "source" => Some("source"),
            "first" => Some("first"),
            _ => proxy.balance,
        };
        return match algorithm {
            "source" | "first" => findings.mapped(line, format!("tcp.mode = \"{algorithm}\"")),
            "leastconn" => findings.mapped(line, "tcp.mode = \"least-connections\""),
            _ => findings.remark(line, "the server with the fewest connections is taken"),
        };
    }
    let text = line.words.join(" ").to_ascii_lowercase();
    match algorithm {
        "leastconn" => findings.mapped(line, "the server with fewer requests of two is taken"),
        "roundrobin" | "static-rr" | "random" => {
            findings.remark(line, "the server with fewer requests of two is taken, not the next one");
        }
        _ if text.contains("wopisrc") => findings.mapped(line, "[collabora] and [onlyoffice] keep a document at one server"),
        "first" => findings.remark(line, "all servers are used; the one with fewer requests of two is taken"),
        "source" | "uri" | "url_param" | "hdr" | "rdp-cookie" | "hash" => findings.refused(
            line,
            "requests are not hashed: Nextcloud needs no stickiness with its sessions in Redis; documents stay together by \
             [collabora]",
        ),
        algorithm if algorithm.starts_with("hdr(") || algorithm.starts_with("rdp-cookie(") => {
            findings.refused(line, "requests are not hashed; Nextcloud needs no stickiness with its sessions in Redis");
        }
        _ => findings.unknown(line, "balance"),
    }
}
