//! How another thread wakes a task of this core at once.
//!
//! glommio takes such a wake for delivered when it is in its queue, which a napping driver loop looks at in its own time.
//! So wakers that go to another thread are wrapped: woken there, they put the task's own waker on a list and ring; the loop
//! hears it in its wait and wakes the task on its own thread.

use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

thread_local! {
    /// The bell that this thread's driver listens to.
    static HERE: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

pub(super) struct Bell {
    event: EventFd,
    callers: Mutex<Vec<Waker>>,
}

impl Bell {
    pub(super) fn hang() -> std::io::Result<Arc<Bell>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let bell = Arc::new(Bell { event, callers: Mutex::default() });
        HERE.with_borrow_mut(|here| *here = Some(bell.clone()));
        Ok(bell)
    }

    /// Readable once somebody has rung.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Wakes all that rang.
    pub(super) fn answer(&self) {
        // Silent first: who rings from here on is heard again. An error says that it is silent already.
        let _ = self.event.read();
        let callers = std::mem::take(&mut *self.callers.lock().unwrap_or_else(PoisonError::into_inner));
        callers.into_iter().for_each(Waker::wake);
    }

    fn ring(&self, caller: Waker) {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner).push(caller);
        // Fails only at the end of the counter, when it has been heard long ago.
        let _ = self.event.write(1);
    }
}

/// `waker` as another thread may use it; itself where no driver runs.
pub fn for_another_thread(waker: &Waker) -> Waker {
    match HERE.with_borrow(Option::clone) {
        Some(bell) => Waker::from(Arc::new(Call { bell, waker: Mutex::new(Some(waker.clone())) })),
        None => waker.clone(),
    }
}

/// Rings once.
struct Call {
    bell: Arc<Bell>,
    waker: Mutex<Option<Waker>>,
}

impl Wake for Call {
    fn wake(self: Arc<Call>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Call>) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        waker.into_iter().for_each(|waker| self.bell.ring(waker));
    }
}
