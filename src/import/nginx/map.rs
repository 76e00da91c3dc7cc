//! `http`, `server` and `location`: listeners, certificates and routes.

use super::backends::{self, Backends};
use super::keywords::{self, Block};
use super::listen::{self, Listen};
use super::stream;
use super::tree::Directive;
use super::units::ms;
use crate::config::units::show_duration;
use crate::import::edge::{self, Backend, Certificate, Edge, Kind, Listener, Route, headers};
use crate::import::findings::{Class, Findings, Said as _};
use std::time::Duration;

const WEB_SERVER: &str = "this nginx runs PHP (fastcgi_pass), so it is a web server and no edge: keep it, let it listen without TLS \
                          on an internal address, name that one in servers, and let it believe Lyre (set_real_ip_from, \
                          trusted_proxies)";

pub(super) fn edge(findings: &mut Findings, directives: &[Directive]) -> Edge {
    let mut edge = Edge::default();
    let blocks = |name: &str| directives.iter().filter(move |d| d.name() == name).collect::<Vec<_>>();
    for http in blocks("http") {
        self::http(findings, &mut edge, http.inside());
    }
    // A site by itself, as it is included.
    let is_site = |d: &&Directive| matches!(d.name(), "server" | "upstream" | "map" | "geo" | "limit_req_zone");
    let site: Vec<Directive> = directives.iter().filter(is_site).cloned().collect();
    let has_http = !blocks("http").is_empty();
    if !has_http {
        self::http(findings, &mut edge, if site.is_empty() { &site } else { directives });
    }
    real_ip(&mut edge, directives);
    for block in blocks("stream") {
        stream::read(findings, &mut edge, block);
    }
    let known = |d: &&Directive| matches!(d.name(), "http" | "stream") || !has_http && !site.is_empty();
    for directive in directives.iter().filter(|directive| !known(directive)) {
        main(findings, &mut edge, directive);
    }
    edge
}

/// `set_real_ip_from` is about the header that `real_ip_header` names, wherever that stands.
fn real_ip(edge: &mut Edge, directives: &[Directive]) {
    for directive in directives {
        let header = if directive.name() == "real_ip_header" { directive.word(1) } else { "" };
        match header.to_ascii_lowercase().as_str() {
            // They speak by the PROXY header only.
            "proxy_protocol" => edge.trusted_proxies.clear(),
            "cf-connecting-ip" => edge.trusted_proxies = vec!["cloudflare".to_owned()],
            _ => real_ip(edge, directive.inside()),
        }
    }
}

/// Outside of every block, and `events`.
fn main(findings: &mut Findings, edge: &mut Edge, directive: &Directive) {
    match directive.name() {
        "events" => {
            for inner in directive.inside() {
                let count: Option<u64> = inner.word(1).parse().ok().filter(|count| (16..=1_000_000).contains(count));
                match (inner.name(), count) {
                    ("worker_connections", Some(count)) => {
                        edge.set(findings, inner, ("limits", "max_connections"), count.to_string());
                    }
                    ("worker_connections", None) => findings.refused(inner, "limits.max_connections is 16..1000000"),
                    _ => keywords::note(findings, Block::Main, inner),
                }
            }
            findings.mapped(directive, "limits");
        }
        "worker_processes" => match directive.word(1).parse::<u64>() {
            Ok(count @ 1..=255) => edge.set(findings, directive, ("worker", "cores"), count.to_string()),
            _ => findings.mapped(directive, "worker.cores is all CPUs by default"),
        },
        _ => keywords::note(findings, Block::Main, directive),
    }
}

fn http(findings: &mut Findings, edge: &mut Edge, directives: &[Directive]) {
    let mut backends = Backends::read(findings, directives, false);
    let mut outer = Vec::new();
    for directive in directives {
        match directive.name() {
            "server" | "upstream" | "stream" => {}
            _ if setting(findings, edge, directive) => {}
            "proxy_connect_timeout" | "proxy_read_timeout" | "proxy_send_timeout" => outer.push(directive.clone()),
            _ => keywords::note(findings, Block::Http, directive),
        }
    }
    let before = edge.backends.len();
    for server in directives.iter().filter(|directive| directive.name() == "server") {
        Site { findings, edge, backends: &mut backends }.server(server, directives);
    }
    for directive in outer {
        // Noted once, and given to each backend that has none of its own.
        for backend in edge.backends.iter_mut().skip(before) {
            backends::timeouts(&mut Findings::default(), &directive, Some(backend));
        }
        backends::timeouts(findings, &directive, None);
    }
}

