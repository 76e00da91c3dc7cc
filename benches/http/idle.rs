//! Memory of connections on which nothing happens.

use crate::CONTENDERS;
use crate::contender::{ALONE, Bench, Proxy};
use crate::gauge::{Metric, Seen, private_dirty};
use crate::origin::WEBSOCKET_KEY;
use crate::report::Report;
use crate::tls::Client;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const HEAD: &str = "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|";
/// The first ones pay for tables and pools (Lyre has 1024 receive buffers, two a request) and are not counted.
const FIRST: usize = 700;

pub(crate) fn keep_alive(bench: &Bench, report: &mut Report) {
    report.section("Memory written per idle connection, bytes in user space", HEAD);
    // Many, because tables grow by doubling: what two thousand need and what eight thousand need can be the same.
    let connections = (bench.descriptors.saturating_sub(1_300) as usize).min(16_000);
    let case = format!("{connections} idle keep-alive connections, plain");
    if bench.wanted(&case) {
        let seen = each(bench, FIRST + connections, |proxy| {
            let mut stream = TcpStream::connect(proxy.plain).unwrap();
            stream.write_all(b"GET /100 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
            let mut answer = [0; 1024];
            assert!(stream.read(&mut answer).unwrap() > 100);
            stream
        });
        report.row_of(&case, cell, &seen);
        report.alias("idle keep-alive connections, plain", &case);
    }
}

/// Each is two descriptors of the proxy, so that the system's limit may allow fewer than ten thousand.
pub(crate) fn websockets(bench: &Bench, report: &mut Report) {
    report.section("Memory written per idle WebSocket, bytes in user space", HEAD);
    let allowed = bench.descriptors.saturating_sub(600) as usize / 2;
    let tunnels = allowed.min(10_000);
    for scheme in ["plain", "TLS"] {
        let why =
            if tunnels < 10_000 { format!(" (limit of {} descriptors)", bench.descriptors) } else { String::new() };
        let case = format!("{tunnels} idle WebSockets, {scheme}{why}");
        if bench.wanted(&case) {
            let client = Client::new();
            let seen = each(bench, tunnels, |proxy| match scheme {
                "plain" => upgrade_plain(proxy),
                _ => upgrade_tls(proxy, &client),
            });
            report.row_of(&case, cell, &seen);
            report.alias(&format!("idle WebSockets, {scheme}"), &case);
        }
    }
}

/// Opens `count` connections to each contender, once: memory does not depend on what else the machine does.
fn each(bench: &Bench, count: usize, mut open: impl FnMut(&Proxy) -> TcpStream) -> Seen {
    let mut seen = Seen::default();
    for contender in CONTENDERS {
        let (_origin, origin) = bench.origin(ALONE.origin_cpus);
        let proxy = bench.start(contender, origin, &ALONE);
        let mut opened: Vec<TcpStream> = (0..FIRST).map(|_| open(&proxy)).collect();
        let before = settled(proxy.pid());
        opened.extend((FIRST..count).map(|_| open(&proxy)));
        let grown = settled(proxy.pid()).saturating_sub(before);
        seen.add(contender, &[(Metric::BytesPerConnection, grown as f64 / (count - FIRST) as f64)]);
    }
    seen
}

/// The memory once it has stopped changing, or after some seconds of change.
fn settled(pid: u32) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut before = private_dirty(pid);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = private_dirty(pid);
        if now.abs_diff(before) < 16 * 1024 || Instant::now() > deadline {
            return now;
        }
        before = now;
    }
}

fn request() -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n"
    )
}

fn upgrade_plain(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.plain).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request().as_bytes()).unwrap();
    switched(&mut stream);
    stream
}

/// The client's side of TLS is forgotten: nothing will ever be said.
fn upgrade_tls(proxy: &Proxy, client: &Client) -> TcpStream {
    let (mut stream, mut tls) = client.connect(proxy.tls, false);
    let mut both = rustls::Stream::new(&mut tls, &mut stream);
    both.write_all(request().as_bytes()).unwrap();
    switched(&mut both);
    stream
}

fn switched(from: &mut impl Read) {
    let mut answer = Vec::new();
    let mut byte = [0_u8; 512];
    while !answer.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = from.read(&mut byte).unwrap();
        assert!(n > 0, "closed instead of upgraded: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&byte[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
}

fn cell(seen: &Seen, who: &'static str) -> String {
    format!("{:.0}", seen.median(who, Metric::BytesPerConnection))
}
