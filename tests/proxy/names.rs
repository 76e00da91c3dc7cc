//! Servers that are named: a DNS server whose answers change while requests run.

use crate::dns::{self, Dnsmasq, Say, Scripted};
use crate::edge::{Client, Edge, on_each_driver};
use crate::origin::Origin;
use serde_json::Value;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Checks often, so that a change of state does not hold a test up.
const CHECK: &str = "check = { interval = \"100ms\" }\n";

/// Listeners at several loopback addresses and one port, as servers of one name have it.
fn listeners<const N: usize>(addresses: [&str; N]) -> ([TcpListener; N], u16) {
    loop {
        let first = TcpListener::bind((addresses[0], 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        all.extend(addresses[1..].iter().filter_map(|address| TcpListener::bind((*address, port)).ok()));
        if let Ok(all) = all.try_into() {
            return (all, port);
        }
    }
}

/// One that answers every request with `text`.
fn origin(listener: TcpListener, text: &'static str) -> Origin {
    let up = || (200, crate::origin::UP.to_owned());
    Origin::on(listener, up, move |mut peer| {
        while peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
        }
    })
}

fn config(servers: &[String], more: &str, dns: std::net::SocketAddr) -> String {
    let servers: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let servers = servers.join(", ");
    format!("[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [{servers}]\n{CHECK}{more}\n{}", dns::config(&[dns]))
}

fn server(edge: &Edge, index: usize) -> Value {
    lyre::serve::report::status(&edge.worker.shared)["pools"][0]["servers"][index].clone()
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn traffic_follows_a_name_whose_address_changes_and_no_request_fails() {
    let name = "traffic_follows_a_name_whose_address_changes_and_no_request_fails";
    for driver in ["epoll", "io_uring"] {
        let Some(dnsmasq) = Dnsmasq::start(name, &["127.0.0.2 web.test"]) else { return };
        let ([one, two], port) = listeners(["127.0.0.2", "127.0.0.3"]);
        let (one, two) = (origin(one, "one"), origin(two, "two"));
        let edge = Edge::start(&config(&[format!("web.test.:{port}")], "", dnsmasq.address), driver, 2);
        edge.wait("resolved", |edge| edge.metric("lyre_server_up") == 1);
        let (is_over, served) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 4]);
        let address = edge.address;
        std::thread::scope(|scope| {
            let _end = Ends(&is_over);
            for served in &served {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut client = Client::over(TcpStream::connect(address).unwrap());
                    while !is_over.load(Ordering::SeqCst) {
                        client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
                        let response = client.response("GET");
                        assert_eq!((response.status, response.is_complete), (200, true), "{driver}");
                        if response.field("connection") == Some("close") {
                            // After `max_keepalive_requests`.
                            client = Client::over(TcpStream::connect(address).unwrap());
                        }
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            edge.wait("requests at the first", far(&served));
            assert_eq!((one.requests().is_empty(), two.requests().is_empty()), (false, true));
            for (line, old, new) in [("127.0.0.3 web.test", &one, &two), ("127.0.0.2 web.test", &two, &one)] {
                let changes = edge.metric("lyre_dns_changes_total");
                dnsmasq.change(&[line]);
                edge.wait("another address", |edge| edge.metric("lyre_dns_changes_total") > changes);
                // What was on its way there has arrived.
                edge.wait("requests at the new one", far(&served));
                let (before, before_new) = (old.requests().len(), new.requests().len());
                edge.wait("more of them", far(&served));
                assert_eq!(old.requests().len(), before, "{driver}: requests at the old address");
                assert!(new.requests().len() > before_new);
            }
        });
        assert_eq!(edge.metric("lyre_http_failed_total"), 0, "{driver}");
    }
}

/// Lets the clients go home, also when an assertion failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whether every client was served often since now: nothing of before is on its way any more.
fn far(served: &[AtomicUsize; 4]) -> impl Fn(&Edge) -> bool {
    let before = served.each_ref().map(|served| served.load(Ordering::SeqCst));
    move |_| served.iter().zip(before).all(|(served, before)| served.load(Ordering::SeqCst) >= before + 50)
}

#[test]
fn a_dead_dns_server_and_a_lost_name_keep_the_last_addresses() {
    let name = "a_dead_dns_server_and_a_lost_name_keep_the_last_addresses";
    let Some(mut dnsmasq) = Dnsmasq::start(name, &["127.0.0.2 web.test"]) else { return };
    let ([one, two], port) = listeners(["127.0.0.2", "127.0.0.3"]);
    let (_one, _two) = (origin(one, "one"), origin(two, "two"));
    let edge = Edge::start(&config(&[format!("web.test.:{port}")], "", dnsmasq.address), "epoll", 1);
    edge.wait("resolved", |edge| edge.metric("lyre_server_up") == 1);
    edge.wait("fresh", |edge| edge.metric("lyre_dns_stale") == 0);

    dnsmasq.change(&["127.0.0.9 other.test"]);
    edge.wait("the name is lost", |edge| edge.metric("lyre_dns_stale") == 1);
    assert!(server(&edge, 0)["reason"].as_str().unwrap().starts_with("the name has no address; "));
    assert_eq!(edge.get("/").text(), "one");

    dnsmasq.change(&["127.0.0.3 web.test"]);
    edge.wait("it is back elsewhere", |edge| edge.metric("lyre_dns_stale") == 0 && edge.get("/").text() == "two");

    dnsmasq.kill();
    edge.wait("nobody answers", |edge| edge.metric("lyre_dns_stale") == 1);
    assert!(server(&edge, 0)["reason"].as_str().unwrap().starts_with("no DNS server answers; "));
    let lookups = edge.metric("lyre_dns_lookups_total{result=\"unknown\"}");
    edge.wait("and nobody again", |edge| edge.metric("lyre_dns_lookups_total{result=\"unknown\"}") > lookups);
    for _ in 0..20 {
        assert_eq!(edge.get("/").text(), "two");
    }
}

#[test]
fn a_silent_dns_server_holds_up_neither_the_start_nor_other_servers() {
    on_each_driver_with(Say::Nothing, |dns, driver| {
        let ([named, known], port) = listeners(["127.0.0.2", "127.0.0.3"]);
        let (_named, _known) = (origin(named, "named"), origin(known, "known"));
        let names: Vec<String> = (0..40).map(|number| format!("web{number}.test:{port}")).collect();
        let edge = Edge::start(&config(&names, "", dns.address), driver, 1);
        assert_eq!(edge.get("/").status, 503, "{driver}");
        assert_eq!(server(&edge, 0)["state"], "down");
        assert_eq!(server(&edge, 0)["addresses"], serde_json::json!([]));
        assert!(server(&edge, 0)["reason"].as_str().unwrap().starts_with("not resolved yet"), "{driver}");
        drop(edge);
        // Beside one that is written as an address nobody notices the names.
        let servers = [&names[..], &[format!("127.0.0.3:{port}")]].concat();
        let edge = Edge::start(&config(&servers, "", dns.address), driver, 1);
        let mut client = edge.connect();
        for _ in 0..500 {
            client.send("GET / HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
            assert_eq!(client.response("GET").text(), "known", "{driver}");
        }
        assert!(edge.metric("lyre_dns_questions_total") > 0);
        assert_eq!(edge.metric("lyre_dns_addresses"), 0);
        dns.say(Say::Addresses(60, addresses(&["127.0.0.2"])));
        edge.wait("all are resolved", |edge| edge.metric("lyre_dns_addresses") == 40);
        edge.wait("and used", |edge| edge.get("/").text() == "named");
    });
}

/// As `on_each_driver`, with a scripted server and without an edge.
fn on_each_driver_with(say: Say, test: impl Fn(&Scripted, &'static str)) {
    for driver in ["epoll", "io_uring"] {
        test(&Scripted::start(say.clone()), driver);
    }
}

#[test]
fn all_addresses_of_a_name_take_their_turns_and_one_that_refuses_costs_nothing() {
    // Nobody is at the last address of each family.
    let all = addresses(&["127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"]);
    on_each_driver_with(Say::Addresses(60, all), |dns, driver| {
        let ([one, two], port) = listeners(["127.0.0.2", "127.0.0.3"]);
        let (one, two) = (origin(one, "one"), origin(two, "two"));
        // Without kept connections every request connects anew.
        let config = config(&[format!("web.test.:{port}")], "keepalive = \"0s\"", dns.address);
        let edge = Edge::start(&config, driver, 1);
        edge.wait("both families", |edge| edge.metric("lyre_dns_addresses") == 4);
        for _ in 0..60 {
            assert_eq!(edge.get("/").status, 200, "{driver}");
        }
        let counts = [one.requests().len(), two.requests().len()];
        assert_eq!(counts.iter().sum::<usize>(), 60);
        assert!(counts.iter().all(|count| *count >= 10), "{driver}: {counts:?}");
        assert_eq!(edge.metric("lyre_server_failures_total"), 0, "{driver}");
        let closed = one.address;
        drop(one);
        edge.wait("nobody at the first", |_| TcpStream::connect(closed).is_err());
        for _ in 0..20 {
            assert_eq!(edge.get("/").text(), "two", "{driver}");
        }
    });
}

#[test]
fn an_answer_that_fits_no_datagram_is_fetched_over_tcp() {
    on_each_driver_with(Say::OverTcp(addresses(&["127.0.0.2"])), |dns, driver| {
        let ([one], port) = listeners(["127.0.0.2"]);
        let _one = origin(one, "one");
        let edge = Edge::start(&config(&[format!("web.test.:{port}")], "", dns.address), driver, 1);
        edge.wait("an address", |edge| edge.metric("lyre_dns_addresses") == 1);
        assert_eq!(edge.get("/").text(), "one", "{driver}");
    });
}

#[test]
fn a_server_that_does_not_answer_is_followed_by_the_next_one() {
    let (silent, other) = (Scripted::start(Say::Nothing), Scripted::start(Say::NoName));
    other.say(Say::Addresses(60, addresses(&["127.0.0.2"])));
    let ([one], port) = listeners(["127.0.0.2"]);
    let _one = origin(one, "one");
    let text = config(&[format!("web.test.:{port}")], "", silent.address);
    let both = dns::config(&[silent.address, other.address]);
    let edge = Edge::start(&text.replace(&dns::config(&[silent.address]), &both), "epoll", 1);
    edge.wait("an address", |edge| edge.metric("lyre_dns_addresses") == 1);
    assert_eq!(edge.get("/").text(), "one");
}

#[test]
fn localhost_needs_no_dns_server_and_a_reload_keeps_what_is_known() {
    let dns = Scripted::start(Say::Addresses(60, addresses(&["127.0.0.2"])));
    on_each_driver(&config(&["localhost:1".to_owned()], "", dns.address), |edge| {
        edge.wait("localhost", |edge| edge.metric("lyre_dns_addresses") >= 1);
        let ([one, two], port) = listeners(["127.0.0.2", "127.0.0.1"]);
        let (_one, _two) = (origin(one, "one"), origin(two, "two"));
        edge.reload(&config(&[format!("localhost:{port}")], "", dns.address));
        edge.wait("another port of it", |edge| edge.get("/").text() == "two");
        edge.reload(&config(&[format!("web.test.:{port}")], "", dns.address));
        edge.wait("another name", |edge| edge.get("/").text() == "one");
        // The server stays what it is: not one request meets an edge that has to look it up again.
        dns.say(Say::Nothing);
        for number in 0..10 {
            let more = format!("connect_timeout = \"{}s\"", number + 1);
            edge.reload(&config(&[format!("web.test.:{port}")], &more, dns.address));
            assert_eq!(edge.get("/").text(), "one");
        }
        dns.say(Say::Addresses(60, addresses(&["127.0.0.2"])));
    });
}
