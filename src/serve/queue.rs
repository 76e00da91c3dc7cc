//! The line of a core's requests that wait for a free place at some server of a pool. First come, first served.
//! How many may wait is counted over all cores (`shared::Crowd`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Default)]
pub struct Queue {
    /// Allocates only while requests wait.
    line: RefCell<VecDeque<Ticket>>,
    next_number: Cell<u64>,
}

struct Ticket {
    number: u64,
    waker: Option<Waker>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.line.borrow().is_empty()
    }

    /// Waits at the end of the line until `try_enter`, called only for the first in line, gives something.
    pub async fn wait<T>(self: &Rc<Self>, mut try_enter: impl FnMut() -> Option<T>) -> T {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        self.line.borrow_mut().push_back(Ticket { number, waker: None });
        let _place = Place { queue: self, number };
        poll_fn(|cx| {
            let is_first = self.line.borrow().front().is_some_and(|first| first.number == number);
            if is_first && let Some(got) = try_enter() {
                return Poll::Ready(got);
            }
            let mut line = self.line.borrow_mut();
            if let Some(ticket) = line.iter_mut().find(|ticket| ticket.number == number) {
                ticket.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// A place may be free: the first in line looks again.
    pub fn wake_first(&self) {
        let waker = self.line.borrow_mut().front_mut().and_then(|first| first.waker.take());
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Leaves the line when its request got its place, or gave up.
struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.line.borrow_mut().retain(|ticket| ticket.number != self.number);
        // The next one may find a place too.
        self.queue.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn the_first_in_line_is_served_first_and_a_quitter_lets_the_next_one_up() {
        let queue = Rc::new(Queue::default());
        let free = Cell::new(0);
        let enter = || (free.get() > 0).then(|| free.set(free.get() - 1));
        let mut cx = Context::from_waker(Waker::noop());
        let mut second = pin!(queue.wait(enter));
        {
            let mut first = Box::pin(queue.wait(enter));
            assert!(first.as_mut().poll(&mut cx).is_pending());
            assert!(second.as_mut().poll(&mut cx).is_pending());
            free.set(1);
            // There is a place, but it is not the second one's turn.
            assert!(second.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(()));
        assert!(queue.is_empty());
    }
}
