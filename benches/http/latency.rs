//! How long a request takes when the proxy is not at its limit.

use crate::contender::{ALONE, Bench};
use crate::gauge::{Metric, Seen};
use crate::load::wrk;
use crate::paced::{Plan, quantile, run};
use crate::report::Report;

/// The same rate for all, far below everybody's limit.
pub(crate) fn fixed_rate(bench: &Bench, report: &mut Report) {
    report.section(
        "Latency at a fixed rate: p50 / p99 µs; CPU µs per request",
        "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|",
    );
    for (body, connections, per_second) in [(100, 64, 6400_u32), (10_240, 64, 3200), (100, 8, 800)] {
        let case = format!("fixed rate plain {body} B, {per_second}/s, {connections} connections, placement A");
        if bench.wanted(&case) {
            let seen = bench.measure(&ALONE, |proxy| {
                let plan = Plan {
                    address: proxy.plain,
                    body,
                    connections,
                    per_second: f64::from(per_second),
                    seconds: bench.seconds,
                };
                let (used, times) = proxy.cost(|| run(plan));
                let all = f64::from(per_second) * (bench.seconds as f64 + 0.5);
                vec![
                    (Metric::Cpu, used / 1000.0 / all),
                    (Metric::P50, quantile(&times, 0.5)),
                    (Metric::P99, quantile(&times, 0.99)),
                ]
            });
            let cell = |seen: &Seen, who| {
                let at = |metric| seen.median(who, metric);
                format!("{:.0} / {:.0}; {:.1}", at(Metric::P50), at(Metric::P99), at(Metric::Cpu))
            };
            report.row_of(&case, cell, &seen);
        }
    }
}

/// Each at seven tenths of what it can do itself, which wrk finds out just before.
pub(crate) fn seventy_percent(bench: &Bench, report: &mut Report) {
    report.section(
        "Latency at 70 % of the contender's own maximum: requests/s; p50 / p99 / p99.9 µs",
        "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|",
    );
    for body in [100, 10_240] {
        let case = format!("p99 at 70 % plain {body} B, 64 connections, placement A");
        if bench.wanted(&case) {
            let seen = bench.measure(&ALONE, |proxy| {
                let most = wrk("0", 1, &format!("http://{}/{body}", proxy.plain), 64, bench.seconds);
                most.assert_clean(&case);
                let per_second = most.per_second * 0.7;
                let plan =
                    Plan { address: proxy.plain, body, connections: 64, per_second, seconds: bench.seconds.max(3) };
                let times = run(plan);
                vec![
                    (Metric::Rate, per_second),
                    (Metric::P50, quantile(&times, 0.5)),
                    (Metric::P99, quantile(&times, 0.99)),
                    (Metric::P999, quantile(&times, 0.999)),
                ]
            });
            let cell = |seen: &Seen, who| {
                let at = |metric| seen.median(who, metric);
                format!(
                    "{:.0}/s; {:.0} / {:.0} / {:.0}",
                    at(Metric::Rate),
                    at(Metric::P50),
                    at(Metric::P99),
                    at(Metric::P999)
                )
            };
            report.row_of(&case, cell, &seen);
        }
    }
}
