//! Cases 6 to 9 and 17: who is Active by the rules, when nothing is broken.

use crate::bench::{Bench, SOON, V4, Who};
use crate::cases;
use crate::wire::verdict::Note;
use crate::wire::{Lan, eventually};
use nix::sys::signal::Signal;
use std::time::Duration;

cases! {
    case_06_nopreempt_lyre_is_the_high_node: lyre_does_not_come_back;
    case_06_nopreempt_keepalived_is_the_high_node: keepalived_does_not_come_back;
    case_07_preempt_delay_of_lyre: lyre_preempts_after_a_delay;
    case_07_preempt_delay_of_keepalived: keepalived_preempts_after_a_delay;
    case_08_equal_priority_lyre_has_the_higher_address: |lan| equals(lan, Who::Lyre);
    case_08_equal_priority_keepalived_has_the_higher_address: |lan| equals(lan, Who::Keepalived);
    case_09_lyre_learns_a_longer_interval: |lan| lyre_learns(lan, 100, 1000);
    case_09_lyre_learns_a_shorter_interval: |lan| lyre_learns(lan, 1000, 100);
    case_09_keepalived_learns_a_longer_interval: |lan| keepalived_learns(lan, 1000, 100);
    case_09_keepalived_learns_a_shorter_interval: |lan| keepalived_learns(lan, 100, 1000);
    case_17_lyre_owns_the_address: |lan| owner(lan, 255, 254, Who::Lyre);
    case_17_keepalived_owns_the_address: |lan| owner(lan, 254, 255, Who::Keepalived);
    case_17_two_owners_lyre_has_the_higher_address: |lan| two_owners(lan, Who::Lyre);
    case_17_two_owners_keepalived_has_the_higher_address: |lan| two_owners(lan, Who::Keepalived);
}

/// Not after a restart, not after it stood still for longer than keepalived waits.
fn lyre_does_not_come_back(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4);
    let mut speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let mut keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    speaker.signal(Signal::SIGTERM);
    speaker.ends(SOON);
    bench.excuse();
    bench.settles_on(Who::Keepalived, "Lyre ended");
    speaker = bench.start_lyre();
    speaker.becomes("Backup", "v4", SOON);
    bench.adverts_pass(10);
    bench.settles_on(Who::Keepalived, "Lyre came back");
    bench.excuse();
    drop(speaker);
    keepalived.stop();

    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone again");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    speaker.signal(Signal::SIGSTOP);
    bench.settles_on(Who::Keepalived, "Lyre stood still");
    eventually("the lease ran out", SOON, || bench.holds_none(Who::Lyre));
    speaker.signal(Signal::SIGCONT);
    speaker.becomes("Backup", "v4", SOON);
    bench.adverts_pass(10);
    bench.settles_on(Who::Keepalived, "Lyre woke up");
    bench.acquits_lyre_but_for_silence("a restart and a stall");
}

/// keepalived keeps the rule over a restart, but not over a stall: it takes the address back when it wakes. Lyre has
/// to yield properly all the same.
fn keepalived_does_not_come_back(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Keepalived, &V4).with_options("", "nopreempt");
    let _speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let mut keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    bench.settles_on(Who::Lyre, "keepalived came with nopreempt");
    keepalived.stop();
    keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    bench.settles_on(Who::Lyre, "keepalived was restarted");
    bench.excuse();
    bench.lyre.cut_cable();
    bench.settles_on(Who::Keepalived, "Lyre's cable was cut");
    bench.interrupt();
    bench.lyre.mend_cable();
    keepalived.signal(Signal::SIGSTOP);
    bench.settles_on(Who::Lyre, "keepalived stood still");
    keepalived.signal(Signal::SIGCONT);
    bench.settles_on(Who::Keepalived, "keepalived woke up and does not yield");
    bench.has_let_go(Who::Lyre);
    bench.acquits_lyre("a restart and a stall of keepalived");
}

const DELAY: Duration = Duration::from_secs(3);

fn lyre_preempts_after_a_delay(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4).with_options("--preempt-after-ms 3000", "");
    let _keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "it started alone");
    let started = bench.tap.now();
    let speaker = bench.start_lyre();
    speaker.becomes("Active", "v4", SOON);
    bench.settles_on(Who::Lyre, "the delay");
    let record = bench.record(true);
    let is_sent = |note: &Note| matches!(note, Note::Sent { priority: 1.., .. });
    let sent = record.iter().find(|noted| is_sent(&noted.note)).unwrap().at;
    // The delay counts from the first advert heard, the down interval from the last one heard within the delay.
    assert!(sent - started >= DELAY, "not before the delay: {:?}", sent - started);
    let first =
        record.iter().find(|noted| noted.at > started + bench.interval && matches!(noted.note, Note::Heard { .. }));
    let down = bench.interval * 4;
    let late = (sent - first.unwrap().at).saturating_sub(DELAY + down);
    // Until its process ran, it heard nothing.
    let became_backup = speaker.lines().iter().any(|line| line.contains(r#""to":"Backup""#));
    assert!(became_backup && late.saturating_sub(bench.strain().within(started..sent)) <= SOON);
    bench.acquits_lyre("a delayed preemption");
}

fn keepalived_preempts_after_a_delay(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Keepalived, &V4).with_options("", "preempt_delay 3");
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let started = bench.tap.now();
    let _keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "its delay");
    let adverts = bench.tap.adverts(true, started);
    let theirs = adverts.iter().find(|seen| seen.source == bench.other.address_v4()).unwrap();
    assert!(theirs.at - started >= DELAY, "Lyre was heard all the time: {:?}", theirs.at - started);
    speaker.becomes("Backup", "v4", SOON);
    bench.acquits_lyre("keepalived's delayed preemption");
}

