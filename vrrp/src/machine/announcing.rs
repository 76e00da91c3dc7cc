//! When an Active announces its addresses: a burst after take-over, a slow refresh, and answers to losing adverts.

use crate::params::Time;
use std::time::Duration;

/// After take-over, counted from it. The early ones cover frames lost while switches relearn, 1.1 s passes the Linux
/// neighbour table's `locktime` of one second, the late ones reach hosts and ports that were just coming up.
const SCHEDULE: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(1_100),
    Duration::from_millis(3_000),
    Duration::from_millis(8_000),
];

/// For ever after: the only cure when a loser's announcement was the last one a switch or host has seen and nobody
/// told us.
const REFRESH: Duration = Duration::from_secs(60);

/// A losing advert is answered by one announcement now and one this much later, and never more often than that:
/// a duel or a drained queue must not become a storm.
const ECHO: Duration = Duration::from_millis(1_100);

/// The pending announcements of one Active. One is sent at creation, by whoever creates this.
#[derive(Debug, Clone)]
pub(super) struct Announcing {
    /// Remaining steps of the burst; empty once only the refresh is left.
    burst: &'static [Duration],
    started: Time,
    next: Time,
    echo: Option<Time>,
    /// Losing adverts before this moment add no announcement of their own.
    quiet_until: Time,
}

impl Announcing {
    /// The whole burst, as after a take-over.
    pub(super) fn burst(now: Time) -> Announcing {
        let mut announcing =
            Announcing { burst: &SCHEDULE, started: now, next: now, echo: None, quiet_until: Time::default() };
        announcing.advance(now);
        announcing
    }

    /// Only the refresh, as after a stall nobody noticed.
    pub(super) fn refresh(now: Time) -> Announcing {
        Announcing { burst: &[], started: now, next: now.plus(REFRESH), echo: None, quiet_until: Time::default() }
    }

    pub(super) fn deadline(&self) -> Time {
        self.echo.map_or(self.next, |echo| echo.min(self.next))
    }

    /// Whether an announcement is due; a late call takes all that are due as one.
    pub(super) fn take_due(&mut self, now: Time) -> bool {
        let echoes = self.echo.is_some_and(|echo| echo <= now);
        if echoes {
            self.echo = None;
            self.quiet_until = now.plus(ECHO);
        }
        let steps = self.next <= now;
        if steps {
            self.advance(now);
        }
        echoes || steps
    }

    /// A losing advert was heard: whether to announce at once.
    pub(super) fn contest(&mut self, now: Time) -> bool {
        if now < self.quiet_until {
            self.echo.get_or_insert(self.quiet_until);
            return false;
        }
        self.quiet_until = now.plus(ECHO);
        self.echo = Some(self.quiet_until);
        true
    }

    /// Moves `next` past `now`.
    fn advance(&mut self, now: Time) {
        while let Some((step, rest)) = self.burst.split_first() {
            self.burst = rest;
            self.next = self.started.plus(*step);
            if self.next > now {
                return;
            }
        }
        self.next = now.plus(REFRESH);
    }
}
