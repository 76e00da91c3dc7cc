//! The transition table first, then one rule of timing or order per test.

use super::*;
use crate::params::{active_down_interval, skew_time};

/// (state, input, actions in order, next state), for a node 10.0.0.2 with priority 200, [`Preempt::Never`], whose
/// Backup knows 10.0.0.3 (priority 201) as Active. Every pair of [`STATES`] and [`INPUTS`] has exactly one row.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("Initialize", "link up",            "Started",                               "Backup"),
    ("Initialize", "link down",          "",                                      "Initialize"),
    ("Initialize", "higher",             "",                                      "Initialize"),
    ("Initialize", "equal, higher IP",   "",                                      "Initialize"),
    ("Initialize", "equal, lower IP",    "",                                      "Initialize"),
    ("Initialize", "lower",              "",                                      "Initialize"),
    ("Initialize", "degraded",           "",                                      "Initialize"),
    ("Initialize", "release by known",   "",                                      "Initialize"),
    ("Initialize", "release by other",   "",                                      "Initialize"),
    ("Initialize", "own address",        "",                                      "Initialize"),
    ("Initialize", "tick early",         "",                                      "Initialize"),
    ("Initialize", "tick due",           "",                                      "Initialize"),
    ("Initialize", "able",               "",                                      "Initialize"),
    ("Initialize", "degraded health",    "",                                      "Initialize"),
    ("Initialize", "unable",             "",                                      "Initialize"),
    ("Initialize", "hand over",          "",                                      "Initialize"),
    ("Initialize", "resume",             "",                                      "Initialize"),
    ("Initialize", "address lost",       "",                                      "Initialize"),
    ("Initialize", "address found",      "",                                      "Initialize"),
    ("Initialize", "shutdown",           "",                                      "Initialize"),
    ("Initialize", "yield",              "",                                      "Initialize"),
    ("Initialize", "contested",          "",                                      "Initialize"),
    ("Initialize", "consent",            "",                                      "Initialize"),
    ("Initialize", "no consent",         "",                                      "Initialize"),
    ("Initialize", "slept",              "",                                      "Initialize"),
    ("Initialize", "late",               "",                                      "Initialize"),

    ("Backup",     "link up",            "",                                      "Backup"),
    ("Backup",     "link down",          "LinkDown",                              "Initialize"),
    ("Backup",     "higher",             "",                                      "Backup"),
    ("Backup",     "equal, higher IP",   "",                                      "Backup"),
    ("Backup",     "equal, lower IP",    "",                                      "Backup"),
    ("Backup",     "lower",              "",                                      "Backup"),
    ("Backup",     "degraded",           "",                                      "Backup"),
    ("Backup",     "release by known",   "",                                      "Backup"),
    ("Backup",     "release by other",   "",                                      "Backup"),
    ("Backup",     "own address",        "conflict",                              "Backup"),
    ("Backup",     "tick early",         "",                                      "Backup"),
    ("Backup",     "tick due",           "send 200, install, announce, ActiveDown", "Active"),
    ("Backup",     "able",               "",                                      "Backup"),
    ("Backup",     "degraded health",    "",                                      "Backup"),
    ("Backup",     "unable",             "",                                      "Backup"),
    ("Backup",     "hand over",          "",                                      "Backup"),
    ("Backup",     "resume",             "",                                      "Backup"),
    ("Backup",     "address lost",       "",                                      "Backup"),
    ("Backup",     "address found",      "",                                      "Backup"),
    ("Backup",     "shutdown",           "Shutdown",                              "Initialize"),
    ("Backup",     "yield",              "",                                      "Backup"),
    ("Backup",     "contested",          "",                                      "Backup"),
    ("Backup",     "consent",            "",                                      "Backup"),
    ("Backup",     "no consent",         "",                                      "Backup"),
    ("Backup",     "slept",              "stalled 500",                           "Backup"),
    ("Backup",     "late",               "",                                      "Backup"),

    ("Active",     "link up",            "",                                      "Active"),
    ("Active",     "link down",          "send 0, withdraw, LinkDown",            "Initialize"),
    ("Active",     "higher",             "withdraw, Outranked",                   "Backup"),
    ("Active",     "equal, higher IP",   "withdraw, Outranked",                   "Backup"),
    ("Active",     "equal, lower IP",    "send 200, announce, losing",            "Active"),
    ("Active",     "lower",              "send 200, announce, losing",            "Active"),
    ("Active",     "degraded",           "send 200, announce, losing",            "Active"),
    ("Active",     "release by known",   "send 200",                              "Active"),
    ("Active",     "release by other",   "send 200",                              "Active"),
    ("Active",     "own address",        "conflict",                              "Active"),
    ("Active",     "tick early",         "",                                      "Active"),
    ("Active",     "tick due",           "send 200",                              "Active"),
    ("Active",     "able",               "",                                      "Active"),
    ("Active",     "degraded health",    "send 1",                                "Active"),
    ("Active",     "unable",             "send 0",                                "Active"),
    ("Active",     "hand over",          "send 0",                                "Active"),
    ("Active",     "resume",             "",                                      "Active"),
    ("Active",     "address lost",       "install, announce, restored 1",         "Active"),
    ("Active",     "address found",      "",                                      "Active"),
    ("Active",     "shutdown",           "send 0, withdraw, Shutdown",            "Initialize"),
    ("Active",     "yield",              "send 0",                                "Active"),
    ("Active",     "contested",          "announce",                              "Active"),
    ("Active",     "consent",            "",                                      "Active"),
    ("Active",     "no consent",         "",                                      "Active"),
    ("Active",     "slept",              "stalled 500",                           "Stalled"),
    ("Active",     "late",               "",                                      "Active"),

    ("Stalled",    "link up",            "",                                      "Stalled"),
    ("Stalled",    "link down",          "withdraw, LinkDown",                    "Initialize"),
    ("Stalled",    "higher",             "withdraw, Stalled",                     "Backup"),
    ("Stalled",    "equal, higher IP",   "withdraw, Stalled",                     "Backup"),
    ("Stalled",    "equal, lower IP",    "withdraw, Stalled",                     "Backup"),
    ("Stalled",    "lower",              "withdraw, Stalled",                     "Backup"),
    ("Stalled",    "degraded",           "withdraw, Stalled",                     "Backup"),
    ("Stalled",    "release by known",   "",                                      "Stalled"),
    ("Stalled",    "release by other",   "",                                      "Stalled"),
    ("Stalled",    "own address",        "conflict",                              "Stalled"),
    ("Stalled",    "tick early",         "",                                      "Stalled"),
    ("Stalled",    "tick due",           "send 200, install, announce",           "Active"),
    ("Stalled",    "able",               "",                                      "Stalled"),
    ("Stalled",    "degraded health",    "",                                      "Stalled"),
    ("Stalled",    "unable",             "",                                      "Stalled"),
    ("Stalled",    "hand over",          "",                                      "Stalled"),
    ("Stalled",    "resume",             "",                                      "Stalled"),
    ("Stalled",    "address lost",       "",                                      "Stalled"),
    ("Stalled",    "address found",      "",                                      "Stalled"),
    ("Stalled",    "shutdown",           "withdraw, Shutdown",                    "Initialize"),
    ("Stalled",    "yield",              "",                                      "Stalled"),
    ("Stalled",    "contested",          "",                                      "Stalled"),
    ("Stalled",    "consent",            "",                                      "Stalled"),
    ("Stalled",    "no consent",         "",                                      "Stalled"),
    ("Stalled",    "slept",              "stalled 500",                           "Stalled"),
    ("Stalled",    "late",               "",                                      "Stalled"),
];

