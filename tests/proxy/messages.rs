//! What passes through unchanged, what is rewritten, and how connections are shared.

use crate::edge::on_each_driver;
use crate::origin::{Origin, ok};

#[test]
fn requests_of_one_client_share_a_kept_connection_to_the_server() {
    let origin = Origin::answering(|request| ok(request.path()));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let before = origin.connections();
        let mut client = edge.connect();
        for path in ["/a", "/b?x=%2F..%2F", "/c//d"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
            let response = client.response("GET");
            assert_eq!((response.status, response.text().as_str()), (200, path));
            assert_eq!(response.field("connection"), None);
        }
        assert_eq!(origin.connections() - before, 1);
        assert_eq!(edge.metric("lyre_backend_reuses_total"), 2);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let origin = Origin::answering(|request| ok(request.path()));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        let put = "PUT /put HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 4\r\n\r\nbody";
        let last = "GET /last HTTP/1.1\r\nHost: cloud.test\r\nConnection: close\r\n\r\n";
        client.send([get("/1").as_str(), put, &get("/2"), last].concat());
        for path in ["/1", "/put", "/2", "/last"] {
            assert_eq!(client.response("GET").text(), path);
        }
        assert!(client.rest().is_empty());
    });
}

#[test]
fn a_content_length_stays_one_and_chunks_get_one() {
    let origin = Origin::answering(|request| ok(&request.body));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("PUT /cl HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 5\r\n\r\n");
        client.send("he");
        client.send("llo");
        assert_eq!(client.response("PUT").text(), "hello");
        client.send("PUT /empty HTTP/1.1\r\nHost: cloud.test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.response("PUT").status, 200);
        client.send("PUT /chunks HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: Chunked\r\n\r\n");
        for piece in ["3\r\nabc\r\n", "A;x=y\r\n01234", "56789\r", "\n0\r\nTrailer: x\r\n", "\r\n"] {
            client.send(piece);
        }
        assert_eq!(client.response("PUT").text(), "abc0123456789");
        let requests = origin.requests();
        let framing: Vec<_> = requests[requests.len() - 3..]
            .iter()
            .map(|request| (request.field("content-length"), request.field("transfer-encoding")))
            .collect();
        assert_eq!(framing, [(Some("5"), None), (Some("0"), None), (Some("13"), None)]);
    });
}

#[test]
fn a_chunked_response_of_any_cut_reaches_the_client_whole() {
    let body: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let sent = body.clone();
    let origin = Origin::start(move |mut peer| {
        while let Some(request) = peer.request() {
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let step = request.path().trim_start_matches('/').parse().unwrap();
            for piece in sent.chunks(step) {
                peer.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            peer.send("0\r\n\r\n");
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for step in [1_000_000, 70_000, 16_384, 4_099] {
            client.send(format!("GET /{step} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
            let response = client.response("GET");
            assert!(response.is_complete && response.body == body, "{step}");
        }
        assert_eq!(edge.metric("lyre_backend_connects_total"), 1);
    });
}

#[test]
fn a_response_that_ends_with_its_connection_is_chunked_for_http_1_1_and_closed_for_http_1_0() {
    let origin = Origin::start(|mut peer| {
        peer.request();
        peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            let response = client.response("GET");
            assert_eq!(response.field("transfer-encoding"), Some("chunked"));
            assert!(response.is_complete && response.body == b"until the end");
        }
        let mut old = edge.connect();
        old.send("GET / HTTP/1.0\r\nHost: cloud.test\r\n\r\n");
        let response = old.response("GET");
        assert_eq!((response.field("transfer-encoding"), response.field("connection")), (None, Some("close")));
        assert_eq!(response.body, b"until the end");
    });
}

#[test]
fn responses_without_bodies_keep_their_framing_and_the_connection() {
    let origin = Origin::answering(|request| match request.path() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        for (method, path, status, length) in
            [("HEAD", "/", 200, Some("1234")), ("GET", "/204", 204, None), ("GET", "/304", 304, Some("5"))]
        {
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
            let response = client.response(method);
            assert_eq!((response.status, response.field("content-length")), (status, length), "{path}");
        }
        assert_eq!(edge.metric("lyre_backend_connects_total"), 1);
    });
}

#[test]
fn forwarding_fields_of_strangers_are_replaced() {
    let origin = Origin::answering(|_| ok(""));
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: cloud.test\r\nX-Forwarded-For: 192.0.2.66\r\nX-Real-IP: 192.0.2.66\r\n\
             X_Forwarded_For: 192.0.2.66\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.66\r\n\
             X-Request-Id: mine\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\n\r\n",
        );
        assert_eq!(client.response("GET").status, 200);
        let request = origin.requests().pop().unwrap();
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.field("x-real-ip"), Some("127.0.0.1"));
        assert_eq!(request.field("x-forwarded-proto"), Some("http"));
        assert_eq!(request.field("x-forwarded-host"), Some("cloud.test"));
        assert_eq!(request.field("x-forwarded-port"), Some(edge.address.port().to_string().as_str()));
        assert_eq!(request.field("x-request-id").map(str::len), Some(32));
        assert!(!request.head.contains("192.0.2.66") && request.field("x-secret").is_none(), "{}", request.head);
    });
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let origin = Origin::answering(|_| ok(""));
    on_each_driver(&Origin::config(&[&origin], "trusted_proxies = [\"127.0.0.0/8\"]\n"), |edge| {
        let mut client = edge.connect();
        client.send(
            "GET / HTTP/1.1\r\nHost: cloud.test\r\nX-Forwarded-For: 198.51.100.1, 192.0.2.66\r\n\
             X-Forwarded-Proto: https\r\nX-Request-Id: theirs\r\n\r\n",
        );
        assert_eq!(client.response("GET").status, 200);
        let request = origin.requests().pop().unwrap();
        // What stands left of the first stranger is that stranger's own claim.
        assert_eq!(request.field("x-forwarded-for"), Some("192.0.2.66, 127.0.0.1"));
        assert_eq!(request.field("x-real-ip"), Some("192.0.2.66"));
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        assert_eq!(request.field("x-request-id"), Some("theirs"));
    });
}

#[test]
fn interim_responses_reach_the_client_before_the_final_one() {
    let origin = Origin::start(|mut peer| {
        while peer.request().is_some() {
            peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            peer.send(ok("done"));
        }
    });
    on_each_driver(&Origin::config(&[&origin], ""), |edge| {
        let mut client = edge.connect();
        client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        let statuses: Vec<u16> = (0..3).map(|_| client.response("GET").status).collect();
        assert_eq!(statuses, [103, 102, 200]);
    });
}
