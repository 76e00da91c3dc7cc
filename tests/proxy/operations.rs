//! Draining, reloading, logging, counting: what an operator does and sees.

use crate::edge::{Edge, on_each_driver};
use crate::origin::{Origin, ok};
use lyre::serve::shared::Phase;
use std::path::PathBuf;

#[test]
fn draining_closes_connections_as_they_finish_and_loses_no_request() {
    let origin = Origin::answering(|_| ok("x"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut idle = edge.connect();
        idle.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        assert_eq!(idle.response("GET").field("connection"), None);
        let mut busy = edge.connect();
        busy.send("GET / HTTP/1.1\r\nHo");
        edge.wait("its head began", |edge| edge.metric("lyre_frontend_requests_in_flight") == 1);
        edge.worker.shared.set_phase(Phase::Draining);
        // What is idle goes away by itself; what began is finished; what comes new is served.
        assert!(idle.rest().is_empty());
        busy.send("st: cloud.test\r\n\r\n");
        let response = busy.response("GET");
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert!(busy.rest().is_empty());
        let response = edge.get("/");
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        edge.worker.shared.set_phase(Phase::Serving);
        edge.wait("serving again", |edge| edge.get("/").field("connection").is_none());
    });
}

#[test]
fn a_reload_serves_new_requests_by_the_new_settings_on_old_connections() {
    let (old, new) = (Origin::answering(|_| ok("old")), Origin::answering(|_| ok("new")));
    on_each_driver(&Origin::config(&[&old], ""), |edge| {
        let mut client = edge.connect();
        let mut ask = || {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            client.response("GET").text()
        };
        assert_eq!(ask(), "old");
        edge.reload(&Origin::config(&[&new], ""));
        let deadline = std::time::Instant::now() + crate::edge::PATIENCE;
        while ask() != "new" {
            assert!(std::time::Instant::now() < deadline);
        }
    });
}

struct LogFile(PathBuf);

impl LogFile {
    fn new() -> LogFile {
        let name = format!("lyre-access-{}-{:016x}.log", std::process::id(), fastrand::u64(..));
        LogFile(std::env::temp_dir().join(name))
    }

