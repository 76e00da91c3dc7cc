//! Whether enough processes of a name run. Those found are watched by pidfd, so that an end is seen at once; new ones
//! are found by reading /proc, every interval and when the kernel says that one began ([`starts`]).

mod starts;

use super::{Finding, Pace, Probe};
use crate::config::settings::track::ProcessMatch;
use crate::control::spawn::open_pidfd;
use lyre_vrrp::params::Time;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use starts::Starts;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

/// Processes watched one by one; of more, the ends are seen by the next look.
const WATCHED_MAX: usize = 64;

/// The kernel keeps this much of a name.
const NAME_BYTES: usize = 15;

pub struct Process {
    which: ProcessMatch,
    min: u32,
    pace: Pace,
    watched: Vec<(Pid, OwnedFd)>,
    /// Where the kernel tells us.
    starts: Option<Starts>,
}

impl Process {
    pub fn new(which: ProcessMatch, min: u32, pace: Pace) -> Process {
        Process { which, min, pace, watched: Vec::new(), starts: Starts::open().ok() }
    }

    fn look(&mut self) -> Option<Finding> {
        let found: Vec<Pid> = processes().into_iter().filter(|pid| is_meant(&self.which, *pid)).collect();
        self.watched.retain(|(pid, _)| found.contains(pid));
        for pid in &found {
            let is_watched = self.watched.iter().any(|(watched, _)| watched == pid);
            if is_watched || self.watched.len() >= WATCHED_MAX {
                continue;
            }
            // Its number may have passed on before it was opened; then it is no longer meant.
            if let Ok(pidfd) = open_pidfd(*pid)
                && is_meant(&self.which, *pid)
            {
                self.watched.push((*pid, pidfd));
            }
        }
        let enough = found.len() >= self.min as usize;
        Finding::of(enough, format!("{} of at least {} run", found.len(), self.min))
    }

    fn has_new_one(&self) -> bool {
        let is_new = |pid| !self.watched.iter().any(|(watched, _)| *watched == pid) && is_meant(&self.which, pid);
        self.starts.as_ref().is_some_and(|starts| starts.any(is_new))
    }

    /// Forgets those that ended.
    fn has_lost_one(&mut self) -> bool {
        let before = self.watched.len();
        self.watched.retain(|(_, pidfd)| {
            let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            poll(&mut ended, PollTimeout::ZERO).is_ok_and(|ready| ready == 0)
        });
        self.watched.len() != before
    }
}

impl Probe for Process {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        into.extend(self.watched.iter().map(|(_, pidfd)| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)));
        into.extend(self.starts.iter().map(|starts| PollFd::new(starts.as_fd(), PollFlags::POLLIN)));
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.pace.next())
    }

    fn advance(&mut self, now: Time) -> Option<Finding> {
        let has_changed = self.has_lost_one() | self.has_new_one();
        let is_due = self.pace.is_due(now);
        if has_changed || is_due { self.look() } else { None }
    }
}

fn processes() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw).collect()
}

/// Not one that has ended and waits for its parent, which still has its name.
fn is_meant(which: &ProcessMatch, pid: Pid) -> bool {
    let folder = format!("/proc/{pid}");
    let arguments = || fs::read(format!("{folder}/cmdline")).unwrap_or_default();
    let is_meant = match which {
        ProcessMatch::Name(name) => {
            let kernels = fs::read(format!("{folder}/comm")).unwrap_or_default();
            is_named(name, kernels.strip_suffix(b"\n").unwrap_or(&kernels), arguments)
        }
        ProcessMatch::CommandLine(line) => is_line(line, &arguments()),
    };
    is_meant && is_alive(&fs::read_to_string(format!("{folder}/stat")).unwrap_or_default())
}

/// By the kernel's name; a longer one, which the kernel cuts, by the first argument.
fn is_named(name: &str, kernels: &[u8], arguments: impl FnOnce() -> Vec<u8>) -> bool {
    if name.len() <= NAME_BYTES || !name.as_bytes().starts_with(kernels) {
        return kernels == name.as_bytes();
    }
    let arguments = arguments();
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let base = first.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    base == name.as_bytes()
}

fn is_line(line: &[String], arguments: &[u8]) -> bool {
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    let mut arguments = arguments.split(|byte| *byte == 0);
    line.iter().all(|word| arguments.next() == Some(word.as_bytes())) && arguments.next().is_none()
}

/// The state follows the name, which may hold anything but ends with the last parenthesis.
fn is_alive(stat: &str) -> bool {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X" | "x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_lines_match_exactly() {
        let named = |name, kernels: &[u8], line: &[u8]| is_named(name, kernels, || line.to_vec());
        assert!(named("haproxy", b"haproxy", b"/usr/sbin/haproxy\0-f\0x\0"));
        assert!(!named("haproxy", b"haproxy2", b""));
        assert!(!named("proxy", b"haproxy", b"/usr/sbin/haproxy\0"));
        assert!(named("a-very-long-program", b"a-very-long-pro", b"/opt/a-very-long-program\0"));
        assert!(!named("a-very-long-program", b"a-very-long-pro", b"/opt/a-very-long-product\0"));
        let line = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(is_line(&line(&["sleep", "9"]), b"sleep\x009\0"));
        assert!(!is_line(&line(&["sleep"]), b"sleep\x009\0"));
        assert!(!is_line(&line(&["sleep", "9", "9"]), b"sleep\x009\0"));
        assert!(is_line(&line(&["x", ""]), b"x\0\0"));
    }

    #[test]
    fn a_zombie_does_not_count() {
        assert!(is_alive("7 (a) b) S 1 7"));
        assert!(!is_alive("7 (a) b) Z 1 7"));
        assert!(!is_alive(""));
    }

    #[test]
    fn a_start_and_an_end_are_seen_between_two_looks_where_the_kernel_tells() {
        use std::os::unix::process::CommandExt;
        use std::time::Duration;
        let test = "a_start_and_an_end_are_seen_between_two_looks_where_the_kernel_tells";
        if let Err(error) = Starts::open() {
            println!("SKIPPED: {test}: no proc connector here: {error}");
            return;
        }
        let line: Vec<String> = vec![format!("lyre-sleeps-{}", std::process::id()), "1000".to_owned()];
        let hour = Pace::new(Time(0), Duration::from_secs(3600));
        let mut probe = Process::new(ProcessMatch::CommandLine(line.clone()), 1, hour);
        assert_eq!(probe.advance(Time(0)), Finding::bad("0 of at least 1 run"));
        // Time stands still, so no look is ever due again. One can still come early, when the kernel lost events.
        let mut becomes = |wanted: Option<Finding>| {
            let started = std::time::Instant::now();
            let mut last = None;
            while last != wanted {
                assert!(started.elapsed() < Duration::from_secs(60), "{last:?} instead of {wanted:?}");
                let mut interests = Vec::new();
                probe.interests(&mut interests);
                poll(&mut interests, 1_000_u16).unwrap();
                last = probe.advance(Time(1)).or(last);
            }
        };
        let mut child = std::process::Command::new("/bin/sleep").arg0(&line[0]).arg(&line[1]).spawn().unwrap();
        becomes(Finding::good("1 of at least 1 run"));
        child.kill().unwrap();
        becomes(Finding::bad("0 of at least 1 run"));
        child.wait().unwrap();
    }
}
