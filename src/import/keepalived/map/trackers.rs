//! What is tracked: scripts, processes, files and interfaces, each as a `[[track]]`.

use super::numbers;
use crate::import::findings::{Class, Findings};
use crate::import::keepalived::keywords::{self, Block};
use crate::import::keepalived::tree::Statement;
use crate::import::names::unique;
use crate::import::write::quoted;

/// Shells look at these; keepalived starts such commands by one too.
const SHELL: &[char] = &['|', '&', ';', '<', '>', '$', '`', '(', ')', '*', '?', '\'', '"', '~', '{', '}'];

/// `track_*` blocks, and the definitions they name.
const TRACKING: [&str; 4] = ["track_script", "track_interface", "track_process", "track_file"];

#[derive(Default)]
pub(super) struct Trackers {
    defined: Vec<Defined>,
    pub(super) used: Vec<Tracker>,
}

/// A `vrrp_script`, `vrrp_track_process` or `vrrp_track_file`.
struct Defined {
    /// The block that refers to it.
    by: &'static str,
    name: String,
    /// Keys and values but name, weight and vips.
    lines: Vec<String>,
    weight: i16,
    is_inverted: bool,
    class: Class,
    why: &'static str,
}

/// One `[[track]]`.
pub(super) struct Tracker {
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    /// Indices of the instances.
    pub(super) vips: Vec<usize>,
}

pub(super) fn define(findings: &mut Findings, statements: &[Statement]) -> Trackers {
    let mut trackers = Trackers::default();
    for block in statements {
        let defined = match block.name() {
            "vrrp_script" => script(findings, block),
            "vrrp_track_process" => process(findings, block),
            "vrrp_track_file" | "track_file" => file(findings, block),
            _ => continue,
        };
        trackers.defined.extend(defined);
    }
    trackers
}

/// Takes a block that tracks for these instances; `own` is their interface. False if it is none of these.
pub(super) fn read(
    findings: &mut Findings,
    trackers: &mut Trackers,
    block: &Statement,
    vips: &[usize],
    own: Option<&str>,
) -> bool {
    if !TRACKING.contains(&block.name()) {
        return false;
    }
    for line in block.inside() {
        if block.name() == "track_interface" {
            interface(findings, trackers, line, vips, own);
            continue;
        }
        let defined = trackers.defined.iter().find(|d| d.by == block.name() && d.name == line.name());
        let Some(defined) = defined else {
            findings.refused(line, "there is no definition of this name");
            continue;
        };
        findings.add(line, defined.class, defined.why);
        let (weight, is_inverted) = weight(line).unwrap_or((defined.weight, defined.is_inverted));
        let (name, mut lines) = (defined.name.clone(), defined.lines.clone());
        add_weight(&mut lines, weight, is_inverted);
        trackers.add(&name, lines, vips);
    }
    true
}

impl Trackers {
    fn add(&mut self, name: &str, lines: Vec<String>, vips: &[usize]) {
        if let Some(same) = self.used.iter_mut().find(|tracker| tracker.lines == lines) {
            let new: Vec<usize> = vips.iter().copied().filter(|vip| !same.vips.contains(vip)).collect();
            same.vips.extend(new);
            return;
        }
        let taken: Vec<String> = self.used.iter().map(|tracker| tracker.name.clone()).collect();
        self.used.push(Tracker { name: unique(name, &taken), lines, vips: vips.to_vec() });
    }
}

fn interface(findings: &mut Findings, trackers: &mut Trackers, line: &Statement, vips: &[usize], own: Option<&str>) {
    let name = line.name();
    let (weight, is_inverted) = weight(line).unwrap_or((0, false));
    if own == Some(name) && !is_inverted {
        match weight {
            0 => findings.mapped(line, "Lyre always tracks the interface of its addresses"),
            _ => findings.remark(line, "Lyre always tracks it; a lost link is a fault, not a lower priority"),
        }
        return;
    }
    if name.len() > 15 || name.contains(['/', ' ']) || name.chars().any(char::is_control) {
        findings.refused(line, "is no name of an interface");
        return;
    }
    let mut lines = vec!["kind = \"link\"".to_owned(), format!("interface = {}", quoted(name))];
    add_weight(&mut lines, weight, is_inverted);
    trackers.add(name, lines, vips);
    findings.mapped(line, "[[track]] of kind link");
}

