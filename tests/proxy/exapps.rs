//! The gateway to ExApps from outside: a Nextcloud that speaks the two questions, and an ExApp. Named after the cases of
//! the compatibility list with HaRP.

use crate::edge::{Client, Edge, Response};
use crate::origin::{Origin, Request, ok};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

const EXAPPS: &str = "[exapps]\nshared_key_env = \"EXAPPS_KEY\"\nsession_lifetime = \"10s\"\n";

/// As the environment of the tests' configuration has it.
const KEY: &str = "harp-shared-key: K\r\n";

const ROUTES: &str = r#"[{"url":"^/public$","access_level":0},{"url":"^/user","access_level":1},
    {"url":"^/admin$","access_level":2}]"#;

fn record(exapp: &Origin) -> String {
    let port = exapp.address.port();
    format!(r#"{{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":{port},"routes":{ROUTES}}}"#)
}

fn status(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} S\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes()
}

/// What Nextcloud says of apps and users. Alice is a user, root an administrator.
fn nextcloud_says(request: &Request, record: &str) -> Vec<u8> {
    assert_eq!(request.field("harp-shared-key"), Some("K"), "{}", request.head);
    let path = request.path();
    let cookie = request.field("cookie").unwrap_or_default();
    match path.strip_prefix("/index.php/apps/app_api/harp/") {
        Some("exapp-meta?appId=foo") => ok(record),
        Some("user-info?appId=foo") if cookie.contains("=alice") => ok(r#"{"user_id":"alice","access_level":1}"#),
        Some("user-info?appId=foo") if cookie.contains("=root") => ok(r#"{"user_id":"root","access_level":2}"#),
        _ => status(401),
    }
}

fn nextcloud(exapp: &Origin) -> Origin {
    let record = record(exapp);
    Origin::answering(move |request| nextcloud_says(request, &record))
}

/// An ExApp that answers with what it was asked.
fn echo() -> Origin {
    Origin::answering(|request| ok(&request.head))
}

fn on_each_driver(nextcloud: &Origin, test: impl Fn(&Edge)) {
    for driver in ["epoll", "io_uring"] {
        test(&Edge::start(&Origin::config(&[nextcloud], EXAPPS), driver, 1));
    }
}

fn send(edge: &Edge, line: &str, fields: &str, body: &str) -> Client {
    let mut client = edge.connect();
    client.send(format!("{line} HTTP/1.1\r\nHost: cloud.test\r\n{fields}\r\n{body}"));
    client
}

fn get(edge: &Edge, path: &str, fields: &str) -> Response {
    send(edge, &format!("GET {path}"), fields, "").response("GET")
}

/// The fields by which the ExApp knows who asks.
fn identity(response: &Response) -> [Option<String>; 4] {
    let head = response.text();
    ["ex-app-id", "ex-app-version", "aa-version", "authorization-app-api"]
        .map(|name| crate::edge::field(&head, name).map(str::to_owned))
}

fn asked(nextcloud: &Origin, what: &str) -> usize {
    nextcloud.requests().iter().filter(|request| request.path().contains(what)).count()
}

const NOBODY: &str = "OlQ="; // ":T"
const ALICE: &str = "YWxpY2U6VA=="; // "alice:T"

fn is_from(authorization: &str) -> [Option<String>; 4] {
    ["foo", "1.0.0", "32", authorization].map(|text| Some(text.to_owned()))
}

#[test]
fn cases_01_02_34_a_public_request_reaches_the_exapp_as_nobody() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let forged = "EX-APP-ID: x\r\nEX-APP-VERSION: 9\r\nAUTHORIZATION-APP-API: x\r\nAA-VERSION: 1\r\n";
        let response = get(edge, "/exapps/foo/public?a=1&b=%2F", forged);
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(response.text().starts_with("GET /public?a=1&b=%2F HTTP/1.1\r\n"), "{}", response.text());
        assert_eq!(identity(&response), is_from(NOBODY));
        assert_eq!(response.text().to_ascii_lowercase().matches("ex-app-id").count(), 1);
        assert!(response.text().contains("X-Origin-IP: 127.0.0.1\r\n"));
        // Methods and bodies pass, on a connection that goes on.
        let mut client = send(edge, "POST /exapps/foo/public", "Content-Length: 3\r\n", "abc");
        assert_eq!(client.response("POST").status, 200);
        client.send("GET /exapps/foo/public HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        assert_eq!(client.response("GET").status, 200);
        assert_eq!(exapp.requests().iter().rev().nth(1).unwrap().body, b"abc");
    });
    // Known from then on.
    assert_eq!(asked(&nextcloud, "exapp-meta"), 2);
}

