//! The privileged parent's main thread: one poll loop over signals, the worker, the VRRP speaker and the admin socket.
//!
//! It never parses traffic and never waits for anybody: every order is a message, every answer an event, every patience
//! a deadline. State that spans several events (reload, planned hand-over, stop) is a field with a deadline of its own.

mod bans;
mod mib;
mod orders;
mod reload;
mod report;

use crate::config::bundle::Bundle;
use crate::config::settings::{AccessLog, Settings};
use crate::control::admin::{Admin, AdminError, Ticket};
use crate::control::certificates::CertificateWatch;
use crate::control::clock;
use crate::control::entry::{Orders, cores_by_memory_lock};
use crate::control::events::{self, Line, Stories, Story};
use crate::control::ha::{Pair, PairError, What, held_addresses, word};
use crate::control::handover::Input;
use crate::control::hooks::Hooks;
use crate::control::listeners::{BindError, Listeners};
use crate::control::notify::Notify;
use crate::control::privileges::{Capabilities, Identity, Missing, UnknownUser, unprivileged_port};
use crate::control::signals::{Signals, Wish};
use crate::control::spawn;
use crate::control::status::Transition;
use crate::control::succession::Succession;
use crate::control::track::Tracks;
use crate::control::view::View;
use crate::control::worker::{Equipment, Worker};
use crate::serve::parent::{Order, Report};
use crate::shared::SharedError;
use lyre_vrrp::machine::{Event, Reason, State};
use lyre_vrrp::params::Time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use orders::{RunningHandOver, Waiting};
use reload::{Reloading, Tally};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Transitions kept for status.
const HISTORY: usize = 50;
/// A speaker that died is started again no more often than this.
const SPEAKER_RETRY: Duration = Duration::from_secs(5);

/// Why [`run`] ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// Ordered; open work was finished or had its time.
    Stopped,
    /// Ordered twice; open work was cut.
    Forced,
}

/// Why [`run`] did not start.
#[derive(Debug)]
pub enum RunError {
    Privileges(Missing),
    User(UnknownUser),
    Admin(AdminError),
    /// Never empty.
    Bind(Vec<BindError>),
    Pair(PairError),
    Page(SharedError),
    /// A thread of the trackers or of the hooks.
    Tracks(std::io::Error),
    System {
        operation: &'static str,
        error: Errno,
    },
}

/// Serves until told to stop. Must be called before the process has threads. Blocks.
pub fn run(settings: Settings, bundle: Bundle) -> Result<ExitReason, RunError> {
    let signals = Signals::block().map_err(|error| RunError::System { operation: "signalfd", error })?;
    Supervisor::start(settings, bundle, signals)?.serve()
}

struct Supervisor {
    settings: Settings,
    bundle: Bundle,
    /// Data cores; fixed for the life of the process, like the number of sockets per address.
    cores: usize,
    identity: Identity,
    started: Time,
    loaded_unix_ms: u64,
    signals: Signals,
    notify: Notify,
    watchdog_at: Option<Time>,
    listeners: Listeners,
    view: Arc<View>,
    worker: Worker,
    /// `None` without virtual routers and until the first worker is ready.
    pair: Option<Pair>,
    speaker_retry_at: Time,
    tracks: Tracks,
    hooks: Hooks,
    stories: Stories,
    /// Subscribers to events that read too slowly.
    dropped_subscribers: u64,
    succession: Succession,
    admin: Admin,
    waiting: Vec<Waiting>,
    bans: bans::Bans,
    next_id: u64,
    reloading: Option<Reloading>,
    reloads: Tally,
    certificates: CertificateWatch,
    hand_over: Option<RunningHandOver>,
    is_draining: bool,
    is_stopping: bool,
    is_announced: bool,
    history: VecDeque<Transition>,
    /// Why each router is in its state.
    reasons: BTreeMap<String, String>,
}

