//! Streams from their first frame to their last: tunnels, trailers, interim answers, cuts, drains, backpressure.

use crate::edge::{Edge, on_each_driver as on_each_plain_driver, read};
use crate::h2::{certificate, on_each_driver, on_each_driver_with};
use crate::h2_raw::*;
use crate::origin::{Origin, Peer, ok, settled};
use base64::Engine as _;
use lyre::serve::shared::Phase;
use sha1::{Digest as _, Sha1};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WEBSOCKET: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "cloud.test"),
    (":path", "/ws?a"),
    ("sec-websocket-version", "13"),
];

fn accept_of(key: &str) -> String {
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// Answers an upgrade and echoes until the client's end, then says goodbye.
fn echo(mut peer: Peer) {
    let Some(request) = peer.head() else { return };
    let key = request.field("sec-websocket-key").unwrap();
    let accept = if request.path() == "/wrong" { "nonsense".to_owned() } else { accept_of(key) };
    peer.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    let mut chunk = [0; 64 * 1024];
    while let Ok(count @ 1..) = read(&mut peer.stream, &mut chunk) {
        peer.send(&chunk[..count]);
    }
    peer.send("bye");
}

#[test]
fn an_extended_connect_is_bridged_to_an_upgrade() {
    let origin = Origin::start(echo);
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        // The client never sent the setting of RFC 8441; browsers do not either.
        raw.headers(1, 0, &WEBSOCKET);
        assert_eq!(raw.outcome(1), Ok(200));
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.line(), "GET /ws?a HTTP/1.1");
        assert_eq!(request.field("upgrade"), Some("websocket"));
        assert_eq!(request.field("sec-websocket-version"), Some("13"));
        edge.wait("a tunnel", |edge| edge.metric("lyre_frontend_tunnels") == 1);
        // A request beside the tunnel is served too.
        for number in 0..50u8 {
            raw.frame(DATA, 0, 1, &[number; 100]);
        }
        let mut echoed = Vec::new();
        while echoed.len() < 5_000 {
            let frame = raw.until("the echo", |frame| frame.kind == DATA && frame.stream == 1);
            echoed.extend(frame.payload);
        }
        assert!(echoed.chunks(100).zip(0..50u8).all(|(chunk, number)| chunk == [number; 100]));
        // END_STREAM is the upstream's FIN, and its FIN our END_STREAM.
        raw.frame(DATA, END_STREAM, 1, &[]);
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let frame = raw.until("the end", |frame| frame.kind == DATA && frame.stream == 1);
            rest.extend(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(rest, b"bye");
        edge.wait("tunnel gone", |edge| edge.metric("lyre_frontend_tunnels") == 0);
    });
}

#[test]
fn a_tunnel_that_its_client_cancels_is_left_and_one_that_was_over_is_not() {
    let origin = Origin::start(|mut peer| {
        let Some(request) = peer.head() else { return };
        let accept = accept_of(request.field("sec-websocket-key").unwrap());
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        if request.path() != "/ends" {
            peer.drain();
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        let mut fields = WEBSOCKET;
        fields[4] = (":path", "/ends");
        raw.headers(1, 0, &fields);
        raw.until("the end", |frame| frame.kind == DATA && frame.flags & END_STREAM != 0);
        let cancel = 8u32.to_be_bytes();
        raw.frame(RST_STREAM, 0, 1, &cancel);
        edge.wait("a tunnel that was over is gone", |edge| edge.metric("lyre_frontend_tunnels") == 0);
        assert_eq!(edge.metric("lyre_http_failed_total"), 0);
        raw.headers(3, 0, &WEBSOCKET);
        assert_eq!(raw.outcome(3), Ok(200));
        edge.wait("a tunnel", |edge| edge.metric("lyre_frontend_tunnels") == 1);
        raw.frame(RST_STREAM, 0, 3, &cancel);
        edge.wait("a cancelled tunnel is gone", |edge| edge.metric("lyre_frontend_tunnels") == 0);
        let left = edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"client_gone\"}");
        assert_eq!((left, edge.metric("lyre_http_failed_total")), (1, 1));
    });
}

