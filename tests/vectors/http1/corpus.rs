//! Reads the vectors of this directory; see README.md. Standard library only: unit tests and black-box tests share it.
#![allow(dead_code, unreachable_pub)] // Each user needs another part and mounts it elsewhere.

/// One case with all its inputs.
#[derive(Debug, Clone)]
pub struct Case {
    pub id: String,
    pub title: String,
    pub inputs: Vec<Vec<u8>>,
    /// `to` of a response case; `GET` if absent.
    pub to: String,
    pub outcome: Vec<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Request { method: String, target: String, body: Body },
    Has { name: String, value: String },
    Lacks { name: String },
    Refuse { status: u16, reason: String },
    Abort { reason: String },
    Truncated,
    Upgrade,
    Closed,
    Interim { status: u16 },
    Swallow { status: u16 },
    Response { status: u16, body: Body },
    Reusable,
    Spoiled,
    Bad { reason: String },
    Tunnel,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    None,
    Declared(u64),
    Length(u64, Option<Vec<u8>>),
    Chunked(Option<Vec<u8>>),
    Close(Option<Vec<u8>>),
}

/// All cases of one file's text. Panics with the line on a mistake in the file.
pub fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let fail = |what: &str| -> ! { panic!("line {}: {what}: {line}", number + 1) };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(' ') {
            let (id, title) = line.split_once(' ').unwrap_or((line, ""));
            if cases.iter().any(|case| case.id == id) {
                fail("id used twice");
            }
            let (id, title) = (id.to_string(), title.to_string());
            cases.push(Case { id, title, inputs: vec![], to: "GET".into(), outcome: vec![] });
            continue;
        }
        let Some(case) = cases.last_mut() else { fail("before the first case") };
        let (word, rest) = line.trim_start().split_once(' ').unwrap_or((line.trim_start(), ""));
        match word {
            "in" => case.inputs.push(bytes(rest.trim_start())),
            "to" => case.to = rest.trim().to_string(),
            _ => match outcome(word, rest.trim_start()) {
                Some(outcome) => case.outcome.push(outcome),
                None => fail("not understood"),
            },
        }
    }
    for case in &cases {
        assert!(!case.inputs.is_empty() && !case.outcome.is_empty(), "{} lacks input or outcome", case.id);
    }
    cases
}

fn outcome(word: &str, rest: &str) -> Option<Outcome> {
    let status = |text: &str| text.parse().ok();
    Some(match word {
        "request" => {
            let (method, rest) = rest.split_once(' ')?;
            let (target, rest) = rest.split_once(' ')?;
            Outcome::Request { method: method.into(), target: target.into(), body: body(rest)? }
        }
        "has" => {
            let (name, value) = rest.split_once(": ")?;
            Outcome::Has { name: name.into(), value: value.into() }
        }
        "lacks" => Outcome::Lacks { name: rest.into() },
        "refuse" => {
            let (code, reason) = rest.split_once(' ')?;
            Outcome::Refuse { status: status(code)?, reason: reason.into() }
        }
        "abort" => Outcome::Abort { reason: rest.into() },
        "truncated" => Outcome::Truncated,
        "upgrade" => Outcome::Upgrade,
        "closed" => Outcome::Closed,
        "interim" => Outcome::Interim { status: status(rest)? },
        "swallow" => Outcome::Swallow { status: status(rest)? },
        "response" => {
            let (code, rest) = rest.split_once(' ')?;
            Outcome::Response { status: status(code)?, body: body(rest)? }
        }
        "reusable" => Outcome::Reusable,
        "spoiled" => Outcome::Spoiled,
        "bad" => Outcome::Bad { reason: rest.into() },
        "tunnel" => Outcome::Tunnel,
        _ => return None,
    })
}

fn body(text: &str) -> Option<Body> {
    let (kind, content) = match text.split_once(" =") {
        Some((kind, content)) => (kind, Some(bytes(content.strip_prefix(' ').unwrap_or(content)))),
        None => (text, None),
    };
    match kind.split_once(' ') {
        None if kind == "none" => Some(Body::None),
        None if kind == "chunked" => Some(Body::Chunked(content)),
        None if kind == "close" => Some(Body::Close(content)),
        Some(("length", length)) => Some(Body::Length(length.parse().ok()?, content)),
        Some(("declared", length)) => Some(Body::Declared(length.parse().ok()?)),
        _ => None,
    }
}

/// Undoes escapes and macros.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match first {
            '{' => {
                let mut depth = 1;
                let end = rest.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth == 0
                });
                let (name, after) = rest.split_at(end.expect("closing brace"));
                rest = &after[1..];
                match name.split_once('*') {
                    Some((count, unit)) => out.extend(bytes(unit).repeat(count.parse().expect("a count"))),
                    None => out.extend(bytes(expansion(name))),
                }
            }
            '\\' => {
                let escape = rest.chars().next().expect("a character after the backslash");
                rest = &rest[escape.len_utf8()..];
                match escape {
                    'r' => out.push(b'\r'),
                    'n' => out.push(b'\n'),
                    't' => out.push(b'\t'),
                    '0' => out.push(0),
                    '\\' => out.push(b'\\'),
                    'x' => {
                        out.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                        rest = &rest[2..];
                    }
                    _ => panic!("unknown escape \\{escape}"),
                }
            }
            _ => out.extend(first.to_string().as_bytes()),
        }
    }
    out
}

fn expansion(name: &str) -> &'static str {
    match name {
        "P" => "POST /x HTTP/1.1\\r\\nHost: a\\r\\n",
        "G" => "GET /x HTTP/1.1\\r\\nHost: a\\r\\n",
        // A whole request, 35 bytes.
        "S" => "GET /smuggled HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n",
        "C" => "Transfer-Encoding: chunked\\r\\n\\r\\n",
        "W" => "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n",
        _ => panic!("unknown macro {{{name}}}"),
    }
}
