//! Single items of the acceptance lists (docs/acceptance.md) that no other test holds.

use crate::edge::{PATIENCE, on_each_driver};
use crate::h2;
use crate::h2_raw::{DATA, END_STREAM, HEADERS, Raw};
use crate::origin::{Origin, ok};
use std::sync::{Mutex, mpsc};

/// N07: PHP tells an absent length from 0.
#[test]
fn an_empty_put_says_so() {
    let origin = Origin::answering(|_| ok("x"));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("PUT /empty HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response("PUT").status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.field("content-length"), request.field("transfer-encoding")), (Some("0"), None));
    });
}

/// N11: a client that leaves in the middle of a MOVE does not stop it: its answer is heard, and no lock stays.
#[test]
fn a_move_is_finished_without_its_client() {
    let (answer, is_wanted) = mpsc::channel();
    let is_wanted = Mutex::new(is_wanted);
    let origin = Origin::answering(move |_| {
        is_wanted.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec()
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("MOVE /remote.php/dav/uploads/u/1/.file HTTP/1.1\r\nHost: cloud.test\r\nDestination: https://cloud.test/x\r\n\r\n");
        edge.wait("it is at the server", |edge| edge.metric("lyre_server_outstanding") == 1);
        drop(client);
        answer.send(()).unwrap();
        edge.wait("its answer is heard", |edge| edge.metric("lyre_frontend_responses_total{code=\"2xx\"}") == 1);
        edge.wait("and over", |edge| edge.metric("lyre_server_outstanding") == 0);
        assert_eq!(edge.metric("lyre_server_failures_total"), 0);
    });
}

/// N16: a status that nginx sends without its words.
#[test]
fn a_207_without_a_reason_passes_in_both_protocols() {
    let origin = Origin::answering(|request| {
        let line = if request.path() == "/bare" { "HTTP/1.1 207" } else { "HTTP/1.1 207 " };
        format!("{line}\r\nContent-Length: 2\r\n\r\nok").into_bytes()
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        for path in ["/bare", "/space"] {
            let response = edge.get(path);
            assert_eq!((response.status, response.text().as_str()), (207, "ok"), "{path}");
        }
    });
    h2::on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        raw.get(1, "/bare");
        assert_eq!(raw.outcome(1), Ok(207));
    });
}

/// H22: the length of a HEAD's answer announces no body.
#[test]
fn a_head_over_http2_ends_with_its_head() {
    let origin = Origin::answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec());
    h2::on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut raw = Raw::connect(edge);
        let line = [(":method", "HEAD"), (":scheme", "https"), (":authority", "cloud.test"), (":path", "/x")];
        raw.headers(1, END_STREAM, &line);
        let frame = raw.until("the head", |frame| frame.stream == 1 && matches!(frame.kind, HEADERS | DATA));
        assert_eq!((frame.kind, frame.status()), (HEADERS, 200));
        assert_ne!(frame.flags & END_STREAM, 0);
        raw.headers(3, END_STREAM, &line);
        assert_eq!(raw.outcome(3), Ok(200));
    });
}
