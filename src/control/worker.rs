//! The one worker process: start, talk, judge, end, start again.
//!
//! ```text
//! Down --restart time--> Up: starting --Report::Ready--> Up: ready --exit--> Down (restart time by Backoff)
//!                         '--no Ready in START_TIME, a hung core, a broken channel: SIGKILL--> exit
//!                         '--stop ordered--> Up: stopping --exit--> Ended
//! ```
//!
//! What the worker says is untrusted: a message that does not fit the protocol costs it its life, never ours.

use crate::config::bundle::Bundle;
use crate::control::backoff::Backoff;
use crate::control::entry::Orders;
use crate::control::listeners::Listeners;
use crate::control::pulse::Pulse;
use crate::control::spawn::{Exit, Process};
use crate::control::stall::{self, Cause, Look};
use crate::control::view::View;
use crate::serve::parent::{Channel, ChannelError, Order, Receiver, Report, Sender};
use lyre_vrrp::params::Time;
use nix::sys::signal::Signal;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Certificates, rings and health checks have to be up by then.
const START_TIME: Duration = Duration::from_secs(30);
/// After its drain deadline a stopping worker gets this long to exit.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Between closing its channel and its exit.
const LEAVE_TIME: Duration = Duration::from_secs(1);
/// Messages taken in one turn of the loop, so that a chatty worker cannot occupy the parent.
const REPORTS_PER_TURN: usize = 64;

pub struct Worker {
    view: Arc<View>,
    page_fd: OwnedFd,
    life: Life,
    backoff: Backoff,
    pub tallies: Tallies,
}

/// Cumulative, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct Tallies {
    pub starts: u64,
    pub crashes: u64,
    pub hangs: u64,
    /// Cores that stood still for the hang timeout because they got no CPU.
    pub starvations: u64,
    pub last_exit: Option<String>,
}

/// What a worker starts with.
pub struct Equipment<'a> {
    pub orders: Orders,
    pub bundle: &'a Bundle,
    pub listeners: &'a Listeners,
    /// Virtual addresses held at the moment.
    pub held: Vec<IpAddr>,
    pub is_draining: bool,
    /// The table of the peer's connections and our end of the pair link.
    pub link: Option<[BorrowedFd<'a>; 2]>,
}

enum Life {
    Down {
        restart_at: Time,
    },
    Up(Box<Up>),
    /// Stopped by order; stays so.
    Ended,
}

struct Up {
    process: Process,
    /// `None` once it broke; the process is being killed then.
    channel: Option<(Sender, Receiver)>,
    started: Time,
    is_ready: bool,
    /// When a stopping worker is killed.
    stop_by: Option<Time>,
    /// It closed its channel, so it is exiting; when it is killed if it does not.
    leave_by: Option<Time>,
    /// Why we kill it, if we do.
    verdict: Option<String>,
    pulse: Pulse,
    next_look: Time,
    /// The core that stands still, and what it did when that became suspicious.
    suspect: Option<Suspect>,
}

struct Suspect {
    core: usize,
    since: Time,
    look: Option<Look>,
    is_told: bool,
}

impl Worker {
    /// No process yet; `tick` asks for the first start at once.
    pub fn new(view: Arc<View>, page_fd: OwnedFd, now: Time) -> Worker {
        let (backoff, tallies) = (Backoff::default(), Tallies::default());
        Worker { view, page_fd, life: Life::Down { restart_at: now }, backoff, tallies }
    }

    pub fn is_ready(&self) -> bool {
        matches!(&self.life, Life::Up(up) if up.is_ready && up.stop_by.is_none())
    }

