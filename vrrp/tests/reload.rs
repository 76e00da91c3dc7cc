//! Reload is a difference: what did not change does not move, and what did is followed without leaving the state.
//!
//! Two speakers on one LAN. A hole in the adverts of the Active would show as a transition of the Backup.
#![allow(clippy::unwrap_used)]

mod wire;

use lyre_vrrp::authentication::{Freshness, Key, Mode};
use lyre_vrrp::machine::{Event, Health, Preempt, Settings, State};
use lyre_vrrp::packet::{Dialect, Family, Peer, Peers};
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use lyre_vrrp::runner::{Authentication, Command, Handle, Host, Options, Router, RouterStatus, Speaker, Speech};
use std::os::fd::RawFd;
use std::time::Duration;
use wire::{Lan, Node, eventually, on_a_lan};

const SOON: Duration = Duration::from_secs(10);

struct Owner;

impl Host for Owner {
    fn watch(&self, _: &mut Vec<RawFd>) {}

    fn health(&mut self, _: Time) -> Health {
        Health::Able
    }

    fn report(&mut self, _: usize, _: &Event) {}
}

/// IPv4 with these addresses in 10.77.0.0/24.
fn router(name: &str, vrid: u8, priority: u8, hosts: &[u8]) -> Router {
    let addresses: Vec<ipnet::IpNet> = hosts.iter().map(|host| format!("10.77.0.{host}/24").parse().unwrap()).collect();
    let settings = Settings {
        vrid: Vrid::new(vrid).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(priority),
        advert_interval: Centis::new(10).unwrap(),
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: addresses.iter().map(|network| network.addr()).collect(),
    };
    Router::new(name.to_owned(), "eth0".to_owned(), settings, addresses, Duration::from_secs(3))
}

fn ipv6(name: &str, vrid: u8, priority: u8) -> Router {
    let mut router = router(name, vrid, priority, &[]);
    router.settings.family = Family::V6;
    router.settings.addresses = vec!["fd77::100".parse().unwrap()];
    router.addresses = vec!["fd77::100/64".parse().unwrap()];
    router
}

fn in_group(router: Router) -> Router {
    Router { sync_group: Some("all".to_owned()), ..router }
}

fn signed(router: Router, keys: &[u8], mode: Mode) -> Router {
    let keys = keys.iter().map(|id| Key::new(*id, vec![*id; 32]).unwrap()).collect();
    let authentication = Authentication::new(keys, mode, Freshness::Growth);
    let dialect = Dialect { has_trailer: true, ..Dialect::default() };
    Router { speech: Speech { dialect, authentication, ..Speech::default() }, ..router }
}

fn unicast(router: Router, peers: &[u8]) -> Router {
    let peer = |host: &u8| Peer { address: [10, 77, 0, *host].into(), ttl: 255..=255 };
    let dialect = Dialect { peers: Peers::Unicast(peers.iter().map(peer).collect()), ..Dialect::default() };
    Router { speech: Speech { dialect, ..Speech::default() }, ..router }
}

struct Pair {
    nodes: [Node; 2],
    handles: [Handle; 2],
}

impl Pair {
    /// The first node is Active with everything, the second one Backup and has heard it.
    fn settled(lan: &Lan, routers: impl Fn(u8) -> Vec<Router>) -> Pair {
        let nodes = [lan.node(1), lan.node(2)];
        let start = |node: &Node, priority| {
            let routers = routers(priority);
            node.enter(|| Speaker::start(routers, Box::new(Owner), Options::default()).unwrap())
        };
        let first = start(&nodes[0], 254);
        eventually("the first is Active", SOON, || first.status().iter().all(|status| status.state == State::Active));
        let second = start(&nodes[1], 253);
        let hears = |status: &RouterStatus| status.state == State::Backup && status.active_peer.is_some();
        eventually("the second hears it", SOON, || second.status().iter().all(hears));
        Pair { nodes, handles: [first, second] }
    }

    /// Both nodes, one after the other, the given one first; the other only when that has heard or sent adverts anew.
    fn reload_from(&self, first: usize, routers: impl Fn(u8) -> Vec<Router>) {
        for node in [first, 1 - first] {
            let wanted = routers(if node == 0 { 254 } else { 253 });
            let names: Vec<String> = wanted.iter().map(|router| router.name.clone()).collect();
            let priorities: Vec<Priority> = wanted.iter().map(|router| router.settings.priority).collect();
            self.handles[node].command(Command::Reload(wanted));
            eventually("the new set", SOON, || {
                let status = self.handles[node].status();
                status.iter().map(|status| status.name.clone()).collect::<Vec<_>>() == names
                    && status.iter().zip(&priorities).all(|(status, priority)| status.priority == *priority)
            });
            self.five_more_adverts();
        }
    }

