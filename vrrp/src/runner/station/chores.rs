//! What is still to be done for the addresses, in slices and at a pace, so that no advert waits for all of it.
//!
//! Pure: says what to do next; the station does it. An address is announced only once it is held.

use crate::params::Time;
use std::ops::Range;
use std::time::Duration;

/// Addresses held, or frames sent, in one go: about a millisecond of the kernel's time at most.
pub(super) const SLICE: usize = 32;

/// The unused allowance of this long may be spent at once, so that a few addresses are announced without delay.
const BURST: Duration = Duration::from_millis(100);

const SECOND: u64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Chores {
    /// The first address that is not held yet; none when there is nothing to hold.
    holding: Option<usize>,
    /// The next frame of the announcement under way.
    announcing: Option<usize>,
    /// Another announcement was asked for meanwhile. One, however often.
    again: bool,
    /// When the allowance would be all unspent, had it no upper bound: one frame is worth `1 / rate` seconds.
    spent_from: Time,
}

/// The next slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chore {
    Hold(Range<usize>),
    Announce(Range<usize>),
}

impl Chores {
    pub(super) fn hold(&mut self) {
        self.holding = Some(0);
    }

    pub(super) fn announce(&mut self) {
        self.again |= self.announcing.is_some_and(|next| next > 0);
        self.announcing.get_or_insert(0);
    }

    /// The addresses go, so nothing is left to do for them.
    pub(super) fn cancel(&mut self) {
        (self.holding, self.announcing, self.again) = (None, None, false);
    }

    /// Not all addresses have been tried yet.
    pub(super) fn is_holding(&self) -> bool {
        self.holding.is_some()
    }

    /// The slice to be done now, which counts as done. `addresses` are all, the first `frames` the first frames of each.
    pub(super) fn next(&mut self, now: Time, addresses: usize, frames: usize, per_second: u32) -> Option<Chore> {
        if let Some(first) = self.holding {
            let end = (first + SLICE).min(addresses);
            self.holding = (end < addresses).then_some(end);
            return Some(Chore::Hold(first..end));
        }
        let first = self.announcing?;
        let count = SLICE.min(frames.saturating_sub(first)).min(self.allowance(now, per_second));
        let end = first + count;
        self.spend(now, count, per_second);
        if end < frames {
            self.announcing = Some(end);
        } else {
            self.announcing = self.again.then_some(0);
            self.again = false;
        }
        (count > 0).then_some(Chore::Announce(first..end))
    }

    /// When [`Chores::next`] has something.
    pub(super) fn deadline(&self, per_second: u32) -> Option<Time> {
        if self.holding.is_some() {
            return Some(Time::default());
        }
        self.announcing?;
        Some(self.spent_from.plus(frame_time(per_second)))
    }

    fn allowance(&self, now: Time, per_second: u32) -> usize {
        let unspent = now.since(self.spent_from).min(burst(per_second));
        usize::try_from(unspent.as_nanos() / frame_time(per_second).as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    fn spend(&mut self, now: Time, frames: usize, per_second: u32) {
        let earliest = Time(now.0.saturating_sub(u64::try_from(burst(per_second).as_nanos()).unwrap_or(u64::MAX)));
        let cost = frame_time(per_second) * u32::try_from(frames).unwrap_or(u32::MAX);
        self.spent_from = self.spent_from.max(earliest).plus(cost);
    }
}

fn frame_time(per_second: u32) -> Duration {
    Duration::from_nanos(SECOND / u64::from(per_second.max(1)))
}

/// At least one frame, else a slow pace would never begin.
fn burst(per_second: u32) -> Duration {
    BURST.max(frame_time(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(milliseconds * 1_000_000)
    }

    /// All slices at one moment.
    fn slices(chores: &mut Chores, now: Time, addresses: usize, frames: usize, per_second: u32) -> Vec<Chore> {
        std::iter::from_fn(|| chores.next(now, addresses, frames, per_second)).collect()
    }

    #[test]
    fn addresses_are_held_in_slices_before_any_is_announced() {
        let mut chores = Chores::default();
        chores.hold();
        chores.announce();
        let expected = [Chore::Hold(0..32), Chore::Hold(32..64), Chore::Hold(64..70), Chore::Announce(0..32)];
        let done: Vec<_> = (0..4).filter_map(|_| chores.next(at(5_000), 70, 140, 1_000)).collect();
        assert_eq!(done, expected);
    }

    #[test]
    fn announcements_keep_their_pace_after_a_first_burst() {
        let mut chores = Chores::default();
        chores.announce();
        let frames = |slices: Vec<Chore>| -> usize {
            slices.iter().map(|s| if let Chore::Announce(range) = s { range.len() } else { 0 }).sum()
        };
        assert_eq!(frames(slices(&mut chores, at(5_000), 0, 400, 1_000)), 100);
        assert_eq!(chores.deadline(1_000), Some(at(5_001)));
        assert_eq!(frames(slices(&mut chores, at(5_010), 0, 400, 1_000)), 10);
        assert_eq!(frames(slices(&mut chores, at(9_000), 0, 400, 1_000)), 100, "unused time is not saved up");
    }

    #[test]
    fn a_slow_pace_still_begins_and_goes_on() {
        let mut chores = Chores::default();
        chores.announce();
        for second in 5..9 {
            assert_eq!(slices(&mut chores, at(second * 1_000), 0, 4, 1).len(), 1, "one a second");
        }
        assert_eq!(chores.deadline(1), None, "all said");
    }

    #[test]
    fn announcements_asked_for_while_one_runs_become_one_more() {
        let mut chores = Chores::default();
        chores.announce();
        assert_eq!(chores.next(at(5_000), 0, 40, 10_000), Some(Chore::Announce(0..32)));
        (0..50).for_each(|_| chores.announce());
        let rest = slices(&mut chores, at(6_000), 0, 40, 10_000);
        assert_eq!(rest, [Chore::Announce(32..40), Chore::Announce(0..32), Chore::Announce(32..40)]);
    }

    #[test]
    fn nothing_is_done_for_addresses_that_go() {
        let mut chores = Chores::default();
        chores.hold();
        chores.announce();
        chores.cancel();
        assert_eq!(chores.next(at(1), 10, 10, 1_000), None);
        assert_eq!(chores.deadline(1_000), None);
        assert!(!chores.is_holding());
    }
}