/// `[weight N] [reverse]`; none if it says neither.
fn weight(statement: &Statement) -> Option<(i16, bool)> {
    let words = statement.words();
    let at = words.iter().position(|word| *word == "weight")?;
    let value = words.get(at + 1).and_then(|text| text.parse::<i16>().ok())?;
    Some((value.clamp(-253, 253), words.contains(&"reverse")))
}

fn add_weight(lines: &mut Vec<String>, weight: i16, is_inverted: bool) {
    if weight != 0 {
        lines.push(format!("weight = {weight}"));
    }
    if is_inverted {
        lines.push("invert = true".to_owned());
    }
}

fn script(findings: &mut Findings, block: &Statement) -> Option<Defined> {
    let find = |name: &str| block.inside().iter().find(|statement| statement.name() == name);
    let text = find("script").map(|statement| statement.words().get(1..).unwrap_or_default().join(" "));
    let text = text.filter(|text| !text.trim().is_empty());
    let process = text.as_deref().and_then(watched_process);
    let mut lines = match (&text, &process) {
        (Some(_), Some(process)) => vec!["kind = \"process\"".to_owned(), format!("process = {}", quoted(process))],
        (Some(text), None) => vec!["kind = \"script\"".to_owned(), format!("command = {}", command(text))],
        (None, _) => Vec::new(),
    };
    let (mut own_weight, mut is_inverted) = (0, false);
    for statement in block.inside() {
        let argument = statement.argument(0);
        let ms = numbers::seconds_ms(argument);
        match statement.name() {
            "script" => {}
            "weight" => match weight(statement) {
                Some(read) => {
                    (own_weight, is_inverted) = read;
                    findings.mapped(statement, "track.weight; 0 is a fault in both");
                }
                None => findings.refused(statement, "is no number"),
            },
            "interval" | "timeout" | "rise" | "fall" | "user" | "init_fail" if process.is_some() => {
                findings.ignored(statement, "a process is watched, not asked for again and again");
            }
            key @ ("interval" | "timeout") => match ms {
                Some(ms) => {
                    let ms = ms.clamp(if key == "interval" { 50 } else { 10 }, 3_600_000);
                    lines.push(format!("{key} = \"{}\"", numbers::duration(ms)));
                    findings.mapped(statement, format!("track.{key}"));
                }
                None => findings.refused(statement, "is no number of seconds"),
            },
            key @ ("rise" | "fall") => match numbers::whole(argument, 1..=255) {
                Some(count) => {
                    lines.push(format!("{key} = {count}"));
                    findings.mapped(statement, format!("track.{key}"));
                }
                None => findings.refused(statement, "is not 1..255"),
            },
            "user" => match argument {
                Some(user) => {
                    lines.push(format!("user = {}", quoted(user)));
                    findings.mapped(statement, "track.user");
                }
                None => findings.refused(statement, "names no account"),
            },
            "init_fail" => findings.ignored(statement, "always so: bad until its first result"),
            _ => keywords::note(findings, Block::Script, statement),
        }
    }
    let Some(text) = text else {
        findings.refused(block, "has no script");
        return None;
    };
    let (class, why) = judge(&text, process.is_some());
    if let Some(statement) = find("script") {
        findings.add(statement, class, why);
    }
    let name = block.argument(0).unwrap_or_default().to_owned();
    Some(Defined { by: "track_script", name, lines: once(lines), weight: own_weight, is_inverted, class, why })
}

