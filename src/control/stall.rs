//! Why a core stands still: it hangs, or the machine gives it no CPU. Killing a starved worker would cost its
//! connections and gain nothing.

use crate::serve::executor::core_name;
use nix::unistd::Pid;
use std::fmt;
use std::fs;
use std::time::Duration;

/// What the kernel says of a core's thread at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// As in proc(5): R runs or waits for a CPU, S and D wait for something else, T is stopped.
    pub state: char,
    /// CPU time so far.
    pub ran: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Hung,
    Starved,
}

/// What two looks, `between` apart, say about a thread that made no progress: one that could run and did not is
/// starved. One that spins, or waits for anything but a CPU, hangs.
pub fn cause(before: Look, after: Look, between: Duration) -> Cause {
    let ran = after.ran.saturating_sub(before.ran);
    if before.state == 'R' && after.state == 'R' && ran < between / 4 { Cause::Starved } else { Cause::Hung }
}

impl Look {
    /// At the thread of `core` in process `pid`; `None` if there is none.
    pub fn take(pid: Pid, core: usize) -> Option<Look> {
        let name = core_name(core) + "-";
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let of = |file: &str, thread: &fs::DirEntry| fs::read_to_string(thread.path().join(file)).ok();
        let thread =
            threads.into_iter().find(|thread| of("comm", thread).is_some_and(|comm| comm.starts_with(&name)))?;
        Some(Look { state: state(&of("stat", &thread)?)?, ran: ran(&of("schedstat", &thread)?)? })
    }
}

/// The third field; the second is the name in parentheses and may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.get(stat.rfind(')')? + 1..)?.trim_start().chars().next()
}

/// Nanoseconds on a CPU, the first field.
fn ran(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}, ran {} ms", self.state, self.ran.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::executor::builder;
    use glommio::Placement;

    const HALF: Duration = Duration::from_millis(250);

    fn look(state: char, ran_ms: u64) -> Look {
        Look { state, ran: Duration::from_millis(ran_ms) }
    }

    #[test]
    fn a_thread_that_could_run_but_hardly_did_is_starved_and_any_other_hangs() {
        assert_eq!(cause(look('R', 100), look('R', 100), HALF), Cause::Starved);
        assert_eq!(cause(look('R', 100), look('R', 140), HALF), Cause::Starved);
        assert_eq!(cause(look('R', 100), look('R', 350), HALF), Cause::Hung, "spins");
        for state in ['S', 'D', 'T', 'Z'] {
            assert_eq!(cause(look('R', 100), look(state, 100), HALF), Cause::Hung, "{state}");
            assert_eq!(cause(look(state, 100), look('R', 100), HALF), Cause::Hung, "{state}");
        }
    }

    #[test]
    fn the_state_is_read_behind_any_name() {
        assert_eq!(state("12 (core-0) S 1 2"), Some('S'));
        assert_eq!(state("12 (a) R) b) D 1"), Some('D'));
        assert_eq!(state("12"), None);
        assert_eq!(state("12 (x)"), None);
        assert_eq!(ran("1500000 20 3\n"), Some(Duration::from_micros(1500)));
        assert_eq!(ran(""), None);
    }

    #[test]
    fn a_spinning_core_is_found_by_the_name_executors_give_it_and_seen_to_run() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let spin = move || async move { while ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {} };
        let core = builder(Placement::Unbound, &core_name(471)).spawn(spin).unwrap();
        let look = || Look::take(Pid::this(), 471);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let has_run = || look().is_some_and(|look| look.state == 'R' && look.ran > Duration::from_millis(1));
        while !has_run() {
            assert!(std::time::Instant::now() < deadline, "{:?}", look());
        }
        assert_eq!(Look::take(Pid::this(), 47), None, "another core's name begins like it");
        drop(end);
        core.join().unwrap();
        // The kernel may show a thread a moment longer than it can be joined.
        while look().is_some() {
            assert!(std::time::Instant::now() < deadline + Duration::from_secs(10), "{:?}", look());
        }
    }
}
