//! Who is kept out: failed logins, bans, the tarpit, rates and counts a client. Clients are told apart by what a trusted
//! proxy or a balancer's header says; connections of this host itself are never limited.

use crate::edge::{Client, Edge, Response, on_each_driver};
use crate::origin::{Origin, Request, ok};
use lyre::proto::proxy_header::{self, Version};
use lyre::serve::abuse::orders;
use lyre::serve::parent::BanChange;
use std::time::{Duration, Instant};

const TRUST: &str = "trusted_proxies = [\"127.0.0.1\"]\n";

/// Knows the password `right` and nothing else; asks for one with 401, as Nextcloud's DAV does.
fn dav(request: &Request) -> Vec<u8> {
    match request.field("authorization") {
        // u:right
        Some("Basic dTpyaWdodA==") => ok("yours"),
        _ => b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }
}

fn request(client: &str, line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: cloud.test\r\nX-Forwarded-For: {client}\r\nContent-Length: 0\r\n{fields}\r\n")
}

/// One request of `client` over a connection of its own.
fn ask(edge: &Edge, client: &str, line: &str, fields: &str) -> Response {
    let mut connection = edge.connect();
    connection.send(request(client, line, fields));
    connection.response(line.split(' ').next().unwrap())
}

fn login(edge: &Edge, client: &str, password: &str) -> u16 {
    ask(edge, client, "PROPFIND /remote.php/dav/", &format!("Authorization: Basic {password}\r\n")).status
}

const RIGHT: &str = "dTpyaWdodA==";

fn config(origin: &Origin, abuse: &str) -> String {
    Origin::config(&[origin], TRUST) + "[abuse]\ntarpit = \"0ms\"\n" + abuse
}

#[test]
fn guessing_passwords_gets_a_client_banned_and_nobody_else() {
    let origin = Origin::answering(dav);
    on_each_driver(&config(&origin, ""), |edge| {
        for n in 0..30 {
            assert_eq!(login(edge, "198.51.100.7", &format!("guess{n}")), 401, "{n}");
        }
        let seen = origin.requests().len();
        let banned = ask(edge, "198.51.100.7", "PROPFIND /remote.php/dav/", "");
        assert_eq!((banned.status, banned.field("connection")), (429, Some("close")));
        let retry: u32 = banned.field("retry-after").unwrap().parse().unwrap();
        assert!((500..=600).contains(&retry), "{retry}");
        assert!(banned.text().contains("TooManyRequests"), "{}", banned.text());
        // The right password comes too late, and PHP hears nothing of it.
        assert_eq!(login(edge, "198.51.100.7", RIGHT), 429);
        assert_eq!(origin.requests().len(), seen);
        assert_eq!(login(edge, "198.51.100.8", RIGHT), 200);
        let counts = ["lyre_abuse_failed_logins_total", "lyre_abuse_bans_total", "lyre_abuse_bans "];
        assert_eq!(counts.map(|name| edge.metric(name)), [30, 1, 1]);
        assert_eq!(edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"banned\"}"), 2);
    });
}

#[test]
fn a_thousand_questions_for_a_password_ban_nobody() {
    let origin = Origin::answering(dav);
    on_each_driver(&config(&origin, ""), |edge| {
        let mut connection = edge.connect();
        for _ in 0..1000 {
            connection.send(request("198.51.100.7", "PROPFIND /remote.php/dav/", ""));
            assert_eq!(connection.response("PROPFIND").status, 401);
        }
        assert_eq!(login(edge, "198.51.100.7", RIGHT), 200);
        assert_eq!(edge.metric("lyre_abuse_failed_logins_total"), 0);
    });
}

#[test]
fn a_device_with_an_old_password_is_refused_and_its_office_is_not() {
    let origin = Origin::answering(dav);
    on_each_driver(&config(&origin, ""), |edge| {
        for n in 0..100 {
            assert_eq!(login(edge, "198.51.100.7", "old"), if n < 10 { 401 } else { 429 }, "{n}");
        }
        assert_eq!(login(edge, "198.51.100.7", RIGHT), 200);
        assert_eq!(ask(edge, "198.51.100.7", "GET /", "").status, 401);
        assert_eq!(edge.metric("lyre_abuse_credentials_refused_total"), 1);
        assert_eq!(edge.metric("lyre_abuse_bans "), 0);
    });
}

