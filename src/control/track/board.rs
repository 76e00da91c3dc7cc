//! What the trackers say, where the real-time thread can read it: atomics only. One row a router.

use crate::config::settings::Settings;
use crate::config::settings::track::{Effect, TrackerKind};
use crate::control::track::judge::Verdict;
use crate::shared::hash_name;
use lyre_vrrp::machine::Health;
use lyre_vrrp::runner::Ability;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Rows; more routers than this share the default verdict, which is that of the worker.
const ROWS: usize = 1024;

/// Written by the main and the tracker thread, read by the real-time one.
pub struct Board {
    rows: Box<[Row]>,
    /// Makes the real-time thread look at once.
    bell: EventFd,
    /// The worker's health as the real-time thread last saw it.
    worker: AtomicU32,
}

#[derive(Default)]
struct Row {
    /// The router's name, hashed; 0 is a free row. Names are short and few: a clash would be a wonder, and would only
    /// make two routers share their trackers.
    key: AtomicU64,
    /// How the worker's health counts: a [`ProxyRule`], packed.
    proxy: AtomicU32,
    /// Of all other trackers together: a [`Verdict`], packed.
    verdict: AtomicU32,
    /// What the speaker was last told, packed.
    given: AtomicU32,
}

/// How the built-in tracker of the worker counts for a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyRule {
    Off,
    Fault,
    Weight(i16),
}

impl Board {
    pub fn new() -> Result<Board, Errno> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Board { rows: (0..ROWS).map(|_| Row::default()).collect(), bell, worker: AtomicU32::new(0) })
    }

    /// Gives every router of `settings` a row and its rule for the worker. Rows of routers that are gone are kept until
    /// the next time, because the speaker follows a little later.
    pub fn configure(&self, settings: &Settings, before: &[String]) {
        let is_known = |key: u64| {
            let is = |name: &String| hash_name(name) == key;
            before.iter().any(is) || settings.routers.iter().any(|router| hash_name(&router.name) == key)
        };
        for row in &self.rows {
            let key = row.key.load(Ordering::Relaxed);
            if key != 0 && !is_known(key) {
                row.key.store(0, Ordering::Release);
            }
        }
        for router in &settings.routers {
            let rule = proxy_rule(settings, &router.name);
            let Some(row) = self.row(&router.name) else {
                if let Some(free) = self.rows.iter().find(|row| row.key.load(Ordering::Relaxed) == 0) {
                    free.proxy.store(rule.pack(), Ordering::Relaxed);
                    free.verdict.store(pack(Verdict::default()), Ordering::Relaxed);
                    free.given.store(GIVEN_NOTHING, Ordering::Relaxed);
                    free.key.store(hash_name(&router.name), Ordering::Release);
                }
                continue;
            };
            row.proxy.store(rule.pack(), Ordering::Release);
        }
        self.ring();
    }

    /// What the trackers of `router` say together. Takes effect at once.
    pub fn set(&self, router: &str, verdict: Verdict) {
        let Some(row) = self.row(router) else { return };
        if row.verdict.swap(pack(verdict), Ordering::AcqRel) != pack(verdict) {
            self.ring();
        }
    }

    fn ring(&self) {
        let _ = self.bell.write(1);
    }

    /// Readable when something changed.
    pub fn bell(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }

    /// On the real-time thread, before it looks.
    pub fn silence(&self) {
        let _ = self.bell.read();
    }

    pub fn note_worker(&self, health: Health) {
        self.worker.store(pack_health(health), Ordering::Relaxed);
    }

    /// As the real-time thread last saw it.
    pub fn worker(&self) -> Health {
        match self.worker.load(Ordering::Relaxed) {
            0 => Health::Able,
            1 => Health::Degraded,
            _ => Health::Unable,
        }
    }

    /// What trackers add to a router's priority and whether one of them is a fault, as the speaker was told.
    pub fn verdict(&self, router: &str) -> Verdict {
        self.row(router).map_or(Verdict::default(), |row| unpack(row.verdict.load(Ordering::Acquire)))
    }

    /// What a router may do, given the worker's health; on the real-time thread. True when that is news.
    pub fn judge(&self, router: &str, of_worker: Health) -> (Ability, bool) {
        let Some(row) = self.row(router) else {
            return (Ability { health: of_worker, weight: 0 }, false);
        };
        let rule = ProxyRule::unpack(row.proxy.load(Ordering::Acquire));
        let ability = combine(rule, unpack(row.verdict.load(Ordering::Acquire)), of_worker);
        let given = pack_ability(ability);
        let is_news = row.given.swap(given, Ordering::AcqRel) != given;
        (ability, is_news)
    }

    /// A row is few cache lines away, rows are few, and nothing is allocated.
    fn row(&self, router: &str) -> Option<&Row> {
        let key = hash_name(router);
        self.rows.iter().find(|row| row.key.load(Ordering::Acquire) == key)
    }
}

