//! Cases 2, 3, 8 and 11: everything that can happen to either node, one after the other, at three advert intervals.
//!
//! After each fault the LAN must have exactly one Active, and in the end Lyre must be free of blame: see
//! [`crate::wire::verdict`]. Both families at once, so that each interval covers cases 2 and 3.

use crate::bench::{Bench, Who};
use crate::cases;
use crate::wire::Lan;
use nix::sys::signal::Signal;

const ADDRESSES: [&str; 3] = ["10.77.0.100/24", "fe80::77:100/128", "fd77::100/128"];

cases! {
    case_02_03_11_lyre_preferred_at_1_s: |lan| walk(lan, 1000, Who::Lyre);
    case_02_03_11_keepalived_preferred_at_1_s: |lan| walk(lan, 1000, Who::Keepalived);
    case_02_03_11_lyre_preferred_at_100_ms: |lan| walk(lan, 100, Who::Lyre);
    case_02_03_11_keepalived_preferred_at_100_ms: |lan| walk(lan, 100, Who::Keepalived);
    case_02_03_11_lyre_preferred_at_10_ms: |lan| walk(lan, 10, Who::Lyre);
    case_02_03_11_keepalived_preferred_at_10_ms: |lan| walk(lan, 10, Who::Keepalived);
}

fn walk(lan: &Lan, interval_ms: u64, preferred: Who) {
    let bench = Bench::new(lan, interval_ms, preferred, &ADDRESSES);
    orderly_changes(&bench, preferred);
    bench.acquits_lyre("orderly changes");
    if interval_ms == 1000 {
        // The rest would only take longer than at the other intervals.
        return bench.frames_are_flawless();
    }
    crashes(&bench, preferred);
    bench.acquits_lyre("crashes");
    cables(&bench, preferred);
    bench.acquits_lyre("cables");
    bench.frames_are_flawless();
}

/// keepalived takes over from a lower priority; Lyre never does from a healthy Active.
fn orderly_changes(bench: &Bench, preferred: Who) {
    let mut lyre = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let mut keepalived = bench.start_keepalived();
    bench.settles_on(preferred, "both started");
    bench.has_let_go(preferred.other());
    lyre.signal(Signal::SIGTERM);
    lyre.ends(bench.limit());
    bench.excuse();
    bench.settles_on(Who::Keepalived, "Lyre ended in order");
    bench.has_let_go(Who::Lyre);
    lyre = bench.start_lyre();
    lyre.becomes("Backup", "v4", bench.limit());
    bench.adverts_pass(4);
    bench.settles_on(Who::Keepalived, "Lyre came back");
    keepalived.stop();
    bench.settles_on(Who::Lyre, "keepalived ended in order");
    bench.excuse();
    drop(lyre);
}

fn crashes(bench: &Bench, preferred: Who) {
    let mut keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "it started alone");
    let mut lyre = bench.start_lyre();
    lyre.becomes("Backup", "v4", bench.limit());
    let killed = bench.tap.now();
    keepalived.crash();
    bench.settles_on(Who::Lyre, "keepalived was killed");
    bench.lyre_took_over_in_time(killed);
    keepalived = bench.start_keepalived();
    bench.settles_on(preferred, "keepalived came back after a crash");
    bench.excuse();
    drop(lyre); // SIGKILL
    bench.settles_on(Who::Keepalived, "Lyre was killed");
    bench.has_let_go(Who::Lyre);
    lyre = bench.start_lyre();
    lyre.becomes("Backup", "v4", bench.limit());
    bench.settles_on(Who::Keepalived, "Lyre came back after a crash");
    keepalived.stop();
    bench.excuse();
    drop(lyre);
}

fn cables(bench: &Bench, preferred: Who) {
    let lyre = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.settles_on(preferred, "both started");
    bench.excuse();
    bench.lyre.cut_cable();
    bench.settles_on(Who::Keepalived, "Lyre's cable was cut");
    bench.has_let_go(Who::Lyre);
    bench.interrupt();
    bench.lyre.mend_cable();
    lyre.becomes("Backup", "v4", bench.limit());
    bench.adverts_pass(5);
    bench.settles_on(Who::Keepalived, "Lyre's cable was mended");
    let cut = bench.tap.now();
    bench.other.cut_cable();
    bench.settles_on(Who::Lyre, "keepalived's cable was cut");
    bench.lyre_took_over_in_time(cut);
    bench.other.mend_cable();
    bench.settles_on(preferred, "keepalived's cable was mended");
    bench.has_let_go(preferred.other());

    // A switch dies somewhere: both are Active on their own island, and have to agree again.
    let isolated = bench.node(preferred);
    isolated.isolate();
    bench.settles_on(preferred.other(), "the preferred node was isolated");
    isolated.rejoin();
    bench.settles_on(preferred, "the LAN healed: the higher priority wins");
    bench.has_let_go(preferred.other());
    drop((lyre, keepalived));
}
