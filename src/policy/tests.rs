//! The corpus of `tests/vectors/http1` against the pure half of a connection: parser, path check, body, header rules.
//! Every input is fed whole, byte by byte and cut in two at each offset; the outcome must never depend on the cut.

#[path = "../../tests/vectors/http1/corpus.rs"]
mod corpus;

use crate::config::settings::Trust;
use crate::policy::headers::{self, Onward, Origin, Scheme};
use crate::policy::route;
use crate::proto::http1::body::Truncated;
use crate::proto::http1::exchange::{Exchange, Framing, Step};
use crate::proto::http1::*;
use corpus::{Body, Case, Outcome};

const REQUESTS: [&str; 6] = [
    include_str!("../../tests/vectors/http1/length.txt"),
    include_str!("../../tests/vectors/http1/coding.txt"),
    include_str!("../../tests/vectors/http1/chunks.txt"),
    include_str!("../../tests/vectors/http1/start-line.txt"),
    include_str!("../../tests/vectors/http1/expect-upgrade.txt"),
    include_str!("../../tests/vectors/http1/pipeline.txt"),
];
const RESPONSES: &str = include_str!("../../tests/vectors/http1/responses.txt");

#[test]
fn every_request_has_the_documented_outcome_however_it_is_cut() {
    let cases: Vec<Case> = REQUESTS.iter().flat_map(|text| corpus::parse(text)).collect();
    assert!(cases.len() > 140, "{} cases", cases.len());
    for case in &cases {
        for (number, input) in case.inputs.iter().enumerate() {
            for pieces in cuts(input) {
                let mut client = Client::new();
                pieces.iter().for_each(|piece| client.feed(piece));
                let seen = client.finish();
                let context = format!("{} input {number} in {} pieces", case.id, pieces.len());
                assert_eq!(outline(&seen), expected_outline(&case.outcome), "{context}");
                check_fields(&seen, &case.outcome, &context);
            }
        }
    }
}

#[test]
fn every_response_has_the_documented_outcome_however_it_is_cut() {
    for case in corpus::parse(RESPONSES) {
        for (number, input) in case.inputs.iter().enumerate() {
            for pieces in cuts(input) {
                let mut upstream = Upstream::new(&case.to);
                pieces.iter().for_each(|piece| upstream.feed(piece));
                let seen = upstream.finish();
                let context = format!("{} input {number} in {} pieces", case.id, pieces.len());
                assert_eq!(outline(&seen), expected_outline(&case.outcome), "{context}");
            }
        }
    }
}

#[test]
fn no_truncation_of_any_vector_panics_or_completes_more() {
    for case in REQUESTS.iter().flat_map(|text| corpus::parse(text)) {
        for input in case.inputs.iter().filter(|input| input.len() < 2_048) {
            let whole = run(input);
            for end in 0..input.len() {
                let part = run(&input[..end]);
                let completed = |seen: &[Seen]| seen.iter().filter(|seen| matches!(seen, Seen::Request { .. })).count();
                assert!(completed(&part) <= completed(&whole), "{} cut at {end}", case.id);
            }
        }
    }
}

/// `cargo test write_fuzz_seeds -- --ignored` turns the vectors into seeds of the fuzz targets `http1_*` and `forwarded`.
#[test]
#[ignore = "writes files: fuzz/corpus"]
fn write_fuzz_seeds() {
    let write = |target: &str, case: &Case, bytes: &[u8]| {
        // Where to cut is the first thing that the targets of codecs read.
        let cut: &[u8] = if target == "forwarded" { b"" } else { b"\x07\0" };
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&directory).unwrap();
        let number = case.inputs.iter().position(|input| input.ends_with(bytes)).unwrap_or(0);
        std::fs::write(directory.join(format!("{}-{number}", case.id)), [cut, bytes].concat()).unwrap();
    };
    for case in REQUESTS.iter().flat_map(|text| corpus::parse(text)) {
        for input in case.inputs.iter().filter(|input| input.len() < 1_024) {
            write("http1_request", &case, input);
            write("forwarded", &case, input);
            let body = input.windows(4).position(|end| end == b"\r\n\r\n").map(|at| &input[at + 4..]);
            if let Some(body) = body.filter(|_| case.id.starts_with('C')) {
                write("http1_chunked", &case, body);
            }
        }
    }
    for case in corpus::parse(RESPONSES) {
        case.inputs.iter().filter(|input| input.len() < 1_024).for_each(|input| write("http1_response", &case, input));
    }
}

