//! Long bodies, bodies that cross, and connections that stop being HTTP.

use crate::edge::{Client, Edge, PATIENCE, on_each_driver, read};
use crate::origin::{Origin, Peer, ok, settled};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn a_client_that_does_not_read_stops_the_server_from_sending() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let origin = Origin::start(move |mut peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
        let block = vec![0; 64 * 1024];
        while peer.stream.write_all(&block).is_ok() {
            counter.fetch_add(block.len() as u64, Ordering::Relaxed);
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        sent.store(0, Ordering::Relaxed);
        let mut client = edge.connect();
        client.send("GET /big HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        client.head();
        let last = settled(&sent);
        // The rest is what four kernel buffers hold.
        assert!(last > 0 && last < 64 << 20, "{last} bytes were taken from the server");
        drop(client);
        edge.wait("exchange over", |edge| edge.metric("lyre_frontend_requests_in_flight") == 0);
    });
}

#[test]
fn an_upload_and_its_response_may_cross() {
    // Echoes every byte as it comes, so the response runs while the upload does.
    let origin = Origin::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8388608\r\n\r\n");
        let mut left = 8 << 20;
        while left > 0 {
            let piece = peer.exactly((64 << 10).min(left)).unwrap();
            left -= piece.len();
            peer.send(piece);
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("POST / HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 8388608\r\n\r\n");
        let body: Vec<u8> = (0..8u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut writer = client.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&body).unwrap());
            let response = client.response("POST");
            assert!(response.body == body);
        });
    });
}

fn expecting(client: &mut Client) {
    client.send("PUT /f HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
}

#[test]
fn a_100_of_the_server_opens_the_upload() {
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            assert_eq!(request.field("expect"), Some("100-continue"));
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = peer.exactly(4).unwrap();
            peer.send(ok(body));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for _ in 0..2 {
            expecting(&mut client);
            assert_eq!(client.response("PUT").status, 100);
            client.send("body");
            assert_eq!(client.response("PUT").text(), "body");
        }
        assert_eq!(edge.metric("lyre_backend_connects_total"), 1);
    });
}

#[test]
fn a_silent_server_does_not_keep_a_client_from_uploading() {
    let origin = Origin::answering(|request| ok(&request.body));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        expecting(&mut client);
        assert_eq!(client.response("PUT").status, 100);
        client.send("body");
        assert_eq!(client.response("PUT").text(), "body");
    });
}

#[test]
fn a_refusal_before_the_body_reaches_the_client_and_ends_the_connection() {
    let origin = Origin::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        expecting(&mut client);
        let response = client.response("PUT");
        assert_eq!((response.status, response.field("connection")), (401, Some("close")));
        assert!(client.rest().is_empty());
    });
}

#[test]
fn a_refusal_in_the_middle_of_an_upload_reaches_the_client() {
    let origin = Origin::start(|mut peer| {
        peer.head();
        peer.exactly(100_000);
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull");
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("PUT /f HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 1000000000\r\n\r\n");
        client.send(vec![0; 200_000]);
        let response = client.response("PUT");
        assert_eq!((response.status, response.text().as_str()), (413, "full"));
        assert!(client.rest().is_empty());
        edge.wait("nothing in flight", |edge| edge.metric("lyre_frontend_requests_in_flight") == 0);
    });
}

#[test]
fn a_client_that_left_frees_the_servers_place() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        // Never answers; the end of the connection is what it waits for.
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("GET /poll HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        edge.wait("it is at the server", |edge| edge.metric("lyre_server_outstanding") == 1);
        drop(client);
        edge.wait("it is forgotten", |edge| edge.metric("lyre_server_outstanding") == 0);
        edge.wait("counted", |edge| {
            edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"client_gone\"}") == 1
        });
    });
}

