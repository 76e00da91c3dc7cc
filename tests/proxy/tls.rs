//! The same worker behind an https listener, with a rustls client in front.

use crate::edge::{Edge, field, read};
use crate::origin::{Origin, Peer, ok};
use lyre::config::settings::{Certificate, ListenerKind};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for `cloud.test` and a client that trusts it.
pub fn certificate() -> (Certificate, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["cloud.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let certificate = Certificate {
        cert_path: "cloud.pem".into(),
        key_path: "cloud.key".into(),
        chain_pem: made.cert.pem().into_bytes().into(),
        key_pem: made.signing_key.serialize_pem().into_bytes().into(),
    };
    (certificate, Arc::new(client))
}

fn connect(edge: &Edge, config: &Arc<ClientConfig>) -> TlsClient {
    over(TcpStream::connect(edge.address).unwrap(), config)
}

/// To `cloud.test`.
pub fn over(tcp: TcpStream, config: &Arc<ClientConfig>) -> TlsClient {
    let name = ServerName::try_from("cloud.test").unwrap();
    tcp.set_read_timeout(Some(crate::edge::PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(crate::edge::PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), tcp)
}

/// Head and body of the next response.
fn response(client: &mut TlsClient) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut body = vec![0; field(&head, "content-length").unwrap().parse().unwrap()];
    client.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn https_requests_pass_and_servers_learn_the_scheme() {
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 253) as u8).collect();
    let sent = big.clone();
    let origin = Origin::answering(move |request| match request.path() {
        "/big" => ok(&sent),
        _ => ok(&request.body),
    });
    for driver in ["epoll", "io_uring"] {
        let (certificate, client) = certificate();
        let edge = Edge::start_with(&Origin::config(&[&origin], ""), driver, 1, |settings| {
            settings.certificates = vec![certificate.clone()];
            settings.listeners[0].kind = ListenerKind::Https;
        });
        for round in 0..2 {
            let mut tls = connect(&edge, &client);
            tls.write_all(b"GET /big HTTP/1.1\r\nHost: cloud.test\r\n\r\n").unwrap();
            assert!(response(&mut tls).1 == big);
            write!(tls, "PUT / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: {}\r\n\r\n", big.len()).unwrap();
            tls.write_all(&big).unwrap();
            assert!(response(&mut tls).1 == big);
            let request = origin.requests().pop().unwrap();
            assert_eq!(request.field("x-forwarded-proto"), Some("https"));
            assert_eq!(edge.metric("lyre_tls_resumed_total"), round);
            tls.write_all(b"GET / HTTP/1.1\r\nHost: cloud.test\r\nConnection: close\r\n\r\n").unwrap();
            assert!(response(&mut tls).0.contains("Connection: close"));
            // A clean end: close_notify, not a bare FIN.
            assert_eq!(read(&mut tls, &mut [0]).unwrap(), 0);
        }
        edge.wait("connections gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
    }
}

#[test]
fn another_certificates_host_is_misdirected_over_http_1_1_too() {
    let origin = Origin::answering(|_| ok("x"));
    let config =
        Origin::config(&[&origin], "").replace("[\"cloud.test\"]", "[\"cloud.test\", \"other.test\", \"more.test\"]");
    for driver in ["epoll", "io_uring"] {
        let (certificate, client) = certificate();
        let edge = Edge::start_with(&config, driver, 1, |settings| {
            settings.certificates = vec![certificate.clone(), crate::h2::certificate("other.test")];
            settings.listeners[0].kind = ListenerKind::Https;
        });
        // The first request does not vouch for the second.
        let mut tls = connect(&edge, &client);
        for (host, status) in [("cloud.test", 200), ("CLOUD.test:443", 200), ("other.test", 421)] {
            write!(tls, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            let head = response(&mut tls).0;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {head}");
        }
        assert_eq!(read(&mut tls, &mut [0]).unwrap(), 0);
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"misdirected\"}"), 1);
        assert_eq!(edge.metric("lyre_server_requests_total"), 2);
    }
}

#[test]
fn plain_bytes_on_an_https_listener_end_the_connection_and_nothing_else() {
    let origin = Origin::answering(|_| ok("x"));
    for driver in ["epoll", "io_uring"] {
        let (certificate, client) = certificate();
        let edge = Edge::start_with(&Origin::config(&[&origin], ""), driver, 1, |settings| {
            settings.certificates = vec![certificate.clone()];
            settings.listeners[0].kind = ListenerKind::Https;
        });
        let mut plain = edge.connect();
        plain.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        assert!(!plain.rest().starts_with(b"HTTP"));
        edge.wait("counted", |edge| edge.metric("lyre_tls_failed_total") == 1);
        let mut tls = connect(&edge, &client);
        tls.write_all(b"GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n").unwrap();
        assert_eq!(response(&mut tls).1, b"x");
    }
}

#[test]
fn a_redirecting_listener_sends_to_https_and_keeps_the_target() {
    let origin = Origin::answering(|_| ok("x"));
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start_with(&Origin::config(&[&origin], ""), driver, 1, |settings| {
            settings.listeners[0].kind = ListenerKind::RedirectToHttps;
        });
        let mut client = edge.connect();
        for _ in 0..2 {
            client.send("GET /a%2Fb?c=d HTTP/1.1\r\nHost: cloud.test:80\r\n\r\n");
            let response = client.response("GET");
            assert_eq!((response.status, response.field("location")), (308, Some("https://cloud.test/a%2Fb?c=d")));
        }
        assert_eq!(origin.connections(), 0);
    }
}

/// Browsers do so: the closing handshake of the WebSocket is all the goodbye they say.
#[test]
fn a_client_that_leaves_its_websocket_without_a_goodbye_of_tls_has_left_and_nothing_broke() {
    const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: cloud.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let origin = Origin::start(|mut peer: Peer| {
        let Some(request) = peer.head() else { return };
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        );
        if request.path() == "/ws" {
            peer.exactly(4);
            peer.send("ends");
        } else {
            peer.drain();
        }
    });
    for driver in ["epoll", "io_uring"] {
        let (certificate, client) = certificate();
        let edge = Edge::start_with(&Origin::config(&[&origin], ""), driver, 1, |settings| {
            settings.certificates = vec![certificate.clone()];
            settings.listeners[0].kind = ListenerKind::Https;
        });
        let open = |path: &str| {
            let mut tls = connect(&edge, &client);
            tls.write_all(&String::from_utf8_lossy(UPGRADE).replace("/ws", path).into_bytes()).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\nhello") {
                let mut byte = [0];
                tls.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            tls
        };
        let failed = |edge: &Edge| edge.metric("lyre_http_failed_total");
        // The server says that this is the end, and the client goes without a word.
        let mut tls = open("/ws");
        tls.write_all(b"over").unwrap();
        let mut rest = Vec::new();
        tls.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"ends");
        drop(tls);
        edge.wait("its tunnel is over", |edge| edge.metric("lyre_frontend_tunnels") == 0);
        assert_eq!(failed(&edge), 0, "{driver}");
        // Nobody else had ended it: then the client left.
        let tls = open("/stays");
        edge.wait("a tunnel", |edge| edge.metric("lyre_frontend_tunnels") == 1);
        drop(tls);
        edge.wait("its tunnel is over", |edge| edge.metric("lyre_frontend_tunnels") == 0);
        let left = edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"client_gone\"}");
        assert_eq!((left, failed(&edge)), (1, 1), "{driver}");
    }
}
