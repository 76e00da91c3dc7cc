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

/// A duel or a drained queue must not become a storm, whatever is configured.
const CONTEST_PERIOD_MIN: Duration = Duration::from_secs(1);

/// The pending announcements of one Active. One is sent at creation, by whoever creates this.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    started: Time,
    /// The step of the burst that is next; beyond its end once only the refresh is left.
    step: usize,
    next: Option<Time>,
    echo: Option<Echo>,
    /// Losing adverts before this moment add no announcement of their own.
    quiet_until: Time,
}

/// The rest of the announcements after a losing advert.
#[derive(Debug, Clone, Copy)]
struct Echo {
    started: Time,
    step: usize,
    at: Time,
}

impl Pending {
    /// The whole burst, as after a take-over.
    pub(super) fn burst(plan: &Announcing, now: Time) -> Pending {
        let mut pending = Pending { started: now, step: 1, next: None, echo: None, quiet_until: Time::default() };
        pending.advance(plan, now);
        pending
    }

    /// Only the refresh, as after a stall nobody noticed.
    pub(super) fn refresh(plan: &Announcing, now: Time) -> Pending {
        let next = plan.refresh.map(|period| now.plus(period));
        Pending { started: now, step: usize::MAX, next, echo: None, quiet_until: Time::default() }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        [self.next, self.echo.map(|echo| echo.at)].into_iter().flatten().min()
    }

    /// Whether an announcement is due; a late call takes all that are due as one.
    pub(super) fn take_due(&mut self, plan: &Announcing, now: Time) -> bool {
        let echoes = self.echo.take_if(|echo| echo.at <= now);
        if let Some(echo) = echoes {
            self.quiet_until = now.plus(contest_period(plan));
            self.echo = echo.following(plan, now);
        }
        let steps = self.next.is_some_and(|next| next <= now);
        if steps {
            self.advance(plan, now);
        }
        echoes.is_some() || steps
    }

    /// A losing advert was heard: whether to announce at once.
    pub(super) fn contest(&mut self, plan: &Announcing, now: Time) -> bool {
        if plan.after_losing_advert.is_empty() {
            return false;
        }
        if now < self.quiet_until {
            let last = Echo { started: now, step: usize::MAX, at: self.quiet_until };
            self.echo.get_or_insert(last);
            return false;
        }
        self.quiet_until = now.plus(contest_period(plan));
        self.echo = Echo { started: now, step: 0, at: now }.following(plan, now);
        true
    }

    /// Moves `next` past `now`.
    fn advance(&mut self, plan: &Announcing, now: Time) {
        while let Some(moment) = plan.after_take_over.get(self.step) {
            self.step += 1;
            let next = self.started.plus(*moment);
            if next > now {
                self.next = Some(next);
                return;
            }
        }
        self.next = plan.refresh.map(|period| now.plus(period));
    }
}

impl Echo {
    /// The first one after `now`, if any.
    fn following(self, plan: &Announcing, now: Time) -> Option<Echo> {
        let moments = plan.after_losing_advert.iter().enumerate().skip(self.step.saturating_add(1));
        let mut later = moments.map(|(step, moment)| Echo { step, at: self.started.plus(*moment), ..self });
        later.find(|echo| echo.at > now)
    }
}

/// How long after a losing advert further ones add nothing.
fn contest_period(plan: &Announcing) -> Duration {
    plan.after_losing_advert.last().copied().unwrap_or_default().max(CONTEST_PERIOD_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(milliseconds * 1_000_000)
    }

    /// Milliseconds of all announcements before `end`, with a losing advert every `contested` ms in the given range.
    fn moments(plan: &Announcing, contested: std::ops::Range<u64>, every: usize, end: u64) -> Vec<u64> {
        let mut pending = Pending::burst(plan, at(0));
        let mut seen = vec![0];
        for now in 1..end {
            if contested.clone().step_by(every).any(|moment| moment == now) && pending.contest(plan, at(now)) {
                seen.push(now);
            }
            if pending.deadline().is_some_and(|deadline| deadline <= at(now)) && pending.take_due(plan, at(now)) {
                seen.push(now);
            }
        }
        seen
    }

    #[test]
    fn the_default_schedule_is_a_thinning_burst_and_a_refresh_a_minute() {
        let expected = [0, 50, 200, 1_100, 3_000, 8_000, 68_000, 128_000];
        assert_eq!(moments(&Announcing::default(), 0..0, 1, 130_000), expected);
    }

    #[test]
    fn without_refresh_the_burst_is_all() {
        let plan = Announcing { refresh: None, ..Announcing::default() };
        assert_eq!(moments(&plan, 0..0, 1, 130_000).len(), 6);
    }

    #[test]
    fn a_losing_advert_is_answered_now_and_once_more() {
        let plan = Announcing { after_take_over: Vec::new(), ..Announcing::default() };
        assert_eq!(moments(&plan, 500..501, 1, 10_000), [0, 500, 1_600]);
    }

    #[test]
    fn a_duel_at_any_rate_is_answered_once_a_period() {
        let plan = Announcing { after_take_over: Vec::new(), ..Announcing::default() };
        for every in [1, 10, 100] {
            let seen = moments(&plan, 500..10_500, every, 20_000);
            assert!((9..=11).contains(&(seen.len() - 1)), "{seen:?}");
            assert!(seen.windows(2).all(|pair| pair[1] - pair[0] >= 500), "{seen:?}");
        }
        let hasty = Announcing { after_losing_advert: vec![Duration::ZERO], ..plan };
        let seen = moments(&hasty, 500..10_500, 1, 20_000);
        assert!(seen.len() <= 12, "at most one a second: {seen:?}");
    }

    #[test]
    fn a_late_call_takes_everything_due_as_one() {
        let plan = Announcing::default();
        let mut pending = Pending::burst(&plan, at(0));
        assert!(pending.contest(&plan, at(1)));
        assert!(pending.take_due(&plan, at(5_000)));
        assert!(!pending.take_due(&plan, at(5_001)));
        assert_eq!(pending.deadline(), Some(at(8_000)));
    }

    #[test]
    fn keepalived_s_way_of_saying_it_gives_two_bursts() {
        let list = Announcing::repeated(3, Duration::from_secs(5));
        let milliseconds: Vec<_> = list.iter().map(Duration::as_millis).collect();
        assert_eq!(milliseconds, [0, 20, 40, 5_000, 5_020, 5_040]);
        assert_eq!(Announcing::repeated(1, Duration::ZERO), [Duration::ZERO]);
        assert!(Announcing::repeated(0, Duration::from_secs(5)).is_empty());
    }
}
