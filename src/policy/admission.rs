//! How fast events may come: a bucket of tokens kept as one number, the moment at which it will be full again, so that
//! all cores can share it as one atomic word (the generic cell rate algorithm).

use std::time::Duration;

/// A bucket's size and speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Between two events at full speed, in nanoseconds.
    interval_ns: u64,
    /// How far the bucket's moment may lie ahead: a full bucket's worth.
    burst_ns: u64,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bucket's new moment, and how long the event has to wait for its token.
    Admitted { full_at_ns: u64, wait: Duration },
    /// It would wait for too long.
    Refused,
}

impl Rate {
    /// `per_second` events, and `burst` seconds' worth of them at once.
    pub fn new(per_second: u32, burst: Duration) -> Rate {
        Rate { interval_ns: 1_000_000_000 / u64::from(per_second.max(1)), burst_ns: nanoseconds(burst) }
    }

    /// An event at `now_ns`, for a bucket that is full again at `full_at_ns`; it may wait for `patience`.
    pub fn event(&self, full_at_ns: u64, now_ns: u64, patience: Duration) -> Verdict {
        let full_at_ns = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        let wait_ns = full_at_ns.saturating_sub(now_ns).saturating_sub(self.burst_ns.max(self.interval_ns));
        if wait_ns > nanoseconds(patience) {
            return Verdict::Refused;
        }
        Verdict::Admitted { full_at_ns, wait: Duration::from_nanos(wait_ns) }
    }

    /// The moment of a bucket that is at most half full at `now_ns`.
    pub fn halved(&self, full_at_ns: u64, now_ns: u64) -> u64 {
        full_at_ns.max(now_ns.saturating_add(self.burst_ns / 2))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const START: u64 = 1_000_000_000_000;

    /// How many of `count` events at `now_ns` are admitted without waiting, waiting, and not at all.
    fn flood(rate: &Rate, full_at: &mut u64, now_ns: u64, count: u32) -> (u32, u32, u32) {
        let mut seen = (0, 0, 0);
        for _ in 0..count {
            match rate.event(*full_at, now_ns, 5 * S) {
                Verdict::Admitted { full_at_ns, wait } => {
                    *full_at = full_at_ns;
                    if wait.is_zero() { seen.0 += 1 } else { seen.1 += 1 }
                }
                Verdict::Refused => seen.2 += 1,
            }
        }
        seen
    }

    #[test]
    fn a_flood_gets_the_burst_then_its_patience_then_nothing() {
        let (rate, mut full_at) = (Rate::new(50, 2 * S), 0);
        assert_eq!(flood(&rate, &mut full_at, START, 1_000), (100, 250, 650));
        // A second later a second's worth of room is there again.
        assert_eq!(flood(&rate, &mut full_at, START + 1_000_000_000, 100), (0, 50, 50));
    }

    #[test]
    fn waits_space_events_out_at_the_rate() {
        let (rate, mut full_at) = (Rate::new(10, S), 0);
        assert_eq!(flood(&rate, &mut full_at, START, 10).0, 10);
        for number in 1..=5u64 {
            let Verdict::Admitted { full_at_ns, wait } = rate.event(full_at, START, 5 * S) else { panic!("refused") };
            full_at = full_at_ns;
            assert_eq!(wait, Duration::from_millis(100 * number));
        }
    }

    #[test]
    fn a_halved_bucket_has_half_the_burst() {
        let rate = Rate::new(50, 2 * S);
        let mut full_at = rate.halved(0, START);
        assert_eq!(flood(&rate, &mut full_at, START, 60).0, 50);
        // One that is emptier stays as it is.
        assert_eq!(rate.halved(full_at, START), full_at);
    }

    #[test]
    fn one_a_second_without_burst_is_one_a_second() {
        let (rate, mut full_at) = (Rate::new(1, Duration::ZERO), 0);
        assert_eq!(flood(&rate, &mut full_at, START, 10), (1, 5, 4));
    }
}