/// What may stand in http, server and location alike.
fn setting(findings: &mut Findings, edge: &mut Edge, directive: &Directive) -> bool {
    let value = directive.word(1);
    let mut time = |key: &'static str| match ms(value) {
        Some(ms @ 1000..=3_600_000) => {
            let text = format!("\"{}\"", show_duration(Duration::from_millis(ms)));
            edge.set(findings, directive, ("timeouts", key), text);
        }
        _ => findings.remark(directive, format!("timeouts.{key} is 1s to 1h, and has its default")),
    };
    match directive.name() {
        "client_header_timeout" => time("head"),
        "keepalive_timeout" => time("keepalive"),
        "client_body_timeout" | "send_timeout" => time("client_idle"),
        "http2" | "spdy" => match value {
            "off" => edge.set(findings, directive, ("tls", "http2"), "false".to_owned()),
            _ => findings.mapped(directive, "tls.http2"),
        },
        "add_header" => headers::response(findings, directive, edge, value, directive.word(2)),
        "proxy_set_header" if value.eq_ignore_ascii_case("host") => match directive.word(2) {
            "$host" | "$http_host" | "$host:$server_port" | "$server_name" => {
                findings.mapped(directive, "Host is passed on as it came");
            }
            _ => headers::request(findings, directive, value),
        },
        "proxy_set_header" if value.eq_ignore_ascii_case("accept-encoding") => {
            findings.ignored(directive, "bodies are passed on as they come");
        }
        "proxy_set_header" => headers::request(findings, directive, value),
        "proxy_hide_header" => headers::deleted(findings, directive, value),
        "client_max_body_size" => {
            let why = format!(
                "bodies have no limit, Nextcloud's own has a better message; else limits.max_body = for {value}"
            );
            findings.remark(directive, why);
        }
        "set_real_ip_from" => match edge::network(value) {
            Some(network) => {
                edge.trusted_proxies.push(network);
                findings.mapped(directive, "nextcloud.trusted_proxies, or listener.proxy_protocol");
            }
            None => findings.refused(directive, "is no address or network; write it into nextcloud.trusted_proxies"),
        },
        "real_ip_header" if value.eq_ignore_ascii_case("cf-connecting-ip") => {
            findings.remark(directive, "nextcloud.trusted_proxies = [\"cloudflare\"], whose networks Lyre knows");
        }
        "real_ip_header" => findings.mapped(directive, "X-Forwarded-For of a trusted proxy, or the PROXY header"),
        "real_ip_recursive" => {
            findings.mapped(directive, "read from the right, the first address that is no trusted proxy")
        }
        _ => return false,
    }
    true
}

struct Site<'a> {
    findings: &'a mut Findings,
    edge: &'a mut Edge,
    backends: &'a mut Backends,
}

/// What a server block says besides its locations.
#[derive(Default)]
struct Seen {
    hosts: Vec<String>,
    listens: Vec<(Listen, Directive)>,
    certificate: Option<String>,
    key: Option<String>,
    has_tls: bool,
    redirects: bool,
    routes: usize,
}

