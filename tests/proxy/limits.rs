//! Slow, huge and malformed input meets a limit, and the server behind never sees it.

use crate::edge::{Client, Edge, PATIENCE, on_each_driver, settings};
use crate::origin::{Origin, ok};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

#[test]
fn what_breaks_the_rules_is_refused_and_goes_nowhere() {
    let origin = Origin::answering(|_| ok(""));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: cloud.test\r\nHost: cloud.test\r\n\r\n".into(), 400),
            (
                "POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
                400,
            ),
            ("GET / HTTP/1.1\nHost: cloud.test\n\n".into(), 400),
            ("GET / HTTP/2.0\r\nHost: cloud.test\r\n\r\n".into(), 505),
            ("GET /../../etc HTTP/1.1\r\nHost: cloud.test\r\n\r\n".into(), 400),
            ("TRACE / HTTP/1.1\r\nHost: cloud.test\r\n\r\n".into(), 405),
            ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n".into(), 404),
            ("GET / HTTP/1.1\r\nHost: cloud.test\r\nExpect: tea\r\n\r\n".into(), 417),
            (format!("GET /{} HTTP/1.1\r\nHost: cloud.test\r\n\r\n", "a".repeat(20_000)), 414),
            (format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nCookie: {}\r\n\r\n", "a".repeat(20_000)), 431),
            ("PUT / HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".into(), 400),
        ] {
            let before = origin.requests().len();
            let mut client = edge.connect();
            client.send(&request);
            let response = client.response("GET");
            let shown: String = request.chars().take(60).collect();
            assert_eq!((response.status, response.field("connection")), (status, Some("close")), "{shown:?}");
            assert!(client.rest().is_empty(), "{shown:?}");
            assert_eq!(origin.requests().len(), before, "{shown:?}");
        }
        assert_eq!(edge.get("/").status, 200);
    });
}

#[test]
fn a_head_that_trickles_meets_an_absolute_deadline() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "[timeouts]\nhead = \"1s\"\n");
    on_each_driver(&config, |edge| {
        let mut client = edge.connect();
        client.send("GET / HTTP/1.1\r\nHost: clo");
        // Bytes on the way do not extend it.
        let mut writer = client.stream.try_clone().unwrap();
        let trickle = std::thread::spawn(move || {
            while std::io::Write::write_all(&mut writer, b"u").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        assert_eq!(client.response("GET").status, 408);
        drop(client);
        trickle.join().unwrap();
    });
}

#[test]
fn a_large_head_in_pieces_is_served() {
    let origin = Origin::answering(|request| ok(request.field("x-fat").unwrap_or("")));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        let fat = "v".repeat(12_000);
        let head =
            format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nX-Pad: {fat}\r\nX-Other: {fat}\r\nX-Fat: {fat}\r\n\r\n");
        for piece in head.as_bytes().chunks(7_000) {
            client.send(piece);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(client.response("GET").text(), fat);
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "[timeouts]\nkeepalive = \"1s\"\n");
    on_each_driver(&config, |edge| {
        let mut client = edge.connect();
        client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        assert_eq!(client.response("GET").status, 200);
        assert!(client.rest().is_empty());
        assert!(edge.connect().rest().is_empty());
    });
}

#[test]
fn an_upload_over_the_limit_is_refused() {
    let origin = Origin::answering(|request| ok(&request.body));
    let config = Origin::config(&[&origin], "[limits]\nmax_body = \"1KiB\"\n");
    on_each_driver(&config, |edge| {
        let mut client = edge.connect();
        client.send("PUT / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 1025\r\n\r\n");
        assert_eq!(client.response("PUT").status, 413);
        let mut client = edge.connect();
        client.send("PUT / HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n");
        client.send([vec![b'a'; 1024], b"\r\n1\r\na\r\n".to_vec()].concat());
        assert_eq!(client.response("PUT").status, 413);
    });
}

#[test]
fn a_client_with_too_many_connections_is_turned_away() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "[limits]\nmax_connections_per_client = 2\n");
    on_each_driver(&config, |edge| {
        let first = edge.connect();
        let second = edge.connect();
        edge.wait("two are in", |edge| edge.metric("lyre_frontend_connections{") == 2);
        let mut third = edge.connect();
        assert_eq!(third.response("GET").status, 503);
        drop((first, second));
        edge.wait("they left", |edge| edge.metric("lyre_frontend_connections{") == 0);
        assert_eq!(edge.get("/").status, 200);
    });
}

#[test]
fn a_connection_ends_after_its_last_allowed_request() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "[limits]\nmax_keepalive_requests = 2\n");
    on_each_driver(&config, |edge| {
        let mut client = edge.connect();
        for connection in [None, Some("close")] {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            assert_eq!(client.response("GET").field("connection"), connection);
        }
        assert!(client.rest().is_empty());
    });
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let origin = Origin::answering(|_| ok(""));
    let settings = settings(&Origin::config(&[&origin], ""), "epoll", 1);
    let limits = &settings.limits;
    for (name, value, documented) in [
        ("max_connections", limits.max_connections, 16_384),
        ("max_connections_per_client", limits.max_connections_per_client, 1024),
        ("max_head", limits.head_bytes_max, 64 << 10),
        ("max_header_line", limits.header_line_bytes_max, 16 << 10),
        ("max_headers", limits.header_count_max, 100),
        ("max_target", limits.target_bytes_max, 16 << 10),
        ("max_keepalive_requests", limits.keepalive_requests_max as usize, 10_000),
        ("max_handshakes", limits.handshakes_max, 64),
    ] {
        assert_eq!(value, documented, "limits.{name}");
        let file = include_str!("../../docs/configuration.md");
        let line =
            file.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("{name}"));
        let default = line.split('|').nth(3).unwrap().trim().trim_matches(['`', '"']);
        let shown = default.strip_suffix("KiB").map_or(default.parse(), |kib| kib.parse().map(|kib: usize| kib << 10));
        assert_eq!(shown, Ok(documented), "what is documented of limits.{name}");
    }
    assert_eq!(limits.body_bytes_max, None);
    let times = &settings.timeouts;
    assert_eq!((times.head, times.handshake), (Duration::from_secs(10), Duration::from_secs(10)));
    assert_eq!((times.keepalive, times.client_idle), (Duration::from_secs(60), Duration::from_secs(60)));
}

