//! Directives that have no key in lyre.toml, and why. Those that have one are read where they belong.

use super::tree::Directive;
use crate::import::findings::Findings;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Mapped(&'static str),
    Ignored(&'static str),
    Refused(&'static str),
}

use Fate::{Ignored, Mapped, Refused};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Main,
    Http,
    Upstream,
    Server,
    Location,
    Stream,
}

type Row = (&'static [&'static str], Fate);

/// Notes a directive that nobody reads. Its block goes with it.
pub(super) fn note(findings: &mut Findings, block: Block, directive: &Directive) {
    let name = directive.name();
    let own = match block {
        Block::Main => MAIN,
        Block::Upstream => UPSTREAM,
        Block::Http | Block::Server | Block::Location | Block::Stream => &[],
    };
    let fate = own.iter().chain(ANYWHERE).find(|(names, _)| names.contains(&name)).map(|(_, fate)| *fate);
    let by_start = || PREFIXES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, fate)| *fate);
    let place = match block {
        Block::Main => "the top of the file",
        Block::Http => "http",
        Block::Upstream => "upstream",
        Block::Server => "server",
        Block::Location => "location",
        Block::Stream => "stream",
    };
    match fate.or_else(by_start) {
        Some(Mapped(why)) => findings.mapped(directive, why),
        Some(Ignored(why)) => findings.ignored(directive, why),
        Some(Refused(why)) => findings.refused(directive, why),
        None => findings.unknown(directive, place),
    }
}

const PROCESS: &str = "housekeeping of nginx's own processes";
const LOG: &str = "Lyre logs to stderr, for systemd's journal or log.access, in a format of its own";
const SOCKETS: &str = "Lyre sizes its sockets and buffers itself; [limits] has the bounds";
const SUITES: &str = "versions and suites are those of Mozilla's intermediate recommendation; nothing to choose";
const SERVER_TLS: &str = "servers are spoken to in plain HTTP";
const FILES: &str = "is about files, which are the web server's work";
const PHP: &str = "is about PHP, which is the web server's work";
const CACHE: &str = "nothing is cached; Nextcloud tells browsers what they may keep";
const COMPRESSION: &str = "bodies are passed on as they come; the web servers may compress them";
const RATES: &str = "write abuse.requests_per_second and request_burst; a client is an address (IPv6: its /64), and failed logins are \
                     counted without";
const PROGRAMS: &str = "no programs are run on the way of a request";
const REWRITES: &str = "requests and responses are passed on as they come; let the web server do it";
const VARIABLES: &str = "variables have no part in routes; what uses them is said where it stands";
const LOGINS: &str = "no passwords are asked for; let the web server do it";

const PREFIXES: &[(&str, Fate)] = &[
    ("fastcgi_", Ignored(PHP)),
    ("uwsgi_", Ignored(PHP)),
    ("scgi_", Ignored(PHP)),
    ("gzip", Ignored(COMPRESSION)),
    ("gunzip", Ignored(COMPRESSION)),
    ("brotli", Ignored(COMPRESSION)),
    ("zstd", Ignored(COMPRESSION)),
    ("pagespeed", Refused(REWRITES)),
    ("modsecurity", Refused(PROGRAMS)),
    ("proxy_ssl_", Ignored(SERVER_TLS)),
    ("proxy_cache", Ignored(CACHE)),
    ("open_file_cache", Ignored(FILES)),
    ("auth_basic", Refused(LOGINS)),
    ("auth_request", Refused(LOGINS)),
    ("auth_jwt", Refused(LOGINS)),
    ("auth_delay", Refused(LOGINS)),
    ("limit_req", Refused(RATES)),
    ("limit_conn", Refused("limits.max_connections_per_client bounds the connections of a client")),
    ("limit_rate", Refused("transfers are not slowed down")),
    ("geoip", Ignored(VARIABLES)),
    ("js_", Refused(PROGRAMS)),
    ("perl", Refused(PROGRAMS)),
    ("lua_", Refused(PROGRAMS)),
    ("access_by_", Refused(PROGRAMS)),
    ("content_by_", Refused(PROGRAMS)),
    ("rewrite_by_", Refused(PROGRAMS)),
    ("header_filter_by_", Refused(PROGRAMS)),
    ("body_filter_by_", Refused(PROGRAMS)),
    ("log_by_", Refused(PROGRAMS)),
    ("set_by_", Refused(PROGRAMS)),
    ("init_", Refused(PROGRAMS)),
    (
        "ssl_client",
        Refused("certificates of clients are not asked for in this version; keep such a service behind a VPN"),
    ),
    (
        "ssl_verify_",
        Refused("certificates of clients are not asked for in this version; keep such a service behind a VPN"),
    ),
    ("ssl_stapling", Ignored("no OCSP responses are stapled")),
    ("ssl_", Ignored(SUITES)),
    ("quic_", Ignored("HTTP/3 is not spoken")),
    ("http3", Ignored("HTTP/3 is not spoken; clients use HTTP/2")),
    ("http2_", Ignored("HTTP/2 has budgets that need no tuning")),
    ("sub_filter", Refused(REWRITES)),
    ("dav_", Ignored(FILES)),
    ("mp4", Ignored(FILES)),
    ("image_filter", Refused(REWRITES)),
    ("large_client_header", Ignored(SOCKETS)),
    ("client_header_buffer", Ignored(SOCKETS)),
    ("client_body_", Ignored(SOCKETS)),
    ("more_", Refused("headers are not set or removed by such rules in this version; let the web server do it")),
    ("health_check", Ignored("servers are always checked: the pool's check")),
];

