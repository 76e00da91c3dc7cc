//! `global`: what holds for the whole process.

use super::certificates::Tls;
use super::keywords::{self, Block};
use super::sections::{Line, Section};
use super::time::ms;
use crate::config::units::show_duration;
use crate::import::edge::Edge;
use crate::import::findings::Findings;
use std::time::Duration;

pub(super) fn read(findings: &mut Findings, edge: &mut Edge, tls: &mut Tls, section: &Section) {
    for line in section.inside() {
        statement(findings, edge, tls, line);
    }
}

fn statement(findings: &mut Findings, edge: &mut Edge, tls: &mut Tls, line: &Line) {
    let value = line.word(1);
    let count = |range: std::ops::RangeInclusive<u64>| value.parse::<u64>().ok().filter(|count| range.contains(count));
    match line.word(0) {
        "maxconn" => match count(16..=1_000_000) {
            // HAProxy's is for all threads; Lyre's is a core's, and half of it a core would refuse what went before.
            Some(count) => {
                edge.set(findings, line, ("limits", "max_connections"), count.to_string());
                findings.remark(line, "limits.max_connections holds per core: the whole is as many times that");
            }
            None => findings.refused(line, "limits.max_connections is 16..1000000"),
        },
        "nbthread" => match count(1..=255) {
            Some(count) => edge.set(findings, line, ("worker", "cores"), count.to_string()),
            None => findings.refused(line, "worker.cores is 1..255"),
        },
        "hard-stop-after" => match ms(value).filter(|ms| *ms <= 86_400_000) {
            Some(ms) => {
                let text = format!("\"{}\"", show_duration(Duration::from_millis(ms)));
                edge.set(findings, line, ("timeouts", "drain"), text);
            }
            None => findings.refused(line, "timeouts.drain is at most 24h"),
        },
        "crt-base" => {
            tls.crt_base = Some(value.to_owned());
            findings.mapped(line, "part of the paths of tls.certificates");
        }
        _ => keywords::note(findings, Block::Global, line),
    }
}