const STATES: [&str; 4] = ["Initialize", "Backup", "Active", "Stalled"];

#[rustfmt::skip]
const INPUTS: [&str; 26] = [
    "link up", "link down",
    "higher", "equal, higher IP", "equal, lower IP", "lower", "degraded",
    "release by known", "release by other", "own address",
    "tick early", "tick due",
    "able", "degraded health", "unable",
    "hand over", "resume", "address lost", "address found", "shutdown", "yield", "contested", "consent", "no consent",
    "slept", "late",
];

#[test]
fn every_state_answers_every_input_as_the_table_says() {
    for state in STATES {
        for input in INPUTS {
            let mut rows = TABLE.iter().filter(|row| row.0 == state && row.1 == input);
            let row = rows.next().unwrap_or_else(|| panic!("no row for {state}, {input}"));
            assert!(rows.next().is_none(), "two rows for {state}, {input}");
            let mut node = Node::in_state(state);
            let actions = node.give(input);
            assert_eq!((actions.as_str(), node.phase()), (row.2, row.3), "{state}, {input}");
        }
    }
}

#[test]
fn a_suspended_active_sends_nothing_before_it_has_listened() {
    let mut node = Node::in_state("Active");
    node.pass(10);
    assert_eq!(node.give("slept"), "stalled 500");
    assert_eq!(node.tick(), "");
    assert_eq!(node.hear(NEXT, 201), "withdraw, Stalled");
    assert_eq!(node.phase(), "Backup");
}

#[test]
fn a_suspended_backup_does_not_take_over_before_it_has_listened() {
    let mut node = Node::in_state("Backup");
    node.pass(300);
    node.give("slept");
    node.pass(190);
    assert_eq!(node.tick(), "");
    node.pass(10);
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn the_backup_fires_exactly_three_intervals_and_the_skew_time_after_the_last_advert() {
    let mut node = Node::in_state("Backup");
    let heard = node.now;
    node.hear(NEXT, 201);
    let down = active_down_interval(Priority(200), INTERVAL, 3);
    assert_eq!(down, Duration::from_nanos(321_875_000));
    assert_eq!(node.machine.deadline(), Some(heard.plus(down)));
    node.now = Time(heard.plus(down).0 - 1);
    assert_eq!(node.tick(), "");
    node.now = heard.plus(down);
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn the_down_timer_counts_from_the_kernel_s_receive_time_not_from_the_time_of_reading() {
    let mut node = Node::in_state("Backup");
    let received = node.now;
    node.pass(80);
    node.hear_at(NEXT, 201, received);
    assert_eq!(node.machine.deadline(), Some(received.plus(node.down())));
}

#[test]
fn an_advert_that_was_received_before_one_already_read_does_not_move_the_timer_back() {
    let mut node = Node::in_state("Backup");
    let early = node.now;
    node.pass(50);
    node.hear(NEXT, 201);
    let deadline = node.machine.deadline();
    node.hear_at(NEXT, 201, early);
    assert_eq!(node.machine.deadline(), deadline);
}

/// Found by `lan.rs`, seed 88: a full socket buffer keeps the oldest adverts, and the silence after them is not one.
#[test]
fn an_advert_read_an_interval_late_proves_a_sleep_and_the_backup_listens_before_it_takes_over() {
    let mut node = Node::in_state("Backup");
    let received = node.now;
    node.pass(350);
    node.hear_at(NEXT, 201, received);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(INTERVAL.duration() * 2)));
    assert_eq!(node.tick(), "");
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn a_receive_time_from_the_future_counts_as_now() {
    let mut node = Node::in_state("Backup");
    let future = node.now.plus(Duration::from_secs(3600));
    node.hear_at(NEXT, 201, future);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
}

#[test]
fn after_a_release_only_the_skew_time_passes() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 0);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(skew_time(Priority(200), INTERVAL))));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, Released");
}

#[test]
fn the_second_copy_of_a_release_does_not_start_the_skew_time_over() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 0);
    let deadline = node.machine.deadline();
    node.pass(1);
    node.hear(NEXT, 0);
    assert_eq!(node.machine.deadline(), deadline);
}

#[test]
fn an_advert_after_a_release_restarts_the_full_timer() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 0);
    node.pass(1);
    node.hear(NEXT, 201);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
}

#[test]
fn a_release_by_a_stranger_is_ignored() {
    let mut node = Node::in_state("Backup");
    let deadline = node.machine.deadline();
    node.hear(BEFORE, 0);
    assert_eq!(node.machine.deadline(), deadline);
}

#[test]
fn a_backup_learns_the_interval_of_the_active_up_to_ten_times_its_own() {
    let mut node = Node::in_state("Backup");
    for (advertised_cs, learned_cs) in [(1, 1), (10, 10), (50, 50), (100, 100), (101, 100), (4095, 100)] {
        node.hear_interval(NEXT, 201, advertised_cs);
        let learned = Centis::new(learned_cs).unwrap();
        let down = active_down_interval(Priority(200), learned, 3);
        assert_eq!(node.machine.deadline(), Some(node.now.plus(down)), "{advertised_cs} cs");
    }
}

