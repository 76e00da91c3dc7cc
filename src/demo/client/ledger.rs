//! What all clients saw, on one clock.

use crate::demo::client::TransferKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time since the ledger was opened.
pub type Moment = Duration;

/// One request and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub source: Source,
    pub started: Moment,
    pub finished: Moment,
    pub outcome: Result<(), Loss>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A new connection: these alone measure the gap, because they come at a fixed rate.
    Probe,
    KeepAlive,
}

/// Why a request counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// No connection, or no TLS session.
    Connect,
    /// The connection ended before the answer was complete.
    Cut,
    /// Nothing complete within [`super::ANSWER_TIMEOUT`].
    Timeout,
    /// An answer, but not the page: the status.
    Status(u16),
    /// The right status with the wrong bytes.
    Garbled,
}

pub struct Ledger {
    opened: Instant,
    answers: Mutex<Vec<Answer>>,
    /// Microseconds at which the oldest request still open was started, per client; `IDLE` if none.
    open_since: Vec<AtomicU64>,
    transfers: [Transfer; TransferKind::ALL.len()],
    good: AtomicU64,
    lost: AtomicU64,
}

#[derive(Default)]
struct Transfer {
    /// Microseconds of the last byte; 0 before the first.
    alive: AtomicU64,
    breaks: Mutex<Vec<Moment>>,
}

const IDLE: u64 = u64::MAX;

impl Ledger {
    /// For `clients` that send requests.
    pub fn new(clients: usize) -> Ledger {
        Ledger {
            opened: Instant::now(),
            answers: Mutex::default(),
            open_since: (0..clients).map(|_| AtomicU64::new(IDLE)).collect(),
            transfers: Default::default(),
            good: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub fn now(&self) -> Moment {
        self.opened.elapsed()
    }

    /// The ledger's name for a time on the system's clock.
    pub fn moment(&self, at: Instant) -> Moment {
        at.saturating_duration_since(self.opened)
    }

    /// Client number `client` has a request open since `started`, or none.
    pub fn set_open(&self, client: usize, started: Option<Moment>) {
        if let Some(slot) = self.open_since.get(client) {
            slot.store(started.map_or(IDLE, micros), Ordering::Relaxed);
        }
    }

    /// Whether every request started before `moment` has ended.
    pub fn is_settled(&self, moment: Moment) -> bool {
        self.open_since.iter().all(|slot| slot.load(Ordering::Relaxed) >= micros(moment))
    }

    pub fn record(&self, answer: Answer) {
        let counter = if answer.outcome.is_ok() { &self.good } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        locked(&self.answers).push(answer);
    }

    /// Answers so far, good and lost.
    pub fn totals(&self) -> (u64, u64) {
        (self.good.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }

    /// Everything that ended at `from` or later.
    pub fn answers_since(&self, from: Moment) -> Vec<Answer> {
        locked(&self.answers).iter().filter(|answer| answer.finished >= from).copied().collect()
    }

    /// Forgets what ended before `moment`: a long bench does not grow.
    pub fn forget_before(&self, moment: Moment) {
        locked(&self.answers).retain(|answer| answer.finished >= moment);
    }

    /// A transfer made progress.
    pub fn alive(&self, kind: TransferKind) {
        self.transfer(kind).alive.store(micros(self.now()), Ordering::Relaxed);
    }

    /// A transfer that was alive ended.
    pub fn broke(&self, kind: TransferKind) {
        locked(&self.transfer(kind).breaks).push(self.now());
    }

    /// Whether every transfer made progress after `moment`.
    pub fn all_alive_after(&self, moment: Moment) -> bool {
        self.transfers.iter().all(|transfer| transfer.alive.load(Ordering::Relaxed) > micros(moment))
    }

    /// When each transfer that broke after `moment` learned of it, first break only.
    pub fn breaks_since(&self, moment: Moment) -> Vec<(TransferKind, Moment)> {
        TransferKind::ALL
            .into_iter()
            .filter_map(|kind| {
                let breaks = locked(&self.transfer(kind).breaks);
                breaks.iter().find(|&&at| at >= moment).map(|&at| (kind, at))
            })
            .collect()
    }

    fn transfer(&self, kind: TransferKind) -> &Transfer {
        let [download, upload, websocket] = &self.transfers;
        match kind {
            TransferKind::Download => download,
            TransferKind::Upload => upload,
            TransferKind::WebSocket => websocket,
        }
    }
}

fn micros(moment: Moment) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(IDLE - 1)
}

/// A client that panicked while it held the lock left whole records behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
