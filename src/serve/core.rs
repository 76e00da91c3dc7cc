//! One executor's state: everything a connection task of this core may touch without asking another core.

use crate::net::clock::{Now, now};
use crate::net::driver::Driver;
use crate::net::tls::Acceptor;
use crate::net::upstream::Idle;
use crate::policy::health::{Ejection, Outcome};
use crate::policy::retry::Budget;
use crate::proto::http1::Fields;
use crate::serve::abuse::Failed;
use crate::serve::exapps::upstreams::Upstreams;
use crate::serve::queue::Queue;
use crate::serve::reply::{Answer, Own};
use crate::serve::shared::{Cell as ServerCell, Phase, Pool, Server, Shared, Snapshot};
use crate::serve::sleepers::Sleepers;
use crate::serve::stamp::DateLine;
use crate::serve::tcp::Sessions;
use crate::telemetry::access::Log;
use crate::telemetry::counters::CoreCounters;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::Level;

pub struct Core {
    pub index: usize,
    pub driver: Driver,
    pub shared: Arc<Shared>,
    /// The head parser's index; borrowed only within one synchronous step.
    pub fields: RefCell<Fields>,
    pub date: DateLine,
    pub sleepers: Sleepers,
    /// Of TCP services.
    pub sessions: Sessions,
    /// ExApps.
    pub exapps: Upstreams,
    log: RefCell<Log>,
    view: RefCell<Rc<View>>,
    /// Of the view's certificates.
    acceptor: RefCell<Option<Rc<Acceptor>>>,
    /// Generation of `view`.
    generation: Cell<u64>,
    phase: Cell<Phase>,
    /// First half of request ids: when this core started, so that ids of two lives differ.
    id_epoch: [u8; 16],
    id_next: Cell<u64>,
    /// The same moment on both clocks: `policy` counts in instants.
    epoch: (Instant, Now),
    complained: Cell<Now>,
    complaints_held: Cell<u32>,
}

/// Complaints about servers are at most this frequent a core; the counters have them all.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// This core's side of a snapshot. A request keeps the view it began with.
pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// By pool.
    pub pools: Vec<PoolView>,
}

pub struct PoolView {
    pub shared: Arc<Pool>,
    pub servers: Vec<Rc<Upstream>>,
    pub lines: Rc<Lines>,
    pub budget: RefCell<Budget>,
}

/// Who waits for a pool's servers on this core. Light requests have a line of their own, served first.
#[derive(Default)]
pub struct Lines {
    pub light: Rc<Queue>,
    pub usual: Rc<Queue>,
}

impl Lines {
    /// A place may be free.
    pub fn wake(&self) {
        self.light.wake_first();
        self.usual.wake_first();
    }
}

/// One server and this core's idle connections to it. Survives reloads that keep the server.
pub struct Upstream {
    pub server: Arc<Server>,
    pub idle: Idle,
    /// What this core's requests learnt of it.
    ejection: RefCell<Ejection>,
}

impl Upstream {
    fn new(server: Arc<Server>) -> Upstream {
        Upstream { idle: Idle::new(server.target.clone()), server, ejection: RefCell::default() }
    }

    pub fn cell(&self, core: &Core) -> Option<&ServerCell> {
        self.server.cell(core.index)
    }

    pub fn is_ejected(&self, core: &Core) -> bool {
        self.ejection.borrow().is_ejected(core.instant())
    }
}

impl PoolView {
    /// Of servers that no view knows.
    pub fn of(shared: Arc<Pool>) -> PoolView {
        let servers = shared.servers.iter().map(|server| Rc::new(Upstream::new(server.clone()))).collect();
        PoolView { servers, lines: Rc::default(), shared, budget: RefCell::default() }
    }
}

impl View {
    fn build(snapshot: Arc<Snapshot>, old: Option<&View>) -> View {
        let pools = snapshot.pools.iter().map(|shared| {
            let old =
                old.and_then(|old| old.pools.iter().find(|pool| pool.shared.settings.name == shared.settings.name));
            let servers = shared.servers.iter().map(|server| {
                let known = old.and_then(|old| old.servers.iter().find(|known| Arc::ptr_eq(&known.server, server)));
                known.cloned().unwrap_or_else(|| Rc::new(Upstream::new(server.clone())))
            });
            PoolView {
                servers: servers.collect(),
                // Whoever waits keeps waiting in the same line.
                lines: old.map_or_else(Rc::default, |old| old.lines.clone()),
                shared: shared.clone(),
                budget: RefCell::default(),
            }
        });
        let pools = pools.collect();
        View { snapshot, pools }
    }
}