fn process(findings: &mut Findings, block: &Statement) -> Option<Defined> {
    let mut lines = vec!["kind = \"process\"".to_owned()];
    let (mut own_weight, mut is_inverted, mut has_name) = (0, false, false);
    for statement in block.inside() {
        match statement.name() {
            "process" => match statement.arguments.as_slice() {
                [only] if !only.text.is_empty() => {
                    let name = only.text.rsplit('/').next().unwrap_or_default();
                    lines.push(format!("process = {}", quoted(name)));
                    has_name = true;
                    findings.mapped(statement, "track.process");
                }
                [_, ..] => {
                    let words: Vec<String> = statement.arguments.iter().map(|word| quoted(&word.text)).collect();
                    lines.push(format!("command_line = [{}]", words.join(", ")));
                    has_name = true;
                    findings.remark(statement, "track.command_line; it is compared with the whole command line");
                }
                [] => findings.refused(statement, "names no process"),
            },
            "weight" => match weight(statement) {
                Some(read) => {
                    (own_weight, is_inverted) = read;
                    findings.mapped(statement, "track.weight");
                }
                None => findings.refused(statement, "is no number"),
            },
            "quorum" => match numbers::whole(statement.argument(0), 1..=255) {
                Some(count) => {
                    lines.push(format!("min = {count}"));
                    findings.mapped(statement, "track.min");
                }
                None => findings.refused(statement, "is not 1..255"),
            },
            key @ ("terminate_delay" | "fork_delay" | "delay") => match numbers::seconds_ms(statement.argument(0)) {
                Some(ms) => {
                    let ms = ms.min(3_600_000);
                    if key != "fork_delay" {
                        lines.push(format!("down_delay = \"{}\"", numbers::duration(ms)));
                    }
                    if key != "terminate_delay" {
                        lines.push(format!("up_delay = \"{}\"", numbers::duration(ms)));
                    }
                    findings.mapped(statement, "track.up_delay and down_delay");
                }
                None => findings.refused(statement, "is no number of seconds"),
            },
            "quorum_max" => findings.refused(statement, "a largest number of processes is not in this version"),
            "param_match" | "full_command" => {
                findings.refused(statement, "write the whole command line into track.command_line");
            }
            _ => findings.unknown(statement, "vrrp_track_process"),
        }
    }
    if !has_name {
        findings.refused(block, "names no process");
        return None;
    }
    let (class, why) = (Class::Mapped, "[[track]] of kind process");
    findings.add(block, class, why);
    let name = block.argument(0).unwrap_or_default().to_owned();
    Some(Defined { by: "track_process", name, lines: once(lines), weight: own_weight, is_inverted, class, why })
}

fn file(findings: &mut Findings, block: &Statement) -> Option<Defined> {
    let mut lines = vec!["kind = \"file\"".to_owned()];
    let (mut own_weight, mut is_inverted, mut has_path) = (1, false, false);
    for statement in block.inside() {
        match (statement.name(), statement.argument(0)) {
            ("file", Some(path)) if path.starts_with('/') && !path.ends_with('/') => {
                lines.push(format!("path = {}", quoted(path)));
                has_path = true;
                findings.mapped(statement, "track.path");
            }
            ("file", _) => findings.refused(statement, "is no absolute path of a file"),
            ("weight", _) => match weight(statement) {
                Some(read) => {
                    (own_weight, is_inverted) = read;
                    findings.mapped(statement, "track.weight");
                }
                None => findings.refused(statement, "is no number"),
            },
            ("init_file", _) => findings.ignored(statement, "a file that is not there counts as 0"),
            _ => findings.unknown(statement, "vrrp_track_file"),
        }
    }
    if !has_path {
        findings.refused(block, "names no file");
        return None;
    }
    let (class, why) = (Class::Mapped, "[[track]] of kind file");
    findings.add(block, class, why);
    let name = block.argument(0).unwrap_or_default().to_owned();
    Some(Defined { by: "track_file", name, lines: once(lines), weight: own_weight, is_inverted, class, why })
}

/// Each key once: of what is said several times keepalived takes the last.
fn once(lines: Vec<String>) -> Vec<String> {
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let keys: Vec<String> = lines.iter().map(|line| key(line)).collect();
    let is_last = |at: usize| keys.iter().rposition(|other| keys.get(at) == Some(other)) == Some(at);
    lines.into_iter().enumerate().filter(|(at, _)| is_last(*at)).map(|(_, line)| line).collect()
}

