//! A session's work connections: idle ones, those asked for, and who waits for one. A work connection carries one
//! exchange of bytes and is never idle again.

use super::{WaiterId, WorkId};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Idle ones a client may ask to be kept (its `pool_count`).
const FLOOR_MAX: usize = 5;

/// Idle ones kept while more are needed than the client thought.
const IDLE_MAX: usize = 32;

/// What comes without being asked for, beyond the client's own count.
const SURPLUS_MAX: usize = 10;

const WAITERS_MAX: usize = 256;

/// A tunnel is to be open after this long, or whoever wants it is told no.
const PATIENCE: Duration = Duration::from_secs(10);

/// One idle connection less is kept after each of these in which nobody had to wait.
const DECAY: Duration = Duration::from_secs(10);

/// Somebody who wants a work connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) id: WaiterId,
    pub(super) port: u16,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Not before.
    pub(super) ready_at: Duration,
}

#[derive(Debug)]
struct Waiting {
    waiter: Waiter,
    until: Duration,
}

#[derive(Debug)]
pub(super) struct Pool {
    floor: usize,
    /// Idle ones to be kept: from `floor` to [`IDLE_MAX`].
    target: usize,
    decay_at: Duration,
    idle: VecDeque<WorkId>,
    /// When each was asked for that did not come yet. A client that cannot open one says nothing.
    asked: VecDeque<Duration>,
    waiting: VecDeque<Waiting>,
}

impl Pool {
    pub(super) fn new(now: Duration, pool_count: i64) -> Pool {
        let floor = usize::try_from(pool_count).unwrap_or(0).min(FLOOR_MAX);
        Pool {
            floor,
            target: floor,
            decay_at: now + DECAY,
            idle: VecDeque::new(),
            asked: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A work connection came; `false` if there is no place for it.
    pub(super) fn arrive(&mut self, work: WorkId) -> bool {
        let was_asked_for = self.asked.pop_front().is_some();
        if !was_asked_for && self.idle.len() >= self.floor + SURPLUS_MAX {
            return false;
        }
        self.idle.push_back(work);
        true
    }

    /// An idle one ended.
    pub(super) fn lose(&mut self, work: WorkId) {
        self.idle.retain(|idle| *idle != work);
    }

    /// Gets in line; `false` if that is too long.
    pub(super) fn wait(&mut self, now: Duration, waiter: Waiter) -> bool {
        if self.waiting.len() >= WAITERS_MAX {
            return false;
        }
        if self.idle.len() <= self.waiting.len() {
            self.target = (self.target + 1).min(IDLE_MAX);
            self.decay_at = now + DECAY;
        }
        self.waiting.push_back(Waiting { until: now + PATIENCE, waiter });
        true
    }

    /// The next who can be served, and with what.
    pub(super) fn pair(&mut self, now: Duration) -> Option<(Waiter, WorkId)> {
        let at = self.waiting.iter().position(|waiting| waiting.waiter.ready_at <= now)?;
        let work = self.idle.pop_front()?;
        self.waiting.remove(at).map(|waiting| (waiting.waiter, work))
    }

    /// How many are to be asked for now; they count as asked for.
    pub(super) fn ask(&mut self, now: Duration) -> usize {
        let wanted = self.waiting.len() + self.target;
        let count = wanted.saturating_sub(self.idle.len() + self.asked.len());
        self.asked.extend(std::iter::repeat_n(now, count));
        count
    }

    /// What time changes. Who waited too long is handed out one by one.
    pub(super) fn expire(&mut self, now: Duration) -> Option<WaiterId> {
        while self.asked.front().is_some_and(|asked| now >= *asked + PATIENCE) {
            self.asked.pop_front();
        }
        if now >= self.decay_at {
            self.target = self.target.saturating_sub(1).max(self.floor);
            self.decay_at = now + DECAY;
        }
        let is_over = self.waiting.front().is_some_and(|waiting| now >= waiting.until);
        if is_over { self.waiting.pop_front().map(|waiting| waiting.waiter.id) } else { None }
    }

    /// Those who wait for this port, or all; they wait no longer.
    pub(super) fn dismiss(&mut self, port: Option<u16>) -> Vec<WaiterId> {
        let is_meant = |waiting: &Waiting| port.is_none_or(|port| waiting.waiter.port == port);
        let ids = self.waiting.iter().filter(|waiting| is_meant(waiting)).map(|waiting| waiting.waiter.id).collect();
        self.waiting.retain(|waiting| !is_meant(waiting));
        ids
    }

    /// Somebody does not want one any more.
    pub(super) fn give_up(&mut self, id: WaiterId) {
        self.waiting.retain(|waiting| waiting.waiter.id != id);
    }

    /// All idle ones; none is left.
    pub(super) fn empty(&mut self) -> impl Iterator<Item = WorkId> + '_ {
        self.asked.clear();
        self.idle.drain(..)
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let asked = self.asked.front().map(|asked| *asked + PATIENCE);
        let waiting = self.waiting.front().map(|waiting| waiting.until);
        let is_served_later = !self.idle.is_empty();
        let ready = self.waiting.iter().map(|waiting| waiting.waiter.ready_at).min().filter(|_| is_served_later);
        let decay = (self.target > self.floor).then_some(self.decay_at);
        [asked, waiting, ready, decay].into_iter().flatten().min()
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }
}
