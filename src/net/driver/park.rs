//! How a driver loop with nothing to do waits: in its own kernel object, never through glommio.
//!
//! Sleeping and waking through glommio costs eight system calls (`strace -c` of an idle core: 3,096 for 387 sleeps), a wait
//! in the ring or in epoll one. The price:
//! glommio's timers, which it looks for between tasks, come at most [`LONG_NAP`] and one preempt timer late, and so do wakes
//! from other threads that do not ring the [bell](super::bell). Nothing on a data path waits for either.

use std::time::Duration;

/// While the loop has waited in vain for less than this a task may still be about to wake another.
const SHORT_NAP: Duration = Duration::from_millis(1);

/// Bounds how late a timer fires on an idle core.
const LONG_NAP: Duration = Duration::from_millis(10);

/// Turns before each nap. In each the tasks in line run; those they wake, or that a timer woke, run in the next.
const TURNS: u8 = 3;

/// Quiet turns in a row, and what follows from them.
#[derive(Default)]
pub(super) struct Drowsiness {
    turns: u8,
    has_napped: bool,
}

impl Drowsiness {
    /// After a turn in which nothing happened: how long to wait in the kernel before the next, if at all.
    pub(super) fn nap(&mut self) -> Option<Duration> {
        self.turns += 1;
        if self.turns <= TURNS {
            return None;
        }
        self.turns = 0;
        let nap = if std::mem::replace(&mut self.has_napped, true) { LONG_NAP } else { SHORT_NAP };
        #[cfg(test)]
        let nap = NAP.get().unwrap_or(nap);
        Some(nap)
    }
}

#[cfg(test)]
thread_local! {
    /// For tests that are not to be helped by the end of a nap.
    pub(super) static NAP: std::cell::Cell<Option<Duration>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_in_line_get_their_turns_before_each_nap_and_the_first_nap_is_short() {
        let mut drowsy = Drowsiness::default();
        let naps: Vec<_> = (0..12).map(|_| drowsy.nap()).collect();
        let none = [None; TURNS as usize];
        let expected =
            [none.as_slice(), &[Some(SHORT_NAP)], &none, &[Some(LONG_NAP)], &none, &[Some(LONG_NAP)]].concat();
        assert_eq!(naps, expected);
    }
}