#[test]
fn an_active_uses_its_own_interval_whatever_it_learned_before() {
    let mut node = Node::in_state("Backup");
    node.hear_interval(NEXT, 201, 50);
    node.sleep();
    node.tick();
    let taken_over = node.now;
    node.pass(99);
    assert_eq!(node.sends(), 0);
    node.pass(1);
    assert_eq!(node.sends(), 1);
    assert_eq!(node.now, taken_over.plus(INTERVAL.duration()));
}

#[test]
fn adverts_keep_an_absolute_pace_however_late_each_one_is() {
    let mut node = Node::in_state("Active");
    let origin = node.taken_over;
    let mut sent = Vec::new();
    for late_ms in [7, 0, 33, 99, 1, 50] {
        let due = origin.plus(INTERVAL.duration() * (sent.len() as u32 + 1));
        node.now = due.plus(Duration::from_millis(late_ms));
        assert_eq!(node.sends(), 1, "{late_ms} ms late");
        sent.push(node.now);
    }
    node.now = origin.plus(INTERVAL.duration() * 7);
    assert_eq!(node.sends(), 1);
}

#[test]
fn missed_adverts_are_skipped_and_not_made_up_for() {
    let mut node = Node::in_state("Active");
    let origin = node.taken_over;
    node.now = origin.plus(Duration::from_millis(250));
    assert_eq!(node.sends(), 1);
    node.now = origin.plus(Duration::from_millis(299));
    assert_eq!(node.sends(), 0);
    node.now = origin.plus(Duration::from_millis(300));
    assert_eq!(node.sends(), 1);
}

#[test]
fn an_answer_to_a_losing_advert_leaves_the_schedule_alone() {
    let mut node = Node::in_state("Active");
    let origin = node.taken_over;
    node.now = origin.plus(Duration::from_millis(60));
    assert!(node.hear(BEFORE, 100).starts_with("send 200"));
    node.now = origin.plus(Duration::from_millis(100));
    assert_eq!(node.sends(), 1);
}

#[test]
fn a_flood_of_losing_adverts_is_answered_at_most_four_times_per_interval() {
    let mut node = Node::in_state("Active");
    node.now = node.taken_over;
    let mut answers = 0;
    for _ in 0..1_000 {
        node.now = node.now.plus(Duration::from_micros(100));
        answers += node.hear(BEFORE, 1).matches("send").count();
    }
    assert!((3..=4).contains(&answers), "{answers}");
}

#[test]
fn a_losing_advert_received_before_our_last_one_is_not_answered_again() {
    let mut node = Node::in_state("Active");
    let received = node.now;
    node.pass(50);
    assert_eq!(node.sends(), 1);
    node.pass(40);
    assert_eq!(node.hear_at(BEFORE, 100, received), "announce, losing");
}

#[test]
fn announcements_after_take_over_come_at_50_ms_200_ms_1100_ms_3_s_8_s_and_then_every_minute() {
    let mut node = Node::with(settings(200), LEASE);
    node.enter_active();
    let at = node.announcements_until(Duration::from_secs(190));
    assert_eq!(at, [50, 200, 1_100, 3_000, 8_000, 68_000, 128_000, 188_000]);
}

#[test]
fn a_losing_advert_is_answered_by_an_announcement_now_and_after_1100_ms() {
    let mut node = Node::in_state("Active");
    node.announcements_until(Duration::from_secs(20));
    node.now = node.taken_over.plus(Duration::from_millis(20_010));
    assert!(node.hear(BEFORE, 100).contains("announce"));
    assert_eq!(node.announcements_until(Duration::from_secs(60)), [21_110]);
}

#[test]
fn a_duel_is_announced_at_most_once_per_1100_ms() {
    let mut node = Node::in_state("Active");
    node.announcements_until(Duration::from_secs(20));
    node.now = node.taken_over.plus(Duration::from_secs(20));
    let mut announced = 0;
    for _ in 0..110 {
        announced += node.hear(BEFORE, 100).matches("announce").count();
        node.pass(100);
        announced += node.tick().matches("announce").count();
    }
    assert_eq!(announced, 11);
}

#[test]
fn the_lease_is_refreshed_every_third_of_it() {
    let mut node = Node::in_state("Active");
    let mut at = Vec::new();
    while node.now < node.taken_over.plus(Duration::from_millis(3_500)) {
        node.sleep();
        if node.tick().contains("refresh") {
            at.push(node.now.since(node.taken_over).as_millis());
        }
    }
    assert_eq!(at, [1_000, 2_000, 3_000]);
}

#[test]
fn without_a_lease_nothing_is_refreshed() {
    let mut node = Node::with(settings(200), Duration::ZERO);
    node.enter_active();
    for _ in 0..200 {
        node.sleep();
        assert!(!node.tick().contains("refresh"));
    }
}

#[test]
fn a_healthy_backup_never_takes_the_address_from_a_healthy_active_of_lower_priority() {
    let mut node = Node::in_state("Backup");
    for _ in 0..1_000 {
        node.pass(100);
        assert_eq!(node.hear(BEFORE, 10), "");
        assert_eq!(node.tick(), "");
    }
}

#[test]
fn an_able_backup_relieves_a_degraded_active_after_the_skew_time() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, DEGRADED_MAX.0);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(skew_time(Priority(200), INTERVAL))));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, Preempted");
}

#[test]
fn a_degraded_straggler_beside_a_healthy_active_is_nobody_s_cause_to_take_over() {
    let mut node = Node::in_state("Backup");
    for _ in 0..20 {
        node.hear(NEXT, 201);
        node.hear(BEFORE, 5);
        node.pass(90);
        assert_eq!(node.tick(), "");
        node.pass(10);
    }
}

#[test]
fn two_degraded_nodes_do_not_flap() {
    let mut node = Node::in_state("Backup");
    node.health(Health::Degraded);
    for priority in [1, 5, 9] {
        for _ in 0..20 {
            node.pass(100);
            assert_eq!(node.hear(NEXT, priority), "");
            assert_eq!(node.tick(), "");
        }
    }
}

#[test]
fn a_backup_that_degrades_while_relieving_a_degraded_active_lets_it_be() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 9);
    let heard = node.now;
    node.health(Health::Degraded);
    let down = active_down_interval(degraded(Priority(200)), INTERVAL, 3);
    assert_eq!(node.machine.deadline(), Some(heard.plus(down)));
}

