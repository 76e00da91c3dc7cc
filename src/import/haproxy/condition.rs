//! `if` and `unless`: what an ACL looks at, as far as a route can say it.

use super::sections::Line;
use crate::import::edge::{host, is_path, network, pattern};
use crate::import::files::Files;
use std::collections::HashMap;
use std::path::Path;

/// Stands for a pattern that is no list of paths.
const NO_PATH: &str = "?";

/// What one test looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Hosts(Vec<String>),
    Paths(Vec<String>),
    /// The connection has TLS.
    Tls,
    Source(Vec<String>),
    WebSocket,
    Always,
    Never,
    /// A count of requests, connections or errors.
    Rate,
    Other,
}

/// All of these hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) hosts: Option<Vec<String>>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) source: Option<Vec<String>>,
    pub(super) not_source: Option<Vec<String>>,
    pub(super) tls: Option<bool>,
    pub(super) is_web_socket: bool,
    pub(super) is_rate: bool,
    /// Paths are excluded, which longer paths of other routes do.
    pub(super) excludes_paths: bool,
    /// Something else is looked at, too.
    pub(super) is_other: bool,
    pub(super) is_never: bool,
}

pub(super) type Acls = HashMap<String, Vec<Test>>;

/// Reads `acl NAME CRITERION …`; what it looks at.
pub(super) fn define(acls: &mut Acls, line: &Line, files: &dyn Files, source: &Path) -> Test {
    let test = test(line.from(2), files, source);
    let tests = acls.entry(line.word(1).to_owned()).or_default();
    match (tests.first_mut(), &test) {
        (Some(Test::Hosts(before)), Test::Hosts(more))
        | (Some(Test::Paths(before)), Test::Paths(more))
        | (Some(Test::Source(before)), Test::Source(more)) => before.extend(more.iter().cloned()),
        (Some(before), _) if *before == test => {}
        (Some(before), _) => *before = Test::Other,
        (None, _) => tests.push(test.clone()),
    }
    test
}

/// The alternatives of the condition behind `if` or `unless` in these words; none: always.
pub(super) fn terms(words: &[String], acls: &Acls, files: &dyn Files, source: &Path) -> Vec<Term> {
    let Some(start) = words.iter().position(|word| word == "if" || word == "unless") else {
        return vec![Term::default()];
    };
    let is_unless = words.get(start).is_some_and(|word| word == "unless");
    let mut terms = vec![Term::default()];
    let mut words = words.get(start + 1..).unwrap_or_default();
    let mut count = 0;
    while let Some((word, rest)) = words.split_first() {
        words = rest;
        let Some(term) = terms.last_mut() else { break };
        if word == "or" || word == "||" {
            terms.push(Term::default());
            continue;
        }
        let (mut is_not, mut name) = (is_unless, word.as_str());
        while let Some(rest) = name.strip_prefix('!') {
            (is_not, name) = (!is_not, rest);
        }
        if name.is_empty() {
            // The mark stands alone: `! name`.
            let Some((word, rest)) = words.split_first() else { break };
            (name, words) = (word.as_str(), rest);
        }
        count += 1;
        if name == "{" {
            let end = words.iter().position(|word| word == "}").unwrap_or(words.len());
            add(term, test(words.get(..end).unwrap_or_default(), files, source), is_not);
            words = words.get(end + 1..).unwrap_or_default();
            continue;
        }
        add(term, named(name, acls), is_not);
    }
    if is_unless && count > 1 {
        terms.iter_mut().for_each(|term| term.is_other = true);
    }
    terms
}

fn named(name: &str, acls: &Acls) -> Test {
    match acls.get(name).and_then(|tests| tests.first()) {
        Some(test) => test.clone(),
        None => match name {
            "TRUE" => Test::Always,
            "FALSE" => Test::Never,
            "LOCALHOST" => Test::Source(vec!["127.0.0.0/8".to_owned()]),
            _ => Test::Other,
        },
    }
}