const MAIN: &[Row] = &[
    (
        &[
            "user",
            "pid",
            "daemon",
            "master_process",
            "worker_cpu_affinity",
            "worker_priority",
            "worker_rlimit_nofile",
            "worker_rlimit_core",
            "worker_shutdown_timeout",
            "working_directory",
            "timer_resolution",
            "lock_file",
            "env",
            "load_module",
            "thread_pool",
            "pcre_jit",
            "ssl_engine",
            "debug_points",
            "error_log",
            "multi_accept",
            "use",
            "accept_mutex",
            "accept_mutex_delay",
            "worker_aio_requests",
            "debug_connection",
            "google_perftools_profiles",
        ],
        Ignored(PROCESS),
    ),
    (&["mail"], Refused("mail is not proxied; a [[tcp]] passes its connections on")),
];

const PREREAD: &str = "connections are not told apart by the name that TLS asks for; one [[tcp]] for each address";

const UPSTREAM: &[Row] = &[
    (
        &["keepalive", "keepalive_requests", "keepalive_timeout", "keepalive_time"],
        Mapped("connections to servers are kept and shared; nginx behind: keepalive = \"60s\""),
    ),
    (
        &["zone", "state", "queue", "ntlm", "resolver", "resolver_timeout", "random"],
        Ignored("cores share what they know of servers always"),
    ),
    (&["check", "check_http_send", "check_http_expect_alive"], Ignored("servers are always checked: the pool's check")),
];

