//! Requests a second and CPU for each: HTTP/1.1 plain and TLS, HTTP/2, one and two cores.

use crate::contender::{ALONE, Bench, Proxy, SHARING, Setup};
use crate::gauge::{Metric, Seen};
use crate::load::{h2load, wrk};
use crate::report::Report;

const HEAD: &str = "| case | HAProxy µs | nginx | Lyre | HAProxy req/s | nginx | Lyre |\n|---|---|---|---|---|---|---|";

pub(crate) fn h1(bench: &Bench, report: &mut Report) {
    report.section("CPU per request and throughput, HTTP/1.1", HEAD);
    for (scheme, body, connections) in [
        ("plain", 100, 64),
        ("plain", 10_240, 64),
        ("plain", 1_048_576, 16),
        ("tls", 100, 64),
        ("tls", 10_240, 64),
        ("tls", 1_048_576, 16),
    ] {
        for (placement, setup) in [("A", ALONE), ("B", SHARING)] {
            let case = format!("throughput {scheme} {body} B, placement {placement}, {connections} connections");
            if bench.wanted(&case) {
                let seen = bench.measure(&setup, |proxy| {
                    let url = url(proxy, scheme, body);
                    wrk("0", 1, &url, connections, 1); // warm pools and caches
                    let (used, load) = proxy.cost(|| wrk("0", 1, &url, connections, bench.seconds));
                    load.assert_clean(&case);
                    vec![(Metric::Cpu, used / 1000.0 / load.requests as f64), (Metric::Rate, load.per_second)]
                });
                report.row(&case, &ratios(&seen), &seen);
            }
        }
    }
}

/// Eight connections with sixteen streams each, as browsers have them.
pub(crate) fn h2(bench: &Bench, report: &mut Report) {
    report.section("CPU per request and throughput, HTTP/2 over TLS", HEAD);
    for body in [100, 10_240] {
        for (placement, setup) in [("A", ALONE), ("B", SHARING)] {
            let case = format!("h2 tls {body} B, placement {placement}, 8 connections x 16 streams");
            if bench.wanted(&case) {
                let seen = bench.measure(&setup, |proxy| {
                    let url = url(proxy, "tls", body);
                    let load = |seconds: u64| h2load(&["-c8", "-m16", "-D", &seconds.to_string(), &url]);
                    load(1);
                    let (used, load) = proxy.cost(|| load(bench.seconds));
                    load.assert_clean(&case);
                    vec![(Metric::Cpu, used / 1000.0 / load.requests as f64), (Metric::Rate, load.per_second)]
                });
                report.row(&case, &ratios(&seen), &seen);
            }
        }
    }
}

/// One and two workers with the same room, so that only the number of workers differs.
pub(crate) fn scaling(bench: &Bench, report: &mut Report) {
    report.section(
        "One and two worker cores; CPUs 0 and 1 shared by proxy, origin (one thread) and load generator (two)",
        HEAD,
    );
    for scheme in ["plain", "tls"] {
        for workers in [1, 2] {
            let case = format!("scaling {scheme} 100 B, workers: {workers}, 64 connections");
            if bench.wanted(&case) {
                let setup = Setup { key: "ec", workers, proxy_cpus: "0,1", origin_cpus: "0,1" };
                let seen = bench.measure(&setup, |proxy| {
                    let url = url(proxy, scheme, 100);
                    wrk("0,1", 2, &url, 64, 1);
                    let (used, load) = proxy.cost(|| wrk("0,1", 2, &url, 64, bench.seconds));
                    load.assert_clean(&case);
                    vec![(Metric::Cpu, used / 1000.0 / load.requests as f64), (Metric::Rate, load.per_second)]
                });
                report.row(&case, &ratios(&seen), &seen);
            }
        }
    }
}

fn url(proxy: &Proxy, scheme: &str, body: usize) -> String {
    match scheme {
        "plain" => format!("http://{}/{body}", proxy.plain),
        _ => format!("https://{}/{body}", proxy.tls),
    }
}

fn ratios(seen: &Seen) -> Vec<String> {
    let mut cells = Vec::new();
    for (metric, digits) in [(Metric::Cpu, 1), (Metric::Rate, 0)] {
        cells.push(format!("{:.digits$}", seen.median("haproxy", metric)));
        cells.push(format!("{:.2}x", seen.ratio("nginx", metric)));
        cells.push(format!("{:.2}x", seen.ratio("lyre", metric)));
    }
    cells
}
