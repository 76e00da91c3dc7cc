//! docs/bench/http.md: the tables, and at their end the goals with what was measured of them.

use crate::contender::Bench;
use crate::gauge::Seen;
use crate::{CONTENDERS, goals, notes};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

pub(crate) struct Report {
    text: String,
    /// Title and head of a section that has no row yet.
    begun: Option<String>,
    cases: BTreeMap<String, Seen>,
    complete: bool,
}

impl Report {
    pub(crate) fn new(bench: &Bench) -> Report {
        let cpu = std::fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
            .find_map(|l| l.strip_prefix("model name").map(|r| r.trim_start_matches([' ', '\t', ':']).to_owned()))
            .unwrap_or_default();
        let text = format!(
            "# Data plane\n\nMade by `make bench-http`. Medians of {} rounds of {} s, contenders interleaved.\n\n\
             - kernel {}, CPU {cpu}, {} cores\n- {}\n- {}\n- {}\n- {}\n- Lyre commit {}, access log and metrics on; HAProxy and nginx without access log\n\n\
             Placement A: the proxy alone on CPU 1, origin and load generator on CPU 0. Placement B: proxy and origin share CPU 1.\n\
             What does not name a placement is A. Ratios are to HAProxy; below 1 is less CPU, above 1 more requests.\n",
            bench.rounds,
            bench.seconds,
            first_line("uname -r"),
            std::thread::available_parallelism().map(usize::from).unwrap_or(0),
            first_line("haproxy -v"),
            first_line("nginx -v"),
            first_line("wrk -v"),
            first_line("h2load --version"),
            first_line("git rev-parse --short HEAD"),
        );
        Report { text, begun: None, cases: BTreeMap::new(), complete: bench.only.is_none() }
    }

    /// What follows belongs to it; it appears with its first row.
    pub(crate) fn section(&mut self, title: &str, head: &str) {
        self.begun = Some(format!("\n## {title}\n\n{head}\n"));
    }

    pub(crate) fn row(&mut self, case: &str, cells: &[String], seen: &Seen) {
        let begin = self.begun.take().unwrap_or_default();
        let row = format!("{begin}| {case} | {} |\n", cells.join(" | "));
        print!("{row}");
        self.text.push_str(&row);
        self.cases.insert(case.to_owned(), seen.clone());
    }

    /// A row with one cell for each contender.
    pub(crate) fn row_of(&mut self, case: &str, cell: impl Fn(&Seen, &'static str) -> String, seen: &Seen) {
        let cells: Vec<String> = CONTENDERS.into_iter().map(|who| cell(seen, who)).collect();
        self.row(case, &cells, seen);
    }

    /// Another name for a case whose own depends on the machine.
    pub(crate) fn alias(&mut self, name: &str, case: &str) {
        if let Some(seen) = self.cases.get(case).cloned() {
            self.cases.insert(name.to_owned(), seen);
        }
    }

    pub(crate) fn finish(mut self) {
        let goals = goals::table(&self.cases);
        print!("{goals}");
        let _ = write!(self.text, "{goals}");
        if self.complete {
            notes::save(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/bench/http.md"), &self.text).unwrap();
            println!("bench-http: wrote docs/bench/http.md");
        } else {
            println!("bench-http: partial run, docs/bench/http.md left as it is");
        }
    }
}

fn first_line(command: &str) -> String {
    Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin {command} 2>&1")])
        .output()
        .map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}