/// A late joiner of the same priority leaves the Active alone, whatever its address; two at once are settled by it.
fn equals(lan: &Lan, higher: Who) {
    let bench = Bench::new(lan, 100, higher.other(), &V4).with_priorities(200, 200);
    let mut speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    bench.settles_on(Who::Lyre, "keepalived joined late");
    speaker.signal(Signal::SIGTERM);
    speaker.ends(SOON);
    bench.excuse();
    bench.settles_on(Who::Keepalived, "Lyre ended");
    speaker = bench.start_lyre();
    speaker.becomes("Backup", "v4", SOON);
    bench.adverts_pass(10);
    bench.settles_on(Who::Keepalived, "Lyre joined late");
    // Both become Active, each on an island; then they meet.
    bench.lyre.isolate();
    speaker.becomes("Active", "v4", SOON);
    bench.adverts_pass(5);
    bench.lyre.rejoin();
    bench.settles_on(higher, "equals met");
    bench.has_let_go(higher.other());
    bench.acquits_lyre("a tie");
    drop(keepalived);
}

/// As Backup it waits three of keepalived's intervals, as Active it advertises by its own.
fn lyre_learns(lan: &Lan, lyre_ms: u64, keepalived_ms: u64) {
    let bench = Bench::new(lan, lyre_ms, Who::Keepalived, &V4).with_keepalived_interval(keepalived_ms);
    let mut keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "it started alone");
    let speaker = bench.start_lyre();
    speaker.becomes("Backup", "v4", SOON);
    bench.adverts_pass(3);
    let killed = bench.tap.now();
    keepalived.crash();
    speaker.becomes("Active", "v4", SOON);
    bench.adverts_pass(3);
    bench.lyre_took_over_in_time(killed);
    bench.acquits_lyre("waiting by the learned interval"); // not earlier either
    let ours = bench.tap.adverts(true, killed).into_iter().find(|seen| seen.source == bench.lyre.address_v4());
    assert_eq!(ours.unwrap().advert.interval.duration(), bench.interval);
}

fn keepalived_learns(lan: &Lan, lyre_ms: u64, keepalived_ms: u64) {
    let bench = Bench::new(lan, lyre_ms, Who::Lyre, &V4).with_keepalived_interval(keepalived_ms);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(6);
    bench.settles_on(Who::Lyre, "keepalived learned its interval");
    bench.excuse();
    drop(speaker);
    bench.settles_on(Who::Keepalived, "Lyre was killed");
}

fn owner(lan: &Lan, lyre: u8, keepalived: u8, owner: Who) {
    let bench = Bench::new(lan, 100, owner, &V4).with_priorities(lyre, keepalived);
    let mut their = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "it started alone");
    let mut speaker = bench.start_lyre();
    bench.settles_on(owner, "both started");
    bench.has_let_go(owner.other());
    match owner {
        Who::Lyre => {
            speaker.signal(Signal::SIGTERM);
            speaker.ends(SOON);
            bench.excuse();
            bench.settles_on(Who::Keepalived, "the owner ended");
            speaker = bench.start_lyre();
        }
        Who::Keepalived => {
            their.stop();
            bench.settles_on(Who::Lyre, "the owner ended");
            their = bench.start_keepalived();
        }
    }
    bench.settles_on(owner, "the owner came back");
    if owner == Who::Keepalived {
        bench.acquits_lyre("an owner beside it"); // as owner it does preempt
    }
    drop((speaker, their));
}

/// Both are configured as owner: one remains, and Lyre says so.
fn two_owners(lan: &Lan, higher: Who) {
    let bench = Bench::new(lan, 100, higher.other(), &V4).with_priorities(255, 255);
    let mut speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    speaker.expect(&["TwoOwners"], SOON);
    eventually("Lyre raises the alarm", SOON, || speaker.status("v4").contains("two_owners"));
    eventually("one of them remains", SOON, || {
        let since = bench.tap.now() - bench.interval * 5;
        bench.tap.actives(true, since).len() == 1 && bench.holds(Who::Lyre) != bench.holds(Who::Keepalived)
    });
}
