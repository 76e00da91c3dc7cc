//! Clients that take their responses slowly: too slowly, or as slowly as they may.

use crate::edge::{Client, Edge, PATIENCE, read};
use crate::h2;
use crate::h2_raw::{RST_STREAM, Raw, WINDOW_UPDATE, trusting};
use crate::origin::{Origin, Peer, ok};
use crate::tls;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SLOW: &str = "lyre_http_failed_total{side=\"downstream\",reason=\"client_slow\"}";

/// As much below the rate as below any: eleven seconds of credit, of which ten are the pause that is allowed.
const STRICT: &str = "[timeouts]\nclient_idle = \"10s\"\ndownload_rate = \"1MiB\"\ndownload_window = \"1s\"\n";

/// Both drivers at once: these tests wait more than they work.
fn on_both_drivers(start: impl Fn(&'static str) -> Edge + Sync, test: impl Fn(&Edge) + Sync) {
    std::thread::scope(|scope| {
        for driver in ["epoll", "io_uring"] {
            let (start, test) = (&start, &test);
            scope.spawn(move || test(&start(driver)));
        }
    });
}

fn over_http(config: &str, test: impl Fn(&Edge) + Sync) {
    on_both_drivers(|driver| Edge::start(config, driver, 1), test);
}

fn over_https(config: &str, test: impl Fn(&Edge) + Sync) {
    on_both_drivers(|driver| h2::start(config, driver, |_| {}), test);
}

/// A connection whose client takes in little ahead of its reader, so that its slowness is seen at the other end.
fn narrow(edge: &Edge) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    socket.connect(&edge.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends without end, with a length or in chunks.
fn pour(mut peer: Peer) {
    let Some(request) = peer.request() else { return };
    let mut block = vec![b'x'; 64 << 10];
    if request.path() == "/chunks" {
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        block = [b"10000\r\n", &block[..], b"\r\n"].concat();
    } else {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
    }
    while peer.stream.write_all(&block).is_ok() {}
}

/// Takes 80 KiB a second until there is no more.
fn sip(mut from: impl Read) -> usize {
    let (mut total, mut piece) = (0, [0; 4096]);
    while let Ok(count @ 1..) = read(&mut from, &mut piece) {
        total += count;
        std::thread::sleep(Duration::from_millis(50));
    }
    total
}

fn wait_for(edge: &Edge, count: u64) {
    edge.wait("each slow one is counted", |edge| edge.metric(SLOW) == count);
    edge.wait("their server is free", |edge| edge.metric("lyre_server_outstanding") == 0);
    // Silence is another matter, and none of them was silent.
    assert_eq!(edge.metric("lyre_http_failed_total"), count);
}

#[test]
fn a_response_that_is_taken_too_slowly_is_cut() {
    let origin = Origin::start(pour);
    over_http(&Origin::config(&[&origin], STRICT), |edge| {
        std::thread::scope(|scope| {
            // Through the kernel and through our buffers.
            for path in ["/length", "/chunks"] {
                let mut stream = narrow(edge);
                write!(stream, "GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n").unwrap();
                scope.spawn(move || assert!(sip(stream) < 1 << 28));
            }
        });
        wait_for(edge, 2);
    });
}

#[test]
fn a_response_that_is_taken_too_slowly_is_cut_over_tls_and_its_stream_alone_over_http2() {
    let origin = Origin::start(|mut peer| match peer.peek() {
        path if path.contains("/small") => {
            peer.request();
            peer.send(ok("x"));
        }
        _ => pour(peer),
    });
    over_https(&Origin::config(&[&origin], STRICT), |edge| {
        std::thread::scope(|scope| {
            let mut client = tls::over(narrow(edge), &Arc::new(trusting()));
            client.write_all(b"GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n").unwrap();
            scope.spawn(move || assert!(sip(client) < 1 << 28));
            let mut raw = Raw::connect(edge);
            raw.get(1, "/");
            assert_eq!(raw.outcome(1), Ok(200));
            let deadline = Instant::now() + 3 * PATIENCE;
            let reset = loop {
                assert!(Instant::now() < deadline);
                match raw.next_within(Duration::from_millis(50)) {
                    Some(frame) if frame.kind == RST_STREAM => break frame,
                    Some(_) => {}
                    // A KiB more, for the stream and for the connection.
                    None => [1, 0]
                        .into_iter()
                        .for_each(|stream| raw.frame(WINDOW_UPDATE, 0, stream, &1024u32.to_be_bytes())),
                }
            };
            assert_eq!(reset.stream, 1);
            raw.frame(WINDOW_UPDATE, 0, 0, &(1u32 << 16).to_be_bytes());
            raw.get(3, "/small");
            assert_eq!(raw.outcome(3), Ok(200));
        });
        wait_for(edge, 2);
    });
}

/// H29: what was asked for is not held for a client that never lets it go.
#[test]
fn a_stream_whose_window_stays_closed_is_given_up_and_its_connection_goes_on() {
    let origin = Origin::answering(|request| ok(vec![b'x'; if request.path() == "/big" { 1 << 20 } else { 1 }]));
    over_https(&Origin::config(&[&origin], "[timeouts]\nclient_idle = \"1s\"\n"), |edge| {
        let mut raw = Raw::connect(edge);
        raw.get(1, "/big");
        assert_eq!(raw.outcome(1), Ok(200));
        let reset = raw.until("a reset", |frame| frame.kind == RST_STREAM);
        assert_eq!(reset.stream, 1);
        let stuck = "lyre_http_failed_total{side=\"downstream\",reason=\"client_stuck\"}";
        edge.wait("it is counted", |edge| edge.metric(stuck) == 1);
        raw.frame(WINDOW_UPDATE, 0, 0, &(1u32 << 16).to_be_bytes());
        raw.get(3, "/small");
        assert_eq!(raw.outcome(3), Ok(200));
        edge.wait("its server is free", |edge| edge.metric("lyre_server_outstanding") == 0);
    });
}

/// More than all kernel buffers on the way take.
const LONG_BYTES: usize = 24 << 20;

#[test]
fn whoever_takes_some_all_the_time_or_waits_for_the_server_gets_everything() {
    let origin = Origin::start(|mut peer| {
        let Some(request) = peer.request() else { return };
        if request.path() == "/long" {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n"));
            return peer.send(vec![b'x'; LONG_BYTES]);
        }
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 3 * 4096));
        for _ in 0..3 {
            // Longer than all the credit a client has.
            std::thread::sleep(Duration::from_millis(2200));
            peer.send([b'x'; 4096]);
        }
    });
    // One piece takes longer than a client may be silent; it is not silent.
    let idle = "[timeouts]\nclient_idle = \"5s\"\n";
    over_http(&Origin::config(&[&origin], idle), |edge| {
        let mut stream = narrow(edge);
        write!(stream, "GET /long HTTP/1.1\r\nHost: cloud.test\r\n\r\n").unwrap();
        let since = Instant::now();
        let mut taken = Vec::new();
        while since.elapsed() < Duration::from_secs(12) {
            let mut piece = [0; 4096];
            let count = read(&mut stream, &mut piece).unwrap();
            assert!(count > 0, "cut after {} bytes", taken.len());
            taken.extend_from_slice(&piece[..count]);
            std::thread::sleep(Duration::from_millis(100));
        }
        let head = taken.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let mut client = Client::over(stream);
        client.exactly(LONG_BYTES + head - taken.len());
        assert_eq!(edge.metric("lyre_http_failed_total"), 0);
    });
    let hasty = "[timeouts]\nclient_idle = \"1s\"\ndownload_rate = \"1GiB\"\ndownload_window = \"1s\"\n";
    over_http(&Origin::config(&[&origin], hasty), |edge| {
        let response = edge.get("/waits");
        assert!(response.is_complete && response.body.len() == 3 * 4096);
        assert_eq!(edge.metric("lyre_http_failed_total"), 0);
    });
}
