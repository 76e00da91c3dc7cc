//! What the gateway knows, for all cores: apps, sessions, failures; who waits for which answer; where ExApps are.

use super::upstreams;
use crate::config::settings::Settings;
use crate::net::clock::now;
use crate::policy::exapp::decide::UserLookup;
use crate::policy::exapp::failures::{Failures, Rules};
use crate::policy::exapp::gateway::Gateway;
use crate::policy::exapp::records::{Lookup, Records};
use crate::policy::exapp::sessions::Sessions;
use crate::policy::exapp::tally::Tally;
use crate::serve::frp::Tunnels;
use crate::serve::shared::{Pool, Server};
use crate::serve::waiting::Waiting;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const RECORDS_MAX: usize = 4_096;
const SESSIONS_MAX: usize = 65_536;
const CLIENTS_MAX: usize = 65_536;

/// As HaRP counts: ten in five minutes.
const RULES: Rules = Rules { failures_max: 10, window: Duration::from_secs(300), bans_policy: false };

/// Answers are kept this long for those who wait for them, who are woken at once.
const LANDED: Duration = Duration::from_secs(10);

/// More ExApps than this begin anew with their connections.
pub(super) const UPSTREAMS_MAX: usize = 1_024;

pub struct Memory {
    inner: Mutex<Inner>,
    /// For lookups of others.
    pub(super) waiting: Waiting,
    upstreams: Mutex<HashMap<(String, u16), Arc<Pool>>>,
    /// Bumped when an ExApp with a name in place of an address was added.
    named: AtomicU64,
    cores: usize,
    tunnels: Arc<Tunnels>,
}

pub struct Inner {
    pub gateway: Gateway,
    session_lifetime: Duration,
    pub records: Landed<Lookup>,
    pub users: Landed<UserLookup>,
}

/// Answers by the number of their lookup.
pub struct Landed<T>(VecDeque<(u64, Duration, T)>);

impl<T: Clone> Landed<T> {
    pub fn put(&mut self, number: u64, answer: T, now: Duration) {
        while self.0.front().is_some_and(|(_, at, _)| now.saturating_sub(*at) > LANDED) {
            self.0.pop_front();
        }
        self.0.push_back((number, now, answer));
    }

    pub fn get(&self, number: u64) -> Option<T> {
        self.0.iter().rev().find(|(known, ..)| *known == number).map(|(.., answer)| answer.clone())
    }
}

impl Memory {
    pub fn new(cores: usize, tunnels: Arc<Tunnels>) -> Memory {
        let (records, sessions) = (Records::new(RECORDS_MAX), Sessions::new(Duration::ZERO, SESSIONS_MAX));
        let gateway =
            Gateway { records, sessions, failures: Failures::new(RULES, CLIENTS_MAX), tally: Tally::default() };
        let (records, users) = (Landed(VecDeque::new()), Landed(VecDeque::new()));
        let inner = Inner { gateway, session_lifetime: Duration::ZERO, records, users };
        Memory {
            inner: Mutex::new(inner),
            waiting: Waiting::default(),
            upstreams: Mutex::default(),
            named: AtomicU64::new(0),
            cores,
            tunnels,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known outlives a reload, except sessions that are to live for another time.
    pub fn adopt(&self, settings: &Settings) {
        let frp = settings.exapps.as_ref().and_then(|exapps| exapps.frp.as_ref());
        self.tunnels.set_served(frp.is_some());
        let Some(exapps) = &settings.exapps else { return };
        let mut inner = self.lock();
        if inner.session_lifetime != exapps.session_lifetime {
            inner.session_lifetime = exapps.session_lifetime;
            inner.gateway.sessions = Sessions::new(exapps.session_lifetime, SESSIONS_MAX);
        }
    }

    /// The ExApp at this place, as all cores see it.
    pub(super) fn upstream(&self, key: &(String, u16)) -> Arc<Pool> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = upstreams.get(key) {
            return known.clone();
        }
        if upstreams.len() >= UPSTREAMS_MAX {
            upstreams.clear();
        }
        let made = Arc::new(upstreams::make(&key.0, key.1, self.cores, &self.tunnels));
        upstreams.insert(key.clone(), made.clone());
        if made.servers.iter().any(|server| server.target.name().is_some()) {
            self.named.fetch_add(1, Ordering::Release);
        }
        made
    }

    /// How often an ExApp with a name was added.
    pub fn named(&self) -> u64 {
        self.named.load(Ordering::Acquire)
    }

    pub fn servers(&self) -> Vec<Arc<Server>> {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.values().flat_map(|pool| pool.servers.iter().cloned()).collect()
    }
}

/// The clock of `policy::exapp`.
pub fn time() -> Duration {
    Duration::from_nanos(now().0)
}
