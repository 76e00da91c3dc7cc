//! Long bodies over TLS, both ways, HTTP/1.1 beside HTTP/2.

use crate::contender::{ALONE, Bench};
use crate::gauge::{Metric, Seen};
use crate::load::h2load;
use crate::report::Report;
use std::time::Instant;

const BODY: usize = 16 << 20;

pub(crate) fn bulk(bench: &Bench, report: &mut Report) {
    report.section(
        "Bulk over TLS (AES-256-GCM), bodies of 16 MiB on 4 connections: MB per CPU second; MB/s",
        "| case | HAProxy | nginx | Lyre | Lyre / HAProxy |\n|---|---|---|---|---|",
    );
    let file = bench.dir.join("body");
    std::fs::write(&file, vec![b'x'; BODY]).unwrap();
    let upload = format!("--data={}", file.display());
    for (case, protocol, uploads) in CASES {
        if bench.wanted(case) {
            let transfers = bench.seconds * 16;
            let seen = bench.measure(&ALONE, |proxy| {
                let count = transfers.to_string();
                let url = match uploads {
                    true => format!("https://{}/upload", proxy.tls),
                    false => format!("https://{}/{BODY}", proxy.tls),
                };
                let mut arguments = vec!["-c4", "-m1", "-n", &count, protocol];
                arguments.extend(uploads.then_some(upload.as_str()));
                arguments.push(&url);
                let start = Instant::now();
                let (used, load) = proxy.cost(|| h2load(&arguments));
                let seconds = start.elapsed().as_secs_f64();
                load.assert_clean(case);
                assert_eq!(load.requests, transfers, "{case}");
                let megabytes = transfers as f64 * BODY as f64 / 1e6;
                vec![(Metric::MegabytesPerCpuSecond, megabytes * 1e9 / used), (Metric::Rate, megabytes / seconds)]
            });
            let cell = |who| {
                format!("{:.0}; {:.0}", seen.median(who, Metric::MegabytesPerCpuSecond), seen.median(who, Metric::Rate))
            };
            let mut cells: Vec<String> = crate::CONTENDERS.into_iter().map(cell).collect();
            cells.push(format!("{:.2}x", Seen::ratio(&seen, "lyre", Metric::MegabytesPerCpuSecond)));
            report.row(case, &cells, &seen);
        }
    }
}

/// The name, how h2load is told the protocol, and the direction.
const CASES: [(&str, &str, bool); 4] = [
    ("bulk download tls h1", "--h1", false),
    ("bulk download tls h2", "--npn-list=h2", false),
    ("bulk upload tls h1", "--h1", true),
    ("bulk upload tls h2", "--npn-list=h2", true),
];
