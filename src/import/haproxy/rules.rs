//! `http-request`, `http-response`, `tcp-request` and `redirect`: what is done to requests on the way.

use super::condition::{self, Term};
use super::proxy::{Proxy, Reader};
use super::sections::Line;
use crate::import::edge::{headers, is_hidden as is_hidden_path};

const RATES: &str = "write abuse.requests_per_second and request_burst, or connections_per_second; a client is an address \
                     (IPv6: its /64), and failed logins are counted without";

/// Reads it if it is a rule.
pub(super) fn read(reader: &mut Reader, line: &Line, proxy: &mut Proxy) -> bool {
    match line.word(0) {
        "redirect" => redirect(reader, line, proxy, line.from(1)),
        "http-request" => request(reader, line, proxy),
        "http-response" | "http-after-response" => response(reader, line),
        "rspadd" => {
            let whole = line.word(1);
            let (name, value) = whole.split_once(':').unwrap_or((whole, ""));
            headers::response(reader.findings, line, reader.edge, name, value.trim());
        }
        "reqadd" | "reqset" => {
            let name = line.word(1).split(':').next().unwrap_or_default().to_owned();
            headers::request(reader.findings, line, &name);
        }
        "tcp-request" => tcp_request(reader, line, proxy),
        _ => return false,
    }
    true
}

fn terms(reader: &Reader, line: &Line, proxy: &Proxy) -> Vec<Term> {
    condition::terms(&line.words, &proxy.acls, reader.files, reader.source)
}

/// `redirect scheme|location|prefix TO [code N] [if …]`.
fn redirect(reader: &mut Reader, line: &Line, proxy: &mut Proxy, words: &[String]) {
    let word = |index: usize| words.get(index).map(String::as_str).unwrap_or_default();
    let to = ["scheme", "location", "prefix"].iter().find_map(|kind| {
        let index = words.iter().position(|word| word == kind)?;
        Some((*kind, word(index + 1)))
    });
    let terms = terms(reader, line, proxy);
    let all = |holds: fn(&Term) -> bool| terms.iter().all(holds);
    let within = |term: &Term, start: &str| {
        term.paths.as_ref().is_some_and(|paths| paths.iter().all(|path| path.starts_with(start)))
    };
    let is_https = match to {
        Some(("scheme", to)) => to == "https",
        Some((_, to)) => to.starts_with("https://"),
        None => false,
    };
    if terms.iter().all(|term| within(term, "/.well-known/")) {
        proxy.nextcloud_signs = proxy.nextcloud_signs.max(3);
        return reader.findings.mapped(line, "[nextcloud] redirects /.well-known/ paths by itself");
    }
    let to_dav = to.is_some_and(|(_, to)| to.contains("/remote.php/dav"));
    if to_dav {
        proxy.nextcloud_signs = proxy.nextcloud_signs.max(3);
        return reader.findings.remark(line, "[nextcloud] redirects /.well-known/caldav and carddav by itself");
    }
    if is_https && all(|term| term.tls != Some(true) && term.source.is_none() && !term.is_other && term.paths.is_none())
    {
        proxy.redirects = true;
        let is_partial =
            terms.iter().any(|term| term.hosts.is_some() || term.excludes_paths || term.not_source.is_some());
        return match is_partial {
            false => reader.findings.mapped(line, "listener.kind = \"redirect\" where there is no TLS: 308 to https"),
            true => reader.findings.remark(
                line,
                "listener.kind = \"redirect\": all requests without TLS, of every host and path; ACME servers follow it",
            ),
        };
    }
    reader.findings.refused(
        line,
        "only port 80 to https and Nextcloud's /.well-known/ are redirected; let the web server do this one",
    );
}