impl Supervisor {
    /// Everything that can fail for lack of privilege or because of the machine happens here, before the first worker.
    fn start(settings: Settings, bundle: Bundle, signals: Signals) -> Result<Supervisor, RunError> {
        let now = clock::now();
        let held = Capabilities::of_this_process();
        let missing = Missing::of(&settings, held.or_by_limits(), unprivileged_port());
        if !missing.needed.is_empty() {
            return Err(RunError::Privileges(missing));
        }
        for need in &missing.wished {
            tracing::warn!(target: "lyre::control", "{} is missing: it is recommended {}", need.capability.name(), need.purpose);
        }
        let (identity, note) = Identity::for_worker(settings.worker.user.as_deref(), held).map_err(RunError::User)?;
        if let Some(note) = note {
            tracing::info!(target: "lyre::control", "{note}");
        }
        // Before the listeners: it also keeps a second lyre from sharing our ports by SO_REUSEPORT.
        let admin = Admin::open(&settings.admin.socket).map_err(RunError::Admin)?;
        let cores = settings.worker.cores.clamp(1, crate::serve::page::CORES_MAX);
        if let Some(allowed) = cores_by_memory_lock(held, identity).filter(|allowed| cores > *allowed) {
            tracing::warn!(
                target: "lyre::control",
                "{cores} cores need more locked memory than this user may have (enough for about {allowed}): raise it \
                 (LimitMEMLOCK=infinity, ulimit -l) or set worker.cores"
            );
        }
        let listeners = Listeners::default().bind_missing(&settings, cores).map_err(RunError::Bind)?;
        for address in listeners.bound() {
            tracing::info!(target: "lyre::control", %address, "listening");
        }
        let (view, page_fd) = View::create(settings.worker.hang_timeout).map_err(RunError::Page)?;
        let view = Arc::new(view);
        let notify = Notify::from_environment();
        let succession = Succession::new(&settings).map_err(RunError::Page)?;
        let tracks = Tracks::start(&settings, Arc::clone(&view)).map_err(RunError::Tracks)?;
        let hooks = Hooks::start(&settings).map_err(RunError::Tracks)?;
        let certificates = CertificateWatch::new(&settings, now);
        Ok(Supervisor {
            settings,
            bundle,
            cores,
            identity,
            started: now,
            loaded_unix_ms: clock::unix_ms(),
            signals,
            watchdog_at: notify.watchdog_interval().map(|interval| now.plus(interval)),
            notify,
            listeners,
            worker: Worker::new(Arc::clone(&view), page_fd, now),
            view,
            pair: None,
            speaker_retry_at: now,
            tracks,
            hooks,
            stories: Stories::default(),
            dropped_subscribers: 0,
            succession,
            admin,
            waiting: Vec::new(),
            bans: bans::Bans::default(),
            next_id: 0,
            reloading: None,
            reloads: Tally::default(),
            certificates,
            hand_over: None,
            is_draining: false,
            is_stopping: false,
            is_announced: false,
            history: VecDeque::with_capacity(HISTORY),
            reasons: BTreeMap::new(),
        })
    }

    fn serve(mut self) -> Result<ExitReason, RunError> {
        let outcome = self.turn_until_done();
        self.end(clock::now());
        outcome
    }

    fn turn_until_done(&mut self) -> Result<ExitReason, RunError> {
        loop {
            let now = clock::now();
            if let Some(reason) = self.obey_signals(now) {
                return Ok(reason);
            }
            self.watch_worker(now)?;
            self.watch_tracks(now);
            self.watch_pair(now);
            self.obey_admin(now);
            self.obey_time(now);
            if self.is_stopping && self.worker.has_ended() {
                return Ok(ExitReason::Stopped);
            }
            self.wait(now)?;
        }
    }

    /// The second order to stop ends everything at once.
    fn obey_signals(&mut self, now: Time) -> Option<ExitReason> {
        while let Some(wish) = self.signals.take() {
            match wish {
                Wish::Stop if self.is_stopping => {
                    tracing::warn!(target: "lyre::control", "told to stop again: ending at once");
                    return Some(ExitReason::Forced);
                }
                Wish::Stop => self.begin_stop(now),
                Wish::Reload => self.begin_reload(now, None),
            }
        }
        None
    }

    fn watch_worker(&mut self, now: Time) -> Result<(), RunError> {
        for report in self.worker.receive() {
            match report {
                Report::Ready => self.worker_is_ready(now)?,
                Report::Reloaded { error } => self.worker_reloaded(now, error),
                Report::Drained { .. } => self.advance_hand_over(now, Input::Drained),
                Report::Pair(words) => self.hear_peer(now, words),
                Report::Link { is_up } => self.succession.link(is_up),
                Report::Status { id, json } => self.answer_status(now, id, Some(&json)),
                Report::Metrics { id, text } => self.answer_metrics(now, id, Some(&text)),
                Report::Bans { id, answer } => self.answer_bans(now, id, answer),
                Report::Banned(banned) => self.note_ban(now, banned),
                Report::Unbanned { address } => self.note_unban(address),
            }
        }
        self.worker.judge(now);
        if let Some(how) = self.worker.reap(now) {
            self.worker_is_gone(now, &how);
        }
        if self.worker.is_due(now) && !self.is_stopping {
            let orders = self.orders();
            let held = held_addresses(&self.settings, self.pair.as_ref());
            let (bundle, listeners, is_draining) = (&self.bundle, &self.listeners, self.is_draining);
            let link = self.succession.descriptors();
            self.worker.start(now, Equipment { orders, bundle, listeners, held, is_draining, link });
        }
        Ok(())
    }

