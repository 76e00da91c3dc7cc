//! How slowly a client may send the body of a request, or take that of a response. An idle timeout alone lets it move a
//! byte a minute for ever.
//!
//! Time is what a client has: waiting for it spends it, every `rate` bytes are worth a second, and it never has more than
//! the idle timeout and a window together. So a body that keeps up the rate never ends, one that pauses may pause for as
//! long as anybody, and one below the rate is over soon. Time that we or the server take is not the client's.

use crate::config::settings::LeastRate;
use std::time::Duration;

/// What one upload has left.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    rate: Option<LeastRate>,
    idle_max: Duration,
    left: Duration,
}

/// How long the next bytes may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as anybody may be silent.
    Idle(Duration),
    /// Less: the client was too slow before.
    Slow(Duration),
}

impl Patience {
    pub fn length(self) -> Duration {
        match self {
            Patience::Idle(length) | Patience::Slow(length) => length,
        }
    }
}

impl Allowance {
    /// `None` expects nothing but a byte in `idle_max`.
    pub fn new(rate: Option<LeastRate>, idle_max: Duration) -> Allowance {
        let left = rate.map_or(idle_max, |rate| credit_max(rate, idle_max));
        Allowance { rate, idle_max, left }
    }

    /// Of silence.
    pub fn idle_max(&self) -> Duration {
        self.idle_max
    }

    pub fn patience(&self) -> Patience {
        match self.rate {
            Some(_) if self.left < self.idle_max => Patience::Slow(self.left),
            Some(_) | None => Patience::Idle(self.idle_max),
        }
    }

    /// `bytes` came after a wait.
    pub fn received(&mut self, waited: Duration, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let max = credit_max(rate, self.idle_max);
        self.left = self.left.saturating_sub(waited).saturating_add(earned(rate, bytes as u64)).min(max);
    }
}

/// Looks at a client that keeps us waiting, so often at least: its time is counted in such steps, and its silence.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// No look is due sooner.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// What one download has left. Here the client moves the bytes while we wait, so it is looked at meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Download {
    rate: Option<LeastRate>,
    idle_max: Duration,
    left: Duration,
    /// For how long it has taken nothing.
    silent: Duration,
}

/// It was waited for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It took no byte for the idle timeout.
    Silent,
    /// It took some, and too few.
    Slow,
}

impl Download {
    /// `None` expects nothing but a byte in `idle_max`.
    pub fn new(rate: Option<LeastRate>, idle_max: Duration) -> Download {
        let left = rate.map_or(Duration::ZERO, |rate| credit_max(rate, idle_max));
        Download { rate, idle_max, left, silent: Duration::ZERO }
    }

    /// How long to wait until the client is looked at again.
    pub fn look(&self) -> Duration {
        // An eighth, so that "no byte in `idle_max`" is not off by much.
        LOOK_MAX.min(self.idle_max / 8).max(LOOK_MIN)
    }

    /// The client was waited for `waited`, and took `bytes` meanwhile.
    pub fn taken(&mut self, waited: Duration, bytes: u64) -> Result<(), Late> {
        self.silent = if bytes > 0 { Duration::ZERO } else { self.silent.saturating_add(waited) };
        if self.silent >= self.idle_max {
            return Err(Late::Silent);
        }
        let Some(rate) = self.rate else { return Ok(()) };
        let max = credit_max(rate, self.idle_max);
        if waited.is_zero() && self.left == max {
            return Ok(());
        }
        self.left = self.left.saturating_add(earned(rate, bytes)).saturating_sub(waited).min(max);
        if self.left.is_zero() && !waited.is_zero() { Err(Late::Slow) } else { Ok(()) }
    }
}

/// A pause that is allowed, and then the window.
fn credit_max(rate: LeastRate, idle_max: Duration) -> Duration {
    idle_max.saturating_add(rate.window)
}

