//! Servers of a service that are named.

use crate::dns::{self, Say, Scripted};
use crate::edge::{Echo, Edge};
use std::io::Write;
use std::net::{IpAddr, TcpListener};

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// Echo servers at two loopback addresses and one port.
fn echoes() -> (Echo, Echo, u16) {
    loop {
        let one = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.3", port)) {
            return (Echo::on(one, "one"), Echo::on(two, "two"), port);
        }
    }
}

#[test]
fn sessions_go_to_where_the_name_leads_when_they_begin() {
    for driver in ["epoll", "io_uring"] {
        let dns = Scripted::start(Say::NoName);
        let (_one, _two, port) = echoes();
        let keys = format!(
            "servers = [\"db.test:{port}\"]\ncheck = {{ interval = \"100ms\" }}\n{}",
            dns::config(&[dns.address])
        );
        let edge = Edge::start(&keys, driver, 1);
        edge.wait("the name is asked for", |edge| {
            edge.service()["servers"][0]["reason"] == "not resolved yet: the name has no address"
        });
        assert_eq!(edge.state(0), "down", "{driver}");

        dns.say(Say::Addresses(1, addresses(&["127.0.0.2"])));
        edge.wait("a server", |edge| edge.service()["usable"] == 1);
        let mut session = edge.connect();
        assert_eq!(crate::edge::line(&mut session).unwrap(), "one", "{driver}");

        dns.say(Say::Addresses(1, addresses(&["127.0.0.3"])));
        edge.wait("another address", |edge| edge.metric("lyre_dns_changes_total") == 2);
        assert_eq!(edge.first_line().unwrap(), "two", "{driver}");
        // What runs stays where it began.
        session.write_all(b"still here\n").unwrap();
        assert_eq!(crate::edge::line(&mut session).unwrap(), "still here", "{driver}");
    }
}
