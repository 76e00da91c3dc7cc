//! Data-plane benchmark: Lyre, HAProxy and nginx in one run, pinned alike, same origin, interleaved rounds.
//!
//! Prints ratios to HAProxy and writes the tables of docs/bench/http.md; what is written there by hand stays. Placement
//! A: the proxy has CPU 1 for itself and the origin shares CPU 0 with the load generator. Placement B: proxy and origin
//! share CPU 1. CPU per request is the growth of the proxy's run time (`/proc/PID/task/*/schedstat`) over the requests
//! answered.
//!
//! Environment: `LYRE_BENCH_ROUNDS` (3), `LYRE_BENCH_SECONDS` (2), `LYRE_BENCH_ONLY` (substring of a case's name, as
//! `h2`, `bulk`, `resumed`, `WebSockets`; nothing is written then), `LYRE_BIN` (target/dist/lyre).
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "http/bulk.rs"]
mod bulk;
#[path = "http/contender.rs"]
mod contender;
#[path = "http/gauge.rs"]
mod gauge;
#[path = "http/goals.rs"]
mod goals;
#[path = "http/handshakes.rs"]
mod handshakes;
#[path = "http/idle.rs"]
mod idle;
#[path = "http/latency.rs"]
mod latency;
#[path = "http/load.rs"]
mod load;
mod notes;
#[path = "http/origin.rs"]
mod origin;
#[path = "http/paced.rs"]
mod paced;
#[path = "http/report.rs"]
mod report;
mod shipped;
#[path = "http/throughput.rs"]
mod throughput;
#[path = "http/tls.rs"]
mod tls;

use std::process::{Command, Stdio};

const CONTENDERS: [&str; 3] = ["haproxy", "nginx", "lyre"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("origin") {
        return origin::serve(arguments[2].parse().unwrap());
    }
    for tool in ["haproxy", "nginx", "wrk", "h2load", "openssl", "taskset"] {
        assert!(found(tool), "{tool} is not installed; run tests/peers.sh bench");
    }
    let bench = contender::Bench::new();
    let mut report = report::Report::new(&bench);
    throughput::h1(&bench, &mut report);
    throughput::h2(&bench, &mut report);
    throughput::scaling(&bench, &mut report);
    latency::fixed_rate(&bench, &mut report);
    latency::seventy_percent(&bench, &mut report);
    handshakes::full(&bench, &mut report);
    handshakes::resumed(&bench, &mut report);
    bulk::bulk(&bench, &mut report);
    idle::keep_alive(&bench, &mut report);
    idle::websockets(&bench, &mut report);
    report.finish();
}

fn found(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
