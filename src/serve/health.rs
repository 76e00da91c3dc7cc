//! Active health: the control executor probes every server and publishes a state per server that the cores read.

use crate::config::settings::{self, CheckKind};
use crate::net::clock::{self, Timer};
use crate::net::driver::Driver;
use crate::net::target::Order;
use crate::net::upstream;
use crate::policy::health::{self, Health, PoolState, State, Verdict, status_verdict};
use crate::serve::ask::ask;
use crate::serve::introduction;
use crate::serve::shared::{Phase, Pool, Server, Shared};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The body of a check's answer; status.php has about 250 bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// How often probers look whether something asks for an early probe, or for their end.
const LOOK: Duration = Duration::from_millis(50);

/// A server whose requests fail is probed at once, but not more often than this.
const EARLY_INTERVAL: Duration = Duration::from_millis(200);

/// What the checks say of `server`.
pub fn state(server: &Server) -> State {
    if !server.target.is_resolved() {
        return State::Down;
    }
    match server.health.load(Relaxed) {
        1 => State::Up,
        2 => State::Maintenance,
        3 => State::Down,
        4 => State::Draining,
        _ => State::Unknown,
    }
}

fn publish(server: &Server, state: State) {
    let word = match state {
        State::Unknown => 0,
        State::Up => 1,
        State::Maintenance => 2,
        State::Down => 3,
        State::Draining => 4,
    };
    server.health.store(word, Relaxed);
}

pub fn pool_state(pool: &Pool) -> PoolState {
    health::pool_state(pool.servers.iter().map(|server| state(server)))
}

/// Starts a prober for every server of the current snapshot that has none, and keeps the page's summary true. Runs on
/// the control executor until the worker ends.
pub async fn supervise(shared: Arc<Shared>, driver: Driver) {
    let mut probed: Vec<Arc<Server>> = Vec::new();
    let mut generation = 0;
    while shared.phase() != Phase::Ended {
        // The line behind the data cores': this executor is alive too.
        if let Some(line) = shared.page.core.get(shared.counters.len()) {
            line.beat.fetch_add(1, Relaxed);
        }
        if generation != shared.generation() {
            generation = shared.generation();
            let snapshot = shared.snapshot();
            for pool in &snapshot.pools {
                for server in &pool.servers {
                    if !probed.iter().any(|known| Arc::ptr_eq(known, server)) {
                        probed.push(server.clone());
                        let prober = Prober { shared: shared.clone(), driver: driver.clone(), server: server.clone() };
                        glommio::spawn_local(prober.run()).detach();
                    }
                }
            }
            probed
                .retain(|server| snapshot.pools.iter().any(|pool| pool.servers.iter().any(|s| Arc::ptr_eq(s, server))));
            summarize(&shared);
        }
        clock::tick(LOOK).await;
    }
}

/// Web servers that take requests, for the parent: those checked by status.php, or all if none is.
pub fn summarize(shared: &Shared) {
    let snapshot = shared.snapshot();
    let is_web = |pool: &&Arc<Pool>| matches!(pool.settings.check.kind, CheckKind::NextcloudStatus { .. });
    let has_web = snapshot.pools.iter().any(|pool| is_web(&pool));
    let (mut usable, mut all) = (0, 0);
    for pool in snapshot.pools.iter().filter(|pool| !has_web || is_web(pool)) {
        let pool_state = pool_state(pool);
        all += pool.servers.len();
        usable += pool.servers.iter().filter(|server| health::is_usable(state(server), pool_state)).count();
    }
    let services = snapshot
        .services
        .iter()
        .map(|service| (service.settings.name.as_str(), service.usable() as u32, service.members.len() as u32));
    if snapshot.pools.is_empty() {
        // A node for TCP services alone is as good as they are.
        for (_, service_usable, members) in services.clone() {
            usable += service_usable as usize;
            all += members as usize;
        }
    }
    let pools = snapshot.pools.iter().map(|pool| {
        let pool_state = pool_state(pool);
        let usable = pool.servers.iter().filter(|server| health::is_usable(state(server), pool_state)).count();
        (pool.settings.name.as_str(), usable as u32, pool.servers.len() as u32)
    });
    shared.page.note_pools(pools.chain(services));
    shared.page.summary.servers.store(all as u32, Relaxed);
    shared.page.summary.usable_servers.store(usable as u32, Relaxed);
}

