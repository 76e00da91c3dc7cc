//! `option httpchk`, `http-check`, `option mysql-check` and their like: how life is found out.

use super::proxy::Proxy;
use super::sections::Line;
use crate::import::edge::{host, is_path};
use crate::import::findings::Findings;

/// Reads it if it is about checks.
pub(super) fn read(findings: &mut Findings, line: &Line, proxy: &mut Proxy) -> bool {
    match (line.word(0), line.word(1)) {
        ("option", "httpchk") => httpchk(findings, line, proxy),
        ("http-check", _) => http_check(findings, line, proxy),
        ("option", "mysql-check") => {
            proxy.mysql_user = line.words.iter().position(|word| word == "user").map(|index| line.word(index + 1).to_owned());
            proxy.has_mysql_check = true;
            findings.remark(
                line,
                "tcp.check.kind = \"galera\", which logs in and asks for the node's wsrep state; one server without Galera: \
                 check = { kind = \"tcp\" }",
            );
        }
        ("option", "tcp-check") | ("tcp-check", "connect") => {
            findings.mapped(line, "a connection is life: check.kind = \"tcp\"");
        }
        ("tcp-check", "comment") => findings.ignored(line, "only a comment"),
        ("tcp-check", _) => findings.refused(
            line,
            "nothing is sent and expected byte for byte; a check is a connection, HTTP, or the login of the Galera check",
        ),
        ("option", "pgsql-check" | "redis-check" | "ldap-check" | "smtpchk" | "spop-check" | "ssl-hello-chk") => {
            findings.remark(line, "servers are checked by a TCP connection");
        }
        ("option", "external-check") | ("external-check", _) => findings.refused(
            line,
            "no program is run to check servers; a [[track]] of kind script can, for the node as a whole",
        ),
        ("option", "log-health-checks") => findings.ignored(line, "changes of servers are always logged"),
        ("option", "lb-agent-chk") => findings.refused(line, "no agent is asked"),
        _ => return false,
    }
    true
}

/// `[METHOD] URI [VERSION [\r\nHost: NAME]]`.
fn httpchk(findings: &mut Findings, line: &Line, proxy: &mut Proxy) {
    let words = line.from(2);
    let typed = words.iter().find(|word| word.starts_with('/')).map(String::as_str);
    let name = words.join(" ").split("\r\n").find_map(|field| {
        let (key, value) = field.split_once(':')?;
        key.trim().eq_ignore_ascii_case("host").then(|| host(value.trim()))?
    });
    set(findings, line, proxy, typed.unwrap_or("/"), name);
}

fn http_check(findings: &mut Findings, line: &Line, proxy: &mut Proxy) {
    match line.word(1) {
        "send" => {
            let after = |name: &str| line.words.iter().position(|word| word == name).map(|index| line.word(index + 1));
            let position = line.words.iter().position(|word| word.eq_ignore_ascii_case("host"));
            let name = position.and_then(|index| host(line.word(index + 1)));
            let before = proxy.check.http.as_ref().map(|(path, _)| path.clone());
            let path = after("uri").map(str::to_owned).or(before).unwrap_or_else(|| "/".to_owned());
            set(findings, line, proxy, &path, name);
        }
        "expect" => findings.remark(
            line,
            "any well-formed answer is life; Nextcloud's check reads status.php, and maintenance is not death",
        ),
        "connect" => {
            let port =
                line.words.iter().position(|word| word == "port").and_then(|index| line.word(index + 1).parse().ok());
            proxy.check_port = port.or(proxy.check_port);
            findings.remark(line, "a server is checked where its requests go");
        }
        "disable-on-404" => {
            findings.refused(line, "404 is an answer like others; take a server out of servers and reload")
        }
        "send-state" => findings.ignored(line, "servers are not told what is thought of them"),
        "comment" => findings.ignored(line, "only a comment"),
        "set-var" | "unset-var" | "set-var-fmt" => findings.ignored(line, "variables have no part in checks"),
        _ => findings.unknown(line, "http-check"),
    }
}

fn set(findings: &mut Findings, line: &Line, proxy: &mut Proxy, typed: &str, name: Option<String>) {
    let path = typed.split(['?', '#']).next().unwrap_or_default();
    let before = proxy.check.http.as_ref().and_then(|(_, host)| host.clone());
    if !is_path(path) {
        return findings.refused(line, "is no path that can be asked for");
    }
    proxy.check.http = Some((path.to_owned(), name.or(before)));
    if proxy.is_tcp {
        let why = "of MariaDB: check.kind = \"galera\", which asks the node itself; else a connection is life";
        return findings.remark(line, why);
    }
    if path != typed {
        return findings.remark(line, "check.path, without its query");
    }
    findings.mapped(line, "check.path; Nextcloud's own check reads status.php always");
}
