//! Cases 1, 4, 5, 10 and 13: other ways to speak than multicast version 3 from the card's own hardware address.

use crate::bench::{Bench, SOON, V4, V6, Who};
use crate::cases;
use crate::wire::keepalived::Keepalived;
use crate::wire::raw::{Gun, Shot, Sum};
use crate::wire::speaker::Speaker;
use crate::wire::{Lan, eventually};

cases! {
    case_01_version_2_lyre_preferred: |lan| both_take_turns(lan, 1000, Who::Lyre, &V4, "--version 2", "version 2");
    case_01_version_2_keepalived_preferred: |lan| {
        both_take_turns(lan, 1000, Who::Keepalived, &V4, "--version 2", "version 2");
    };
    case_01_version_2_with_password: |lan| {
        both_take_turns(lan, 1000, Who::Lyre, &V4, "--version 2 --password secret", &password("secret"));
    };
    case_01_version_2_with_wrong_password: wrong_password;
    case_03_addresses_and_advertisements_over_ipv6: ipv6;
    case_04_unicast_over_ipv4_lyre_preferred: |lan| unicast(lan, Who::Lyre, true);
    case_04_unicast_over_ipv4_keepalived_preferred: |lan| unicast(lan, Who::Keepalived, true);
    case_04_unicast_over_ipv6_lyre_preferred: |lan| unicast(lan, Who::Lyre, false);
    case_04_unicast_over_ipv6_keepalived_preferred: |lan| unicast(lan, Who::Keepalived, false);
    case_04_unicast_through_a_router: through_a_router;
    case_05_keepalived_with_a_virtual_mac_lyre_preferred: |lan| {
        both_take_turns(lan, 100, Who::Lyre, &V4, "", "use_vmac");
    };
    case_05_keepalived_with_a_virtual_mac_keepalived_preferred: |lan| {
        both_take_turns(lan, 100, Who::Keepalived, &V4, "", "use_vmac");
    };
    case_10_another_interval_in_version_2: |lan| version_2_interval(lan, 1000, 2000);
    case_10_another_interval_in_version_2_the_other_way: |lan| version_2_interval(lan, 2000, 1000);
    case_13_a_peer_of_rfc_9568_is_accepted_and_mirrored: rfc_9568;
}