#[test]
fn a_backup_that_recovers_relieves_a_degraded_active_at_once() {
    let mut node = Node::in_state("Backup");
    node.health(Health::Degraded);
    node.hear(NEXT, 9);
    node.pass(10);
    node.health(Health::Able);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(skew_time(Priority(200), INTERVAL))));
}

#[test]
fn being_told_the_same_health_again_does_not_start_the_timers_over() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 9);
    let deadline = node.machine.deadline();
    node.pass(5);
    node.health(Health::Able);
    assert_eq!(node.machine.deadline(), deadline);
}

#[test]
fn degraded_nodes_keep_their_order() {
    let order: Vec<u8> = (0..=255).rev().map(|base| degraded(Priority(base)).0).take(11).collect();
    assert_eq!(order, [9, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1]);
    for base in 1..=254 {
        let (low, high) = (degraded(Priority(base)), degraded(Priority(base + 1)));
        assert!(low <= high && high <= DEGRADED_MAX && low >= Priority(1));
    }
}

#[test]
fn with_preemption_a_lower_priority_active_is_replaced_when_the_timer_runs_out() {
    let mut node = Node::preempting(Duration::ZERO);
    let listened_since = node.now;
    for _ in 0..3 {
        node.pass(100);
        assert_eq!(node.hear(NEXT, 100), "");
    }
    assert_eq!(node.machine.deadline(), Some(listened_since.plus(node.down())));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, Preempted");
}

#[test]
fn preempt_delay_runs_from_the_first_lower_advert_and_a_better_one_cancels_it() {
    let mut node = Node::preempting(Duration::from_secs(3));
    for _ in 0..25 {
        node.pass(100);
        assert_eq!(node.hear(NEXT, 100), "");
    }
    node.pass(100);
    node.hear(NEXT, 201);
    let mut lower = 0;
    loop {
        node.pass(100);
        if !node.tick().is_empty() {
            break;
        }
        node.hear(NEXT, 100);
        lower += 1;
    }
    // 3 s of hold, then a down interval (321.875 ms) without an accepted advert, seen at the next step of 100 ms.
    assert_eq!(lower, 33);
}

#[test]
fn with_preemption_an_equal_priority_is_left_alone_whatever_its_address() {
    let mut node = Node::preempting(Duration::ZERO);
    for _ in 0..20 {
        node.pass(100);
        assert_eq!(node.hear(BEFORE, 200), "");
        assert_eq!(node.tick(), "");
    }
}

#[test]
fn a_stalled_active_that_was_replaced_becomes_backup_without_sending_anything() {
    let mut node = Node::in_state("Active");
    let mut received = node.now.plus(Duration::from_millis(310));
    node.pass(5_000);
    let mut actions = Vec::new();
    for _ in 0..46 {
        actions.push(node.hear_at(BEFORE, 100, received));
        received = received.plus(INTERVAL.duration());
    }
    actions.push(node.tick());
    let actions: Vec<_> = actions.into_iter().filter(|actions| !actions.is_empty()).collect();
    assert_eq!(actions, ["stalled 5060, withdraw, Stalled"]);
    assert_eq!(node.machine.state(), State::Backup);
    // The last one is 190 ms old: more may have come and found the queue full.
    assert_eq!(node.machine.deadline(), Some(node.now.plus(INTERVAL.duration() * 2)));
}

#[test]
fn a_stall_shorter_than_any_backup_s_down_interval_changes_nothing() {
    let mut node = Node::in_state("Active");
    let danger = active_down_interval(Priority(254), INTERVAL, 3);
    node.now = Time(node.taken_over.plus(danger).0 - 1);
    assert_eq!(node.sends(), 1);
    let sent = node.now;
    node.now = sent.plus(danger);
    assert_eq!(node.tick(), "stalled 300");
}

#[test]
fn a_stalled_active_listens_for_one_interval_and_resumes_with_one_announcement() {
    let mut node = Node::in_state("Active");
    node.pass(2_000);
    assert_eq!(node.tick(), "stalled 2060");
    assert_eq!(node.machine.state(), State::Active);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(INTERVAL.duration())));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce");
    let resumed = node.now.since(node.taken_over);
    assert_eq!(node.announcements_until(resumed + Duration::from_secs(30)), []);
}

#[test]
fn an_advert_from_before_our_last_one_does_not_unseat_a_stalled_active() {
    let mut node = Node::in_state("Active");
    let before = Time(node.taken_over.0 - 1);
    node.pass(2_000);
    assert_eq!(node.hear_at(BEFORE, 100, before), "stalled 2060");
    assert_eq!(node.phase(), "Stalled");
}

#[test]
fn a_lease_that_ran_out_during_a_stall_is_not_renewed_before_listening() {
    let mut node = Node::in_state("Active");
    node.pass(4_000);
    assert_eq!(node.give("address lost"), "stalled 4060");
    assert_eq!(node.hear(BEFORE, 100), "withdraw, Stalled");
}

#[test]
fn a_stalled_node_does_not_send_a_release_when_it_ends() {
    let mut node = Node::in_state("Active");
    node.pass(4_000);
    assert_eq!(node.give("shutdown"), "stalled 4060, withdraw, Shutdown");
}

