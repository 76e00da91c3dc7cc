//! The virtual hardware address: beside the real keepalived with `use_vmac`, both roles, both families, and through
//! everything that can happen to the interface below.

#![allow(clippy::unwrap_used)]

mod wire;

use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;
use wire::keepalived::Keepalived;
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{Lan, Node, eventually, is_installed, on_a_lan};

const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";
const ADDRESSES: [&str; 2] = ["10.77.0.100/24", "fd77::100/128"];
const MAC_V4: &str = "00:00:5e:00:01:33";
const MAC_V6: &str = "00:00:5e:00:02:33";
const MACVLANS: [&str; 2] = ["vrrp4-51", "vrrp6-51"];
const SOON: Duration = Duration::from_secs(8);
const INTERVAL: Duration = Duration::from_millis(100);

/// Answers every connection to any address of the node with the node's number, for as long as the process lives.
fn serve(node: &Node) {
    let number = node.number;
    let listener = node.enter(|| TcpListener::bind("[::]:7777").unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&[number]);
        }
    });
}

/// Who answers at an address, as a client sees it.
fn who_answers(client: &Node, address: &str) -> Option<u8> {
    let scope = client.interface("eth0").unwrap().1;
    let to = match address.parse().unwrap() {
        IpAddr::V4(v4) => SocketAddr::from((v4, 7777)),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 7777, 0, scope).into(),
    };
    client.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(300)).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        let mut number = [0];
        stream.read_exact(&mut number).ok()?;
        Some(number[0])
    })
}

/// The client reaches this node at both virtual addresses, and knows them under their virtual hardware addresses, also
/// after the node had to ask for the client's.
#[track_caller]
fn serves(client: &Node, node: &Node, after: &str) {
    for (address, mac, own) in [(V4, MAC_V4, node.address_v4()), (V6, MAC_V6, node.address_v6())] {
        node.ip("neighbour flush dev eth0");
        eventually(&format!("{} answers at {address} after {after}", node.number), SOON, || {
            assert!(client.neighbour(address).is_none_or(|known| known == mac), "{address} after {after}");
            who_answers(client, address) == Some(node.number)
        });
        assert_eq!(client.neighbour(address).as_deref(), Some(mac), "{address} after {after}");
        let physical = node.interface("eth0").unwrap().0;
        if own.is_ipv4() {
            assert_eq!(who_answers(client, &own.to_string()), Some(node.number), "at its own address");
            assert_eq!(client.neighbour(&own.to_string()), Some(physical), "under its own hardware address");
        }
    }
}

fn start(node: &Node, priority: u8) -> Speaker {
    Speaker::start(node, &format!("--priority {priority} --virtual-mac virtual"), &ADDRESSES)
}

#[track_caller]
fn is_active(speaker: &Speaker) {
    ["v4", "v6"].iter().for_each(|family| speaker.becomes("Active", family, SOON));
}

fn beside_keepalived(lan: &Lan, priority: u8) {
    let tap = Tap::on(lan);
    let (a, b, client) = (lan.node(1), lan.node(2), lan.node(3));
    // The strictest the whole host can ask for: the macvlan's own setting has to win.
    a.set("ipv4/conf/all/rp_filter", "1");
    // keepalived leaves this at 0, and then asks for the client in the name of the virtual address with its own MAC.
    b.set("ipv4/conf/eth0/arp_announce", "2");
    [&a, &b].iter().for_each(|node| serve(node));
    let mut lyre = start(&a, priority);
    is_active(&lyre);
    serves(&client, &a, "Lyre started");
    assert!(!a.has(V4) && !a.has(V6) && a.has_on(MACVLANS[0], V4) && a.has_on(MACVLANS[1], V6));
    let mut keepalived = Keepalived::start(&b, 200, INTERVAL, &ADDRESSES, "use_vmac");
    let preferred = if priority > 200 { &a } else { &b };
    eventually("the preferred one serves", SOON, || who_answers(&client, V4) == Some(preferred.number));
    serves(&client, preferred, "keepalived started");
    if priority > 200 {
        lyre.signal(Signal::SIGTERM);
        lyre.ends(SOON);
        assert!(MACVLANS.iter().all(|name| a.interface(name).is_none()), "removed at the end");
        assert_eq!(a.setting("ipv4/conf/eth0/arp_ignore"), "0", "as it was");
        serves(&client, &b, "Lyre ended");
        lyre = start(&a, priority);
        ["v4", "v6"].iter().for_each(|family| lyre.becomes("Backup", family, SOON));
    }
    let since = tap.now();
    eventually("ten adverts of keepalived", SOON, || tap.adverts(true, since).len() > 10);
    assert_eq!(tap.actives(true, since), [b.address_v4()], "heard, though it comes from our own virtual MAC");
    keepalived.stop();
    is_active(&lyre);
    serves(&client, &a, "keepalived ended");
    keepalived = Keepalived::start(&b, 200, INTERVAL, &ADDRESSES, "use_vmac");
    serves(&client, preferred, "keepalived came back");
    // Both Active on their own island, then together: each hears the other, although both have the same MAC.
    a.isolate();
    eventually("both are Active", SOON, || {
        lyre.state("v4") == "Active" && b.has_on("vrrp.51", V4) && lyre.state("v6") == "Active"
    });
    a.rejoin();
    let healed = tap.now();
    eventually("one Active", SOON, || {
        let since = tap.now() - INTERVAL * 4;
        since > healed && [true, false].iter().all(|is_v4| tap.actives(*is_v4, since).len() == 1)
    });
    serves(&client, preferred, "the LAN healed");
    keepalived.crash();
    is_active(&lyre);
    assert_eq!(tap.tshark("vrrp && ip && eth.src != 00:00:5e:00:01:33"), "");
    assert_eq!(tap.tshark("vrrp && ipv6 && eth.src != 00:00:5e:00:02:33"), "");
    assert_eq!(tap.tshark("vrrp.version == 3 && vrrp.checksum.status != 1"), "");
    assert_eq!(tap.tshark("vrrp && ip && (ip.checksum.status == 0 || ip.ttl != 255)"), "");
    assert_eq!(tap.tshark("vrrp && ipv6 && ipv6.hlim != 255"), "");
}

