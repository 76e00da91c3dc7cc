//! From what the clients saw to the numbers of a fault. Pure.

use crate::demo::client::ledger::{Answer, Loss, Moment, Source};
use crate::demo::fault::{Bound, Fault};
use std::collections::BTreeMap;
use std::time::Duration;

/// One fault, measured from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub fault: Fault,
    pub survived: bool,
    /// Requests that got no complete, correct answer: refused, cut, answered with an error, or silent for
    /// [`crate::demo::client::ANSWER_TIMEOUT`]. Nobody retries, so nothing is hidden.
    pub lost_requests: u64,
    /// Longest time between two answers to the probe around the fault, less the probe's own interval.
    pub gap: Duration,
    /// The same silence in the half second before the fault: what the machine's own business adds to a gap.
    pub noise: Duration,
    /// From the fault (a planned move: from the take-over, which comes after a drain) to the moment the last of the
    /// broken long-lived connections learned of it, by an error or an end of stream, or by its own patience
    /// ([`crate::demo::client::STALL_TIMEOUT`]). `None`: none broke.
    pub long_lived_notice: Option<Duration>,
    /// Why it does not count as survived.
    pub complaint: Option<String>,
    /// What the lost requests died of.
    pub losses: BTreeMap<Loss, u64>,
}

/// What was seen between the fault and the end of its observation.
pub struct Observation<'a> {
    pub fault_at: Moment,
    /// What the long-lived connections had to learn of happened then.
    pub broken_at: Moment,
    /// The probe had been served again for a while.
    pub end: Moment,
    /// All that ended from a little before the fault on, in any order.
    pub answers: &'a [Answer],
    /// When each broken transfer learned of it.
    pub breaks: &'a [Moment],
    pub probe_interval: Duration,
    /// What went wrong besides the numbers.
    pub complaint: Option<String>,
}

/// Judges an observation by the fault's bound.
pub fn outcome(fault: Fault, bound: Bound, seen: &Observation<'_>) -> Outcome {
    let losses = losses(seen);
    let lost_requests = losses.values().sum();
    let gap = silence(seen, seen.end);
    let noise = silence(seen, seen.fault_at);
    let long_lived_notice = seen.breaks.iter().map(|at| at.saturating_sub(seen.broken_at)).max();
    let complaint = seen.complaint.clone().or_else(|| {
        if gap > bound.gap_max {
            Some(format!("no answer for {} ms, {} allowed", gap.as_millis(), bound.gap_max.as_millis()))
        } else if lost_requests > bound.lost_max {
            Some(format!("{lost_requests} requests lost, {} allowed", bound.lost_max))
        } else {
            None
        }
    });
    Outcome { fault, survived: complaint.is_none(), lost_requests, gap, noise, long_lived_notice, complaint, losses }
}

/// The longest time between two answers to the probe up to `end`, less the probe's interval. An outage that has not
/// ended by then counts up to there.
fn silence(seen: &Observation<'_>, end: Moment) -> Duration {
    let mut good: Vec<Moment> = seen
        .answers
        .iter()
        .filter(|answer| answer.source == Source::Probe && answer.outcome.is_ok() && answer.finished <= end)
        .map(|answer| answer.finished)
        .collect();
    good.push(end);
    good.sort();
    let before = good.first().copied().unwrap_or(end).min(seen.fault_at);
    let (_, longest) =
        good.into_iter().fold((before, Duration::ZERO), |(last, longest), at| (at, longest.max(at - last)));
    longest.saturating_sub(seen.probe_interval)
}

fn losses(seen: &Observation<'_>) -> BTreeMap<Loss, u64> {
    let mut counts = BTreeMap::new();
    for answer in seen.answers.iter().filter(|answer| answer.finished >= seen.fault_at) {
        if let Err(loss) = answer.outcome {
            *counts.entry(loss).or_default() += 1;
        }
    }
    counts
}

/// The value below which `percent` of `values` lie (nearest rank); the largest for 100. Zero of nothing.
pub fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn probe(finished: u64, outcome: Result<(), Loss>) -> Answer {
        Answer { source: Source::Probe, started: ms(finished - 1), finished: ms(finished), outcome }
    }

    fn observed<'a>(answers: &'a [Answer], breaks: &'a [Moment]) -> Observation<'a> {
        Observation {
            fault_at: ms(1000),
            broken_at: ms(1010),
            end: ms(1300),
            answers,
            breaks,
            probe_interval: ms(2),
            complaint: None,
        }
    }

    const BOUND: Bound = Bound { gap_max: Duration::from_millis(100), lost_max: 1 };

    /// Answers every 2 ms from 900 to 1300 but for (1000, 1050).
    fn with_hole() -> Vec<Answer> {
        (900..=1300).step_by(2).filter(|at| *at <= 1000 || *at >= 1050).map(|at| probe(at, Ok(()))).collect()
    }

    #[test]
    fn the_gap_is_the_longest_silence_less_the_probe_interval() {
        let outcome = outcome(Fault::Cable, BOUND, &observed(&with_hole(), &[]));
        assert_eq!(outcome.gap, ms(48));
        assert!(outcome.survived);
        assert_eq!(outcome.noise, Duration::ZERO);
        assert_eq!(outcome.long_lived_notice, None);
    }

    #[test]
    fn losses_and_keepalive_answers_do_not_shorten_the_gap() {
        let mut answers = with_hole();
        answers.push(probe(1020, Err(Loss::Cut)));
        answers.push(Answer { source: Source::KeepAlive, ..probe(1030, Ok(())) });
        let outcome = outcome(Fault::Cable, BOUND, &observed(&answers, &[]));
        assert_eq!((outcome.gap, outcome.lost_requests), (ms(48), 1));
    }

    #[test]
    fn a_service_that_never_came_back_is_a_gap_to_the_end() {
        let answers: Vec<Answer> = (900..=1000).step_by(2).map(|at| probe(at, Ok(()))).collect();
        let outcome = outcome(Fault::Cable, BOUND, &observed(&answers, &[]));
        assert_eq!(outcome.gap, ms(298));
        assert!(!outcome.survived);
    }

    #[test]
    fn one_loss_too_many_is_not_survived_and_says_so() {
        let mut answers = with_hole();
        answers.extend([probe(1020, Err(Loss::Cut)), probe(1021, Err(Loss::Status(503)))]);
        let outcome = outcome(Fault::Cable, BOUND, &observed(&answers, &[]));
        assert!(!outcome.survived);
        assert_eq!(outcome.complaint.as_deref(), Some("2 requests lost, 1 allowed"));
    }

    #[test]
    fn the_slowest_of_the_broken_transfers_counts() {
        let outcome = outcome(Fault::Cable, BOUND, &observed(&with_hole(), &[ms(1040), ms(1090)]));
        assert_eq!(outcome.long_lived_notice, Some(ms(80)));
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<Duration> = (1..=20).map(ms).collect();
        assert_eq!([50, 95, 100].map(|percent| percentile(&values, percent)), [ms(10), ms(19), ms(20)]);
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
