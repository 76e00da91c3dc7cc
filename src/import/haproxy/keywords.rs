//! Keywords that have no key in lyre.toml, and why. Those that have one are read where they belong.

use super::sections::Line;
use crate::import::findings::Findings;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Mapped(&'static str),
    Remark(&'static str),
    Ignored(&'static str),
    Refused(&'static str),
}

use Fate::{Ignored, Mapped, Refused, Remark};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Global,
    Proxy,
}

type Row = (&'static [&'static str], Fate);

/// Notes a statement that nobody reads.
pub(super) fn note(findings: &mut Findings, block: Block, line: &Line) {
    let (place, rows) = match block {
        Block::Global => ("global", GLOBAL),
        Block::Proxy => ("this section", PROXY),
    };
    let name = if line.word(0) == "no" { line.word(1) } else { line.word(0) };
    let by_start = || PREFIXES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, fate)| *fate);
    put(findings, line, place, find(rows, name).or_else(by_start));
}

pub(super) fn note_option(findings: &mut Findings, line: &Line) {
    put(findings, line, "option", find(OPTIONS, line.word(1)));
}

/// A whole section goes with its first line.
pub(super) fn note_section(findings: &mut Findings, line: &Line) {
    put(findings, line, "the top of the file", find(SECTIONS, line.word(0)));
}

fn find(rows: &[Row], name: &str) -> Option<Fate> {
    rows.iter().find(|(keywords, _)| keywords.contains(&name)).map(|(_, fate)| *fate)
}

fn put(findings: &mut Findings, line: &Line, place: &str, fate: Option<Fate>) {
    match fate {
        Some(Mapped(why)) => findings.mapped(line, why),
        Some(Remark(why)) => findings.remark(line, why),
        Some(Ignored(why)) => findings.ignored(line, why),
        Some(Refused(why)) => findings.refused(line, why),
        None => findings.unknown(line, place),
    }
}

const LOG: &str = "Lyre logs to stderr, for systemd's journal or log.access, in a format of its own";
const SUITES: &str = "versions and suites are those of Mozilla's intermediate recommendation; nothing to choose";
const SERVER_TLS: &str = "servers are spoken to in plain HTTP";
const PROCESS: &str = "housekeeping of haproxy's own processes";
const ACCOUNT: &str = "Lyre's worker has no privileges, and [worker] user says whose it is";
const STATS: &str = "lyre status shows it, lyre metrics has it for Prometheus";
const PROGRAMS: &str = "no programs are run on the way of a request";
const BUFFERS: &str = "Lyre sizes its buffers itself; [limits] has the bounds";
const CACHE: &str = "nothing is cached; Nextcloud tells browsers what they may keep";
const TABLES: &str = "there are no tables to share; each node counts for itself";
const PAGES: &str = "Lyre answers with pages of its own, in HTML, DAV XML and OCS JSON as the client understands";
const MAIL: &str = "Lyre sends no mail; alert on its metrics or its log";
const NAMES: &str = "names are not looked up yet; servers are addresses";
const SOCKETS: &str = "Lyre sizes its sockets itself";
const KEPT: &str =
    "connections are kept on both sides always, as long as timeouts.keepalive and the pool's keepalive say";
const RETRY: &str =
    "what cannot harm is tried again by itself: only what was not sent, or asked on a connection that had died";
const OFFICIAL: &str = "messages are read strictly as RFC 9112 wants";
const FILTERS: &str = "no filters are run on the way of a request";

/// Where a name may go on.
const PREFIXES: &[(&str, Fate)] = &[
    ("tune.", Ignored(BUFFERS)),
    ("httpclient.", Ignored("Lyre asks nothing but its servers")),
    ("51degrees-", Refused(PROGRAMS)),
    ("deviceatlas-", Refused(PROGRAMS)),
    ("wurfl-", Refused(PROGRAMS)),
    ("profiling.", Ignored(PROCESS)),
    ("lua-", Refused(PROGRAMS)),
    ("ssl-default-bind-", Ignored(SUITES)),
    ("ssl-default-server-", Ignored(SERVER_TLS)),
    ("srvtcpka-", Ignored(SOCKETS)),
    ("clitcpka-", Ignored(SOCKETS)),
    ("h1-", Ignored(OFFICIAL)),
    ("h2-", Ignored(OFFICIAL)),
    ("ssl-", Ignored(SUITES)),
    ("email-alert", Ignored(MAIL)),
];

