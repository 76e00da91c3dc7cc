//! What Lyre wants to reach (to HAProxy in the same run, where nothing else is said), and whether it did.

use crate::gauge::{Metric, Seen};
use std::collections::BTreeMap;
use std::fmt::Write as _;

struct Goal {
    what: &'static str,
    limit: Limit,
    of: Of,
}

enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

enum Of {
    /// Lyre's to HAProxy's.
    Ratio(&'static str, Metric),
    /// Lyre's own bytes.
    Bytes(&'static str),
    /// Lyre's in the first case to Lyre's in the second.
    Cases(&'static str, &'static str, Metric),
}

use Limit::{AtLeast, AtMost};
use Metric::{BytesPerConnection, Cpu, MegabytesPerCpuSecond, Rate};

const GOALS: [Goal; 15] = [
    ratio(
        "CPU per small request, sharing a core, plain",
        AtMost(0.75),
        "throughput plain 100 B, placement B, 64 connections",
        Cpu,
    ),
    ratio(
        "CPU per small request, sharing a core, TLS",
        AtMost(0.75),
        "throughput tls 100 B, placement B, 64 connections",
        Cpu,
    ),
    ratio(
        "CPU per small request, alone, plain",
        AtMost(0.90),
        "throughput plain 100 B, placement A, 64 connections",
        Cpu,
    ),
    ratio("CPU per small request, alone, TLS", AtMost(0.90), "throughput tls 100 B, placement A, 64 connections", Cpu),
    ratio(
        "CPU per 1 MiB body, alone, plain",
        AtMost(0.60),
        "throughput plain 1048576 B, placement A, 16 connections",
        Cpu,
    ),
    ratio(
        "CPU per 1 MiB body, sharing a core, plain",
        AtMost(0.60),
        "throughput plain 1048576 B, placement B, 16 connections",
        Cpu,
    ),
    ratio("CPU per 1 MiB body, alone, TLS", AtMost(0.60), "throughput tls 1048576 B, placement A, 16 connections", Cpu),
    ratio("full handshake, ECDSA P-256", AtMost(0.65), "full handshake ECDSA P-256, one at a time", Cpu),
    ratio("full handshake, RSA-2048", AtMost(0.75), "full handshake RSA-2048, one at a time", Cpu),
    ratio("TLS bulk download, bytes per CPU second", AtLeast(1.6), "bulk download tls h1", MegabytesPerCpuSecond),
    ratio("TLS bulk upload, bytes per CPU second", AtLeast(1.6), "bulk upload tls h1", MegabytesPerCpuSecond),
    Goal {
        what: "upload by HTTP/2, speed to that by HTTP/1.1",
        limit: AtLeast(0.9),
        of: Of::Cases("bulk upload tls h2", "bulk upload tls h1", Rate),
    },
    Goal {
        what: "memory per idle keep-alive connection",
        limit: AtMost(600.0),
        of: Of::Bytes("idle keep-alive connections, plain"),
    },
    Goal { what: "memory per idle WebSocket, plain", limit: AtMost(1536.0), of: Of::Bytes("idle WebSockets, plain") },
    Goal { what: "memory per idle WebSocket, TLS", limit: AtMost(12_288.0), of: Of::Bytes("idle WebSockets, TLS") },
];

const fn ratio(what: &'static str, limit: Limit, case: &'static str, metric: Metric) -> Goal {
    Goal { what, limit, of: Of::Ratio(case, metric) }
}

/// The goals of which something was measured, as a section.
pub(crate) fn table(cases: &BTreeMap<String, Seen>) -> String {
    let mut rows = String::new();
    for goal in GOALS {
        let Some(measured) = goal.measured(cases) else { continue };
        let (sign, limit, met) = match goal.limit {
            AtMost(limit) => ("<=", limit, measured <= limit),
            AtLeast(limit) => (">=", limit, measured >= limit),
        };
        let verdict = if met { "met" } else { "**missed**" };
        let _ =
            writeln!(rows, "| {} | {sign} {} | {} | {verdict} |", goal.what, goal.shown(limit), goal.shown(measured));
    }
    if rows.is_empty() {
        return rows;
    }
    format!("\n## Against the goals\n\n| what | goal | measured | |\n|---|---|---|---|\n{rows}")
}

impl Goal {
    fn measured(&self, cases: &BTreeMap<String, Seen>) -> Option<f64> {
        let value = match self.of {
            Of::Ratio(case, metric) => cases.get(case)?.ratio("lyre", metric),
            Of::Bytes(case) => cases.get(case)?.median("lyre", BytesPerConnection),
            Of::Cases(first, second, metric) => {
                cases.get(first)?.median("lyre", metric) / cases.get(second)?.median("lyre", metric)
            }
        };
        Some(value)
    }

    fn shown(&self, value: f64) -> String {
        match self.of {
            Of::Bytes(_) => format!("{value:.0} B"),
            _ => format!("{value:.2}x"),
        }
    }
}
