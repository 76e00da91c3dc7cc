//! Who leads where: sections become listeners, backends, routes and TCP services.

use super::certificates::Tls;
use super::condition::{self, Term};
use super::global;
use super::keywords;
use super::proxy::{self, Proxy, Reader};
use super::sections::{Line, Section};
use crate::config::units::show_duration;
use crate::import::edge::{self, Backend, Edge, Kind, Listener, Route, Service};
use crate::import::files::Files;
use crate::import::findings::{Class, Findings, Said as _};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub(super) fn edge(findings: &mut Findings, files: &dyn Files, source: &Path, sections: &[Section]) -> Edge {
    let mut edge = Edge { shares_paths: true, ..Edge::default() };
    let mut tls = Tls::default();
    for section in sections.iter().filter(|section| section.kind() == "global") {
        global::read(findings, &mut edge, &mut tls, section);
    }
    let mut reader = Reader { findings, edge: &mut edge, tls: &mut tls, files, source };
    let proxies = proxies(&mut reader, sections);
    let mut maker = Maker { findings, edge, files, source, backends: HashMap::new() };
    maker.times(&proxies);
    maker.backends(&proxies);
    for proxy in proxies.iter().filter(|proxy| proxy.kind != "backend" && !proxy.is_off) {
        match proxy.is_tcp {
            true => maker.service(proxy, &proxies),
            false => maker.front(proxy, &proxies),
        }
    }
    maker.unused(&proxies);
    let mut edge = maker.edge;
    edge.certificates = tls.certificates;
    if !tls.http2.is_empty() && !tls.http2.contains(&true) {
        edge.values.push(edge::Value { section: "tls", key: "http2", text: "false".to_owned() });
    }
    edge
}

fn proxies(reader: &mut Reader, sections: &[Section]) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    let mut defaults: Option<Proxy> = None;
    let mut named: HashMap<String, Proxy> = HashMap::new();
    for section in sections {
        let Some(first) = section.lines.first() else { continue };
        let from = first.words.iter().position(|word| word == "from").map(|index| first.word(index + 1));
        let base = from.and_then(|name| named.get(name)).or(defaults.as_ref()).cloned();
        match section.kind() {
            "global" => {}
            "defaults" => {
                let read = proxy::read(reader, section, from.and(base.as_ref()));
                if let Some(read) = &read {
                    named.insert(section.name().to_owned(), read.clone());
                }
                defaults = read;
            }
            "frontend" | "backend" | "listen" if is_statistics(section) => {
                let why = "a page of statistics: lyre status shows it, lyre metrics has it for Prometheus";
                reader.findings.ignored(first, why);
            }
            "frontend" | "backend" | "listen" => proxies.extend(proxy::read(reader, section, base.as_ref())),
            _ => keywords::note_section(reader.findings, first),
        }
    }
    proxies
}

/// Nothing but HAProxy's own pages.
fn is_statistics(section: &Section) -> bool {
    let has = |word: &str| section.inside().iter().any(|line| line.word(0) == word);
    let is_page = |line: &Line| {
        line.word(0) == "stats"
            || line.words.iter().any(|word| word == "prometheus-exporter")
            || line.word(0) == "monitor-uri"
    };
    section.inside().iter().any(is_page) && !has("server") && !has("use_backend") && !has("default_backend")
}

/// A key of `[timeouts]`, where it comes from, and its highest value.
type TimeKey = (&'static str, fn(&Proxy) -> Option<u64>, u64);

struct Maker<'a> {
    findings: &'a mut Findings,
    edge: Edge,
    files: &'a dyn Files,
    source: &'a Path,
    /// Index of those that speak HTTP, by name.
    backends: HashMap<String, usize>,
}

