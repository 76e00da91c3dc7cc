//! The judge of the other tests is judged: what it must condemn, and what is no fault of the accused.

#![allow(clippy::unwrap_used)]

mod wire;

use std::net::IpAddr;
use std::time::Duration;
use wire::strain::Strain;
use wire::verdict::{Fault, Note, Noted, Rules, judge};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 1));
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 2));
const VIRTUAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 100));

#[test]
fn a_reign_on_time_is_no_fault() {
    assert_eq!(judged(&reign(0..100)), []);
}

#[test]
fn a_loser_that_goes_on_beside_us_is_no_fault_of_ours() {
    let mut record = reign(0..100);
    record.extend((20..100).map(|at| heard(at * 10 + 5, 253)));
    assert_eq!(judged(&record), [], "it was answered all the time; it did not listen");
}

#[test]
fn an_advert_that_was_under_way_when_the_better_one_came_is_excused_and_the_next_one_is_not() {
    let mut record = reign(0..3);
    record.extend([heard(25, 255), at_us(25_100, Note::Lost(VIRTUAL)), at_us(25_050, sent_note())]);
    assert_eq!(judged(&record), []);
    record.push(sent(30));
    assert_eq!(judged(&record), [Fault::SpokeOn { outranked: ms(25), at: ms(30) }]);
}

#[test]
fn a_take_over_needs_a_whole_down_interval_of_silence() {
    let skew = 10_000 * 2 / 256; // priority 254
    let early = [heard(0, 253), at_us(30_000 + skew - 1, sent_note())];
    assert!(matches!(judged(&early)[..], [Fault::TookOverFromTheLiving { .. }]));
    let punctual = [heard(0, 253), at_us(30_000 + skew + 1, sent_note())];
    assert_eq!(judged(&punctual), []);
}

#[test]
fn an_advert_that_came_while_ours_could_not_leave_is_excused() {
    let record = [heard(0, 253), heard(30, 253), sent(37), sent(47)];
    let judged_under = |strain| judge(&record, &rules(), &Strain(strain), ms(50));
    assert_eq!(judged_under(vec![ms(30)..ms(37)]), []);
    assert!(matches!(judged_under(vec![ms(32)..ms(37)])[..], [Fault::TookOverFromTheLiving { .. }, ..]));
    assert!(matches!(judged_under(vec![])[..], [Fault::TookOverFromTheLiving { .. }, ..]));
}

#[test]
fn a_take_over_after_a_release_needs_the_skew_time_only() {
    let record = [heard(0, 253), heard(5, 0), at_us(5_079, sent_note())];
    assert_eq!(judged(&record), []);
    let from_a_stranger = Note::Heard { source: IpAddr::from([10, 77, 0, 9]), priority: 0, interval: INTERVAL };
    let record = [heard(0, 253), at_us(5_000, from_a_stranger), at_us(5_079, sent_note())];
    assert!(matches!(judged(&record)[..], [Fault::TookOverFromTheLiving { .. }]));
}

#[test]
fn silence_is_a_fault_unless_the_machine_stole_it() {
    let mut record = reign(0..3);
    record.push(sent(45)); // 25 ms after the last one
    assert!(matches!(judged(&record)[..], [Fault::FellSilent { .. }]));
    let stolen = Strain(vec![ms(25)..ms(31), ms(28)..ms(33)]);
    assert_eq!(judge(&sorted(&record), &rules(), &stolen, ms(46)), [], "17 ms of its own: one advert left out");
    let elsewhere = Strain(vec![ms(50)..ms(80)]);
    assert!(matches!(judge(&sorted(&record), &rules(), &elsewhere, ms(46))[..], [Fault::FellSilent { .. }]));
}

#[test]
fn an_address_that_outlives_its_owners_defeat_is_a_fault() {
    let mut record = reign(0..3);
    record.push(heard(25, 255));
    assert!(matches!(judge(&record, &rules(), &Strain::default(), ms(36))[..], [Fault::KeptAddress { .. }]));
    record.push(at_us(34_000, Note::Lost(VIRTUAL)));
    assert_eq!(judge(&record, &rules(), &Strain::default(), ms(99)), []);
}

#[test]
fn an_announcement_after_the_address_went_is_a_fault() {
    let mut record = reign(0..3);
    record.extend([heard(25, 255), at_us(25_100, Note::Lost(VIRTUAL)), at_us(26_000, Note::Announced(VIRTUAL))]);
    assert!(matches!(judged(&record)[..], [Fault::AnnouncedWithoutAddress { .. }]));
}

#[test]
fn who_was_replaced_while_it_stood_still_must_not_come_back() {
    let mut record = reign(0..3);
    record.extend([heard(60, 253), at_us(60_100, Note::Lost(VIRTUAL))]);
    assert_eq!(judged(&record), []);
    record.extend([sent(61), sent(71)]);
    assert!(matches!(judged(&record)[..], [Fault::SpokeOn { .. }]));
}

#[test]
fn what_the_test_did_is_no_fault() {
    let mut record = reign(0..3);
    record.extend([heard(20, 255), at_us(21_000, Note::Interrupted), sent(500)]);
    assert_eq!(judged(&record), []);
    let mut killed = reign(0..3);
    killed.extend([at_us(21_000, Note::Excused), heard(60, 253), heard(70, 253), sent(80)]);
    assert_eq!(judged(&killed), []);
    let hasty = [at_us(0, Note::Interrupted), sent(29)];
    assert!(matches!(judged(&hasty)[..], [Fault::TookOverUnheard { .. }]), "but a start has to listen");
}

const INTERVAL: Duration = Duration::from_millis(10);

fn rules() -> Rules {
    Rules { priority: 254, interval: INTERVAL, addresses: vec![VIRTUAL], preempts: false, is_version_2: false }
}

fn judged(record: &[Noted]) -> Vec<Fault> {
    let record = sorted(record);
    let end = record.last().unwrap().at;
    judge(&record, &rules(), &Strain::default(), end)
}

fn sorted(record: &[Noted]) -> Vec<Noted> {
    let mut record = record.to_vec();
    record.sort_by_key(|noted| noted.at);
    record
}

/// Adverts every 10 ms, numbered, with the address in place.
fn reign(adverts: std::ops::Range<u64>) -> Vec<Noted> {
    let start = [sent(adverts.start * 10), at_us(adverts.start * 10_000 + 50, Note::Gained(VIRTUAL))];
    start.into_iter().chain(adverts.skip(1).map(|number| sent(number * 10))).collect()
}

fn sent(at_ms: u64) -> Noted {
    at_us(at_ms * 1000, sent_note())
}

fn sent_note() -> Note {
    Note::Sent { source: OWN, priority: 254 }
}

fn heard(at_ms: u64, priority: u8) -> Noted {
    at_us(at_ms * 1000, Note::Heard { source: PEER, priority, interval: INTERVAL })
}

fn at_us(at: u64, note: Note) -> Noted {
    Noted { at: Duration::from_micros(1_000_000 + at), note }
}

fn ms(at: u64) -> Duration {
    Duration::from_millis(1000 + at)
}
