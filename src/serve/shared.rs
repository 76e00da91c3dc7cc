//! What the executors of one worker share: immutable snapshots swapped as a whole, and atomics with one writer each.

use crate::config::settings::{self, Place, Secret, Settings};
use crate::net::spool::Spool;
use crate::net::target::Target;
use crate::net::tls::{Certificate, ConfigError, Names, server_config, shared_ticketer, ticketer};
use crate::policy::admission::{Rate, Verdict};
use crate::serve::abuse::Abuse;
use crate::serve::exapps::memory::Memory;
use crate::serve::frp::{Gate, Tunnels};
use crate::serve::page::SharedPage;
use crate::serve::pairing::Pairing;
use crate::serve::resolve::Dns;
use crate::serve::tcp::Service;
use crate::serve::tcp::agreement::Agreement;
use crate::telemetry::counters::{CoreCounters, Counter};
use rustls::server::ProducesTickets;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// One per worker process.
pub struct Shared {
    pub page: Arc<SharedPage>,
    pub counters: Box<[CoreCounters]>,
    /// Bumped after `snapshot` changed; cores compare it once a tick and only then lock.
    generation: AtomicU64,
    snapshot: Mutex<Arc<Snapshot>>,
    phase: AtomicU8,
    has_warned: AtomicBool,
    /// Bumped after the writer of a TCP service changed.
    writers: AtomicU64,
    /// On those writers, with the other node.
    pub agreement: Agreement,
    pub abuse: Abuse,
    pub dns: Dns,
    pub exapps: Memory,
    /// Of ExApps.
    pub tunnels: Arc<Tunnels>,
    /// Set once after the start if there is another node.
    pairing: OnceLock<Pairing>,
    /// Absent if its threads could not be started.
    pub spool: Option<Spool>,
}

/// What the worker is told to do with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    Serving,
    /// Accepting still, but connections close as they become idle.
    Draining,
    /// Not accepting any more; the rest finishes.
    Stopping,
    /// Out of time: executors end now.
    Ended,
}

impl Shared {
    pub fn new(page: Arc<SharedPage>, cores: usize, snapshot: Arc<Snapshot>) -> Shared {
        let directory = snapshot.settings.spool.directory.clone();
        let tunnels = Arc::new(Tunnels::default());
        let exapps = Memory::new(cores, tunnels.clone());
        exapps.adopt(&snapshot.settings);
        Shared {
            page,
            counters: (0..cores).map(|_| CoreCounters::default()).collect(),
            generation: AtomicU64::new(1),
            snapshot: Mutex::new(snapshot),
            phase: AtomicU8::new(Phase::Serving as u8),
            has_warned: AtomicBool::new(false),
            writers: AtomicU64::new(0),
            agreement: Agreement::default(),
            abuse: Abuse::default(),
            dns: Dns::default(),
            exapps,
            tunnels,
            pairing: OnceLock::new(),
            spool: Spool::start(directory).inspect_err(|error| tracing::error!(%error, "no spool")).ok(),
        }
    }

    pub fn pairing(&self) -> Option<&Pairing> {
        self.pairing.get()
    }

    pub fn join(&self, pairing: Pairing) {
        self.abuse.share(pairing.bulletin().clone());
        let _ = self.pairing.set(pairing);
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.exapps.adopt(&snapshot.settings);
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// How often the writer of some TCP service changed.
    pub fn writers(&self) -> u64 {
        self.writers.load(Ordering::Acquire)
    }

    pub fn note_writer_change(&self) {
        self.writers.fetch_add(1, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Stopping,
            _ => Phase::Ended,
        }
    }

    /// Stopping has no way back; draining has.
    pub fn set_phase(&self, to: Phase) {
        let _ = self.phase.fetch_update(Ordering::AcqRel, Ordering::Acquire, |from| {
            (to as u8 > from || from <= Phase::Draining as u8).then_some(to as u8)
        });
    }

    /// Says something all executors found out, once.
    pub fn warn_once(&self, warn: impl FnOnce()) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            warn();
        }
    }

    /// Requests in flight and tunnels over all cores.
    pub fn load(&self) -> (u64, u64) {
        let sum = |read: fn(&CoreCounters) -> u64| self.counters.iter().map(read).sum();
        (sum(|core| core.in_flight.read()), sum(|core| core.tunnels.read()))
    }
}

