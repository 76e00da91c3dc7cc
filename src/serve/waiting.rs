//! Tasks of any core that wait for news, which are told to all of them at once.

use crate::net::driver::for_another_thread;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

#[derive(Default)]
pub struct Waiting(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

impl Waiting {
    /// Waits until `look` finds something: now, or when there is news.
    pub async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let place = self.place();
        poll_fn(|cx| {
            // In line first: news after the look wake us.
            self.lock().wakers.insert(place.number, for_another_thread(cx.waker()));
            look().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// There is news.
    pub fn tell(&self) {
        let wakers = std::mem::take(&mut self.lock().wakers);
        wakers.into_values().for_each(Waker::wake);
    }

    fn place(&self) -> Place<'_> {
        let mut inner = self.lock();
        inner.next += 1;
        Place { waiting: self, number: inner.next }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In line, until it is left.
struct Place<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.lock().wakers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_by_news_and_leaves_nothing_behind() {
        let (waiting, there, count) = (Waiting::default(), Cell::new(None), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        {
            let mut first = pin!(waiting.until(|| there.get()));
            let mut given_up = Box::pin(waiting.until(|| there.get()));
            assert!(first.as_mut().poll(&mut cx).is_pending() && given_up.as_mut().poll(&mut cx).is_pending());
            assert!(first.as_mut().poll(&mut cx).is_pending());
            drop(given_up);
            waiting.tell();
            assert_eq!(count.0.load(Ordering::Relaxed), 1);
            // It was other news.
            assert!(first.as_mut().poll(&mut cx).is_pending());
            there.set(Some(7));
            waiting.tell();
            assert_eq!(count.0.load(Ordering::Relaxed), 2);
            assert_eq!(first.as_mut().poll(&mut cx), Poll::Ready(7));
        }
        assert!(waiting.lock().wakers.is_empty());
    }
}
