//! A planned hand-over of all virtual addresses, as a value: drain, release, wait for the peer, come back.
//!
//! ```text
//! Draining --(drained | drain time over)--> Releasing --(no address left)--> done: TakenOver
//!                                               '------(time over, refused)--> done: NobodyTookOver
//! ```
//!
//! The speaker keeps every address until it hears the peer (priority 0 was advertised), so a hand-over that nobody
//! answers costs nothing. One input, then obey the answered steps in order.

use lyre_vrrp::params::Time;
use std::time::Duration;

/// Time for connections to become idle before the address moves.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The worker has nothing in flight any more, or there is no worker.
    Drained,
    /// This many routers are Active here now.
    Active {
        routers: usize,
    },
    /// The speaker gave up waiting for a peer.
    Refused,
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tell the speaker to advertise priority 0.
    Release,
    /// Over; call nothing any more.
    Done(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A peer has every address; `after` the release.
    TakenOver { after: Duration },
    /// Nobody took (all of) them; whatever was kept is still here.
    NobodyTookOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Draining { until: Time },
    Releasing { since: Time, until: Time },
}

#[derive(Debug)]
pub struct HandOver {
    phase: Phase,
    /// How long a peer may take after the release.
    answer_time: Duration,
}

impl HandOver {
    /// Starts by draining for at most `drain`; the caller has told the worker to.
    pub fn start(now: Time, drain: Duration, answer_time: Duration) -> HandOver {
        HandOver { phase: Phase::Draining { until: now.plus(drain) }, answer_time }
    }

    /// When to hand in [`Input::Tick`].
    pub fn deadline(&self) -> Time {
        match self.phase {
            Phase::Draining { until } | Phase::Releasing { until, .. } => until,
        }
    }

    pub fn handle(&mut self, now: Time, input: Input) -> Option<Step> {
        match (self.phase, input) {
            (Phase::Draining { .. }, Input::Drained) => Some(self.release(now)),
            (Phase::Draining { until }, Input::Tick) if now >= until => Some(self.release(now)),
            // Lost to a peer meanwhile: nothing is left to hand over, but the drain was asked for, so the time is zero.
            (Phase::Draining { .. }, Input::Active { routers: 0 }) => {
                Some(Step::Done(Outcome::TakenOver { after: Duration::ZERO }))
            }
            (Phase::Releasing { since, .. }, Input::Active { routers: 0 }) => {
                Some(Step::Done(Outcome::TakenOver { after: now.since(since) }))
            }
            (Phase::Releasing { .. }, Input::Refused) => Some(Step::Done(Outcome::NobodyTookOver)),
            (Phase::Releasing { until, .. }, Input::Tick) if now >= until => Some(Step::Done(Outcome::NobodyTookOver)),
            (Phase::Draining { .. }, Input::Active { .. } | Input::Tick | Input::Refused)
            | (Phase::Releasing { .. }, Input::Active { .. } | Input::Tick | Input::Drained) => None,
        }
    }

    fn release(&mut self, now: Time) -> Step {
        self.phase = Phase::Releasing { since: now, until: now.plus(self.answer_time) };
        Step::Release
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn the_address_is_released_once_drained_and_the_peer_ends_it() {
        let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
        assert_eq!(hand_over.handle(at(10), Input::Active { routers: 2 }), None);
        assert_eq!(hand_over.handle(at(300), Input::Drained), Some(Step::Release));
        assert_eq!(hand_over.handle(at(301), Input::Active { routers: 1 }), None);
        let done = Step::Done(Outcome::TakenOver { after: Duration::from_millis(4) });
        assert_eq!(hand_over.handle(at(304), Input::Active { routers: 0 }), Some(done));
    }

    #[test]
    fn a_drain_that_never_ends_is_cut() {
        let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
        assert_eq!(hand_over.handle(at(9_999), Input::Tick), None);
        assert_eq!(hand_over.deadline(), at(10_000));
        assert_eq!(hand_over.handle(at(10_000), Input::Tick), Some(Step::Release));
        assert_eq!(hand_over.deadline(), at(11_000));
    }

    #[test]
    fn without_a_peer_nothing_moves() {
        for input in [Input::Refused, Input::Tick] {
            let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
            hand_over.handle(at(0), Input::Drained);
            assert_eq!(hand_over.handle(at(1000), input), Some(Step::Done(Outcome::NobodyTookOver)));
        }
    }
}
