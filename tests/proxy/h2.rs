//! HTTP/2 clients: real ones (curl, nghttp) in front of the worker on both drivers.

use crate::edge::Edge;
use crate::origin::{Origin, ok};
use lyre::config::settings::{Certificate, ListenerKind, Settings};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Both drivers, an https listener, HTTP/2 offered.
pub fn on_each_driver(config: &str, test: impl Fn(&mut Edge)) {
    on_each_driver_with(config, |_| {}, test);
}

pub fn on_each_driver_with(config: &str, change: impl Fn(&mut Settings), test: impl Fn(&mut Edge)) {
    for driver in ["epoll", "io_uring"] {
        test(&mut start(config, driver, &change));
    }
}

pub fn start(config: &str, driver: &'static str, change: impl Fn(&mut Settings)) -> Edge {
    Edge::start_with(config, driver, 1, |settings| {
        settings.certificates = vec![certificate("cloud.test")];
        settings.listeners[0].kind = ListenerKind::Https;
        change(settings);
    })
}

pub fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    Certificate {
        cert_path: "cloud.pem".into(),
        key_path: "cloud.key".into(),
        chain_pem: made.cert.pem().into_bytes().into(),
        key_pem: made.signing_key.serialize_pem().into_bytes().into(),
    }
}

#[allow(clippy::print_stderr)] // the suite counts such lines
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program}: not installed");
    }
    found
}

pub fn curl(edge: &Edge, arguments: &[&str], path: &str) -> Output {
    let port = edge.address.port();
    Command::new("curl")
        .args(["-skS", "--http2", "--max-time", "60", "--resolve", &format!("cloud.test:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://cloud.test:{port}{path}"))
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file that is gone after the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(content: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("lyre-h2-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::write(&path, content).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn curl_is_served_over_http2_by_the_same_walk() {
    if !has("curl") {
        return;
    }
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    let sent = big.clone();
    let origin = Origin::answering(move |request| match request.path() {
        "/big" => ok(&sent),
        "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec(),
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n\r\n".to_vec(),
        _ => ok(&request.body),
    });
    let file = Scratch::new(&big);
    let upload = format!("@{}", file.path().display());
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let write = ["-w", " %{http_version} %{http_code}"];
        assert_eq!(text(&curl(edge, &[&write[..], &["-d", "hello"]].concat(), "/echo?a=%2F")), "hello 2 200");
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.line(), "POST /echo?a=%2F HTTP/1.1");
        let host = format!("cloud.test:{}", edge.address.port());
        assert_eq!(request.field("host"), Some(&*host));
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        assert_eq!(request.field("content-length"), Some("5"));
        assert_eq!(text(&curl(edge, &write, "/none")), " 2 204");
        assert_eq!(text(&curl(edge, &write, "/chunked")), "abcde 2 200");
        let head = text(&curl(edge, &["-I"], "/head"));
        assert!(head.starts_with("HTTP/2 200") && head.contains("content-length: 1000"), "{head}");
        assert!(curl(edge, &[], "/big").stdout == big);
        // With a length, and without one.
        let put = curl(edge, &["-X", "PUT", "-H", "Expect:", "--data-binary", &upload], "/up");
        assert!(put.stdout == big, "{}", String::from_utf8_lossy(&put.stderr));
        let port = edge.address.port();
        let piped = Command::new("curl")
            .args(["-skS", "--http2", "--max-time", "60", "--resolve", &format!("cloud.test:{port}:127.0.0.1")])
            .args(["-T", "-", &format!("https://cloud.test:{port}/piped")])
            .stdin(std::fs::File::open(file.path()).unwrap())
            .output()
            .unwrap();
        assert!(piped.stdout == big, "{}", String::from_utf8_lossy(&piped.stderr));
        let piped = origin.requests().pop().unwrap();
        assert_eq!((piped.field("content-length"), piped.field("transfer-encoding")), (Some("5000000"), None));
        edge.wait("connections gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
        assert!(edge.metric("lyre_h2_connections_total") >= 7);
        assert_eq!(edge.metric("lyre_frontend_requests_in_flight"), 0);
    });
}
