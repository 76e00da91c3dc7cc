//! Two speakers on a LAN of namespaces: who serves after what, and how fast.

#![allow(clippy::unwrap_used)]

mod wire;

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{Lan, Node, eventually, on_a_lan};

const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";
const ADDRESSES: [&str; 2] = ["10.77.0.100/24", "fd77::100/128"];
const INTERVAL: Duration = Duration::from_millis(100);

/// For things that take milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(5);

/// Two nodes, of which `a` is Active for both families.
fn pair(lan: &Lan) -> ((Node, Speaker), (Node, Speaker)) {
    let (a, b) = (lan.node(1), lan.node(2));
    let speaker_a = Speaker::start(&a, "--priority 254", &ADDRESSES);
    ["v4", "v6"].iter().for_each(|family| speaker_a.becomes("Active", family, SOON));
    let mut speaker_b = Speaker::start(&b, "--priority 253", &ADDRESSES);
    // Only then it knows whose release to believe.
    for family in ["v4", "v6"] {
        eventually("the Backup hears the Active", SOON, || !speaker_b.status(family).contains(r#""received":0,"#));
        speaker_b.becomes("Backup", family, SOON);
    }
    ((a, speaker_a), (b, speaker_b))
}

fn holds(node: &Node) -> bool {
    node.has(V4) && node.has(V6)
}

fn holds_none(node: &Node) -> bool {
    !node.has(V4) && !node.has(V6)
}

#[test]
fn two_speakers_elect_one_active_that_has_the_addresses() {
    on_a_lan("two_speakers_elect_one_active_that_has_the_addresses", |lan| {
        let tap = Tap::on(lan);
        let (a, b) = (lan.node(1), lan.node(2));
        let speaker_a = Speaker::start(&a, "--priority 254", &ADDRESSES);
        let speaker_b = Speaker::start(&b, "--priority 253", &ADDRESSES);
        speaker_a.becomes("Active", "v4", SOON);
        speaker_a.becomes("Active", "v6", SOON);
        eventually("the Active has the addresses", SOON, || holds(&a));
        let settled = tap.now();
        eventually("ten adverts", SOON, || {
            tap.adverts(true, settled).len() > 10 && tap.adverts(false, settled).len() > 10
        });
        assert_eq!(tap.actives(true, settled), [a.address_v4()]);
        assert_eq!(tap.actives(false, settled), [a.address_v6()]);
        assert!(holds_none(&b));
        assert_eq!((speaker_b.state("v4"), speaker_b.state("v6")), ("Backup".into(), "Backup".into()));
        assert_eq!(tap.tshark("vrrp && vrrp.checksum.status != 1"), "");
        assert_eq!(tap.tshark("vrrp && ip && ip.ttl != 255"), "");
        assert_eq!(tap.tshark("vrrp && ipv6 && ipv6.hlim != 255"), "");
        let gratuitous = tap.tshark("arp.isgratuitous && arp.src.proto_ipv4 == 10.77.0.100");
        assert!(gratuitous.lines().count() >= 2, "both forms: {gratuitous}");
        assert_ne!(tap.tshark("icmpv6.type == 136 && icmpv6.nd.na.target_address == fd77::100"), "");
    });
}

#[test]
fn a_pulled_cable_moves_the_addresses_within_the_down_interval_and_one_more() {
    on_a_lan("a_pulled_cable_moves_the_addresses_within_the_down_interval_and_one_more", |lan| {
        let tap = Tap::on(lan);
        let ((a, speaker_a), (b, speaker_b)) = pair(lan);
        let cut = tap.now();
        a.cut_cable();
        speaker_b.becomes("Active", "v4", SOON);
        speaker_b.becomes("Active", "v6", SOON);
        eventually("the new Active has the addresses", SOON, || holds(&b));
        for (is_v4, source) in [(true, b.address_v4()), (false, b.address_v6())] {
            let first = tap.adverts(is_v4, cut).into_iter().find(|seen| seen.source == source).unwrap();
            let gap = first.at - cut;
            // Down interval 301 ms, one interval for the time between the cut and the next advert, scheduling.
            assert!(gap < INTERVAL * 4 + Duration::from_millis(150), "{gap:?}");
        }
        speaker_a.becomes("Initialize", "v4", SOON);
        eventually("the cut node has let go", SOON, || holds_none(&a));
        a.mend_cable();
        speaker_a.becomes("Backup", "v4", SOON);
        let back = tap.now();
        eventually("ten adverts", SOON, || tap.adverts(true, back).len() > 10);
        assert_eq!(tap.actives(true, back), [b.address_v4()], "the node that comes back does not take over");
    });
}

#[test]
fn a_killed_speaker_loses_the_addresses_by_their_lease() {
    on_a_lan("a_killed_speaker_loses_the_addresses_by_their_lease", |lan| {
        let ((a, speaker_a), (b, speaker_b)) = pair(lan);
        eventually("the Active has the addresses", SOON, || holds(&a));
        speaker_a.signal(Signal::SIGKILL);
        let killed = Instant::now();
        speaker_b.becomes("Active", "v4", SOON);
        eventually("the other node has the addresses", SOON, || holds(&b));
        eventually("the dead node has none", SOON, || holds_none(&a));
        assert!(killed.elapsed() < Duration::from_millis(4500), "lease of 3 s: {:?}", killed.elapsed());
    });
}

#[test]
fn an_active_that_stood_still_comes_back_as_backup() {
    on_a_lan("an_active_that_stood_still_comes_back_as_backup", |lan| {
        let tap = Tap::on(lan);
        let ((a, speaker_a), (b, speaker_b)) = pair(lan);
        speaker_a.signal(Signal::SIGSTOP);
        speaker_b.becomes("Active", "v4", SOON);
        speaker_b.becomes("Active", "v6", SOON);
        std::thread::sleep(Duration::from_secs(3)); // the stall itself
        speaker_a.signal(Signal::SIGCONT);
        let woken = tap.now();
        speaker_a.becomes("Backup", "v4", SOON);
        speaker_a.becomes("Backup", "v6", SOON);
        eventually("the woken node has no address", SOON, || holds_none(&a));
        eventually("ten adverts", SOON, || tap.adverts(true, woken).len() > 10);
        assert_eq!(tap.actives(true, woken), [b.address_v4()]);
        assert_eq!(tap.actives(false, woken), [b.address_v6()]);
        assert!(holds(&b));
    });
}

#[test]
fn an_address_that_somebody_removes_comes_back_at_once() {
    on_a_lan("an_address_that_somebody_removes_comes_back_at_once", |lan| {
        let tap = Tap::on(lan);
        let ((a, speaker_a), (b, _speaker_b)) = pair(lan);
        eventually("the Active has the addresses", SOON, || holds(&a));
        let start = tap.now();
        a.ip("address delete 10.77.0.100/24 dev eth0");
        a.ip("address delete fd77::100/128 dev eth0");
        eventually("both are back", Duration::from_secs(2), || holds(&a));
        speaker_a.expect(&["AddressRestored"], SOON);
        eventually("five adverts", SOON, || tap.adverts(true, start).len() > 5);
        assert_eq!(tap.actives(true, start), [a.address_v4()], "nobody else had to step in");
        assert!(holds_none(&b));
    });
}

#[test]
fn a_card_taken_out_and_put_back_works_again() {
    on_a_lan("a_card_taken_out_and_put_back_works_again", |lan| {
        let ((a, speaker_a), (b, speaker_b)) = pair(lan);
        a.unplug();
        speaker_a.becomes("Initialize", "v4", SOON);
        speaker_b.becomes("Active", "v4", SOON);
        speaker_b.becomes("Active", "v6", SOON);
        a.plug_in();
        speaker_a.becomes("Backup", "v4", SOON);
        speaker_a.becomes("Backup", "v6", SOON);
        b.ip("link set eth0 down");
        speaker_a.becomes("Active", "v4", SOON);
        speaker_a.becomes("Active", "v6", SOON);
        eventually("the new card has the addresses", SOON, || holds(&a));
        b.ip("link set eth0 up");
        b.ip("address add fe80::2/64 dev eth0 nodad"); // the kernel dropped it with the link
        speaker_b.becomes("Backup", "v4", SOON);
        speaker_b.becomes("Backup", "v6", SOON);
    });
}

#[test]
fn a_node_whose_source_address_changes_goes_on_with_the_new_one() {
    on_a_lan("a_node_whose_source_address_changes_goes_on_with_the_new_one", |lan| {
        let tap = Tap::on(lan);
        let ((a, speaker_a), _b) = pair(lan);
        a.ip("address add 10.77.0.11/24 dev eth0");
        a.ip("-4 address flush dev eth0 scope global to 10.77.0.1/32");
        let source = std::net::IpAddr::from([10, 77, 0, 11]);
        // Deleting a primary address takes its secondaries along, so the kernel may have removed .11, too.
        if !a.has("10.77.0.11") {
            a.ip("address add 10.77.0.11/24 dev eth0");
        }
        let moved = tap.now();
        eventually("adverts from the new address or a peer", SOON, || !tap.actives(true, moved).is_empty());
        eventually("one Active", SOON, || {
            let since = tap.now() - INTERVAL * 3;
            tap.actives(true, since).len() == 1
        });
        if speaker_a.state("v4") == "Active" {
            assert_eq!(tap.adverts(true, moved).last().unwrap().source, source);
        }
    });
}

#[test]
fn a_restarted_speaker_adopts_the_addresses_it_left() {
    on_a_lan("a_restarted_speaker_adopts_the_addresses_it_left", |lan| {
        let a = lan.node(1);
        let first = Speaker::start(&a, "--priority 254", &ADDRESSES);
        first.becomes("Active", "v4", SOON);
        first.becomes("Active", "v6", SOON);
        eventually("the addresses are there", SOON, || holds(&a));
        first.signal(Signal::SIGKILL);
        let second = Speaker::start(&a, "--priority 254", &ADDRESSES);
        let mut always_there = true;
        eventually("it is Active again", SOON, || {
            always_there &= holds(&a);
            second.state("v4") == "Active" && second.state("v6") == "Active"
        });
        assert!(always_there && holds(&a), "the addresses never left");
    });
}

#[test]
fn a_planned_hand_over_leaves_no_moment_without_an_address() {
    on_a_lan("a_planned_hand_over_leaves_no_moment_without_an_address", |lan| {
        let tap = Tap::on(lan);
        let ((a, mut speaker_a), (b, speaker_b)) = pair(lan);
        eventually("the Active has the addresses", SOON, || holds(&a));
        let start = tap.now();
        speaker_a.order("handover");
        eventually("the other node has the addresses", SOON, || {
            let somewhere = (a.has(V4) || b.has(V4)) && (a.has(V6) || b.has(V6));
            assert!(somewhere, "nobody has an address");
            holds(&b)
        });
        speaker_a.becomes("Backup", "v4", SOON);
        speaker_a.becomes("Backup", "v6", SOON);
        eventually("the old Active has let go", SOON, || holds_none(&a));
        let releases = |is_v4| tap.adverts(is_v4, start).iter().filter(|seen| seen.advert.priority.0 == 0).count();
        assert_eq!((releases(true), releases(false)), (2, 2), "sent twice, in case one is lost");
        assert_eq!(speaker_b.count(&[r#""reason":"Released""#]), 2);
    });
}

#[test]
fn a_speaker_that_ends_releases_and_is_gone_in_time() {
    on_a_lan("a_speaker_that_ends_releases_and_is_gone_in_time", |lan| {
        let ((a, mut speaker_a), (b, mut speaker_b)) = pair(lan);
        let start = Instant::now();
        speaker_a.signal(Signal::SIGTERM);
        speaker_a.ends(SOON);
        assert!(holds_none(&a));
        speaker_b.becomes("Active", "v4", SOON);
        eventually("the other node has the addresses", SOON, || holds(&b));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        let alone = Instant::now();
        speaker_b.signal(Signal::SIGTERM);
        speaker_b.ends(SOON);
        assert!(alone.elapsed() < Duration::from_millis(2500), "nobody to wait for: {:?}", alone.elapsed());
        assert!(holds_none(&b));
    });
}

#[test]
fn a_node_that_cannot_serve_yields_to_one_that_can() {
    on_a_lan("a_node_that_cannot_serve_yields_to_one_that_can", |lan| {
        let ((a, mut speaker_a), (b, speaker_b)) = pair(lan);
        speaker_a.order("unable");
        speaker_b.becomes("Active", "v4", SOON);
        speaker_b.becomes("Active", "v6", SOON);
        eventually("the addresses moved", SOON, || holds(&b) && holds_none(&a));
        speaker_a.order("able");
        assert_eq!(speaker_b.state("v4"), "Active");
    });
}

#[test]
fn a_new_priority_takes_effect_without_a_change_of_state() {
    on_a_lan("a_new_priority_takes_effect_without_a_change_of_state", |lan| {
        let tap = Tap::on(lan);
        let ((a, mut speaker_a), _b) = pair(lan);
        let start = tap.now();
        let transitions = speaker_a.count(&["transition"]);
        speaker_a.order("priority 200");
        eventually("adverts with the new priority", SOON, || {
            [true, false].iter().all(|is_v4| tap.adverts(*is_v4, start).iter().any(|s| s.advert.priority.0 == 200))
        });
        let then = tap.now();
        eventually("ten adverts", SOON, || tap.adverts(true, then).len() > 10 && tap.adverts(false, then).len() > 10);
        assert_eq!(speaker_a.count(&["transition"]), transitions);
        assert_eq!(tap.actives(true, start), [a.address_v4()]);
        assert_eq!(tap.actives(false, start), [a.address_v6()]);
        assert!(holds(&a));
    });
}

#[test]
fn both_families_move_together_when_one_of_them_fails() {
    on_a_lan("both_families_move_together_when_one_of_them_fails", |lan| {
        let (a, b) = (lan.node(1), lan.node(2));
        let first = Speaker::start(&a, "--priority 254 --sync", &ADDRESSES);
        ["v4", "v6"].iter().for_each(|family| first.becomes("Active", family, SOON));
        let mut second = Speaker::start(&b, "--priority 253 --sync", &ADDRESSES);
        for family in ["v4", "v6"] {
            eventually("the Backup hears the Active", SOON, || !second.status(family).contains(r#""received":0,"#));
        }
        a.ip("address delete fe80::1/64 dev eth0");
        ["v4", "v6"].iter().for_each(|family| second.becomes("Active", family, SOON));
        first.becomes("Backup", "v4", SOON);
        first.becomes("Initialize", "v6", SOON);
        eventually("the addresses moved", SOON, || holds(&b) && holds_none(&a));
    });
}

#[test]
fn other_virtual_routers_and_wrong_hop_limits_change_nothing_but_counters() {
    on_a_lan("other_virtual_routers_and_wrong_hop_limits_change_nothing_but_counters", |lan| {
        let ((_a, _speaker_a), (_b, mut speaker_b)) = pair(lan);
        let c = lan.node(3);
        let _other = Speaker::start(&c, "--vrid 52 --priority 255 --interval-ms 10", &["10.77.0.200/24"]);
        eventually("adverts of another VRID are counted", SOON, || {
            let status = speaker_b.status("v4");
            !status.contains("vrid: 0,") && status.contains(r#""state":"Backup""#)
        });
    });
}

#[test]
fn a_flood_of_bogus_adverts_moves_nobody_and_delays_no_advert() {
    on_a_lan("a_flood_of_bogus_adverts_moves_nobody_and_delays_no_advert", |lan| {
        let tap = Tap::on(lan);
        let ((a, mut speaker_a), (_b, mut speaker_b)) = pair(lan);
        let attacker = lan.node(3);
        let start = tap.now();
        let sent = flood(&attacker, Duration::from_secs(2));
        assert!(sent > 20_000, "only {sent} bogus adverts: too slow a machine to tell anything");
        let adverts = tap.adverts(true, start);
        assert_eq!(tap.actives(true, start), [a.address_v4()]);
        let widest = adverts.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap();
        assert!(widest < INTERVAL * 3 / 2, "{widest:?} between two adverts");
        for speaker in [&mut speaker_a, &mut speaker_b] {
            let status = speaker.status("v4");
            assert!(!status.contains("checksum: 0,"), "counted: {status}");
            assert!(status.contains(r#""to_active":1"#) || status.contains(r#""state":"Backup""#), "{status}");
        }
    });
}

/// Adverts of the same VRID with a wrong checksum, as fast as one thread can, but not much over 50,000 a second.
fn flood(attacker: &Node, duration: Duration) -> u64 {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = attacker.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).unwrap());
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.set_multicast_ttl_v4(255).unwrap();
    let group = std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(224, 0, 0, 18), 0).into();
    let bogus = [0x31, 51, 255, 1, 0, 10, 0x12, 0x34, 10, 77, 0, 100];
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < duration {
        for _ in 0..50 {
            let _ = socket.send_to(&bogus, &group);
        }
        sent += 50;
        let due = start + Duration::from_micros(sent * 20);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent
}