fn add(term: &mut Term, test: Test, is_not: bool) {
    let both = |before: &Option<Vec<String>>, new: Vec<String>| match before {
        None => new,
        Some(before) => new.into_iter().filter(|value| before.contains(value)).collect(),
    };
    match (test, is_not) {
        (Test::Hosts(hosts), false) => term.hosts = Some(both(&term.hosts, hosts)),
        (Test::Paths(paths), false) if term.paths.is_none() => term.paths = Some(paths),
        (Test::Paths(_), true) => term.excludes_paths = true,
        (Test::Tls, is_not) => term.tls = Some(!is_not),
        (Test::Source(networks), false) => term.source = Some(networks),
        (Test::Source(networks), true) => term.not_source = Some(networks),
        (Test::WebSocket, false) => term.is_web_socket = true,
        (Test::WebSocket, true) | (Test::Always, false) | (Test::Never, true) => {}
        (Test::Always, true) | (Test::Never, false) => term.is_never = true,
        (Test::Rate, _) => (term.is_rate, term.is_other) = (true, true),
        (Test::Hosts(_), true) | (Test::Paths(_), false) | (Test::Other, _) => term.is_other = true,
    }
}

/// `CRITERION [FLAGS] VALUES`.
fn test(words: &[String], files: &dyn Files, source: &Path) -> Test {
    let Some((criterion, rest)) = words.split_first() else { return Test::Other };
    let (fetch, converters) = criterion.split_once(',').unwrap_or((criterion, ""));
    if !converters
        .split(',')
        .all(|c| matches!(c, "" | "lower" | "field(1,:)" | "field(1" | ":)" | "host_only" | "strip"))
    {
        return if fetch.starts_with("sc") { Test::Rate } else { Test::Other };
    }
    let Some((how, values)) = values(rest, files, source) else { return Test::Other };
    let fetch = fetch.to_ascii_lowercase();
    let is_exact = matches!(how.as_str(), "" | "str");
    match fetch.as_str() {
        "hdr(host)" | "req.hdr(host)" | "req.fhdr(host)" | "hdr(host,1)" | "hdr(host,-1)" | "ssl_fc_sni"
            if is_exact =>
        {
            let hosts: Option<Vec<String>> = values.iter().map(|value| host(value)).collect();
            hosts.filter(|hosts| !hosts.is_empty()).map_or(Test::Other, Test::Hosts)
        }
        "path" | "path_beg" | "path_dir" | "url_beg" | "req.path"
            if is_exact || ["beg", "dir"].contains(&how.as_str()) =>
        {
            paths(values)
        }
        "path_reg" => {
            paths(values.iter().flat_map(|value| pattern(value).unwrap_or_else(|| vec![NO_PATH.to_owned()])).collect())
        }
        "path" if how == "reg" => {
            paths(values.iter().flat_map(|value| pattern(value).unwrap_or_else(|| vec![NO_PATH.to_owned()])).collect())
        }
        "ssl_fc" | "hdr(x-forwarded-proto)" if is_exact => Test::Tls,
        "dst_port" if values == ["443"] => Test::Tls,
        "src" => {
            let networks: Option<Vec<String>> = values.iter().map(|value| network(value)).collect();
            networks.filter(|networks| !networks.is_empty()).map_or(Test::Other, Test::Source)
        }
        "hdr(upgrade)" | "req.hdr(upgrade)" | "hdr(connection)" | "hdr_beg(connection)" | "hdr_sub(connection)" => {
            Test::WebSocket
        }
        "always_true" => Test::Always,
        "always_false" => Test::Never,
        fetch if fetch.starts_with("sc") || fetch.starts_with("src_") => Test::Rate,
        _ => Test::Other,
    }
}

fn paths(values: Vec<String>) -> Test {
    match !values.is_empty() && values.iter().all(|value| is_path(value)) {
        true => Test::Paths(values),
        false => Test::Other,
    }
}

/// The method of `-m`, and the values; those of `-f` are read. None for flags that change the meaning.
fn values(words: &[String], files: &dyn Files, source: &Path) -> Option<(String, Vec<String>)> {
    let mut how = String::new();
    let mut values = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-i" | "-n" | "--" => {}
            "-m" => how = words.next()?.clone(),
            "-f" => {
                let path = source.parent().unwrap_or(Path::new("")).join(words.next()?);
                let text = files.read(&path).ok()?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                values.extend(lines.take(1024).map(str::to_owned));
            }
            "-M" | "-u" => return None,
            _ => values.push(word.clone()),
        }
    }
    Some((how, values))
}