/// One accepted configuration and the state that belongs to it. Requests keep the one they began with.
pub struct Snapshot {
    pub settings: Arc<Settings>,
    /// By the index of `settings.pools`.
    pub pools: Vec<Arc<Pool>>,
    /// By the index of `settings.services`.
    pub services: Vec<Arc<Service>>,
    /// Where ExApps' tunnels come in.
    pub frp: Option<Arc<Gate>>,
    /// This node's name, for status; empty without a cluster.
    pub node: String,
    /// For https listeners; absent without certificates.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub names: Names,
    tickets: Tickets,
    /// Upstream connections leave from here, so that `trusted_proxies` may name the node.
    pub source: Option<IpAddr>,
}

impl Snapshot {
    /// Builds what `settings` needs, taking over the state of servers that `old` knew.
    pub fn build(settings: Settings, cores: usize, old: Option<&Snapshot>) -> Result<Snapshot, ConfigError> {
        let tickets = Tickets::of(&settings, old)?;
        let certificates: Vec<_> = settings.certificates.iter().map(certificate).collect();
        let protocols: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let tls = match certificates.as_slice() {
            [] => None,
            certificates => Some(server_config(certificates, tickets.ticketer.clone(), protocols)?),
        };
        let names = Names::new(&certificates)?;
        let frp = settings.exapps.as_ref().map(Gate::build).transpose()?.flatten().map(Arc::new);
        let settings = Arc::new(settings);
        let known = |pool: &settings::Pool, server: &settings::Server| {
            let pool = old?.pools.iter().find(|old| old.settings.name == pool.name)?;
            pool.servers.iter().find(|old| old.place == server.place && old.name == server.name).cloned()
        };
        let pools = settings.pools.iter().map(|pool| {
            let servers = pool
                .servers
                .iter()
                .map(|server| known(pool, server).unwrap_or_else(|| Arc::new(Server::new(&pool.name, server, cores))));
            let before = old.and_then(|old| old.pools.iter().find(|old| old.settings.name == pool.name));
            let crowd = before.map_or_else(Arc::default, |old| old.crowd.clone());
            Arc::new(Pool { servers: servers.collect(), settings: pool.clone(), crowd })
        });
        let pools: Vec<_> = pools.collect();
        let services = settings.services.iter().map(|service| {
            let old = old.and_then(|old| old.services.iter().find(|old| old.settings.name == service.name));
            Arc::new(Service::build(service, cores, old.map(Arc::as_ref)))
        });
        let services: Vec<_> = services.collect();
        let this = settings.cluster.as_ref().and_then(|cluster| cluster.nodes.get(cluster.this));
        let node = this.map(|node| node.name.clone()).unwrap_or_default();
        let source = this.map(|node| node.address);
        Ok(Snapshot { settings, pools, services, frp, node, tls, names, tickets, source })
    }
}

/// Outlives reloads that keep the secret, so that clients resume across them.
#[derive(Clone)]
struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    /// What its keys follow from; without one they are random and this process's own.
    secret: Option<Secret>,
}

impl Tickets {
    fn of(settings: &Settings, old: Option<&Snapshot>) -> Result<Tickets, ConfigError> {
        let secret = settings.cluster.as_ref().map(|cluster| cluster.secret.clone());
        if let Some(old) = old.filter(|old| old.tickets.secret == secret) {
            return Ok(old.tickets.clone());
        }
        let ticketer = match &secret {
            Some(secret) => shared_ticketer(&secret.0)?,
            None => ticketer()?,
        };
        Ok(Tickets { ticketer, secret })
    }
}

pub(super) fn certificate(from: &settings::Certificate) -> Certificate {
    Certificate {
        name: from.cert_path.display().to_string(),
        chain: from.chain_pem.to_vec(),
        key: from.key_pem.to_vec(),
    }
}

/// A pool's settings and its servers, in the order of the settings.
pub struct Pool {
    pub settings: settings::Pool,
    pub servers: Vec<Arc<Server>>,
    pub crowd: Arc<Crowd>,
}

/// WebSockets that may come at once, in seconds' worth of the pool's rate.
const UPGRADE_BURST: Duration = Duration::from_secs(2);

impl Pool {
    pub fn upgrade_rate(&self) -> Rate {
        Rate::new(self.settings.upgrades_per_second, UPGRADE_BURST)
    }
}

/// Who asks for a pool's servers, over all cores. Survives reloads.
#[derive(Default)]
pub struct Crowd {
    /// Requests that wait for a server.
    waiting: AtomicU32,
    /// The bucket of WebSockets (`policy::admission`).
    upgrades_full_at_ns: AtomicU64,
}

impl Crowd {
    /// Joins those that wait, unless there are `max`. Leave it again.
    pub fn join(&self, max: u32) -> bool {
        let join = |waiting: u32| (waiting < max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join).is_ok()
    }

