//! Each fault of the demo is survived: the service answers again at the virtual address, a planned move loses nothing,
//! one node holds the address, and the pair converges again after the repair.
//!
//! How long it takes decides nothing here ([`SLACK`]): what a failover costs is measured by the bench.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod lab;

use lab::{LYRE, may_make_namespaces};
use std::process::Command;

/// So much that only a service which does not come back exceeds its bound.
const SLACK: [&str; 2] = ["--slack-ms", "15000"];

/// Runs `lyre demo --json` with these faults in this order and gives back its lines.
fn demo(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = Command::new(LYRE).args(["demo", "--json"]).args(SLACK).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}\n{complaint}")))
        .collect();
    for line in &lines {
        assert_eq!(line["survived"], true, "{line}\n{complaint}");
    }
    assert!(output.status.success(), "{said}\n{complaint}");
    lines
}

fn survives(test: &str, faults: &[&str], more: &[&str]) -> Vec<serde_json::Value> {
    if !may_make_namespaces(test) {
        return Vec::new();
    }
    let arguments: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", fault]).chain(more.iter().copied()).collect();
    let lines = demo(&arguments);
    let seen: Vec<&str> = lines.iter().map(|line| line["fault"].as_str().unwrap()).collect();
    assert_eq!(seen, faults);
    lines
}

#[test]
fn a_pulled_cable_is_survived_twice_in_a_row() {
    // The second time the other node is the one that loses its cable.
    survives("a_pulled_cable_is_survived_twice_in_a_row", &["cable", "cable"], &[]);
}

#[test]
fn a_pulled_cable_is_survived_with_adverts_every_10_ms() {
    survives("a_pulled_cable_is_survived_with_adverts_every_10_ms", &["cable"], &["--advert-ms", "10"]);
}

#[test]
fn a_dead_node_is_survived() {
    survives("a_dead_node_is_survived", &["node"], &[]);
}

#[test]
fn a_crashed_worker_is_survived_on_both_nodes() {
    survives("a_crashed_worker_is_survived_on_both_nodes", &["worker-crash", "worker-crash"], &[]);
}

#[test]
fn a_hung_worker_is_survived() {
    survives("a_hung_worker_is_survived", &["worker-hang"], &[]);
}

#[test]
fn a_planned_hand_over_there_and_back_loses_no_request() {
    for line in survives("a_planned_hand_over_there_and_back_loses_no_request", &["planned", "planned"], &[]) {
        assert_eq!(line["lost_requests"], 0, "{line}");
    }
}

#[test]
fn a_killed_web_server_is_survived() {
    survives("a_killed_web_server_is_survived", &["web"], &[]);
}

#[test]
fn a_result_line_has_the_documented_fields() {
    for line in survives("a_result_line_has_the_documented_fields", &["web"], &[]) {
        let fields: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["fault", "gap_ms", "long_lived_notice_ms", "lost_requests", "survived"]);
        assert!(line["gap_ms"].is_number() && line["lost_requests"].is_u64());
    }
}
