//! `garp_*`: keepalived repeats an announcement at once and again after a delay; Lyre has a list of moments.

use super::numbers;
use crate::import::findings::Findings;
use crate::import::keepalived::tree::Statement;

/// keepalived's defaults.
const REPEAT: u8 = 5;
const DELAY_MS: u64 = 5_000;

/// Repetitions are not sent back to back: what loses one frame loses its neighbour too.
const SPACING_MS: u64 = 20;

/// As many as `lyre check` takes, half of them for the second burst.
const REPEAT_MAX: u8 = 16;

/// As written, by `global_defs` or the instance.
#[derive(Default, Clone)]
pub(super) struct Garp {
    repeat: Option<u8>,
    delay_ms: Option<u64>,
    refresh_ms: Option<u64>,
    lower_repeat: Option<u8>,
    lower_delay_ms: Option<u64>,
    interval_ms: Option<u64>,
}

impl Garp {
    /// Takes a statement, with or without the `vrrp_` of `global_defs`; false if it is none of these.
    pub(super) fn read(&mut self, findings: &mut Findings, statement: &Statement) -> bool {
        let name = statement.name().strip_prefix("vrrp_").unwrap_or(statement.name());
        let argument = statement.argument(0);
        let count = || numbers::whole(argument, 0..=255).map(|count| count.min(REPEAT_MAX));
        let seconds = || numbers::seconds_ms(argument).map(|ms| ms.min(600_000));
        let (is_number, key) = match name {
            "garp_master_repeat" => (set(&mut self.repeat, count()), "after_take_over"),
            "garp_master_delay" => (set(&mut self.delay_ms, seconds()), "after_take_over"),
            "garp_master_refresh" => (set(&mut self.refresh_ms, numbers::seconds_ms(argument)), "refresh"),
            "garp_lower_prio_repeat" => (set(&mut self.lower_repeat, count()), "after_losing_advert"),
            "garp_lower_prio_delay" => (set(&mut self.lower_delay_ms, seconds()), "after_losing_advert"),
            "garp_interval" | "gna_interval" => {
                (set(&mut self.interval_ms, numbers::seconds_ms(argument)), "frames_per_second")
            }
            _ => return false,
        };
        match is_number {
            true => findings.mapped(statement, format!("vip.announce.{key}")),
            false => findings.refused(statement, "is no number"),
        }
        true
    }

    /// What is not said here is as in `global`.
    pub(super) fn or(&self, global: &Garp) -> Garp {
        Garp {
            repeat: self.repeat.or(global.repeat),
            delay_ms: self.delay_ms.or(global.delay_ms),
            refresh_ms: self.refresh_ms.or(global.refresh_ms),
            lower_repeat: self.lower_repeat.or(global.lower_repeat),
            lower_delay_ms: self.lower_delay_ms.or(global.lower_delay_ms),
            interval_ms: self.interval_ms.or(global.interval_ms),
        }
    }

    /// The line of `[[vip]]`; none where Lyre's own schedule is as good.
    pub(super) fn line(&self) -> Option<String> {
        let mut keys = Vec::new();
        let (repeat, delay) = (self.repeat.unwrap_or(REPEAT), self.delay_ms.unwrap_or(DELAY_MS));
        if self.repeat.is_some() || self.delay_ms.is_some() {
            keys.push(format!("after_take_over = [{}]", moments(repeat, delay)));
        }
        if self.lower_repeat.is_some() || self.lower_delay_ms.is_some() {
            let (repeat, delay) = (self.lower_repeat.unwrap_or(repeat), self.lower_delay_ms.unwrap_or(delay));
            keys.push(format!("after_losing_advert = [{}]", moments(repeat, delay)));
        }
        if let Some(ms) = self.refresh_ms.filter(|ms| (1_000..=86_400_000).contains(ms)) {
            keys.push(format!("refresh = \"{}\"", numbers::duration(ms)));
        }
        if let Some(ms) = self.interval_ms.filter(|ms| *ms > 0) {
            keys.push(format!("frames_per_second = {}", (1000 / ms).max(1)));
        }
        (!keys.is_empty()).then(|| format!("announce = {{ {} }}", keys.join(", ")))
    }
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let is_some = value.is_some();
    *place = value.or(place.take());
    is_some
}

/// `repeat` now, and as often after the delay.
fn moments(repeat: u8, delay_ms: u64) -> String {
    let burst = |from: u64| (0..u64::from(repeat)).map(move |n| from + n * SPACING_MS);
    let second = burst(delay_ms.max(u64::from(repeat) * SPACING_MS)).filter(|_| delay_ms > 0);
    let all: Vec<String> = burst(0).chain(second).map(|ms| format!("\"{}\"", numbers::duration(ms))).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_repeated_after_the_delay_in_rising_moments() {
        assert_eq!(moments(2, 5_000), r#""0ms", "20ms", "5s", "5020ms""#);
        assert_eq!(moments(3, 0), r#""0ms", "20ms", "40ms""#);
        assert_eq!(moments(3, 10), r#""0ms", "20ms", "40ms", "60ms", "80ms", "100ms""#);
        assert_eq!(moments(0, 5_000), "");
    }
}
