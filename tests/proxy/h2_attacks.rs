//! What HTTP/2 clients may not do, and what it costs them: budgets, malformed requests, smuggling by translation.

use crate::edge::{Edge, PATIENCE};
use crate::h2::on_each_driver;
use crate::h2_raw::*;
use crate::origin::{Origin, ok};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Runs `attack` on a connection of its own; it must end in GOAWAY(ENHANCE_YOUR_CALM) and be counted under `reason`,
/// and the next client must not notice.
fn calmed(reason: &str, attack: impl Fn(&mut Raw)) {
    let origin = Origin::answering(|_| ok("canary"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        attack(&mut raw);
        let goaway = raw.until("GOAWAY", |frame| frame.kind == GOAWAY);
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM, "{reason}");
        let metric = format!("lyre_h2_calmed_total{{reason=\"{reason}\"}}");
        edge.wait("counted", |edge| edge.metric(&metric) == 1);
        canary(edge);
        drop(raw);
        edge.wait("nothing left", |edge| {
            edge.metric("lyre_frontend_connections{") == 0 && edge.metric("lyre_frontend_requests_in_flight") == 0
        });
    });
}

fn canary(edge: &Edge) {
    let mut raw = Raw::connect(edge);
    raw.get(1, "/canary");
    assert_eq!(raw.outcome(1), Ok(200));
}

#[test]
fn rapid_resets_end_the_connection() {
    calmed("frames", |raw| {
        let mut bytes = Vec::new();
        for number in 0..1000 {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &block(&get("/"))));
            bytes.extend(frame(RST_STREAM, 0, 2 * number + 1, &8u32.to_be_bytes()));
        }
        raw.bytes(&bytes);
    });
}

#[test]
fn requests_given_up_one_by_one_end_the_connection() {
    let origin = Origin::start(|mut peer| {
        // Never answers.
        while peer.head().is_some() {}
    });
    on_each_driver(&Origin::config(&[&origin], "max_requests_per_server = 1000\n"), |edge| {
        let mut raw = Raw::connect(edge);
        for number in 0..150 {
            let (stream, before) = (2 * number + 1, edge.metric("lyre_frontend_requests_total"));
            raw.get(stream, "/");
            // The server has it: now it is work to be thrown away.
            edge.wait("arrived", |edge| {
                edge.metric("lyre_frontend_requests_total") > before || edge.metric("lyre_h2_calmed_total") > 0
            });
            raw.frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        }
        let goaway = raw.until("GOAWAY", |frame| frame.kind == GOAWAY);
        assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
        assert_eq!(edge.metric("lyre_h2_calmed_total{reason=\"early_resets\"}"), 1);
    });
}

#[test]
fn provoked_resets_end_the_connection() {
    // Malformed to the frame layer, and to us.
    for (reason, field) in [("frames", ("connection", "x")), ("provoked_resets", ("host", "other"))] {
        calmed(reason, |raw| {
            // In batches below what may be open at once; the last one is too much.
            let fields: Vec<_> = get("/").into_iter().chain([field]).collect();
            for batch in 0..3 {
                let streams = (50 * batch..50 * (batch + 1)).map(|number| 2 * number + 1);
                let frames = streams.map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields)));
                raw.bytes(&frames.collect::<Vec<_>>().concat());
                for _ in 0..if batch < 2 { 50 } else { 0 } {
                    raw.until("a reset", |frame| frame.kind == RST_STREAM);
                }
            }
        });
    }
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    calmed("continuations", |raw| {
        raw.frame(HEADERS, END_STREAM, 1, &block(&get("/")));
        let mut bytes = Vec::new();
        for _ in 0..10_000 {
            bytes.extend(frame(CONTINUATION, 0, 1, &[0x88]));
        }
        raw.bytes(&bytes);
    });
}

