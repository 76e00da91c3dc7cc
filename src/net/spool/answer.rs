//! What a thread owes a task: a future that another thread makes ready.

use crate::net::driver::for_another_thread;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// The task's end.
pub struct Answer<T>(Arc<Mutex<Slot<T>>>);

/// The thread's end. Dropped unkept, the answer is an error: nobody waits for ever.
pub(super) struct Promise<T>(Arc<Mutex<Slot<T>>>);

enum Slot<T> {
    Waiting(Option<Waker>),
    Kept(io::Result<T>),
    Taken,
}

impl<T> Promise<T> {
    pub(super) fn new() -> (Promise<T>, Answer<T>) {
        let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
        (Promise(slot.clone()), Answer(slot))
    }

    pub(super) fn keep(self, result: io::Result<T>) {
        self.set(result);
    }

    fn set(&self, result: io::Result<T>) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot::Waiting(waker) = &mut *slot else { return };
        let waker = waker.take();
        *slot = Slot::Kept(result);
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.set(Err(io::ErrorKind::BrokenPipe.into()));
    }
}

impl<T> Future for Answer<T> {
    type Output = io::Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Kept(result) => Poll::Ready(result),
            Slot::Waiting(_) => {
                *slot = Slot::Waiting(Some(for_another_thread(cx.waker())));
                Poll::Pending
            }
            Slot::Taken => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