#[test]
fn cases_03_06_07_11_routes_let_in_whom_they_are_for() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let (alice, root) = ("Cookie: oc_sessionPassphrase=alice\r\n", "Cookie: oc_sessionPassphrase=root\r\n");
        let response = get(edge, "/exapps/foo/user/x", alice);
        assert_eq!((response.status, identity(&response)), (200, is_from(ALICE)));
        assert_eq!(get(edge, "/exapps/foo/admin", root).status, 200);
        let seen = exapp.requests().len();
        for (path, fields, status, text) in [
            ("/exapps/foo/user", "", 403, "403 Forbidden"),
            ("/exapps/foo/user", "Cookie: oc_sessionPassphrase=nobody\r\n", 403, "403 Forbidden"),
            ("/exapps/foo/admin", alice, 403, "403 Forbidden"),
            ("/exapps/foo/nothing", root, 404, "404 Not Found"),
        ] {
            let response = get(edge, path, fields);
            assert_eq!((response.status, response.text().as_str()), (status, text), "{path}");
            assert_eq!(response.field("content-type"), Some("text/plain"));
        }
        assert_eq!(exapp.requests().len(), seen);
    });
}

#[test]
fn cases_16_19_26_what_nobody_may_ask_is_not_answered_at_all() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let wrong = signed("wrong");
        for (path, fields) in [
            ("/exapps/foo/heartbeat", ""),
            ("/exapps/foo/init", ""),
            ("/exapps/foo/enabled", ""),
            ("/exapps/foo/../bar", ""),
            ("/exapps/foo/heartbeat", &wrong),
        ] {
            assert_eq!(send(edge, &format!("GET {path}"), fields, "").rest(), b"", "{path}");
        }
    });
    assert!(exapp.requests().is_empty());
}

/// What AppAPI sends; where the app is, is wrong on purpose.
fn signed(key: &str) -> String {
    format!(
        "EX-APP-ID: foo\r\nEX-APP-VERSION: 2.0.0\r\nEX-APP-HOST: 127.0.0.1\r\nEX-APP-PORT: 1\r\nAA-VERSION: 33\r\n\
         AUTHORIZATION-APP-API: YWRtaW46VA==\r\nharp-shared-key: {key}\r\n"
    )
}

#[test]
fn cases_17_35_appapi_reaches_what_others_may_not_and_its_key_stays_here() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let response = get(edge, "/exapps/foo/heartbeat", &signed("K"));
        let expected = ["foo", "2.0.0", "33", "YWRtaW46VA=="].map(|text| Some(text.to_owned()));
        assert_eq!((response.status, identity(&response)), (200, expected));
        let head = response.text().to_ascii_lowercase();
        assert!(!head.contains("harp-shared-key") && !head.contains("ex-app-host"), "{head}");
    });
}

#[test]
fn case_22_an_app_that_nextcloud_does_not_know_is_not_found() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let response = get(edge, "/exapps/unknown/x", "");
        assert_eq!((response.status, response.text().as_str()), (404, "404 Not Found"));
    });
    assert_eq!(asked(&nextcloud, "exapp-meta?appId=unknown"), 2);
}

