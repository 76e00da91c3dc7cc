//! When to look at the wire below the firewall, and how often an advert may be late before it is worth an alarm. Pure.

use crate::params::Time;
use std::time::Duration;

/// Between the beginnings of two looks.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// Looks at the wire while our socket is silent, to find adverts that a firewall keeps from it.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    phase: Phase,
    /// When the socket last had a datagram.
    heard: Time,
    next: Time,
}

#[derive(Debug, Default, Clone, Copy)]
enum Phase {
    #[default]
    Idle,
    Looking {
        since: Time,
        until: Time,
    },
    Ended {
        since: Time,
    },
}

/// What to do about the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Begin,
    End,
}

impl Lookout {
    pub(super) fn hear(&mut self, now: Time) {
        self.heard = now;
    }

    /// While the router takes part. `silence` is how long the socket may be silent before that is odd, `length` how
    /// long a look lasts.
    pub(super) fn order(&mut self, now: Time, silence: Duration, length: Duration) -> Option<Order> {
        match self.phase {
            Phase::Idle | Phase::Ended { .. } if now >= self.next && now.since(self.heard) >= silence => {
                self.phase = Phase::Looking { since: now, until: now.plus(length) };
                self.next = now.plus(LOOK_PERIOD);
                Some(Order::Begin)
            }
            Phase::Looking { since, until } if now >= until => {
                self.phase = Phase::Ended { since };
                Some(Order::End)
            }
            Phase::Idle | Phase::Looking { .. } | Phase::Ended { .. } => None,
        }
    }

    /// Whether a result is awaited.
    pub(super) fn awaits_result(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Takes the result of a look. True if adverts were there and our socket got none.
    pub(super) fn judge(&mut self, seen: u64) -> bool {
        let Phase::Ended { since } = std::mem::take(&mut self.phase) else { return false };
        seen > 0 && self.heard < since
    }
}

/// Late adverts: one is an accident, several within a minute are a condition.
#[derive(Debug, Default)]
pub(super) struct Lateness([Option<Time>; 3]);

const LATE_WINDOW: Duration = Duration::from_secs(60);

impl Lateness {
    /// Takes one more. True from the third within the window on.
    pub(super) fn add(&mut self, now: Time) -> bool {
        self.0.rotate_left(1);
        self.0[2] = Some(now);
        self.0[0].is_some_and(|first| now.since(first) <= LATE_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_millis(200);
    const LENGTH: Duration = Duration::from_millis(250);

    fn at(milliseconds: u64) -> Time {
        Time(milliseconds * 1_000_000)
    }

    #[test]
    fn nobody_looks_while_adverts_come() {
        let mut lookout = Lookout::default();
        for now in (0..60_000).step_by(100) {
            lookout.hear(at(now));
            assert_eq!(lookout.order(at(now + 50), SILENCE, LENGTH), None);
        }
    }

    #[test]
    fn silence_is_looked_into_for_a_moment_every_ten_seconds() {
        let mut lookout = Lookout::default();
        lookout.hear(at(1_000));
        let mut begun = Vec::new();
        let mut looking = 0;
        let mut is_on = false;
        for now in 1_000..61_000 {
            match lookout.order(at(now), SILENCE, LENGTH) {
                Some(Order::Begin) => {
                    begun.push(now);
                    is_on = true;
                }
                Some(Order::End) => is_on = false,
                None => looking += u64::from(is_on),
            }
        }
        assert_eq!(begun, [1_200, 11_200, 21_200, 31_200, 41_200, 51_200]);
        assert!(looking < 6 * 250, "{looking} ms of 60 s");
    }

    #[test]
    fn adverts_on_the_wire_count_only_if_the_socket_got_none_meanwhile() {
        for (hears, seen, expected) in [(false, 2, true), (false, 0, false), (true, 2, false)] {
            let mut lookout = Lookout::default();
            assert_eq!(lookout.order(at(1_000), SILENCE, LENGTH), Some(Order::Begin));
            if hears {
                lookout.hear(at(1_100));
            }
            assert_eq!(lookout.order(at(1_250), SILENCE, LENGTH), Some(Order::End));
            assert!(lookout.awaits_result());
            assert_eq!(lookout.judge(seen), expected);
            assert!(!lookout.judge(9), "one result a look");
        }
    }

    #[test]
    fn the_third_late_advert_within_a_minute_is_a_condition() {
        let mut lateness = Lateness::default();
        assert_eq!([1, 2, 3].map(|second| lateness.add(at(second * 1_000))), [false, false, true]);
        let mut rare = Lateness::default();
        assert!([1, 2, 3, 4].into_iter().all(|minute| !rare.add(at(minute * 60_000))));
    }
}