const GLOBAL: &[Row] = &[
    (&["log", "log-tag", "log-send-hostname"], Ignored(LOG)),
    (&["chroot"], Ignored("Lyre's worker has no privileges and opens no files")),
    (
        &["stats"],
        Ignored("lyre's admin socket takes orders: admin.socket, and lyre status, drain, reload and bans ask there"),
    ),
    (&["user", "group", "uid", "gid", "setcap"], Ignored(ACCOUNT)),
    (
        &[
            "daemon",
            "master-worker",
            "mworker-max-reloads",
            "mworker-prog",
            "nbproc",
            "pidfile",
            "quiet",
            "debug",
            "node",
            "description",
            "localpeer",
            "set-dumpable",
            "zero-warning",
            "strict-limits",
            "expose-deprecated-directives",
            "expose-experimental-directives",
            "no-memory-trimming",
            "anonkey",
            "force-cfg-parser-pause",
            "grace",
            "close-spread-time",
            "prealloc-fd",
            "default-path",
            "numa-cpu-mapping",
            "limited-quic",
            "warn-blocked-traffic-after",
            "stats-file",
            "shm-stats-file",
            "shm-stats-file-max-objects",
            "dns-accept-family",
            "harden.reject-privileged-ports.tcp",
            "harden.reject-privileged-ports.quic",
            "fd-hard-limit",
            "thread-hard-limit",
            "cluster-secret",
            "key-base",
            "set-var",
            "set-var-fmt",
            "setenv",
            "presetenv",
            "unsetenv",
            "resetenv",
            "cfgfile",
        ],
        Ignored(PROCESS),
    ),
    (
        &["cpu-map", "cpu-policy", "cpu-set", "thread-group", "thread-groups"],
        Ignored("worker.cores is how many cores work, each for itself"),
    ),
    (
        &[
            "ulimit-n",
            "maxpipes",
            "maxsock",
            "nosplice",
            "nogetaddrinfo",
            "noreuseport",
            "spread-checks",
            "max-spread-checks",
        ],
        Ignored("Lyre raises its own limits, and spreads its checks"),
    ),
    (
        &["noepoll", "nopoll", "nokqueue", "noevports", "busy-polling", "maxcomprate", "maxcompcpuusage"],
        Ignored("worker.driver is io_uring or epoll"),
    ),
    (&["maxconnrate", "maxsessrate"], Refused("write abuse.connections_per_second; it holds per client")),
    (&["maxsslconn", "maxsslrate"], Ignored("limits.max_handshakes bounds them: 64 at once on each core")),
    (&["ca-base", "issuers-chain-path"], Ignored("certificates of clients and servers are not checked")),
    (&["external-check", "insecure-fork-wanted", "insecure-setuid-wanted"], Ignored(PROGRAMS)),
    (
        &["server-state-base", "server-state-file"],
        Ignored("the state of servers is found out by checks, at once after a start"),
    ),
    (&["unix-bind"], Ignored("no listener is a Unix socket")),
    (
        &["acme.scheduler"],
        Refused(
            "certificates by ACME are not in this version; let certbot write the files, they are read again by themselves",
        ),
    ),
    (&["pp2-never-send-local"], Ignored("checks send a PROXY header without a client")),
    (&["nbthread", "maxconn", "hard-stop-after", "crt-base"], Mapped("read above")),
];

const PROXY: &[Row] = &[
    (
        &[
            "log",
            "log-format",
            "log-format-sd",
            "log-tag",
            "log-steps",
            "error-log-format",
            "unique-id-format",
            "unique-id-header",
        ],
        Ignored(LOG),
    ),
    (&["capture", "declare"], Ignored(LOG)),
    (&["stats"], Ignored(STATS)),
    (
        &["monitor-uri", "monitor-net", "monitor"],
        Ignored("ask /status.php through Lyre, or its metrics; a page of its own for balancers is not there"),
    ),
    (
        &["maxconn", "fullconn"],
        Ignored("limits.max_connections holds for all listeners, max_requests_per_server for servers"),
    ),
    (&["rate-limit"], Refused("write abuse.connections_per_second; it holds per client")),
    (&["backlog", "nbconn"], Ignored(SOCKETS)),
    (&["bind-process", "id", "description", "guid"], Ignored(PROCESS)),
    (&["retries", "retry-on", "redispatch"], Ignored(RETRY)),
    (
        &["http-reuse", "max-keep-alive-queue"],
        Ignored("connections to servers are shared by the requests of all clients"),
    ),
    (&["errorfile", "errorfiles", "errorloc", "errorloc302", "errorloc303", "http-error"], Ignored(PAGES)),
    (
        &["compression"],
        Refused("responses are passed on as they come; let the web servers compress (mod_deflate, gzip), or leave it"),
    ),
    (&["filter"], Refused(FILTERS)),
    (
        &["use-server"],
        Refused("a server is chosen by load; requests with needs of their own get a [[pool]] and a [[route]]"),
    ),
    (
        &["use-fcgi-app"],
        Refused("FastCGI is a web server's work: keep nginx or Apache in front of PHP, and let Lyre lead to it"),
    ),
    (&["dispatch", "transparent"], Refused("requests go to the servers of a pool; write server lines")),
    (&["source"], Remark("servers see the node's own address of the route to them")),
    (
        &["load-server-state-from-file", "server-state-file-name"],
        Ignored("the state of servers is found out by checks, at once after a start"),
    ),
    (&["force-persist", "ignore-persist", "persist"], Ignored("a client is tied to no server")),
    (&["grace"], Ignored("timeouts.drain is how long what is open may finish")),
    (&["block"], Refused("requests are not turned away by such rules; let the web server do it")),
    (
        &[
            "reqidel",
            "reqirep",
            "reqrep",
            "reqdel",
            "reqdeny",
            "reqideny",
            "reqpass",
            "reqipass",
            "reqallow",
            "reqiallow",
            "reqtarpit",
            "reqitarpit",
            "reqiadd",
        ],
        Refused("requests are passed on as they came; let the web server do it"),
    ),
    (
        &["rspidel", "rsprep", "rspirep", "rspdel", "rspdeny", "rspideny"],
        Refused("responses are passed on as they come; let the web server do it"),
    ),
    (&["tcp-response"], Refused("nothing of a connection is looked into")),
    (&["stick", "hash-balance-factor", "hash-preserve-affinity"], Ignored("requests are not hashed")),
    (&["quic-initial", "force-be-switch"], Ignored("HTTP/3 is not spoken")),
    (&["option", "no"], Ignored("nothing to turn on")),
];

