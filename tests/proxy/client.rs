//! Who the client is: trusted proxies, Cloudflare, notify_push, and the PROXY protocol in front and behind, with the
//! real HAProxy, nginx and curl on the other side. A peer that is not installed is skipped by name.
#![allow(clippy::print_stderr)] // which is said there

use crate::edge::{Edge, PATIENCE, field, on_each_driver};
use crate::origin::{Origin, Request, ok};
use crate::port;
use lyre::proto::proxy_header::{self, Parsed, ProxyHeader, Version};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Answers with the forwarding fields it was sent.
fn mirror() -> Origin {
    Origin::answering(|request| ok(told(request)))
}

fn told(request: &Request) -> String {
    let fields = ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Port"];
    fields.map(|name| request.field(name).unwrap_or("-").to_owned()).join(" | ")
}

/// A GET with these field lines over a connection of its own; the body of the answer.
fn ask(edge: &Edge, before: &[u8], fields: &str) -> String {
    let mut client = edge.connect();
    client.send([before, format!("GET / HTTP/1.1\r\nHost: cloud.test\r\n{fields}\r\n").as_bytes()].concat());
    client.response("GET").text()
}

fn edge_for(config: &str, driver: &'static str, balancers: &[&str]) -> Edge {
    Edge::start_with(config, driver, 1, |settings| {
        settings.listeners[0].proxy_protocol = balancers.iter().map(|network| network.parse().unwrap()).collect();
    })
}

fn header(version: Version, source: &str, destination: &str) -> Vec<u8> {
    let mut out = Vec::new();
    proxy_header::write(&mut out, version, Some((source.parse().unwrap(), destination.parse().unwrap())));
    out
}

const SPOOFS: &str = "X-Forwarded-For: 9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nCF-Connecting-IP: 9.9.9.9\r\n\
    True-Client-IP: 9.9.9.9\r\nX-Client-IP: 9.9.9.9\r\nX_Forwarded_For: 9.9.9.9\r\nX-Original-Forwarded-For: 9.9.9.9\r\n\
    X-Forwarded-Proto: gopher\r\nX-Cluster-Client-IP: 9.9.9.9\r\n";

#[test]
fn a_stranger_cannot_say_who_it_is_in_any_field() {
    let origin = mirror();
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        assert!(ask(edge, b"", SPOOFS).starts_with("127.0.0.1 | 127.0.0.1 | http | "));
        let head = origin.requests().pop().unwrap().head;
        assert!(!head.contains("9.9.9.9") && !head.contains("gopher"), "{head}");
    });
}

#[test]
fn a_trusted_proxy_is_believed_from_the_right_and_passes_no_other_name_on() {
    let origin = mirror();
    let config = Origin::config(&[&origin], "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n");
    on_each_driver(&config, |edge| {
        let fields = "X-Forwarded-For: 9.9.9.9, 198.51.100.7\r\nX-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Proto: https\r\n\
                      CF-Connecting-IP: 9.9.9.9\r\nTrue-Client-IP: 9.9.9.9\r\n";
        let told = ask(edge, b"", fields);
        assert_eq!(told, "198.51.100.7, 10.0.0.2, 127.0.0.1 | 198.51.100.7 | https | 443");
        assert!(!origin.requests().pop().unwrap().head.contains("9.9.9.9"));
    });
}

#[test]
fn cf_connecting_ip_counts_from_cloudflare_alone() {
    let origin = mirror();
    let cloudflare = "trusted_proxies = [\"cloudflare\"]\ncloudflare_networks = [\"127.0.0.0/8\"]\n";
    on_each_driver(&Origin::config(&[&origin], cloudflare), |edge| {
        let fields = "X-Forwarded-For: 9.9.9.9, 198.51.100.7\r\nCF-Connecting-IP: 198.51.100.7\r\n";
        assert!(ask(edge, b"", fields).starts_with("198.51.100.7, 127.0.0.1 | 198.51.100.7 |"));
    });
    // The shipped list does not have us in it.
    on_each_driver(&Origin::config(&[&origin], "trusted_proxies = [\"cloudflare\"]\n"), |edge| {
        assert!(ask(edge, b"", "CF-Connecting-IP: 9.9.9.9\r\n").starts_with("127.0.0.1 | 127.0.0.1 |"));
        assert!(!origin.requests().pop().unwrap().head.contains("9.9.9.9"));
    });
}