impl Maker<'_> {
    /// Times towards clients are one for all; the first frontend's count.
    fn times(&mut self, proxies: &[Proxy]) {
        let fronts: Vec<&Proxy> = proxies.iter().filter(|p| p.kind != "backend" && !p.is_tcp && !p.is_off).collect();
        let keys: [TimeKey; 3] = [
            ("head", |proxy| proxy.times.head, 3_600_000),
            ("keepalive", |proxy| proxy.times.keepalive, 3_600_000),
            ("client_idle", |proxy| proxy.times.client, 86_400_000),
        ];
        for (key, of, max) in keys {
            let mut first: Option<u64> = None;
            for proxy in &fronts {
                let Some(ms) = of(proxy) else { continue };
                match first {
                    None => first = Some(ms),
                    Some(before) if before != ms => {
                        self.findings.at(
                            &proxy.at,
                            Class::Remark,
                            &*proxy.shown,
                            format!("timeouts.{key} is one for all frontends, and the first one's is taken"),
                        );
                    }
                    Some(_) => {}
                }
            }
            if let Some(ms) = first {
                let text = format!("\"{}\"", show_duration(Duration::from_millis(ms.clamp(1000, max))));
                self.edge.values.push(edge::Value { section: "timeouts", key, text });
            }
        }
    }

    fn backends(&mut self, proxies: &[Proxy]) {
        let speaks_http = |proxy: &&Proxy| proxy.kind != "frontend" && !proxy.is_tcp && !proxy.is_off;
        for proxy in proxies.iter().filter(speaks_http) {
            if proxy.kind == "listen" && proxy.servers.is_empty() && proxy.binds.is_empty() {
                continue;
            }
            // A listen may lead elsewhere only.
            if proxy.servers.is_empty() && (proxy.redirects || proxy.default_backend.is_some()) {
                continue;
            }
            let backend = self.backend(proxy);
            self.backends.insert(proxy.name.clone(), self.edge.backends.len());
            self.edge.backends.push(backend);
        }
    }

    fn backend(&mut self, proxy: &Proxy) -> Backend {
        let mut backend = Backend {
            name: proxy.name.clone(),
            shown: proxy.shown.clone(),
            at: Some(proxy.at.clone()),
            check: proxy.check.clone(),
            connect_ms: proxy.times.connect,
            response_ms: proxy.times.server,
            tunnel_ms: proxy.times.tunnel,
            queue_ms: proxy.times.queue,
            nextcloud_signs: proxy.nextcloud_signs,
            ..Backend::default()
        };
        let has_main = proxy.servers.iter().any(|server| !server.is_backup);
        for server in proxy.servers.iter().filter(|server| !server.is_backup || !has_main) {
            match &server.place {
                edge::Server::Ip(address) => backend.servers.push(address.to_string()),
                edge::Server::Unix(path) => backend.servers.push(format!("unix:{path}")),
                edge::Server::Name(name) => backend.names.push(name.clone()),
                edge::Server::Bad => {}
            }
            let options = &server.options;
            backend.check.adopt_pace(&options.check);
            backend.max_requests = backend.max_requests.or(options.max_requests);
            backend.send_proxy = backend.send_proxy.or(options.send_proxy);
            if options.has_tls {
                let why = "its servers want TLS, and Lyre speaks plain HTTP to servers: give them a plain port in the internal \
                           network, write it into servers and remove the comment signs";
                backend.problem = Some(why.to_owned());
            }
        }
        if has_main && proxy.servers.iter().any(|server| server.is_backup) {
            let why = "has backup servers, which are left out: all servers serve, and Lyre has a maintenance page of its own; \
                       write a whole web server into servers";
            self.findings.at(&proxy.at, Class::Refused, &*proxy.shown, why);
        }
        if let Some(problem) = &backend.problem {
            self.findings.at(&proxy.at, Class::Refused, &*proxy.shown, &**problem);
        }
        backend
    }

    /// A frontend, or the front of a listen.
    fn front(&mut self, proxy: &Proxy, proxies: &[Proxy]) {
        let mut routes = Vec::new();
        for line in &proxy.uses {
            routes.extend(self.use_backend(proxy, line));
        }
        let default = match &proxy.default_backend {
            Some(line) => {
                self.target(line, line.word(1)).inspect(|_| self.findings.mapped(line, "every other request"))
            }
            None => self.backends.get(&proxy.name).copied().filter(|_| proxy.kind == "listen"),
        };
        if let Some(backend) = default {
            let shown = proxy.default_backend.as_ref().map_or_else(|| proxy.shown.clone(), |line| line.shown());
            let at = proxy.default_backend.as_ref().map_or(&proxy.at, |line| &line.at).clone();
            routes.push(Route { hosts: Vec::new(), path: "/".to_owned(), backend, is_rewritten: false, at, shown });
        }
        for route in &routes {
            if let Some(backend) = self.edge.backends.get_mut(route.backend).filter(|_| route.path == "/") {
                backend.nextcloud_signs = backend.nextcloud_signs.max(proxy.nextcloud_signs);
            }
        }
        let names: Vec<&str> =
            routes.iter().filter_map(|route| self.edge.backends.get(route.backend)).map(|b| b.name.as_str()).collect();
        let redirects = proxy.redirects
            || proxies.iter().any(|backend| backend.redirects && names.contains(&backend.name.as_str()));
        if routes.is_empty() && !redirects {
            let why = "leads nowhere that is carried over, so nothing listens for it";
            return self.findings.at(&proxy.at, Class::Refused, &*proxy.shown, why);
        }
        if proxy.kind == "frontend" {
            self.findings.at(&proxy.at, Class::Mapped, &*proxy.shown, "[[listener]] and its routes");
        }
        self.edge.routes.extend(routes);
        for bind in &proxy.binds {
            let kind = match (bind.has_tls, redirects) {
                (true, _) => Kind::Https,
                (false, true) => Kind::Redirect,
                (false, false) => Kind::Http,
            };
            let balancers = proxy.balancers.clone().or(bind.has_proxy.then(Vec::new));
            self.edge.listeners.extend(bind.addresses.iter().map(|address| Listener {
                address: *address,
                kind,
                balancers: balancers.clone(),
                at: bind.at.clone(),
                shown: bind.shown.clone(),
            }));
        }
    }

    fn target(&mut self, line: &Line, name: &str) -> Option<usize> {
        let found = self.backends.get(name).copied();
        if found.is_none() {
            let why = match name.contains('%') {
                true => "a backend out of a map or a header: write a [[route]] with hosts and pool for each of them"
                    .to_owned(),
                false => format!("there is no backend {name} that serves requests"),
            };
            self.findings.refused(line, why);
        }
        found
    }

    fn use_backend(&mut self, proxy: &Proxy, line: &Line) -> Vec<Route> {
        let Some(backend) = self.target(line, line.word(1)) else { return Vec::new() };
        let mut routes = Vec::new();
        let (mut is_lost, mut remark) = (false, None);
        for term in condition::terms(&line.words, &proxy.acls, self.files, self.source) {
            match usable(&term) {
                Err(()) => is_lost = true,
                Ok(note) => {
                    remark = remark.or(note);
                    let route = |path: String| Route {
                        hosts: term.hosts.clone().unwrap_or_default(),
                        path,
                        backend,
                        is_rewritten: false,
                        at: line.at.clone(),
                        shown: line.shown(),
                    };
                    let paths = term.paths.clone().unwrap_or_else(|| vec!["/".to_owned()]);
                    routes.extend(paths.into_iter().map(route));
                }
            }
        }
        match (is_lost, remark) {
            (true, _) => self.findings.refused(
                line,
                "its condition looks at more than host and path, which is all a [[route]] knows; write one for what is meant",
            ),
            (false, Some(note)) => self.findings.remark(line, note),
            (false, None) => self.findings.mapped(line, "a route of these hosts and paths"),
        }
        routes
    }

    /// A frontend or listen of `mode tcp`.
    fn service(&mut self, proxy: &Proxy, proxies: &[Proxy]) {
        for line in &proxy.uses {
            let why = "connections are not told apart by what is in them, as by the name that TLS asks for: one [[tcp]] for \
                       each address, or TLS that ends at Lyre and a [[route]] for each host";
            self.findings.refused(line, why);
        }
        let name = proxy.default_backend.as_ref().map(|line| line.word(1));
        let behind = match name {
            Some(name) => proxies.iter().find(|other| other.name == name && other.kind != "frontend" && !other.is_off),
            None => Some(proxy).filter(|proxy| proxy.kind == "listen"),
        };
        if let Some(line) = &proxy.default_backend {
            match behind {
                Some(_) => self.findings.mapped(line, "tcp.servers"),
                None => self.findings.refused(line, "there is no such backend"),
            }
        }
        let Some(behind) = behind else {
            let why = "leads nowhere that is carried over, so nothing listens for it";
            return self.findings.at(&proxy.at, Class::Refused, &*proxy.shown, why);
        };
        let service = service(proxy, behind);
        self.edge.services.push(service);
    }

    /// Of those that speak TCP; the others are looked after with their routes.
    fn unused(&mut self, proxies: &[Proxy]) {
        let fronts: Vec<&Proxy> = proxies.iter().filter(|proxy| proxy.kind != "backend").collect();
        for proxy in proxies.iter().filter(|proxy| proxy.kind == "backend" && proxy.is_tcp && !proxy.is_off) {
            let leads_here =
                |front: &&Proxy| front.default_backend.as_ref().is_some_and(|line| line.word(1) == proxy.name);
            if !fronts.iter().any(leads_here) {
                let why = "no frontend that is carried over leads to it";
                self.findings.at(&proxy.at, Class::Refused, &*proxy.shown, why);
            } else {
                self.findings.at(&proxy.at, Class::Mapped, &*proxy.shown, "[[tcp]], with what leads to it");
            }
        }
    }
}

