//! A planned hand-over of all virtual addresses, as a value.
//!
//! ```text
//! Asking --Prepared--> Releasing (sheltered) --(no address left)--> done: TakenOver
//!   '--NotPrepared, time over--> Draining --(drained | time over)--> Releasing --'
//!                                               |--(refused)--> offered again
//!                                               '--(time over)--> done: NobodyTookOver
//! ```
//!
//! Asking: the peer is asked to forward what it does not own, so that open connections survive the move and nothing
//! needs to drain first (`control::forward`). Where that is impossible, connections become idle before the move.
//! The speaker keeps every address until it hears the peer (priority 0 was advertised), so a hand-over that nobody
//! answers costs nothing. One input, then obey the answered step.

use lyre_vrrp::params::Time;
use std::time::Duration;

/// Time for connections to become idle before the address moves.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);
/// Time for the peer to say whether it forwards; it is one round trip and a system call away.
const ASK_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The peer forwards connections that are not its own from now on.
    Prepared,
    /// The peer cannot, or cannot be asked.
    NotPrepared,
    /// The worker has nothing in flight any more, or there is no worker.
    Drained,
    /// This many routers are Active here now.
    Active {
        routers: usize,
    },
    /// The speaker gave up waiting for a peer. It counts in adverts: a short standstill of the machine is enough.
    Refused,
    Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Close connections as they become idle.
    Drain,
    /// Tell the speaker to advertise priority 0. Sheltered: first keep the addresses for the open connections.
    Release { is_sheltered: bool },
    /// As Release, but what belongs to the release was done.
    OfferAgain,
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
    Asking { until: Time },
    Draining { until: Time },
    Releasing { since: Time, until: Time },
}

#[derive(Debug)]
pub struct HandOver {
    phase: Phase,
    drain: Duration,
    /// How long a peer may take after the release.
    answer_time: Duration,
}

impl HandOver {
    /// Starts by asking the peer; the caller has sent the question, or hands in [`Input::NotPrepared`] next.
    pub fn start(now: Time, drain: Duration, answer_time: Duration) -> HandOver {
        HandOver { phase: Phase::Asking { until: now.plus(ASK_TIME) }, drain, answer_time }
    }

    /// When to hand in [`Input::Tick`].
    pub fn deadline(&self) -> Time {
        match self.phase {
            Phase::Asking { until } | Phase::Draining { until } | Phase::Releasing { until, .. } => until,
        }
    }

    pub fn handle(&mut self, now: Time, input: Input) -> Option<Step> {
        match (self.phase, input) {
            (Phase::Asking { .. }, Input::Prepared) => Some(self.release(now, true)),
            (Phase::Asking { .. }, Input::NotPrepared) => Some(self.drain(now)),
            (Phase::Asking { until }, Input::Tick) if now >= until => Some(self.drain(now)),
            (Phase::Draining { .. }, Input::Drained) => Some(self.release(now, false)),
            (Phase::Draining { until }, Input::Tick) if now >= until => Some(self.release(now, false)),
            // Lost to a peer meanwhile: nothing is left to hand over, so it took no time.
            (Phase::Asking { .. } | Phase::Draining { .. }, Input::Active { routers: 0 }) => {
                Some(Step::Done(Outcome::TakenOver { after: Duration::ZERO }))
            }
            (Phase::Releasing { since, .. }, Input::Active { routers: 0 }) => {
                Some(Step::Done(Outcome::TakenOver { after: now.since(since) }))
            }
            (Phase::Releasing { until, .. }, Input::Refused) if now < until => Some(Step::OfferAgain),
            (Phase::Releasing { .. }, Input::Refused) => Some(Step::Done(Outcome::NobodyTookOver)),
            (Phase::Releasing { until, .. }, Input::Tick) if now >= until => Some(Step::Done(Outcome::NobodyTookOver)),
            (Phase::Asking { .. }, Input::Active { .. } | Input::Tick | Input::Refused | Input::Drained)
            | (
                Phase::Draining { .. },
                Input::Active { .. } | Input::Tick | Input::Refused | Input::Prepared | Input::NotPrepared,
            )
            | (
                Phase::Releasing { .. },
                Input::Active { .. } | Input::Tick | Input::Drained | Input::Prepared | Input::NotPrepared,
            ) => None,
        }
    }

