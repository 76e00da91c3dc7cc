//! Cases 11, 14, 18, 19 and 21: bad cables, hands on the interface, a process that does not run, floods.

use crate::bench::{Bench, SOON, V4, Who};
use crate::cases;
use crate::wire::raw::{Gun, Shot, Sum};
use crate::wire::relay::Weather;
use crate::wire::speaker::Speaker;
use crate::wire::strain::Canaries;
use crate::wire::tap::Tap;
use crate::wire::verdict::Note;
use crate::wire::{Lan, eventually};
use nix::sys::signal::Signal;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

cases! {
    case_11_every_fifth_frame_lost_lyre_preferred: |lan| loss(lan, Who::Lyre, "numgen inc mod 5 0");
    case_11_every_fifth_frame_lost_keepalived_preferred: |lan| loss(lan, Who::Keepalived, "numgen inc mod 5 0");
    case_11_a_tenth_lost_at_random: |lan| loss(lan, Who::Keepalived, "numgen random mod 10 0");
    case_11_most_frames_lost_lyre_preferred: |lan| loss(lan, Who::Lyre, "numgen random mod 10 < 6");
    case_11_most_frames_lost_keepalived_preferred: |lan| loss(lan, Who::Keepalived, "numgen random mod 10 < 6");
    case_11_delayed_doubled_and_reordered_lyre_preferred: |lan| bad_cable(lan, Who::Lyre);
    case_11_delayed_doubled_and_reordered_keepalived_preferred: |lan| bad_cable(lan, Who::Keepalived);
    case_14_hands_on_lyres_interface: hands_on_lyres_interface;
    case_14_hands_on_keepaliveds_interface: hands_on_keepaliveds_interface;
    case_18_lyre_stands_still_at_times: lyre_stands_still;
    case_18_keepalived_stands_still_at_times: keepalived_stands_still;
    case_18_lyre_gets_a_third_of_a_core: lyre_is_throttled;
    case_18_all_cores_are_busy: busy_cores;
    case_19_a_flood_of_bogus_adverts: flood;
    case_21_the_lease_ends_a_killed_lyre: |lan| lease(lan, Signal::SIGKILL);
    case_21_the_lease_ends_a_stopped_lyre: |lan| lease(lan, Signal::SIGSTOP);
}

/// What arrives at Lyre is thinned out. Whoever takes over in it, must have had the silence to justify it; and once
/// the cable is good again there is one Active.
fn loss(lan: &Lan, preferred: Who, lost: &str) {
    let bench = Bench::new(lan, 50, preferred, &V4);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.settles_on(preferred, "both started");
    bench.lyre.lose(lost);
    bench.adverts_pass(80);
    bench.lyre.lose_no_more();
    bench.adverts_pass(6);
    let after = bench.one_remains("the loss ended");
    eventually("Lyre knows", SOON, || (speaker.state("v4") == "Active") == (after == Who::Lyre));
    bench.acquits_lyre("loss");
}

/// Up to a whole interval late, a tenth twice, in any order.
fn bad_cable(lan: &Lan, preferred: Who) {
    let bench = Bench::new(lan, 100, preferred, &V4);
    let _speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.settles_on(preferred, "both started");
    let relay = bench.lyre.wear_out_cable(Weather { delay_max: Duration::from_millis(100), duplicate_percent: 10 });
    bench.adverts_pass(60);
    bench.one_remains("a minute of bad weather");
    bench.acquits_lyre("delay, doubling and reordering");
    drop(relay);
}