#[test]
fn a_stalled_active_that_preempts_returns_by_the_ordinary_way_only() {
    let mut node = Node::preempting(Duration::ZERO);
    node.enter_active();
    node.pass(2_000);
    assert_eq!(node.hear(BEFORE, 100), "stalled 2000, withdraw, Stalled");
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

/// Found by `lan.rs`, seed 113: the queue held one old advert only, and the down timer had expired since.
#[test]
fn a_stalled_active_that_was_replaced_long_ago_listens_before_it_takes_over_again() {
    let mut node = Node::in_state("Active");
    let received = node.now.plus(Duration::from_millis(100));
    node.pass(500);
    assert_eq!(node.hear_at(BEFORE, 100, received), "stalled 560, withdraw, Stalled");
    assert_eq!(node.tick(), "");
    assert_eq!(node.machine.deadline(), Some(node.now.plus(INTERVAL.duration() * 2)));
}

#[test]
fn a_backup_that_slept_listens_for_two_more_intervals_before_it_trusts_the_silence() {
    let mut node = Node::in_state("Backup");
    node.pass(5_000);
    assert!(node.tick().starts_with("stalled"));
    assert_eq!(node.machine.deadline(), Some(node.now.plus(INTERVAL.duration() * 2)));
    let mut heard = node.clone();
    heard.pass(50);
    heard.hear(NEXT, 201);
    assert_eq!(heard.machine.deadline(), Some(heard.now.plus(heard.down())));
    node.pass(5_000);
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn when_both_nodes_stood_still_together_the_active_speaks_before_the_backup_takes_over() {
    let (mut active, mut backup) = (Node::in_state("Active"), Node::in_state("Backup"));
    active.pass(2_000);
    backup.pass(2_000);
    assert_eq!(active.tick(), "stalled 2060");
    assert!(backup.tick().starts_with("stalled"));
    active.sleep();
    backup.pass(100);
    assert_eq!(active.tick(), "send 200, install, announce");
    assert_eq!(backup.tick(), "");
    backup.hear(NEXT, 200);
    assert_eq!(backup.machine.deadline(), Some(backup.now.plus(backup.down())));
}

#[test]
fn a_sleep_within_the_silence_counts_as_one_at_its_end() {
    let mut node = Node::in_state("Backup");
    node.pass(190);
    assert_eq!(node.handle(Input::Late { by: Duration::from_millis(100) }), "stalled 100");
    let listens_until = Some(node.now.plus(INTERVAL.duration() * 2));
    assert_eq!(node.machine.deadline(), listens_until);
    node.pass(150);
    assert_eq!(node.handle(Input::Late { by: Duration::from_millis(100) }), "", "once in a silence");
    assert_eq!(node.machine.deadline(), listens_until);
}

#[test]
fn a_sleep_that_cannot_have_hidden_an_advert_delays_nothing() {
    let mut node = Node::in_state("Backup");
    let down = node.machine.deadline();
    node.pass(190);
    assert_eq!(node.handle(Input::Late { by: Duration::from_millis(99) }), "");
    assert_eq!(node.machine.deadline(), down);
    node.hear(NEXT, 201);
    node.pass(99);
    let down = node.machine.deadline();
    assert_eq!(node.handle(Input::Late { by: Duration::from_millis(150) }), "");
    assert_eq!(node.machine.deadline(), down);
}

#[test]
fn an_offer_that_a_standstill_hid_is_made_for_its_whole_time_afterwards() {
    let mut node = Node::in_state("Active");
    node.give("hand over");
    let window = node.down() * 3;
    node.now = node.now.plus(window);
    assert!(node.tick().starts_with("stalled"));
    node.sleep();
    assert_eq!(node.tick(), "send 0, install");
    let told = node.now;
    let mut refused = None;
    while refused.is_none() {
        node.sleep();
        refused = node.tick().contains("refused").then_some(node.now);
    }
    assert_eq!(refused, Some(told.plus(window)));
}

#[test]
fn a_hand_over_is_offered_twice_within_a_millisecond_and_keeps_the_addresses_until_the_peer_is_heard() {
    let mut node = Node::in_state("Active");
    assert_eq!(node.give("hand over"), "send 0");
    node.pass(1);
    assert_eq!(node.tick(), "send 0");
    assert_eq!(node.machine.effective_priority(), Priority(0));
    node.pass(1);
    assert_eq!(node.hear(BEFORE, 100), "withdraw, HandedOver");
    assert!(node.machine.is_handed_over());
}

#[test]
fn a_node_that_handed_over_stays_out_while_anybody_is_active() {
    let mut node = Node::handed_over();
    for _ in 0..100 {
        node.pass(100);
        assert_eq!(node.hear(BEFORE, 5), "");
        assert_eq!(node.tick(), "");
    }
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down() * 3)));
}

#[test]
fn a_node_that_handed_over_returns_when_nobody_was_active_for_three_down_intervals() {
    let mut node = Node::handed_over();
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
    assert!(!node.machine.is_handed_over());
}

#[test]
fn after_resume_a_node_takes_part_again() {
    let mut node = Node::handed_over();
    node.give("resume");
    assert_eq!(node.machine.deadline(), Some(node.heard.plus(node.down())));
}

#[test]
fn a_hand_over_nobody_answers_is_given_up_after_three_down_intervals() {
    let mut node = Node::in_state("Active");
    node.give("hand over");
    let offered = node.now;
    let mut last = String::new();
    while node.machine.effective_priority() == Priority(0) {
        node.sleep();
        last = node.tick();
    }
    assert_eq!(node.now, offered.plus(node.down() * 3));
    assert_eq!(last, "refused, send 200");
    assert_eq!(node.machine.state(), State::Active);
}

#[test]
fn resume_cancels_a_hand_over_that_is_still_on_offer() {
    let mut node = Node::in_state("Active");
    node.give("hand over");
    node.pass(2);
    assert_eq!(node.give("resume"), "send 200");
}

#[test]
fn an_unable_active_offers_the_address_every_interval_and_keeps_it_while_nobody_comes() {
    let mut node = Node::in_state("Active");
    assert_eq!(node.health(Health::Unable), "send 0");
    node.now = node.taken_over.plus(Duration::from_millis(61));
    assert_eq!(node.tick(), "send 0");
    for _ in 0..100 {
        node.pass(100);
        let actions = node.tick();
        assert!(actions.starts_with("send 0") && !actions.contains("announce") && !actions.contains("withdraw"));
    }
}

#[test]
fn an_unable_active_yields_to_whoever_advertises_and_stays_out_until_it_is_able() {
    let mut node = Node::in_state("Active");
    node.health(Health::Unable);
    assert_eq!(node.hear(BEFORE, 1), "withdraw, Yielded");
    assert_eq!(node.machine.deadline(), None);
    node.pass(60_000);
    node.health(Health::Able);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(skew_time(Priority(200), INTERVAL))));
}

#[test]
fn an_active_whose_health_returns_before_anybody_came_goes_on() {
    let mut node = Node::in_state("Active");
    node.health(Health::Unable);
    node.pass(30);
    assert_eq!(node.health(Health::Able), "send 200");
}

#[test]
fn two_unable_nodes_leave_the_address_where_it_is() {
    let mut node = Node::in_state("Active");
    node.health(Health::Unable);
    assert_eq!(node.hear(NEXT, 0), "");
    assert_eq!(node.machine.state(), State::Active);
}

