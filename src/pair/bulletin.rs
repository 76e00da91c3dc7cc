//! What this node has to tell the other one besides its connections: whom it writes to, and whom it keeps out. Anybody
//! posts here without waiting; the link takes it along with its next beat.

use crate::pair::wire::{Ban, Choice};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bans that may wait for a beat. The oldest give way: who is banned is told again with the next connection.
pub const BANS_MAX: usize = 4096;

#[derive(Default)]
pub struct Bulletin {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    writers: Vec<Choice>,
    bans: VecDeque<Ban>,
}

impl Bulletin {
    /// All choices as they are now.
    pub fn post_writers(&self, writers: Vec<Choice>) {
        self.lock().writers = writers;
    }

    pub fn post_ban(&self, ban: Ban) {
        let bans = &mut self.lock().bans;
        if bans.len() >= BANS_MAX {
            bans.pop_front();
        }
        bans.push_back(ban);
    }

    pub fn writers(&self) -> Vec<Choice> {
        self.lock().writers.clone()
    }

    /// What was posted since the last call, at most `max`, in order.
    pub fn take_bans(&self, max: usize) -> Vec<Ban> {
        let bans = &mut self.lock().bans;
        let count = bans.len().min(max);
        bans.drain(..count).collect()
    }

    /// Nobody heard it, and a new peer is told how things stand.
    pub fn forget_bans(&self) {
        self.lock().bans.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::wire::Term;

    #[test]
    fn bans_leave_in_order_and_never_more_than_fit_wait() {
        let bulletin = Bulletin::default();
        for n in 0..BANS_MAX as u32 + 10 {
            bulletin.post_ban(Ban { address: n.to_be_bytes().into(), term: Term::Open, is_order: false });
        }
        let first = bulletin.take_bans(400);
        assert_eq!((first.len(), first[0].address), (400, 10u32.to_be_bytes().into()));
        assert_eq!(bulletin.take_bans(usize::MAX).len(), BANS_MAX - 400);
        assert!(bulletin.take_bans(400).is_empty());
    }
}