/// The time that `bytes` are worth.
fn earned(rate: LeastRate, bytes: u64) -> Duration {
    let earned_ns = (u128::from(bytes) * 1_000_000_000) / u128::from(rate.bytes_per_second.max(1));
    Duration::from_nanos(u64::try_from(earned_ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const RATE: LeastRate = LeastRate { bytes_per_second: 1024, window: Duration::from_secs(30) };

    /// Sends pieces of (seconds waited, bytes) in turn; answers after how many seconds it was over, if it was.
    fn send(pieces: impl IntoIterator<Item = (f64, usize)>) -> Option<(u64, Patience)> {
        let mut allowance = Allowance::new(Some(RATE), 60 * S);
        let mut passed = Duration::ZERO;
        for (waited, bytes) in pieces {
            let waited = Duration::from_secs_f64(waited);
            let patience = allowance.patience();
            if waited >= patience.length() {
                return Some(((passed + patience.length()).as_secs(), patience));
            }
            passed += waited;
            allowance.received(waited, bytes);
        }
        None
    }

    #[test]
    fn a_body_below_the_rate_is_over_after_pause_and_window() {
        let (seconds, patience) = send(std::iter::repeat_n((1.0, 1), 1000)).unwrap();
        assert!(seconds == 90 && matches!(patience, Patience::Slow(_)), "{seconds} {patience:?}");
        // A byte just before each idle timeout gains nothing.
        let (seconds, patience) = send(std::iter::repeat_n((59.0, 1), 1000)).unwrap();
        assert!(seconds == 90 && matches!(patience, Patience::Slow(_)), "{seconds} {patience:?}");
        // Half the rate lasts twice as long.
        let (seconds, _) = send(std::iter::repeat_n((1.0, 512), 10_000)).unwrap();
        assert!((177..=180).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_body_at_the_rate_is_never_over() {
        assert_eq!(send(std::iter::repeat_n((1.0, 1024), 100_000)), None);
        assert_eq!(send(std::iter::repeat_n((20.0, 20 * 1024), 10_000)), None);
        // Mobile: short bursts, long holes.
        assert_eq!(send(std::iter::repeat_n([(0.1, 200_000), (55.0, 1)], 1_000).flatten()), None);
    }

    #[test]
    fn silence_is_the_idle_timeouts_matter() {
        assert_eq!(send([(60.0, 1)]), Some((60, Patience::Idle(60 * S))));
        assert_eq!(send([(59.9, 64 << 10), (59.9, 64 << 10), (61.0, 1)]).unwrap().1, Patience::Idle(60 * S));
    }

    #[test]
    fn a_pause_costs_what_it_lasted_until_it_was_earned_back() {
        assert_eq!(send([(59.0, 1), (31.5, 1)]).unwrap().0, 90);
        assert_eq!(send([(59.0, 1), (0.0, 59 << 10), (59.0, 1)]), None);
    }

    #[test]
    fn nothing_is_expected_without_a_rate() {
        let mut allowance = Allowance::new(None, 60 * S);
        for _ in 0..1000 {
            allowance.received(59 * S, 1);
            assert_eq!(allowance.patience(), Patience::Idle(60 * S));
        }
    }

    const DOWN: LeastRate = LeastRate { bytes_per_second: 256, window: Duration::from_secs(60) };

    /// Takes `bytes` a second; answers after how many seconds it was over, if it was.
    fn take(pieces: impl IntoIterator<Item = u64>) -> Option<(u64, Late)> {
        let mut download = Download::new(Some(DOWN), 60 * S);
        (1..).zip(pieces).find_map(|(second, bytes)| Some((second, download.taken(S, bytes).err()?)))
    }

    #[test]
    fn a_client_that_takes_too_little_is_late_after_pause_and_window_and_a_silent_one_sooner() {
        assert_eq!(take(std::iter::repeat_n(1, 1000)), Some((121, Late::Slow)));
        assert_eq!(take(std::iter::repeat_n(0, 1000)), Some((60, Late::Silent)));
        // A byte just before each idle timeout gains nothing.
        let seldom = std::iter::repeat_n(std::iter::repeat_n(0, 58).chain([1]), 100).flatten();
        assert_eq!(take(seldom), Some((121, Late::Slow)));
        // Half the rate lasts twice as long.
        assert_eq!(take(std::iter::repeat_n(128, 1000)), Some((240, Late::Slow)));
    }

    #[test]
    fn a_client_that_takes_enough_on_average_is_never_late() {
        assert_eq!(take(std::iter::repeat_n(256, 100_000)), None);
        // A window that opens by 64 KiB only, minutes of a second's bytes each.
        let lumps = std::iter::repeat_n(std::iter::repeat_n(0, 55).chain([64 << 10]), 1000).flatten();
        assert_eq!(take(lumps), None);
    }

    #[test]
    fn only_waiting_for_the_client_spends_its_time() {
        let mut download = Download::new(Some(DOWN), 60 * S);
        for _ in 0..100_000 {
            // Whatever came from the server was taken at once.
            assert_eq!(download.taken(Duration::ZERO, 10), Ok(()));
        }
        assert_eq!(download.taken(59 * S, 0), Ok(()));
        // Without a rate silence alone counts.
        let mut download = Download::new(None, 60 * S);
        for _ in 0..1000 {
            assert_eq!(download.taken(59 * S, 1), Ok(()));
        }
        assert_eq!(download.taken(60 * S, 0), Err(Late::Silent));
    }

    #[test]
    fn looks_are_neither_rare_nor_all_the_time() {
        let look = |idle_max| Download::new(Some(DOWN), idle_max).look();
        assert_eq!([look(60 * S), look(S), look(Duration::ZERO)], [S, S / 8, LOOK_MIN]);
    }

    #[test]
    fn extremes_do_not_overflow() {
        for rate in [0, 1, u64::MAX] {
            let rate = LeastRate { bytes_per_second: rate, window: Duration::MAX };
            let mut allowance = Allowance::new(Some(rate), Duration::MAX);
            allowance.received(Duration::MAX, usize::MAX);
            allowance.received(Duration::ZERO, usize::MAX);
            let _ = allowance.patience();
            let mut download = Download::new(Some(rate), Duration::MAX);
            let _ = (download.taken(Duration::MAX, u64::MAX), download.taken(S, 0), download.look());
        }
    }
}
