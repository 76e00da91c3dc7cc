//! So many events a second and a burst before that, in one number a client (the generic cell rate algorithm): the moment
//! at which everything that was let through would have been used up at the steady rate.
//!
//! Times and intervals are in [`TICK`]s, so that a client's whole state fits beside a tag in one atomic word.

use std::time::Duration;

/// Resolution of the state: four microseconds.
pub const TICK: Duration = Duration::from_micros(4);

/// How far a core's reading of the clock may be behind another's.
const CLOCK_SKEW: Duration = Duration::from_millis(20);

/// Events a second and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    interval: u64,
    tolerance: u64,
}

impl Pace {
    /// `per_second` from 1; more than a quarter million is that.
    pub fn new(per_second: u32, burst: u32) -> Pace {
        let interval = (ticks(Duration::from_secs(1)) / u64::from(per_second.max(1))).max(1);
        // The cores' clocks are not read at the same moment; that must not cost a client the last of its burst.
        let slack = (interval / 2).min(ticks(CLOCK_SKEW));
        Pace { interval, tolerance: interval.saturating_mul(u64::from(burst.max(1)) - 1).saturating_add(slack) }
    }

    /// The state after one more event, or `None`: it is one too many. A state in the past is that of a stranger.
    pub fn step(&self, state: u64, now: u64) -> Option<u64> {
        let due = state.max(now);
        (due - now <= self.tolerance).then(|| due + self.interval)
    }
}

pub fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_micros() / TICK.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `events` at `now` pass.
    fn passing(pace: &Pace, state: &mut u64, now: u64, events: u32) -> u32 {
        let mut step = || pace.step(*state, now).map(|next| *state = next).is_some();
        (0..events).filter(|_| step()).count() as u32
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        for (per_second, burst) in [(1, 1), (1, 10), (10, 1), (50, 200), (1000, 1), (10_000, 5000)] {
            let (pace, second) = (Pace::new(per_second, burst), ticks(Duration::from_secs(1)));
            let mut state = 0;
            assert_eq!(passing(&pace, &mut state, second, 20_000), burst, "{per_second} {burst}");
            for turn in 2..5 {
                // What is beyond the burst is not saved up.
                let expected = per_second.min(burst);
                assert_eq!(passing(&pace, &mut state, turn * second, 20_000), expected, "{per_second} {burst}");
            }
            assert_eq!(passing(&pace, &mut state, 100_000 * second, 20_000), burst);
        }
    }

    #[test]
    fn a_steady_client_at_the_rate_is_never_refused() {
        let pace = Pace::new(50, 1);
        let mut state = 0;
        for n in 0..10_000 {
            assert_eq!(passing(&pace, &mut state, n * pace.interval, 1), 1);
        }
    }

    #[test]
    fn no_number_overflows_or_divides_by_zero() {
        for (per_second, burst) in [(0, 0), (u32::MAX, u32::MAX), (1, u32::MAX)] {
            assert!(Pace::new(per_second, burst).step(0, 1 << 45).is_some());
        }
    }
}
