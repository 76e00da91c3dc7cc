//! `vrrp_script`: what it watches, as far as its command tells, and which part of Lyre does that.

use crate::import::keepalived::findings::{Class, Findings};
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use std::collections::BTreeMap;

/// What became of a script, for those who track it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) class: Class,
    pub(super) why: &'static str,
}

/// By name.
pub(super) type Scripts = BTreeMap<String, Fate>;

/// Programs whose place Lyre takes.
const PROXIES: &[&str] = &[
    "haproxy",
    "nginx",
    "apache",
    "apache2",
    "httpd",
    "caddy",
    "traefik",
    "envoy",
    "varnish",
    "varnishd",
    "lighttpd",
    "angie",
    "openresty",
    "squid",
    "pound",
    "hitch",
];

/// Programs behind the proxy.
const APPLICATIONS: &[&str] =
    &["php-fpm", "mysqld", "mariadbd", "mysql", "mariadb", "postgres", "redis-server", "redis", "node", "java"];

/// Where a proxy or web server listens; other local ports are other services.
const WEB_PORTS: &[&str] = &["80", "443", "8000", "8080", "8443"];

const PROXY: Fate = Fate {
    class: Class::Remark,
    why: "replaced where Lyre is the proxy: a worker that hangs for worker.hang_timeout hands over. Another proxy beside it is not watched in this version",
};
const LOCAL_WEB: Fate = Fate {
    class: Class::Remark,
    why: "replaced where Lyre is the proxy: it watches its worker, and asks each web server by the check of its pool. Another proxy beside it is not watched in this version",
};
const APPLICATION: Fate = Fate {
    class: Class::Refused,
    why: "processes are not tracked in this version; the check of a pool asks the application itself, on every server",
};
const PROCESS: Fate = Fate {
    class: Class::Refused,
    why: "processes are not tracked in this version; let systemd restart it, or stop lyre with it by PartOf=",
};
const GATEWAY: Fate = Fate {
    class: Class::Refused,
    why: "the gateway is not tracked in this version; Lyre hands over when its link is lost or its worker hangs",
};
const OTHER: Fate = Fate {
    class: Class::Refused,
    why: "scripts are not run in this version; Lyre hands over when its link is lost or its worker hangs",
};

pub(super) fn read(findings: &mut Findings, statements: &[Statement]) -> Scripts {
    let mut scripts = Scripts::new();
    let blocks = statements.iter().filter(|statement| statement.name() == "vrrp_script");
    for block in blocks {
        let command = block.inside().iter().find(|statement| statement.name() == "script");
        let fate = command.map_or(OTHER, |statement| recognise(&arguments(statement)));
        for statement in block.inside() {
            match statement.name() {
                "script" => findings.add(statement, fate.class, fate.why),
                _ => keywords::note(findings, Block::Script, statement),
            }
        }
        if command.is_none() {
            findings.refused(block, "has no script");
        }
        scripts.insert(block.argument(0).unwrap_or_default().to_owned(), fate);
    }
    scripts
}

/// The lines of a `track_script` block. Scripts may be written out there too, in quotes.
pub(super) fn tracked(findings: &mut Findings, scripts: &Scripts, block: &Statement) {
    for line in block.inside() {
        match scripts.get(line.name()) {
            Some(fate) => findings.add(line, fate.class, fate.why),
            None => findings.refused(line, "there is no vrrp_script of this name"),
        }
    }
}

fn arguments(statement: &Statement) -> String {
    statement.words().get(1..).unwrap_or_default().join(" ")
}

fn recognise(command: &str) -> Fate {
    // A shell's quoting and grouping is white space for this purpose.
    let command = command.to_ascii_lowercase();
    let separators = |c: char| c.is_whitespace() || "'\"();|&`$=".contains(c);
    let words: Vec<&str> = command.split(separators).filter(|word| !word.is_empty()).collect();
    let programs: Vec<&str> = words.iter().map(|word| base_name(word)).collect();
    let has = |names: &[&str]| programs.iter().any(|program| names.contains(program));
    let is_local = ["127.0.0.1", "localhost", "[::1]", "/dev/tcp/::1"].iter().any(|host| command.contains(host));
    if is_local && has(&["curl", "wget"]) {
        return LOCAL_WEB;
    }
    if is_local && (has(&["nc", "ncat", "netcat"]) || command.contains("/dev/tcp/")) {
        let is_web = programs.last().is_some_and(|port| WEB_PORTS.contains(port));
        return if is_web { LOCAL_WEB } else { PROCESS };
    }
    let asks_for_process =
        has(&["killall", "killall5", "pidof", "pgrep", "systemctl", "service", "rc-service", "kill", "ps"]);
    if asks_for_process {
        let named = |names: &[&str]| programs.iter().any(|program| names.iter().any(|name| is_called(program, name)));
        return match () {
            () if named(PROXIES) => PROXY,
            () if named(APPLICATIONS) => APPLICATION,
            () => PROCESS,
        };
    }
    if has(&["ping", "ping6", "fping", "fping6", "arping", "ndisc6"]) {
        return GATEWAY;
    }
    OTHER
}

/// `/run/nginx.pid`, `nginx.service` and `php-fpm8.2` are called so too.
fn is_called(program: &str, name: &str) -> bool {
    program
        .strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-' || c == '_'))
}

fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_recognised_in_their_usual_spellings() {
        for (command, fate) in [
            ("killall -0 haproxy", PROXY),
            ("/usr/bin/killall -0 nginx", PROXY),
            ("pidof haproxy", PROXY),
            ("/usr/bin/pgrep -x nginx", PROXY),
            ("systemctl is-active --quiet haproxy.service", PROXY),
            ("/bin/kill -0 `cat /var/run/haproxy.pid`", PROXY),
            ("/bin/sh -c 'pidof apache2'", PROXY),
            ("pgrep php-fpm8.2", APPLICATION),
            ("killall -0 sshd", PROCESS),
            ("curl -fsS http://127.0.0.1/health", LOCAL_WEB),
            ("</dev/tcp/127.0.0.1/80", LOCAL_WEB),
            ("nc -z localhost 443", LOCAL_WEB),
            ("</dev/tcp/127.0.0.1/25", PROCESS),
            ("ping -c1 -W1 10.0.0.1", GATEWAY),
            ("/usr/local/bin/check.sh", OTHER),
            ("/etc/nginx/check.sh", OTHER),
            ("curl http://10.0.0.9/", OTHER),
            ("", OTHER),
        ] {
            assert_eq!(recognise(command), fate, "{command}");
        }
    }
}
