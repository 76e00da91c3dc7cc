//! Runs scripts one after the other, in the order of events, on a thread of its own.

use crate::config::settings::track::{Command, Hook};
use crate::control::script::Script;
use crate::control::spawn::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Scripts that may wait. A router that changes this often while one script runs has another problem.
const QUEUE: usize = 256;

/// A running script's end is noticed at once; the wish to end, after this long.
const LOOK: Duration = Duration::from_millis(100);

pub struct Job {
    command: Command,
    more: Vec<String>,
    user: Option<String>,
    timeout: Duration,
    /// For the log.
    about: String,
}

/// Cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub runs: u64,
    /// Not started, ended with another status than 0, or too slow.
    pub failures: u64,
    /// Found the queue full.
    pub dropped: u64,
    /// Lines of FIFOs that nobody read.
    pub lost_lines: u64,
}

pub struct Runner {
    queue: Option<SyncSender<Box<Job>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Of scripts and of the readers of FIFOs, together.
#[derive(Default)]
pub struct Counters {
    pub runs: AtomicU64,
    pub failures: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Shared {
    counters: Arc<Counters>,
    is_over: AtomicBool,
}

impl Job {
    pub fn new(hook: &Hook, command: &Command, more: Vec<String>, about: &str) -> Job {
        let (command, about) = (command.clone(), about.to_owned());
        Job { command, more, user: hook.user.clone(), timeout: hook.timeout, about }
    }
}

impl Runner {
    pub fn start() -> std::io::Result<Runner> {
        let (queue, jobs) = sync_channel::<Box<Job>>(QUEUE);
        let (alive, ended) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let run = move || {
            let _alive = alive;
            jobs.into_iter().take_while(|_| !own.is_over.load(Ordering::Acquire)).for_each(|job| run(&job, &own));
        };
        let thread = std::thread::Builder::new().name("hooks".to_owned()).spawn(run)?;
        Ok(Runner { queue: Some(queue), shared, thread: Some(thread), ended })
    }

    /// Never waits.
    pub fn run(&self, job: Job) {
        if let Some(Err(TrySendError::Full(job))) = self.queue.as_ref().map(|queue| queue.try_send(Box::new(job))) {
            self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!(target: "lyre::hooks", router = %job.about, "too many scripts are waiting: one is not run");
        }
    }

    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { runs, failures, dropped } = &*self.shared.counters;
        Tally { runs: read(runs), failures: read(failures), dropped: read(dropped), lost_lines: 0 }
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Lets what waits run for up to `time`, then ends what still runs.
    pub fn end(&mut self, time: Duration) {
        self.queue = None;
        let _ = self.ended.recv_timeout(time);
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn run(job: &Job, shared: &Shared) {
    shared.counters.runs.fetch_add(1, Ordering::Relaxed);
    let program = job.command.program.display();
    let failure = match Script::start(&job.command, &job.more, job.user.as_deref()) {
        Err(error) => error.to_string(),
        Ok(script) => match wait(&script, job.timeout, shared) {
            Some(Exit::Code(0)) => return,
            Some(exit) => exit.to_string(),
            None => format!("did not end within {:?} and was killed", job.timeout),
        },
    };
    shared.counters.failures.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(target: "lyre::hooks", router = %job.about, %program, "{failure}");
}

/// How it ended; `None` if it had to be ended.
fn wait(script: &Script, timeout: Duration, shared: &Shared) -> Option<Exit> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(exit) = script.try_wait() {
            return Some(exit);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || shared.is_over.load(Ordering::Acquire) {
            script.kill();
            let mut ended = [PollFd::new(script.pidfd(), PollFlags::POLLIN)];
            let _ = poll(&mut ended, 100_u8);
            let _ = script.try_wait();
            return None;
        }
        let mut ended = [PollFd::new(script.pidfd(), PollFlags::POLLIN)];
        let _ = poll(&mut ended, PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(script: &str, timeout: Duration) -> Job {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        let command = Command { program: "/bin/sh".into(), arguments };
        Job { command, more: Vec::new(), user: None, timeout, about: "vip1".to_owned() }
    }

    #[test]
    fn scripts_run_in_order_and_one_that_hangs_ends_with_its_children() {
        let directory = std::env::temp_dir().join(format!("lyre-runner-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&directory, open).unwrap();
        let log = directory.join("log");
        let mut runner = Runner::start().unwrap();
        let minute = Duration::from_secs(60);
        let say = |word: &str| job(&format!("echo {word} >> {}", log.display()), minute);
        runner.run(say("first"));
        runner.run(job("sleep 1000 & sleep 1000", Duration::from_millis(200)));
        runner.run(job("exit 3", minute));
        runner.run(say("last"));
        runner.end(minute);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "first\nlast\n");
        assert_eq!(runner.tally(), Tally { runs: 4, failures: 2, ..Tally::default() });
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn too_many_are_dropped_and_counted() {
        let mut runner = Runner::start().unwrap();
        (0..QUEUE + 20).for_each(|_| runner.run(job("sleep 1000", Duration::from_secs(1000))));
        assert!(runner.tally().dropped >= 19, "{:?}", runner.tally());
        runner.end(Duration::ZERO);
    }
}