const OPTIONS: &[Row] = &[
    (
        &[
            "httplog",
            "tcplog",
            "httpslog",
            "clf",
            "dontlognull",
            "dontlog-normal",
            "log-separate-errors",
            "logasap",
            "socket-stats",
            "contstats",
            "httpslog",
        ],
        Ignored(LOG),
    ),
    (
        &[
            "http-keep-alive",
            "http-server-close",
            "httpclose",
            "forceclose",
            "http-tunnel",
            "http-pretend-keepalive",
            "prefer-last-server",
            "http-use-htx",
        ],
        Ignored(KEPT),
    ),
    (&["redispatch", "allredisp", "persist", "transparent"], Ignored(RETRY)),
    (
        &["http-buffer-request"],
        Mapped("bodies without a length are gathered by [spool] before PHP sees them; others are streamed"),
    ),
    (&["abortonclose"], Mapped("a request whose client left is given up while it waits")),
    (&["tcpka", "clitcpka", "srvtcpka"], Mapped("keep-alives find dead connections always")),
    (
        &[
            "nolinger",
            "splice-auto",
            "splice-request",
            "splice-response",
            "tcp-smart-accept",
            "tcp-smart-connect",
            "http-no-delay",
            "independent-streams",
            "independant-streams",
            "idle-close-on-response",
        ],
        Ignored(SOCKETS),
    ),
    (
        &[
            "accept-invalid-http-request",
            "accept-invalid-http-response",
            "accept-unsafe-violations-in-http-request",
            "accept-unsafe-violations-in-http-response",
            "h1-case-adjust-bogus-client",
            "h1-case-adjust-bogus-server",
            "http-restrict-req-hdr-names",
            "http-drop-request-trailers",
            "http-drop-response-trailers",
        ],
        Ignored(OFFICIAL),
    ),
    (&["http-ignore-probes", "http-use-proxy-header", "disable-h2-upgrade", "checkcache"], Ignored(OFFICIAL)),
    (&["allbackups"], Ignored("backup servers are left out, and said")),
    (&["originalto"], Refused("the address that a client asked is not passed on; X-Forwarded-Host is its name")),
    (&["use-small-buffers", "set-tap", "log-proxy"], Ignored(BUFFERS)),
];

const SECTIONS: &[Row] = &[
    (&["peers"], Ignored(TABLES)),
    (&["resolvers"], Ignored(NAMES)),
    (&["mailers"], Ignored(MAIL)),
    (&["cache"], Ignored(CACHE)),
    (&["userlist"], Refused("no passwords are asked for; let the web server do it")),
    (&["program"], Refused("Lyre starts no other programs; let systemd do it")),
    (&["ring", "log-forward", "log-profile", "traces"], Ignored(LOG)),
    (&["http-errors"], Ignored(PAGES)),
    (
        &["fcgi-app"],
        Refused("FastCGI is a web server's work: keep nginx or Apache in front of PHP, and let Lyre lead to it"),
    ),
    (&["crt-store"], Refused("write the cert and key of each of its load lines into tls.certificates")),
    (
        &["acme"],
        Refused(
            "certificates by ACME are not in this version; let certbot write the files, they are read again by themselves",
        ),
    ),
];