    fn config(&self, format: &str) -> String {
        format!("[log]\nformat = \"{format}\"\naccess = \"{}\"\n", self.0.display())
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn wait(&self, edge: &Edge, count: usize) -> Vec<String> {
        edge.wait("lines in the log", |_| self.lines().len() >= count);
        self.lines()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn each_request_is_one_log_line_that_keeps_secrets() {
    let origin = Origin::answering(|request| ok(request.path()));
    for driver in ["epoll", "io_uring"] {
        let log = LogFile::new();
        let edge = Edge::start(&Origin::config(&[&origin], &log.config("json")), driver, 1);
        assert_eq!(edge.get("/s/token?password=hunter2").status, 200);
        assert_eq!(edge.get("/../x").status, 400);
        let mut client = edge.connect();
        client.send("PUT /f HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 4\r\n\r\nbody");
        client.response("PUT");
        let lines = log.wait(&edge, 3);
        let value = |line: usize| serde_json::from_str::<serde_json::Value>(&lines[line]).unwrap();
        let first = value(0);
        assert_eq!(first["url.path"], "/s/token?");
        assert_eq!(first["http.response.status_code"], 200);
        assert_eq!(first["client.address"], "127.0.0.1");
        assert_eq!(first["server.address"], "cloud.test");
        assert_eq!(first["lyre.server"], origin.address.to_string());
        assert_eq!((&first["lyre.end"], &first["lyre.pool"]), (&"ok".into(), &"web".into()));
        assert!(first["duration.connect"].is_number() && first["duration.first_byte"].is_number());
        assert_eq!(first["http.response.body.size"], "/s/token?password=hunter2".len());
        assert!(!lines.concat().contains("hunter2"));
        assert_eq!(
            (&value(1)["lyre.end"], &value(1)["http.response.status_code"]),
            (&"downstream.above_root".into(), &400.into())
        );
        assert_eq!((&value(2)["http.request.method"], &value(2)["http.request.body.size"]), (&"PUT".into(), &4.into()));
        let ids: std::collections::HashSet<_> = (0..3).map(|n| value(n)["lyre.request_id"].to_string()).collect();
        assert_eq!(ids.len(), 3);
    }
}

#[test]
fn a_refused_request_is_logged_as_far_as_it_is_known() {
    let origin = Origin::answering(|_| ok("x"));
    let cases = [
        ("GET /a?b HTTP/1.1\r\nHost: other.test\r\n\r\n", "\"GET /a?\" 404 ", "other.test", "downstream.no_route"),
        ("GET /../x HTTP/1.1\r\nHost: cloud.test\r\n\r\n", "\"GET /../x\" 400 ", "cloud.test", "downstream.above_root"),
        ("GET /data/x HTTP/1.1\r\nHost: cloud.test\r\n\r\n", "\"GET /data/x\" 404 ", "cloud.test", "downstream.hidden"),
        ("PUT /f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "\"PUT /f\" 400 ", "a", "downstream.host_repeated"),
        ("GET /n HTTP/1.1\nHost: a\n\n", "\"GET /n\" 400 ", "a", "downstream.bare_lf"),
        (
            "TRACE /t HTTP/1.1\r\nHost: cloud.test\r\n\r\n",
            "\"TRACE /t\" 405 ",
            "cloud.test",
            "downstream.method_refused",
        ),
        ("\x16\x03\x01 / HTTP/1.1\r\nHost: a\r\n\r\n", "\" \" 400 ", "-", "downstream.method"),
        ("GET /slow HTTP/1.1\r\nHost: cloud.test\r\n", "\"GET /slow\" 408 ", "cloud.test", "downstream.head_timeout"),
    ];
    for driver in ["epoll", "io_uring"] {
        let log = LogFile::new();
        let trust = "trusted_proxies = [\"127.0.0.1\"]\n[timeouts]\nhead = \"1s\"\n";
        let edge = Edge::start(&Origin::config(&[&origin], &(trust.to_owned() + &log.config("text"))), driver, 1);
        for (number, (request, line, host, end)) in cases.into_iter().enumerate() {
            let mut client = edge.connect();
            client.send(request);
            client.response("GET");
            let found = log.wait(&edge, number + 1).remove(number);
            assert!(found.contains(line) && found.contains(&format!(" host={host} ")), "{found}");
            assert!(found.ends_with(&format!(" end={end}")), "{found}");
        }
        // Behind a trusted proxy it is the client who is refused.
        let mut client = edge.connect();
        client.send("PROPFIND /x HTTP/1.1\r\nHost: other.test\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n");
        let answer = client.response("PROPFIND");
        assert!(answer.status == 404 && answer.text().contains("<d:error"), "{}", answer.text());
        let found = log.wait(&edge, cases.len() + 1).pop().unwrap();
        assert!(found.contains(" 198.51.100.7 \"PROPFIND /x\" 404 "), "{found}");
    }
}

#[test]
fn a_tunnel_is_logged_when_it_ends() {
    let origin = Origin::start(|mut peer| {
        peer.head();
        peer.send("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nabc");
    });
    let log = LogFile::new();
    let edge = Edge::start(&Origin::config(&[&origin], &log.config("text")), "io_uring", 1);
    let mut client = edge.connect();
    client.send("GET /ws HTTP/1.1\r\nHost: cloud.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    assert_eq!(client.response("GET").status, 101);
    client.finish();
    client.rest();
    let line = log.wait(&edge, 1).remove(0);
    assert!(
        line.contains("\"GET /ws\" 101 3 web/") && line.contains(" host=cloud.test ") && line.ends_with(" end=ok"),
        "{line}"
    );
}

#[test]
fn counters_and_states_are_there_to_scrape() {
    let origin = Origin::answering(|_| ok("12345"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for _ in 0..3 {
            edge.get("/");
        }
        let refused = edge.get("/../x").body.len() as u64;
        edge.wait("probed", |edge| {
            lyre::serve::report::status(&edge.worker.shared)["pools"][0]["servers"][0]["state"] == "up"
        });
        edge.wait("all gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
        assert_eq!(edge.metric("lyre_frontend_requests_total"), 4);
        assert_eq!(edge.metric("lyre_frontend_responses_total{code=\"2xx\"}"), 3);
        assert_eq!(edge.metric("lyre_frontend_responses_total{code=\"4xx\"}"), 1);
        assert_eq!(edge.metric("lyre_frontend_sent_bytes_total"), 15 + refused);
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"above_root\"}"), 1);
        assert_eq!(edge.metric("lyre_frontend_request_duration_seconds_count"), 4);
        assert_eq!(edge.metric("lyre_server_requests_total"), 3);
        let status = lyre::serve::report::status(&edge.worker.shared);
        assert_eq!((&status["traffic"]["requests"], &status["pools"][0]["name"]), (&4.into(), &"web".into()));
        let beat = |edge: &Edge| edge.worker.shared.page.core[0].beat.load(std::sync::atomic::Ordering::Relaxed);
        let before = beat(edge);
        edge.wait("heartbeat", |edge| beat(edge) > before + 2);
    });
}

#[test]
fn two_cores_share_a_servers_places() {
    let origin = Origin::answering(|_| ok("x"));
    let edge = Edge::start(&Origin::config(&[&origin], "max_requests_per_server = 2\n"), "io_uring", 2);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = edge.connect();
                for _ in 0..50 {
                    client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
                    assert_eq!(client.response("GET").status, 200);
                }
            });
        }
    });
    assert_eq!(edge.metric("lyre_frontend_requests_total"), 800);
    assert_eq!(edge.metric("lyre_server_outstanding"), 0);
}

#[test]
fn a_server_behind_a_unix_socket_is_asked_checked_and_kept_like_any_other() {
    use std::io::{BufRead, BufReader, Write};
    let path = std::env::temp_dir().join(format!("lyre-unix-{}-{:08x}.sock", std::process::id(), fastrand::u32(..)));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if line.ends_with("\r\n") && line.trim().is_empty() {
                        let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
                    }
                    line.clear();
                }
            });
        }
    });
    let config =
        format!("[[pool]]\nname = \"local\"\nservers = [\"unix:{}\"]\n[[route]]\npool = \"local\"\n", path.display());
    on_each_driver(&config, |edge| {
        edge.wait("checked", |edge| {
            lyre::serve::report::status(&edge.worker.shared)["pools"][0]["servers"][0]["state"] == "up"
        });
        for _ in 0..3 {
            let response = edge.get("/");
            assert_eq!((response.status, response.text().as_str()), (200, "unix"));
        }
        assert_eq!(edge.metric("lyre_backend_reuses_total"), 2);
    });
    std::fs::remove_file(&path).unwrap();
    on_each_driver(&config, |edge| assert!(matches!(edge.get("/").status, 502 | 503)));
}
