//! Renews the addresses' lease on a thread of its own.
//!
//! The kernel changes addresses under one lock for the whole machine, which somebody who deletes a hundred interfaces
//! holds for milliseconds. A renewal has a second to spare, an advert has not, so the advert's thread does not wait
//! for it. Only when it wants to add or remove the addresses itself, it waits for a renewal that is under way: that
//! one must not bring back what has just been removed.

use super::netlink::{Holding, Netlink};
use super::realtime;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// The near end; dropping it ends the thread.
pub(super) struct Renewal {
    shared: Arc<Shared>,
    thread: Thread,
}

/// What is to be renewed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// No interface: nothing is held.
    pub(super) index: Option<u32>,
    pub(super) holdings: Vec<Holding>,
    pub(super) lease: Duration,
}

#[derive(Default)]
struct Shared {
    /// Locked while a renewal is under way.
    plan: Mutex<Plan>,
    is_due: AtomicBool,
    is_over: AtomicBool,
    /// Error number of the last renewal, 0 if it worked; taken by the next request.
    outcome: AtomicI32,
}

impl Renewal {
    /// Starts the thread, in the caller's network namespace, with this real-time priority if it can be had.
    pub(super) fn start(priority: Option<u8>) -> io::Result<Renewal> {
        let shared = Arc::new(Shared::default());
        let mut netlink = Netlink::open()?;
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                if let Some(priority) = priority {
                    // The warning about a refusal is the speaker's; this thread only makes it wait less.
                    let _ = realtime::schedule_fifo(priority);
                }
                shared.serve(&mut netlink);
            }
        };
        let thread = thread::Builder::new().name("vrrp-lease".to_owned()).spawn(run)?.thread().clone();
        Ok(Renewal { shared, thread })
    }

    /// Asks for a renewal and returns what became of the one before. Never waits.
    pub(super) fn request(&self) -> io::Result<()> {
        self.shared.is_due.store(true, Ordering::Release);
        self.thread.unpark();
        match self.shared.outcome.swap(0, Ordering::AcqRel) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Waits for a renewal under way and keeps the next one out while the plan is changed and acted upon.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Shared {
    fn serve(&self, netlink: &mut Netlink) {
        while !self.is_over.load(Ordering::Acquire) {
            if !self.is_due.swap(false, Ordering::AcqRel) {
                thread::park();
                continue;
            }
            let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(index) = plan.index else { continue };
            let renewed = netlink.hold_addresses(index, &plan.holdings, plan.lease);
            let code = renewed.err().and_then(|error| error.raw_os_error()).unwrap_or(0);
            self.outcome.store(code, Ordering::Release);
        }
    }
}
