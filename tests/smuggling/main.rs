//! The corpus of `tests/vectors/http1` against `lyre run`: every input is sent to the real program, and a backend of raw
//! bytes says what came out at the other side. Nothing that a rule refuses may arrive there, what passes arrives in one
//! normal form, and never is there a second request behind the first that was not routed and checked by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

mod backend;
mod client;
#[path = "../vectors/http1/corpus.rs"]
mod corpus;
#[path = "../supervisor/node.rs"]
#[allow(dead_code)]
mod node;

use backend::{Arrival, Backend, Framing, Script};
use client::{Answer, Client};
use corpus::{Body, Case, Outcome};
use node::{Node, Start};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const REQUESTS: [&str; 6] = [
    include_str!("../vectors/http1/length.txt"),
    include_str!("../vectors/http1/coding.txt"),
    include_str!("../vectors/http1/chunks.txt"),
    include_str!("../vectors/http1/start-line.txt"),
    include_str!("../vectors/http1/expect-upgrade.txt"),
    include_str!("../vectors/http1/pipeline.txt"),
];
const RESPONSES: &str = include_str!("../vectors/http1/responses.txt");

/// Any host is served, by one core, so that its pool of upstream connections is the only one. Not a Nextcloud, whose
/// chunked bodies would arrive with a length.
fn node(backend: &Backend) -> Node {
    let edits = [
        ("[nextcloud]\nhosts = [\"cloud.example.com\"]\n", "[[route]]\npool = \"app\"\n[[pool]]\nname = \"app\"\n"),
        ("cores = 2", "cores = 1"),
        ("300ms", "15s"),
    ];
    let extra = "[log]\naccess = \"off\"\n";
    Node::start(Start { server: Some(backend.address), edits: &edits, extra, ..Start::default() })
}

#[test]
fn every_request_of_the_corpus_arrives_as_documented_or_not_at_all() {
    let backend = Backend::start();
    let node = node(&backend);
    let cases: Vec<Case> = REQUESTS.iter().flat_map(|text| corpus::parse(text)).collect();
    let mut failures = Vec::new();
    let mut attempts = Vec::new();
    for case in &cases {
        for (number, input) in case.inputs.iter().enumerate() {
            for pieces in cuts(input) {
                let context = format!("{} ({}) input {number} in {} pieces", case.id, case.title, pieces.len());
                let client = Client::connect(node.port());
                let address = client.address;
                if let Err(what) = request_case(&node, &backend, case, &pieces, client) {
                    failures.push(format!("{context}: {what}"));
                    break;
                }
                attempts.push((case, context, address));
            }
        }
    }
    let senders: BTreeSet<Ipv4Addr> = attempts.iter().map(|(.., address)| *address).collect();
    // What was given up half way may have come long after its client had gone.
    for (case, context, address) in &attempts {
        if let Err(what) = check_arrivals(&backend, case, *address) {
            failures.push(format!("{context}, in the end: {what}"));
        }
    }
    let strangers = backend.strangers(&senders).into_iter().filter(|arrival| arrival.target() != "/canary");
    failures.extend(strangers.map(|arrival| format!("nobody's request: {arrival:?}")));
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Whole, byte by byte, and in two around line ends. How the kernel joins pieces is its own business; the pure tests of
/// the corpus cut at every offset.
fn cuts(input: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts = vec![vec![input]];
    if input.len() < 600 {
        cuts.push(input.chunks(1).collect());
        let near = |at: &usize| matches!(input[at - 1], b'\r' | b'\n') || matches!(input[*at], b'\r' | b'\n');
        cuts.extend((1..input.len()).filter(near).map(|at| vec![&input[..at], &input[at..]]));
    }
    cuts
}

/// One way to send one input, and all that must be so afterwards.
fn request_case(
    node: &Node,
    backend: &Backend,
    case: &Case,
    pieces: &[&[u8]],
    mut client: Client,
) -> Result<(), String> {
    pieces.iter().for_each(|piece| client.send(piece));
    client.finish();
    let methods = case.outcome.iter().filter_map(|outcome| match outcome {
        Outcome::Request { method, .. } => Some(method.as_str()),
        _ => None,
    });
    let methods: Vec<&str> = methods.collect();
    let answers = client.answers(&methods)?;
    let whole = expected_requests(case).iter().filter(|expected| expected.is_complete).count();
    backend.wait(client.address, whole);
    canary(node)?;
    check_answers(case, &check_arrivals(backend, case, client.address)?, &answers)
}

/// What came of this client's requests. One that was cut off may have been given up before anything of it was sent on.
fn check_arrivals(backend: &Backend, case: &Case, client: Ipv4Addr) -> Result<Vec<Arrival>, String> {
    let arrivals = backend.arrivals(client);
    let expected = expected_requests(case);
    let whole = expected.iter().filter(|expected| expected.is_complete).count();
    if !(whole..=expected.len()).contains(&arrivals.len()) {
        return Err(format!("{} requests instead of {}: {arrivals:?}", arrivals.len(), expected.len()));
    }
    for (expected, arrival) in expected.iter().zip(&arrivals) {
        check_arrival(expected, arrival, client)?;
    }
    Ok(arrivals)
}

/// Another client's request gets its own answer: nothing has been mixed up. The address of that client.
fn canary(node: &Node) -> Result<Ipv4Addr, String> {
    let mut client = Client::connect(node.port());
    client.send(b"GET /canary HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    match client.answers(&["GET"])?.as_slice() {
        [answer] if answer.body == b"seen GET /canary" => Ok(client.address),
        answers => Err(format!("the canary got {answers:?}")),
    }
}

/// A request as the corpus wants it upstream.
#[derive(Debug)]
struct Expected<'a> {
    method: &'a str,
    target: &'a str,
    body: &'a Body,
    fields: Vec<&'a Outcome>,
    is_complete: bool,
}