#[test]
fn a_client_keeps_its_entry_when_lyre_is_preferred() {
    let name = "a_client_keeps_its_entry_when_lyre_is_preferred";
    if is_installed("keepalived", name) && is_installed("tshark", name) {
        on_a_lan(name, |lan| beside_keepalived(lan, 254));
    }
}

#[test]
fn a_client_keeps_its_entry_when_keepalived_is_preferred() {
    let name = "a_client_keeps_its_entry_when_keepalived_is_preferred";
    if is_installed("keepalived", name) && is_installed("tshark", name) {
        on_a_lan(name, |lan| beside_keepalived(lan, 150));
    }
}

#[test]
fn a_backup_is_mute_and_deaf_under_the_virtual_mac() {
    on_a_lan("a_backup_is_mute_and_deaf_under_the_virtual_mac", |lan| {
        let tap = Tap::on(lan);
        let (a, b) = (lan.node(1), lan.node(2));
        let first = start(&a, 254);
        is_active(&first);
        let second = start(&b, 253);
        ["v4", "v6"].iter().for_each(|family| second.becomes("Backup", family, SOON));
        for name in MACVLANS {
            eventually("the Backup has its macvlans, down", SOON, || {
                b.interface(name).is_some() && !b.ip(&format!("link show dev {name}")).contains(",UP")
            });
        }
        first.signal(Signal::SIGSTOP);
        is_active(&second);
        first.signal(Signal::SIGCONT);
        ["v4", "v6"].iter().for_each(|family| first.becomes("Backup", family, SOON));
        let since = tap.now();
        eventually("the woken node has let go", SOON, || {
            MACVLANS.iter().all(|name| !a.ip(&format!("link show dev {name}")).contains(",UP"))
        });
        eventually("ten adverts", SOON, || tap.adverts(true, since).len() > 10);
        // Reports of the Backup would lead switches to it. (Those of an Active are right.)
        let macs = [MAC_V4, MAC_V6].map(|mac| format!("eth.src == {mac}")).join(" || ");
        let stray = tap.tshark(&format!("({macs}) && (igmp || icmpv6.type == 133)"));
        assert_eq!(stray, "");
    });
}