#[test]
fn notify_pushs_self_test_address_arrives_without_naming_it_a_proxy() {
    let origin = mirror();
    // [push] is enough: the daemon's address is known from its servers.
    let config = Origin::config(&[&origin], "[push]\nservers = [\"127.0.0.1:7867\"]\ncheck = { kind = \"tcp\" }\n");
    on_each_driver(&config, |edge| {
        assert!(ask(edge, b"", "X-Forwarded-For: 1.2.3.4\r\n").starts_with("1.2.3.4, 127.0.0.1 | 1.2.3.4 |"));
    });
}

#[test]
fn a_balancers_header_names_the_client_and_what_follows_is_the_request() {
    let origin = mirror();
    let config = Origin::config(&[&origin], "");
    for driver in ["epoll", "io_uring"] {
        let edge = edge_for(&config, driver, &["127.0.0.1/32"]);
        for version in [Version::V1, Version::V2] {
            let v4 = header(version, "198.51.100.7:4711", "203.0.113.1:8443");
            assert_eq!(ask(&edge, &v4, SPOOFS), "198.51.100.7 | 198.51.100.7 | http | 8443", "{version:?}");
            let v6 = header(version, "[2001:db8::7]:4711", "[2001:db8::1]:80");
            assert_eq!(ask(&edge, &v6, ""), "2001:db8::7 | 2001:db8::7 | http | 80", "{version:?}");
        }
        // Extensions are skipped.
        let mut tlvs = header(Version::V2, "198.51.100.8:1", "203.0.113.1:80");
        tlvs[15] += 5;
        tlvs.extend_from_slice(b"\x04\x00\x02no");
        assert!(ask(&edge, &tlvs, "").starts_with("198.51.100.8 |"));
        // A check of the balancer's own, and a client it cannot name: the peer.
        for unnamed in [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], b"PROXY UNKNOWN\r\n"] {
            assert!(ask(&edge, unnamed, "").starts_with("127.0.0.1 | 127.0.0.1 |"));
        }
        // Byte by byte.
        let mut client = edge.connect();
        let request = b"GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n";
        for byte in [&header(Version::V1, "198.51.100.9:1", "203.0.113.1:80")[..], request].concat() {
            client.send([byte]);
        }
        assert!(client.response("GET").text().starts_with("198.51.100.9 |"));
        assert_eq!(edge.metric("lyre_proxy_refused_total") + edge.metric("lyre_proxy_strangers_total"), 0);
    }
}

#[test]
fn without_a_header_or_from_a_stranger_a_connection_to_a_balancers_listener_closes() {
    let origin = mirror();
    let config = Origin::config(&[&origin], "") + "[timeouts]\nhandshake = \"1s\"\n";
    for driver in ["epoll", "io_uring"] {
        let edge = edge_for(&config, driver, &["127.0.0.1/32"]);
        let mut refused = 0;
        let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        for bytes in [&b"GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n"[..], b"PROXY TCP4 nonsense\r\n", huge, b"PROXY "] {
            let mut client = edge.connect();
            client.send(bytes);
            assert_eq!(client.rest(), b"", "{driver}");
            refused += 1;
            edge.wait("counted", |edge| edge.metric("lyre_proxy_refused_total") == refused);
        }
        // A balancer that only looks whether we are there is no error.
        drop(edge.connect());
        assert!(ask(&edge, &header(Version::V1, "198.51.100.7:1", "203.0.113.1:80"), "").starts_with("198.51.100.7 |"));
        assert_eq!(edge.metric("lyre_proxy_refused_total"), refused);

        let edge = edge_for(&config, driver, &["10.0.0.5/32"]);
        let mut client = edge.connect();
        let _ = client.stream.write_all(&header(Version::V1, "198.51.100.7:1", "203.0.113.1:80"));
        assert_eq!(client.rest(), b"");
        edge.wait("counted", |edge| edge.metric("lyre_proxy_strangers_total") == 1);
    }
    assert!(origin.requests().iter().all(|request| request.field("X-Real-IP") == Some("198.51.100.7")));
}

/// An origin that wants a PROXY header, and answers every request with the number of its connection and the header.
struct Introduced {
    address: SocketAddr,
}

impl Introduced {
    fn start() -> Introduced {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming().flatten() {
                let named = introduce(&stream);
                number += u32::from(named.source().is_some());
                std::thread::spawn(move || answer(stream, number, named));
            }
        });
        Introduced { address }
    }
}

