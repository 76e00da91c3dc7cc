//! Adverts that must be dropped, a hundred of each: dropped, counted under the right reason, and nothing moves. Beside
//! them those that look odd and must be accepted, and as a control one that does move the address.
//!
//! Every bad advert outranks everybody but for its one fault, so that a check that is missing cannot go unnoticed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod wire;

use lyre_vrrp::authentication::{Authenticator, Freshness, Key, Mode, Signed, Utc};
use lyre_vrrp::link::linux::clock::utc;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::raw::{Gun, Shot, Sum};
use wire::speaker::Speaker;
use wire::{Lan, on_its_own_lan};

const SOON: Duration = Duration::from_secs(10);
const EACH: u64 = 100;
const KEY: &str = "an-example-of-a-key-with-32-bytes";
const STRANGE_VRID: u8 = 250;

/// What must become of a hundred of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Counted by the speaker under this reason.
    Dropped(&'static str),
    /// The kernel or the socket's own filter keeps it from the speaker.
    Unseen,
    /// A proper advert that changes nothing.
    Accepted,
    /// The first is accepted, its copies are dropped for this reason.
    AcceptedOnce(&'static str),
}
use Fate::{Accepted, AcceptedOnce, Dropped, Unseen};

type Case = (&'static str, Shot, Fate);

/// A speaker under fire, and one that would take over if it fell.
struct Range {
    target: Speaker,
    family: &'static str,
    gun: Gun,
}

impl Range {
    fn new(lan: &Lan, family: &'static str, options: &str, address: &str) -> Range {
        let (node, attacker) = (lan.node(1), lan.node(3));
        node.allow_jumbo_frames();
        attacker.allow_jumbo_frames();
        let target = Speaker::start(&node, &format!("--priority 200 {options}"), &[address]);
        target.becomes("Active", family, SOON);
        Range { target, family, gun: Gun::on(&attacker) }
    }

    /// `strange` is an advert of an unknown VRID that reaches the target: once it is counted, all before it were seen.
    fn judge_all(&mut self, cases: &[Case], strange: &Shot) {
        let mut wrong = Vec::new();
        for case in cases {
            // A target that stood still for long enough has lost some of them unseen. What is wrong is so each time.
            let failures: Vec<_> = (0..3).map_while(|_| self.judge(case, strange).err()).collect();
            wrong.extend(failures.into_iter().nth(2));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn judge(&mut self, (name, shot, fate): &Case, strange: &Shot) -> Result<(), String> {
        let before = self.counters();
        let transitions = self.target.count(&["transition"]);
        (0..EACH).for_each(|_| self.gun.fire(shot));
        self.gun.fire(strange);
        let strangers = before["vrid"] + 1 + if *fate == Dropped("vrid") { EACH } else { 0 };
        let deadline = Instant::now() + SOON;
        while self.counters()["vrid"] < strangers && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = self.counters();
        let mut expected = before.clone();
        *expected.get_mut("vrid").unwrap() += 1;
        let mut expect = |counter: &str, count| *expected.get_mut(counter).unwrap() += count;
        match fate {
            Dropped(reason) => expect(reason, EACH),
            Unseen => {}
            Accepted => expect("received", EACH),
            AcceptedOnce(reason) => {
                expect("received", 1);
                expect(reason, EACH - 1);
            }
        }
        if after != expected {
            return Err(format!("{name}: expected {fate:?}, counters {before:?} became {after:?}"));
        }
        if self.target.count(&["transition"]) != transitions {
            return Err(format!("{name}: the state changed: {:?}", self.target.lines().last()));
        }
        Ok(())
    }

    /// Drops by reason, and what was accepted as `received`.
    fn counters(&mut self) -> BTreeMap<String, u64> {
        let status = self.target.status(self.family);
        let number = |text: &str| text.trim().trim_end_matches(['}', '"', ' ']).parse::<u64>().unwrap();
        let drops = status.split("Drops {").nth(1).unwrap().split('}').next().unwrap();
        let mut counters: BTreeMap<_, _> = drops
            .split(',')
            .map(|pair| pair.split_once(':').unwrap())
            .map(|(name, value)| (name.trim().to_owned(), number(value)))
            .collect();
        let received = status.split(r#""received":"#).nth(1).unwrap().split(',').next().unwrap();
        counters.insert("received".to_owned(), number(received));
        counters
    }
}

#[test]
fn multicast_version_3_over_ipv4() {
    on_its_own_lan("multicast_version_3_over_ipv4", |lan| {
        let mut range = Range::new(lan, "v4", "", "10.77.0.100/24");
        let v4 = Shot::v4;
        let strange = Shot { vrid: STRANGE_VRID, ..v4() };
        let from = |source: [u8; 4]| Shot { source: IpAddr::from(source), ..v4() };
        let cut = |bytes| Shot { message_max: Some(bytes), ..v4() };
        let trailing = |bytes| Shot { tail: vec![0xaa; bytes], ..v4() };
        let sum = |checksum| Shot { checksum, ..v4() };
        let lesser = || Shot { priority: 100, ..v4() };
        let many = |count: u8| (0..count).map(|n| IpAddr::from([10, 88, 0, n])).collect::<Vec<_>>();
        let with_version = |version, tail| Shot { version, tail: vec![0; tail], ..v4() };
        let mut cases = vec![
            ("TTL 254", Shot { ttl: 254, ..v4() }, Dropped("ttl")),
            ("TTL 1", Shot { ttl: 1, ..v4() }, Dropped("ttl")),
            ("TTL 0", Shot { ttl: 0, ..v4() }, Dropped("ttl")),
            ("version 1", with_version(1, 0), Dropped("version")),
            ("version 2, as long as one of version 2", with_version(2, 8), Dropped("version")),
            ("version 2, too short for it", with_version(2, 0), Dropped("length")),
            ("version 4", with_version(4, 0), Dropped("version")),
            ("version 15", with_version(15, 0), Dropped("version")),
            ("type 0", Shot { kind: 0, ..v4() }, Dropped("kind")),
            ("type 2", Shot { kind: 2, ..v4() }, Dropped("kind")),
            ("type 15", Shot { kind: 15, ..v4() }, Dropped("kind")),
            ("VRID 0", Shot { vrid: 0, ..v4() }, Dropped("vrid")),
            ("unknown VRID", Shot { vrid: 52, ..v4() }, Dropped("vrid")),
            ("count 0", Shot { addresses: vec![], ..v4() }, Dropped("address_list")),
            ("count 0 with an address", Shot { count: Some(0), ..v4() }, Dropped("length")),
            ("count larger than the data", Shot { count: Some(2), ..v4() }, Dropped("length")),
            ("count smaller than the data", Shot { addresses: many(3), count: Some(1), ..v4() }, Dropped("length")),
            ("a trailing byte", trailing(1), Dropped("length")),
            ("2 trailing bytes", trailing(2), Dropped("length")),
            ("40 trailing bytes", trailing(40), Dropped("length")),
            ("an HMAC trailer nobody asked for", trailing(28), Dropped("length")),
            ("checksum off by one", sum(Sum::Off(1)), Dropped("checksum")),
            ("checksum zero", sum(Sum::Exactly(0)), Dropped("checksum")),
            ("checksum ffff", sum(Sum::Exactly(0xffff)), Dropped("checksum")),
            ("interval 0", Shot { middle: [0, 0], ..v4() }, Dropped("interval")),
            ("interval 0 under reserved bits", Shot { middle: [0xf0, 0], ..v4() }, Dropped("interval")),
            ("from 0.0.0.0", from([0, 0, 0, 0]), Dropped("source")),
            // Martians: the kernel does not deliver them.
            ("from 127.0.0.1", from([127, 0, 0, 1]), Unseen),
            ("from 224.0.0.1", from([224, 0, 0, 1]), Unseen),
            ("from 255.255.255.255", from([255, 255, 255, 255]), Unseen),
            ("from our own address", from([10, 77, 0, 1]), Unseen),
            ("to our own address", Shot { destination: IpAddr::from([10, 77, 0, 1]), ..v4() }, Unseen),
            ("to everybody", Shot { destination: IpAddr::from([255, 255, 255, 255]), ..v4() }, Unseen),
            ("a first fragment", Shot { fragment: 0x2000, ..v4() }, Unseen),
            ("a later fragment", Shot { fragment: 2, ..v4() }, Unseen),
            ("protocol 51", Shot { protocol: 51, ..v4() }, Unseen),
            ("tagged for VLAN 7", Shot { vlan: Some(7), ..v4() }, Unseen),
            ("255 foreign addresses, bad sum", Shot { addresses: many(255), ..sum(Sum::Off(9)) }, Dropped("checksum")),
            ("reserved bits set", Shot { middle: [0xf0, 10], ..lesser() }, Accepted),
            ("interval 4095", Shot { middle: [0x0f, 0xff], ..lesser() }, Accepted),
            ("IP options", Shot { options: vec![148, 4, 0, 0], ..lesser() }, Accepted),
            ("padding of a short frame", Shot { is_padded: true, ..lesser() }, Accepted),
            ("checksum without pseudo-header", Shot { checksum: Sum::Message, ..lesser() }, Accepted),
            ("another list of addresses", Shot { addresses: many(2), ..lesser() }, Accepted),
            ("255 addresses", Shot { addresses: many(255), ..lesser() }, Accepted),
            ("priority 0 from a stranger", Shot { priority: 0, ..v4() }, Accepted),
        ];
        cases.extend((0..8).map(|bytes| ("cut short", cut(bytes), Dropped("length"))));
        cases.extend((8..12).map(|bytes| ("cut in the addresses", cut(bytes), Dropped("length"))));
        range.judge_all(&cases, &strange);
        control(range, &v4());
    });
}

#[test]
fn multicast_version_3_over_ipv6() {
    on_its_own_lan("multicast_version_3_over_ipv6", |lan| {
        let mut range = Range::new(lan, "v6", "", "fd77::100/128");
        let v6 = Shot::v6;
        let strange = Shot { vrid: STRANGE_VRID, ..v6() };
        let lesser = || Shot { priority: 100, ..v6() };
        let from = |source: &str| Shot { source: source.parse().unwrap(), ..v6() };
        let many = (0..255u16).map(|n| IpAddr::from([0xfd88, 0, 0, 0, 0, 0, 0, n])).collect();
        let v4_inside = vec![IpAddr::from([10, 77, 0, 100])];
        let cases = vec![
            ("hop limit 64", Shot { ttl: 64, ..v6() }, Dropped("ttl")),
            ("hop limit 254", Shot { ttl: 254, ..v6() }, Dropped("ttl")),
            ("version 2", Shot { version: 2, tail: vec![0; 8], ..summed_for_the_kernel() }, Dropped("version")),
            ("version 4", Shot { version: 4, ..v6() }, Dropped("version")),
            ("type 2", Shot { kind: 2, ..v6() }, Dropped("kind")),
            ("VRID 0", Shot { vrid: 0, ..v6() }, Dropped("vrid")),
            ("count 0", Shot { addresses: vec![], ..v6() }, Dropped("address_list")),
            ("count larger than the data", Shot { count: Some(2), ..v6() }, Dropped("length")),
            ("2 trailing bytes", Shot { tail: vec![0; 2], ..v6() }, Dropped("length")),
            ("IPv4 addresses in it", Shot { addresses: v4_inside, ..v6() }, Dropped("length")),
            ("interval 0", Shot { middle: [0, 0], ..v6() }, Dropped("interval")),
            ("from a global address", from("fd77::3"), Dropped("source")),
            // The kernel checks the sum of raw IPv6 sockets.
            ("checksum off by one", Shot { checksum: Sum::Off(1), ..v6() }, Unseen),
            ("checksum without pseudo-header", Shot { checksum: Sum::Message, ..v6() }, Unseen),
            ("cut short", Shot { message_max: Some(7), ..v6() }, Unseen),
            ("from a group", from("ff02::1"), Unseen),
            ("to our own address", Shot { destination: "fe80::1".parse().unwrap(), ..v6() }, Unseen),
            // Ours: a duplicate address or a loop on the LAN, which is reported but moves nothing.
            ("from our own address, higher", from("fe80::1"), Accepted),
            ("from our own address, equal", Shot { priority: 200, ..from("fe80::1") }, Accepted),
            ("from our own address, lower", Shot { priority: 100, ..from("fe80::1") }, Accepted),
            ("reserved bits set", Shot { middle: [0xf0, 10], ..lesser() }, Accepted),
            // RFC 9568 §5.2.9 wants the link-local one first; keepalived sends what it is configured with, so it passes.
            ("first address not link-local", lesser(), Accepted),
            ("255 addresses", Shot { addresses: many, ..lesser() }, Accepted),
            ("priority 0 from a stranger", Shot { priority: 0, ..v6() }, Accepted),
        ];
        range.judge_all(&cases, &strange);
        assert!(range.target.count(&["AddressConflict"]) > 0);
        control(range, &v6());
    });
}

/// Version 2 knows no pseudo-header, but the kernel's check of IPv6 does.
fn summed_for_the_kernel() -> Shot {
    let right = Shot { version: 3, tail: vec![0; 8], ..Shot::v6() }.message();
    // The first byte goes from 0x31 to 0x21, so the sum has to grow by 0x1000.
    let sum = u16::from_be_bytes([right[6], right[7]]);
    let (sum, carry) = sum.overflowing_add(0x1000);
    Shot { checksum: Sum::Exactly(sum + u16::from(carry)), ..Shot::v6() }
}

#[test]
fn multicast_version_2() {
    on_its_own_lan("multicast_version_2", |lan| {
        let mut range = Range::new(lan, "v4", "--version 2 --interval-ms 1000", "10.77.0.100/24");
        let v2 = Shot::v2;
        let strange = Shot { vrid: STRANGE_VRID, ..v2() };
        let cases = vec![
            ("interval 0", Shot { middle: [0, 0], ..v2() }, Dropped("interval")),
            ("another interval", Shot { middle: [0, 2], ..v2() }, Dropped("interval")),
            ("a password nobody asked for", Shot { middle: [1, 1], ..v2() }, Dropped("authentication")),
            ("authentication type 2", Shot { middle: [2, 1], ..v2() }, Dropped("authentication")),
            ("authentication type 3", Shot { middle: [3, 1], ..v2() }, Dropped("authentication")),
            ("without the eight bytes of authentication", Shot { tail: vec![], ..v2() }, Dropped("length")),
            ("version 3", Shot { middle: [0, 100], ..Shot::v4() }, Dropped("version")),
            ("checksum with pseudo-header", Shot { checksum: Sum::Off(0x3ee2), ..v2() }, Dropped("checksum")),
            ("TTL 254", Shot { ttl: 254, ..v2() }, Dropped("ttl")),
            ("a lower priority", Shot { priority: 100, ..v2() }, Accepted),
        ];
        range.judge_all(&cases, &strange);
        control(range, &v2());
    });
}

#[test]
fn multicast_version_2_with_a_password() {
    on_its_own_lan("multicast_version_2_with_a_password", |lan| {
        let options = "--version 2 --interval-ms 1000 --password secret";
        let mut range = Range::new(lan, "v4", options, "10.77.0.100/24");
        let with = |kind, password: &[u8; 8]| Shot { middle: [kind, 1], tail: password.to_vec(), ..Shot::v2() };
        let right = with(1, b"secret\0\0");
        let strange = Shot { vrid: STRANGE_VRID, ..right.clone() };
        let cases = vec![
            ("no password", Shot::v2(), Dropped("authentication")),
            ("wrong password", with(1, b"secreT\0\0"), Dropped("authentication")),
            ("a longer password", with(1, b"secret\0x"), Dropped("authentication")),
            ("type 0 with the right password", with(0, b"secret\0\0"), Dropped("authentication")),
            ("type 2 with the right password", with(2, b"secret\0\0"), Dropped("authentication")),
            ("type 3 with the right password", with(3, b"secret\0\0"), Dropped("authentication")),
            ("the right password", Shot { priority: 100, ..right.clone() }, Accepted),
        ];
        range.judge_all(&cases, &strange);
        control(range, &right);
    });
}

#[test]
fn unicast_over_ipv4() {
    on_its_own_lan("unicast_over_ipv4", |lan| {
        let mut range = Range::new(lan, "v4", "--peer 10.77.0.3", "10.77.0.100/24");
        let to_us = || Shot { destination: IpAddr::from([10, 77, 0, 1]), ..Shot::v4() };
        let strange = Shot { vrid: STRANGE_VRID, ..to_us() };
        let cases = vec![
            ("to the group", Shot::v4(), Unseen),
            ("from a stranger", Shot { source: IpAddr::from([10, 77, 0, 9]), ..to_us() }, Dropped("source")),
            ("from the peer, TTL 254", Shot { ttl: 254, ..to_us() }, Dropped("ttl")),
            ("checksum for the group", Shot { checksum: Sum::Off(1), ..to_us() }, Dropped("checksum")),
            ("a release by a stranger", released(Shot { source: [10, 77, 0, 9].into(), ..to_us() }), Dropped("source")),
            ("from the peer, lower priority", Shot { priority: 100, ..to_us() }, Accepted),
        ];
        range.judge_all(&cases, &strange);
        control(range, &to_us());
    });
}

fn released(shot: Shot) -> Shot {
    Shot { priority: 0, ..shot }
}

#[test]
fn signed_adverts() {
    on_its_own_lan("signed_adverts", |lan| {
        let mut range = Range::new(lan, "v4", &format!("--hmac-key {KEY}"), "10.77.0.100/24");
        let mut clock = utc().0;
        let mut sign = |shot: Shot, id: u8, key: &str| {
            clock += 1_000_000;
            signed(shot, id, key, Utc(clock))
        };
        let strange = sign(Shot { vrid: STRANGE_VRID, ..Shot::v4() }, 1, KEY);
        let replayed = sign(Shot { priority: 100, ..Shot::v4() }, 1, KEY);
        let mut torn = sign(Shot::v4(), 1, KEY);
        torn.tail[20] ^= 1;
        let mut raised = sign(Shot { priority: 1, ..Shot::v4() }, 1, KEY);
        raised.priority = 255;
        let cases = vec![
            ("no trailer", Shot::v4(), Dropped("authentication")),
            ("an unknown key's number", sign(Shot::v4(), 2, KEY), Dropped("authentication")),
            ("another key", sign(Shot::v4(), 1, &KEY.replace('a', "b")), Dropped("authentication")),
            ("a torn signature", torn, Dropped("authentication")),
            ("a priority changed after signing", raised, Dropped("authentication")),
            ("the same again", replayed, AcceptedOnce("authentication")),
            ("half a trailer", Shot { tail: vec![1; 14], ..Shot::v4() }, Dropped("length")),
        ];
        range.judge_all(&cases, &strange);
        let fresh = sign(Shot::v4(), 1, KEY);
        control(range, &fresh);
    });
}

/// With the trailer that keepalived 2.4 would append.
fn signed(shot: Shot, id: u8, key: &str, at: Utc) -> Shot {
    let key = Key::new(id, key.as_bytes().to_vec()).unwrap();
    let mut signer = Authenticator::new(vec![key], Mode::Enforce, Freshness::Growth).unwrap();
    let message = shot.message();
    let tail = signer.sign(at, Signed { source: shot.source, message: &message }).unwrap().to_vec();
    Shot { unsummed: tail.len(), tail, ..shot }
}

/// The shot without a fault does move the address: so all the others failed for their fault only.
fn control(mut range: Range, flawless: &Shot) {
    range.gun.fire(flawless);
    range.target.becomes("Backup", range.family, SOON);
}