#[test]
fn the_macvlan_survives_whatever_happens_to_the_interface_below() {
    on_a_lan("the_macvlan_survives_whatever_happens_to_the_interface_below", |lan| {
        let (a, client) = (lan.node(1), lan.node(3));
        serve(&a);
        let speaker = start(&a, 254);
        is_active(&speaker);
        serves(&client, &a, "the start");

        let transitions = |to: &str| speaker.count(&[&format!(r#""to":"{to}""#)]);
        a.cut_cable();
        eventually("it notices", SOON, || transitions("Initialize") == 2);
        a.mend_cable();
        eventually("it is Active again", SOON, || transitions("Active") == 4);
        serves(&client, &a, "the cable was mended");

        a.unplug();
        eventually("it notices", SOON, || transitions("Initialize") == 4);
        a.plug_in();
        eventually("it is Active again", SOON, || transitions("Active") == 6);
        serves(&client, &a, "the card was put back");

        MACVLANS.iter().for_each(|name| _ = a.ip(&format!("link delete {name}")));
        eventually("it makes new ones", SOON, || a.has_on(MACVLANS[0], V4) && a.has_on(MACVLANS[1], V6));
        serves(&client, &a, "somebody deleted the macvlans");

        MACVLANS.iter().for_each(|name| _ = a.ip(&format!("link set {name} down")));
        eventually("it sets them up", SOON, || {
            MACVLANS.iter().all(|name| a.ip(&format!("link show dev {name}")).contains(",UP"))
                && a.has_on(MACVLANS[1], V6)
        });
        serves(&client, &a, "somebody set the macvlans down");
    });
}

#[test]
fn a_killed_speaker_loses_the_addresses_and_its_successor_adopts_the_macvlan() {
    on_a_lan("a_killed_speaker_loses_the_addresses_and_its_successor_adopts_the_macvlan", |lan| {
        let (a, client) = (lan.node(1), lan.node(3));
        serve(&a);
        let first = start(&a, 254);
        is_active(&first);
        first.signal(Signal::SIGKILL);
        let numbers = || MACVLANS.map(|name| a.interface(name).map(|(_, number)| number));
        let before = numbers();
        assert!(before.iter().all(Option::is_some));
        eventually("the lease ends", SOON, || !a.has_on(MACVLANS[0], V4) && !a.has_on(MACVLANS[1], V6));
        let mut second = start(&a, 254);
        is_active(&second);
        serves(&client, &a, "a crash");
        assert_eq!(numbers(), before, "the same interfaces");
        second.signal(Signal::SIGTERM);
        second.ends(SOON);
        assert_eq!(numbers(), [None, None]);
    });
}

#[test]
fn adverts_from_the_base_leave_with_its_own_hardware_address() {
    let name = "adverts_from_the_base_leave_with_its_own_hardware_address";
    if !is_installed("tshark", name) {
        return;
    }
    on_a_lan(name, |lan| {
        let tap = Tap::on(lan);
        let (a, client) = (lan.node(1), lan.node(3));
        serve(&a);
        let options = "--priority 254 --virtual-mac base";
        let speaker = Speaker::start(&a, options, &ADDRESSES);
        is_active(&speaker);
        serves(&client, &a, "the start");
        let physical = a.interface("eth0").unwrap().0;
        assert_eq!(tap.tshark(&format!("vrrp && eth.src != {physical}")), "");
    });
}

#[test]
fn link_local_addresses_and_excluded_ones_of_the_other_family_answer_too() {
    on_a_lan("link_local_addresses_and_excluded_ones_of_the_other_family_answer_too", |lan| {
        let (a, b, client) = (lan.node(1), lan.node(2), lan.node(3));
        [&a, &b].iter().for_each(|node| serve(node));
        let answers = |address: &str, node: &Node, mac: &str| {
            eventually(&format!("{address} answers"), SOON, || who_answers(&client, address) == Some(node.number));
            assert_eq!(client.neighbour(address).as_deref(), Some(mac));
        };
        let mut first = Speaker::start(&a, "--priority 254 --virtual-mac virtual", &["fe80::77:100/128"]);
        first.becomes("Active", "v6", SOON);
        answers("fe80::77:100", &a, MAC_V6);
        first.signal(Signal::SIGTERM);
        first.ends(SOON);
        let options = "--virtual-mac virtual --excluded 10.77.0.101/24 --excluded fd77::101/64";
        let first = Speaker::start(&a, &format!("--priority 254 {options}"), &["10.77.0.100/24"]);
        first.becomes("Active", "v4", SOON);
        let all = ["10.77.0.100", "10.77.0.101", "fd77::101"];
        all.iter().for_each(|address| answers(address, &a, MAC_V4));
        let mut second = Speaker::start(&b, &format!("--priority 253 {options}"), &["10.77.0.100/24"]);
        eventually("the Backup hears the Active", SOON, || !second.status("v4").contains(r#""received":0,"#));
        a.isolate();
        second.becomes("Active", "v4", SOON);
        all.iter().for_each(|address| answers(address, &b, MAC_V4));
        for name in ["accept_ra", "autoconf", "disable_ipv6"] {
            assert_eq!(b.setting(&format!("ipv6/conf/vrrp4-51/{name}")), "0", "{name}");
        }
    });
}