#[test]
fn case_23_many_first_requests_are_one_question_over_all_cores() {
    const REQUESTS: usize = 100;
    let exapp = echo();
    let record = record(&exapp);
    for driver in ["epoll", "io_uring"] {
        let (go, held) = mpsc::channel::<()>();
        let (held, record) = (Mutex::new(held), record.clone());
        let nextcloud = Origin::answering(move |request| {
            let _ = held.lock().unwrap().recv();
            nextcloud_says(request, &record)
        });
        let edge = Edge::start(&Origin::config(&[&nextcloud], EXAPPS), driver, 2);
        let mut clients: Vec<_> = (0..REQUESTS).map(|_| send(&edge, "GET /exapps/foo/public", "", "")).collect();
        edge.wait("all wait", |edge| edge.metric("lyre_frontend_requests_total") >= REQUESTS as u64);
        drop(go);
        for client in &mut clients {
            assert_eq!(client.response("GET").status, 200);
        }
        assert_eq!(asked(&nextcloud, "exapp-meta"), 1);
    }
}

#[test]
fn case_24_a_nextcloud_that_does_not_say_is_asked_again() {
    let exapp = echo();
    let (record, says) = (record(&exapp), Arc::new(AtomicU16::new(500)));
    let said = says.clone();
    let nextcloud = Origin::answering(move |request| match said.load(Ordering::SeqCst) {
        200 => nextcloud_says(request, &record),
        other => status(other),
    });
    on_each_driver(&nextcloud, |edge| {
        says.store(500, Ordering::SeqCst);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 503);
        says.store(200, Ordering::SeqCst);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 200);
        says.store(500, Ordering::SeqCst);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 200);
    });
}

#[test]
fn case_36_websockets_pass_both_ways() {
    let exapp = Origin::start(|mut peer| {
        let head = peer.head().unwrap();
        assert_eq!((head.path(), head.field("authorization-app-api")), ("/user/ws", Some(ALICE)));
        let accept = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        peer.send(accept);
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
    });
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let fields = "Cookie: oc_sessionPassphrase=alice\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut client = send(edge, "GET /exapps/foo/user/ws", fields, "");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.exactly(5), b"hello");
        client.send("ping");
        assert_eq!(client.exactly(4), b"ping");
    });
}

#[test]
fn case_37_events_are_not_held_back() {
    let (next, waits) = mpsc::channel::<()>();
    let waits = Mutex::new(waits);
    let exapp = Origin::start(move |mut peer| {
        peer.head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        let _ = waits.lock().unwrap().recv();
        peer.send("data: 2\n\n");
    });
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let mut client = send(edge, "GET /exapps/foo/public", "Connection: close\r\n", "");
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut received = Vec::new();
        let mut until = |text: &str| {
            while !String::from_utf8_lossy(&received).contains(text) {
                received.extend(client.exactly(1));
            }
        };
        until("data: 1\n\n");
        next.send(()).unwrap();
        until("data: 2\n\n");
    });
}

#[test]
fn cases_41_42_appapi_finds_the_gateway_and_others_do_not() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        let response = get(edge, "/exapps/app_api/heartbeat", KEY);
        assert_eq!((response.status, response.text().as_str()), (200, r#"{"status":"ok"}"#));
        for wrong in ["", "harp-shared-key: k\r\n", "harp-shared-key: \r\n"] {
            let response = get(edge, "/exapps/app_api/heartbeat", wrong);
            assert_eq!((response.status, response.text().as_str()), (401, "401 Unauthorized"));
        }
        let info: serde_json::Value = serde_json::from_slice(&get(edge, "/exapps/app_api/info", KEY).body).unwrap();
        assert_eq!(info["version"].as_str(), Some("0.4.4"));
        assert!(info["docker"].is_boolean() && info["kubernetes"]["enabled"].is_boolean());
        assert_eq!(get(edge, "/exapps/app_api/nothing", KEY).status, 404);
        assert_eq!(send(edge, "POST /exapps/app_api/heartbeat", KEY, "").response("POST").status, 405);
    });
}