fn introduce(mut stream: &TcpStream) -> ProxyHeader {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    loop {
        match proxy_header::parse(&bytes).unwrap() {
            Parsed::Done { header, .. } => return header,
            Parsed::NeedMore => {
                let mut more = vec![0; proxy_header::bytes_missing(&bytes)];
                let count = match stream.read(&mut more) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    read => read.unwrap_or(0),
                };
                if count == 0 {
                    return ProxyHeader::Local;
                }
                bytes.extend_from_slice(&more[..count]);
            }
        }
    }
}

fn answer(mut stream: TcpStream, number: u32, named: ProxyHeader) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        assert!(!text.contains("PROXY"), "{text}");
        let body = match named {
            ProxyHeader::Tcp { source, .. } => format!("{number} {source}"),
            _ if text.contains("/status.php") => r#"{"installed":true,"maintenance":false,"version":"32"}"#.to_owned(),
            other => format!("{other:?}"),
        };
        if stream.write_all(&ok(body)).is_err() || field(&text, "connection") == Some("close") {
            return;
        }
        head.clear();
    }
}

#[test]
fn a_connection_that_names_a_client_carries_no_other_clients_requests() {
    for version in ["v1", "v2"] {
        let origin = Introduced::start();
        let config = format!(
            "[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"{}\"]\nsend_proxy = \"{version}\"\n\
             trusted_proxies = [\"127.0.0.1\"]\ncheck = {{ interval = \"100ms\" }}\n",
            origin.address
        );
        on_each_driver(&config, |edge| {
            // The health check is let in, too: it speaks for itself.
            edge.wait("the probe was answered", |edge| {
                lyre::serve::report::status(&edge.worker.shared).to_string().contains(r#""state":"up""#)
            });
            let by = |client: &str| {
                let body = ask(edge, b"", &format!("X-Forwarded-For: {client}\r\n"));
                let (number, named) = body.split_once(' ').unwrap();
                let named: SocketAddr = named.parse().unwrap();
                (number.parse::<u32>().unwrap(), named.ip().to_string())
            };
            let (first, name) = by("198.51.100.7");
            assert_eq!(name, "198.51.100.7");
            let (second, name) = by("198.51.100.8");
            assert_eq!(name, "198.51.100.8");
            assert_ne!(first, second);
            // Each comes back on its own.
            assert_eq!((by("198.51.100.7").0, by("198.51.100.8").0), (first, second));
            assert_eq!(by("2001:db8::7").1, "2001:db8::7");
            // Without a proxy in between, the port is the client's.
            let mut client = edge.connect();
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            let own = client.stream.local_addr().unwrap().to_string();
            assert_eq!(client.response("GET").text().split_once(' ').unwrap().1, own);
        });
    }
}

/// A process of this test's own that listens, ended when dropped; its files are in a directory of its own.
struct Peer {
    process: Child,
    directory: PathBuf,
}

impl Peer {
    /// `None` where the program is not installed. `config` is written to a file that `arguments` name as `{file}`.
    fn start(program: &str, arguments: &[&str], listens: SocketAddr, config: impl Fn(&str) -> String) -> Option<Peer> {
        let found = ["/usr/sbin", "/usr/bin"].map(|at| Path::new(at).join(program)).into_iter().find(|at| at.exists());
        let Some(binary) = found else {
            eprintln!("SKIPPED: part of a test: {program} is not installed");
            return None;
        };
        let name = format!("lyre-{program}-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let (at, file) = (directory.to_str().unwrap(), directory.join("config"));
        std::fs::write(&file, config(at)).unwrap();
        let arguments = arguments.iter().map(|argument| argument.replace("{file}", file.to_str().unwrap()));
        let process = Command::new(binary).args(arguments).stderr(Stdio::null()).spawn().unwrap();
        let peer = Peer { process, directory };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(listens).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn curl(arguments: &[&str], to: SocketAddr) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "-H", "Host: cloud.test"]).args(arguments);
    let output = command.arg(format!("http://{to}/")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn has_curl() -> bool {
    let has = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has {
        eprintln!("SKIPPED: part of a test: curl is not installed");
    }
    has
}

#[test]
fn real_haproxy_and_curl_in_front_introduce_their_clients() {
    let origin = mirror();
    let config = Origin::config(&[&origin], "");
    for driver in ["epoll", "io_uring"] {
        let edge = edge_for(&config, driver, &["127.0.0.1/32"]);
        if has_curl() {
            // curl names its own address: it would be the same without, so the port tells.
            let told = curl(&["--haproxy-protocol"], edge.address);
            let port = edge.address.port();
            assert_eq!(told, format!("127.0.0.1 | 127.0.0.1 | http | {port}"));
            assert_eq!(edge.metric("lyre_proxy_refused_total"), 0);
        }
        for send in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options unique-id,crc32c"] {
            let listens = port::quiet();
            let to = edge.address;
            let haproxy = Peer::start("haproxy", &["-q", "-f", "{file}"], listens, |_| {
                format!(
                    "defaults\n mode tcp\n timeout client 10s\n timeout server 10s\n timeout connect 5s\n\
                     frontend f\n bind {listens}\n unique-id-format %[rand]\n default_backend b\n\
                     backend b\n source 127.0.0.1\n server s {to} {send} check inter 100ms {check}\n",
                    check = if send == "send-proxy" { "check-send-proxy" } else { "" }
                )
            });
            let Some(_haproxy) = haproxy else { continue };
            // From another address than HAProxy's own, to see whose it is.
            let mut stream = connect_from("127.0.0.77", listens);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: cloud.test\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let port = listens.port();
            assert!(answer.ends_with(&format!("127.0.0.77 | 127.0.0.77 | http | {port}")), "{send}: {answer}");
        }
    }
}

#[test]
fn behind_the_header_comes_tls_as_well() {
    if !has_curl() {
        return;
    }
    let origin = mirror();
    let config = Origin::config(&[&origin], "");
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start_with(&config, driver, 1, |settings| {
            settings.certificates = vec![crate::tls::certificate().0];
            settings.listeners[0].kind = lyre::config::settings::ListenerKind::Https;
            settings.listeners[0].proxy_protocol = vec!["127.0.0.1/32".parse().unwrap()];
        });
        let port = edge.address.port();
        for version in ["--http1.1", "--http2"] {
            let resolve = format!("cloud.test:{port}:127.0.0.1");
            let url = format!("https://cloud.test:{port}/");
            let output = Command::new("curl")
                .args(["-sSk", "--max-time", "20", "--haproxy-protocol", version, "--resolve", &resolve, &url])
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(told, format!("127.0.0.1 | 127.0.0.1 | https | {port}"), "{driver} {version}: {output:?}");
        }
        assert_eq!(edge.metric("lyre_proxy_refused_total") + edge.metric("lyre_tls_failed_total"), 0);
    }
}

fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{source}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn real_nginx_and_haproxy_behind_learn_the_client_from_the_header() {
    let nginx_at = port::quiet();
    let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
    let nginx = Peer::start("nginx", &["-c", "{file}"], nginx_at, |at| {
        format!(
            "{user} daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {nginx_at} proxy_protocol; return 200 \"$proxy_protocol_addr\"; }} }}\n"
        )
    });
    let haproxy_at = port::quiet();
    let haproxy = Peer::start("haproxy", &["-q", "-f", "{file}"], haproxy_at, |_| {
        format!(
            "defaults\n mode http\n timeout client 10s\n timeout server 10s\n timeout connect 5s\n\
             frontend f\n bind {haproxy_at} accept-proxy\n\
             http-request return status 200 content-type text/plain lf-string %[src]\n"
        )
    });
    for (peer, at) in [(nginx, nginx_at), (haproxy, haproxy_at)] {
        let Some(_peer) = peer else { continue };
        for version in ["v1", "v2"] {
            let config = format!(
                "[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"{at}\"]\nsend_proxy = \"{version}\"\n\
                 trusted_proxies = [\"127.0.0.1\"]\ncheck = {{ kind = \"http\", interval = \"100ms\" }}\n"
            );
            on_each_driver(&config, |edge| {
                for client in ["198.51.100.7", "198.51.100.8", "198.51.100.7", "2001:db8::7", "198.51.100.8"] {
                    assert_eq!(ask(edge, b"", &format!("X-Forwarded-For: {client}\r\n")), client, "{at} {version}");
                }
                edge.wait("the probe was answered", |edge| {
                    lyre::serve::report::status(&edge.worker.shared).to_string().contains(r#""state":"up""#)
                });
            });
        }
    }
}
