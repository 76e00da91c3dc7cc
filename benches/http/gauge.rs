//! What a process has used: processor time, memory; and the medians of what was seen.

use std::collections::BTreeMap;

/// Nanoseconds of CPU that `pid` and its descendants have used.
pub(crate) fn cpu_nanos(pid: u32) -> u64 {
    family(pid)
        .iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten())
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let children = std::fs::read_dir(format!("/proc/{}/task", found[next]))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .collect::<String>();
        found.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        next += 1;
    }
    found
}

/// Memory written to by the family, in bytes.
pub(crate) fn private_dirty(pid: u32) -> u64 {
    family(pid)
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .flat_map(|text| {
            text.lines()
                .filter(|l| l.starts_with("Private_Dirty:"))
                .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
        .sum::<u64>()
        * 1024
}

/// Puts the calling thread, and what it starts later, on `cpu`.
pub(crate) fn pin(cpu: usize) {
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set), 0, "pinning to CPU {cpu}");
    }
}

/// What is measured of a case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Metric {
    /// Microseconds of CPU for each request or handshake.
    Cpu,
    /// Requests, handshakes or megabytes a second.
    Rate,
    /// Microseconds.
    P50,
    P99,
    P999,
    MegabytesPerCpuSecond,
    BytesPerConnection,
}

/// The values of one case, by contender.
#[derive(Default, Clone)]
pub(crate) struct Seen(BTreeMap<(&'static str, Metric), Vec<f64>>);

impl Seen {
    pub(crate) fn add(&mut self, contender: &'static str, values: &[(Metric, f64)]) {
        for (metric, value) in values {
            self.0.entry((contender, *metric)).or_default().push(*value);
        }
    }

    pub(crate) fn median(&self, contender: &'static str, metric: Metric) -> f64 {
        let mut sorted = self.0.get(&(contender, metric)).cloned().unwrap_or_default();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn ratio(&self, contender: &'static str, metric: Metric) -> f64 {
        self.median(contender, metric) / self.median("haproxy", metric)
    }
}