/// Lyre alone, keepalived beside it, each ends in order once and comes back.
fn both_take_turns(lan: &Lan, ms: u64, preferred: Who, addresses: &[&'static str], lyre: &str, keepalived: &str) {
    let bench = Bench::new(lan, ms, preferred, addresses).with_options(lyre, keepalived);
    take_turns(&bench, preferred);
    if lyre == "--version 2" {
        assert_ne!(bench.tap.tshark("vrrp.version == 2 && vrrp.checksum.status == 1"), "");
        assert_eq!(bench.tap.tshark("vrrp && (vrrp.version != 2 || vrrp.checksum.status != 1)"), "");
    }
}

fn take_turns(bench: &Bench, preferred: Who) {
    let mut speaker = bench.start_lyre();
    bench.advertises(Who::Lyre, "it started alone");
    let mut keepalived = bench.start_keepalived();
    bench.advertises(preferred, "both started");
    keepalived.stop();
    bench.advertises(Who::Lyre, "keepalived ended in order");
    keepalived = bench.start_keepalived();
    bench.advertises(preferred, "keepalived came back");
    speaker.signal(nix::sys::signal::Signal::SIGTERM);
    speaker.ends(bench.limit());
    bench.excuse();
    bench.advertises(Who::Keepalived, "Lyre ended in order");
    speaker = bench.start_lyre();
    bench.adverts_pass(4);
    bench.advertises(Who::Keepalived, "Lyre came back and does not preempt");
    bench.acquits_lyre("taking turns");
    drop((speaker, keepalived));
}

fn password(word: &str) -> String {
    format!("version 2\n authentication {{\n auth_type PASS\n auth_pass {word}\n }}")
}

fn wrong_password(lan: &Lan) {
    let bench = Bench::new(lan, 1000, Who::Lyre, &V4).with_options("--version 2 --password secret", &password("other"));
    let mut speaker = bench.start_lyre();
    let keepalived = bench.start_keepalived();
    eventually("both are Active", SOON, || bench.holds(Who::Lyre) && bench.holds(Who::Keepalived));
    eventually("Lyre counts", SOON, || !speaker.status("v4").contains("authentication: 0,"));
    eventually("keepalived complains", SOON, || keepalived.log().contains("passwd"));
    assert_eq!(speaker.state("v4"), "Active");
    // Another password under our VRID reads as another pair on this LAN.
    eventually("Lyre raises the alarm", SOON, || speaker.status("v4").contains("duplicate_vrid"));
}

fn ipv6(lan: &Lan) {
    let addresses = ["fe80::77:100/128", "fd77::100/128"];
    let bench = Bench::new(lan, 100, Who::Lyre, &addresses);
    let _speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let list = bench.lyre.ip("-6 -o address show dev eth0");
    for address in ["fe80::77:100/128", "fd77::100/128"] {
        let line = list.lines().find(|line| line.contains(address)).unwrap();
        assert!(line.contains("nodad") && line.contains("deprecated"), "{line}");
    }
    for target in ["fe80::77:100", "fd77::100"] {
        let advertised = format!("icmpv6.type == 136 && icmpv6.nd.na.target_address == {target}");
        let flags = "icmpv6.nd.na.flag.s == 0 && icmpv6.nd.na.flag.o == 1 && icmpv6.nd.na.flag.r == 0";
        assert_ne!(bench.tap.tshark(&format!("{advertised} && {flags}")), "", "advertised");
        assert_eq!(
            bench.tap.tshark(&format!("{advertised} && !({flags})")),
            "",
            "S clear, O set, R as the node forwards"
        );
    }
    assert_eq!(bench.tap.tshark("vrrp && (icmpv6 || vrrp.checksum.status != 1)"), "");
}

fn unicast(lan: &Lan, preferred: Who, is_v4: bool) {
    lan.be_a_hub();
    let prefix = if is_v4 { "10.77.0." } else { "fd77::" };
    let addresses = if is_v4 { &V4 } else { &V6 };
    let bench = Bench::new(lan, 100, preferred, addresses);
    let (lyre, other) = (format!("{prefix}{}", bench.lyre.number), format!("{prefix}{}", bench.other.number));
    let peers = format!("unicast_src_ip {other}\n unicast_peer {{\n {lyre}\n }}");
    // keepalived sends unicast over IPv6 with the kernel's hop limit.
    let ttl = if is_v4 { 255 } else { 64 };
    let bench = bench.with_options(&format!("--peer {other} --peer-ttl-min {ttl}"), &peers).between_global_addresses();
    take_turns(&bench, preferred);
    assert_eq!(bench.tap.tshark("vrrp && (ip.dst == 224.0.0.18 || ipv6.dst == ff02::12)"), "", "nothing to the group");
}

/// Each copy has crossed one router, so it arrives with 254.
fn through_a_router(lan: &Lan) {
    let (near, router) = (lan.node(1), lan.node(254));
    let far = router.beyond(2);
    near.ip("route add 10.78.0.0/24 via 10.77.0.254");
    let peers = "unicast_src_ip 10.78.0.2\n unicast_peer {\n 10.77.0.1\n }";
    let start = |ttl: u8| {
        let options = format!("--priority 253 --peer 10.78.0.2 --peer-ttl-min {ttl}");
        Speaker::start(&near, &options, &V4)
    };
    let mut strict = start(255);
    strict.becomes("Active", "v4", SOON);
    let mut keepalived = Keepalived::start(&far, 254, std::time::Duration::from_millis(100), &V4, peers);
    eventually("TTL 254 is refused", SOON, || !strict.status("v4").contains("ttl: 0,"));
    assert_eq!(strict.state("v4"), "Active");
    drop(strict);
    eventually("keepalived is Active", SOON, || far.has("10.77.0.100"));
    let mut lenient = start(254);
    lenient.becomes("Backup", "v4", SOON);
    eventually("TTL 254 is accepted", SOON, || !lenient.status("v4").contains(r#""received":0,"#));
    assert!(lenient.status("v4").contains("ttl: 0,"));
    keepalived.stop();
    lenient.becomes("Active", "v4", SOON);
}

/// Adverts with another interval are dropped by both, so both are Active: documented, and counted by Lyre.
fn version_2_interval(lan: &Lan, lyre_ms: u64, keepalived_ms: u64) {
    let bench = Bench::new(lan, lyre_ms, Who::Lyre, &V4).with_options("--version 2", "version 2");
    let bench = bench.with_keepalived_interval(keepalived_ms);
    let mut speaker = bench.start_lyre();
    let _keepalived = bench.start_keepalived();
    eventually("both are Active", SOON, || bench.holds(Who::Lyre) && bench.holds(Who::Keepalived));
    eventually("Lyre counts", SOON, || !speaker.status("v4").contains("interval: 0,"));
    eventually("Lyre raises the alarm", SOON, || speaker.status("v4").contains("interval_mismatch"));
}

/// keepalived has this form from 2.2.8 on; 2.2.7 does not, so its part is played by a raw sender.
fn rfc_9568(lan: &Lan) {
    let (node, peer) = (lan.node(1), lan.node(3));
    let tap = crate::wire::tap::Tap::at(&node);
    let mut gun = Gun::on(&peer);
    let mut speaker = Speaker::start(&node, "--priority 200 --checksum auto", &V4);
    speaker.becomes("Active", "v4", SOON);
    let shot = Shot { checksum: Sum::Message, priority: 100, ..Shot::v4() };
    gun.fire(&shot);
    eventually("it is accepted", SOON, || speaker.status("v4").contains(r#""received":1,"#));
    let since = tap.now();
    eventually("the answers have its form", SOON, || {
        let frames = tap.frames();
        let ours = frames.iter().filter(|frame| frame.is_outgoing && frame.at >= since);
        let mut adverts = ours.filter(|frame| frame.bytes.get(23) == Some(&112));
        adverts.next().is_some_and(|frame| {
            // Bytes 6 and 7 of the message, behind Ethernet and IPv4.
            let mirrored = Shot { source: node.address_v4(), priority: 200, ..shot.clone() };
            frame.bytes.get(34..46) == Some(&mirrored.message()[..])
        })
    });
}
