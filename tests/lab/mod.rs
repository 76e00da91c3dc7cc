//! Set-up for tests that run the laboratory of `lyre demo`. Asserts nothing.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) const LYRE: &str = env!("CARGO_BIN_EXE_lyre");

/// Whether this machine lets us build the laboratory; says why not and counts as skipped otherwise.
pub(crate) fn may_make_namespaces(test: &str) -> bool {
    let flags = if nix::unistd::geteuid().is_root() { "-nmp" } else { "-Urnmp" };
    match Command::new("unshare").args([flags, "--fork", "ip", "link", "add", "type", "bridge"]).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("SKIPPED: {test}: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            println!("SKIPPED: {test}: unshare: {error}");
            false
        }
    }
}

/// Waits for a condition.
pub(crate) fn until(awaited: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < deadline, "waited {deadline:?} in vain for {awaited}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    started: String,
}

impl Process {
    pub(crate) fn exists(&self) -> bool {
        stat(self.pid).is_some_and(|(_, started, state)| started == self.started && state != "Z")
    }
}

/// All descendants of a process.
pub(crate) fn processes_below(pid: u32) -> Vec<Process> {
    let all: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(parent, started, _)| (pid, parent, started)))
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for (pid, _, started) in all.iter().filter(|(_, of, _)| *of == parent) {
            parents.push(*pid);
            found.push(Process { pid: *pid, started: started.clone() });
        }
    }
    found
}

/// Parent, start time and state from /proc; the command name may hold anything but ends with the last `)`.
fn stat(pid: u32) -> Option<(u32, String, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, (*fields.get(19)?).to_owned(), (*fields.first()?).to_owned()))
}