impl Core {
    pub fn new(index: usize, driver: Driver, shared: Arc<Shared>, log: Log) -> Rc<Core> {
        // The generation first: a snapshot published in between is then picked up by the next tick.
        let generation = shared.generation();
        let view = Rc::new(View::build(shared.snapshot(), None));
        let date = DateLine::default();
        Rc::new(Core {
            index,
            driver,
            fields: RefCell::new(Fields::new()),
            sleepers: Sleepers::default(),
            sessions: Sessions::default(),
            exapps: Upstreams::default(),
            log: RefCell::new(log),
            acceptor: RefCell::new(view.snapshot.tls.clone().map(Acceptor::new).map(Rc::new)),
            view: RefCell::new(view),
            generation: Cell::new(generation),
            phase: Cell::new(shared.phase()),
            id_epoch: hexadecimal((date.wall(now()).as_millis() as u64) << 16 | index as u64 & 0xffff),
            id_next: Cell::new(fastrand::u64(..) >> 24),
            epoch: (Instant::now(), now()),
            complained: Cell::new(Now(0)),
            complaints_held: Cell::new(0),
            date,
            shared,
        })
    }

    pub fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// For new TLS connections; `None` without certificates.
    pub fn acceptor(&self) -> Option<Rc<Acceptor>> {
        self.acceptor.borrow().clone()
    }

