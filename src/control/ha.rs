//! The bridge between the supervisor and the VRRP speaker on its real-time thread.
//!
//! Up: what this node is able to do, judged from the worker's pidfd and page. Down: what happened to the virtual
//! routers, through a bounded queue and an eventfd. The real-time thread takes no lock of ours and never waits.

use crate::config::settings::{Settings, VirtualRouter};
use crate::control::clock;
use crate::control::pulse::Pulse;
use crate::control::routers::router;
use crate::control::track::board::Board;
use crate::control::view::View;
use lyre_vrrp::link::LinkError;
use lyre_vrrp::machine::{Event, Health, State};
use lyre_vrrp::params::Time;
use lyre_vrrp::runner::{Ability, Command, Handle, Host, Options, Router, RouterStatus, Speaker, StartError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Events that may wait for the main thread. Transitions are rare; more than this is a duel that is being counted.
const QUEUE: usize = 1024;

/// Outcomes of reloads that may wait; the main thread asks for one at a time.
const RELOADS: usize = 4;

/// For the speaker to open what new routers need.
const RELOAD_TIME: Duration = Duration::from_secs(3);

/// The running speaker, seen from the main thread.
pub struct Pair {
    handle: Handle,
    events: Receiver<Happened>,
    reloads: Receiver<Result<(), String>>,
    shared: Arc<Shared>,
}

/// Something the speaker reported about router number `index`.
#[derive(Debug, Clone)]
pub struct Happened {
    pub at: Time,
    pub index: usize,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Event(Event),
    /// It may do something else than before; said before whatever follows from it.
    Ability(Ability),
}

#[derive(Debug)]
pub enum PairError {
    /// A value that the configuration reader should have refused.
    Router(String),
    Start(StartError),
    /// The speaker goes on with the routers it had.
    Reload(String),
    System(nix::errno::Errno),
}

struct Shared {
    wake: EventFd,
    lost: AtomicU64,
}

impl Pair {
    /// Starts the speaker. The worker must be ready: a node takes part in the election only when it can serve.
    pub fn start(settings: &Settings, view: Arc<View>, board: Arc<Board>) -> Result<Pair, PairError> {
        let routers = routers(settings)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(PairError::System)?;
        let shared = Arc::new(Shared { wake, lost: AtomicU64::new(0) });
        let (queue, events) = sync_channel(QUEUE);
        let (outcomes, reloads) = sync_channel(RELOADS);
        let host = Watcher { outcomes: Some(outcomes), ..Watcher::new(view, board, queue, Arc::clone(&shared)) };
        let handle = Speaker::start(routers, Box::new(host), Options::default()).map_err(PairError::Start)?;
        Ok(Pair { handle, events, reloads, shared })
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<Happened> {
        let _ = self.shared.wake.read();
        self.events.try_iter().collect()
    }

    pub fn hand_over(&self) {
        self.handle.command(Command::HandOver);
    }

    pub fn resume(&self) {
        self.handle.command(Command::Resume);
    }

    /// Waits for what becomes of it: a few milliseconds, as a rule.
    pub fn reload(&self, settings: &Settings) -> Result<(), PairError> {
        let routers = routers(settings)?;
        self.reloads.try_iter().for_each(drop); // of one that was waited for in vain
        self.handle.command(Command::Reload(routers));
        match self.reloads.recv_timeout(RELOAD_TIME) {
            Ok(outcome) => outcome.map_err(PairError::Reload),
            Err(_) => Err(PairError::Reload(format!("no answer within {RELOAD_TIME:?}"))),
        }
    }

    /// Releases every address and waits for the thread's end.
    pub fn shut_down(self) {
        self.handle.command(Command::Shutdown);
        if self.handle.join().is_err() {
            tracing::error!(target: "lyre::control", "the VRRP thread did not end well");
        }
    }

    pub fn is_running(&self) -> bool {
        self.handle.is_running()
    }

    pub fn status(&self) -> Vec<RouterStatus> {
        self.handle.status()
    }

    /// How many routers are Active here.
    pub fn active_routers(&self) -> usize {
        self.status().iter().filter(|router| router.state == State::Active).count()
    }

    /// Events that found the queue full.
    pub fn lost_events(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl AsFd for Pair {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

/// Virtual addresses held now, of routers in the order of `settings`.
pub fn held_addresses(settings: &Settings, pair: Option<&Pair>) -> Vec<IpAddr> {
    let Some(pair) = pair else { return Vec::new() };
    let status = pair.status();
    let is_active = |name: &str| status.iter().any(|router| router.name == name && router.state == State::Active);
    let held = settings.routers.iter().filter(|router| is_active(&router.name));
    held.flat_map(|router| router.held().map(|address| address.addr())).collect()
}

fn routers(settings: &Settings) -> Result<Vec<Router>, PairError> {
    let router = |typed: &VirtualRouter| router(typed).ok_or_else(|| PairError::Router(typed.name.clone()));
    settings.routers.iter().map(router).collect()
}

/// `ActiveDown` as `active_down`: one word for status, metrics and scripts.
pub fn word(value: impl fmt::Debug) -> String {
    let mut word = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// The real-time thread's side.
struct Watcher {
    view: Arc<View>,
    board: Arc<Board>,
    queue: SyncSender<Happened>,
    outcomes: Option<SyncSender<Result<(), String>>>,
    shared: Arc<Shared>,
    pulse: Pulse,
    /// The worker `pulse` looks at.
    seen: u64,
    /// The worker known to have exited.
    dead: u64,
}

impl Watcher {
    fn new(view: Arc<View>, board: Arc<Board>, queue: SyncSender<Happened>, shared: Arc<Shared>) -> Watcher {
        Watcher { view, board, queue, outcomes: None, shared, pulse: Pulse::new(Time(0)), seen: 0, dead: 0 }
    }

    fn tell(&self, index: usize, what: What) {
        if self.queue.try_send(Happened { at: clock::now(), index, what }).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        let _ = self.shared.wake.write(1);
    }

    fn health_of_worker(&mut self, now: Time) -> Health {
        let worker = self.view.worker();
        if worker == 0 || worker == self.dead {
            return Health::Unable;
        }
        if has_exited(self.view.pidfd()) {
            self.dead = worker;
            return Health::Unable;
        }
        if worker != self.seen {
            self.seen = worker;
            self.pulse.restart(now);
        }
        let page = &self.view.page;
        if !page.is_ready() {
            self.pulse.restart(now);
            return Health::Unable;
        }
        let beats = page.lines().iter().map(|line| line.beat.load(Ordering::Relaxed));
        if self.pulse.look(now, self.view.hang_timeout(), beats).is_some() {
            return Health::Unable;
        }
        let servers = page.summary.servers.load(Ordering::Relaxed);
        let usable = page.summary.usable_servers.load(Ordering::Relaxed);
        if servers > 0 && usable == 0 { Health::Degraded } else { Health::Able }
    }
}

impl Host for Watcher {
    /// A dead worker's pidfd stays readable until the main thread reaps it: watching it on would spin.
    fn watch(&self, into: &mut Vec<RawFd>) {
        into.push(self.board.bell());
        let worker = self.view.worker();
        if worker != 0 && worker != self.dead {
            into.push(self.view.pidfd_number());
        }
    }

    fn health(&mut self, now: Time) -> Health {
        self.board.silence();
        let health = self.health_of_worker(now);
        self.board.note_worker(health);
        health
    }

    fn ability(&mut self, index: usize, router: &str, of_node: Health) -> Ability {
        let (ability, is_news) = self.board.judge(router, of_node);
        if is_news {
            self.tell(index, What::Ability(ability));
        }
        ability
    }

    fn reloaded(&mut self, outcome: Result<(), &LinkError>) {
        if let Some(outcomes) = &self.outcomes {
            let _ = outcomes.try_send(outcome.map_err(ToString::to_string));
        }
    }

    fn report(&mut self, index: usize, event: &Event) {
        self.tell(index, What::Event(event.clone()));
    }
}

fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut wanted = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut wanted, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

impl fmt::Display for PairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PairError::Router(name) => write!(f, "virtual router {name} has values that VRRP does not allow"),
            PairError::Start(error) => write!(f, "cannot start the VRRP speaker: {error}"),
            PairError::Reload(why) => {
                write!(f, "the virtual routers go on as before the reload: {why}. Mend that and reload again")
            }
            PairError::System(error) => write!(f, "cannot start the VRRP speaker: eventfd: {error}"),
        }
    }
}

impl std::error::Error for PairError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PairError::Router(_) | PairError::Reload(_) => None,
            PairError::Start(error) => Some(error),
            PairError::System(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lyre_vrrp::machine;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    const HANG: Duration = Duration::from_millis(500);

    struct Bench {
        view: Arc<View>,
        watcher: Watcher,
        events: Receiver<Happened>,
    }

    /// A view without worker, and who watches it.
    fn bench() -> Bench {
        let (view, _page) = View::create(HANG).unwrap();
        let view = Arc::new(view);
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let (queue, events) = sync_channel(2);
        let shared = Arc::new(Shared { wake, lost: AtomicU64::new(0) });
        Bench { watcher: Watcher::new(Arc::clone(&view), Arc::new(Board::new().unwrap()), queue, shared), view, events }
    }

    /// A pipe stands in for the pidfd: readable once the writer wrote.
    fn worker(bench: &Bench, number: u64) -> std::io::PipeWriter {
        let (reader, writer) = std::io::pipe().unwrap();
        bench.view.show(number, OwnedFd::from(reader).as_fd()).unwrap();
        writer
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn beat(bench: &Bench, cores: u32) {
        bench.view.page.summary.cores.store(cores, Ordering::Relaxed);
        bench.view.page.core.iter().take(cores as usize).for_each(|core| {
            core.beat.fetch_add(1, Ordering::Relaxed);
        });
    }

    #[test]
    fn without_a_ready_worker_the_node_is_unable() {
        let mut bench = bench();
        assert_eq!(bench.watcher.health(at(0)), Health::Unable);
        let _alive = worker(&bench, 1);
        assert_eq!(bench.watcher.health(at(20)), Health::Unable);
        bench.view.page.summary.ready.store(1, Ordering::Release);
        assert_eq!(bench.watcher.health(at(40)), Health::Able);
    }

    #[test]
    fn an_exit_is_seen_at_once_and_watched_no_longer() {
        use std::io::Write;
        let mut bench = bench();
        let mut writer = worker(&bench, 1);
        bench.view.page.summary.ready.store(1, Ordering::Release);
        assert_eq!(bench.watcher.health(at(0)), Health::Able);
        writer.write_all(b"x").unwrap();
        let mut watched = Vec::new();
        bench.watcher.watch(&mut watched);
        assert_eq!(watched, [bench.watcher.board.bell(), bench.view.pidfd_number()]);
        assert_eq!(bench.watcher.health(at(1)), Health::Unable);
        watched.clear();
        bench.watcher.watch(&mut watched);
        assert_eq!(watched, [bench.watcher.board.bell()]);
        watched.clear();
        let _next = worker(&bench, 2);
        assert_eq!(bench.watcher.health(at(20)), Health::Able);
        bench.watcher.watch(&mut watched);
        assert_eq!(watched, [bench.watcher.board.bell(), bench.view.pidfd_number()]);
    }

    #[test]
    fn one_core_that_stops_makes_the_node_unable_within_the_timeout() {
        let mut bench = bench();
        let _alive = worker(&bench, 1);
        bench.view.page.summary.ready.store(1, Ordering::Release);
        for ms in (0..1000).step_by(20) {
            beat(&bench, 2);
            assert_eq!(bench.watcher.health(at(ms)), Health::Able);
        }
        let found = (1000..2000).step_by(20).find(|ms| {
            bench.view.page.core[0].beat.fetch_add(1, Ordering::Relaxed);
            bench.watcher.health(at(*ms)) == Health::Unable
        });
        assert_eq!(found, Some(1480));
    }

    #[test]
    fn no_usable_web_server_degrades_but_having_none_at_all_does_not() {
        let mut bench = bench();
        let _alive = worker(&bench, 1);
        let summary = &bench.view.page.summary;
        summary.ready.store(1, Ordering::Release);
        summary.servers.store(2, Ordering::Relaxed);
        assert_eq!(bench.watcher.health(at(0)), Health::Degraded);
        bench.view.page.summary.usable_servers.store(1, Ordering::Relaxed);
        assert_eq!(bench.watcher.health(at(20)), Health::Able);
        bench.view.page.summary.usable_servers.store(0, Ordering::Relaxed);
        bench.view.page.summary.servers.store(0, Ordering::Relaxed);
        assert_eq!(bench.watcher.health(at(40)), Health::Able);
    }

    #[test]
    fn a_full_queue_counts_instead_of_blocking() {
        let mut bench = bench();
        for _ in 0..5 {
            bench.watcher.report(0, &Event::Stalled { late: HANG });
        }
        assert_eq!(bench.events.try_iter().count(), 2);
        assert_eq!(bench.watcher.shared.lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn words_are_snake_case() {
        assert_eq!(word(machine::Reason::ActiveDown), "active_down");
        assert_eq!(word(State::Backup), "backup");
    }
}