#[test]
fn login_forms_that_come_back_count_and_those_that_lead_on_do_not() {
    let origin = Origin::answering(|request| match (request.path(), request.field("x-password")) {
        ("/index.php/login", Some("right")) => {
            b"HTTP/1.1 303 See Other\r\nLocation: /index.php/apps/dashboard/\r\nContent-Length: 0\r\n\r\n".to_vec()
        }
        ("/index.php/login", _) => {
            b"HTTP/1.1 303 See Other\r\nLocation: /index.php/login?direct=1&user=u\r\nContent-Length: 0\r\n\r\n"
                .to_vec()
        }
        _ => ok("the form again"),
    });
    on_each_driver(&config(&origin, "failed_logins = 5\n"), |edge| {
        for _ in 0..20 {
            assert_eq!(ask(edge, "198.51.100.7", "POST /index.php/login", "X-Password: right\r\n").status, 303);
            assert_eq!(ask(edge, "198.51.100.7", "GET /index.php/login", "").status, 303);
        }
        for (client, line, status) in [
            ("198.51.100.7", "POST /index.php/login", 303),
            ("198.51.100.8", "POST /s/AbC/authenticate/showShare", 200),
        ] {
            for _ in 0..5 {
                assert_eq!(ask(edge, client, line, "").status, status);
            }
            assert_eq!(ask(edge, client, line, "").status, 429);
        }
    });
}

#[test]
fn an_ipv6_client_is_its_network() {
    let origin = Origin::answering(dav);
    on_each_driver(&config(&origin, "failed_logins = 4\n"), |edge| {
        for n in 0..4 {
            assert_eq!(login(edge, &format!("2001:db8::{n}"), &format!("guess{n}")), 401);
        }
        assert_eq!(login(edge, "2001:db8::ffff", RIGHT), 429);
        assert_eq!(login(edge, "2001:db8:0:1::1", RIGHT), 200);
    });
}

#[test]
fn proxies_servers_and_the_operators_own_are_never_banned() {
    let origin = Origin::answering(dav);
    on_each_driver(&config(&origin, "failed_logins = 2\nexempt = [\"198.51.100.0/24\"]\n"), |edge| {
        for n in 0..20 {
            // Without X-Forwarded-For the trusted proxy is the client itself; its clients may be anybody.
            let mut connection = edge.connect();
            let fields = format!("Authorization: Basic guess{n}\r\nContent-Length: 0\r\n");
            connection.send(format!("PROPFIND / HTTP/1.1\r\nHost: cloud.test\r\n{fields}\r\n"));
            assert_eq!(connection.response("PROPFIND").status, 401);
            assert_eq!(login(edge, "198.51.100.7", &format!("guess{n}")), 401);
        }
        for address in ["127.0.0.1", "198.51.100.7"] {
            let change = BanChange::Ban { address: address.parse().unwrap(), length_ms: None };
            let refused = orders::bans(&edge.worker.shared, Some(change)).unwrap_err();
            assert!(refused.contains("never banned"), "{refused}");
        }
    });
}

#[test]
fn a_banned_clients_answer_waits_and_its_place_is_given_back() {
    let origin = Origin::answering(dav);
    let config = Origin::config(&[&origin], TRUST) + "[abuse]\ntarpit = \"1s\"\n";
    on_each_driver(&config, |edge| {
        order(edge, BanChange::Ban { address: "198.51.100.7".parse().unwrap(), length_ms: Some(60_000) });
        let begun = Instant::now();
        let mut connection = edge.connect();
        connection.send(request("198.51.100.7", "GET /", ""));
        edge.wait("it waits", |edge| edge.metric("lyre_abuse_tarpitted") == 1);
        assert_eq!(ask(edge, "198.51.100.8", "GET /", "").status, 401);
        assert_eq!(connection.response("GET").status, 429);
        assert!(begun.elapsed() >= Duration::from_millis(900));
        edge.wait("it left", |edge| edge.metric("lyre_abuse_tarpitted") == 0);
    });
}

fn order(edge: &Edge, change: BanChange) -> String {
    orders::bans(&edge.worker.shared, Some(change)).unwrap()
}

#[test]
fn an_order_keeps_a_client_out_until_it_is_lifted_or_over() {
    let origin = Origin::answering(|_| ok("in"));
    on_each_driver(&config(&origin, ""), |edge| {
        let address = "198.51.100.7".parse().unwrap();
        let said = order(edge, BanChange::Ban { address, length_ms: None });
        assert_eq!(said, "198.51.100.7 is banned until it is lifted");
        assert_eq!(ask(edge, "198.51.100.7", "GET /", "").status, 429);
        let listed: serde_json::Value =
            serde_json::from_str(&orders::bans(&edge.worker.shared, None).unwrap()).unwrap();
        let expected = serde_json::json!([{ "client": "198.51.100.7", "reason": "order", "is_of_other_node": false, "left_seconds": null }]);
        assert_eq!(listed["bans"], expected);
        // It outlives a reload.
        edge.reload(&config(&origin, ""));
        assert_eq!(ask(edge, "198.51.100.7", "GET /", "").status, 429);
        order(edge, BanChange::Unban { address });
        assert_eq!(ask(edge, "198.51.100.7", "GET /", "").status, 200);
        assert!(orders::bans(&edge.worker.shared, Some(BanChange::Unban { address })).is_err());
        order(edge, BanChange::Ban { address, length_ms: Some(300) });
        edge.wait("it is over", |edge| ask(edge, "198.51.100.7", "GET /", "").status == 200);
    });
}