fn run(input: &[u8]) -> Vec<Seen> {
    let mut client = Client::new();
    client.feed(input);
    client.finish()
}

/// The input whole, byte by byte, and in two at each offset (long inputs: around line ends only).
fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts = vec![vec![input], input.chunks(1).collect()];
    let near_line_end = |at: &usize| {
        input[at.saturating_sub(2)..(at + 2).min(input.len())].iter().any(|byte| matches!(byte, b'\r' | b'\n'))
    };
    let is_short = input.len() < 1_024;
    let offsets = (1..input.len()).filter(|at| is_short || near_line_end(at)).take(if is_short { 1_024 } else { 48 });
    cuts.extend(offsets.map(|at| vec![&input[..at], &input[at..]]));
    cuts
}

/// What happened, in the words of the corpus.
#[derive(Debug, Clone)]
enum Seen {
    Request { method: String, target: String, body: Framing, content: Vec<u8>, forwarded: Vec<u8>, is_complete: bool },
    Response { status: u16, body: Framing, content: Vec<u8> },
    Plain(Outcome),
}

/// One line per outcome, bodies included when complete.
fn outline(seen: &[Seen]) -> Vec<String> {
    let content = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
    seen.iter()
        .map(|seen| match seen {
            Seen::Request { method, target, body, content: bytes, is_complete: true, .. } => {
                format!("request {method} {target} {body:?} {:?}", content(bytes))
            }
            Seen::Request { method, target, body, .. } => format!("request {method} {target} {body:?}"),
            Seen::Response { status, body, content: bytes } => {
                format!("response {status} {body:?} {:?}", content(bytes))
            }
            Seen::Plain(outcome) => format!("{outcome:?}"),
        })
        .fold(Vec::new(), |mut lines: Vec<String>, line| {
            // A response cut off later has no content worth comparing.
            if line == "Truncated" && lines.last().is_some_and(|last| last.starts_with("response")) {
                let last = lines.pop().unwrap();
                lines.push(last.split(" \"").next().unwrap().to_string());
            }
            lines.push(line);
            lines
        })
}

fn expected_outline(outcome: &[Outcome]) -> Vec<String> {
    let framing = |body: &Body| match body {
        Body::None => (Framing::None, Some(vec![])),
        Body::Declared(length) => (Framing::Declared(*length), Some(vec![])),
        Body::Length(0, _) => (Framing::Length(0), Some(vec![])),
        Body::Length(length, content) => (Framing::Length(*length), content.clone()),
        Body::Chunked(content) => (Framing::Chunked, content.clone()),
        Body::Close(content) => (Framing::UntilClose, content.clone()),
    };
    let with_content = |line: String, content: Option<Vec<u8>>| match content {
        Some(content) => format!("{line} {:?}", String::from_utf8_lossy(&content)),
        None => line,
    };
    outcome
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Has { .. } | Outcome::Lacks { .. } => None,
            Outcome::Request { method, target, body } => {
                let (framing, content) = framing(body);
                Some(with_content(format!("request {method} {target} {framing:?}"), content))
            }
            Outcome::Response { status, body } => {
                let (framing, content) = framing(body);
                Some(with_content(format!("response {status} {framing:?}"), content))
            }
            plain => Some(format!("{plain:?}")),
        })
        .collect()
}

/// `has` and `lacks` against the forwarded head of the request above them.
fn check_fields(seen: &[Seen], outcome: &[Outcome], context: &str) {
    let mut requests = seen.iter().filter_map(|seen| match seen {
        Seen::Request { forwarded, .. } => Some(forwarded),
        _ => None,
    });
    let mut forwarded: &[u8] = &[];
    for outcome in outcome {
        match outcome {
            Outcome::Request { .. } => forwarded = requests.next().expect("as many requests as expected"),
            Outcome::Has { name, value } => {
                assert_eq!(values(forwarded, name), [value.as_bytes()], "{context}: {name}");
            }
            Outcome::Lacks { name } => assert!(values(forwarded, name).is_empty(), "{context}: {name}"),
            _ => {}
        }
    }
}