#[test]
fn floods_of_free_frames_end_the_connection() {
    for (reason, flood) in [
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("ping", frame(PING, 0, 0, &[0; 8])),
        ("window_updates", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("ignored_frames", frame(0x10, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'1'])),
        ("ignored_frames", frame(0xbe, 0, 0, &[])),
        ("ignored_frames", frame(PING, ACK, 0, &[0; 8])),
    ] {
        calmed(reason, |raw| raw.bytes(&flood.repeat(10_000)));
    }
}

#[test]
fn a_flood_of_empty_data_ends_the_connection() {
    let origin = Origin::answering(|_| ok("x"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        raw.headers(1, 0, &[(":method", "POST"), get("/")[1], get("/")[2], get("/")[3]]);
        raw.bytes(&frame(DATA, 0, 1, &[]).repeat(10_000));
        assert_eq!(raw.until("GOAWAY", |frame| frame.kind == GOAWAY).code(), ENHANCE_YOUR_CALM);
        edge.wait("counted", |edge| edge.metric("lyre_h2_calmed_total") == 1);
        canary(edge);
    });
}

#[test]
fn header_bombs_are_refused_before_they_unfold() {
    let origin = Origin::answering(|_| ok("canary"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let before = origin.requests().len();
        // One entry of the dynamic table, named as often as a frame holds.
        let mut raw = Raw::connect(edge);
        let mut bomb = block(&get("/"));
        bomb.push(0x40);
        for text in ["x".to_owned(), "a".repeat(3_900)] {
            integer(&mut bomb, 0, 7, text.len());
            bomb.extend(text.as_bytes());
        }
        bomb.resize(16_000, 0x80 | 62);
        raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
        assert!(matches!(raw.outcome(1), Ok(431) | Err(ENHANCE_YOUR_CALM)));
        // Crumbs: small on the wire, an entry each here.
        let mut raw = Raw::connect(edge);
        let crumbs: Vec<_> = get("/").into_iter().chain(std::iter::repeat_n(("cookie", "a"), 1_000)).collect();
        raw.headers(1, END_STREAM, &crumbs);
        assert_eq!(raw.outcome(1), Ok(431));
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"too_many_fields\"}"), 1);
        assert_eq!(origin.requests().len(), before);
        canary(edge);
    });
}

/// Its number in the http-proxy reference §2.7, fields, and a body if there is one.
type Case = (&'static str, Vec<(&'static str, &'static str)>, Option<&'static str>);

