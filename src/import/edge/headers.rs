//! Headers that are set on the way, of requests and responses.

use super::Edge;
use crate::import::findings::{Findings, Said};

/// What Nextcloud's set-up check wants, and Lyre sends.
const WANTED: [&str; 6] = [
    "x-content-type-options",
    "x-robots-tag",
    "x-frame-options",
    "x-permitted-cross-domain-policies",
    "x-xss-protection",
    "referrer-policy",
];

/// A header of requests is set.
pub(in crate::import) fn request(findings: &mut Findings, line: &impl Said, name: &str) {
    let name = name.trim_end_matches(':').to_ascii_lowercase();
    match name.as_str() {
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-port" | "x-forwarded-host" | "x-real-ip" => {
            findings.mapped(line, "always sent, with what Lyre knows itself");
        }
        "x-forwarded-ssl"
        | "x-forwarded-scheme"
        | "front-end-https"
        | "x-forwarded-protocol"
        | "x-url-scheme"
        | "x-forwarded-server"
        | "https" => {
            findings.ignored(line, "Nextcloud reads X-Forwarded-Proto and -Host, which are always sent");
        }
        "forwarded" => findings.remark(line, "X-Forwarded-For, -Proto and -Host are sent; Forwarded is not"),
        "x-client-ip" | "true-client-ip" | "x-cluster-client-ip" | "client-ip" => {
            findings.remark(line, "X-Forwarded-For and X-Real-IP name the client; this header passes from nobody");
        }
        "host" => findings.refused(line, "Host is passed on as it came; let the web server know the public name"),
        "connection" | "upgrade" => findings.mapped(line, "WebSockets are passed on always"),
        "proxy" => findings.ignored(line, "Apache and nginx drop it before PHP"),
        _ => findings.refused(line, "headers of requests cannot be set in this version; let the web server do it"),
    }
}

/// A header of responses is set.
pub(in crate::import) fn response(findings: &mut Findings, line: &impl Said, edge: &mut Edge, name: &str, value: &str) {
    let name = name.trim_end_matches(':').to_ascii_lowercase();
    match name.as_str() {
        "strict-transport-security" => edge.hsts(findings, line, value),
        name if WANTED.contains(&name) => {
            findings.remark(line, "sent as Nextcloud's set-up check wants it, unless the server sends its own");
        }
        "server" | "x-powered-by" => findings.ignored(line, "the servers' own is passed on; turn it off there"),
        "alt-svc" => findings.ignored(line, "HTTP/3 is not spoken"),
        _ => findings.refused(line, "headers of responses cannot be set in this version; let the web server do it"),
    }
}

/// A header is removed.
pub(in crate::import) fn deleted(findings: &mut Findings, line: &impl Said, name: &str) {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" | "x-forwarded-port" | "x-real-ip"
        | "forwarded" | "cf-connecting-ip" | "true-client-ip" | "x-client-ip" => {
            findings.mapped(line, "forwarding headers pass from nextcloud.trusted_proxies only");
        }
        "server" | "x-powered-by" => findings.ignored(line, "the servers' own is passed on; turn it off there"),
        "strict-transport-security" => findings.mapped(line, "nextcloud.hsts replaces what the servers say"),
        "proxy" => findings.ignored(line, "Apache and nginx drop it before PHP"),
        _ => findings.refused(line, "headers cannot be removed in this version; let the web server do it"),
    }
}
