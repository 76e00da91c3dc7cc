//! How badly the machine itself kept real-time threads waiting, so that no program is blamed for it.
//!
//! One thread a core, above every program here, asks to be woken every millisecond and writes down when it was not;
//! one more asks for the lock under which the kernel changes addresses. What they missed, nobody could have had. And
//! the kernel itself is asked for how long the threads of one process were ready but did not run, or waited inside it.

use super::Namespace;
use super::tap::wall_clock;
use lyre_vrrp::link::linux::netlink::{Holding, Netlink};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Spans of the wall clock, unordered, in which the machine did not run a thread that was due.
#[derive(Clone, Debug, Default)]
pub struct Strain(pub Vec<Range<Duration>>);

impl Strain {
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|span| span.end - span.start).max().unwrap_or_default()
    }

    /// How much of a span was lost to the machine; what several threads missed at once counts once.
    pub fn within(&self, span: Range<Duration>) -> Duration {
        let mut parts: Vec<_> = self.0.iter().map(|s| s.start.max(span.start)..s.end.min(span.end)).collect();
        parts.retain(|part| part.start < part.end);
        parts.sort_by_key(|part| part.start);
        let (mut lost, mut reached) = (Duration::ZERO, Duration::ZERO);
        for part in parts {
            lost += part.end.saturating_sub(part.start.max(reached));
            reached = reached.max(part.end);
        }
        lost
    }
}

/// The threads that feel the strain.
pub struct Canaries {
    felt: Arc<Mutex<Vec<Range<Duration>>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How often each asks.
const PERIOD: Duration = Duration::from_millis(1);
const LOCK_PERIOD: Duration = Duration::from_millis(5);

const ATTENTION_PERIOD: Duration = Duration::from_millis(2);

/// Shorter delays are no strain.
const FELT: Duration = Duration::from_micros(300);

impl Canaries {
    pub fn start() -> Canaries {
        let (felt, is_over) = (Arc::default(), Arc::default());
        let mut canaries = Canaries { felt, is_over, threads: Vec::new() };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|core| canaries.watch(PERIOD, move || be_on(core), move |()| {}));
        let open = || {
            let place = Namespace::new();
            let netlink = place.enter(|| Netlink::open().unwrap());
            (place, netlink)
        };
        canaries.watch(LOCK_PERIOD, open, |(_, netlink)| change_an_address(netlink));
        canaries
    }

    /// Also counts what the threads of this process whose name begins like this had to wait for.
    pub fn attend_to(&mut self, process: u32, name: &'static str) {
        let open = move || Attended::find(process, name);
        let felt = Arc::clone(&self.felt);
        let ask = move |attended: &mut Vec<Attended>| {
            if attended.is_empty() {
                *attended = Attended::find(process, name); // it has only just started
            }
            let waited = attended.iter_mut().map(Attended::waited).max().unwrap_or_default();
            if waited > FELT {
                let now = wall_clock();
                felt.lock().unwrap_or_else(PoisonError::into_inner).push(now - waited..now);
            }
        };
        self.watch(ATTENTION_PERIOD, open, ask);
    }

    pub fn strain(&self) -> Strain {
        Strain(self.felt.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn watch<T>(
        &mut self,
        period: Duration,
        open: impl FnOnce() -> T + Send + 'static,
        ask: impl Fn(&mut T) + Send + 'static,
    ) {
        let (felt, is_over) = (Arc::clone(&self.felt), Arc::clone(&self.is_over));
        self.threads.push(thread::spawn(move || {
            let mut state = open();
            be_urgent();
            while !is_over.load(Ordering::Acquire) {
                let due = wall_clock() + period;
                thread::sleep(period);
                ask(&mut state);
                let done = wall_clock();
                if done > due + FELT {
                    felt.lock().unwrap_or_else(PoisonError::into_inner).push(due..done);
                }
            }
        }));
    }
}

impl Drop for Canaries {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A thread as /proc shows it.
struct Attended {
    folder: PathBuf,
    /// Ready but not running, so far.
    delayed: Duration,
    looked: Instant,
}

impl Attended {
    fn find(process: u32, name: &str) -> Vec<Attended> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let has_name =
            |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name));
        let attend =
            |task: fs::DirEntry| Attended { folder: task.path(), delayed: Duration::MAX, looked: Instant::now() };
        tasks.filter(has_name).map(attend).collect()
    }

    /// Since the last look, through no fault of its own: for a core, or for a lock inside the kernel.
    fn waited(&mut self) -> Duration {
        let read = |file: &str| fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let delayed =
            read("schedstat").split(' ').nth(1).and_then(|nanos| nanos.parse().ok()).map(Duration::from_nanos);
        let Some(delayed) = delayed else { return Duration::ZERO };
        let is_blocked = read("stat").rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'));
        let blocked = if is_blocked { self.looked.elapsed() } else { Duration::ZERO };
        self.looked = Instant::now();
        delayed.saturating_sub(std::mem::replace(&mut self.delayed, delayed)) + blocked
    }
}

/// Puts the calling thread above every program under test, if that is allowed.
pub fn be_urgent() {
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--reset-on-fork", "--pid", "98", &gettid().to_string()]);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn be_on(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// Waits for the lock as long as everybody else who wants to change one.
fn change_an_address(netlink: &mut Netlink) {
    const LOOPBACK: u32 = 1;
    let network = "192.0.2.1/32".parse().unwrap();
    let holding = Holding { network, leaves_route_alone: false, is_system: false };
    let _ = netlink.hold_addresses(LOOPBACK, &[holding], Duration::from_secs(3));
    let _ = netlink.drop_addresses(LOOPBACK, &[network]);
}
