//! What clients did, as all cores of the worker share it: open connections, failed logins, bans, rates.
//!
//! Two forms. What is counted for every request lives in [`Rates`]: one atomic word a client, no lock. What happens
//! rarely (a connection, a failed login, a ban) is in a ledger a shard behind a lock of its own; of 256 shards two cores
//! seldom want the same one, and nothing waits inside. Whether there is a ban to look for at all is an atomic that is
//! read first: a worker without bans pays one load a request.

pub mod orders;
mod rates;

use crate::config::settings::{self, Settings};
use crate::net::clock::now;
use crate::pair::bulletin::{BANS_MAX, Bulletin};
use crate::pair::wire::{self, Term};
use crate::policy::ban::{Ban, Ledger, Network, Outcome, Reason, Rules};
use crate::policy::rate::Pace;
use crate::serve::pairing::Reporter;
use crate::serve::parent::{Banned, Report};
use crate::serve::reply::Own;
use rates::Rates;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const SHARDS: usize = 256;

/// Clients a shard remembers, and credentials: 65,536 of each in all.
const ENTRIES_MAX: usize = 256;

pub struct Abuse {
    /// Keyed anew in each process, so that nobody can choose what he collides with.
    hasher: RandomState,
    shards: Box<[Shard]>,
    /// Bans and refused credentials of all shards.
    standing: AtomicUsize,
    requests: Rates,
    connections: Rates,
    /// The parent keeps bans for the next worker.
    reporter: OnceLock<Reporter>,
    /// The other node keeps out whom we do.
    bulletin: OnceLock<Arc<Bulletin>>,
}

#[repr(align(128))]
struct Shard {
    /// Bans and refused credentials here.
    standing: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    ledger: Ledger,
    /// Open connections a client; never more entries than connections.
    connections: HashMap<Network, u32>,
}

/// Why a client gets no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `None`: for good.
    Banned(Option<Duration>),
    TooFast,
}

/// A failed login, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    Counted,
    CredentialRefused(Duration),
    Banned(Ban),
    /// Of somebody who is never banned.
    Exempt,
}

impl Default for Abuse {
    fn default() -> Abuse {
        let shard = || Shard {
            standing: AtomicUsize::new(0),
            inner: Mutex::new(Inner { ledger: Ledger::new(ENTRIES_MAX), connections: HashMap::new() }),
        };
        Abuse {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            standing: AtomicUsize::new(0),
            requests: Rates::default(),
            connections: Rates::default(),
            reporter: OnceLock::new(),
            bulletin: OnceLock::new(),
        }
    }
}

impl Abuse {
    /// Tells bans from now on, so that the next worker knows them.
    pub fn tell(&self, reporter: Reporter) {
        let _ = self.reporter.set(reporter);
    }

    /// Tells the other node of bans from now on.
    pub fn share(&self, bulletin: Arc<Bulletin>) {
        let _ = self.bulletin.set(bulletin);
    }

    /// Counts an open connection, unless its client is kept out, too fast, or has all it may have. This comes before any
    /// cryptography.
    pub fn enter(&self, settings: &Settings, client: IpAddr) -> Result<(), Own> {
        let abuse = &settings.abuse;
        if abuse.closes_banned && self.ban_of(settings, client).is_some() {
            return Err(Own::Banned);
        }
        let network = Network::of(client);
        if let Some(rate) = abuse.connections
            && !self.connections.take(self.hash(network), &pace(rate))
            && !abuse.is_exempt(client)
        {
            return Err(Own::TooFast);
        }
        let mut inner = self.shard(network).lock();
        let count = inner.connections.entry(network).or_default();
        if *count as usize >= settings.limits.max_connections_per_client && !abuse.is_uncounted(&settings.trust, client)
        {
            return Err(Own::Overloaded);
        }
        *count += 1;
        Ok(())
    }