/// A fault of either beats all weights.
fn combine(rule: ProxyRule, trackers: Verdict, of_worker: Health) -> Ability {
    let (health, of_rule) = match rule {
        ProxyRule::Off => (Health::Able, 0),
        ProxyRule::Fault => (of_worker, 0),
        ProxyRule::Weight(weight) if (weight > 0) == (of_worker == Health::Able) => (Health::Able, weight),
        ProxyRule::Weight(_) => (Health::Able, 0),
    };
    let health = if trackers.is_fault { Health::Unable } else { health };
    Ability { health, weight: trackers.weight.saturating_add(of_rule) }
}

/// The one tracker of kind `proxy` that speaks about a router.
fn proxy_rule(settings: &Settings, router: &str) -> ProxyRule {
    let speaks = |names: &[String]| names.iter().any(|name| name == router);
    let is_one = |tracker: &&crate::config::settings::track::Tracker| {
        tracker.kind == TrackerKind::Proxy && speaks(&tracker.routers)
    };
    match settings.trackers.iter().find(is_one).map(|tracker| tracker.effect) {
        None => ProxyRule::Off,
        Some(Effect::Fault) => ProxyRule::Fault,
        Some(Effect::Weight(weight)) => ProxyRule::Weight(weight),
    }
}

impl ProxyRule {
    fn pack(self) -> u32 {
        match self {
            ProxyRule::Off => 0,
            ProxyRule::Fault => 1 << 16,
            ProxyRule::Weight(weight) => 2 << 16 | u32::from(weight.cast_unsigned()),
        }
    }

    fn unpack(word: u32) -> ProxyRule {
        match word >> 16 {
            0 => ProxyRule::Off,
            1 => ProxyRule::Fault,
            _ => ProxyRule::Weight(low(word)),
        }
    }
}

/// No packed ability looks like this.
const GIVEN_NOTHING: u32 = u32::MAX;

fn pack(verdict: Verdict) -> u32 {
    u32::from(verdict.is_fault) << 16 | u32::from(verdict.weight.cast_unsigned())
}

fn unpack(word: u32) -> Verdict {
    Verdict { is_fault: word >> 16 != 0, weight: low(word) }
}

fn pack_ability(ability: Ability) -> u32 {
    pack_health(ability.health) << 16 | u32::from(ability.weight.cast_unsigned())
}

fn pack_health(health: Health) -> u32 {
    match health {
        Health::Able => 0,
        Health::Degraded => 1,
        Health::Unable => 2,
    }
}

fn low(word: u32) -> i16 {
    let [low, high, ..] = word.to_le_bytes();
    i16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_beats_weight_and_the_worker_counts_by_its_rule() {
        let (fault, none) = (Verdict { is_fault: true, weight: 20 }, Verdict::default());
        let moved = Verdict { is_fault: false, weight: -20 };
        #[rustfmt::skip]
        let rows = [
            // rule, trackers, worker, health, weight
            (ProxyRule::Fault,       none,  Health::Able,     Health::Able,     0),
            (ProxyRule::Fault,       none,  Health::Degraded, Health::Degraded, 0),
            (ProxyRule::Fault,       none,  Health::Unable,   Health::Unable,   0),
            (ProxyRule::Fault,       moved, Health::Unable,   Health::Unable,   -20),
            (ProxyRule::Fault,       fault, Health::Able,     Health::Unable,   20),
            (ProxyRule::Off,         none,  Health::Unable,   Health::Able,     0),
            (ProxyRule::Off,         moved, Health::Degraded, Health::Able,     -20),
            (ProxyRule::Off,         fault, Health::Able,     Health::Unable,   20),
            (ProxyRule::Weight(-50), none,  Health::Able,     Health::Able,     0),
            (ProxyRule::Weight(-50), moved, Health::Unable,   Health::Able,     -70),
            (ProxyRule::Weight(-50), none,  Health::Degraded, Health::Able,     -50),
            (ProxyRule::Weight(30),  none,  Health::Able,     Health::Able,     30),
            (ProxyRule::Weight(30),  none,  Health::Unable,   Health::Able,     0),
        ];
        for (rule, trackers, worker, health, weight) in rows {
            let expected = Ability { health, weight };
            assert_eq!(combine(rule, trackers, worker), expected, "{rule:?} {trackers:?} {worker:?}");
        }
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for weight in [0, 1, -1, 253, -253, i16::MAX, i16::MIN] {
            for is_fault in [false, true] {
                let verdict = Verdict { is_fault, weight };
                assert_eq!(unpack(pack(verdict)), verdict);
            }
            assert_eq!(ProxyRule::unpack(ProxyRule::Weight(weight).pack()), ProxyRule::Weight(weight));
        }
        for rule in [ProxyRule::Off, ProxyRule::Fault] {
            assert_eq!(ProxyRule::unpack(rule.pack()), rule);
        }
    }
}