/// The table of link and address events: what is Lyre's own comes back at once, what is the node's is waited for.
fn hands_on_lyres_interface(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4);
    let lyre = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.adverts_pass(20);

    bench.lyre.ip("address delete 10.77.0.100/24 dev eth0");
    lyre.expect(&["AddressRestored"], SOON);
    eventually("the address is back", SOON, || bench.holds(Who::Lyre));
    bench.adverts_pass(5);
    bench.settles_on(Who::Lyre, "its address was deleted");
    assert_eq!(lyre.state("v4"), "Active");
    bench.acquits_lyre("a deleted address");

    bench.lyre.ip("-4 address flush dev eth0");
    bench.settles_on(Who::Keepalived, "Lyre's addresses were flushed");
    lyre.becomes("Initialize", "v4", SOON);
    bench.lyre.ip("address add 10.77.0.1/24 dev eth0");
    lyre.becomes("Backup", "v4", SOON);

    bench.lyre.ip("link set eth0 down");
    lyre.becomes("Initialize", "v4", SOON);
    bench.lyre.ip("link set eth0 up");
    lyre.becomes("Backup", "v4", SOON);

    bench.lyre.unplug();
    lyre.becomes("Initialize", "v4", SOON);
    bench.lyre.plug_in();
    lyre.becomes("Backup", "v4", SOON);

    for (from, to, state) in [("eth0", "eth9", "Initialize"), ("eth9", "eth0", "Backup")] {
        bench.lyre.ip(&format!("link set {from} down"));
        bench.lyre.ip(&format!("link set {from} name {to}"));
        bench.lyre.ip(&format!("link set {to} up"));
        lyre.becomes(state, "v4", SOON);
    }
    bench.settles_on(Who::Keepalived, "all that");
    drop(keepalived);
    lyre.becomes("Active", "v4", SOON);
}

/// keepalived gives up at once and comes back by its skew time; Lyre may or may not be faster, but plays by the rules.
fn hands_on_keepaliveds_interface(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Keepalived, &V4);
    let _lyre = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "both started");
    bench.other.ip("address delete 10.77.0.100/24 dev eth0");
    bench.adverts_pass(6);
    bench.settles_on(Who::Keepalived, "its address was deleted");
    bench.other.ip("link set eth0 down");
    bench.settles_on(Who::Lyre, "keepalived's link went down");
    bench.other.ip("link set eth0 up");
    bench.settles_on(Who::Keepalived, "keepalived's link came back");
    bench.has_let_go(Who::Lyre);
    bench.acquits_lyre("hands on keepalived's interface");
}

/// Below its lease and the down interval nothing may come of it, above it Lyre has to find out that it was replaced.
fn lyre_stands_still(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let mut keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    for stall_ms in [200, 500, 2000] {
        speaker.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(stall_ms)); // the stall itself
        speaker.signal(Signal::SIGCONT);
        bench.adverts_pass(8);
        if bench.one_remains(&format!("Lyre stood still for {stall_ms} ms")) == Who::Keepalived {
            // Healthy nodes do not take the address from each other.
            speaker.becomes("Backup", "v4", SOON);
            keepalived.stop();
            bench.settles_on(Who::Lyre, "keepalived went");
            keepalived = bench.start_keepalived();
            bench.adverts_pass(20);
        }
    }
    bench.acquits_lyre_but_for_silence("stalls");
}

/// What keepalived does here, the same judge condemns: it goes on as Active after it was replaced.
fn keepalived_stands_still(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Keepalived, &V4);
    let _speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "both started");
    for stall_ms in [200, 500, 2000] {
        keepalived.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(stall_ms)); // the stall itself
        keepalived.signal(Signal::SIGCONT);
        bench.adverts_pass(8);
        bench.settles_on(Who::Keepalived, &format!("keepalived stood still for {stall_ms} ms"));
    }
    bench.acquits_lyre("keepalived's stalls");
    let faults = bench.faults_of_keepalived();
    assert!(!faults.is_empty(), "with preemption off this would be wrong");
}

/// 30 ms in every 100, as a cgroup's cpu.max would do to a process that is not real-time.
fn lyre_is_throttled(lan: &Lan) {
    let bench = Bench::new(lan, 50, Who::Lyre, &V4);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(40);
    let transitions = speaker.count(&["transition"]);
    for _ in 0..40 {
        speaker.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_millis(70));
        speaker.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(30));
    }
    bench.adverts_pass(5);
    bench.acquits_lyre_but_for_silence("throttling");
    if bench.one_remains("throttling") == Who::Lyre {
        assert_eq!(speaker.count(&["transition"]), transitions);
    }
}