struct Prober {
    shared: Arc<Shared>,
    driver: Driver,
    server: Arc<Server>,
}

impl Prober {
    async fn run(self) {
        let mut health: Option<(u32, u32, Health)> = None;
        let mut failures = self.failures();
        // The current snapshot's pool each time: a reload may have changed the check.
        while let Some(pool) = self.pool() {
            if !self.server.target.is_resolved() {
                clock::tick(LOOK).await;
                continue;
            }
            let check = &pool.settings.check;
            let health = match &mut health {
                Some((rise, fall, health)) if (*rise, *fall) == (check.rise, check.fall) => health,
                slot => &mut slot.insert((check.rise, check.fall, Health::new(check.rise, check.fall))).2,
            };
            let source = self.shared.snapshot().source;
            let found = self.probe(&pool.settings, source).await;
            let verdict = found.as_ref().copied().unwrap_or(Verdict::Down);
            if let Some(state) = health.verdict(verdict) {
                publish(&self.server, state);
                summarize(&self.shared);
                let reason = found.err().map(|error| error.to_string()).unwrap_or_default();
                let (pool, server) = (self.server.pool.as_str(), self.server.name.as_str());
                match state {
                    State::Up => tracing::info!(pool, server, "server is up"),
                    State::Maintenance => tracing::warn!(pool, server, "server is in maintenance"),
                    State::Down => tracing::warn!(pool, server, reason, "server is down"),
                    State::Unknown | State::Draining => {}
                }
            }
            let is_settled = matches!(
                (health.state(), verdict),
                (State::Up, Verdict::Up) | (State::Maintenance, Verdict::Maintenance) | (State::Down, Verdict::Down)
            );
            self.pause(check.interval, is_settled, &mut failures).await;
        }
    }

    /// Waits for the next probe: the interval and up to a tenth more, so that the edges' probes do not march in step;
    /// much less while the state is about to change, when requests begin to fail, or when the server has moved.
    async fn pause(&self, interval: Duration, is_settled: bool, failures: &mut u64) {
        let interval = if is_settled { interval } else { interval / 4 };
        let mut left = interval.mul_f64(1.0 + fastrand::f64() / 10.0);
        let mut waited = Duration::ZERO;
        let generation = self.server.target.generation();
        while !left.is_zero() && self.shared.phase() != Phase::Ended {
            let step = left.min(LOOK);
            glommio::timer::sleep(step).await;
            left -= step;
            waited += step;
            if self.server.target.generation() != generation {
                // It has moved.
                break;
            }
            let now_failed = self.failures();
            if now_failed > *failures && waited >= EARLY_INTERVAL.min(interval) && state(&self.server) != State::Down {
                *failures = now_failed;
                return;
            }
        }
        *failures = self.failures();
    }

    fn failures(&self) -> u64 {
        self.server.cells().map(|cell| cell.failures.read()).sum()
    }

    /// This server's pool, while it is configured and the worker lives.
    fn pool(&self) -> Option<Arc<Pool>> {
        if self.shared.phase() == Phase::Ended {
            return None;
        }
        let snapshot = self.shared.snapshot();
        let is_mine = |pool: &&Arc<Pool>| pool.servers.iter().any(|server| Arc::ptr_eq(server, &self.server));
        snapshot.pools.iter().find(is_mine).cloned()
    }

    async fn probe(&self, pool: &settings::Pool, source: Option<IpAddr>) -> io::Result<Verdict> {
        let timeout = pool.check.timeout;
        let stream = upstream::connect(&self.driver, &self.server.target, source, timeout, Order::Plain).await?;
        let (path, host, is_nextcloud) = match &pool.check.kind {
            CheckKind::Tcp => return Ok(Verdict::Up),
            CheckKind::NextcloudStatus { host } => ("/status.php", host, true),
            CheckKind::HttpAlive { path, host } => (path.as_str(), host, false),
        };
        let mut request = pool.send_proxy.map(introduction::own_header).unwrap_or_default();
        request.extend(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nUser-Agent: Lyre-check\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
            )
            .bytes(),
        );
        let timer = Rc::new(Timer::new());
        timer.arm(timeout);
        match timer.bound(ask(&stream, request, BODY_BYTES_MAX)).await {
            Ok(answer) => answer.map(|(status, body)| match is_nextcloud {
                true => status_verdict(status, &body),
                false => Verdict::Up,
            }),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}