    pub fn is_stopping(&self) -> bool {
        matches!(&self.life, Life::Up(up) if up.stop_by.is_some())
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended)
    }

    pub fn pid(&self) -> Option<i32> {
        self.up().map(|up| up.process.pid().as_raw())
    }

    pub fn started(&self) -> Option<Time> {
        self.up().map(|up| up.started)
    }

    pub fn restart_at(&self) -> Option<Time> {
        match self.life {
            Life::Down { restart_at } => Some(restart_at),
            Life::Up(_) | Life::Ended => None,
        }
    }

    /// Whether [`Worker::start`] is due.
    pub fn is_due(&self, now: Time) -> bool {
        self.restart_at().is_some_and(|at| now >= at)
    }

    /// Starts a process and hands it everything. A failure counts as a young death.
    pub fn start(&mut self, now: Time, equipment: Equipment<'_>) {
        self.tallies.starts += 1;
        match self.try_start(now, equipment) {
            Ok(up) => {
                tracing::info!(target: "lyre::control", pid = up.process.pid().as_raw(), "worker started");
                self.life = Life::Up(Box::new(up));
            }
            Err(error) => {
                tracing::error!(target: "lyre::control", %error, "cannot start a worker");
                self.view.hide();
                self.bury(now, Duration::ZERO, format!("not started: {error}"));
            }
        }
    }

    fn try_start(&self, now: Time, equipment: Equipment<'_>) -> io::Result<Up> {
        let (ours, theirs) = Channel::pair().map_err(io::Error::other)?;
        // Nobody runs who could still write to it: the last worker was reaped.
        self.view.page.clear();
        let process = Process::spawn(&equipment.orders, theirs.into_fd())?;
        self.view.show(self.tallies.starts, process.pidfd())?;
        let (sender, receiver) = ours.split(0);
        let mut up = Up {
            process,
            channel: Some((sender, receiver)),
            started: now,
            is_ready: false,
            stop_by: None,
            leave_by: None,
            verdict: None,
            pulse: Pulse::new(now),
            next_look: now,
            suspect: None,
        };
        let (listeners, sockets) = equipment.listeners.handout();
        let mut descriptors = vec![self.page_fd.as_fd()];
        descriptors.extend(equipment.link.into_iter().flatten());
        descriptors.extend(sockets);
        let has_link = equipment.link.is_some();
        let start = Order::Start { bundle: Box::new(equipment.bundle.clone()), listeners, has_link };
        up.send(&start, &descriptors);
        up.send(&Order::Held { addresses: equipment.held }, &[]);
        if equipment.is_draining {
            up.send(&Order::Drain { on: true }, &[]);
        }
        Ok(up)
    }

    /// Sends if there is a worker. Never blocks; a worker whose queue is full is hung and dies.
    pub fn send(&mut self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> bool {
        match &mut self.life {
            Life::Up(up) => up.send(order, descriptors),
            Life::Down { .. } | Life::Ended => false,
        }
    }

    /// What it said since the last call, `Ready` already noted.
    pub fn receive(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        let Life::Up(up) = &mut self.life else { return reports };
        while reports.len() < REPORTS_PER_TURN {
            let Some((_, receiver)) = &mut up.channel else { break };
            match receiver.try_receive::<Report>() {
                Ok(Some(received)) => {
                    up.is_ready |= matches!(received.message, Report::Ready);
                    reports.push(received.message);
                }
                Ok(None) => break,
                // It is about to exit; its exit status will say more.
                Err(ChannelError::Closed) => up.channel = None,
                Err(error) => up.condemn(format!("broke the protocol: {error}")),
            }
        }
        reports
    }

    /// Kills it if it is hung, late or does not stop.
    pub fn judge(&mut self, now: Time) {
        let Life::Up(up) = &mut self.life else { return };
        if up.verdict.is_some() {
            return;
        }
        let timeout = self.view.hang_timeout();
        if up.channel.is_none() && now >= *up.leave_by.get_or_insert(now.plus(LEAVE_TIME)) {
            up.condemn("closed its channel and stayed".to_owned());
        } else if let Some(stop_by) = up.stop_by {
            if now >= stop_by {
                up.condemn("did not stop in time".to_owned());
            }
        } else if !up.is_ready {
            if now >= up.started.plus(START_TIME) {
                up.condemn(format!("was not ready after {} s", START_TIME.as_secs()));
            }
        } else if self.view.page.cores() == 0 {
            up.condemn("says it is ready without a core".to_owned());
        } else if now >= up.next_look {
            up.next_look = now.plus(look_interval(timeout));
            let beats = self.view.page.lines().iter().map(|line| line.beat.load(Ordering::Relaxed));
            let still = up.pulse.look(now, timeout, beats);
            up.suspect(now, timeout);
            if let Some(core) = still {
                up.judge_stall(now, core, timeout, &mut self.tallies);
            }
        }
    }

    /// Reaps it if it is gone and answers how it ended, for the log.
    pub fn reap(&mut self, now: Time) -> Option<String> {
        let Life::Up(up) = &mut self.life else { return None };
        let exit = up.process.try_wait()?;
        self.view.hide();
        let was_ordered = up.stop_by.is_some() && up.verdict.is_none();
        let lived = now.since(up.started);
        let text = match (&up.verdict, exit) {
            (Some(verdict), _) => verdict.clone(),
            (None, Exit::Code(0)) if was_ordered => "stopped".to_owned(),
            (None, exit) => exit.to_string(),
        };
        if up.stop_by.is_some() {
            self.tallies.last_exit = Some(text.clone());
            self.life = Life::Ended;
        } else {
            self.bury(now, lived, text.clone());
        }
        Some(text)
    }

    /// Orders the end: open work may take until `drain` is over. Without a process this is the end already.
    pub fn stop(&mut self, now: Time, drain: Duration) {
        match &mut self.life {
            Life::Up(up) => {
                let deadline_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
                up.stop_by = Some(now.plus(drain).plus(STOP_GRACE));
                up.send(&Order::Stop { deadline_ms }, &[]);
            }
            Life::Down { .. } => self.life = Life::Ended,
            Life::Ended => {}
        }
    }

    /// Kills it so that another starts.
    pub fn replace(&mut self, verdict: &str) {
        if let Life::Up(up) = &mut self.life {
            up.condemn(verdict.to_owned());
        }
    }

    /// Ends it without mercy, as an order.
    pub fn kill(&mut self, now: Time) {
        match &mut self.life {
            Life::Up(up) => {
                up.stop_by = Some(now);
                up.process.kill(Signal::SIGKILL);
            }
            Life::Down { .. } => self.life = Life::Ended,
            Life::Ended => {}
        }
    }

    /// When `judge` or `start` have something to do.
    pub fn deadline(&self) -> Option<Time> {
        match &self.life {
            Life::Down { restart_at } => Some(*restart_at),
            Life::Up(up) if up.verdict.is_some() => None,
            Life::Up(up) => {
                let due = match (up.stop_by, up.is_ready) {
                    (Some(stop_by), _) => stop_by,
                    (None, true) => up.next_look,
                    (None, false) => up.started.plus(START_TIME),
                };
                Some(up.leave_by.map_or(due, |leave_by| leave_by.min(due)))
            }
            Life::Ended => None,
        }
    }

    /// Readable when `receive` or `reap` have something to do.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let up = self.up();
        let pidfd = up.map(|up| up.process.pidfd());
        pidfd.into_iter().chain(up.and_then(|up| up.channel.as_ref()).map(|(_, receiver)| receiver.as_fd()))
    }

    fn up(&self) -> Option<&Up> {
        match &self.life {
            Life::Up(up) => Some(up),
            Life::Down { .. } | Life::Ended => None,
        }
    }

    fn bury(&mut self, now: Time, lived: Duration, text: String) {
        self.tallies.crashes += 1;
        self.tallies.last_exit = Some(text);
        self.life = Life::Down { restart_at: now.plus(self.backoff.after(lived)) };
    }
}