#[test]
fn addresses_found_at_start_are_adopted_without_removing_them_first() {
    let mut node = Node::with(settings(200), LEASE);
    node.give("address found");
    node.give("link up");
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn addresses_found_at_start_are_withdrawn_when_an_active_is_heard() {
    let mut node = Node::with(settings(200), LEASE);
    node.give("address found");
    node.give("link up");
    assert_eq!(node.hear(BEFORE, 100), "withdraw");
    assert_eq!(node.hear(BEFORE, 100), "");
}

#[test]
fn addresses_found_at_start_by_a_node_that_cannot_serve_are_withdrawn_after_a_down_interval() {
    let mut node = Node::with(settings(200), LEASE);
    node.health(Health::Unable);
    node.give("address found");
    node.give("link up");
    node.sleep();
    assert_eq!(node.tick(), "withdraw");
    assert_eq!(node.machine.deadline(), None);
}

#[test]
fn a_flush_of_several_addresses_counts_as_one_loss() {
    let mut node = Node::in_state("Active");
    assert_eq!(node.give("address lost"), "install, announce, restored 1");
    for _ in 0..20 {
        assert_eq!(node.give("address lost"), "install");
    }
}

#[test]
fn the_sixth_loss_of_addresses_within_a_minute_hands_them_to_the_peer() {
    let mut node = Node::in_state("Active");
    for count in 1..=5 {
        node.live(Duration::from_secs(10));
        assert_eq!(node.give("address lost"), format!("install, announce, restored {count}"));
    }
    node.live(Duration::from_secs(9));
    assert_eq!(node.give("address lost"), "send 0, withdraw, AddressFlapping");
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down() * 3)));
    for _ in 0..590 {
        node.pass(100);
        node.hear(BEFORE, 5);
        assert_eq!(node.tick(), "");
    }
}

#[test]
fn losses_of_addresses_over_a_minute_apart_are_restored_for_ever() {
    let mut node = Node::in_state("Active");
    for _ in 0..20 {
        node.live(Duration::from_secs(13));
        assert!(node.give("address lost").starts_with("install, announce"));
    }
}

#[test]
fn a_changed_source_address_is_advertised_at_once_and_settles_ties() {
    let mut node = Node::in_state("Active");
    let source = IpAddr::from([10, 0, 0, 4]);
    assert_eq!(node.handle(Input::LinkUp { source }), "send 200");
    assert!(node.hear(NEXT, 200).contains("losing"));
}

#[test]
fn ties_are_settled_by_the_address_as_an_unsigned_number_in_network_order() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let tie = |a, b| outranks(Priority(7), address(a), Priority(7), address(b));
    assert!(tie("10.0.1.0", "10.0.0.255"));
    assert!(tie("200.0.0.1", "100.0.0.1"));
    assert!(tie("fe80::8000:0:0:1", "fe80::7fff:0:0:1"));
    assert!(!tie("10.0.0.1", "10.0.0.1"));
}

#[test]
fn the_owner_is_active_at_once() {
    let mut node = Node::with(settings(255), LEASE);
    assert_eq!(node.give("link up"), "send 255, install, announce, Started");
}

#[test]
fn the_owner_takes_its_address_back_from_any_backup_whatever_preempt_says() {
    let mut node = Node::with(settings(255), LEASE);
    node.health(Health::Unable);
    node.give("link up");
    node.hear(BEFORE, 254);
    node.health(Health::Able);
    let deadline = node.machine.deadline();
    for _ in 0..3 {
        node.pass(90);
        node.hear(BEFORE, 254);
        assert_eq!(node.machine.deadline(), deadline);
    }
    node.sleep();
    assert_eq!(node.tick(), "send 255, install, announce, Preempted");
}

#[test]
fn of_two_owners_the_one_with_the_lower_address_steps_back() {
    let mut node = Node::with(settings(255), LEASE);
    node.give("link up");
    assert_eq!(node.hear(NEXT, 255), "two owners, withdraw, Outranked");
    for _ in 0..50 {
        node.pass(100);
        assert_eq!(node.hear(NEXT, 255), "");
        assert_eq!(node.tick(), "");
    }
}

#[test]
fn the_higher_owner_waits_two_adverts_and_1_2_intervals_before_it_gives_way_to_a_stubborn_one() {
    let mut node = Node::with(settings(255), LEASE);
    node.give("link up");
    let mut heard_ms = Vec::new();
    while node.machine.state() == State::Active {
        node.pass(40);
        assert!(node.hear(BEFORE, 255).contains("two owners"));
        node.tick();
        heard_ms.push(node.now.since(Time(1_000_000_000)).as_millis());
    }
    assert_eq!(heard_ms.last(), Some(&360), "40 + 2 * 100 + 120");
    node.sleep();
    assert_eq!(node.tick(), "send 255, install, announce, ActiveDown", "back when the other one is gone");
}

#[test]
fn an_owner_that_yields_within_the_grace_is_not_given_way_to_later() {
    let mut node = Node::with(settings(255), LEASE);
    node.give("link up");
    for _ in 0..10 {
        node.live(Duration::from_secs(10));
        node.hear(BEFORE, 255);
        assert_eq!(node.machine.state(), State::Active);
    }
}

#[test]
fn in_version_2_the_skew_time_does_not_depend_on_the_interval() {
    let v2 = Settings { version: Version::V2, advert_interval: Centis::new(300).unwrap(), ..settings(100) };
    let mut node = Node::with(v2, LEASE);
    node.give("link up");
    let down = Duration::from_secs(9) + Duration::from_micros(609_375);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(down)));
}

#[test]
fn a_held_node_answers_an_offer_after_a_down_interval_so_that_others_come_first() {
    let mut node = Node::handed_over();
    node.pass(10);
    node.hear(BEFORE, 0);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, Released");
}

#[test]
fn a_timer_that_expires_without_consent_waits_for_it_and_asks_for_no_ticks() {
    let mut node = Node::in_state("Backup");
    node.give("no consent");
    node.sleep();
    assert_eq!(node.tick(), "");
    assert!(node.machine.wants_address());
    assert_eq!(node.machine.deadline(), None);
    assert_eq!(node.give("consent"), "send 200, install, announce, ActiveDown");
}

