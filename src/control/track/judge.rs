//! From single results to a standing: rise and fall counts, then delays. Pure; the clock is an argument.
//!
//! ```text
//!            first result decides         `fall` bad in a row, then bad for `down_delay`
//!  Unknown ----------------------> Good ------------------------------------------------> Bad
//!                                   ^                                                      |
//!                                   '-- `rise` good in a row, then good for `up_delay` ----'
//! ```
//!
//! A result that agrees with the standing ends a row against it, and a delay that is running.

use crate::config::settings::track::{Effect, Tracker};
use lyre_vrrp::params::Time;
use std::time::Duration;

/// Beyond this a number is a fault (keepalived's bounds, so that its track files mean the same).
const WEIGHT_MAX: i64 = 253;

/// What one check, or one look at something that tells by itself, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    /// Of a file: 0 is good, and with a weight every number has its own effect.
    Number(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Found(Outcome),
    /// The deadline passed.
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No result yet.
    Unknown,
    Good,
    Bad,
}

/// What a tracker does to its routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    pub is_fault: bool,
    pub weight: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub effect: Effect,
    pub is_inverted: bool,
    /// At least 1.
    pub rise: u32,
    pub fall: u32,
    pub up_delay: Duration,
    pub down_delay: Duration,
    /// What Unknown counts as: bad at start, so that a node that cannot serve takes nothing; good after a reload, so
    /// that a new tracker moves nothing before it knows.
    pub starts_bad: bool,
}

#[derive(Debug, Clone)]
pub struct Judge {
    rules: Rules,
    standing: Standing,
    /// Results in a row against the standing.
    streak: u32,
    /// Since when there have been enough of them.
    against_since: Option<Time>,
    /// The last result, if it was a number that has an effect of its own.
    number: Option<i64>,
}

impl Rules {
    pub fn of(tracker: &Tracker, starts_bad: bool) -> Rules {
        Rules {
            effect: tracker.effect,
            is_inverted: tracker.is_inverted,
            rise: tracker.rise.max(1),
            fall: tracker.fall.max(1),
            up_delay: tracker.up_delay,
            down_delay: tracker.down_delay,
            starts_bad,
        }
    }
}

impl Judge {
    pub fn new(rules: Rules) -> Judge {
        Judge { rules, standing: Standing::Unknown, streak: 0, against_since: None, number: None }
    }

    /// Takes other rules without forgetting what is known. Rows and delays start over; an inversion turns what is known.
    pub fn follow(&mut self, rules: Rules) {
        if rules == self.rules {
            return;
        }
        if rules.is_inverted != self.rules.is_inverted {
            self.standing = match self.standing {
                Standing::Unknown => Standing::Unknown,
                Standing::Good => Standing::Bad,
                Standing::Bad => Standing::Good,
            };
        }
        (self.streak, self.against_since) = (0, None);
        self.rules = rules;
    }

    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Time> {
        self.against_since.map(|since| since.plus(self.delay()))
    }

    /// Whether standing or verdict changed.
    pub fn handle(&mut self, now: Time, input: Input) -> bool {
        let before = (self.standing, self.verdict());
        match input {
            Input::Found(outcome) => self.find(now, outcome),
            Input::Tick => {}
        }
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            let turned = if self.standing == Standing::Good { Standing::Bad } else { Standing::Good };
            self.stand(turned);
        }
        before != (self.standing, self.verdict())
    }

    pub fn verdict(&self) -> Verdict {
        if let (Effect::Weight(weight), Some(number)) = (self.rules.effect, self.number) {
            return numbered(weight, number, self.rules.is_inverted);
        }
        let is_good = match self.standing {
            Standing::Good => true,
            Standing::Bad => false,
            Standing::Unknown => !self.rules.starts_bad,
        };
        match self.rules.effect {
            Effect::Fault => Verdict { is_fault: !is_good, weight: 0 },
            // Neither what it gains while good nor what it loses while bad is known yet.
            Effect::Weight(_) if self.standing == Standing::Unknown => Verdict::default(),
            Effect::Weight(weight) if (weight > 0) == is_good => Verdict { is_fault: false, weight },
            Effect::Weight(_) => Verdict::default(),
        }
    }

    fn find(&mut self, now: Time, outcome: Outcome) {
        let outcome = match (outcome, self.rules.effect) {
            // Every number is taken as it is, at once; only one that is a fault is bad.
            (Outcome::Number(number), Effect::Weight(weight)) => {
                let is_fault = numbered(weight, number, self.rules.is_inverted).is_fault;
                self.number = Some(number);
                return self.stand(if is_fault { Standing::Bad } else { Standing::Good });
            }
            (Outcome::Number(number), Effect::Fault) => number == 0,
            (Outcome::Good, _) => true,
            (Outcome::Bad, _) => false,
        };
        self.number = None;
        let is_good = outcome != self.rules.is_inverted;
        let needed = match (self.standing, is_good) {
            (Standing::Unknown, true) => return self.stand(Standing::Good),
            (Standing::Unknown, false) => return self.stand(Standing::Bad),
            (Standing::Good, true) | (Standing::Bad, false) => return self.stand(self.standing),
            (Standing::Good, false) => self.rules.fall,
            (Standing::Bad, true) => self.rules.rise,
        };
        self.streak = self.streak.saturating_add(1);
        if self.streak >= needed {
            self.against_since.get_or_insert(now);
        }
    }

    fn stand(&mut self, standing: Standing) {
        self.standing = standing;
        (self.streak, self.against_since) = (0, None);
    }

    /// Before a turn away from the current standing.
    fn delay(&self) -> Duration {
        if self.standing == Standing::Good { self.rules.down_delay } else { self.rules.up_delay }
    }
}

fn numbered(weight: i16, number: i64, is_inverted: bool) -> Verdict {
    let sign = if is_inverted { -1 } else { 1 };
    let total = i64::from(weight).saturating_mul(number).saturating_mul(sign);
    let kept = total.clamp(-WEIGHT_MAX, WEIGHT_MAX);
    Verdict { is_fault: total < -WEIGHT_MAX, weight: i16::try_from(kept).unwrap_or(0) }
}

#[cfg(test)]
mod tests;