/// Four times as many busy processes as cores beside both, at the shortest interval.
fn busy_cores(lan: &Lan) {
    let bench = Bench::new(lan, 10, Who::Lyre, &V4);
    let _speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(100);
    let hogs: Vec<_> = (0..8).map(|_| Hog::start()).collect();
    bench.adverts_pass(300);
    drop(hogs);
    bench.settles_on(Who::Lyre, "the load ended");
    bench.acquits_lyre("load");
}

struct Hog(Child);

impl Hog {
    fn start() -> Hog {
        Hog(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 50,000 a second for two seconds, half of the same VRID and wrong, half of another VRID and right.
fn flood(lan: &Lan) {
    let (node, attacker) = (lan.node(1), lan.node(3));
    let (tap, canaries) = (Tap::of_sent(&node), Canaries::start());
    let mut speaker = Speaker::start(&node, "--priority 254", &V4);
    speaker.becomes("Active", "v4", SOON);
    let mut gun = Gun::on(&attacker);
    let kinds = [Shot { checksum: Sum::Off(1), ..Shot::v4() }, Shot { vrid: 52, ..Shot::v4() }];
    let frames = kinds.map(|shot| shot.frame(gun.mac()));
    let lines = speaker.lines().len();
    let (used, from) = (speaker.cpu_of("vrrp"), tap.now());
    let (start, mut sent) = (Instant::now(), 0u32);
    while start.elapsed() < Duration::from_secs(2) {
        (0..25).for_each(|_| frames.iter().for_each(|frame| gun.send(frame)));
        sent += 50;
        std::thread::sleep((start + Duration::from_micros(20) * sent).saturating_duration_since(Instant::now()));
    }
    let (until, used) = (tap.now(), speaker.cpu_of("vrrp").saturating_sub(used));
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0;
    eprintln!("{sent} bogus adverts in {:?}: the vrrp thread took {share:.1} % of a core", start.elapsed());

    let status = speaker.status("v4");
    assert!(!status.contains("checksum: 0,") && !status.contains("vrid: 0,"), "counted: {status}");
    assert_eq!(speaker.state("v4"), "Active");
    assert!(speaker.lines().len() <= lines + 2, "quiet: {:?}", &speaker.lines()[lines..]);
    let (interval, strain) = (Duration::from_millis(100), canaries.strain());
    let adverts: Vec<_> = tap.adverts(true, from).into_iter().map(|seen| seen.at).filter(|at| *at < until).collect();
    assert!(adverts.len() > 10, "it advertised: {}", adverts.len());
    for pair in adverts.windows(2) {
        let late = (pair[1] - pair[0]).saturating_sub(interval).saturating_sub(strain.within(pair[0]..pair[1]));
        assert!(late <= interval / 2, "an advert {late:?} late, {status}");
    }
    let is_strained = strain.longest() > interval / 2;
    assert!(is_strained || status.contains(r#""late":0,"#), "{status}");
}

/// The kernel takes the address when nobody renews its lease of three seconds.
fn lease(lan: &Lan, signal: Signal) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    let gone = bench.tap.now();
    speaker.signal(signal);
    bench.settles_on(Who::Keepalived, "Lyre was gone");
    bench.has_let_go(Who::Lyre);
    eventually("it is on record", SOON, || lost(&bench, gone).is_some());
    let held = lost(&bench, gone).unwrap() - gone;
    let held = held.saturating_sub(bench.strain().within(gone..gone + held));
    assert!(held <= Duration::from_millis(3500), "held for {held:?}");
}

fn lost(bench: &Bench, since: Duration) -> Option<Duration> {
    let record = bench.record(true);
    let is_lost = |note: &Note| matches!(note, Note::Lost(address) if address.to_string() == "10.77.0.100");
    record.iter().find(|noted| noted.at >= since && is_lost(&noted.note)).map(|noted| noted.at)
}
