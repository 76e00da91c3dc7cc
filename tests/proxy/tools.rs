//! curl's and nghttp's view: what they print of interim answers, streams, trailers, priorities and goodbyes.

use crate::edge::Edge;
use crate::h2::{Scratch, curl, has, on_each_driver};
use crate::origin::{Origin, Peer, ok};
use lyre::serve::shared::Phase;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// nghttp names no host in TLS when it is given an address, so any host is ours.
fn config(origin: &Origin) -> String {
    format!("[nextcloud]\nhosts = [\"*\"]\nservers = [\"{}\"]\n", origin.address)
}

fn nghttp(edge: &Edge, arguments: &[&str], paths: &[&str]) -> Command {
    let mut command = Command::new("nghttp");
    command.args(["-y", "--timeout=60s"]).args(arguments);
    command.args(paths.iter().map(|path| format!("https://{}{path}", edge.address)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A 100 for whoever waits for one, before a byte of the body was asked for; then its length and whether it waited.
fn counting() -> Origin {
    Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            let waits = request.field("expect") == Some("100-continue");
            if waits {
                peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let length = request.field("content-length").unwrap_or("0").parse().unwrap();
            let Some(body) = peer.exactly(length) else { return };
            let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
            peer.send(ok(format!("{length} {sum} {waits}")));
        }
    })
}

#[test]
fn curl_and_nghttp_upload_in_each_protocol_and_hear_100() {
    if !has("curl") || !has("nghttp") {
        return;
    }
    let content: Vec<u8> = (0..9_000_000u32).map(|n| (n % 253) as u8).collect();
    let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
    let file = Scratch::new(&content);
    let path = file.path().to_str().unwrap();
    let origin = counting();
    let said = |waits: bool| format!("9000000 {sum} {waits}");
    on_each_driver(&config(&origin), |edge| {
        // Over HTTP/1.1 curl sends nothing before the 100: its patience is longer than the test's.
        for (protocol, expect, waits) in [
            ("--http1.1", "Expect: 100-continue", true),
            ("--http1.1", "Expect:", false),
            ("--http2", "Expect:", false),
        ] {
            let output = curl(edge, &["-v", protocol, "--expect100-timeout", "600", "-H", expect, "-T", path], "/up");
            assert_eq!(text(&output), said(waits), "{protocol}");
            let heard = String::from_utf8_lossy(&output.stderr);
            assert_eq!(heard.contains("< HTTP/1.1 100 Continue"), waits, "{protocol}: {heard}");
        }
        let waiting = nghttp(edge, &["-v", "--expect-continue", "-d", path], &["/up"]).output().unwrap();
        let heard = text(&waiting);
        assert!(heard.contains(":status: 100") && heard.contains(&said(true)), "{heard}");
        // With and without a length; trailers of a request are dropped and do no harm.
        for more in [&[][..], &["--no-content-length"], &["--trailer", "x-sum: 42"], &["--padding=100"]] {
            let output = nghttp(edge, &[&["-d", path][..], more].concat(), &["/up"]).output().unwrap();
            assert_eq!(text(&output), said(false), "{more:?}");
            let request = origin.requests().pop().unwrap();
            assert_eq!((request.line(), request.field("x-sum")), ("POST /up HTTP/1.1", None));
        }
        edge.wait("connections gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
    });
}

#[test]
fn nghttp_gets_many_streams_with_priorities_and_trailers() {
    if !has("nghttp") {
        return;
    }
    let origin = Origin::answering(|request| match request.path() {
        "/sum" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n".to_vec(),
        "/" => {
            let page = "<link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png>";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
            (head + page).into_bytes()
        }
        path => ok(path),
    });
    on_each_driver(&config(&origin), |edge| {
        let before = origin.requests().len();
        // A page and what it links to, on one connection, in the order of a dependency tree.
        let page = text(&nghttp(edge, &["-v", "-a"], &["/"]).output().unwrap());
        for path in ["/a.css", "/b.js", "/c.png"] {
            assert!(page.contains(&format!(":path: {path}")), "{page}");
        }
        assert!(page.contains("send PRIORITY frame"), "{page}");
        assert_eq!(page.matches(":status: 200").count(), 4, "{page}");
        assert_eq!(origin.requests().len() - before, 4);
        // More streams than may be at work at once, with weights.
        let many = text(&nghttp(edge, &["-m", "150", "-p", "1", "-p", "256"], &["/x", "/y"]).output().unwrap());
        assert_eq!((many.matches("/x").count(), many.matches("/y").count()), (150, 150));
        let trailers = text(&nghttp(edge, &["-v"], &["/sum"]).output().unwrap());
        assert!(trailers.contains("x-sum: 42"), "{trailers}");
        assert_eq!(edge.metric("lyre_h2_connections_total"), 3);
        assert_eq!(edge.metric("lyre_h2_calmed_total"), 0);
    });
}

/// A client that is gone after the test, also if that fails.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nghttp_hears_a_goodbye_on_drain_and_gets_what_it_asked_for() {
    if !has("nghttp") {
        return;
    }
    let (asked, may_finish) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (asking, finish) = (asked.clone(), may_finish.clone());
    let hold = move |mut peer: Peer| {
        while peer.head().is_some() {
            asking.fetch_add(1, Ordering::SeqCst);
            let deadline = Instant::now() + crate::edge::PATIENCE * 3;
            while !finish.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            peer.send(ok("finished"));
        }
    };
    let origin = Origin::start(hold);
    on_each_driver(&config(&origin), |edge| {
        asked.store(0, Ordering::SeqCst);
        may_finish.store(false, Ordering::SeqCst);
        let mut client = Client(nghttp(edge, &["-v"], &["/one", "/two", "/three"]).spawn().unwrap());
        edge.wait("all were asked for", |_| asked.load(Ordering::SeqCst) == 3);
        edge.worker.shared.set_phase(Phase::Draining);
        let mut out = BufReader::new(client.0.stdout.take().unwrap());
        let mut heard = String::new();
        while !heard.contains("recv GOAWAY frame") {
            assert!(out.read_line(&mut heard).unwrap() > 0, "{heard}");
        }
        assert!(!heard.contains("finished"), "{heard}");
        may_finish.store(true, Ordering::SeqCst);
        out.read_to_string(&mut heard).unwrap();
        assert!(client.0.wait().unwrap().success(), "{heard}");
        assert_eq!(heard.matches("finished").count(), 3, "{heard}");
        assert!(heard.contains("error_code=NO_ERROR(0x00)"), "{heard}");
        edge.wait("gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
    });
}