    pub fn counters(&self) -> &CoreCounters {
        // One line a core was made for every index that exists.
        &self.shared.counters[self.index]
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Responses tell clients to come back on a new connection.
    pub fn is_draining(&self) -> bool {
        self.phase.get() >= Phase::Draining
    }

    pub fn log(&self, write: impl FnOnce(&mut Log, Duration) -> u64) {
        let wall = self.date.wall(now());
        let lost = write(&mut self.log.borrow_mut(), wall);
        if lost > 0 {
            self.counters().log_dropped.add(lost);
        }
    }

    pub fn is_logging(&self) -> bool {
        self.log.borrow().is_on()
    }

    /// 32 hexadecimal digits: milliseconds since 1970 (12), core (4), a counter from a random start (16). Unique, ordered
    /// by time of process and not guessable into anything.
    pub fn request_id(&self) -> RequestId {
        let count = self.id_next.get();
        self.id_next.set(count.wrapping_add(1));
        RequestId::new(&self.id_epoch, count)
    }

    /// The core's clock as an instant.
    pub fn instant(&self) -> Instant {
        let (instant, at) = self.epoch;
        instant + now().since(at)
    }

    /// What keep-alive time a client connection has now.
    pub fn keepalive(&self) -> Duration {
        self.view.borrow().snapshot.settings.timeouts.keepalive
    }

    /// A request's outcome at `upstream`: enough failures in a row take the server out of this core's choice for a
    /// while.
    pub fn note(&self, pool: &PoolView, upstream: &Upstream, outcome: Outcome) {
        if outcome == Outcome::Failed
            && let Some(cell) = upstream.cell(self)
        {
            cell.failures.bump();
        }
        let now = self.instant();
        let ejected = || pool.servers.iter().filter(|server| server.ejection.borrow().is_ejected(now)).count();
        let ejected = if outcome == Outcome::Failed { ejected() } else { 0 };
        if let Some(length) = upstream.ejection.borrow_mut().outcome(outcome, now, pool.servers.len(), ejected) {
            tracing::warn!(
                pool = upstream.server.pool,
                server = upstream.server.name,
                core = self.index,
                seconds = length.as_secs(),
                "server keeps failing, this core leaves it out for a while"
            );
        }
    }

    /// Logs a failed exchange at its level, without letting a dead server flood the log.
    pub fn complain(&self, answer: &Answer, server: &str, client: IpAddr) {
        if answer.level > Level::WARN {
            tracing::debug!(side = answer.side.as_str(), reason = answer.code, server, %client, "exchange failed");
            return;
        }
        let (side, reason) = (answer.side.as_str(), answer.code);
        self.warn_seldom(|others| match answer.level {
            Level::ERROR => tracing::error!(side, reason, server, %client, others, "exchange failed"),
            _ => tracing::warn!(side, reason, server, %client, others, "exchange failed"),
        });
    }

    /// Lets `warn` speak if this core has been silent long enough; it learns how many others were not heard.
    pub fn warn_seldom(&self, warn: impl FnOnce(u32)) {
        if now().since(self.complained.get()) < COMPLAINT_INTERVAL {
            self.complaints_held.set(self.complaints_held.get().saturating_add(1));
            return;
        }
        self.complained.set(now());
        warn(self.complaints_held.take());
    }

    /// Counts a new connection of `client`, unless it is kept out or there are enough already.
    pub fn admit(&self, client: IpAddr) -> Result<(), Own> {
        let settings = &self.view.borrow().snapshot.settings;
        if self.counters().connections.read() >= settings.limits.max_connections as u64 {
            return Err(Own::Overloaded);
        }
        self.shared.abuse.enter(settings, client)
    }

    pub fn dismiss(&self, client: IpAddr) {
        self.shared.abuse.leave(client);
    }

    /// A server refused a login of `client`.
    pub fn login_failed(&self, client: IpAddr, credential: &[u8]) {
        let (view, counters) = (self.view(), self.counters());
        counters.failed_logins.bump();
        match self.shared.abuse.failed(&view.snapshot.settings, client, credential) {
            Failed::Counted | Failed::Exempt => {}
            Failed::CredentialRefused(length) => {
                counters.credentials_refused.bump();
                let seconds = length.as_secs();
                tracing::info!(%client, seconds, "a client repeats a login that fails, its credential is refused");
            }
            Failed::Banned(ban) => {
                counters.bans.bump();
                let until = ban.until.map(|until| until.saturating_sub(Duration::from_nanos(now().0)));
                let seconds = until.unwrap_or_default().as_secs();
                tracing::warn!(client = %ban.network, reason = ban.reason.as_str(), seconds, "client banned");
            }
        }
    }

    /// About every 10 ms: heartbeat, orders, idle connections, log. Answers whether this core's time is over.
    pub fn tick(&self, turn: u64) -> bool {
        let counters = self.counters();
        if let Some(line) = self.shared.page.core.get(self.index) {
            line.beat.store(turn, Relaxed);
            line.connections.store(counters.connections.read(), Relaxed);
            line.requests.store(counters.in_flight.read(), Relaxed);
            line.tunnels.store(counters.tunnels.read(), Relaxed);
        }
        self.date.refresh(now());
        // Before the generation: a change of the settings that it follows from is then adopted below.
        let writers = self.shared.writers();
        let generation = self.shared.generation();
        if generation != self.generation.get() {
            self.generation.set(generation);
            self.adopt(self.shared.snapshot());
        }
        let view = self.view();
        self.sessions.tend(writers, &view.snapshot.services);
        for pool in &view.pools {
            pool.lines.wake();
            for upstream in &pool.servers {
                upstream.idle.tend(pool.shared.settings.keepalive, counters);
            }
        }
        self.exapps.tend(counters);
        if self.index == 0 {
            self.shared.abuse.sweep(&view.snapshot.settings, turn as usize);
        }
        self.follow(self.shared.phase());
        self.log(|log, _| log.flush());
        self.phase.get() == Phase::Ended
    }

    fn adopt(&self, snapshot: Arc<Snapshot>) {
        self.log.borrow_mut().adopt(&snapshot.settings.log);
        // Handshakes in progress finish by the certificates they began with.
        self.acceptor.replace(snapshot.tls.clone().map(Acceptor::new).map(Rc::new));
        let view = Rc::new(View::build(snapshot, Some(&self.view())));
        self.view.replace(view);
    }

    fn follow(&self, phase: Phase) {
        self.phase.set(phase);
        if phase >= Phase::Draining {
            self.sleepers.drain(now());
        } else {
            self.sleepers.stay();
        }
    }
}

/// A request's name in logs, headers and error pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    fn new(epoch: &[u8; 16], count: u64) -> RequestId {
        let mut text = [0; 32];
        text[..16].copy_from_slice(epoch);
        text[16..].copy_from_slice(&hexadecimal(count));
        RequestId(text)
    }

    pub fn as_str(&self) -> &str {
        // Made of hexadecimal digits above.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn hexadecimal(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Nanoseconds up to now, by the core's clock.
pub fn elapsed_ns(since: Now) -> u64 {
    now().0.saturating_sub(since.0)
}

/// Runs `walk`, all of a connection with `peer`. A panic ends it, with these words in the log, and nothing else.
pub fn spawn_guarded(
    core: Rc<Core>,
    peer: SocketAddr,
    panicked: &'static str,
    walk: impl Future<Output = ()> + 'static,
) {
    let mut walk = Box::pin(walk);
    let guarded = poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| walk.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => {
            core.counters().panics.bump();
            tracing::error!(%peer, "{panicked}");
            Poll::Ready(())
        }
    });
    glommio::spawn_local(guarded).detach();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_its_numbers_in_hexadecimal() {
        let id = RequestId::new(&hexadecimal(0x0123_4567_89ab_cdef), 0x42);
        assert_eq!(id.as_str(), "0123456789abcdef0000000000000042");
    }
}
