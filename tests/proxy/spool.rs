//! Bodies without a length: PHP would store nothing and say 201. They reach the web servers with a length, or not at
//! all.

use crate::edge::{Client, Edge, on_each_driver};
use crate::origin::{Origin, Request, ok};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A spool directory of this test's own.
struct Room(PathBuf);

impl Room {
    fn new() -> Room {
        let path = std::env::temp_dir().join(format!("lyre-room-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&path).unwrap();
        Room(path)
    }

    fn config(&self, origins: &[&Origin], more: &str) -> String {
        let spool = format!("[spool]\ndirectory = \"{}\"\n{more}", self.0.display());
        Origin::config(origins, &spool)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::read_dir(path).unwrap().next().is_none()
}

fn chunked(client: &mut Client, head: &str, body: &[u8], piece: usize) {
    client.send(format!("{head}\r\nHost: cloud.test\r\nTransfer-Encoding: Chunked\r\n\r\n"));
    for piece in body.chunks(piece) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
}

fn content(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n * 7 % 251) as u8).collect()
}

/// Tells the length announced and the bytes that came.
fn measure(request: &Request) -> Vec<u8> {
    assert_eq!(request.field("transfer-encoding"), None);
    let sum: u64 = request.body.iter().map(|byte| u64::from(*byte)).sum();
    ok(format!("{} {} {sum}", request.field("content-length").unwrap_or("none"), request.body.len()))
}

fn measured(body: &[u8]) -> String {
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    format!("{0} {0} {sum}", body.len())
}

#[test]
fn a_chunked_put_reaches_the_web_server_with_its_length() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    on_each_driver(&room.config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for count in [0, 1, 1337, 16 * 1024, 16 * 1024 + 1, 300_000, 5_000_000] {
            let body = content(count);
            chunked(&mut client, "PUT /remote.php/dav/files/u/a HTTP/1.1", &body, 60_000);
            assert_eq!(client.response("PUT").text(), measured(&body), "{count} bytes");
        }
        assert!(is_empty(&room.0));
        edge.wait("all is given back", |edge| edge.metric("lyre_spool_bytes") == 0);
        // Nothing of the next request on the connection is taken for body.
        let body = content(100_000);
        chunked(&mut client, "PUT /b HTTP/1.1", &body, 9_999);
        client.send("GET /after HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        assert_eq!(client.response("PUT").text(), measured(&body));
        assert_eq!(client.response("GET").text(), "none 0 0");
    });
}

#[test]
fn a_length_is_kept_as_it_came_and_nothing_is_spooled() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    // No room at all: whatever touched the spool would fail.
    std::fs::remove_dir(&room.0).unwrap();
    on_each_driver(&room.config(&[&origin], ""), |edge| {
        for count in [0, 3_000_000] {
            let (mut client, body) = (edge.connect(), content(count));
            client.send(format!("PUT /a HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: {count}\r\n\r\n"));
            client.send(&body);
            assert_eq!(client.response("PUT").text(), measured(&body));
        }
    });
}

#[test]
fn other_pools_get_chunks_as_chunks() {
    let (web, room) = (Origin::answering(measure), Room::new());
    let wiki = Origin::answering(|request| ok(request.field("transfer-encoding").unwrap_or("none")));
    let more = format!(
        "[[pool]]\nname = \"wiki\"\nservers = [\"{}\"]\n[[route]]\nhosts = [\"cloud.test\"]\npath = \"/wiki/\"\npool = \"wiki\"\n",
        wiki.address
    );
    on_each_driver(&room.config(&[&web], &more), |edge| {
        let mut client = edge.connect();
        chunked(&mut client, "PUT /wiki/a HTTP/1.1", &content(100_000), 10_000);
        assert_eq!(client.response("PUT").text(), "chunked");
    });
}

#[test]
fn a_full_spool_answers_507_and_keeps_nothing() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    on_each_driver(&room.config(&[&origin], "size = \"1MiB\"\n"), |edge| {
        let mut first = edge.connect();
        // Another upload holds most of the room.
        first.send("PUT /a HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = content(800_000);
        first.send(format!("{:x}\r\n", body.len()));
        first.send(&body);
        edge.wait("most of it is used", |edge| edge.metric("lyre_spool_bytes") > 700_000);
        let mut second = edge.connect();
        chunked(&mut second, "PUT /remote.php/dav/files/u/b HTTP/1.1", &content(400_000), 50_000);
        let response = second.response("PUT");
        assert_eq!((response.status, response.field("content-type")), (507, Some("application/xml; charset=utf-8")));
        assert!(response.text().contains("Sabre\\DAV\\Exception\\InsufficientStorage"));
        first.send("\r\n0\r\n\r\n");
        assert_eq!(first.response("PUT").text(), measured(&body));
        edge.wait("all is given back", |edge| edge.metric("lyre_spool_bytes") == 0);
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"internal\",reason=\"spool_full\"}"), 1);
    });
    assert!(origin.requests().iter().all(|request| request.path() != "/remote.php/dav/files/u/b"));
}

