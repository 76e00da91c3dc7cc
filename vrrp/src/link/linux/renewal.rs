//! Renews the addresses' lease on a thread of its own.
//!
//! The kernel changes addresses under one lock for the whole machine, which somebody who deletes a hundred interfaces
//! holds for milliseconds. A renewal has a second to spare, an advert has not, so the advert's thread does not wait
//! for it. Only when it wants to add or remove the addresses itself, it waits for a renewal that is under way: that
//! one must not bring back what has just been removed.
//!
//! Nothing else that waits for the kernel is done here while addresses are held: a second too long, and they are gone.

use super::macvlan::Macvlan;
use super::netlink::{Holding, Netlink};
use super::realtime;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
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

/// Addresses renewed without a chance for the near end to step in.
const SLICE: usize = 32;

#[derive(Default)]
struct Shared {
    /// Locked while a slice of a renewal is under way.
    plan: Mutex<Plan>,
    /// Who wants the plan; a renewal stops for it between two slices.
    is_wanted: AtomicU32,
    macvlan: Mutex<Option<Macvlan>>,
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

    /// So that the take-over need not.
    pub(super) fn make_room(&self, holdings: usize) {
        let mut plan = self.plan();
        let missing = holdings.saturating_sub(plan.holdings.len());
        plan.holdings.reserve(missing);
    }

    /// Waits for a slice of a renewal under way and keeps the next one out while the plan is changed and acted upon.
    pub(super) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.shared.is_wanted.fetch_add(1, Ordering::AcqRel);
        let plan = lock(&self.shared.plan);
        self.shared.is_wanted.fetch_sub(1, Ordering::AcqRel);
        plan
    }

    /// The far end removes it before it ends.
    pub(super) fn remove_at_end(&self, macvlan: Macvlan) {
        *lock(&self.shared.macvlan) = Some(macvlan);
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
            if self.is_due.swap(false, Ordering::AcqRel) {
                let code = self.renew(netlink).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
                self.outcome.store(code, Ordering::Release);
            } else {
                thread::park();
            }
        }
        if let Some(mut macvlan) = lock(&self.macvlan).take() {
            // Whatever is left of it, the next life adopts.
            let _ = macvlan.remove(netlink);
        }
    }

    fn renew(&self, netlink: &mut Netlink) -> io::Result<()> {
        let (mut done, mut outcome) = (0, Ok(()));
        loop {
            if self.is_wanted.load(Ordering::Acquire) > 0 {
                // It takes the lock before us even if we try at once: it is being woken for it.
                thread::yield_now();
            }
            let plan = lock(&self.plan);
            let Some(index) = plan.index else { return outcome };
            let slice: Vec<Holding> = plan.holdings.iter().skip(done).take(SLICE).copied().collect();
            if slice.is_empty() {
                return outcome;
            }
            done += slice.len();
            outcome = outcome.and(netlink.hold_addresses(index, &slice, plan.lease));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