#[test]
fn an_advert_ends_the_wait_for_consent() {
    let mut node = Node::in_state("Backup");
    node.give("no consent");
    node.sleep();
    node.tick();
    node.hear(NEXT, 201);
    assert!(!node.machine.wants_address());
    assert_eq!(node.give("consent"), "");
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
}

#[test]
fn a_node_that_cannot_serve_does_not_count_as_wanting_the_address() {
    let mut node = Node::in_state("Backup");
    node.give("no consent");
    node.sleep();
    node.tick();
    node.health(Health::Unable);
    assert!(!node.machine.wants_address());
    assert_eq!(node.give("consent"), "");
    assert_eq!(node.machine.state(), State::Backup);
}

#[test]
fn after_a_yield_the_node_is_not_held() {
    let mut node = Node::in_state("Active");
    assert_eq!(node.give("yield"), "send 0");
    assert_eq!(node.hear(BEFORE, 100), "withdraw, Yielded");
    assert!(!node.machine.is_handed_over());
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
}

#[test]
fn a_changed_priority_is_advertised_at_once_without_a_gap() {
    let mut node = Node::in_state("Active");
    assert_eq!(node.reconfigure(settings(150)), "send 150");
    assert_eq!(node.machine.deadline().map(|at| at <= node.now.plus(INTERVAL.duration())), Some(true));
    assert_eq!(node.machine.state(), State::Active);
}

#[test]
fn unchanged_settings_do_nothing() {
    for state in STATES {
        let mut node = Node::in_state(state);
        let deadline = node.machine.deadline();
        assert_eq!(node.reconfigure(settings(200)), "");
        assert_eq!((node.phase(), node.machine.deadline()), (state, deadline));
    }
}

#[test]
fn an_added_address_is_installed_and_announced_by_the_active_only() {
    let mut more = settings(200);
    more.addresses.push(IpAddr::from([10, 0, 0, 101]));
    assert_eq!(Node::in_state("Active").reconfigure(more.clone()), "send 200, install, announce");
    assert_eq!(Node::in_state("Backup").reconfigure(more.clone()), "");
    assert_eq!(Node::in_state("Stalled").reconfigure(more), "");
}

#[test]
fn a_longer_interval_is_advertised_at_once_so_that_backups_learn_it_before_they_miss_it() {
    let slow = Settings { advert_interval: Centis::new(100).unwrap(), ..settings(200) };
    let mut node = Node::in_state("Active");
    assert_eq!(node.reconfigure(slow), "send 200");
    let reconfigured = node.now;
    node.pass(999);
    assert_eq!(node.sends(), 0);
    node.pass(1);
    assert_eq!(node.sends(), 1);
    assert_eq!(node.now.since(reconfigured), Duration::from_secs(1));
}

#[test]
fn a_backup_that_becomes_slower_to_fire_keeps_the_time_it_has_waited() {
    let mut node = Node::in_state("Backup");
    node.hear(NEXT, 201);
    let heard = node.now;
    node.pass(50);
    assert_eq!(node.reconfigure(settings(100)), "");
    let down = active_down_interval(Priority(100), INTERVAL, 3);
    assert_eq!(node.machine.deadline(), Some(heard.plus(down)));
}

#[test]
fn a_loser_that_never_yields_is_reported_once_as_not_hearing_us() {
    let mut node = Node::in_state("Active");
    let mut reported_ms = Vec::new();
    for step in 0..100 {
        if node.hear(BEFORE, 100).contains("not heard") {
            reported_ms.push(step * 100);
        }
        node.pass(100);
        node.tick();
    }
    // five down intervals of priority 100 are 1804.7 ms
    assert_eq!(reported_ms, [1_900]);
}

#[test]
fn a_loser_that_yields_and_returns_is_not_reported_as_deaf() {
    let mut node = Node::in_state("Active");
    for _ in 0..20 {
        for _ in 0..4 {
            assert!(!node.hear(BEFORE, 100).contains("not heard"));
            node.pass(100);
            node.tick();
        }
        node.live(Duration::from_secs(1));
    }
}

#[test]
fn a_link_that_just_returned_preempts_nobody_for_five_seconds() {
    let mut node = Node::preempting(Duration::ZERO);
    node.give("link down");
    node.give("link up");
    let returned = node.now;
    while node.machine.state() != State::Active {
        node.pass(100);
        node.hear(NEXT, 100);
        node.tick();
    }
    let waited = node.now.since(returned);
    assert!(waited > Duration::from_secs(5) && waited < Duration::from_millis(5_500), "{waited:?}");
}

#[test]
fn a_node_that_lost_the_address_by_its_own_fault_three_times_relieves_nobody_but_fills_a_gap() {
    let mut node = Node::in_state("Backup");
    for _ in 0..3 {
        node.sleep();
        node.tick();
        node.health(Health::Unable);
        node.hear(BEFORE, 100);
        node.health(Health::Able);
    }
    assert!(!node.machine.may_preempt(node.now));
    node.hear(BEFORE, 9);
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
    node.sleep();
    assert_eq!(node.tick(), "send 200, install, announce, ActiveDown");
}

#[test]
fn a_link_that_returns_starts_over_as_backup() {
    let mut node = Node::in_state("Active");
    node.give("link down");
    assert_eq!(node.give("link up"), "LinkUp");
    assert_eq!(node.machine.deadline(), Some(node.now.plus(node.down())));
}

/// A machine, its time and the addresses around it.
#[derive(Clone)]
struct Node {
    machine: Machine,
    now: Time,
    taken_over: Time,
    /// When the last advert was handed in.
    heard: Time,
}

const INTERVAL: Centis = Centis::new(10).unwrap();
const LEASE: Duration = Duration::from_secs(3);
const OWN: [u8; 4] = [10, 0, 0, 2];
const BEFORE: [u8; 4] = [10, 0, 0, 1];
const NEXT: [u8; 4] = [10, 0, 0, 3];

fn settings(priority: u8) -> Settings {
    Settings {
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(priority),
        advert_interval: INTERVAL,
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
    }
}

impl Node {
    fn with(settings: Settings, lease: Duration) -> Node {
        let now = Time(1_000_000_000);
        Node { machine: Machine::new(settings, lease), now, taken_over: now, heard: now }
    }

    fn preempting(delay: Duration) -> Node {
        let mut node = Node::with(Settings { preempt: Preempt::After(delay), ..settings(200) }, LEASE);
        node.give("link up");
        node
    }