#[test]
fn malformed_requests_are_errors_of_their_stream_and_reach_no_server() {
    let origin = Origin::answering(|_| ok("x"));
    let (method, scheme, authority, path) =
        ((":method", "POST"), (":scheme", "https"), (":authority", "cloud.test"), (":path", "/x"));
    let with = |field: (&'static str, &'static str)| vec![method, scheme, authority, path, field];
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: Vec<Case> = vec![
        ("H01", with(("content-length", "0")), Some(smuggled)),
        ("H02", with(("content-length", "100")), Some("hello")),
        ("H02", with(("content-length", "+5")), Some("hello")),
        ("H02", vec![method, scheme, authority, path, ("content-length", "5"), ("content-length", "6")], Some("hello")),
        ("H03", with(("transfer-encoding", "chunked")), Some("0\r\n\r\n")),
        ("H04", with(("connection", "keep-alive")), None),
        ("H04", with(("keep-alive", "1")), None),
        ("H04", with(("proxy-connection", "x")), None),
        ("H04", with(("upgrade", "h2c")), None),
        ("H04", with(("te", "gzip")), None),
        ("H06", with(("foo", "bar\r\ntransfer-encoding: chunked")), None),
        ("H06", with(("foo", "bar\nx: y")), None),
        ("H06", with(("foo", "a\0b")), None),
        ("H07", with(("foo: bar\r\nx", "y")), None),
        ("H07", with(("transfer-encoding: chunked\r\nfoo", "y")), None),
        ("H07", with(("fo o", "y")), None),
        ("H07", with(("", "y")), None),
        ("H07", with(("Foo", "y")), None),
        ("H07", with(("foo:", "y")), None),
        ("H08", with(("foo", " a")), None),
        ("H08", with(("foo", "a\t")), None),
        ("H09", vec![method, scheme, authority, (":path", "/x HTTP/1.1\r\nX: y")], None),
        ("H09", vec![method, scheme, authority, (":path", "/a b")], None),
        ("H09", vec![method, scheme, authority, (":path", "")], None),
        ("H09", vec![method, scheme, authority, (":path", "x")], None),
        ("H09", vec![method, scheme, authority, (":path", "http://b/")], None),
        ("H09", vec![method, scheme, authority, (":path", "*")], None),
        ("H10", vec![(":method", "GET / HTTP/1.1\r\nHost: b"), scheme, authority, path], None),
        ("H10", vec![(":method", "GET?"), scheme, authority, path], None),
        ("H10", vec![(":method", ""), scheme, authority, path], None),
        ("H11", vec![method, (":scheme", "http://evil/?"), authority, path], None),
        ("H11", vec![method, (":scheme", ""), authority, path], None),
        ("H11", vec![method, (":scheme", "ftp"), authority, path], None),
        ("H12", vec![method, scheme, authority, path, path], None),
        ("H12", vec![method, scheme, authority], None),
        ("H12", with((":foo", "1")), None),
        ("H12", vec![method, scheme, authority, ("a", "b"), path], None),
        ("H12", with((":status", "200")), None),
        ("H13", with(("host", "b")), None),
        ("H14", vec![method, scheme, path, ("host", "cloud.test"), ("host", "cloud.test")], None),
        ("H14", vec![method, scheme, (":authority", "u@cloud.test"), path], None),
        ("H14", vec![method, scheme, (":authority", "cloud.test/b"), path], None),
        ("H15", vec![method, scheme, path], None),
        ("H19", with((":protocol", "websocket")), None),
    ];
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for (id, fields, body) in &cases {
            let mut raw = Raw::connect(edge);
            raw.headers(1, if body.is_some() { 0 } else { END_STREAM }, fields);
            if let Some(body) = body {
                raw.frame(DATA, END_STREAM, 1, body.as_bytes());
            }
            // A field the frame layer cannot even read ends the connection, the others their stream.
            match raw.refusal(1) {
                Ok(code) => {
                    assert_eq!(code, PROTOCOL_ERROR, "{id} {fields:?}");
                    raw.get(3, "/next");
                    assert_eq!(raw.outcome(3), Ok(200), "{id} {fields:?}");
                }
                Err(code) => assert!([PROTOCOL_ERROR, COMPRESSION_ERROR].contains(&code), "{id} {fields:?}: {code}"),
            }
        }
        let mut raw = Raw::connect(edge);
        raw.headers(1, END_STREAM, &with(("content-length", "5")));
        assert_eq!(raw.refusal(1), Ok(PROTOCOL_ERROR), "H25: a length and no DATA");
        // What was cut off after its head may have begun there; it never ended.
        assert!(origin.requests().iter().all(|request| request.path() == "/next"), "{:?}", origin.requests());
    });
}

