//! What an operator is told, on a LAN of namespaces: each condition is made, and its alarm appears where it should.

#![allow(clippy::unwrap_used)]

mod wire;

use std::process::Command;
use std::time::Duration;
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{Lan, Node, eventually, is_installed, on_a_lan};

const ADDRESSES: [&str; 2] = ["10.77.0.100/24", "fd77::100/128"];
const SOON: Duration = Duration::from_secs(8);
/// A look below the firewall comes every ten seconds.
const LOOKED: Duration = Duration::from_secs(25);

fn active(node: &Node, options: &str) -> Speaker {
    let speaker = Speaker::start(node, options, &ADDRESSES);
    ["v4", "v6"].iter().for_each(|family| speaker.becomes("Active", family, SOON));
    speaker
}

fn pair(lan: &Lan) -> ((Node, Speaker), (Node, Speaker)) {
    let (a, b) = (lan.node(1), lan.node(2));
    let first = active(&a, "--priority 254");
    let mut second = Speaker::start(&b, "--priority 253", &ADDRESSES);
    for family in ["v4", "v6"] {
        eventually("the Backup hears the Active", SOON, || !second.status(family).contains(r#""received":0,"#));
    }
    ((a, first), (b, second))
}

fn alarms(speaker: &mut Speaker, family: &str) -> Vec<String> {
    let status = speaker.status(family);
    let list = status.split(r#""alarms":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn raises(speaker: &mut Speaker, alarm: &str, limit: Duration) {
    for family in ["v4", "v6"] {
        eventually(&format!("{family} raises {alarm}"), limit, || {
            alarms(speaker, family).iter().any(|raised| raised == alarm)
        });
    }
}

fn nft(node: &Node, arguments: &str) {
    let mut command = Command::new("nft");
    command.args(arguments.split_whitespace());
    assert!(node.enter(|| command.status()).unwrap().success(), "nft {arguments}");
}

/// Drops or refuses adverts in one direction.
fn filter(node: &Node, hook: &str) {
    nft(node, "add table inet filter");
    nft(node, &format!("add chain inet filter {hook} {{ type filter hook {hook} priority 0 ; }}"));
    nft(node, &format!("add rule inet filter {hook} meta l4proto 112 drop"));
}

#[test]
fn a_firewall_that_eats_incoming_adverts_is_named_on_both_sides() {
    let name = "a_firewall_that_eats_incoming_adverts_is_named_on_both_sides";
    if !is_installed("nft", name) {
        return;
    }
    on_a_lan(name, |lan| {
        let tap = Tap::on(lan);
        let ((a, mut first), (b, mut second)) = pair(lan);
        filter(&b, "input");
        let split = tap.now();
        ["v4", "v6"].iter().for_each(|family| second.becomes("Active", family, SOON));
        raises(&mut second, "filtered", LOOKED);
        raises(&mut first, "not_heard", LOOKED);
        assert_eq!(first.state("v4"), "Active", "the rightful one stays");
        // The duel is no storm: two forms a second and what the schedule of a take-over has besides.
        let seconds = (tap.now() - split).as_secs() as usize + 1;
        let mac: Vec<u8> =
            a.interface("eth0").unwrap().0.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
        let is_arp =
            |bytes: &[u8]| bytes.get(12..14) == Some(&[0x08, 0x06]) && bytes.get(28..32) == Some(&[10, 77, 0, 100]);
        let frames = tap.frames();
        let count =
            frames.iter().filter(|f| f.at >= split && f.bytes.get(6..12) == Some(&mac) && is_arp(&f.bytes)).count();
        assert!(count <= 2 * seconds + 12, "{count} announcements in {seconds} s");
        nft(&b, "flush ruleset");
        ["v4", "v6"].iter().for_each(|family| second.becomes("Backup", family, SOON));
    });
}

#[test]
fn a_firewall_that_refuses_outgoing_adverts_is_named() {
    let name = "a_firewall_that_refuses_outgoing_adverts_is_named";
    if !is_installed("nft", name) {
        return;
    }
    on_a_lan(name, |lan| {
        let a = lan.node(1);
        let mut speaker = active(&a, "--priority 254");
        filter(&a, "output");
        raises(&mut speaker, "send_refused", SOON);
    });
}

#[test]
fn a_peer_with_another_interval_is_named() {
    on_a_lan("a_peer_with_another_interval_is_named", |lan| {
        let (a, b) = (lan.node(1), lan.node(2));
        let _first = active(&a, "--priority 254");
        let mut second = Speaker::start(&b, "--priority 253 --interval-ms 200", &ADDRESSES);
        raises(&mut second, "interval_mismatch", SOON);
        assert_eq!(second.state("v4"), "Backup");
    });
}

#[test]
fn a_stranger_with_our_vrid_is_named() {
    on_a_lan("a_stranger_with_our_vrid_is_named", |lan| {
        let (a, c) = (lan.node(1), lan.node(3));
        let _first = active(&a, "--priority 254");
        let mut stranger = Speaker::start(&c, "--priority 100", &["10.77.0.200/24", "fd77::200/128"]);
        raises(&mut stranger, "duplicate_vrid", SOON);
    });
}

#[test]
fn a_node_with_our_own_address_is_named() {
    on_a_lan("a_node_with_our_own_address_is_named", |lan| {
        let (a, c) = (lan.node(1), lan.node(3));
        let mut first = Speaker::start(&a, "--priority 200", &ADDRESSES);
        ["v4", "v6"].iter().for_each(|family| first.becomes("Active", family, SOON));
        c.ip("address flush dev eth0");
        c.ip("address add 10.77.0.1/24 dev eth0");
        c.ip("address add fe80::1/64 dev eth0 nodad");
        let _twin = Speaker::start(&c, "--priority 254", &ADDRESSES);
        // Over IPv4 the kernel drops what comes from an address of its own; only the look below it sees the twin.
        raises(&mut first, "address_conflict", LOOKED);
        assert_eq!(first.state("v4"), "Active", "nothing can be decided between two of the same name");
    });
}

#[test]
fn a_service_that_keeps_removing_addresses_is_named() {
    on_a_lan("a_service_that_keeps_removing_addresses_is_named", |lan| {
        let tap = Tap::on(lan);
        let a = lan.node(1);
        let mut speaker = active(&a, "--priority 254");
        for time in 1..=2 {
            // What goes within a tenth of a second goes at once.
            let before = tap.now();
            eventually("a few adverts", SOON, || tap.adverts(true, before).len() > 4);
            eventually("the addresses are there", SOON, || a.has("10.77.0.100") && a.has("fd77::100"));
            a.ip("address delete 10.77.0.100/24 dev eth0");
            a.ip("address delete fd77::100/128 dev eth0");
            eventually("it was noticed", SOON, || {
                speaker.count(&[&format!("AddressRestored {{ count: {time} }}")]) == 2
            });
        }
        raises(&mut speaker, "addresses_removed", SOON);
    });
}

#[test]
fn two_hundred_excluded_addresses_are_held_announced_and_moved() {
    on_a_lan("two_hundred_excluded_addresses_are_held_announced_and_moved", |lan| {
        let tap = Tap::on(lan);
        let (a, b) = (lan.node(1), lan.node(2));
        let excluded: Vec<String> = (0..200).map(|host| format!("10.77.1.{host}")).collect();
        let options: String = excluded.iter().map(|address| format!(" --excluded {address}/32")).collect();
        let first = active(&a, &format!("--priority 254{options}"));
        let has_all = |node: &Node| {
            let list = node.ip("-o -4 address show dev eth0");
            excluded.iter().filter(|address| list.contains(&format!(" {address}/32 "))).count()
        };
        eventually("all are there", SOON, || has_all(&a) == 200);
        let announced = |address: &str| {
            let octets: Vec<u8> = address.split('.').map(|part| part.parse().unwrap()).collect();
            let is_it = |bytes: &[u8]| bytes.get(12..14) == Some(&[8, 6]) && bytes.get(28..32) == Some(&octets);
            tap.frames().iter().filter(|frame| is_it(&frame.bytes)).count()
        };
        for address in [&excluded[0], &excluded[31], &excluded[32], &excluded[199]] {
            eventually("both forms of it", SOON, || announced(address) >= 2);
        }
        let adverts = tap.adverts(true, Duration::ZERO);
        assert!(adverts.iter().all(|seen| seen.advert.addresses.len() == 1), "none of them is advertised");
        let second = Speaker::start(&b, &format!("--priority 253{options}"), &ADDRESSES);
        second.becomes("Backup", "v4", SOON);
        a.cut_cable();
        ["v4", "v6"].iter().for_each(|family| second.becomes("Active", family, SOON));
        eventually("all have moved", SOON, || has_all(&b) == 200 && has_all(&a) == 0);
        drop(first);
    });
}