#[test]
fn a_tunnel_is_opened_only_by_the_right_answer() {
    let origin = Origin::start(|mut peer| match peer.peek() {
        path if path.contains("/wrong") => echo(peer),
        _ => {
            peer.head();
            peer.send(ok("no websocket here"));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        let mut fields = WEBSOCKET;
        raw.headers(1, 0, &fields);
        // RFC 8441 leaves a 200 to mean an open tunnel, so a refusal may not look like one.
        assert_eq!(raw.outcome(1), Ok(502));
        fields[4] = (":path", "/wrong");
        raw.headers(3, 0, &fields);
        assert!(raw.outcome(3).is_err());
        assert_eq!(edge.metric("lyre_frontend_tunnels"), 0);
    });
}

#[test]
fn trailers_reach_clients_that_take_them_and_no_others() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\nSet-Cookie: a=b\r\n\
          Content-Length: 9\r\nContent-Type: x/y\r\nX-More: 1\r\n\r\n"
            .to_vec()
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        raw.get(1, "/");
        assert_eq!(raw.outcome(1), Ok(200));
        let data = raw.until("data", |frame| frame.kind == DATA);
        assert_eq!((data.payload.as_slice(), data.flags & END_STREAM), (&b"abc"[..], 0));
        let trailers = raw.until("trailers", |frame| frame.kind == HEADERS && frame.stream == 1);
        assert_eq!(trailers.flags & END_STREAM, END_STREAM);
        // Two fields: neither the cookie nor what would frame or describe the content.
        assert!(trailers.payload.len() < 30, "{:?}", trailers.payload);
        // A HEAD has none to wait for.
        raw.headers(3, END_STREAM, &[(":method", "HEAD"), get("/")[1], get("/")[2], get("/")[3]]);
        let head = raw.until("head", |frame| frame.kind == HEADERS && frame.stream == 3);
        assert_eq!((head.status(), head.flags & END_STREAM), (200, END_STREAM));
    });
    on_each_plain_driver(&Origin::config(&[&origin], ""), |edge| {
        for (te, end) in [
            ("TE: trailers\r\n", "3\r\nabc\r\n0\r\nX-Sum: 42\r\nX-More: 1\r\n\r\n"),
            ("", "3\r\nabc\r\n0\r\n\r\n"),
            ("TE: trailers;q=0.5\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ] {
            let mut client = edge.connect();
            client.send(format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nConnection: close\r\n{te}\r\n"));
            let head = client.head();
            assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
            assert_eq!(String::from_utf8_lossy(&client.rest()), end, "{te:?}");
            let forwarded = origin.requests().pop().unwrap();
            assert_eq!(forwarded.field("te"), (te == "TE: trailers\r\n").then_some("trailers"));
        }
    });
}

#[test]
fn interim_responses_pass_and_a_cut_body_never_looks_whole() {
    let origin = Origin::start(|mut peer| {
        // The connection stays: the edge may use it again.
        while let Some(request) = peer.head() {
            match request.path() {
                "/hints" => {
                    peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
                    peer.send(ok("x"));
                }
                "/continue" => {
                    peer.send("HTTP/1.1 100 Continue\r\n\r\n");
                    peer.exactly(5);
                    peer.send(ok("x"));
                }
                "/refuse" => {
                    return peer.send("HTTP/1.1 413 Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
                _ => return peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
            }
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        raw.get(1, "/hints");
        assert_eq!((raw.outcome(1), raw.outcome(1)), (Ok(103), Ok(200)));
        let post = |path| {
            [
                (":method", "POST"),
                get("/")[1],
                get("/")[2],
                (":path", path),
                ("content-length", "5"),
                ("expect", "100-continue"),
            ]
        };
        raw.headers(3, 0, &post("/continue"));
        assert_eq!(raw.outcome(3), Ok(100));
        raw.frame(DATA, END_STREAM, 3, b"hello");
        assert_eq!(raw.outcome(3), Ok(200));
        // Answered before the body came: the answer, then RST_STREAM(NO_ERROR) for what is still to come.
        raw.headers(5, 0, &post("/refuse"));
        assert_eq!(raw.outcome(5), Ok(413));
        let reset = raw.until("a reset", |frame| frame.kind == RST_STREAM && frame.stream == 5);
        assert_eq!(reset.code(), 0);
        raw.get(7, "/cut");
        let reset = raw.until("a reset", |frame| {
            assert!(frame.flags & END_STREAM == 0 || frame.kind != DATA, "a clean end");
            frame.kind == RST_STREAM && frame.stream == 7
        });
        assert_ne!(reset.code(), 0);
    });
}

#[test]
fn a_drain_says_goaway_twice_and_lets_streams_finish() {
    let origin = Origin::start(|mut peer| {
        while peer.head().is_some() {
            if peer.number == 0 {
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n");
                // The rest of the body, once the edge drains: the test opens a second connection to say so.
                while peer.connections() < 2 {
                    std::thread::yield_now();
                }
                peer.send("abc");
            } else {
                peer.send(ok("x"));
            }
        }
    });
    on_each_driver_with(
        &Origin::config(&[&origin], ""),
        |_| origin.forget_connections(),
        |edge| {
            let mut raw = Raw::connect(edge);
            raw.get(1, "/slow");
            assert_eq!(raw.outcome(1), Ok(200));
            edge.worker.shared.set_phase(Phase::Draining);
            let first = raw.until("the first GOAWAY", |frame| frame.kind == GOAWAY);
            assert_eq!((first.last_stream(), first.code()), (0x7fff_ffff, 0));
            // Opened before the client knew: still served, by another connection to the server.
            raw.get(3, "/late");
            let mut ended = Vec::new();
            let mut second = None;
            while ended.len() < 2 || second.is_none() {
                let frame = raw.until("the ends", |frame| {
                    frame.kind == GOAWAY || (frame.kind == DATA && frame.flags & END_STREAM != 0)
                });
                if frame.kind == GOAWAY { second = Some(frame) } else { ended.push(frame.stream) }
            }
            ended.sort_unstable();
            assert_eq!(ended, [1, 3]);
            let second = second.unwrap();
            assert_eq!((second.last_stream(), second.code()), (3, 0));
            while raw.next().is_some() {}
            edge.wait("gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
        },
    );
}

#[test]
fn an_idle_connection_is_told_before_it_is_closed() {
    let origin = Origin::answering(|_| ok("x"));
    let config = Origin::config(&[&origin], "[timeouts]\nkeepalive = \"1s\"\n");
    on_each_driver(&config, |edge| {
        let mut raw = Raw::connect(edge);
        raw.get(1, "/");
        assert_eq!(raw.outcome(1), Ok(200));
        let goaway = raw.until("GOAWAY", |frame| frame.kind == GOAWAY);
        assert_eq!(goaway.code(), 0);
        while let Some(frame) = raw.next() {
            if frame.kind == PING {
                raw.frame(PING, ACK, 0, &frame.payload);
            }
        }
        edge.wait("gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
    });
}

#[test]
fn a_connection_is_asked_to_come_anew_after_enough_requests() {
    let origin = Origin::answering(|_| ok("x"));
    let config = Origin::config(&[&origin], "[limits]\nmax_keepalive_requests = 3\n");
    on_each_driver(&config, |edge| {
        let mut raw = Raw::connect(edge);
        for stream in [1, 3] {
            raw.get(stream, "/");
            assert_eq!(raw.outcome(stream), Ok(200));
        }
        raw.get(5, "/");
        assert_eq!(raw.until("GOAWAY", |frame| frame.kind == GOAWAY).code(), 0);
    });
}

#[test]
fn another_certificates_host_is_misdirected() {
    let origin = Origin::answering(|_| ok("x"));
    let config = format!(
        "[nextcloud]\nhosts = [\"cloud.test\", \"other.test\", \"more.test\"]\nservers = [\"{}\"]\n",
        origin.address
    );
    let second =
        |settings: &mut lyre::config::settings::Settings| settings.certificates.push(certificate("other.test"));
    on_each_driver_with(&config, second, |edge| {
        let to = |host| [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")];
        let mut raw = Raw::connect_as(edge, "cloud.test");
        for (stream, host, status) in [(1, "cloud.test", 200), (3, "CLOUD.test:443", 200), (5, "other.test", 421)] {
            raw.headers(stream, END_STREAM, &to(host));
            assert_eq!(raw.outcome(stream), Ok(status), "{host}");
        }
        let mut raw = Raw::connect_as(edge, "other.test");
        raw.headers(1, END_STREAM, &to("other.test"));
        assert_eq!(raw.outcome(1), Ok(200));
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"misdirected\"}"), 1);
    });
}

#[test]
fn a_client_that_gives_no_window_stops_the_server_from_sending() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let origin = Origin::start(move |mut peer| {
        let Some(request) = peer.request() else { return };
        if request.path() == "/small" {
            return peer.send(ok("x"));
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let block = vec![0; 64 * 1024];
        while peer.stream.write_all(&block).is_ok() {
            counter.fetch_add(block.len() as u64, Ordering::Relaxed);
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        sent.store(0, Ordering::Relaxed);
        let mut raw = Raw::connect(edge);
        raw.get(1, "/big");
        assert_eq!(raw.outcome(1), Ok(200));
        let last = settled(&sent);
        // The window, a send buffer, a body buffer; the rest is what two kernel buffers hold.
        assert!(last > 0 && last < 32 << 20, "{last} bytes were taken from the server");
        raw.frame(RST_STREAM, 0, 1, &8u32.to_be_bytes());
        edge.wait("exchange over", |edge| edge.metric("lyre_frontend_requests_in_flight") == 0);
        raw.frame(WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes());
        raw.get(3, "/small");
        raw.until("the next answer", |frame| frame.kind == HEADERS && frame.stream == 3);
    });
}

#[test]
fn an_upload_gets_no_more_credit_than_its_server_takes() {
    let origin = Origin::start(|mut peer| {
        peer.head();
        // Reads nothing until the connection ends.
        while peer.connections() < 2 {
            std::thread::yield_now();
        }
    });
    on_each_driver_with(
        &Origin::config(&[&origin], ""),
        |_| origin.forget_connections(),
        |edge| {
            let mut raw = Raw::connect(edge);
            let length = ("content-length", "1000000000");
            raw.headers(1, 0, &[(":method", "PUT"), get("/")[1], get("/")[2], get("/up")[3], length]);
            // Sends whatever credit allows; the initial windows are 64 KiB and the connection's.
            let (mut stream, mut connection, mut sent) = (64i64 << 10, 65_535i64, 0i64);
            let mut quiet = 0;
            while quiet < 3 {
                while stream.min(connection) > 0 {
                    let size = stream.min(connection).min(16_384);
                    raw.frame(DATA, 0, 1, &vec![b'x'; size as usize]);
                    (stream, connection, sent) = (stream - size, connection - size, sent + size);
                }
                match raw.next_within(Duration::from_millis(300)) {
                    Some(frame) if frame.kind == WINDOW_UPDATE => {
                        let more = i64::from(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
                        if frame.stream == 0 { connection += more } else { stream += more }
                    }
                    Some(frame) if frame.kind == SETTINGS && frame.flags & ACK == 0 => {
                        for setting in frame.payload.chunks(6).filter(|setting| setting[..2] == [0, 4]) {
                            stream += i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap())) - (64 << 10);
                        }
                        raw.frame(SETTINGS, ACK, 0, &[]);
                    }
                    Some(_) => {}
                    None => quiet += 1,
                }
            }
            // Kernel buffers towards the server, one body buffer, and the window.
            assert!(sent > 64 << 10 && sent < 24 << 20, "{sent} bytes were accepted");
            // Lets the script end.
            drop(
                std::net::TcpStream::connect(origin.address)
                    .map(|mut other| other.write_all(b"GET / HTTP/1.1\r\n\r\n")),
            );
        },
    );
}

#[test]
fn http2_can_be_switched_off_and_is_never_spoken_in_clear() {
    let origin = Origin::answering(|_| ok("x"));
    let config = Origin::config(&[&origin], "");
    on_each_driver_with(
        &config,
        |settings| settings.http2 = false,
        |edge| {
            if crate::h2::has("curl") {
                let answer = crate::h2::curl(edge, &["-w", "%{http_version}"], "/");
                assert_eq!(answer.stdout, b"x1.1");
            }
        },
    );
    on_each_plain_driver(&config, |edge: &mut Edge| {
        let mut client = edge.connect();
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(client.response("GET").status, 505);
        let mut client = edge.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: cloud.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        );
        assert_eq!(client.response("GET").status, 200);
        let head = origin.requests().pop().unwrap().head;
        assert!(!head.to_lowercase().contains("upgrade") && !head.to_lowercase().contains("http2-settings"), "{head}");
    });
}

#[test]
fn priorities_are_ignored_without_harm() {
    let origin = Origin::answering(|request| ok(request.field("priority").unwrap_or("none")));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        // RFC 9218 §7.1 for a stream that is still to come, RFC 7540 §5.3 for itself and in HEADERS, then the field.
        raw.frame(0x10, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'0', b',', b'i']);
        raw.frame(0x10, 0, 0, &[0, 0, 0, 1, 0xff, 0xfe]);
        raw.frame(2, 0, 3, &[0, 0, 0, 0, 255]);
        let mut fields = get("/").to_vec();
        fields.push(("priority", "u=0, i"));
        let mut weighted = vec![0x80, 0, 0, 0, 16];
        weighted.extend(block(&fields));
        raw.frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, &weighted);
        assert_eq!(raw.outcome(1), Ok(200));
        // What is no priority is no error either, and goes on as it is.
        for (stream, value) in [(3, "u=9"), (5, "u=0;;;"), (7, "\"")] {
            let mut fields = get("/").to_vec();
            fields.push(("priority", value));
            raw.headers(stream, END_STREAM, &fields);
            assert_eq!(raw.outcome(stream), Ok(200), "{value}");
            assert_eq!(origin.requests().pop().unwrap().field("priority"), Some(value));
        }
        // After the stream has ended.
        raw.frame(0x10, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'7']);
        raw.get(9, "/");
        assert_eq!(raw.outcome(9), Ok(200));
        assert_eq!(edge.metric("lyre_h2_calmed_total"), 0);
    });
}