    pub fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How long a WebSocket that comes now has to wait; `None` if that is longer than `patience`.
    pub fn upgrade(&self, rate: &Rate, now_ns: u64, patience: Duration) -> Option<Duration> {
        let mut waits = None;
        let _ = self.upgrades_full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
            match rate.event(full_at_ns, now_ns, patience) {
                Verdict::Admitted { full_at_ns, wait } => {
                    waits = Some(wait);
                    Some(full_at_ns)
                }
                Verdict::Refused => {
                    waits = None;
                    None
                }
            }
        });
        waits
    }

    /// This node took over: the clients of the other one are about to come all at once.
    pub fn brace(&self, rate: &Rate, now_ns: u64) {
        let halve = |full_at_ns| Some(rate.halved(full_at_ns, now_ns));
        let _ = self.upgrades_full_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, halve);
    }
}

/// One server as all cores see it. Survives reloads that keep its name, address and pool.
pub struct Server {
    pub pool: String,
    pub name: String,
    pub place: Place,
    /// The place as connections find it.
    pub target: Target,
    /// What the checks say, as `serve::health` writes it; the control executor alone does.
    pub health: AtomicU8,
    /// Requests a core has at this server right now, one line a core.
    cells: Box<[Cell]>,
}

/// What one core knows of one server. Padded: cores never write to a shared line.
#[repr(align(128))]
#[derive(Default)]
pub struct Cell {
    outstanding: AtomicU32,
    pub requests: Counter,
    /// Answers of 500 and above that are not Nextcloud's own maintenance answer.
    pub errors: Counter,
    /// Connect failures, early closes and broken answers.
    pub failures: Counter,
}

impl Server {
    pub fn new(pool: &str, server: &settings::Server, cores: usize) -> Server {
        Server {
            pool: pool.to_owned(),
            name: server.name.clone(),
            place: server.place.clone(),
            target: Target::new(&server.place),
            health: AtomicU8::new(0),
            cells: (0..cores).map(|_| Cell::default()).collect(),
        }
    }

    pub fn cell(&self, core: usize) -> Option<&Cell> {
        self.cells.get(core)
    }

    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter()
    }

    /// Requests at this server over all cores; a little old by the time it is used.
    pub fn outstanding(&self) -> u32 {
        self.cells.iter().map(|cell| cell.outstanding.load(Ordering::Relaxed)).sum()
    }

    /// Takes one of `max` places. Two cores that race for the last place may both be refused, never both admitted:
    /// each counts itself before it looks.
    pub fn enter(&self, core: usize, max: u32) -> bool {
        let Some(cell) = self.cells.get(core) else { return false };
        let own = cell.outstanding.load(Ordering::Relaxed);
        // Sequentially consistent on both sides: a relaxed store could be seen after the other core's look.
        cell.outstanding.store(own + 1, Ordering::SeqCst);
        let total: u32 = self.cells.iter().map(|cell| cell.outstanding.load(Ordering::SeqCst)).sum();
        if total > max {
            cell.outstanding.store(own, Ordering::Relaxed);
        }
        total <= max
    }

    pub fn leave(&self, core: usize) {
        if let Some(cell) = self.cells.get(core) {
            cell.outstanding.store(cell.outstanding.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let settings = settings::Server { name: "a".into(), place: Place::Ip(([127, 0, 0, 1], 80).into()) };
        Server::new("web", &settings, 2)
    }

    #[test]
    fn places_are_counted_over_all_cores_and_given_back() {
        let server = server();
        assert!(server.enter(0, 2) && server.enter(1, 2));
        assert!(!server.enter(0, 2) && !server.enter(1, 2));
        assert_eq!(server.outstanding(), 2);
        server.leave(1);
        assert!(server.enter(0, 2));
        assert_eq!(server.outstanding(), 2);
    }

    #[test]
    fn a_crowd_has_its_limit_whoever_joins() {
        let crowd = Crowd::default();
        assert!(crowd.join(2) && crowd.join(2) && !crowd.join(2));
        crowd.leave();
        assert!(crowd.join(2) && !crowd.join(0));
    }

    #[test]
    fn cores_that_race_for_upgrades_get_no_more_than_there_are() {
        let (crowd, rate, admitted) = (Crowd::default(), Rate::new(10, Duration::from_secs(2)), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if crowd.upgrade(&rate, 1 << 40, Duration::ZERO).is_some() {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 20);
    }

    #[test]
    fn two_cores_never_hold_more_places_than_there_are() {
        let (server, inside) = (server(), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for core in 0..2 {
                let (server, inside) = (&server, &inside);
                scope.spawn(move || {
                    for _ in 0..200_000 {
                        if server.enter(core, 1) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            server.leave(core);
                        }
                    }
                });
            }
        });
        assert_eq!(server.outstanding(), 0);
    }
}