#[test]
fn a_request_that_comes_while_the_last_one_is_slow_is_not_lost() {
    let (answer, is_wanted) = std::sync::mpsc::channel();
    let is_wanted = std::sync::Mutex::new(is_wanted);
    let origin = Origin::answering(move |request| {
        if request.path() == "/slow" {
            is_wanted.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        ok(request.path())
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("GET /slow HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        edge.wait("it is at the server", |edge| edge.metric("lyre_server_outstanding") == 1);
        client.send("GET /next HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        answer.send(()).unwrap();
        assert_eq!(client.response("GET").text(), "/slow");
        assert_eq!(client.response("GET").text(), "/next");
    });
}

const UPGRADE: &str = "GET /push/ws HTTP/1.1\r\nHost: cloud.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn accept_upgrade(peer: &mut Peer) {
    let request = peer.head().unwrap();
    assert_eq!(request.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    peer.send(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
    );
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_and_half_closes() {
    let origin = Origin::start(|mut peer| {
        accept_upgrade(&mut peer);
        for _ in 0..3 {
            let frame = peer.exactly(4).unwrap();
            peer.send(frame);
        }
        // The client's end must arrive as an end, and leave this direction open.
        assert_eq!(peer.drain(), 0);
        peer.send("goodbye");
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send([UPGRADE, "ping"].concat());
        let response = client.response("GET");
        assert_eq!((response.status, response.field("upgrade")), (101, Some("websocket")));
        assert_eq!(client.exactly(5), b"hello");
        assert_eq!(client.exactly(4), b"ping");
        assert_eq!(edge.metric("lyre_frontend_tunnels"), 1);
        assert_eq!(edge.metric("lyre_frontend_requests_in_flight"), 0);
        for frame in ["two.", "last"] {
            client.send(frame);
            assert_eq!(client.exactly(4), frame.as_bytes());
        }
        client.finish();
        assert_eq!(client.rest(), b"goodbye");
        edge.wait("tunnel closed", |edge| edge.metric("lyre_frontend_tunnels") == 0);
    });
}

/// notify_push's clients say nothing but a ping every 30 seconds, for days. `LYRE_TEST_IDLE_SECONDS` (90: longer than any
/// timeout for other connections) makes it longer. Both drivers at once, and TLS is a matter of `tls`.
#[test]
fn a_push_client_that_only_pings_every_half_minute_stays() {
    const PING: &[u8] = &[0x89, 0x80, 1, 2, 3, 4];
    const PONG: &[u8] = &[0x8a, 0];
    let push = Origin::start(|mut peer| {
        accept_upgrade(&mut peer);
        peer.stream.set_read_timeout(None).unwrap();
        while peer.exactly(PING.len()).is_some_and(|frame| frame == PING) {
            peer.send(PONG);
        }
    });
    let web = Origin::answering(|_| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
    let config = Origin::config(&[&web], &format!("[push]\nservers = [\"{}\"]\n", push.address));
    let mut clients: Vec<(Edge, Client)> = ["epoll", "io_uring"]
        .into_iter()
        .map(|driver| {
            let edge = Edge::start(&config, driver, 1);
            let mut client = edge.connect();
            client.send(UPGRADE);
            assert_eq!(client.response("GET").status, 101);
            assert_eq!(client.exactly(5), b"hello");
            (edge, client)
        })
        .collect();
    let seconds = std::env::var("LYRE_TEST_IDLE_SECONDS").map_or(90, |text| text.parse().expect("whole seconds"));
    for _ in 0..seconds / 30_u64 {
        std::thread::sleep(Duration::from_secs(30));
        for (_, client) in &mut clients {
            client.send(PING);
            assert_eq!(client.exactly(2), PONG);
        }
    }
    for (edge, _) in &clients {
        assert_eq!(edge.metric("lyre_frontend_tunnels"), 1);
    }
}

#[test]
fn a_reset_tunnel_is_reset_on_the_other_side_too() {
    let origin = Origin::start(|mut peer| {
        accept_upgrade(&mut peer);
        peer.exactly(4);
        let socket = socket2::SockRef::from(&peer.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send(UPGRADE);
        assert_eq!(client.response("GET").status, 101);
        client.exactly(5);
        client.send("ping");
        let error = read(&mut client.stream, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send(UPGRADE);
        let response = client.response("GET");
        assert_eq!((response.status, response.text().as_str()), (403, "no"));
        // Nobody can tell whether the next bytes would be HTTP.
        assert!(client.rest().is_empty());
    });
}

#[test]
fn an_upgrade_nobody_asked_for_is_a_bad_gateway() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        peer.drain();
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge: &mut Edge| {
        assert_eq!(edge.get("/").status, 502);
    });
}
