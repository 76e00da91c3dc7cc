//! Cases 12, 15 and 16: reloads, sync groups, and two virtual routers that cross.

use crate::bench::{Bench, SOON, V4, Who};
use crate::cases;
use crate::wire::keepalived::{Keepalived, configuration, instance};
use crate::wire::speaker::Speaker;
use crate::wire::{Lan, Node, eventually};
use std::time::Duration;

cases! {
    case_12_reload_of_lyres_priority: priority_of_lyre;
    case_12_reload_of_keepaliveds_priority: priority_of_keepalived;
    case_12_an_address_more_on_one_side_then_on_both_lyre_first: |lan| address_more(lan, Who::Lyre);
    case_12_an_address_more_on_one_side_then_on_both_keepalived_first: |lan| address_more(lan, Who::Keepalived);
    case_15_a_sync_group_of_both_families_breaks_at_lyre: |lan| sync_group(lan, Who::Lyre);
    case_15_a_sync_group_of_both_families_breaks_at_keepalived: |lan| sync_group(lan, Who::Keepalived);
    case_16_two_virtual_routers_cross: crossing;
}

fn priority_of_lyre(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4).with_priorities(254, 200);
    let mut speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let _keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    let (start, transitions) = (bench.tap.now(), speaker.count(&["transition"]));
    speaker.order("priority 220");
    let is_told = |is: u8| bench.tap.adverts(true, start).iter().any(|seen| seen.advert.priority.0 == is);
    eventually("the new priority is on the wire", SOON, || is_told(220));
    bench.adverts_pass(5);
    assert_eq!(speaker.count(&["transition"]), transitions, "still the better one");
    bench.settles_on(Who::Lyre, "a lower priority");
    bench.acquits_lyre("a reload of its priority"); // no gap, too
    speaker.order("priority 150");
    bench.settles_on(Who::Keepalived, "a priority below keepalived's");
}

fn priority_of_keepalived(lan: &Lan) {
    let bench = Bench::new(lan, 100, Who::Keepalived, &V4).with_priorities(200, 220);
    let speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.settles_on(Who::Keepalived, "both started");
    let start = bench.tap.now();
    keepalived.reload(&bench.keepalived_configuration(210));
    let is_told = |is: u8| bench.tap.adverts(true, start).iter().any(|seen| seen.advert.priority.0 == is);
    eventually("the new priority is on the wire", SOON, || is_told(210));
    bench.adverts_pass(5);
    bench.settles_on(Who::Keepalived, "a lower priority");
    keepalived.reload(&bench.keepalived_configuration(150));
    // Lyre does not preempt. A reload that takes longer than three adverts is a silence, though, and then it remains.
    eventually("the new priority counts", SOON, || is_told(150) || speaker.state("v4") == "Active");
    bench.adverts_pass(5);
    bench.one_remains("a priority below Lyre's");
    bench.acquits_lyre("reloads of keepalived's priority");
}

/// keepalived 2.2.7 drops adverts with another list of addresses, so in between both may be Active; with the same list
/// again there is one.
fn address_more(lan: &Lan, first: Who) {
    let bench = Bench::new(lan, 100, Who::Lyre, &V4);
    let mut speaker = bench.start_lyre();
    bench.settles_on(Who::Lyre, "it started alone");
    let keepalived = bench.start_keepalived();
    bench.adverts_pass(20);
    let longer = configuration(253, bench.interval, &[V4[0], "10.77.0.101/24"], "");
    match first {
        Who::Lyre => {
            speaker.order("address 10.77.0.101/24");
            eventually("Lyre has it", SOON, || bench.lyre.has("10.77.0.101"));
            eventually("keepalived does not understand", SOON, || bench.holds(Who::Keepalived));
            keepalived.reload(&longer);
        }
        Who::Keepalived => {
            keepalived.reload(&longer);
            eventually("keepalived does not understand", SOON, || bench.holds(Who::Keepalived));
            speaker.order("address 10.77.0.101/24");
            eventually("Lyre has it", SOON, || bench.lyre.has("10.77.0.101"));
        }
    }
    bench.settles_on(Who::Lyre, "both have the longer list");
    bench.has_let_go(Who::Keepalived);
    eventually("both addresses moved", SOON, || bench.lyre.has("10.77.0.101") && !bench.other.has("10.77.0.101"));
    assert_eq!(speaker.state("v4"), "Active");
    bench.acquits_lyre("an address more");
}

fn sync_group(lan: &Lan, broken: Who) {
    let bench = Bench::new(lan, 100, broken, &["10.77.0.100/24", "fd77::100/128"]).with_options("--sync", "");
    let speaker = bench.start_lyre();
    let group = "vrrp_sync_group both {\n group {\n v4\n v6\n }\n}\n";
    let priority = if broken == Who::Keepalived { 254 } else { 253 };
    let keepalived = Keepalived::with(&bench.other, &(bench.keepalived_configuration(priority) + group));
    if broken == Who::Lyre {
        eventually("the better one is Active", SOON, || bench.holds(broken) || bench.holds(broken.other()));
    } else {
        bench.settles_on(broken, "both started");
    }
    let node = bench.node(broken);
    node.ip(&format!("address delete fe80::{}/64 dev eth0", node.number));
    eventually("both families moved", SOON, || bench.holds(broken.other()) && bench.holds_none(broken));
    if broken == Who::Keepalived {
        ["v4", "v6"].iter().for_each(|family| speaker.becomes("Active", family, SOON));
    }
    drop(keepalived);
}

/// Each node prefers one address; when one node goes the other has both, and gives its own back.
fn crossing(lan: &Lan) {
    const INTERVAL: Duration = Duration::from_millis(100);
    let (lyre, other) = (lan.node(1), lan.node(2));
    let (ours, theirs) = ("10.77.0.101/24", "10.77.0.102/24");
    // Lyre takes back what it is preferred for only if it is told to.
    let options = "--vrid 61 --priority 254 --preempt-after-ms 0";
    let _first = Speaker::start(&lyre, options, &[ours]);
    let _second = Speaker::start(&lyre, "--vrid 62 --priority 100", &[theirs]);
    let both = instance("ours", 61, 100, INTERVAL, &[ours], "") + &instance("theirs", 62, 254, INTERVAL, &[theirs], "");
    let has =
        |node: &Node, first: bool, second: bool| node.has("10.77.0.101") == first && node.has("10.77.0.102") == second;
    let mut keepalived = Keepalived::with(&other, &both);
    eventually("each has its own", SOON, || has(&lyre, true, false) && has(&other, false, true));
    keepalived.crash();
    other.ip("address delete 10.77.0.102/24 dev eth0"); // what a crash leaves behind
    eventually("Lyre has both", SOON, || has(&lyre, true, true));
    let _keepalived = Keepalived::with(&other, &both);
    eventually("each has its own again", SOON, || has(&lyre, true, false) && has(&other, false, true));
    lyre.cut_cable();
    eventually("keepalived has both", SOON, || has(&other, true, true) && has(&lyre, false, false));
    lyre.mend_cable();
    eventually("each has its own in the end", SOON, || has(&lyre, true, false) && has(&other, false, true));
}