    fn drain(&mut self, now: Time) -> Step {
        self.phase = Phase::Draining { until: now.plus(self.drain) };
        Step::Drain
    }

    fn release(&mut self, now: Time, is_sheltered: bool) -> Step {
        self.phase = Phase::Releasing { since: now, until: now.plus(self.answer_time) };
        Step::Release { is_sheltered }
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
    fn with_a_peer_that_forwards_the_address_moves_at_once() {
        let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
        assert_eq!(hand_over.handle(at(0), Input::Active { routers: 2 }), None);
        assert_eq!(hand_over.handle(at(2), Input::Prepared), Some(Step::Release { is_sheltered: true }));
        assert_eq!(hand_over.handle(at(3), Input::Active { routers: 1 }), None);
        let done = Step::Done(Outcome::TakenOver { after: Duration::from_millis(4) });
        assert_eq!(hand_over.handle(at(6), Input::Active { routers: 0 }), Some(done));
    }

    #[test]
    fn a_peer_that_cannot_forward_or_does_not_answer_means_draining_first() {
        for (when, input) in [(1, Input::NotPrepared), (500, Input::Tick)] {
            let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
            assert_eq!(hand_over.handle(at(0), Input::Tick), None);
            assert_eq!(hand_over.handle(at(when), input), Some(Step::Drain));
            assert_eq!(hand_over.handle(at(700), Input::Prepared), None, "too late: it was counted out");
            assert_eq!(hand_over.handle(at(800), Input::Drained), Some(Step::Release { is_sheltered: false }));
            let done = Step::Done(Outcome::TakenOver { after: Duration::from_millis(4) });
            assert_eq!(hand_over.handle(at(804), Input::Active { routers: 0 }), Some(done));
        }
    }

    #[test]
    fn a_drain_that_never_ends_is_cut() {
        let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
        hand_over.handle(at(0), Input::NotPrepared);
        assert_eq!(hand_over.handle(at(9_999), Input::Tick), None);
        assert_eq!(hand_over.deadline(), at(10_000));
        assert_eq!(hand_over.handle(at(10_000), Input::Tick), Some(Step::Release { is_sheltered: false }));
        assert_eq!(hand_over.deadline(), at(11_000));
    }

    #[test]
    fn without_a_peer_nothing_moves() {
        for input in [Input::Refused, Input::Tick] {
            let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
            hand_over.handle(at(0), Input::NotPrepared);
            hand_over.handle(at(0), Input::Drained);
            assert_eq!(hand_over.handle(at(1000), input), Some(Step::Done(Outcome::NobodyTookOver)));
        }
    }

    #[test]
    fn an_offer_that_nobody_took_is_made_again_while_there_is_time() {
        let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
        hand_over.handle(at(0), Input::Prepared);
        for ms in [90, 180] {
            assert_eq!(hand_over.handle(at(ms), Input::Refused), Some(Step::OfferAgain));
        }
        let done = Step::Done(Outcome::TakenOver { after: Duration::from_millis(185) });
        assert_eq!(hand_over.handle(at(185), Input::Active { routers: 0 }), Some(done));
    }

    #[test]
    fn a_node_that_lost_its_addresses_meanwhile_is_done() {
        for input in [None, Some(Input::NotPrepared)] {
            let mut hand_over = HandOver::start(at(0), DRAIN_TIME, ANSWER);
            input.map(|input| hand_over.handle(at(0), input));
            let done = Step::Done(Outcome::TakenOver { after: Duration::ZERO });
            assert_eq!(hand_over.handle(at(5), Input::Active { routers: 0 }), Some(done));
        }
    }
}
