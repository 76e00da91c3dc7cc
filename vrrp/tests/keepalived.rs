//! Lyre's speaker beside the real keepalived: each as the preferred node, at three advert intervals, both families.
//!
//! One walk through all faults per case; after each the LAN must have exactly one Active, and over the whole walk no
//! two for longer than an interval, but for the moments in which the test itself kept them apart.

mod wire;

use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;
use wire::keepalived::Keepalived;
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{Lan, Node, eventually, is_installed, on_a_lan};

const ADDRESSES: [&str; 3] = ["10.77.0.100/24", "fe80::77:100/128", "fd77::100/128"];
const HELD: [&str; 3] = ["10.77.0.100", "fe80::77:100", "fd77::100"];

/// How late a busy machine may let either program act.
const BUSY: Duration = Duration::from_millis(150);

struct Walk<'a> {
    lan: &'a Lan,
    tap: Tap,
    lyre: Node,
    other: Node,
    interval: Duration,
    lyre_options: String,
    keepalived_priority: u8,
}

/// The nodes by what runs on them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Lyre,
    Keepalived,
}

impl<'a> Walk<'a> {
    fn new(lan: &'a Lan, interval_ms: u64, preferred: Who) -> Walk<'a> {
        // Lyre has the higher source address once and the lower one once, so that both ties are seen.
        let (lyre_number, other_number) = if preferred == Who::Lyre { (1, 2) } else { (2, 1) };
        let (lyre_priority, keepalived_priority) = if preferred == Who::Lyre { (254, 253) } else { (253, 254) };
        Walk {
            lan,
            tap: Tap::on(lan),
            lyre: lan.node(lyre_number),
            other: lan.node(other_number),
            interval: Duration::from_millis(interval_ms),
            lyre_options: format!("--priority {lyre_priority} --interval-ms {interval_ms}"),
            keepalived_priority,
        }
    }

    fn start_lyre(&self) -> Speaker {
        Speaker::start(&self.lyre, &self.lyre_options, &ADDRESSES)
    }

    fn start_keepalived(&self) -> Keepalived {
        Keepalived::start(&self.other, self.keepalived_priority, self.interval, &ADDRESSES, "")
    }

    /// Generous: three down intervals and what a loaded machine adds.
    fn limit(&self) -> Duration {
        self.interval * 12 + Duration::from_secs(10)
    }

    fn address(&self, who: Who, is_v4: bool) -> IpAddr {
        let node = self.node(who);
        if is_v4 { node.address_v4() } else { node.address_v6() }
    }

    fn node(&self, who: Who) -> &Node {
        match who {
            Who::Lyre => &self.lyre,
            Who::Keepalived => &self.other,
        }
    }

    /// Waits until only this node advertises, and has all addresses.
    #[track_caller]
    fn settles_on(&self, who: Who, after: &str) {
        let mut from = self.tap.now();
        eventually(&format!("{who:?} is the only Active after {after}"), self.limit(), || {
            let actives = [true, false].map(|is_v4| self.tap.actives(is_v4, from));
            let wanted = [true, false].map(|is_v4| vec![self.address(who, is_v4)]);
            if actives.iter().flatten().any(|source| !wanted.iter().flatten().any(|address| address == source)) {
                from = self.tap.now(); // not yet; count anew
            }
            actives == wanted && [true, false].iter().all(|is_v4| self.tap.adverts(*is_v4, from).len() >= 3)
        });
        let node = self.node(who);
        eventually(&format!("{who:?} has the addresses after {after}"), self.limit(), || {
            HELD.iter().all(|address| node.has(address))
        });
    }

    #[track_caller]
    fn has_let_go(&self, who: Who) {
        let node = self.node(who);
        eventually(&format!("{who:?} has no address"), self.limit(), || !HELD.iter().any(|address| node.has(address)));
    }

    /// No two Actives since a moment for longer than an interval.
    #[track_caller]
    fn was_unanimous(&self, since: Duration, during: &str) {
        for is_v4 in [true, false] {
            let overlap = self.tap.longest_overlap(is_v4, since, self.interval);
            let most = self.interval + BUSY;
            assert!(overlap <= most, "two Actives for {overlap:?} during {during}, v4: {is_v4}");
        }
    }

    #[track_caller]
    fn frames_are_flawless(&self) {
        assert_ne!(self.tap.tshark("vrrp.version == 3"), "", "nothing seen");
        assert_eq!(self.tap.tshark("vrrp.version == 3 && vrrp.checksum.status != 1"), "");
        assert_eq!(self.tap.tshark("vrrp && ((ip && ip.ttl != 255) || (ipv6 && ipv6.hlim != 255))"), "");
        assert_eq!(self.tap.tshark("vrrp && ip && ip.dsfield.dscp != 48"), "");
    }
}

/// Everything that can happen to either node, one after the other.
fn all_faults(lan: &Lan, interval_ms: u64, preferred: Who) {
    let walk = Walk::new(lan, interval_ms, preferred);
    let mut lyre = walk.start_lyre();
    walk.settles_on(Who::Lyre, "it started alone");
    let mut keepalived = walk.start_keepalived();
    // keepalived takes over from a lower priority; Lyre never does from a healthy Active.
    walk.settles_on(preferred, "both started");
    walk.has_let_go(other_than(preferred));
    let start = walk.tap.now();
    sleep(walk.interval * 5);
    assert_eq!(walk.tap.actives(true, start), [walk.address(preferred, true)], "nothing changes by itself");

    lyre.signal(Signal::SIGTERM);
    lyre.ends(walk.limit());
    walk.settles_on(Who::Keepalived, "Lyre ended in order");
    walk.has_let_go(Who::Lyre);
    lyre = walk.start_lyre();
    lyre.becomes("Backup", "v4", walk.limit());
    sleep(walk.interval * 4);
    walk.settles_on(Who::Keepalived, "Lyre came back");

    keepalived.stop();
    walk.settles_on(Who::Lyre, "keepalived ended in order");
    keepalived = walk.start_keepalived();
    walk.settles_on(preferred, "keepalived came back");
    walk.was_unanimous(start, "orderly changes");

    drop(lyre); // SIGKILL
    walk.settles_on(Who::Keepalived, "Lyre was killed");
    walk.has_let_go(Who::Lyre);
    lyre = walk.start_lyre();
    lyre.becomes("Backup", "v4", walk.limit());
    walk.settles_on(Who::Keepalived, "Lyre came back after a crash");

    keepalived.crash();
    walk.settles_on(Who::Lyre, "keepalived was killed");
    keepalived = walk.start_keepalived();
    walk.settles_on(preferred, "keepalived came back after a crash");
    walk.was_unanimous(start, "crashes");

    walk.lyre.cut_cable();
    walk.settles_on(Who::Keepalived, "Lyre's cable was cut");
    walk.has_let_go(Who::Lyre);
    walk.lyre.mend_cable();
    lyre.becomes("Backup", "v4", walk.limit());
    sleep(walk.interval * 5);
    walk.settles_on(Who::Keepalived, "Lyre's cable was mended");
    walk.was_unanimous(start, "Lyre's cable");

    walk.other.cut_cable();
    walk.settles_on(Who::Lyre, "keepalived's cable was cut");
    walk.other.mend_cable();
    walk.settles_on(preferred, "keepalived's cable was mended");
    walk.has_let_go(other_than(preferred));
    walk.was_unanimous(start, "keepalived's cable");

    // A switch dies somewhere: both are Active on their own island, and have to agree again.
    let isolated = walk.node(preferred);
    isolated.isolate();
    walk.settles_on(other_than(preferred), "the preferred node was isolated");
    isolated.rejoin();
    walk.settles_on(preferred, "the LAN healed: the higher priority wins");
    walk.has_let_go(other_than(preferred));
    walk.was_unanimous(start, "healing");
    walk.frames_are_flawless();
    drop((lyre, keepalived, walk.lan));
}

fn other_than(who: Who) -> Who {
    if who == Who::Lyre { Who::Keepalived } else { Who::Lyre }
}

fn case(name: &str, interval_ms: u64, preferred: Who) {
    if is_installed("keepalived", name) && is_installed("tshark", name) {
        on_a_lan(name, |lan| all_faults(lan, interval_ms, preferred));
    }
}

#[test]
fn lyre_preferred_at_1_s() {
    case("lyre_preferred_at_1_s", 1000, Who::Lyre);
}

#[test]
fn keepalived_preferred_at_1_s() {
    case("keepalived_preferred_at_1_s", 1000, Who::Keepalived);
}

#[test]
fn lyre_preferred_at_100_ms() {
    case("lyre_preferred_at_100_ms", 100, Who::Lyre);
}

#[test]
fn keepalived_preferred_at_100_ms() {
    case("keepalived_preferred_at_100_ms", 100, Who::Keepalived);
}

#[test]
fn lyre_preferred_at_10_ms() {
    case("lyre_preferred_at_10_ms", 10, Who::Lyre);
}

#[test]
fn keepalived_preferred_at_10_ms() {
    case("keepalived_preferred_at_10_ms", 10, Who::Keepalived);
}
