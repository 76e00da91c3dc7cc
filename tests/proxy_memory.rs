//! How much memory long bodies take. A process of its own, so that nothing else is measured.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // helpers outside of test functions

#[allow(dead_code)]
#[path = "proxy/edge.rs"]
mod edge;
#[allow(dead_code)]
#[path = "proxy/origin.rs"]
mod origin;
#[path = "lab/worker.rs"]
mod worker;

use edge::{Edge, on_each_driver};
use lyre::config::settings::{Certificate, ListenerKind};
use origin::{Origin, ok};
use std::cell::Cell;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

const GIB: u64 = 1 << 30;

/// One at a time: the process they measure is the one they all run in.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of this process that is its own: worker, origin and client together.
fn private_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn stream_zeros(to: &mut impl Write, total: u64) {
    let block = vec![0; 1 << 20];
    for _ in 0..total >> 20 {
        if to.write_all(&block).is_err() {
            return;
        }
    }
}

fn count(from: &mut impl Read, total: u64) -> u64 {
    let mut block = vec![0; 1 << 20];
    let mut seen = 0;
    while seen < total {
        match from.read(&mut block) {
            Ok(0) | Err(_) => break,
            Ok(got) => seen += got as u64,
        }
    }
    seen
}

/// Sends what it is asked for and counts what it gets.
fn gibibyte_origin() -> Origin {
    Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            if request.line().starts_with("PUT") {
                assert_eq!(request.field("content-length"), Some(GIB.to_string().as_str()));
                let early = peer.buffered() as u64;
                let got = early + count(&mut peer.stream, GIB - early);
                peer.forget();
                peer.send(ok(got.to_string()));
            } else {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n"));
                stream_zeros(&mut peer.stream, GIB);
            }
        }
    })
}

#[test]
fn a_gibibyte_each_way_passes_over_h2_in_bounded_memory() {
    let _alone = alone();
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: a_gibibyte_each_way_passes_over_h2_in_bounded_memory: needs curl");
        return;
    }
    let origin = gibibyte_origin();
    let zeros = std::env::temp_dir().join(format!("lyre-h2-gib-{}", std::process::id()));
    std::fs::File::create(&zeros).unwrap().set_len(GIB).unwrap();
    let made = rcgen::generate_simple_self_signed(["cloud.test".to_owned()]).unwrap();
    let certificate = Certificate {
        cert_path: "cloud.pem".into(),
        key_path: "cloud.key".into(),
        chain_pem: made.cert.pem().into_bytes().into(),
        key_pem: made.signing_key.serialize_pem().into_bytes().into(),
    };
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start_with(&Origin::config(&[&origin], ""), driver, 1, |settings| {
            settings.certificates = vec![certificate.clone()];
            settings.listeners[0].kind = ListenerKind::Https;
        });
        let port = edge.address.port();
        let curl = |version: &str, arguments: &[&str]| {
            let url = format!("https://cloud.test:{port}/big");
            let output = Command::new("curl")
                .args(["-skS", version, "--max-time", "300", "--resolve", &format!("cloud.test:{port}:127.0.0.1")])
                .args(arguments)
                .args(["-w", " %{http_version} %{speed_upload} %{speed_download}", &url])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            // For people: timings decide nothing here.
            eprintln!("{driver} {version} {}: {said}", arguments[0]);
            said
        };
        let before = private_bytes();
        for version in ["--http1.1", "--http2"] {
            let up = curl(version, &["-T", zeros.to_str().unwrap(), "-H", "Expect:"]);
            assert!(up.starts_with(&GIB.to_string()), "{up}");
            curl(version, &["-o", "/dev/null"]);
        }
        let grown = private_bytes().saturating_sub(before) >> 20;
        assert!(grown < 48, "{grown} MiB more than before");
    }
    let _ = std::fs::remove_file(&zeros);
}