#[test]
fn cases_43_44_appapi_enables_and_disables_apps() {
    let exapp = echo();
    let nextcloud = Origin::answering(|_| status(401));
    let record = record(&exapp);
    let framed = format!("Content-Length: {}\r\n{KEY}", record.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n{KEY}");
    let chunks = format!("{:x}\r\n{record}\r\n0\r\n\r\n", record.len());
    on_each_driver(&nextcloud, |edge| {
        let push = |fields: &str, body: &str| {
            send(edge, "POST /exapps/app_api/exapp_storage/Foo", fields, body).response("POST").status
        };
        let withdraw = || send(edge, "DELETE /exapps/app_api/exapp_storage/foo", KEY, "").response("DELETE").status;
        assert_eq!(push(&framed, &record), 204);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 200);
        assert_eq!(push(&format!("Content-Length: 2\r\n{KEY}"), "{}"), 400);
        assert_eq!(push("Content-Length: 2\r\nharp-shared-key: x\r\n", "{}"), 401);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 200);
        assert_eq!(asked(&nextcloud, "exapp-meta"), 0);
        assert_eq!((withdraw(), withdraw()), (204, 404));
        let seen = exapp.requests().len();
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 404);
        assert_eq!((exapp.requests().len(), asked(&nextcloud, "exapp-meta")), (seen, 0));
        assert_eq!(push(&chunked, &chunks), 204);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 200);
    });
}

#[test]
fn an_exapp_that_is_not_there_is_a_failure_of_the_server_not_of_the_client() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    // Its listener closes; the port stays in the record.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let record = record(&exapp).replace(&exapp.address.port().to_string(), &gone.to_string());
    on_each_driver(&nextcloud, |edge| {
        let framed = format!("Content-Length: {}\r\n{KEY}", record.len());
        let push = send(edge, "POST /exapps/app_api/exapp_storage/foo", &framed, &record).response("POST");
        assert_eq!(push.status, 204);
        assert_eq!(get(edge, "/exapps/foo/public", "").status, 502);
    });
}

/// Nor with a password: whose it is, only the app knows.
#[test]
fn what_an_exapp_refuses_is_no_failed_login_at_nextcloud() {
    let exapp = Origin::answering(|_| status(401));
    let record = record(&exapp);
    let nextcloud = Origin::answering(move |request| match request.path().starts_with("/index.php/apps/app_api/") {
        true => nextcloud_says(request, &record),
        false => status(401),
    });
    on_each_driver(&nextcloud, |edge| {
        let password = "Authorization: Basic dTpw\r\n";
        assert_eq!(get(edge, "/exapps/foo/public", password).status, 401);
        assert_eq!(exapp.requests().last().unwrap().field("authorization"), Some("Basic dTpw"));
        assert_eq!(edge.metric("lyre_abuse_failed_logins_total"), 0);
        assert_eq!(get(edge, "/remote.php/dav/", password).status, 401);
        assert_eq!(edge.metric("lyre_abuse_failed_logins_total"), 1);
    });
}

#[test]
fn status_and_metrics_tell_of_apps_and_of_who_was_refused() {
    let exapp = echo();
    let nextcloud = nextcloud(&exapp);
    on_each_driver(&nextcloud, |edge| {
        for path in ["/exapps/foo/public", "/exapps/foo/user", "/exapps/foo/nothing", "/exapps/unknown/x"] {
            get(edge, path, "");
        }
        let status = &lyre::serve::report::status(&edge.worker.shared)["exapps"];
        let app = &status["apps"][0];
        assert_eq!(status["apps"].as_array().unwrap().len(), 1, "{status}");
        assert_eq!((app["id"].as_str(), app["version"].as_str()), (Some("foo"), Some("1.0.0")));
        assert_eq!((app["forwarded"].as_u64(), app["refused"].as_u64()), (Some(1), Some(2)));
        assert_eq!(status["refusals"], serde_json::json!({ "level": 1, "no_route": 1, "unknown_app": 1 }));
        assert_eq!(edge.metric("lyre_exapp_forwarded_total{app=\"foo\"}"), 1);
        assert_eq!(edge.metric("lyre_exapp_refused_total{app=\"foo\"}"), 2);
        assert_eq!(edge.metric("lyre_exapps_refusals_total{reason=\"level\"}"), 1);
    });
}