/// A path, or a list of path and arguments; what needs a shell or the search path gets a shell.
pub(super) fn command(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let needs_shell = text.contains(SHELL) || words.first().is_none_or(|program| !program.contains('/'));
    match words.as_slice() {
        _ if needs_shell => format!("[\"/bin/sh\", \"-c\", {}]", quoted(text)),
        [only] => quoted(only),
        words => format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")),
    }
}

/// The process whose existence is all that a command asks for.
fn watched_process(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, rest) = words.split_first()?;
    let name = match (program.rsplit('/').next()?, rest) {
        ("killall", ["-0", name]) | ("pidof" | "pgrep", [name]) | ("pgrep", ["-x", name]) => name,
        _ => return None,
    };
    let name = name.rsplit('/').next()?;
    // The kernel keeps 15 bytes of it.
    let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (is_plain && name.len() <= 15).then(|| name.to_owned())
}

const PROXIES: &[&str] =
    &["haproxy", "nginx", "apache2", "httpd", "caddy", "traefik", "envoy", "varnishd", "lighttpd", "angie", "squid"];

fn judge(command: &str, is_process: bool) -> (Class, &'static str) {
    let words: Vec<&str> = command.split(|c: char| c.is_whitespace() || SHELL.contains(&c)).collect();
    let programs: Vec<&str> = words.iter().map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
    let has =
        |names: &[&str]| programs.iter().any(|p| names.iter().any(|n| p.strip_suffix(".service").unwrap_or(p) == *n));
    let is_local = ["127.0.0.1", "localhost", "[::1]"].iter().any(|host| command.contains(host));
    match () {
        () if is_process && has(PROXIES) => (
            Class::Remark,
            "[[track]] of kind process, seen at once; where Lyre is the proxy it watches itself, and this can go",
        ),
        () if is_process => (Class::Mapped, "[[track]] of kind process, seen at once instead of asked for"),
        () if is_local && has(&["curl", "wget"]) => (
            Class::Remark,
            "[[track]] of kind script; kind = \"http\" needs no process, and where Lyre is the proxy this can go",
        ),
        () if has(&["ping", "ping6", "fping", "arping"]) => (
            Class::Remark,
            "[[track]] of kind script; for the router of this network kind = \"gateway\" is faster and needs no process",
        ),
        () => (Class::Remark, "[[track]] of kind script; it runs without privileges unless track.user says otherwise"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_only_looks_for_a_process_becomes_that() {
        for (command, process) in [
            ("killall -0 haproxy", Some("haproxy")),
            ("/usr/bin/killall -0 nginx", Some("nginx")),
            ("pidof haproxy", Some("haproxy")),
            ("/usr/bin/pgrep -x nginx", Some("nginx")),
            ("pgrep -f /usr/bin/java", None),
            ("killall -0 a b", None),
            ("/bin/kill -0 `cat /var/run/haproxy.pid`", None),
            ("/usr/local/bin/check.sh", None),
            ("pidof a-name-of-more-than-15", None),
            ("", None),
        ] {
            assert_eq!(watched_process(command).as_deref(), process, "{command}");
        }
    }

    #[test]
    fn only_what_needs_a_shell_gets_one() {
        for (text, written) in [
            ("/usr/local/bin/check.sh", r#""/usr/local/bin/check.sh""#),
            ("/bin/ping -c1 192.0.2.1", r#"["/bin/ping", "-c1", "192.0.2.1"]"#),
            ("curl -f http://localhost/", r#"["/bin/sh", "-c", "curl -f http://localhost/"]"#),
            ("/bin/a | /bin/b", r#"["/bin/sh", "-c", "/bin/a | /bin/b"]"#),
            ("</dev/tcp/::1/80", r#"["/bin/sh", "-c", "</dev/tcp/::1/80"]"#),
        ] {
            assert_eq!(command(text), written);
        }
    }
}