fn request(reader: &mut Reader, line: &Line, proxy: &mut Proxy) {
    let whole = line.word(1);
    let action = whole.split('(').next().unwrap_or_default();
    match action {
        "redirect" => redirect(reader, line, proxy, line.from(2)),
        "set-header" | "add-header" => headers::request(reader.findings, line, line.word(2)),
        "del-header" => headers::deleted(reader.findings, line, line.word(2)),
        "deny" | "tarpit" | "reject" | "silent-drop" | "return" => deny(reader, line, proxy),
        "allow" => allow(reader, line, proxy),
        "set-src" => set_src(reader, line),
        "set-path" | "replace-path" | "replace-pathq" | "set-uri" | "replace-uri" | "set-pathq" | "replace-value"
        | "replace-header" | "set-query" | "normalize-uri" => {
            if line.words.iter().any(|word| word.contains(".well-known")) {
                proxy.nextcloud_signs = proxy.nextcloud_signs.max(3);
                return reader.findings.mapped(line, "[nextcloud] redirects /.well-known/ paths by itself");
            }
            reader.findings.refused(line, "targets and headers are passed on byte by byte; let the web server rewrite");
        }
        "set-method" | "set-timeout" | "set-dst" | "set-dst-port" | "set-src-port" => {
            reader.findings.refused(line, "this cannot be decided by request; it is the same for a whole pool");
        }
        "auth" => reader.findings.refused(line, "no passwords are asked for; let the web server do it"),
        "use-service" | "lua" => reader.findings.refused(line, "no programs are run on the way of a request"),
        "cache-use" => reader.findings.ignored(line, "nothing is cached; Nextcloud tells browsers what they may keep"),
        "wait-for-body" => {
            reader.findings.mapped(line, "bodies without a length are gathered by [spool] before PHP sees them")
        }
        "wait-for-handshake" | "disable-l7-retry" => {
            reader.findings.ignored(line, "early data is not accepted, and only what was not sent is tried again");
        }
        "capture"
        | "set-log-level"
        | "set-var"
        | "set-var-fmt"
        | "unset-var"
        | "set-nice"
        | "set-priority-class"
        | "set-priority-offset"
        | "set-bandwidth-limit" => {
            reader.findings.ignored(line, "has no part in where requests go; the access log has a format of its own");
        }
        "set-mark" | "set-tos" | "set-fc-mark" | "set-fc-tos" | "set-bc-mark" | "set-bc-tos" => {
            reader.findings.refused(line, "packets are not marked; a firewall can, by the listener's port");
        }
        "strict-mode" | "early-hint" | "add-acl" | "del-acl" | "set-map" | "del-map" | "do-resolve"
        | "send-spoe-group" | "ot-group" => {
            reader.findings.refused(line, "has no form in this version");
        }
        action if action.starts_with("track-sc") || action.starts_with("sc-") => reader.findings.refused(line, RATES),
        action if action.starts_with("lua.") => {
            reader.findings.refused(line, "no programs are run on the way of a request")
        }
        _ => reader.findings.unknown(line, "http-request"),
    }
}

fn deny(reader: &mut Reader, line: &Line, proxy: &Proxy) {
    let terms = terms(reader, line, proxy);
    let is_hidden = |term: &Term| {
        let paths = term.paths.as_deref().unwrap_or_default();
        !paths.is_empty() && !term.is_other && paths.iter().all(|path| is_hidden_path(path))
    };
    if terms.iter().all(is_hidden) {
        return reader.findings.mapped(line, "[nextcloud] answers these paths with 404 by itself");
    }
    let why = match () {
        () if terms.iter().any(|term| term.is_rate) => RATES,
        () if terms.iter().any(|term| term.source.is_some() || term.not_source.is_some()) => {
            "addresses are kept out by a firewall, or for a while by lyre ban; a [[tcp]] has allow"
        }
        () => "requests are not turned away by such rules; let the web server do it",
    };
    reader.findings.refused(line, why);
}

fn allow(reader: &mut Reader, line: &Line, proxy: &Proxy) {
    let terms = terms(reader, line, proxy);
    let mut networks: Vec<String> = Vec::new();
    for term in &terms {
        match &term.source {
            Some(source) if !term.is_other => networks.extend(source.iter().cloned()),
            _ => return reader.findings.ignored(line, "what is not turned away is allowed"),
        }
    }
    let why = format!("if this keeps {} from being counted or banned, write abuse.exempt", networks.join(", "));
    reader.findings.remark(line, why);
}

