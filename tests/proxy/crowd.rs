//! More requests than the servers can take: places, lines, admission, and what is asked twice.

use crate::edge::{Client, Edge, on_each_driver};
use crate::origin::{Origin, ok};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// An origin that answers `/held` when told to, and everything else at once.
fn holding() -> (Origin, mpsc::Sender<()>, Arc<AtomicUsize>) {
    let (go, gate) = mpsc::channel::<()>();
    let (gate, most, inside) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let peak = most.clone();
    let origin = Origin::start(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.path() == "/held" {
                peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let _ = gate.lock().unwrap().recv();
                inside.fetch_sub(1, Ordering::SeqCst);
            }
            peer.send(ok(request.path()));
        }
    });
    (origin, go, most)
}

fn get(edge: &Edge, path: &str) -> Client {
    let mut client = edge.connect();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
    client
}

#[test]
fn the_line_is_bounded_over_all_cores_and_the_rest_is_told_when_to_come_back() {
    let (origin, go, most) = holding();
    let config = Origin::config(&[&origin], "max_requests_per_server = 2\nmax_queue = 3\n");
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start(&config, driver, 2);
        let mut inside: Vec<Client> = (0..2).map(|_| get(&edge, "/held")).collect();
        edge.wait("both places are taken", |edge| edge.metric("lyre_server_outstanding") == 2);
        // Whichever cores their connections went to.
        let mut clients: Vec<Client> = (0..10).map(|_| get(&edge, "/held")).collect();
        let is_full = |edge: &Edge| {
            edge.metric("lyre_frontend_requests_waiting") == 3
                && edge.metric("lyre_http_failed_total{side=\"internal\",reason=\"queue_full\"}") == 7
        };
        edge.wait("three wait and seven are sent away", is_full);
        (0..5).for_each(|_| go.send(()).unwrap());
        inside.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200));
        let answers: Vec<_> = clients.iter_mut().map(|client| client.response("GET")).collect();
        let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
        assert_eq!(refused.len(), 7);
        assert!(refused.iter().all(|answer| answer.field("retry-after") == Some("5")));
        assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 503));
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn light_requests_are_served_while_long_ones_fill_the_server() {
    let (origin, go, _) = holding();
    on_each_driver(&Origin::config(&[&origin], "max_requests_per_server = 10\n"), |edge| {
        let mut held: Vec<Client> = (0..9).map(|_| get(edge, "/held")).collect();
        edge.wait("nine are at work", |edge| edge.metric("lyre_server_outstanding") == 9);
        let mut waiting = get(edge, "/held");
        edge.wait("the tenth waits", |edge| edge.metric("lyre_frontend_requests_waiting") == 1);
        for path in ["/status.php", "/index.php/heartbeat", "/login", "/ocs/v2.php/cloud/capabilities"] {
            assert_eq!(edge.get(path).text(), path);
        }
        (0..10).for_each(|_| go.send(()).unwrap());
        held.iter_mut().for_each(|client| assert_eq!(client.response("GET").status, 200));
        assert_eq!(waiting.response("GET").status, 200);
    });
}

