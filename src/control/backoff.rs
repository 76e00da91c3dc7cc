//! When to start a worker again: at once after a long life, ever later while it keeps dying young.

use std::time::Duration;

/// A life this long clears the record.
const GOOD_LIFE: Duration = Duration::from_secs(30);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Deaths in a row after less than [`GOOD_LIFE`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    young_deaths: u32,
}

impl Backoff {
    /// How long to wait after a worker that lived for `lived` died. The first young death costs no wait: the address is
    /// waiting.
    pub fn after(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD_LIFE {
            self.young_deaths = 0;
        }
        self.young_deaths = self.young_deaths.saturating_add(1);
        match self.young_deaths.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => FIRST.saturating_mul(1 << doublings.min(16)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..10).map(|_| backoff.after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(delays, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_good_life_clears_the_record() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after(Duration::from_secs(1));
        }
        assert_eq!(backoff.after(GOOD_LIFE), Duration::ZERO);
        assert_eq!(backoff.after(Duration::from_secs(1)), FIRST);
    }
}