fn values(head: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut fields = Fields::new();
    let Ok(Parsed::Done { head, .. }) = parse_request(head, &mut fields, &roomy()) else {
        panic!("what we forward must satisfy our own parser: {:?}", String::from_utf8_lossy(head))
    };
    let lines = head.fields().filter(|line| line.name_bytes().eq_ignore_ascii_case(name.as_bytes()));
    lines.map(|line| line.value().to_vec()).collect()
}

/// The forwarded head may be a little longer than the received one.
fn roomy() -> Limits {
    Limits { line_bytes_max: 20 * 1024, fields_max: Limits::FIELDS_CEILING, ..Limits::default() }
}

/// The client's side of a connection without its sockets. Its peer is 203.0.113.9, not trusted.
struct Client {
    buffer: Vec<u8>,
    reader: HeadReader,
    phase: Phase,
    seen: Vec<Seen>,
}

enum Phase {
    Head,
    Body { reader: BodyReader, keeps: bool },
    Ended,
}

impl Client {
    fn new() -> Client {
        Client { buffer: vec![], reader: HeadReader::new(), phase: Phase::Head, seen: vec![] }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while self.step() {}
    }

    fn finish(mut self) -> Vec<Seen> {
        if let Phase::Body { .. } = self.phase {
            self.seen.push(Seen::Plain(Outcome::Truncated));
        }
        self.seen
    }

    /// False: nothing to do without more bytes.
    fn step(&mut self) -> bool {
        match &mut self.phase {
            Phase::Ended => false,
            Phase::Head => self.head(),
            Phase::Body { reader, keeps } => {
                let keeps = *keeps;
                if self.buffer.is_empty() && !reader.is_done() {
                    return false;
                }
                let span = match reader.decode(&self.buffer) {
                    Ok(span) => span,
                    Err(error) => {
                        self.phase = Phase::Ended;
                        self.seen.push(Seen::Plain(Outcome::Abort { reason: error.reason().into() }));
                        return false;
                    }
                };
                let Some(Seen::Request { content, is_complete, .. }) = self.seen.last_mut() else { unreachable!() };
                content.extend_from_slice(&self.buffer[span.data]);
                *is_complete = span.is_done;
                self.buffer.drain(..span.consumed);
                if span.is_done {
                    self.between(keeps);
                }
                true
            }
        }
    }

    fn head(&mut self) -> bool {
        let mut fields = Fields::new();
        let limits = Limits::default();
        let (head, consumed) = match self.reader.request(&self.buffer, &mut fields, &limits) {
            Ok(Parsed::NeedMore) => return false,
            Ok(Parsed::Done { head, consumed }) => (head, consumed),
            Err(error) => return self.refuse(error.status(), error.reason()),
        };
        if route::check_depth(head.path()).is_err() {
            return self.refuse(400, "above_root");
        }
        let trust = Trust::default();
        let origin = Origin::new(([203, 0, 113, 9], 50_000).into(), Scheme::Http, 80, &trust);
        let client = origin.client(&head, &trust);
        let framing = Framing::of_request(head.body());
        let onward = Onward {
            framing,
            request_id: b"id",
            forwards_expect: true,
            default_host: b"default.example",
            rewrite: None,
        };
        let mut forwarded = Vec::new();
        headers::write_request(&mut forwarded, &head, &origin, &client, &onward);
        values(&forwarded, "host");
        let exchange = Exchange::new(&head, true);
        self.seen.push(Seen::Request {
            method: String::from_utf8(head.method_bytes().to_vec()).unwrap(),
            target: String::from_utf8(head.target().to_vec()).unwrap(),
            body: framing,
            content: vec![],
            forwarded,
            is_complete: exchange.is_request_done(),
        });
        let (reader, is_upgrade) = (BodyReader::new(head.body()), head.is_websocket_upgrade());
        // As if answered at once, so that only the client's wish decides.
        let mut exchange = exchange;
        exchange.request_done();
        exchange.response_done();
        let keeps = exchange.may_reuse_client();
        self.buffer.drain(..consumed);
        self.reader = HeadReader::new();
        if is_upgrade {
            self.phase = Phase::Ended;
            self.seen.push(Seen::Plain(Outcome::Upgrade));
        } else if reader.is_done() {
            self.between(keeps);
        } else {
            self.phase = Phase::Body { reader, keeps };
        }
        true
    }