impl Site<'_> {
    fn server(&mut self, block: &Directive, outer: &[Directive]) {
        let mut seen = Seen { hosts: self.hosts(block), ..Seen::default() };
        for directive in block.inside().iter().filter(|directive| directive.name() == "listen") {
            let listen = listen::read(self.findings, directive);
            seen.listens.extend(listen.map(|listen| (listen, directive.clone())));
        }
        if !block.inside().iter().any(|directive| directive.name() == "listen") {
            seen.listens.push((listen::default(), block.clone()));
        }
        let is_web_server = runs_php(block);
        let routes = self.edge.routes.len();
        for directive in block.inside() {
            self.directive(directive, &mut seen, is_web_server);
        }
        if is_web_server {
            self.web_server(block, &seen);
        }
        seen.routes = self.edge.routes.len() - routes;
        self.listeners(block, &seen, outer);
    }

    fn hosts(&mut self, block: &Directive) -> Vec<String> {
        let mut hosts = Vec::new();
        for directive in block.inside().iter().filter(|directive| directive.name() == "server_name") {
            let mut lost = Vec::new();
            for name in directive.from(1).iter().filter(|name| !matches!(name.as_str(), "_" | "")) {
                match edge::host(name) {
                    Some(host) if !hosts.contains(&host) => hosts.push(host),
                    Some(_) => {}
                    None => lost.push(name.as_str()),
                }
            }
            match lost.is_empty() {
                true => self.findings.mapped(directive, "hosts of what is routed here"),
                false => {
                    let why = format!(
                        "hosts, without {}: patterns of names are not known yet, name each host",
                        lost.join(", ")
                    );
                    self.findings.refused(directive, why);
                }
            }
        }
        hosts
    }

    fn directive(&mut self, directive: &Directive, seen: &mut Seen, is_web_server: bool) {
        match directive.name() {
            "listen" | "server_name" => {}
            "ssl_certificate" => {
                seen.certificate = Some(directive.word(1).to_owned());
                self.findings.mapped(directive, "tls.certificates[].cert");
            }
            "ssl_certificate_key" => {
                seen.key = Some(directive.word(1).to_owned());
                self.findings.mapped(directive, "tls.certificates[].key");
            }
            "ssl" => {
                seen.has_tls = directive.word(1) == "on";
                self.findings.mapped(directive, "listener.kind");
            }
            "return" | "rewrite" => self.answer(directive, None, seen),
            "if" => self.condition(directive, seen),
            "location" => self.location(directive, seen, is_web_server),
            _ if setting(self.findings, self.edge, directive) => {}
            _ if backends::timeouts(self.findings, directive, None) => {}
            _ => keywords::note(self.findings, Block::Server, directive),
        }
    }

    /// `return 301 https://…`, `return 404`; `path` is the location's.
    fn answer(&mut self, directive: &Directive, path: Option<&str>, seen: &mut Seen) {
        let words = directive.words.join(" ");
        let is_well_known = path.is_some_and(|path| path.contains("/.well-known")) || words.contains("/remote.php/dav");
        let to_https = words.contains("https://");
        match () {
            () if is_well_known => {
                self.findings.mapped(directive, "[nextcloud] redirects /.well-known/ paths by itself")
            }
            () if path.is_some() && matches!(directive.word(1), "403" | "404" | "444") => self.denied(directive, path),
            () if to_https && path.is_none_or(|path| path == "/") && !seen.has_tls_listener() => {
                seen.redirects = true;
                let is_same = ["$host", "$http_host", "$server_name"].iter().any(|name| words.contains(name))
                    || seen.hosts.iter().any(|host| words.contains(&format!("https://{host}")));
                match is_same {
                    true => self.findings.mapped(directive, "listener.kind = \"redirect\": 308 to https"),
                    false => {
                        self.findings.remark(directive, "listener.kind = \"redirect\": 308 to https of the same host")
                    }
                }
            }
            () if directive.word(1) == "404" && path.is_none() || directive.word(1) == "444" => {
                self.findings.ignored(directive, "hosts without a route are answered 404");
            }
            () if to_https => self.findings.refused(
                directive,
                "one host is not redirected to another: name both in hosts, or let the web server do it",
            ),
            () => self
                .findings
                .refused(directive, "targets are passed on byte by byte; let the web server answer or rewrite this"),
        }
    }

    /// What nobody may ask for: a path, or a pattern of paths.
    fn denied(&mut self, directive: &Directive, path: Option<&str>) {
        let typed = path.unwrap_or_default();
        let paths = edge::pattern(typed).unwrap_or_else(|| vec![typed.to_owned()]);
        let count = paths.iter().filter(|path| edge::is_hidden(path)).count();
        let is_dotted = typed.contains("/\\.") || typed.contains("/.");
        match () {
            () if count == paths.len() || typed.contains("/\\.ht") => {
                self.findings.mapped(directive, "[nextcloud] answers these paths with 404 by itself");
            }
            () if count > 0 || is_dotted => self.findings.remark(
                directive,
                "[nextcloud] answers its own list of paths with 404, /.ht* among them; others are the web server's to refuse",
            ),
            () => self.findings.refused(directive, "requests are not turned away by such rules; let the web server do it"),
        }
    }

    /// `if` of a server: certbot's redirect to https is known.
    fn condition(&mut self, block: &Directive, seen: &mut Seen) {
        let words = block.words.join(" ");
        let is_about_clear = ["$scheme", "$host", "$server_port", "$https"].iter().any(|name| words.contains(name));
        let is_redirect = block.inside().iter().any(|d| d.words.iter().any(|word| word.starts_with("https://")));
        match is_about_clear && is_redirect && !words.contains("!=") {
            true => {
                seen.redirects = true;
                self.findings.mapped(block, "listener.kind = \"redirect\" where there is no TLS: 308 to https");
            }
            false => self.findings.refused(block, "conditions are not known; a [[route]] knows host and path"),
        }
    }

    fn location(&mut self, block: &Directive, seen: &mut Seen, is_web_server: bool) {
        let (modifier, typed) = match block.words.as_slice() {
            [_, modifier, path] => (modifier.as_str(), path.as_str()),
            _ => ("", block.word(1)),
        };
        if is_web_server && !block.inside().iter().any(|d| d.name() == "proxy_pass") {
            return self.findings.ignored(block, "stays in the web server, which does this itself");
        }
        if typed.starts_with('@') {
            return self
                .findings
                .refused(block, "named locations are not known; what leads there is a [[route]] of its own");
        }
        let paths = match modifier {
            "~" | "~*" => edge::pattern(typed),
            _ => edge::is_path(typed).then(|| vec![typed.to_owned()]),
        };
        let pass = block.inside().iter().find(|directive| directive.name() == "proxy_pass");
        let mut backend = None;
        match (pass, &paths) {
            (None, _) => {}
            (Some(pass), None) => {
                self.findings
                    .refused(pass, "its location is a pattern that no path says; write a [[route]] with the path");
            }
            (Some(pass), Some(paths)) => backend = self.route(block, pass, paths, modifier, &seen.hosts),
        }
        let mut is_about_files = false;
        for directive in block.inside() {
            let own = backend.and_then(|index: usize| self.edge.backends.get_mut(index));
            // The location of a WebSocket says how long it may be silent.
            if directive.name() == "proxy_read_timeout" && typed.contains("/ws") {
                let ms = ms(directive.word(1));
                own.into_iter().for_each(|backend| backend.tunnel_ms = ms.or(backend.tunnel_ms));
                self.findings.mapped(directive, "tunnel_timeout");
                continue;
            }
            if backends::timeouts(self.findings, directive, own) {
                continue;
            }
            match directive.name() {
                "proxy_pass" => {}
                "location" => self.location(directive, seen, is_web_server),
                "return" | "rewrite" => self.answer(directive, Some(typed), seen),
                "deny" if directive.word(1) == "all" => self.denied(directive, Some(typed)),
                "root" | "alias" | "try_files" | "index" => {
                    is_about_files = true;
                    self.findings.refused(
                        directive,
                        "files are not served: let the web server do it (of ACME: the web servers get its path)",
                    );
                }
                "if" => self.findings.refused(directive, "conditions are not known; a [[route]] knows host and path"),
                _ if setting(self.findings, self.edge, directive) => {}
                _ => keywords::note(self.findings, Block::Location, directive),
            }
        }
        match (pass, is_about_files) {
            (Some(_), _) if backend.is_some() => {}
            (Some(_), _) => self.findings.refused(block, "leads nowhere that is carried over"),
            (None, _) => self.findings.ignored(block, "leads to no server by itself; see its lines"),
        }
    }

    /// The routes of a `proxy_pass`; its backend.
    fn route(
        &mut self,
        block: &Directive,
        pass: &Directive,
        paths: &[String],
        modifier: &str,
        hosts: &[String],
    ) -> Option<usize> {
        let target = match self.backends.target(self.edge, pass, pass.word(1)) {
            Ok(target) => target,
            Err(why) => {
                self.findings.refused(pass, why);
                return None;
            }
        };
        let is_rewritten = target.path.as_ref().is_some_and(|path| !paths.contains(path));
        let is_beside = paths.iter().all(|path| edge::is_service(path));
        for path in paths {
            self.edge.routes.push(Route {
                hosts: hosts.to_vec(),
                path: path.clone(),
                backend: target.backend,
                is_rewritten: is_rewritten && !is_beside,
                at: block.at.clone(),
                shown: block.shown(),
            });
        }
        self.findings.mapped(pass, "servers of its section");
        match modifier {
            "=" | "~" | "~*" => self.findings.remark(block, "a route of everything that begins with this path"),
            _ => self.findings.mapped(block, "a route of this path"),
        }
        Some(target.backend)
    }

    /// The nginx that runs PHP is what Lyre leads to.
    fn web_server(&mut self, block: &Directive, seen: &Seen) {
        self.findings.refused(block, WEB_SERVER);
        let backend = self.edge.backends.len();
        self.edge.backends.push(Backend {
            name: "nextcloud".to_owned(),
            shown: block.shown(),
            at: Some(block.at.clone()),
            names: vec!["10.0.0.21:80".to_owned()],
            nextcloud_signs: 10,
            problem: Some(WEB_SERVER.to_owned()),
            ..Backend::default()
        });
        self.edge.routes.push(Route {
            hosts: seen.hosts.clone(),
            path: "/".to_owned(),
            backend,
            is_rewritten: false,
            at: block.at.clone(),
            shown: block.shown(),
        });
    }

    fn listeners(&mut self, block: &Directive, seen: &Seen, outer: &[Directive]) {
        if seen.routes == 0 && !seen.redirects {
            return self.findings.refused(block, "leads nowhere that is carried over, so nothing listens for it");
        }
        self.findings.mapped(block, "[[listener]] and routes of its hosts");
        let of = |name: &'static str| {
            let own = block.inside().iter().chain(outer);
            own.filter(move |directive| directive.name() == name).map(|directive| directive.word(1).to_owned())
        };
        if seen.has_tls_listener() {
            let cert = seen.certificate.clone().or_else(|| of("ssl_certificate").next());
            let key = seen.key.clone().or_else(|| of("ssl_certificate_key").next());
            let whole = |path: String| if path.starts_with('/') { path } else { format!("/etc/nginx/{path}") };
            let made = cert.filter(|cert| !cert.is_empty() && !cert.contains('$')).map(whole).map(|cert| {
                let key = key.filter(|key| !key.is_empty()).map(whole).filter(|key| *key != cert);
                Certificate { cert, key, comment: None }
            });
            self.edge.certificates.extend(made);
        }
        let balancers: Vec<String> = of("set_real_ip_from").filter_map(|network| edge::network(&network)).collect();
        for (listen, directive) in &seen.listens {
            let kind = match () {
                () if listen.has_tls || seen.has_tls => Kind::Https,
                () if seen.redirects => Kind::Redirect,
                () => Kind::Http,
            };
            for address in &listen.addresses {
                // Servers share their addresses; what one serves, no other one's redirect takes away.
                let is_there = self.edge.listeners.iter_mut().find(|other| other.address == *address);
                match is_there {
                    Some(other) => {
                        let is_clear = other.kind == Kind::Redirect && kind == Kind::Http;
                        if is_clear || (other.kind == Kind::Https) != (kind == Kind::Https) {
                            let why = "another server of this file uses this address in another way, and a listener is the \
                                       same for all hosts";
                            self.findings.at(&directive.at, Class::Refused, directive.shown(), why);
                        }
                        if is_clear {
                            other.kind = Kind::Http;
                        }
                        if listen.has_proxy && other.balancers.is_none() {
                            other.balancers = Some(balancers.clone());
                        }
                    }
                    None => self.edge.listeners.push(Listener {
                        address: *address,
                        kind,
                        balancers: listen.has_proxy.then(|| balancers.clone()),
                        at: directive.at.clone(),
                        shown: directive.shown(),
                    }),
                }
            }
        }
        let is_trap = seen.redirects && seen.listens.iter().any(|(listen, _)| !listen.has_tls);
        let serves_clear = |address| self.edge.listeners.iter().any(|l| l.address == address && l.kind == Kind::Http);
        if is_trap
            && seen.listens.iter().flat_map(|(listen, _)| &listen.addresses).any(|address| serves_clear(*address))
        {
            let why =
                "another server of this file serves this address in clear, and a listener redirects all hosts or none";
            self.findings.at(&block.at, Class::Refused, block.shown(), why);
        }
    }
}

impl Seen {
    fn has_tls_listener(&self) -> bool {
        self.has_tls || self.listens.iter().any(|(listen, _)| listen.has_tls)
    }
}

fn runs_php(block: &Directive) -> bool {
    block.inside().iter().any(|d| matches!(d.name(), "fastcgi_pass" | "uwsgi_pass" | "scgi_pass") || runs_php(d))
}