/// What is worth knowing of a condition that a route can say.
fn usable(term: &Term) -> Result<Option<&'static str>, ()> {
    if term.is_other || term.is_never || term.source.is_some() || term.not_source.is_some() {
        return Err(());
    }
    if term.is_web_socket && term.paths.is_none() {
        return Err(());
    }
    Ok(match () {
        () if term.excludes_paths => Some("a route; excluded paths need no word, as the longer path wins"),
        () if term.tls.is_some() => Some("a route, whether the client has TLS or not"),
        () if term.is_web_socket => Some("a route of all requests of this path, WebSocket or not"),
        () => None,
    })
}

fn service(front: &Proxy, behind: &Proxy) -> Service {
    let name = if front.kind == "listen" { &front.name } else { &behind.name };
    let listen: Vec<SocketAddr> = front.binds.iter().flat_map(|bind| bind.addresses.iter().copied()).collect();
    let mut service = Service {
        name: name.clone(),
        shown: front.shown.clone(),
        at: Some(front.at.clone()),
        check: behind.check.clone(),
        connect_ms: behind.times.connect,
        idle_ms: idle(front, behind),
        allow: front.allow.clone(),
        ..Service::default()
    };
    service.check.http = None;
    let mains = behind.servers.iter().filter(|server| !server.is_backup);
    let ordered: Vec<_> = mains.chain(behind.servers.iter().filter(|server| server.is_backup)).collect();
    let has_backup =
        ordered.first().is_some_and(|first| !first.is_backup) && ordered.iter().any(|server| server.is_backup);
    let mut check_port = behind.check_port;
    for server in &ordered {
        match &server.place {
            edge::Server::Ip(address) => service.servers.push(*address),
            edge::Server::Name(name) => service.names.push(name.clone()),
            edge::Server::Unix(_) => {
                service.problem = Some("servers of a [[tcp]] are addresses, not Unix sockets".to_owned())
            }
            edge::Server::Bad => {}
        }
        let options = &server.options;
        service.check.adopt_pace(&options.check);
        service.max_connections = service.max_connections.or(options.max_requests);
        service.proxy_protocol = service.proxy_protocol.or(options.send_proxy);
        check_port = check_port.or(options.check_port);
        if options.has_tls {
            service.problem = Some("bytes are passed on as they are, TLS to servers is not begun".to_owned());
        }
    }
    let is_mysql = listen.iter().any(|address| address.port() == 3306)
        || service.servers.iter().any(|server| server.port() == 3306)
        || behind.has_mysql_check;
    // The usual checker of Galera nodes answers HTTP on a port of its own.
    let is_galera = behind.has_mysql_check || is_mysql && (behind.check.http.is_some() || check_port.is_some());
    if is_galera {
        let user =
            behind.mysql_user.clone().filter(|user| !user.is_empty() && user.len() <= 128 && !user.contains('\0'));
        if user.is_none() {
            service.notes.push(
                "FILL IN: the account of the check, without any grant; docs/configuration.md has the SQL.".to_owned(),
            );
        }
        service.galera = Some(user.unwrap_or_else(|| "lyre".to_owned()));
        service.notes.push("An account with a password needs check.password_file beside user.".to_owned());
    } else if check_port.is_some() || behind.check.http.is_some() {
        service.notes.push("A check is a connection to the server itself, not HTTP and not another port.".to_owned());
    }
    service.mode = match () {
        () if behind.is_single || front.is_single || has_backup && is_galera => Some("single-writer"),
        () if has_backup => Some("first"),
        () => Some(behind.balance.or(front.balance).unwrap_or("least-connections")),
    };
    if listen.iter().any(|address| address.port() == 443) {
        service.notes.push(
            "TLS passes through: Lyre sees no request, so nothing of [nextcloud] holds. Give Lyre the certificate for that.".to_owned(),
        );
    }
    service.problem = match () {
        () if front.binds.iter().any(|bind| bind.has_tls) => {
            Some("TLS does not end at a [[tcp]]; only at requests".to_owned())
        }
        () if front.binds.iter().any(|bind| bind.has_proxy) || front.balancers.is_some() => {
            Some("a [[tcp]] takes no PROXY headers from its clients".to_owned())
        }
        () => service.problem,
    };
    service.listen = listen;
    service
}

/// Both directions silent: the shorter of the two, as a tunnel's own where there is one.
fn idle(front: &Proxy, behind: &Proxy) -> Option<u64> {
    let both = [front.times.client, behind.times.server];
    behind.times.tunnel.or(front.times.tunnel).or_else(|| both.into_iter().flatten().min()).filter(|ms| *ms > 0)
}