#[test]
fn a_body_beyond_its_limit_is_413_and_no_server_hears_of_it() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    on_each_driver(&room.config(&[&origin], "size = \"10MiB\"\nmax_body = \"100KiB\"\n"), |edge| {
        let mut client = edge.connect();
        chunked(&mut client, "PUT /a HTTP/1.1", &content(200_000), 50_000);
        assert_eq!(client.response("PUT").status, 413);
    });
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    on_each_driver(&room.config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("PUT /a HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n");
        client.send(content(300_000));
        edge.wait("it is being spooled", |edge| edge.metric("lyre_spool_bytes") > 100_000);
        drop(client);
        edge.wait("all is given back", |edge| edge.metric("lyre_spool_bytes") == 0);
    });
    assert!(is_empty(&room.0) && origin.requests().is_empty());
}

#[test]
fn a_spool_that_cannot_be_used_fails_the_request_and_nothing_else() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    std::fs::remove_dir(&room.0).unwrap();
    on_each_driver(&room.config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        chunked(&mut client, "PUT /a HTTP/1.1", &content(100_000), 50_000);
        assert_eq!(client.response("PUT").status, 500);
        // Small ones never need it.
        let mut client = edge.connect();
        chunked(&mut client, "PUT /a HTTP/1.1", &content(1337), 50_000);
        assert_eq!(client.response("PUT").text(), measured(&content(1337)));
    });
}

#[test]
fn no_place_at_a_server_is_held_while_a_slow_body_comes() {
    let (origin, room) = (Origin::answering(measure), Room::new());
    let config = Origin::config(&[&origin], "max_requests_per_server = 1\nqueue_timeout = \"0ms\"\n");
    let config = format!("{config}[spool]\ndirectory = \"{}\"\n", room.0.display());
    on_each_driver(&config, |edge| {
        let mut slow = edge.connect();
        slow.send(
            "PUT /slow HTTP/1.1\r\nHost: cloud.test\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        assert!(slow.head().starts_with("HTTP/1.1 100 "));
        slow.send("5\r\nhello\r\n");
        assert_eq!(edge.get("/").text(), "none 0 0");
        slow.send("0\r\n\r\n");
        assert_eq!(slow.response("PUT").text(), measured(b"hello"));
    });
}

#[test]
fn a_spooled_upload_part_is_sent_again_and_a_spooled_file_is_not() {
    let room = Room::new();
    let tries = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = tries.clone();
    // Every first connection dies after the whole request.
    let origin = Origin::start(move |mut peer| {
        while let Some(request) = peer.request() {
            if seen.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return;
            }
            peer.send(measure(&request));
        }
    });
    let other = Origin::answering(measure);
    on_each_driver(
        &room.config(&[&origin, &other], "").replace("[spool]", "check = { kind = \"tcp\" }\n[spool]"),
        |edge| {
            let body = content(200_000);
            for _ in 0..10 {
                let mut client = edge.connect();
                chunked(&mut client, "PUT /remote.php/dav/uploads/u/1234/00001 HTTP/1.1", &body, 60_000);
                assert_eq!(client.response("PUT").text(), measured(&body));
            }
            assert!(edge.metric("lyre_backend_retries_total") > 0);
        },
    );
    // One that was streamed is gone: sent again it would be a head without a body.
    let edge = Edge::start(&room.config(&[&origin], ""), "epoll", 1);
    tries.store(0, Ordering::SeqCst);
    let mut client = edge.connect();
    client.send(
        "PUT /remote.php/dav/uploads/u/1234/00001 HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 200000\r\n\r\n",
    );
    client.send(content(200_000));
    assert_eq!(client.response("PUT").status, 502);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    tries.store(0, Ordering::SeqCst);
    let mut client = edge.connect();
    chunked(&mut client, "PUT /remote.php/dav/files/u/a HTTP/1.1", &content(200_000), 60_000);
    assert_eq!(client.response("PUT").status, 502);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}
