//! When an Active announces its addresses: a burst after take-over, a slow refresh, and answers to losing adverts.

use crate::params::Time;
use std::time::Duration;

/// When the addresses are announced, and how fast.
///
/// Moments are counted from what they follow and rise; at each one, every address is announced once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcing {
    /// After a take-over. The first one is due with it, whatever it says.
    pub after_take_over: Vec<Duration>,
    /// After an advert that loses against ours. Losing adverts within the last of these moments add nothing.
    pub after_losing_advert: Vec<Duration>,
    /// From then on for ever; the only cure when a loser's announcement was the last one a switch or host has seen and
    /// nobody told us. None: never.
    pub refresh: Option<Duration>,
    /// Frames of one router at most. Adverts do not wait for announcements, whatever this says. At least 1.
    pub frames_per_second: u32,
}

impl Default for Announcing {
    /// The early ones cover frames lost while switches relearn, 1.1 s passes the Linux neighbour table's `locktime` of
    /// one second, the late ones reach hosts and ports that were just coming up.
    fn default() -> Announcing {
        let moments = |list: &[u64]| list.iter().copied().map(Duration::from_millis).collect();
        Announcing {
            after_take_over: moments(&[0, 50, 200, 1_100, 3_000, 8_000]),
            after_losing_advert: moments(&[0, 1_100]),
            refresh: Some(Duration::from_secs(60)),
            frames_per_second: 1_000,
        }
    }
}

impl Announcing {
    /// keepalived's way of saying it: `repeat` times now and as often after `delay` (`garp_master_repeat`,
    /// `garp_master_delay`; the `lower_prio` ones alike). Not back to back but [`REPEAT_SPACING`] apart, because what
    /// loses one frame loses its neighbour too.
    pub fn repeated(repeat: u8, delay: Duration) -> Vec<Duration> {
        let burst = |from: Duration| (0..u32::from(repeat)).map(move |n| from + REPEAT_SPACING * n);
        let second = burst(delay.max(REPEAT_SPACING * u32::from(repeat)));
        burst(Duration::ZERO).chain(second.filter(|_| !delay.is_zero())).collect()
    }
}

/// Between the frames of [`Announcing::repeated`].
const REPEAT_SPACING: Duration = Duration::from_millis(20);

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
pub(super) struct Pending {
    /// Remaining steps of the burst; empty once only the refresh is left.
    burst: &'static [Duration],
    started: Time,
    next: Time,
    echo: Option<Time>,
    /// Losing adverts before this moment add no announcement of their own.
    quiet_until: Time,
}

impl Pending {
    /// The whole burst, as after a take-over.
    pub(super) fn burst(now: Time) -> Pending {
        let mut announcing =
            Pending { burst: &SCHEDULE, started: now, next: now, echo: None, quiet_until: Time::default() };
        announcing.advance(now);
        announcing
    }

    /// Only the refresh, as after a stall nobody noticed.
    pub(super) fn refresh(now: Time) -> Pending {
        Pending { burst: &[], started: now, next: now.plus(REFRESH), echo: None, quiet_until: Time::default() }
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
