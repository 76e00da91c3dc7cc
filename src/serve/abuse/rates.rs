//! Rates of many clients in a table of fixed size that all cores write without a lock.
//!
//! A client has one word: a tag of 18 bits and the state of [`Pace`] in 46 bits of four microseconds, enough for nine
//! years of uptime. Its set is one cache line of eight words. Where all eight are taken the one whose state is furthest in
//! the past gives way; as long as that is the past nothing is lost, since such a client starts anew anyway.
//! Two clients of one set share a tag once in 2^15 pairs; then they share a budget.

use crate::net::clock::now;
use crate::policy::rate::{Pace, ticks};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Sets of eight: 65,536 clients in 512 KiB, taken when the first rate is asked for.
const SETS: usize = 8192;
const STATE_BITS: u32 = 46;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;

/// Another core was faster this often in a row: the client is let through rather than the core held up.
const TRIES: usize = 4;

#[derive(Default)]
pub(super) struct Rates(OnceLock<Box<[Set]>>);

#[repr(align(64))]
#[derive(Default)]
struct Set([AtomicU64; 8]);

impl Rates {
    /// One more event of the client with this hash; whether it is within `pace`.
    pub(super) fn take(&self, hash: u64, pace: &Pace) -> bool {
        self.take_at(hash, pace, ticks(Duration::from_nanos(now().0)))
    }

    fn take_at(&self, hash: u64, pace: &Pace, now: u64) -> bool {
        let sets = self.0.get_or_init(|| (0..SETS).map(|_| Set::default()).collect());
        let Some(Set(words)) = sets.get(hash as usize % SETS) else { return true };
        // Not zero: that is an empty word.
        let tag = ((hash >> STATE_BITS) | 1) << STATE_BITS;
        let now = now & STATE_MASK;
        for _ in 0..TRIES {
            let Some((word, seen)) = find(words, tag) else { return true };
            let state = if seen & !STATE_MASK == tag { seen & STATE_MASK } else { 0 };
            let Some(next) = pace.step(state, now) else { return false };
            let wanted = tag | next.min(STATE_MASK);
            if word.compare_exchange(seen, wanted, Relaxed, Relaxed).is_ok() {
                return true;
            }
        }
        true
    }
}

/// The word with this tag and what it holds, or the one to overwrite.
fn find(words: &[AtomicU64; 8], tag: u64) -> Option<(&AtomicU64, u64)> {
    let mut oldest: Option<(&AtomicU64, u64)> = None;
    for word in words {
        let seen = word.load(Relaxed);
        if seen & !STATE_MASK == tag {
            return Some((word, seen));
        }
        if oldest.is_none_or(|(_, old)| seen & STATE_MASK < old & STATE_MASK) {
            oldest = Some((word, seen));
        }
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    const SECOND: u64 = 250_000;

    #[test]
    fn clients_have_budgets_of_their_own() {
        let (rates, pace) = (Rates::default(), Pace::new(10, 5));
        for client in 0..1000u64 {
            let hash = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let passed = (0..20).filter(|_| rates.take_at(hash, &pace, SECOND)).count();
            assert_eq!(passed, 5, "{client}");
        }
    }

    #[test]
    fn all_cores_together_give_a_client_its_budget_once() {
        let (rates, pace, passed) = (Rates::default(), Pace::new(1, 1000), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        passed.fetch_add(u32::from(rates.take_at(42, &pace, SECOND)), Relaxed);
                    }
                });
            }
        });
        // A core that was overtaken four times in a row lets one through.
        let passed = passed.into_inner();
        assert!((1000..1100).contains(&passed), "{passed}");
    }

    #[test]
    fn a_crowded_set_forgets_the_past_first() {
        let (rates, pace) = (Rates::default(), Pace::new(1, 2));
        // All of one set; tags differ.
        let hash = |client: u64| (client * 2 + 1) << STATE_BITS | 7;
        assert!(rates.take_at(hash(0), &pace, SECOND) && rates.take_at(hash(0), &pace, SECOND));
        for client in 1..8 {
            assert!(rates.take_at(hash(client), &pace, SECOND));
        }
        // Its two events are the furthest ahead, so it stays while others give way.
        for client in 8..100 {
            assert!(rates.take_at(hash(client), &pace, SECOND));
            assert!(!rates.take_at(hash(0), &pace, SECOND), "{client}");
        }
    }
}
