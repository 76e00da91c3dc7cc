//! Other ways to speak than multicast version 3, between Lyres: unicast, HMAC, both checksum forms. What keepalived
//! speaks, too, is in the matrix.

#![allow(clippy::unwrap_used)]

mod wire;

use std::time::Duration;
use wire::speaker::Speaker;
use wire::tap::Tap;
use wire::{eventually, on_a_lan};

const V4: [&str; 1] = ["10.77.0.100/24"];
const V6: [&str; 1] = ["fd77::100/128"];
const LIMIT: Duration = Duration::from_secs(20);
const KEY: &str = "an-example-of-a-key-with-32-bytes";

#[test]
fn a_unicast_router_ignores_who_is_not_its_peer() {
    on_a_lan("a_unicast_router_ignores_who_is_not_its_peer", |lan| {
        let (one, stranger) = (lan.node(1), lan.node(3));
        let mut speaker = Speaker::start(&one, "--priority 100 --peer 10.77.0.2", &V4);
        speaker.becomes("Active", "v4", LIMIT);
        let _stranger = Speaker::start(&stranger, "--priority 254 --peer 10.77.0.1 --preempt-after-ms 0", &V4);
        eventually("its adverts are counted as refused", LIMIT, || !speaker.status("v4").contains("source: 0,"));
        assert_eq!(speaker.state("v4"), "Active");
    });
}

#[test]
fn signed_adverts_are_believed_and_others_are_not() {
    on_a_lan("signed_adverts_are_believed_and_others_are_not", |lan| {
        let (one, two, three) = (lan.node(1), lan.node(2), lan.node(3));
        let options = format!("--priority 200 --hmac-key {KEY}");
        let addresses = [V4[0], V6[0]];
        let one_speaker = Speaker::start(&one, &options, &addresses);
        one_speaker.becomes("Active", "v4", LIMIT);
        one_speaker.becomes("Active", "v6", LIMIT);
        let mut two_speaker = Speaker::start(&two, &options, &addresses);
        eventually("its peer is believed", LIMIT, || {
            ["v4", "v6"].iter().all(|family| !two_speaker.status(family).contains(r#""received":0,"#))
        });
        let forger = Speaker::start(&three, "--priority 254 --preempt-after-ms 0", &addresses);
        forger.becomes("Active", "v4", LIMIT);
        eventually("the unsigned adverts are refused", LIMIT, || {
            ["v4", "v6"].iter().all(|family| !two_speaker.status(family).contains("authentication: 0,"))
        });
        // Had they believed the forger, both would be Backups; had they not believed each other, both Active. Which of them
        // it is may have changed: where a processor stands still for long enough, the other one takes over.
        for family in ["v4", "v6"] {
            eventually("one of the two is Active", LIMIT, || {
                let states = [one_speaker.state(family), two_speaker.state(family)];
                ["Active", "Backup"].iter().all(|state| states.iter().any(|one| one == state))
            });
        }
    });
}

#[test]
fn a_peer_with_the_other_checksum_form_is_mirrored() {
    let name = "a_peer_with_the_other_checksum_form_is_mirrored";
    on_a_lan(name, |lan| {
        let (one, two) = (lan.node(1), lan.node(2));
        let mut first = Speaker::start(&one, "--priority 254 --checksum rfc9568", &V4);
        first.becomes("Active", "v4", LIMIT);
        let mut second = Speaker::start(&two, "--priority 253 --checksum auto", &V4);
        eventually("the other form is accepted", LIMIT, || !second.status("v4").contains(r#""received":0,"#));
        let tap = Tap::on(lan);
        first.order("handover");
        second.becomes("Active", "v4", LIMIT);
        let since = tap.now();
        eventually("adverts of the mirror", LIMIT, || tap.adverts(true, since).len() > 3);
        // The message without pseudo-header sums to all ones; the tap's frames have Ethernet and IPv4 headers in front.
        let frames = tap.frames();
        let of_mirror = frames.iter().filter(|f| f.at >= since && f.bytes.get(26..30) == Some(&[10, 77, 0, 2][..]));
        let messages: Vec<_> = of_mirror.filter(|f| f.bytes.get(23) == Some(&112)).map(|f| &f.bytes[34..46]).collect();
        assert!(!messages.is_empty());
        for message in messages {
            let words = message.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
            let sum: u32 = words.sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{message:02x?}");
        }
    });
}