fn expected_requests(case: &Case) -> Vec<Expected<'_>> {
    let mut expected: Vec<Expected> = Vec::new();
    for outcome in &case.outcome {
        match outcome {
            // RFC 9110 §9.3.7: about the server, not about anything behind it; answered here.
            Outcome::Request { method, target, .. } if method == "OPTIONS" && target == "*" => {}
            Outcome::Request { method, target, body } => {
                expected.push(Expected { method, target, body, fields: Vec::new(), is_complete: true });
            }
            Outcome::Has { .. } | Outcome::Lacks { .. } => {
                expected.iter_mut().last().into_iter().for_each(|last| last.fields.push(outcome));
            }
            Outcome::Abort { .. } | Outcome::Truncated => {
                expected.iter_mut().last().into_iter().for_each(|last| last.is_complete = false);
            }
            _ => {}
        }
    }
    expected
}

fn check_arrival(expected: &Expected, arrival: &Arrival, client: Ipv4Addr) -> Result<(), String> {
    if arrival.line() != format!("{} {} HTTP/1.1", expected.method, expected.target)
        || arrival.is_complete != expected.is_complete
    {
        return Err(format!("{arrival:?} instead of {expected:?}"));
    }
    let (framing, content) = match expected.body {
        Body::None => (Framing::None, Some(Vec::new())),
        Body::Length(length, content) => (Framing::Length(*length), content.clone()),
        Body::Chunked(content) => (Framing::Chunked, content.clone()),
        other => return Err(format!("no request has {other:?}")),
    };
    if arrival.framing != framing || (expected.is_complete && content.is_some_and(|content| content != arrival.body)) {
        return Err(format!("framed otherwise: {arrival:?}"));
    }
    arrival.check_form()?;
    for field in &expected.fields {
        let (name, value) = match field {
            Outcome::Has { name, value } => (name, Some(value.replace("203.0.113.9", &client.to_string()))),
            Outcome::Lacks { name } => (name, None),
            _ => continue,
        };
        // The name a server without a host of its own is asked by.
        let value = value.map(|value| if value == "default.example" { backend::authority(arrival) } else { value });
        let found = arrival.fields(name);
        if found != value.iter().map(String::as_str).collect::<Vec<_>>() {
            return Err(format!("{name} is {found:?}: {arrival:?}"));
        }
    }
    Ok(())
}

fn check_answers(case: &Case, arrivals: &[Arrival], answers: &[Answer]) -> Result<(), String> {
    let mut rest = answers.iter();
    let mut arrived = arrivals.iter().peekable();
    let mut must_close = false;
    for outcome in &case.outcome {
        match outcome {
            Outcome::Request { method, target, .. } if method == "OPTIONS" && target == "*" => {
                want(rest.next(), 204, false)?;
            }
            Outcome::Request { method, .. } => {
                let Some(arrival) = arrived.next_if(|arrival| arrival.is_complete) else { continue };
                let answer = want(rest.next(), 200, false)?;
                let body = format!("seen {} {}", arrival.method(), arrival.target());
                if method != "HEAD" && answer.body != body.as_bytes() {
                    return Err(format!("another request's answer: {answer:?}"));
                }
                must_close = answer.field("connection") == Some("close");
            }
            Outcome::Refuse { status, .. } => must_close = want(rest.next(), *status, true).map(|_| true)?,
            Outcome::Abort { .. } => must_close = want(rest.next(), 400, true).map(|_| true)?,
            // Nobody is left to hear it; an answer would be a refusal.
            Outcome::Truncated if rest.next().is_some_and(|answer| answer.status < 400) => {
                return Err("a cut request was answered as if it were whole".to_owned());
            }
            Outcome::Upgrade if !must_close => return Err("kept open although the upgrade was refused".to_owned()),
            _ => {}
        }
    }
    match rest.next() {
        None => Ok(()),
        Some(answer) => Err(format!("one answer too many: {answer:?}")),
    }
}

fn want(answer: Option<&Answer>, status: u16, is_last: bool) -> Result<&Answer, String> {
    let answer = answer.ok_or_else(|| format!("no answer where {status} belongs"))?;
    if answer.status != status || !answer.is_complete {
        return Err(format!("{answer:?} instead of {status}"));
    }
    if is_last && answer.field("connection") != Some("close") {
        return Err(format!("does not say close: {answer:?}"));
    }
    Ok(answer)
}