    pub fn leave(&self, client: IpAddr) {
        let network = Network::of(client);
        let mut inner = self.shard(network).lock();
        if let Some(count) = inner.connections.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                inner.connections.remove(&network);
            }
        }
    }

    /// Before a request goes anywhere. `credential` is what a ban may be about.
    pub fn check(&self, settings: &Settings, client: IpAddr, credential: &[u8]) -> Option<Refusal> {
        if self.standing.load(Relaxed) > 0 {
            let ban = self.ban_of(settings, client).map(|ban| ban.until.map(|until| until.saturating_sub(time())));
            if let Some(left) = ban.or_else(|| self.refused(settings, client, credential).map(Some)) {
                return Some(Refusal::Banned(left));
            }
        }
        let rate = settings.abuse.requests?;
        let passes =
            self.requests.take(self.hash(Network::of(client)), &pace(rate)) || settings.abuse.is_exempt(client);
        (!passes).then_some(Refusal::TooFast)
    }

    /// A login that a server refused.
    pub fn failed(&self, settings: &Settings, client: IpAddr, credential: &[u8]) -> Failed {
        let abuse = &settings.abuse;
        let Some(rules) = abuse.logins else { return Failed::Counted };
        if abuse.is_exempt(client) {
            return Failed::Exempt;
        }
        let (network, now) = (Network::of(client), time());
        let credential = (!credential.is_empty()).then(|| self.hasher.hash_one(credential));
        let shard = self.shard(network);
        let mut inner = shard.lock();
        let outcome = inner.ledger.failed(network, credential, &self::rules(rules), now);
        match outcome {
            Outcome::Counted => Failed::Counted,
            Outcome::CredentialRefused(length) => {
                self.recount(shard, &inner, now);
                Failed::CredentialRefused(length)
            }
            Outcome::Banned(ban) => {
                self.recount(shard, &inner, now);
                drop(inner);
                self.report(&ban, now);
                Failed::Banned(ban)
            }
        }
    }

    /// By order, or as an earlier worker knew it. `false`: this address is never banned.
    pub fn ban(&self, settings: &Settings, client: IpAddr, length: Option<Duration>, reason: Reason) -> bool {
        if settings.abuse.is_exempt(client) {
            return false;
        }
        let (network, now) = (Network::of(client), time());
        let ban = Ban { network, until: length.map(|length| now + length), reason, is_learnt: false };
        let shard = self.shard(network);
        let mut inner = shard.lock();
        inner.ledger.ban(ban, now);
        self.recount(shard, &inner, now);
        drop(inner);
        self.report(&ban, now);
        true
    }

    /// What the other node says of a client. Who is exempt here is not kept out for it.
    pub fn learn(&self, settings: &Settings, said: &wire::Ban) {
        let (network, now) = (Network::of(said.address), time());
        let until = match said.term {
            Term::Lifted => {
                if self.let_in(network, now) {
                    tracing::info!(client = %network, "client let in again by order, at the other node");
                    self.tell_parent(Report::Unbanned { address: network.address() });
                }
                return;
            }
            // A thousand years are for good.
            Term::Ms(ms) => now.checked_add(Duration::from_millis(ms)),
            Term::Open => None,
        };
        if settings.abuse.is_exempt(said.address) {
            return;
        }
        let reason = if said.is_order { Reason::Order } else { Reason::FailedLogins };
        let ban = Ban { network, until, reason, is_learnt: true };
        let shard = self.shard(network);
        let mut inner = shard.lock();
        let is_news = inner.ledger.learn(ban, now);
        self.recount(shard, &inner, now);
        drop(inner);
        if is_news {
            tracing::debug!(client = %network, reason = reason.as_str(), "client banned, as at the other node");
            self.report(&ban, now);
        }
    }

    /// Bans that began here, for a node that knows none.
    pub fn own_bans(&self) -> Vec<wire::Ban> {
        let bans = self.bans().into_iter().filter(|(ban, _)| !ban.is_learnt);
        bans.take(BANS_MAX).map(|(ban, left)| said(&ban, left)).collect()
    }

    /// By order, on both nodes. Whether there was a ban here, of the client or of one of its credentials.
    pub fn unban(&self, client: IpAddr) -> bool {
        let network = Network::of(client);
        if let Some(bulletin) = self.bulletin.get() {
            bulletin.post_ban(wire::Ban { address: network.address(), term: Term::Lifted, is_order: true });
        }
        self.let_in(network, time())
    }

    fn let_in(&self, network: Network, now: Duration) -> bool {
        let shard = self.shard(network);
        let mut inner = shard.lock();
        let was_banned = inner.ledger.unban(network);
        self.recount(shard, &inner, now);
        was_banned
    }

    /// With the time each has left, the longest first.
    pub fn bans(&self) -> Vec<(Ban, Option<Duration>)> {
        let now = time();
        let mut bans: Vec<Ban> = Vec::new();
        for shard in self.shards.iter().filter(|shard| shard.standing.load(Relaxed) > 0) {
            bans.extend(shard.lock().ledger.bans(now));
        }
        bans.sort_by_key(|ban| (std::cmp::Reverse(ban.until.unwrap_or(Duration::MAX)), ban.network));
        bans.into_iter().map(|ban| (ban, ban.until.map(|until| until.saturating_sub(now)))).collect()
    }

    /// Forgets what is over in one shard; called in turn by one core.
    pub fn sweep(&self, settings: &Settings, turn: usize) {
        let Some(shard) = self.shards.get(turn % SHARDS) else { return };
        let Ok(mut inner) = shard.inner.try_lock() else { return };
        if inner.ledger.is_empty() {
            return;
        }
        let now = time();
        let window = settings.abuse.logins.map_or(Duration::ZERO, |logins| logins.window);
        inner.ledger.sweep(window, now);
        self.recount(shard, &inner, now);
    }

    fn ban_of(&self, settings: &Settings, client: IpAddr) -> Option<Ban> {
        let network = Network::of(client);
        let shard = self.shard(network);
        if self.standing.load(Relaxed) == 0 || shard.standing.load(Relaxed) == 0 {
            return None;
        }
        let ban = shard.lock().ledger.banned(network, time())?;
        // Exempt since a reload.
        (!settings.abuse.is_exempt(client)).then_some(ban)
    }

    fn refused(&self, settings: &Settings, client: IpAddr, credential: &[u8]) -> Option<Duration> {
        let network = Network::of(client);
        let shard = self.shard(network);
        if credential.is_empty() || shard.standing.load(Relaxed) == 0 {
            return None;
        }
        let left = shard.lock().ledger.refused(network, self.hasher.hash_one(credential), time())?;
        (!settings.abuse.is_exempt(client)).then_some(left)
    }

    /// What stands in `shard` changed; `inner` is its, locked.
    fn recount(&self, shard: &Shard, inner: &Inner, now: Duration) {
        let standing = inner.ledger.standing(now);
        let before = shard.standing.swap(standing, Relaxed);
        // Under the lock, so the differences of a shard come in order.
        if standing >= before {
            self.standing.fetch_add(standing - before, Relaxed);
        } else {
            self.standing.fetch_sub(before - standing, Relaxed);
        }
    }

    /// Who is kept out from now on concerns the next worker, and the other node.
    fn report(&self, ban: &Ban, now: Duration) {
        let left = ban.until.map(|until| until.saturating_sub(now));
        let (is_order, is_learnt) = (ban.reason == Reason::Order, ban.is_learnt);
        self.tell_parent(Report::Banned(Banned {
            address: ban.network.address(),
            left_ms: left.map(millis),
            is_order,
            is_learnt,
        }));
        if let Some(bulletin) = self.bulletin.get().filter(|_| !is_learnt) {
            bulletin.post_ban(said(ban, left));
        }
    }

    fn tell_parent(&self, report: Report) {
        if let Some(reporter) = self.reporter.get() {
            reporter(report);
        }
    }

    fn hash(&self, network: Network) -> u64 {
        self.hasher.hash_one(network)
    }

    fn shard(&self, network: Network) -> &Shard {
        // SHARDS are there; the remainder is one of them.
        &self.shards[self.hash(network) as usize % SHARDS]
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that bans of this one go by.
pub fn network_address(client: IpAddr) -> IpAddr {
    Network::of(client).address()
}

fn said(ban: &Ban, left: Option<Duration>) -> wire::Ban {
    let term = left.map_or(Term::Open, |left| Term::Ms(millis(left)));
    wire::Ban { address: ban.network.address(), term, is_order: ban.reason == Reason::Order }
}

fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

fn time() -> Duration {
    Duration::from_nanos(now().0)
}

fn pace(rate: settings::Rate) -> Pace {
    Pace::new(rate.per_second, rate.burst)
}

fn rules(logins: settings::Logins) -> Rules {
    Rules { failures_max: logins.failures_max, window: logins.window, ban: logins.ban, ban_max: logins.ban_max }
}