impl Up {
    fn send(&mut self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> bool {
        let Some((sender, _)) = &mut self.channel else { return false };
        match sender.send(order, descriptors, Duration::ZERO) {
            Ok(()) => true,
            Err(ChannelError::Closed) => {
                self.channel = None;
                false
            }
            Err(error) => {
                self.condemn(format!("could not be told: {error}"));
                false
            }
        }
    }

    /// Looks at a core that has not moved for half of the timeout, so that there is something to compare with.
    fn suspect(&mut self, now: Time, timeout: Duration) {
        match self.pulse.stillest(now).filter(|(_, still)| *still >= timeout / 2) {
            None => self.suspect = None,
            Some((core, _)) if self.suspect.as_ref().is_some_and(|suspect| suspect.core == core) => {}
            Some((core, _)) => {
                let look = Look::take(self.process.pid(), core);
                self.suspect = Some(Suspect { core, since: now, look, is_told: false });
            }
        }
    }

    /// Kills the worker for a core that hangs; says so of one that gets no CPU, which a new worker would not get either.
    fn judge_stall(&mut self, now: Time, core: usize, timeout: Duration, tallies: &mut Tallies) {
        let look = Look::take(self.process.pid(), core);
        let suspect = self.suspect.as_mut().filter(|suspect| suspect.core == core);
        let compared = suspect.as_ref().and_then(|suspect| Some((suspect.look?, look?, now.since(suspect.since))));
        let cause = compared.map_or(Cause::Hung, |(before, after, between)| stall::cause(before, after, between));
        match (cause, suspect) {
            (Cause::Starved, Some(suspect)) if suspect.is_told => {}
            (Cause::Starved, Some(suspect)) => {
                suspect.is_told = true;
                tallies.starvations += 1;
                let ms = timeout.as_millis();
                tracing::warn!(target: "lyre::control", core, ms, "a core gets no CPU; find out what else runs here");
            }
            (Cause::Hung | Cause::Starved, _) => {
                tallies.hangs += 1;
                let seen = look.map(|look| format!(" ({look})")).unwrap_or_default();
                self.condemn(format!("hung: core {core} did not move for {} ms{seen}", timeout.as_millis()));
            }
        }
    }

    fn condemn(&mut self, verdict: String) {
        tracing::error!(target: "lyre::control", pid = self.process.pid().as_raw(), "killing the worker: it {verdict}");
        self.process.kill(Signal::SIGKILL);
        self.channel = None;
        self.verdict.get_or_insert(verdict);
    }
}

/// Often enough that a hang is seen soon after the timeout, and that a pause of ours is told from one of theirs.
fn look_interval(timeout: Duration) -> Duration {
    (timeout / 10).clamp(Duration::from_millis(10), Duration::from_millis(100))
}