    /// Long enough for every timer of a Backup.
    fn five_more_adverts(&self) {
        let sent =
            |handle: &Handle| handle.status().iter().map(|status| status.counters.adverts_sent).collect::<Vec<_>>();
        let before = sent(&self.handles[0]);
        eventually("five more adverts", SOON, || {
            sent(&self.handles[0]).iter().zip(&before).all(|(now, before)| *now >= before + 5)
        });
    }

    /// The first is Active since its start, and the second never was and never heard a release.
    #[track_caller]
    fn nothing_moved(&self) {
        for status in self.handles[0].status() {
            assert_eq!((status.state, status.counters.transitions_to_active), (State::Active, 1), "{}", status.name);
            assert_eq!(status.counters.releases_sent, 0, "{}", status.name);
        }
        for status in self.handles[1].status() {
            assert_eq!((status.state, status.counters.transitions_to_active), (State::Backup, 0), "{}", status.name);
        }
    }

    fn end(self) {
        for handle in self.handles.iter().rev() {
            handle.command(Command::Shutdown);
            handle.join().unwrap();
        }
    }
}

/// Raw sockets of a node, each by its number.
fn sockets(node: &Node) -> Vec<String> {
    let table = node.enter(|| std::fs::read_to_string("/proc/thread-self/net/raw").unwrap());
    let mut inodes: Vec<String> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned)).collect();
    inodes.sort();
    inodes
}

#[test]
fn what_did_not_change_keeps_state_and_sockets_even_under_another_name() {
    on_a_lan("what_did_not_change_keeps_state_and_sockets_even_under_another_name", |lan| {
        let pair = Pair::settled(lan, |p| vec![router("vip1-v4", 1, p, &[101]), router("vip2-v4", 2, p, &[102])]);
        let before = pair.nodes.each_ref().map(sockets);
        assert_eq!(before[0].len(), 4, "two of each router");
        pair.reload_from(0, |p| vec![router("vip1-v4", 1, p, &[101]), router("vip2-v4", 2, p, &[102])]);
        assert_eq!(pair.nodes.each_ref().map(sockets), before);
        // The first one goes, which renumbers the second.
        pair.reload_from(0, |p| vec![router("vip1-v4", 2, p, &[102])]);
        pair.nothing_moved();
        let after = pair.nodes.each_ref().map(sockets);
        assert!(
            after.iter().zip(&before).all(|(now, before)| now.len() == 2 && now.iter().all(|s| before.contains(s)))
        );
        pair.end();
    });
}

#[test]
fn another_priority_makes_no_gap_on_either_node() {
    on_a_lan("another_priority_makes_no_gap_on_either_node", |lan| {
        let pair = Pair::settled(lan, |p| vec![router("vip", 1, p, &[101])]);
        let before = pair.nodes.each_ref().map(sockets);
        pair.reload_from(0, |p| vec![router("vip", 1, p - 100, &[101])]);
        // Upside down: nobody preempts.
        pair.reload_from(1, |p| vec![router("vip", 1, if p == 254 { 100 } else { 200 }, &[101])]);
        pair.nothing_moved();
        assert_eq!(pair.nodes.each_ref().map(sockets), before);
        pair.end();
    });
}

#[test]
fn addresses_come_and_go_one_node_after_the_other_without_a_second_active() {
    on_a_lan("addresses_come_and_go_one_node_after_the_other_without_a_second_active", |lan| {
        let pair = Pair::settled(lan, |p| vec![router("vip", 1, p, &[101])]);
        for first in [0, 1] {
            pair.reload_from(first, |p| vec![router("vip", 1, p, &[101, 111])]);
            eventually("the new address is there", SOON, || pair.nodes[0].has("10.77.0.111"));
            assert!(!pair.nodes[1].has("10.77.0.111") && !pair.nodes[1].has("10.77.0.101"));
            pair.reload_from(first, |p| vec![router("vip", 1, p, &[101])]);
            eventually("and gone", SOON, || !pair.nodes[0].has("10.77.0.111"));
            assert!(pair.nodes[0].has("10.77.0.101"));
        }
        pair.nothing_moved();
        assert!(pair.handles[1].status()[0].counters.address_list_mismatches > 0, "they did differ for a while");
        pair.end();
    });
}

