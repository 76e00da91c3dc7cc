//! Flap damping: a node that keeps losing the address by its own fault stops taking it from living Actives.
//!
//! It still takes over when nobody is Active. Every loss by fault (link down, unable to serve, addresses flapping)
//! adds [`PENALTY`], half of which is forgotten every [`HALF_LIFE`]; above [`LIMIT`] there is no preemption.

use crate::params::Time;
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Damping {
    penalty: u64,
    since: Time,
}

const PENALTY: u64 = 1_000;
const LIMIT: u64 = 2_500;
const HALF_LIFE: Duration = Duration::from_secs(60);
/// About three minutes above the limit after the last loss, however many there were.
const PENALTY_MAX: u64 = 20_000;

impl Damping {
    pub(super) fn penalise(&mut self, now: Time) {
        *self = Damping { penalty: (self.at(now) + PENALTY).min(PENALTY_MAX), since: now };
    }

    pub(super) fn forbids_preemption(&self, now: Time) -> bool {
        self.at(now) > LIMIT
    }

    /// The decayed penalty: exact at whole half-lives, straight lines between them.
    fn at(&self, now: Time) -> u64 {
        let elapsed = now.since(self.since).as_nanos();
        let half_life = HALF_LIFE.as_nanos();
        let halvings = u32::try_from(elapsed / half_life).unwrap_or(u32::MAX);
        let whole = self.penalty.checked_shr(halvings).unwrap_or(0);
        let part = u128::from(whole) * (elapsed % half_life) / (2 * half_life);
        whole - u64::try_from(part).unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_halves_every_minute_and_falls_in_between() {
        let mut damping = Damping::default();
        damping.penalise(Time(0));
        let at = |seconds| damping.at(Time(0).plus(Duration::from_secs(seconds)));
        assert_eq!([at(0), at(30), at(60), at(90), at(120), at(180)], [1_000, 750, 500, 375, 250, 125]);
        assert_eq!(at(1_000_000), 0);
        assert!((0..600).all(|second| at(second) >= at(second + 1)));
    }

    #[test]
    fn three_losses_in_a_row_forbid_preemption_for_a_while() {
        let mut damping = Damping::default();
        for second in 0..2 {
            damping.penalise(Time(second * 1_000_000_000));
            assert!(!damping.forbids_preemption(Time(second * 1_000_000_000)));
        }
        damping.penalise(Time(2_000_000_000));
        assert!(damping.forbids_preemption(Time(2_000_000_000)));
        assert!(!damping.forbids_preemption(Time(60_000_000_000)));
    }

    #[test]
    fn however_many_losses_the_node_is_forgiven_within_minutes() {
        let mut damping = Damping::default();
        (0..1_000).for_each(|_| damping.penalise(Time(0)));
        assert!(damping.forbids_preemption(Time(170_000_000_000)));
        assert!(!damping.forbids_preemption(Time(190_000_000_000)));
    }
}
