//! A speaker that is stopped and continued beside the real keepalived: whatever it slept through, it wakes as one that
//! sends nothing until it knows whose the addresses are.
//!
//! The longest stop here is twice the lease of 2 s and some. A stop of half a minute is the same to every rule: the
//! lease has ended, the receive buffer has overflowed or not, and the peer has been Active for long.

#![allow(clippy::unwrap_used)]

mod wire;

use nix::sys::signal::Signal;
use std::time::Duration;
use wire::keepalived::Keepalived;
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{Lan, Node, eventually, is_installed, on_a_lan};

const ADDRESSES: [&str; 2] = ["10.77.0.100/24", "fd77::100/128"];
const HELD: [&str; 2] = ["10.77.0.100", "fd77::100"];
const INTERVAL: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(8);
/// Shorter than any Backup waits; longer; longer than the lease; much longer.
const STOPS: [Duration; 4] =
    [Duration::from_millis(150), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

struct Pair<'a> {
    tap: &'a Tap,
    lyre: Node,
    other: Node,
    speaker: Speaker,
    keepalived: Keepalived,
}

impl<'a> Pair<'a> {
    /// Lyre starts first, so that it is Active wherever keepalived lets it. `number` is the first of two nodes.
    fn new(lan: &Lan, tap: &'a Tap, number: u8, priority: u8, keepalived_priority: u8) -> Pair<'a> {
        let (lyre, other) = (lan.node(number), lan.node(number + 1));
        let options = format!("--priority {priority} --lease-s {}", LEASE.as_secs());
        let speaker = Speaker::start(&lyre, &options, &ADDRESSES);
        ["v4", "v6"].iter().for_each(|family| speaker.becomes("Active", family, SOON));
        let keepalived = Keepalived::start(&other, keepalived_priority, INTERVAL, &ADDRESSES, "");
        let pair = Pair { tap, lyre, other, speaker, keepalived };
        let active = if priority > keepalived_priority { &pair.lyre } else { &pair.other };
        pair.only_active_is(active);
        pair
    }

    #[track_caller]
    fn only_active_is(&self, node: &Node) {
        let from = self.tap.now();
        eventually("there is one Active", SOON, || {
            let since = self.tap.now() - INTERVAL * 5;
            since > from && self.actives_since(since) == [vec![node.address_v4()], vec![node.address_v6()]]
        });
        eventually("it has the addresses", SOON, || HELD.iter().all(|address| node.has(address)));
    }

    fn actives_since(&self, since: Duration) -> [Vec<std::net::IpAddr>; 2] {
        [true, false].map(|is_v4| self.tap.actives(is_v4, since))
    }

    /// Adverts, ARP and neighbour advertisements that left the Lyre node since a moment.
    fn said_by_lyre(&self, since: Duration) -> usize {
        let mac: Vec<u8> = self.lyre.interface("eth0").unwrap().0.split(':').map(hex).collect();
        let speaks = |bytes: &[u8]| {
            let of_address = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
            match bytes.get(12..14) {
                Some([0x08, 0x06]) => of_address(&[10, 77, 0, 100]),
                Some([0x08, 0x00]) => bytes.get(23) == Some(&112),
                Some([0x86, 0xdd]) => bytes.get(20) == Some(&112) || bytes.get(54) == Some(&136),
                _ => false,
            }
        };
        let frames = self.tap.frames();
        frames.iter().filter(|f| f.at >= since && f.bytes.get(6..12) == Some(&mac) && speaks(&f.bytes)).count()
    }

    fn stop_for(&self, length: Duration) -> Duration {
        self.speaker.signal(Signal::SIGSTOP);
        std::thread::sleep(length); // the stop itself
        let woken = self.tap.now();
        if length > LEASE + Duration::from_secs(1) {
            assert!(!HELD.iter().any(|address| self.lyre.has(address)), "the lease ended in the stop");
        }
        self.speaker.signal(Signal::SIGCONT);
        woken
    }
}

fn hex(text: &str) -> u8 {
    u8::from_str_radix(text, 16).unwrap()
}

#[test]
fn a_stopped_active_that_was_replaced_wakes_as_a_silent_backup() {
    let name = "a_stopped_active_that_was_replaced_wakes_as_a_silent_backup";
    if !is_installed("keepalived", name) {
        return;
    }
    on_a_lan(name, |lan| {
        let tap = Tap::on(lan);
        for (stop, number) in STOPS.into_iter().zip([1, 3, 5, 7]) {
            let mut pair = Pair::new(lan, &tap, number, 254, 253);
            let woken = pair.stop_for(stop);
            if stop < INTERVAL * 3 {
                pair.only_active_is(&pair.lyre);
                assert_eq!(pair.speaker.count(&["transition", r#""to":"Backup""#]), 2, "only at the start");
                continue;
            }
            pair.only_active_is(&pair.other);
            ["v4", "v6"].iter().for_each(|family| pair.speaker.becomes("Backup", family, SOON));
            eventually("it has let go", SOON, || !HELD.iter().any(|address| pair.lyre.has(address)));
            assert_eq!(pair.said_by_lyre(woken), 0, "after {stop:?}");
            let expected = if stop >= LEASE + LEASE / 2 { "stalled lease_expired" } else { "stalled" };
            for family in ["v4", "v6"] {
                let status = pair.speaker.status(family);
                let alarms = status.split(r#""alarms":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                // At 2 s the lease may or may not have ended, depending on its last renewal.
                assert!(alarms.starts_with(expected), "{status}");
            }
            drop(pair.keepalived);
        }
    });
}

#[test]
fn a_stopped_backup_wakes_as_a_silent_backup() {
    let name = "a_stopped_backup_wakes_as_a_silent_backup";
    if !is_installed("keepalived", name) {
        return;
    }
    on_a_lan(name, |lan| {
        let tap = Tap::on(lan);
        let mut pair = Pair::new(lan, &tap, 1, 200, 254);
        for stop in STOPS {
            let woken = pair.stop_for(stop);
            pair.only_active_is(&pair.other);
            assert_eq!(pair.said_by_lyre(woken), 0, "after {stop:?}");
            assert_eq!(pair.speaker.state("v4"), "Backup");
        }
        // The Active dies while nobody looks.
        pair.speaker.signal(Signal::SIGSTOP);
        pair.keepalived.crash();
        std::thread::sleep(Duration::from_secs(1)); // the stop itself
        pair.speaker.signal(Signal::SIGCONT);
        pair.only_active_is(&pair.lyre);
    });
}
