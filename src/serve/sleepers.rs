//! The idle client connections of a core: who can be told to close when the core drains.

use crate::net::clock::Now;
use crate::net::shelves::Shelves;
use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::Duration;

/// Idle connections are closed over this long, not all in one instant: their clients come back at once.
const SPREAD: Duration = Duration::from_secs(2);

/// A connection that was used a moment ago is left alone: a request may be on its way to it, and its response can ask
/// for the close without losing anything.
pub const RESTED: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Sleepers {
    /// By place; a place without a waker is busy or free.
    wakers: RefCell<Shelves<Option<Waker>>>,
    free: RefCell<Vec<u32>>,
    drain_began: Cell<Option<Now>>,
    /// Places below this may close.
    closing: Cell<usize>,
}

/// A connection's place. Not a guard: [`Sleepers::leave`] is called by whoever owns the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Sleepers {
    pub fn enter(&self) -> Place {
        if let Some(place) = self.free.borrow_mut().pop() {
            return Place(place);
        }
        Place(self.wakers.borrow_mut().push(None) as u32)
    }

    pub fn leave(&self, place: Place) {
        self.set(place, None);
        self.free.borrow_mut().push(place.0);
    }

    /// The connection waits for its next request.
    pub fn sleep(&self, place: Place, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if let Some(slot) = wakers.get_mut(place.0 as usize)
            && !slot.as_ref().is_some_and(|old| old.will_wake(waker))
        {
            *slot = Some(waker.clone());
        }
    }

    fn set(&self, place: Place, waker: Option<Waker>) {
        let old = match self.wakers.borrow_mut().get_mut(place.0 as usize) {
            Some(slot) => std::mem::replace(slot, waker),
            None => None,
        };
        drop(old);
    }

    /// An idle connection asks whether it should close now.
    pub fn should_close(&self, place: Place) -> bool {
        (place.0 as usize) < self.closing.get()
    }

    /// Draining: lets a growing share of the places close. Called once a tick.
    pub fn drain(&self, now: Now) {
        let began = self.drain_began.get().unwrap_or(now);
        self.drain_began.set(Some(began));
        let places = self.wakers.borrow().len();
        let share = now.since(began).as_secs_f64() / SPREAD.as_secs_f64();
        self.closing.set(if share >= 1.0 { usize::MAX } else { (places as f64 * share) as usize });
        // Those told before looked too recent then; they look again.
        for place in 0..places.min(self.closing.get()) {
            let waker = self.wakers.borrow().get(place).and_then(Clone::clone);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Not draining (any more).
    pub fn stay(&self) {
        self.drain_began.set(None);
        self.closing.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn draining_closes_a_growing_share_and_in_the_end_all() {
        let sleepers = Sleepers::default();
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(count.clone());
        let places: Vec<_> = (0..100).map(|_| sleepers.enter()).collect();
        places.iter().for_each(|place| sleepers.sleep(*place, &waker));
        let closing = || places.iter().filter(|place| sleepers.should_close(**place)).count();

        let start = Now(1_000_000_000);
        sleepers.drain(start);
        assert_eq!((closing(), count.0.load(Ordering::Relaxed)), (0, 0));
        sleepers.drain(start.after(SPREAD / 2));
        assert_eq!((closing(), count.0.load(Ordering::Relaxed)), (50, 50));
        sleepers.drain(start.after(SPREAD));
        assert_eq!(closing(), 100);
        sleepers.stay();
        assert_eq!(closing(), 0);
    }

    #[test]
    fn a_place_is_used_again_after_its_connection_left() {
        let sleepers = Sleepers::default();
        let place = sleepers.enter();
        assert_ne!(sleepers.enter(), place);
        sleepers.leave(place);
        assert_eq!(sleepers.enter(), place);
    }
}