const ANYWHERE: &[Row] = &[
    (&["ssl_preread"], Refused(PREREAD)),
    (
        &[
            "access_log",
            "error_log",
            "log_format",
            "log_not_found",
            "log_subrequest",
            "rewrite_log",
            "uninitialized_variable_warn",
        ],
        Ignored(LOG),
    ),
    (
        &[
            "root",
            "index",
            "autoindex",
            "types",
            "default_type",
            "types_hash_max_size",
            "types_hash_bucket_size",
            "charset",
            "charset_types",
            "expires",
            "etag",
            "if_modified_since",
            "try_files",
            "alias",
            "sendfile",
            "sendfile_max_chunk",
            "directio",
            "aio",
            "disable_symlinks",
            "internal",
            "override_charset",
            "min_delete_depth",
        ],
        Ignored(FILES),
    ),
    (
        &[
            "tcp_nopush",
            "tcp_nodelay",
            "reset_timedout_connection",
            "lingering_close",
            "lingering_time",
            "lingering_timeout",
            "postpone_output",
            "output_buffers",
            "server_names_hash_bucket_size",
            "server_names_hash_max_size",
            "variables_hash_max_size",
            "variables_hash_bucket_size",
            "map_hash_bucket_size",
            "map_hash_max_size",
            "connection_pool_size",
            "request_pool_size",
            "proxy_headers_hash_max_size",
            "proxy_headers_hash_bucket_size",
            "read_ahead",
            "subrequest_output_buffer_size",
            "preread_buffer_size",
            "preread_timeout",
        ],
        Ignored(SOCKETS),
    ),
    (&["keepalive_requests"], Ignored("limits.max_keepalive_requests is 10000")),
    (&["keepalive_disable", "keepalive_time"], Ignored("connections are kept as timeouts.keepalive says")),
    (&["proxy_http_version"], Mapped("servers are spoken to in HTTP/1.1")),
    (
        &[
            "proxy_buffering",
            "proxy_buffers",
            "proxy_buffer_size",
            "proxy_busy_buffers_size",
            "proxy_max_temp_file_size",
            "proxy_temp_file_write_size",
            "proxy_temp_path",
            "proxy_limit_rate",
        ],
        Ignored("bodies are streamed, never kept on disk"),
    ),
    (
        &["proxy_request_buffering"],
        Mapped("bodies are streamed; those without a length are gathered by [spool] before PHP sees them"),
    ),
    (
        &["proxy_redirect", "proxy_cookie_path", "proxy_cookie_domain", "proxy_cookie_flags"],
        Ignored("responses are passed on as they come; Nextcloud knows its public name by X-Forwarded-*"),
    ),
    (
        &["proxy_next_upstream", "proxy_next_upstream_tries", "proxy_next_upstream_timeout"],
        Ignored(
            "what cannot harm is tried again by itself: only what was not sent, or asked on a connection that had died",
        ),
    ),
    (
        &[
            "proxy_pass_header",
            "proxy_pass_request_headers",
            "proxy_pass_request_body",
            "proxy_set_body",
            "proxy_method",
            "proxy_ignore_headers",
            "proxy_store",
            "proxy_store_access",
            "proxy_force_ranges",
        ],
        Ignored("requests and responses are passed on as they come"),
    ),
    (
        &[
            "proxy_bind",
            "proxy_socket_keepalive",
            "proxy_buffer",
            "proxy_download_rate",
            "proxy_upload_rate",
            "proxy_requests",
            "proxy_responses",
            "proxy_half_close",
            "proxy_session_drop",
        ],
        Ignored(SOCKETS),
    ),
    (&["proxy_protocol_timeout"], Ignored("timeouts.handshake is 10s")),
    (&["proxy_ignore_client_abort"], Ignored("a request whose client left is given up while it waits")),
    (
        &["proxy_intercept_errors", "error_page", "recursive_error_pages"],
        Ignored(
            "Lyre answers with pages of its own, in HTML, DAV XML and OCS JSON as the client understands; errors of servers are passed on",
        ),
    ),
    (
        &[
            "ignore_invalid_headers",
            "underscores_in_headers",
            "merge_slashes",
            "server_name_in_redirect",
            "port_in_redirect",
            "absolute_redirect",
            "chunked_transfer_encoding",
            "msie_padding",
            "msie_refresh",
            "max_ranges",
        ],
        Ignored("messages are read strictly as RFC 9112 wants, and targets passed on byte by byte"),
    ),
    (&["server_tokens"], Ignored("Lyre names no version; the servers' own is passed on")),
    (&["map", "geo", "split_clients", "set", "variables", "map_hash"], Ignored(VARIABLES)),
    (&["resolver", "resolver_timeout"], Ignored("names are not looked up yet; servers are addresses")),
    (
        &["allow", "deny", "satisfy"],
        Refused("addresses are kept out by a firewall, or for a while by lyre ban; a [[tcp]] has allow"),
    ),
    (
        &["secure_link", "secure_link_md5", "valid_referers", "referer_hash_max_size"],
        Refused("requests are not turned away by such rules; let the web server do it"),
    ),
    (&["stub_status", "status", "api"], Ignored("lyre status shows it, lyre metrics has it for Prometheus")),
    (
        &[
            "mirror",
            "mirror_request_body",
            "post_action",
            "add_before_body",
            "add_after_body",
            "add_trailer",
            "break",
            "rewrite",
            "return",
            "if",
            "grpc_pass",
            "memcached_pass",
            "uwsgi_pass",
            "empty_gif",
            "random_index",
            "ssi",
        ],
        Refused(REWRITES),
    ),
    (&["proxy_pass"], Refused("stands where no route can be made of it")),
    (&["ssl_certificate", "ssl_certificate_key", "ssl"], Mapped("tls.certificates")),
    (&["limit_except"], Refused("methods are not told apart; let the web server do it")),
    (&["userid", "userid_name", "userid_domain", "userid_expires"], Refused("cookies pass untouched")),
    (
        &[
            "client_body_in_file_only",
            "client_body_temp_path",
            "client_body_buffer_size",
            "client_body_in_single_buffer",
        ],
        Ignored("bodies are streamed; [spool] is for those without a length"),
    ),
    (
        &["server", "upstream", "location", "http", "stream", "events", "listen", "server_name"],
        Refused("stands where nginx does not take it"),
    ),
];