#[test]
fn websockets_come_at_the_pools_rate_and_the_rest_is_told_when_to_come_back() {
    let web = Origin::answering(|_| ok(""));
    let push = Origin::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        peer.drain();
    });
    // Two seconds' worth at once, five seconds' worth that waits: 7 of 1 a second.
    let more = format!("[push]\nservers = [\"{}\"]\nupgrades_per_second = 1\n", push.address);
    on_each_driver(&Origin::config(&[&web], &more), |edge| {
        let begun = Instant::now();
        let mut clients: Vec<Client> = (0..20).map(|_| edge.connect()).collect();
        for client in &mut clients {
            client.send(
                "GET /push/ws HTTP/1.1\r\nHost: cloud.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            );
        }
        let heads: Vec<String> = clients.iter_mut().map(Client::head).collect();
        let admitted = heads.iter().filter(|head| head.starts_with("HTTP/1.1 101 ")).count();
        let refused = heads.iter().filter(|head| head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 5"));
        assert_eq!(admitted + refused.count(), 20);
        // A slow machine sends some of them later, when there is room again.
        let most = 7 + begun.elapsed().as_secs() as usize;
        assert!((7..=most).contains(&admitted), "{admitted} of at most {most}");
        // Other requests are not held up.
        assert_eq!(edge.get("/").status, 200);
    });
}

#[test]
fn an_unavailable_server_is_passed_over_for_reads_and_never_for_anything_else() {
    let busy = Origin::answering(|request| match request.path() {
        "/later" => b"HTTP/1.1 503 B\r\nRetry-After: 120\r\nContent-Length: 4\r\n\r\nbusy".to_vec(),
        "/maintenance" => {
            b"HTTP/1.1 503 B\r\nX-Nextcloud-Maintenance-Mode: 1\r\nContent-Length: 4\r\n\r\nbusy".to_vec()
        }
        _ => b"HTTP/1.1 502 B\r\nContent-Length: 4\r\n\r\nbusy".to_vec(),
    });
    let free = Origin::answering(|_| ok("free"));
    let config = Origin::config(&[&busy, &free], "check = { kind = \"tcp\" }\n");
    on_each_driver(&config, |edge| {
        let ask = |method: &str, path: &str| {
            let mut client = edge.connect();
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n"));
            client.response(method)
        };
        for _ in 0..10 {
            assert_eq!((ask("GET", "/").text(), ask("PROPFIND", "/").text()), ("free".into(), "free".into()));
        }
        // Each of these was met by the busy one at least once, and heard what it said.
        for method in ["POST", "PUT", "MOVE", "COPY", "MKCOL", "DELETE", "LOCK", "UNLOCK", "PROPPATCH", "REPORT"] {
            let before = busy.requests().iter().filter(|request| request.line().starts_with(method)).count();
            let answers: Vec<u16> = (0..30).map(|_| ask(method, "/").status).collect();
            let met = busy.requests().iter().filter(|request| request.line().starts_with(method)).count() - before;
            assert_eq!(answers.iter().filter(|status| **status == 502).count(), met, "{method}");
            assert!(met > 0, "{method}");
        }
        for path in ["/later", "/maintenance"] {
            assert!((0..30).any(|_| ask("GET", path).text() == "busy"), "{path}");
        }
        // A web server that speaks for a missing PHP is no dead server.
        assert_eq!(edge.metric("lyre_server_failures_total"), 0);
    });
    let alone = Origin::config(&[&busy], "check = { kind = \"tcp\" }\n");
    on_each_driver(&alone, |edge| assert_eq!((edge.get("/").status, edge.get("/").text()), (502, "busy".into())));
}

#[test]
fn what_must_not_happen_twice_is_sent_once() {
    // Takes the whole request and dies.
    let deaf = Origin::start(|mut peer| {
        peer.request();
    });
    let config = Origin::config(&[&deaf, &deaf], "check = { kind = \"tcp\" }\n");
    let config = config.replacen(&format!(", \"{}\"", deaf.address), "", 1);
    on_each_driver(&config, |edge| {
        let before = deaf.requests().len();
        let requests = [
            "POST /index.php/login/v2/poll",
            "POST /remote.php/dav/bulk",
            "MOVE /remote.php/dav/uploads/u/1/.file",
            "COPY /remote.php/dav/files/u/a",
            "DELETE /remote.php/dav/files/u/a",
            "MKCOL /remote.php/dav/uploads/u/1",
            "LOCK /remote.php/dav/files/u/a",
            "UNLOCK /remote.php/dav/files/u/a",
            "PROPPATCH /remote.php/dav/files/u/a",
            "PUT /remote.php/dav/files/u/a",
            "PATCH /x",
            "MKCALENDAR /remote.php/dav/calendars/u/c",
        ];
        for request in requests {
            let mut client = edge.connect();
            client.send(format!("{request} HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(client.response("POST").status, 502, "{request}");
        }
        assert_eq!(deaf.requests().len() - before, requests.len());
        assert_eq!(edge.metric("lyre_backend_retries_total"), 0);
    });
}

#[test]
fn a_pulse_is_not_waited_for_as_long_as_an_upload() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.drain();
    });
    let edge = Edge::start(&Origin::config(&[&origin], ""), "epoll", 1);
    let begun = Instant::now();
    assert_eq!(edge.get("/status.php").status, 504);
    assert!(begun.elapsed() >= Duration::from_secs(9));
}