/// The client's address out of a header.
fn set_src(reader: &mut Reader, line: &Line) {
    let text = line.words.join(" ").to_ascii_lowercase();
    if text.contains("cf-connecting-ip") {
        reader.edge.trusted_proxies.push("cloudflare".to_owned());
        let why = "nextcloud.trusted_proxies = [\"cloudflare\"]: CF-Connecting-IP counts when Cloudflare sends it, and from nobody else";
        return reader.findings.remark(line, why);
    }
    reader.findings.refused(
        line,
        "write the proxies in front into nextcloud.trusted_proxies; their X-Forwarded-For is believed then",
    );
}

fn response(reader: &mut Reader, line: &Line) {
    let Reader { findings, edge, .. } = reader;
    match line.word(1).split('(').next().unwrap_or_default() {
        "set-header" | "add-header" => headers::response(findings, line, edge, line.word(2), line.word(3)),
        "del-header" => headers::deleted(findings, line, line.word(2)),
        "replace-header" | "replace-value" if line.word(2).eq_ignore_ascii_case("set-cookie") => {
            findings.refused(line, "cookies pass untouched; Nextcloud marks its own as secure behind https");
        }
        "replace-header" | "replace-value" | "set-status" => {
            findings.refused(line, "responses are passed on as they come; let the web server do it");
        }
        "cache-store" => findings.ignored(line, "nothing is cached"),
        "capture" | "set-var" | "set-var-fmt" | "unset-var" | "set-log-level" | "set-nice" | "allow" => {
            findings.ignored(line, "has no part in where responses go");
        }
        "deny" | "return" | "redirect" | "wait-for-body" | "set-mark" | "set-tos" | "lua" | "strict-mode"
        | "add-acl" | "del-acl" | "set-map" | "del-map" | "ot-group" | "send-spoe-group" | "silent-drop"
        | "set-fc-mark" | "set-fc-tos" | "set-timeout" => findings.refused(line, "has no form in this version"),
        action if ["track-sc", "sc-", "lua."].iter().any(|start| action.starts_with(start)) => {
            findings.refused(line, "has no form in this version");
        }
        _ => findings.unknown(line, line.word(0)),
    }
}

fn tcp_request(reader: &mut Reader, line: &Line, proxy: &mut Proxy) {
    let terms = terms(reader, line, proxy);
    let source = terms.first().filter(|term| terms.len() == 1 && !term.is_other);
    let networks = source.and_then(|term| term.source.clone());
    let not_networks = source.and_then(|term| term.not_source.clone());
    match (line.word(1), line.word(2)) {
        ("connection", "expect-proxy") => {
            let balancers = proxy.balancers.get_or_insert_default();
            balancers.extend(networks.clone().unwrap_or_default());
            match networks {
                Some(_) => {
                    reader.findings.remark(line, "listener.proxy_protocol; nobody else may connect to these listeners")
                }
                None => reader.findings.remark(line, "listener.proxy_protocol; FILL IN who sends the headers"),
            }
        }
        ("connection" | "content" | "session", "reject" | "silent-drop") => match (not_networks, proxy.is_tcp) {
            (Some(networks), true) => {
                proxy.allow.extend(networks);
                reader.findings.mapped(line, "tcp.allow");
            }
            _ if terms.iter().any(|term| term.is_rate) => reader.findings.refused(line, RATES),
            _ => reader
                .findings
                .refused(line, "addresses are kept out by a firewall, or for a while by lyre ban; a [[tcp]] has allow"),
        },
        ("connection" | "content" | "session", "accept") => match (networks, proxy.is_tcp) {
            (Some(networks), true) => {
                proxy.allow.extend(networks);
                reader.findings.remark(line, "tcp.allow: nobody else may connect");
            }
            _ => reader.findings.ignored(line, "what is not turned away is accepted"),
        },
        ("inspect-delay", _) => {
            reader.findings.ignored(line, "nothing of a connection is looked into before it is passed on")
        }
        (_, action) if action.starts_with("track-sc") || action.starts_with("sc-") => {
            reader.findings.refused(line, RATES)
        }
        ("connection" | "content" | "session", "set-src") => set_src(reader, line),
        ("connection" | "content" | "session", "set-var" | "unset-var" | "capture" | "set-log-level" | "set-nice") => {
            reader.findings.ignored(line, "has no part in where connections go");
        }
        ("connection" | "content" | "session", _) => reader.findings.refused(line, "has no form in this version"),
        _ => reader.findings.unknown(line, "tcp-request"),
    }
}