#[test]
fn a_first_ipv6_address_joins_the_group_and_moves_nothing() {
    on_a_lan("a_first_ipv6_address_joins_the_group_and_moves_nothing", |lan| {
        let pair = Pair::settled(lan, |p| vec![router("vip-v4", 1, p, &[101])]);
        for first in [1, 0] {
            pair.reload_from(first, |p| vec![in_group(router("vip-v4", 1, p, &[101])), in_group(ipv6("vip-v6", 1, p))]);
            eventually("both families are Active on the first", SOON, || {
                pair.handles[0].status().iter().all(|status| status.state == State::Active)
            });
            assert_eq!(pair.handles[0].status()[0].counters.transitions_to_active, 1);
            assert_eq!(pair.handles[0].status()[0].counters.releases_sent, 0, "nobody yields to a newcomer");
            assert!(pair.handles[1].status().iter().all(|s| s.counters.transitions_to_active == 0));
            pair.reload_from(first, |p| vec![router("vip-v4", 1, p, &[101])]);
            eventually("the address is gone", SOON, || !pair.nodes[0].has("fd77::100"));
        }
        pair.nothing_moved();
        pair.end();
    });
}

#[test]
fn signing_begins_and_keys_rotate_one_node_after_the_other() {
    on_a_lan("signing_begins_and_keys_rotate_one_node_after_the_other", |lan| {
        let plain = |p| router("vip", 1, p, &[101]);
        let pair = Pair::settled(lan, |p| vec![plain(p)]);
        let before = pair.nodes.each_ref().map(sockets);
        let steps: [(&[u8], Mode); 6] = [
            (&[1], Mode::ReceiveOnly),
            (&[1], Mode::Permissive),
            (&[1], Mode::Enforce),
            (&[1, 2], Mode::Enforce),
            (&[2, 1], Mode::Enforce),
            (&[2], Mode::Enforce),
        ];
        for (step, (keys, mode)) in steps.into_iter().enumerate() {
            pair.reload_from(step % 2, |p| vec![signed(plain(p), keys, mode)]);
        }
        pair.nothing_moved();
        assert_eq!(pair.nodes.each_ref().map(sockets), before);
        // It is the key that counts now.
        let drops = || pair.handles[1].status()[0].counters.drops.authentication;
        let dropped = drops();
        pair.handles[0].command(Command::Reload(vec![signed(plain(254), &[3], Mode::Enforce)]));
        eventually("adverts with an unknown key are dropped", SOON, || drops() > dropped);
        pair.end();
    });
}

#[test]
fn peers_come_and_go_without_new_sockets() {
    on_a_lan("peers_come_and_go_without_new_sockets", |lan| {
        let of = |p: u8, more: &[u8]| {
            let mut peers = vec![if p == 254 { 2 } else { 1 }];
            peers.extend(more);
            vec![unicast(router("vip", 1, p, &[101]), &peers)]
        };
        let pair = Pair::settled(lan, |p| of(p, &[]));
        let before = pair.nodes.each_ref().map(sockets);
        pair.reload_from(0, |p| of(p, &[3]));
        pair.reload_from(1, |p| of(p, &[]));
        pair.nothing_moved();
        assert_eq!(pair.nodes.each_ref().map(sockets), before);
        pair.end();
    });
}

#[test]
fn from_multicast_to_unicast_the_active_stays_active() {
    on_a_lan("from_multicast_to_unicast_the_active_stays_active", |lan| {
        let node = lan.node(1);
        let plain = || router("vip", 1, 254, &[101]);
        let handle = node.enter(|| Speaker::start(vec![plain()], Box::new(Owner), Options::default()).unwrap());
        eventually("Active", SOON, || handle.status()[0].state == State::Active);
        handle.command(Command::Reload(vec![unicast(plain(), &[2])]));
        let sent = |handle: &Handle| handle.status()[0].counters.clone();
        let before = sent(&handle).adverts_sent;
        eventually("it goes on advertising", SOON, || sent(&handle).adverts_sent > before + 10);
        assert_eq!((sent(&handle).transitions_to_active, sent(&handle).releases_sent), (1, 0));
        assert_eq!(sockets(&node).len(), 2);
        handle.command(Command::Shutdown);
        handle.join().unwrap();
    });
}