    fn in_state(state: &str) -> Node {
        let mut node = Node::with(settings(200), LEASE);
        match state {
            "Initialize" => {}
            "Backup" => {
                node.give("link up");
                node.pass(10);
                node.hear(NEXT, 201);
                node.pass(10);
            }
            "Active" => {
                node.enter_active();
                node.pass(50);
                assert_eq!(node.tick(), "announce");
                node.pass(10);
            }
            "Stalled" => {
                node.enter_active();
                node.pass(1_000);
                assert_eq!(node.tick(), "stalled 1000");
                node.pass(50);
            }
            other => panic!("no state {other}"),
        }
        assert_eq!(node.phase(), state);
        node
    }

    fn handed_over() -> Node {
        let mut node = Node::in_state("Active");
        node.give("hand over");
        node.pass(2);
        node.hear(BEFORE, 100);
        assert_eq!(node.machine.state(), State::Backup);
        node
    }

    fn enter_active(&mut self) {
        self.give("link up");
        self.sleep();
        self.tick();
        assert_eq!(self.machine.state(), State::Active);
        self.taken_over = self.now;
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
    }

    fn sleep(&mut self) {
        self.now = self.machine.deadline().unwrap();
    }

    fn tick(&mut self) -> String {
        self.handle(Input::Tick)
    }

    fn sends(&mut self) -> usize {
        self.tick().matches("send").count()
    }

    /// Ticks on time until `for_long` has passed.
    fn live(&mut self, for_long: Duration) {
        let end = self.now.plus(for_long);
        while self.machine.deadline().unwrap() < end {
            self.sleep();
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    fn down(&self) -> Duration {
        active_down_interval(Priority(200), INTERVAL, 3)
    }

    /// Milliseconds after take-over of all announcements up to `end`, which also counts from take-over.
    fn announcements_until(&mut self, end: Duration) -> Vec<u128> {
        let mut at = Vec::new();
        while self.machine.deadline().unwrap() <= self.taken_over.plus(end) {
            self.sleep();
            if self.tick().contains("announce") {
                at.push(self.now.since(self.taken_over).as_millis());
            }
        }
        at
    }

    fn hear(&mut self, from: [u8; 4], priority: u8) -> String {
        self.hear_at(from, priority, self.now)
    }

    fn hear_at(&mut self, from: [u8; 4], priority: u8, received: Time) -> String {
        let advert = settings(200).advert(Priority(priority));
        self.heard = self.now;
        self.handle(Input::Advert { advert: &advert, source: IpAddr::from(from), received })
    }

    fn hear_interval(&mut self, from: [u8; 4], priority: u8, interval_cs: u16) -> String {
        let advert = Advert { interval: Centis::new(interval_cs).unwrap(), ..settings(200).advert(Priority(priority)) };
        self.handle(Input::Advert { advert: &advert, source: IpAddr::from(from), received: self.now })
    }

    fn health(&mut self, health: Health) -> String {
        self.handle(Input::Health(health))
    }

    fn give(&mut self, input: &str) -> String {
        match input {
            "link up" => self.handle(Input::LinkUp { source: IpAddr::from(OWN) }),
            "link down" => self.handle(Input::LinkDown),
            "higher" => self.hear(NEXT, 201),
            "equal, higher IP" => self.hear(NEXT, 200),
            "equal, lower IP" => self.hear(BEFORE, 200),
            "lower" => self.hear(NEXT, 199),
            "degraded" => self.hear(NEXT, 9),
            "release by known" => self.hear(NEXT, 0),
            "release by other" => self.hear(BEFORE, 0),
            "own address" => self.hear(OWN, 250),
            "tick early" => self.tick(),
            "tick due" => {
                self.now = self.machine.deadline().unwrap_or(self.now);
                self.tick()
            }
            "able" => self.health(Health::Able),
            "degraded health" => self.health(Health::Degraded),
            "unable" => self.health(Health::Unable),
            "hand over" => self.handle(Input::HandOver),
            "resume" => self.handle(Input::Resume),
            "address lost" => self.handle(Input::AddressLost),
            "address found" => self.handle(Input::AddressFound),
            "shutdown" => self.handle(Input::Shutdown),
            "yield" => self.handle(Input::Yield),
            "contested" => self.handle(Input::Contested),
            "consent" => self.handle(Input::Consent(true)),
            "no consent" => self.handle(Input::Consent(false)),
            "slept" => self.handle(Input::Slept { late: Duration::from_millis(500) }),
            "late" => self.handle(Input::Late { by: INTERVAL.duration() }),
            other => panic!("no input {other}"),
        }
    }

    fn handle(&mut self, input: Input<'_>) -> String {
        self.machine.handle(self.now, input);
        self.drain()
    }

    fn reconfigure(&mut self, settings: Settings) -> String {
        self.machine.reconfigure(self.now, settings, LEASE);
        self.drain()
    }

    fn drain(&mut self) -> String {
        let actions: Vec<String> = std::iter::from_fn(|| self.machine.poll()).map(|action| word(&action)).collect();
        actions.join(", ")
    }

    fn phase(&self) -> &'static str {
        match self.machine.phase {
            Phase::Initialize => "Initialize",
            Phase::Backup(_) => "Backup",
            Phase::Active(_) => "Active",
            Phase::Stalled(_) => "Stalled",
        }
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Send { priority } => format!("send {priority}"),
        Action::Install => "install".into(),
        Action::Refresh => "refresh".into(),
        Action::Withdraw => "withdraw".into(),
        Action::Announce => "announce".into(),
        Action::Report(Event::Transition { reason, .. }) => format!("{reason:?}"),
        Action::Report(Event::LosingAdvert { .. }) => "losing".into(),
        Action::Report(Event::Stalled { late }) => format!("stalled {}", late.as_millis()),
        Action::Report(Event::HandOverRefused) => "refused".into(),
        Action::Report(Event::NotHeard { .. }) => "not heard".into(),
        Action::Report(Event::TwoOwners { .. }) => "two owners".into(),
        Action::Report(Event::AddressConflict { .. }) => "conflict".into(),
        Action::Report(Event::AddressRestored { count }) => format!("restored {count}"),
        Action::Report(Event::AlarmRaised(alarm)) => format!("alarm {alarm}"),
        Action::Report(Event::AlarmCleared(alarm)) => format!("end of alarm {alarm}"),
    }
}
