//! TLS handshakes, full and resumed.

use crate::contender::{ALONE, Bench, Setup};
use crate::gauge::{Metric, Seen, pin};
use crate::report::Report;
use crate::tls::Client;
use std::process::Command;
use std::time::{Duration, Instant};

const HEAD: &str = "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|";

/// By `openssl s_time`, one after the other.
pub(crate) fn full(bench: &Bench, report: &mut Report) {
    report.section("TLS full handshakes: CPU µs each; rate of one client", HEAD);
    for (key, label) in [("ec", "ECDSA P-256"), ("rsa", "RSA-2048")] {
        let case = format!("full handshake {label}, one at a time");
        if bench.wanted(&case) {
            let seen = bench.measure(&Setup { key, ..ALONE }, |proxy| {
                let (used, output) = proxy.cost(|| {
                    Command::new("taskset")
                        .args(["-c", "0", "openssl", "s_time", "-new", "-time", &bench.seconds.to_string()])
                        .args(["-connect", &proxy.tls.to_string()])
                        .output()
                        .unwrap()
                });
                let text = String::from_utf8_lossy(&output.stdout);
                let done = text
                    .lines()
                    .find(|l| l.contains("connections in") && l.contains("real seconds"))
                    .and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok())
                    .unwrap_or(0.0);
                assert!(done > 0.0, "{case}: no handshake succeeded: {text}");
                vec![(Metric::Cpu, used / 1000.0 / done), (Metric::Rate, done / bench.seconds as f64)]
            });
            report.row_of(&case, cell, &seen);
        }
    }
}

/// By a client of our own, which sees that the sessions are resumed: s_time leaves before TLS 1.3's tickets come.
pub(crate) fn resumed(bench: &Bench, report: &mut Report) {
    report.section("TLS 1.3 handshakes with the ticket of the one before: CPU µs each; rate of one client", HEAD);
    for (resume, label) in [(false, "full handshake for comparison with resumed"), (true, "resumed handshake")] {
        let case = format!("{label} ECDSA P-256, tickets");
        if bench.wanted(&case) {
            let seen = bench.measure(&ALONE, |proxy| {
                let (address, time) = (proxy.tls, Duration::from_secs(bench.seconds));
                let (used, done) =
                    proxy.cost(|| std::thread::spawn(move || shake(address, resume, time)).join().unwrap());
                vec![(Metric::Cpu, used / 1000.0 / done), (Metric::Rate, done / bench.seconds as f64)]
            });
            report.row_of(&case, cell, &seen);
        }
    }
}

/// How many handshakes were done in `time`, on CPU 0.
fn shake(address: std::net::SocketAddr, resume: bool, time: Duration) -> f64 {
    pin(0);
    let client = Client::new();
    client.handshake(address, false); // brings the first ticket
    let start = Instant::now();
    let mut done = 1.0;
    while start.elapsed() < time {
        assert_eq!(client.handshake(address, resume), resume, "resumed");
        done += 1.0;
    }
    done
}

fn cell(seen: &Seen, who: &'static str) -> String {
    format!("{:.0}; {:.0}/s", seen.median(who, Metric::Cpu), seen.median(who, Metric::Rate))
}
