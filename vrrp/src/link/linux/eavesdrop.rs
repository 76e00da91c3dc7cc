//! Looks at the wire through a tap, on a thread of its own.
//!
//! Closing a tap waits until every processor has let go of it (an RCU grace period), which takes seconds where all of
//! them are busy: too long for the thread that sends adverts, and for the one that renews leases.

use super::taps::Tap;
use crate::link::Overheard;
use crate::packet::Family;
use crate::params::Vrid;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

/// The near end; dropping it ends the thread.
pub(super) struct Eavesdrop {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What to overhear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) index: u32,
    pub(super) family: Family,
    pub(super) vrid: Vrid,
    pub(super) own: IpAddr,
}

/// A look at the wire: ordered by the near end, which only ever tries the lock.
#[derive(Default)]
struct Look {
    target: Option<Target>,
    tap: Option<(Target, Tap)>,
    /// Of the last ended look.
    seen: Option<Overheard>,
}

#[derive(Default)]
struct Shared {
    look: Mutex<Look>,
    is_over: AtomicBool,
}

impl Eavesdrop {
    /// Starts the thread, in the caller's network namespace.
    pub(super) fn start() -> io::Result<Eavesdrop> {
        let shared = Arc::new(Shared::default());
        let run = {
            let shared = Arc::clone(&shared);
            move || shared.serve()
        };
        let thread = thread::Builder::new().name("vrrp-tap".to_owned()).spawn(run)?.thread().clone();
        Ok(Eavesdrop { shared, thread })
    }

    /// Begins a look at this target, or ends the one under way. Not done if the other end is busy with it.
    pub(super) fn aim(&self, target: Option<Target>) {
        let Ok(mut look) = self.shared.look.try_lock() else { return };
        look.target = target;
        look.seen = None;
        drop(look);
        self.thread.unpark();
    }

    /// What the last ended look saw, once.
    pub(super) fn seen(&self) -> Option<Overheard> {
        self.shared.look.try_lock().ok()?.seen.take()
    }
}

impl Drop for Eavesdrop {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Shared {
    fn serve(&self) {
        while !self.is_over.load(Ordering::Acquire) {
            self.look();
            thread::park();
        }
    }

    /// Opens and closes the tap as ordered.
    fn look(&self) {
        let mut look = self.lock();
        if look.tap.as_ref().map(|(target, _)| *target) == look.target {
            return;
        }
        if let Some((target, tap)) = look.tap.take() {
            look.seen = Some(tap.count(target.vrid, target.own));
            drop(look);
            drop(tap);
            look = self.lock();
        }
        if let Some(target) = look.target {
            // Without a tap there is nothing to tell.
            look.tap = Tap::open(target.index, target.family).ok().map(|tap| (target, tap));
            if look.tap.is_none() {
                look.target = None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Look> {
        self.look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