/// An edge on two cores behind a balancer, whose header names the client of each connection.
fn balanced(config: &str, driver: &'static str) -> Edge {
    Edge::start_with(config, driver, 2, |settings| {
        settings.listeners[0].proxy_protocol = vec!["127.0.0.1/32".parse().unwrap()];
    })
}

fn connect(edge: &Edge, client: &str) -> Client {
    let mut header = Vec::new();
    let source = format!("{client}:4711").parse().unwrap();
    proxy_header::write(&mut header, Version::V2, Some((source, "203.0.113.1:80".parse().unwrap())));
    let mut connection = edge.connect();
    connection.send(header);
    connection
}

/// The status of one request, 0 if the connection was closed instead.
fn status(connection: &mut Client) -> u16 {
    use std::io::Write;
    let _ = connection.stream.write_all(b"GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
    // Nothing has been read yet, so an answer begins with its head.
    let mut first = [0; 16];
    loop {
        match std::io::Read::read(&mut connection.stream, &mut first) {
            Ok(count) if count > 12 => return std::str::from_utf8(&first[9..12]).unwrap().parse().unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return 0,
        }
    }
}

#[test]
fn a_clients_connections_are_counted_over_all_cores() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "[limits]\nmax_connections_per_client = 5\n");
    for driver in ["epoll", "io_uring"] {
        let edge = balanced(&config, driver);
        let mut connections: Vec<Client> = (0..20).map(|_| connect(&edge, "198.51.100.7")).collect();
        let statuses: Vec<u16> = connections.iter_mut().map(status).collect();
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 5, "{driver}: {statuses:?}");
        assert_eq!(status(&mut connect(&edge, "198.51.100.8")), 200);
        // Whoever leaves makes room, whichever core it was on.
        drop(connections);
        edge.wait("they left", |edge| edge.metric("lyre_frontend_connections{") == 0);
        let mut again: Vec<Client> = (0..5).map(|_| connect(&edge, "198.51.100.7")).collect();
        let statuses: Vec<u16> = again.iter_mut().map(status).collect();
        assert_eq!(statuses, [200; 5], "{driver}");
    }
}

#[test]
fn a_client_that_connects_too_fast_is_turned_away() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "") + "[abuse]\nconnections_per_second = 1\nconnection_burst = 10\n";
    for driver in ["epoll", "io_uring"] {
        let edge = balanced(&config, driver);
        let begun = Instant::now();
        let statuses: Vec<u16> = (0..40).map(|_| status(&mut connect(&edge, "198.51.100.7"))).collect();
        let passed = statuses.iter().filter(|status| **status == 200).count() as u64;
        let most = 10 + begun.elapsed().as_secs() + 1;
        assert!((10..=most).contains(&passed), "{driver}: {statuses:?}");
        assert_eq!(status(&mut connect(&edge, "198.51.100.8")), 200);
    }
}

#[test]
fn requests_beyond_the_rate_are_429_over_all_cores_and_connections_go_on() {
    let origin = Origin::answering(|_| ok(""));
    let config = config(&origin, "requests_per_second = 1\nrequest_burst = 20\n");
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start(&config, driver, 2);
        let begun = Instant::now();
        let mut passed = 0;
        for _ in 0..8 {
            let mut connection = edge.connect();
            for _ in 0..10 {
                connection.send(request("198.51.100.7", "GET /", ""));
                let response = connection.response("GET");
                passed += u64::from(response.status == 200);
                assert!(response.status == 200 || response.field("retry-after") == Some("1"));
                assert_eq!(response.field("connection"), None);
            }
        }
        let most = 20 + begun.elapsed().as_secs() + 1;
        assert!((20..=most).contains(&passed), "{driver}: {passed}");
        assert_eq!(ask(&edge, "198.51.100.8", "GET /", "").status, 200);
        let too_fast = edge.metric("lyre_http_failed_total{side=\"downstream\",reason=\"too_fast\"}");
        assert_eq!(too_fast, 80 - passed);
    }
}

#[test]
fn a_banned_clients_connections_close_where_that_is_wanted() {
    let origin = Origin::answering(|_| ok(""));
    let config = Origin::config(&[&origin], "") + "[abuse]\nbanned = \"close\"\n";
    for driver in ["epoll", "io_uring"] {
        let edge = balanced(&config, driver);
        order(&edge, BanChange::Ban { address: "198.51.100.7".parse().unwrap(), length_ms: None });
        assert_eq!(status(&mut connect(&edge, "198.51.100.7")), 0);
        assert_eq!(status(&mut connect(&edge, "198.51.100.8")), 200);
    }
}