/// Clients that begin a request and never end it, and clients that ask for much and read nothing.
#[test]
fn slow_clients_are_given_up_in_time_and_others_are_served() {
    const CLIENTS: usize = 200;
    const STUCK: u64 = 4;
    // More than the buffers of four kernel sockets take.
    let big = vec![b'x'; 48 << 20];
    let origin = Origin::start(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.path() == "/big" {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", big.len()));
                peer.send(&big);
            } else {
                peer.send(ok("fast"));
            }
        }
    });
    let config = Origin::config(
        &[&origin],
        "max_requests_per_server = 1000\n[limits]\nmax_connections_per_client = 2000\n[timeouts]\nhead = \"1s\"\nclient_idle = \"1s\"\n",
    );
    on_each_driver(&config, |edge| {
        // A head that is large and lacks its end; a body that lacks its rest.
        let head = format!("GET / HTTP/1.1\r\nHost: cloud.test\r\nX-Pad: {}\r\n", "p".repeat(15_000));
        let body = "PUT / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 1000000\r\n\r\nabc";
        let slow: Vec<Client> = (0..CLIENTS)
            .map(|number| {
                let mut client = edge.connect();
                client.send(if number % 2 == 0 { head.as_str() } else { body });
                client
            })
            .collect();
        edge.wait("all are in", |edge| edge.metric("lyre_frontend_connections{") == CLIENTS as u64);
        assert_eq!(edge.get("/").text(), "fast");
        for mut client in slow {
            let answer = client.response("GET");
            assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
        }
        edge.wait("their heads are counted", |edge| {
            let counted = edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"head_timeout\"}");
            counted == CLIENTS as u64 / 2
        });
        edge.wait("their bodys are counted", |edge| {
            let counted = edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"body_timeout\"}");
            counted == CLIENTS as u64 / 2
        });
        // Slow read: asked for much, reads none.
        let stuck: Vec<Client> = (0..STUCK)
            .map(|_| {
                let mut client = edge.connect();
                client.send("GET /big HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
                client
            })
            .collect();
        edge.wait("the stuck ones are given up", |edge| {
            edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"client_stuck\"}") == STUCK
        });
        drop(stuck);
        edge.wait("nothing is left", |edge| edge.metric("lyre_frontend_connections{") == 0);
        assert_eq!(edge.get("/").text(), "fast");
    });
}

/// A client that never falls silent, and never gets anywhere: a byte (a chunk of one byte) at a time.
struct Trickle {
    client: Client,
    is_over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Trickle {
    fn start(edge: &Edge, head: &str, piece: &'static str) -> Trickle {
        let mut client = edge.connect();
        client.send(head);
        client.stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, mut stream) = (is_over.clone(), client.stream.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            while !over.load(SeqCst) && stream.write_all(piece.as_bytes()).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Trickle { client, is_over, thread: Some(thread) }
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
        let _ = self.thread.take().map(|thread| thread.join());
    }
}

#[test]
fn a_body_that_trickles_is_ended_and_one_that_pauses_is_not() {
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.request() {
            peer.send(ok(request.body.len().to_string()));
        }
    });
    let rest = format!(
        "[[pool]]\nname = \"app\"\nservers = [\"{}\"]\n[[route]]\npath = \"/app\"\npool = \"app\"\n",
        origin.address
    );
    let config = |timeouts: &str| format!("{}[timeouts]\n{timeouts}{rest}", Origin::config(&[&origin], ""));
    // As much below the rate as below any: eleven seconds of credit, of which ten are the pause that is allowed.
    on_each_driver(&config("client_idle = \"10s\"\nupload_rate = \"1MiB\"\nupload_window = \"1s\"\n"), |edge| {
        let chunked = "Host: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let slow = [
            Trickle::start(edge, "PUT /a HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 100000\r\n\r\n", "x"),
            Trickle::start(edge, &format!("PUT /gathered HTTP/1.1\r\n{chunked}"), "1\r\nx\r\n"),
            Trickle::start(edge, &format!("PUT /app HTTP/1.1\r\n{chunked}"), "1\r\nx\r\n"),
        ];
        for mut slow in slow {
            let response = slow.client.response("PUT");
            assert_eq!((response.status, response.field("connection")), (408, Some("close")));
        }
        edge.wait("each is counted", |edge| {
            edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"body_slow\"}") == 3
        });
        edge.wait("its server is free", |edge| edge.metric("lyre_server_outstanding") == 0);
    });
    // Longer pauses than the window, each paid for by what came before.
    on_each_driver(&config("upload_window = \"1s\"\n"), |edge| {
        let mut clients = ["/a", "/app"].map(|path| {
            let mut client = edge.connect();
            client.send(format!("PUT {path} HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 12288\r\n\r\n"));
            client
        });
        for _ in 0..3 {
            clients.iter_mut().for_each(|client| client.send([b'x'; 4096]));
            std::thread::sleep(Duration::from_millis(1200));
        }
        for mut client in clients {
            assert_eq!(client.response("PUT").text(), "12288");
        }
    });
}