    fn between(&mut self, keeps: bool) {
        if keeps {
            self.phase = Phase::Head;
        } else {
            self.phase = Phase::Ended;
            self.seen.push(Seen::Plain(Outcome::Closed));
        }
    }

    fn refuse(&mut self, status: u16, reason: &str) -> bool {
        self.phase = Phase::Ended;
        self.seen.push(Seen::Plain(Outcome::Refuse { status, reason: reason.into() }));
        false
    }
}

/// The upstream's side of a connection without its sockets.
struct Upstream {
    buffer: Vec<u8>,
    reader: HeadReader,
    exchange: Exchange,
    body: Option<BodyReader>,
    is_over: bool,
    seen: Vec<Seen>,
}

impl Upstream {
    fn new(to: &str) -> Upstream {
        let request = match to {
            "UPGRADE" => "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_string(),
            method => format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        let mut fields = Fields::new();
        let Ok(Parsed::Done { head, .. }) = parse_request(request.as_bytes(), &mut fields, &Limits::default()) else {
            panic!("the request is valid")
        };
        let exchange = Exchange::new(&head, true);
        Upstream { buffer: vec![], reader: HeadReader::new(), exchange, body: None, is_over: false, seen: vec![] }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
        while !self.is_over && !self.buffer.is_empty() && self.step() {}
    }

    fn finish(mut self) -> Vec<Seen> {
        if self.is_over {
            return self.seen;
        }
        match &mut self.body {
            Some(body) => match body.end_of_stream() {
                Ok(()) => {
                    if !self.buffer.is_empty() {
                        self.exchange.spoil_upstream();
                    }
                    self.exchange.response_done();
                    let is_reusable = self.exchange.may_reuse_upstream();
                    self.seen.push(Seen::Plain(if is_reusable { Outcome::Reusable } else { Outcome::Spoiled }));
                }
                Err(Truncated) => self.seen.push(Seen::Plain(Outcome::Truncated)),
            },
            None => self.seen.push(Seen::Plain(Outcome::Truncated)),
        }
        self.seen
    }

    fn step(&mut self) -> bool {
        let Some(body) = &mut self.body else { return self.head() };
        if body.is_done() {
            return false;
        }
        let Ok(span) = body.decode(&self.buffer) else {
            self.is_over = true;
            self.seen.push(Seen::Plain(Outcome::Truncated));
            return false;
        };
        let Some(Seen::Response { content, .. }) = self.seen.last_mut() else { unreachable!() };
        content.extend_from_slice(&self.buffer[span.data]);
        self.buffer.drain(..span.consumed);
        true
    }

    fn head(&mut self) -> bool {
        let mut fields = Fields::new();
        let limits = Limits::default();
        let (head, consumed) = match self.reader.response(&self.buffer, &mut fields, &limits) {
            Ok(Parsed::NeedMore) => return false,
            Ok(Parsed::Done { head, consumed }) => (head, consumed),
            Err(error) => return self.bad(error.reason()),
        };
        let status = head.status();
        match self.exchange.response_head(&head) {
            Err(fault) => return self.bad(fault.reason()),
            Ok(Step::Interim { relay: true }) => self.seen.push(Seen::Plain(Outcome::Interim { status })),
            Ok(Step::Interim { relay: false }) => self.seen.push(Seen::Plain(Outcome::Swallow { status })),
            Ok(Step::Tunnel) => {
                self.is_over = true;
                self.seen.push(Seen::Plain(Outcome::Tunnel));
            }
            Ok(Step::Final(reply)) => {
                self.body = Some(BodyReader::new(reply.received));
                self.seen.push(Seen::Response { status, body: reply.sent, content: vec![] });
            }
        }
        self.buffer.drain(..consumed);
        self.reader = HeadReader::new();
        true
    }

    fn bad(&mut self, reason: &str) -> bool {
        self.is_over = true;
        self.seen.push(Seen::Plain(Outcome::Bad { reason: reason.into() }));
        false
    }
}