    fn orders(&self) -> Orders {
        let writable = match &self.settings.log.access {
            AccessLog::File(path) => Some(path.clone()),
            AccessLog::Off | AccessLog::Stderr => None,
        };
        if let Some(path) = &writable
            && let Err(error) = spawn::prepare_log(path, self.identity)
        {
            tracing::warn!(target: "lyre::control", path = %path.display(), %error, "cannot prepare the access log");
        }
        let spool = self.settings.spool.directory.clone();
        if let Err(error) = spawn::prepare_spool(&spool, self.identity) {
            tracing::warn!(target: "lyre::control", path = %spool.display(), %error, "cannot make the spool's directory");
        }
        let parent = nix::unistd::getpid().as_raw();
        Orders { parent, identity: self.identity, engine_group: self.engine_group(), spool, writable }
    }

    fn engine_group(&self) -> Option<u32> {
        let docker = self.settings.exapps.as_ref()?.docker.as_ref()?;
        spawn::engine_group(&docker.socket, self.identity).unwrap_or_else(|why| {
            let socket = docker.socket.display();
            tracing::warn!(target: "lyre::control", %socket, "the worker may not use the container engine: {why}");
            None
        })
    }

    fn worker_is_ready(&mut self, now: Time) -> Result<(), RunError> {
        tracing::info!(target: "lyre::control", pid = self.worker.pid(), "worker ready");
        if self.is_stopping {
            return Ok(());
        }
        self.restore_bans(now);
        if self.pair.is_none() {
            self.ensure_pair(now).map_err(RunError::Pair)?;
        }
        if !self.is_announced {
            self.is_announced = true;
            self.notify.ready();
        }
        self.notify.status("serving");
        Ok(())
    }

    fn worker_is_gone(&mut self, now: Time, how: &str) {
        if self.is_stopping {
            tracing::info!(target: "lyre::control", "worker ended: {how}");
        } else {
            let wait = self.worker.restart_at().map_or(Duration::ZERO, |at| at.since(now));
            let restart_ms = wait.as_millis();
            tracing::error!(target: "lyre::control", restart_ms, "worker died: {how}");
            self.notify.status("worker died, starting another");
        }
        self.fail_reload(now, "the worker died while it took over the new configuration");
        self.succession.link(false);
        // Nobody is there to drain any more.
        self.advance_hand_over(now, Input::Drained);
    }

    /// Starts the speaker if the settings have virtual routers and none runs.
    fn ensure_pair(&mut self, now: Time) -> Result<(), PairError> {
        if self.settings.routers.is_empty() || self.pair.as_ref().is_some_and(Pair::is_running) {
            return Ok(());
        }
        self.speaker_retry_at = now.plus(SPEAKER_RETRY);
        self.pair = Some(Pair::start(&self.settings, Arc::clone(&self.view), self.tracks.board())?);
        Ok(())
    }

    fn watch_tracks(&mut self, now: Time) {
        for report in self.tracks.changes() {
            self.publish(now, now, events::of_tracker(&report));
        }
    }

    /// To all subscribers; `at` is when it happened.
    fn publish(&mut self, now: Time, at: Time, story: Story) {
        if !self.admin.has_subscribers() {
            return;
        }
        let ago = u64::try_from(now.since(at).as_millis()).unwrap_or(0);
        let line = Line { unix_ms: clock::unix_ms().saturating_sub(ago), story };
        let last = Line { unix_ms: clock::unix_ms(), story: Story::Dropped { reason: "read too slowly".to_owned() } };
        let [line, last] = [line, last].map(|line| serde_json::to_string(&line).unwrap_or_default());
        self.dropped_subscribers += self.admin.publish(now, &line, &last);
    }