/// H12: also in trailers, also out of the dynamic table, also behind a body whose length is complete.
#[test]
fn pseudo_fields_in_trailers_are_errors_of_their_stream() {
    let is_let_go = Arc::new(AtomicBool::new(false));
    let origin = Origin::answering({
        let is_let_go = is_let_go.clone();
        move |request| {
            let deadline = Instant::now() + PATIENCE;
            match request.path() {
                "/go" => is_let_go.store(true, SeqCst),
                "/length" => {
                    while !is_let_go.load(SeqCst) && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
                _ => {}
            }
            ok("x")
        }
    });
    let post = [(":method", "POST"), (":scheme", "https"), (":authority", "cloud.test"), (":path", "/x")];
    // `:method: GET` by its index, `:path` spelt out and coded, and `:authority` by the entry that the request made.
    let trailers: [&[u8]; 4] = [&[0x82], b"\0\x05:path\x01/", b"\0\x84\xb9\x58\xd3\x3f\x01/", &[0xbe]];
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for trailers in trailers {
            let mut raw = Raw::connect(edge);
            let request = [&block(&[post[0], post[1], post[3]])[..], b"\x41\x0acloud.test"].concat();
            raw.frame(HEADERS, END_HEADERS, 1, &request);
            raw.frame(DATA, 0, 1, b"hello");
            raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers);
            assert_eq!(raw.refusal(1), Ok(PROTOCOL_ERROR), "{trailers:?}");
            raw.get(3, "/next");
            assert_eq!(raw.outcome(3), Ok(200), "{trailers:?}");
        }
        let malformed = "lyre_http_failed_total{side=\"downstream\",reason=\"chunk_trailer\"}";
        assert_eq!(edge.metric(malformed), trailers.len() as u64);
        // The server has all of it by then, but its answer is nobody's.
        is_let_go.store(false, SeqCst);
        let mut raw = Raw::connect(edge);
        let line = [post[0], post[1], post[2], (":path", "/length"), ("content-length", "5")];
        raw.headers(1, 0, &line);
        raw.frame(DATA, 0, 1, b"hello");
        raw.frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x82]);
        raw.get(3, "/go");
        let refused = raw.until("a refusal", |frame| {
            assert!(frame.stream != 1 || frame.kind != HEADERS, "answered");
            frame.stream == 1 && frame.kind == RST_STREAM
        });
        assert_eq!(refused.code(), PROTOCOL_ERROR);
        let reached = origin.requests();
        assert!(reached.iter().all(|request| ["/next", "/length", "/go"].contains(&request.path())), "{reached:?}");
    });
}

#[test]
fn odd_but_honest_requests_pass_in_normal_form() {
    let origin = Origin::answering(|_| ok("x"));
    let (scheme, authority) = ((":scheme", "https"), (":authority", "cloud.test"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        raw.headers(1, END_STREAM, &[get("/te")[0], scheme, authority, (":path", "/te"), ("te", "trailers")]);
        assert_eq!(raw.outcome(1), Ok(200));
        assert_eq!(origin.requests().pop().unwrap().field("te"), Some("trailers"));
        raw.headers(3, END_STREAM, &[(":method", "GET"), scheme, (":path", "/host"), ("host", "cloud.test")]);
        assert_eq!(raw.outcome(3), Ok(200));
        assert_eq!(origin.requests().pop().unwrap().field("host"), Some("cloud.test"));
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"), ("x_forwarded_for", "192.0.2.1")];
        raw.headers(5, END_STREAM, &[&get("/c")[..], &crumbs].concat());
        assert_eq!(raw.outcome(5), Ok(200));
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.field("cookie"), Some("a=1; b=2; c=3"));
        assert!(!request.head.contains("x_forwarded_for"), "{}", request.head);
        // A GET with a body, in pieces, and trailers that end here.
        raw.headers(7, 0, &get("/body%2F"));
        for _ in 0..3 {
            raw.frame(DATA, 0, 7, &[b'x'; 1000]);
        }
        raw.headers(7, END_STREAM, &[("x-real-ip", "192.0.2.1"), ("x-late", "1")]);
        assert_eq!(raw.outcome(7), Ok(200));
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.path(), request.body.len()), ("/body%2F", 3000));
        assert_eq!(request.field("content-length"), Some("3000"));
        assert!(!request.head.contains("192.0.2.1") && !request.head.contains("x-late"), "{}", request.head);
        for (stream, method, expected) in [(9, "CONNECT", 405), (11, "TRACE", 405)] {
            let line = [(":method", method), authority, scheme, (":path", "/")];
            raw.headers(stream, END_STREAM, if method == "CONNECT" { &line[..2] } else { &line });
            assert_eq!(raw.outcome(stream), Ok(expected), "{method}");
        }
        raw.headers(13, END_STREAM, &[(":method", "OPTIONS"), scheme, authority, (":path", "*")]);
        assert_eq!(raw.outcome(13), Ok(204));
    });
}
