//! How slowly a client may send the body of a request. An idle timeout alone lets it send a byte a minute for ever.
//!
//! Time is what a client has: waiting for it spends it, every `rate` bytes are worth a second, and it never has more than
//! the idle timeout and a window together. So a body that keeps up the rate never ends, one that pauses may pause for as
//! long as anybody, and one below the rate is over soon. Time that we or the server take is not the client's.

use crate::config::settings::UploadRate;
use std::time::Duration;

/// What one upload has left.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    rate: Option<UploadRate>,
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
    pub fn new(rate: Option<UploadRate>, idle_max: Duration) -> Allowance {
        let left = idle_max.saturating_add(rate.map_or(Duration::ZERO, |rate| rate.window));
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
        let earned_ns = (bytes as u128 * 1_000_000_000) / u128::from(rate.bytes_per_second.max(1));
        let earned = Duration::from_nanos(u64::try_from(earned_ns).unwrap_or(u64::MAX));
        let max = self.idle_max.saturating_add(rate.window);
        self.left = self.left.saturating_sub(waited).saturating_add(earned).min(max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const RATE: UploadRate = UploadRate { bytes_per_second: 1024, window: Duration::from_secs(30) };

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

    #[test]
    fn extremes_do_not_overflow() {
        for rate in [0, 1, u64::MAX] {
            let rate = UploadRate { bytes_per_second: rate, window: Duration::MAX };
            let mut allowance = Allowance::new(Some(rate), Duration::MAX);
            allowance.received(Duration::MAX, usize::MAX);
            allowance.received(Duration::ZERO, usize::MAX);
            let _ = allowance.patience();
        }
    }
}