#[test]
fn every_response_of_the_corpus_reaches_the_client_as_documented() {
    let backend = Backend::start();
    let node = node(&backend);
    // A folded line is an error of the parser that the exchange knows how to mend: below.
    let cases: Vec<Case> = corpus::parse(RESPONSES).into_iter().filter(|case| case.id != "F04-fold").collect();
    let mut failures = Vec::new();
    for case in &cases {
        for (number, input) in case.inputs.iter().enumerate() {
            if let Err(what) = response_case(&node, &backend, case, input) {
                failures.push(format!("{} ({}) input {number}: {what}", case.id, case.title));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn a_folded_response_line_arrives_unfolded() {
    let backend = Backend::start();
    let node = node(&backend);
    let folded = b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 0\r\n\r\n".to_vec();
    backend.play(Script { answer: Some(folded), fin: false });
    let mut client = Client::connect(node.port());
    client.send(b"GET /scripted HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers = client.until_final("GET").unwrap();
    let words: Vec<&str> = answers[0].field("x").unwrap().split_ascii_whitespace().collect();
    assert_eq!((answers[0].status, words), (200, vec!["a", "b"]));
}

fn response_case(node: &Node, backend: &Backend, case: &Case, input: &[u8]) -> Result<(), String> {
    // Only where the connection is to be judged must it stay open; else its end belongs to the input.
    let ends = |outcome: &Outcome| {
        let is_cut = matches!(outcome, Outcome::Truncated | Outcome::Bad { .. } | Outcome::Tunnel);
        is_cut || (*outcome == Outcome::Spoiled && case.id == "F00-close")
    };
    let fin = case.outcome.iter().any(ends);
    backend.forget();
    backend.play(Script { answer: Some(input.to_vec()), fin });
    let mut client = Client::connect(node.port());
    let method = if case.to == "UPGRADE" { "GET" } else { case.to.as_str() };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let more = if case.to == "UPGRADE" { upgrade } else { "" };
    client.send(format!("{method} /scripted HTTP/1.1\r\nHost: a\r\n{more}\r\n").as_bytes());
    let answers = client.until_final(method)?;
    check_responses(case, &answers, &mut client)?;
    let address = client.address;
    drop(client);
    backend.wait(address, 1);
    let first = backend.arrivals(address).first().map(|arrival| arrival.connection);
    if case.outcome.contains(&Outcome::Spoiled) {
        backend.wait_end(first);
    }
    let last = backend.arrivals(canary(node)?).first().map(|arrival| arrival.connection);
    let is_reused = first == last;
    match case.outcome.last() {
        Some(Outcome::Reusable) if !is_reused => Err("its connection was not used again".to_owned()),
        Some(_) if is_reused && !case.outcome.contains(&Outcome::Reusable) => {
            Err("its connection was used again".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_responses(case: &Case, answers: &[Answer], client: &mut Client) -> Result<(), String> {
    let mut rest = answers.iter();
    let is_cut = case.outcome.contains(&Outcome::Truncated);
    for outcome in &case.outcome {
        match outcome {
            Outcome::Interim { status } => {
                rest.next().filter(|answer| answer.status == *status).ok_or("an interim response is missing")?;
            }
            Outcome::Response { status, body } => {
                let answer = rest.next().ok_or("no response")?;
                if answer.status != *status || answer.is_complete == is_cut {
                    return Err(format!("{answer:?} instead of {status} {body:?}"));
                }
                check_body(answer, body)?;
            }
            Outcome::Bad { .. } => {
                want(rest.next(), 502, false)?;
            }
            Outcome::Tunnel => {
                rest.next().filter(|answer| answer.status == 101).ok_or("no 101")?;
                let bytes = client.rest();
                if bytes != b"\x81\x02hi" {
                    return Err(format!("through the tunnel came {bytes:?}"));
                }
            }
            _ => {}
        }
    }
    match rest.next() {
        None => Ok(()),
        Some(answer) => Err(format!("one response too many: {answer:?}")),
    }
}

fn check_body(answer: &Answer, body: &Body) -> Result<(), String> {
    let (length, coding) = (answer.field("content-length"), answer.field("transfer-encoding"));
    let (wanted_length, wanted_coding, content) = match body {
        Body::None => (None, None, None),
        Body::Declared(length) => (Some(length.to_string()), None, None),
        Body::Length(length, content) => (Some(length.to_string()), None, content.clone()),
        Body::Chunked(content) => (None, Some("chunked"), content.clone()),
        Body::Close(content) => (None, None, content.clone()),
    };
    let is_framed =
        length == wanted_length.as_deref() && coding.map(str::to_ascii_lowercase).as_deref() == wanted_coding;
    if !is_framed || (answer.is_complete && content.is_some_and(|content| content != answer.body)) {
        return Err(format!("framed otherwise: {answer:?}"));
    }
    Ok(())
}