    fn watch_pair(&mut self, now: Time) {
        let Some(pair) = &self.pair else { return };
        let events = pair.events();
        let is_dead = !pair.is_running();
        let active = pair.active_routers();
        let mut has_moved = false;
        let mut stories = Vec::new();
        for happened in events {
            self.hooks.hear(now, &happened);
            let Some(router) = self.settings.routers.get(happened.index) else { continue };
            if let Some(story) = self.stories.of(&router.name, &happened) {
                stories.push((happened.at, story));
            }
            let What::Event(event) = happened.what else { continue };
            match event {
                Event::Transition { from, to, reason } => {
                    has_moved = true;
                    if to == State::Active {
                        let addresses: Vec<IpAddr> = router.held().map(|network| network.addr()).collect();
                        self.succession.took_over(&addresses, reason == Reason::ActiveDown);
                    }
                    let router = router.name.clone();
                    self.reasons.insert(router.clone(), word(reason));
                    if self.history.len() == HISTORY {
                        self.history.pop_front();
                    }
                    let ago = u64::try_from(now.since(happened.at).as_millis()).unwrap_or(0);
                    let unix_ms = clock::unix_ms().saturating_sub(ago);
                    let (from, to, reason) = (word(from), word(to), word(reason));
                    self.history.push_back(Transition { unix_ms, router, from, to, reason });
                }
                Event::HandOverRefused => self.advance_hand_over(now, Input::Refused),
                _ => {}
            }
        }
        for (at, story) in stories {
            self.publish(now, at, story);
        }
        if has_moved {
            if active == 0 {
                self.succession.lost();
            }
            let addresses = held_addresses(&self.settings, self.pair.as_ref());
            self.worker.send(&Order::Held { addresses }, &[]);
        }
        self.advance_hand_over(now, Input::Active { routers: active });
        if is_dead && now >= self.speaker_retry_at && !self.is_stopping {
            tracing::error!(target: "lyre::control", "the VRRP thread died; starting another");
            if let Err(error) = self.ensure_pair(now) {
                tracing::error!(target: "lyre::control", %error);
            }
        }
    }

    fn obey_time(&mut self, now: Time) {
        self.advance_hand_over(now, Input::Tick);
        self.finish_shelter(now);
        self.expire_reload(now);
        if !self.is_stopping && self.reloading.is_none() && self.certificates.has_changed(now) {
            self.begin_renewal(now);
        }
        self.expire_waiting(now);
        self.expire_bans(now);
        if self.watchdog_at.is_some_and(|at| now >= at) {
            self.notify.watchdog();
            self.watchdog_at = self.notify.watchdog_interval().map(|interval| now.plus(interval));
        }
    }

    /// First order to stop: the address moves while we still serve, then the worker finishes what runs.
    fn begin_stop(&mut self, now: Time) {
        tracing::info!(target: "lyre::control", "stopping");
        self.is_stopping = true;
        self.hooks.begin_end();
        self.notify.stopping();
        self.fail_reload(now, "stopping");
        let has_addresses = self.pair.as_ref().is_some_and(|pair| pair.active_routers() > 0);
        match &mut self.hand_over {
            Some(running) => running.stop_afterwards(),
            None if has_addresses => self.begin_hand_over(now, None),
            None => self.worker.stop(now, self.settings.timeouts.drain),
        }
    }

    /// Nothing may be left behind: no address, no worker, no socket file.
    fn end(mut self, now: Time) {
        self.succession.end_shelter();
        if let Some(pair) = self.pair.take() {
            pair.shut_down();
        }
        self.worker.kill(now);
        self.hooks.end();
    }

    fn wait(&self, now: Time) -> Result<(), RunError> {
        let deadlines = [
            self.worker.deadline().filter(|_| !self.is_stopping || self.worker.restart_at().is_none()),
            self.admin.deadline(),
            self.waiting.iter().map(|waiting| waiting.deadline).min(),
            self.bans.deadline(),
            self.reloading.as_ref().map(|reloading| reloading.deadline),
            self.hand_over.as_ref().map(RunningHandOver::deadline),
            self.watchdog_at,
            self.certificates.deadline().filter(|_| !self.is_stopping && self.reloading.is_none()),
            self.succession.deadline(now),
        ];
        let timeout = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            // Rounded up: waking a moment early would only spin until the deadline.
            Some(at) => PollTimeout::try_from(at.since(now) + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX),
        };
        let readable = [Some(self.signals.as_fd()), Some(self.tracks.as_fd()), self.pair.as_ref().map(AsFd::as_fd)];
        let readable = readable.into_iter().flatten().chain(self.worker.descriptors());
        let mut interests: Vec<PollFd> = readable.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        interests.extend(self.admin.interests().map(|(fd, events)| PollFd::new(fd, events)));
        match poll(&mut interests, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(RunError::System { operation: "poll", error }),
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Privileges(missing) => missing.fmt(f),
            RunError::User(error) => error.fmt(f),
            RunError::Admin(error) => error.fmt(f),
            RunError::Bind(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            RunError::Pair(error) => error.fmt(f),
            RunError::Page(error) => write!(f, "shared page: {error}"),
            RunError::Tracks(error) => write!(f, "cannot start trackers and hooks: {error}"),
            RunError::System { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Admin(error) => Some(error),
            RunError::Pair(error) => Some(error),
            RunError::Page(error) => Some(error),
            RunError::Tracks(error) => Some(error),
            RunError::System { error, .. } => Some(error),
            RunError::Privileges(_) | RunError::User(_) | RunError::Bind(_) => None,
        }
    }
}

/// A client that waits for its order to be carried out; `None` for a signal.
type Client = Option<Ticket>;
