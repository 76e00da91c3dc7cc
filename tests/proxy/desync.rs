//! Ways to make the two ends disagree about where a message ends, that need a server which plays along.

use crate::edge::on_each_driver;
use crate::origin::{Origin, ok};

/// E06: framing survives any number of interim responses.
#[test]
fn several_100s_do_not_shift_the_body() {
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            if request.field("expect").is_some() {
                peer.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
            }
            let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
            let body = peer.exactly(length).unwrap();
            peer.send(ok(body));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("POST /x HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
        client.send("GET /y HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        let mut answers = Vec::new();
        while answers.len() < 2 {
            let response = client.response("POST");
            if response.status != 100 {
                answers.push((response.status, response.text()));
            }
        }
        assert_eq!(answers, [(200, "hello".to_owned()), (200, String::new())]);
    });
}

/// E07, 0.CL: a server that answers without reading the body would take that body for its next request.
#[test]
fn a_connection_whose_server_did_not_wait_for_the_body_serves_nobody_else() {
    let origin = Origin::start(|mut peer| {
        while let Some(request) = peer.head() {
            peer.send(ok(request.path()));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let before = edge.metric("lyre_backend_connects_total");
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut client = edge.connect();
        // The body is held back until the answer is there.
        client.send("GET /static HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 35\r\n\r\n");
        let response = client.response("GET");
        assert_eq!((response.status, response.text().as_str()), (200, "/static"));
        client.send(smuggled);
        client.finish();
        let rest = client.rest();
        assert!(!String::from_utf8_lossy(&rest).contains("smuggled"), "{rest:?}");
        for _ in 0..3 {
            assert_eq!(edge.get("/next").text(), "/next");
        }
        assert_eq!(edge.metric("lyre_backend_connects_total") - before, 2);
    });
}

/// C30: a body that stops coming is not waited for for ever, and its server sees no end of it.
#[test]
fn a_body_that_stops_is_a_timeout_and_an_unfinished_message() {
    let origin = Origin::start(|mut peer| {
        if let Some(request) = peer.head() {
            assert_eq!(request.field("transfer-encoding"), Some("chunked"));
            // Whatever comes until the connection ends: no last chunk.
            let mut bytes = Vec::new();
            while let Some(byte) = peer.exactly(1) {
                bytes.extend(byte);
            }
            assert!(!bytes.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&bytes));
        }
    });
    let config = Origin::config(&[&origin], "[timeouts]\nclient_idle = \"1s\"\n");
    on_each_driver(&config, |edge| {
        let mut client = edge.connect();
        client.send("POST /x HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        let response = client.response("POST");
        assert_eq!((response.status, response.field("connection")), (408, Some("close")));
        assert!(client.rest().is_empty());
        edge.wait("the server is free", |edge| edge.metric("lyre_server_outstanding") == 0);
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"body_timeout\"}"), 1);
    });
}