/// Many heads without an end, and many clients that read nothing of what they asked for.
#[test]
fn unfinished_heads_and_slow_readers_take_bounded_memory() {
    let _alone = alone();
    const CLIENTS: u64 = 300;
    let origin = gibibyte_origin();
    let config = Origin::config(
        &[&origin],
        "max_requests_per_server = 1000\n[limits]\nmax_connections_per_client = 2000\n[timeouts]\nhead = \"5s\"\nclient_idle = \"60s\"\n",
    );
    on_each_driver(&config, |edge| {
        // What a head may have at most, less its last line.
        let field = format!("X-Pad: {}\r\n", "p".repeat(12_000));
        let head = format!("GET / HTTP/1.1\r\nHost: cloud.test\r\n{}", field.repeat(5));
        let before = private_bytes();
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| edge.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(&head));
        let peak = Cell::new(0);
        edge.wait("all heads have timed out", |edge| {
            note(&peak, before);
            edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"head_timeout\"}") == CLIENTS
        });
        // One buffer each that may be twice as large as what is in it, and what the worker pools.
        let allowed = CLIENTS * 2 * (64 << 10) + (24 << 20);
        // For people: the bound below decides.
        eprintln!("{} MiB at most, {} MiB allowed", peak.get() >> 20, allowed >> 20);
        assert!(peak.get() < allowed, "{} MiB more than before, {} MiB allowed", peak.get() >> 20, allowed >> 20);
        drop(clients);
        let before = private_bytes();
        let mut readers: Vec<_> = (0..20).map(|_| edge.connect()).collect();
        for reader in &mut readers {
            reader.send("GET /big HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            reader.head();
        }
        let peak = Cell::new(0);
        let sent = || edge.metric("lyre_frontend_sent_bytes_total");
        let last = Cell::new((sent(), 0));
        // Until nothing has moved for a while: the kernel's buffers are full.
        edge.wait("the servers are stopped", |_| {
            note(&peak, before);
            let (bytes, times) = last.get();
            last.set(if sent() == bytes { (bytes, times + 1) } else { (sent(), 0) });
            last.get().1 > 100
        });
        // The origin's threads have a block of a MiB each.
        let allowed = (20 << 20) + (16 << 20);
        // For people: the bound below decides.
        eprintln!("{} MiB at most, {} MiB allowed", peak.get() >> 20, allowed >> 20);
        assert!(peak.get() < allowed, "{} MiB more than before, {} MiB allowed", peak.get() >> 20, allowed >> 20);
    });
}

fn note(peak: &Cell<u64>, before: u64) {
    peak.set(peak.get().max(private_bytes().saturating_sub(before)));
}

#[test]
fn a_gibibyte_each_way_passes_in_bounded_memory() {
    let _alone = alone();
    let origin = gibibyte_origin();
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let before = private_bytes();
        std::thread::scope(|scope| {
            let down = scope.spawn(|| {
                let mut client = edge.connect();
                client.send("GET /big HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
                let head = client.head();
                let early = client.buffered() as u64;
                assert!(head.contains(&format!("Content-Length: {GIB}\r\n")), "{head}");
                early + count(&mut client.stream, GIB - early)
            });
            let mut client = edge.connect();
            client.send(format!("PUT /big HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: {GIB}\r\n\r\n"));
            stream_zeros(&mut client.stream, GIB);
            assert_eq!(client.response("PUT").text(), GIB.to_string());
            assert_eq!(down.join().unwrap(), GIB);
        });
        let grown = private_bytes().saturating_sub(before) >> 20;
        // Two threads' blocks of the test itself, and what the worker pools.
        assert!(grown < 48, "{grown} MiB more than before");
    });
}

/// The disk holds it, not the worker.
#[test]
fn a_large_body_without_a_length_passes_in_bounded_memory() {
    let _alone = alone();
    const COUNT: u64 = 256 << 20;
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            let length: u64 = request.field("content-length").unwrap().parse().unwrap();
            let early = peer.buffered() as u64;
            let got = early + count(&mut peer.stream, length - early);
            peer.forget();
            peer.send(ok(got.to_string()));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let before = private_bytes();
        let mut client = edge.connect();
        client.send("PUT /big HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        // One chunk: a client that never says how much more is to come.
        client.send(format!("{COUNT:x}\r\n"));
        stream_zeros(&mut client.stream, COUNT);
        client.send("\r\n0\r\n\r\n");
        assert_eq!(client.response("PUT").text(), COUNT.to_string());
        let grown = private_bytes().saturating_sub(before) >> 20;
        assert!(grown < 48, "{grown} MiB more than before");
        edge.wait("the disk has it back", |edge| edge.metric("lyre_spool_bytes") == 0);
    });
}
