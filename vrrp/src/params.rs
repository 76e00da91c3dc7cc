//! Units and the formulas of RFC 9568 §6.1, in integers.

use std::time::Duration;

/// Nanoseconds of CLOCK_MONOTONIC. A value, never read from a clock in the pure files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment `after` later; saturates at the end of time.
    pub fn plus(self, after: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How much later `self` is than `earlier`; zero if it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Of the protocol. Version 2 counts whole seconds and knows IPv4 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// RFC 3768
    V2,
    /// RFC 9568
    #[default]
    V3,
}

/// Virtual router identifier, 1..=255 (RFC 9568 §5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(u8);

/// Advert priority: 0 releases, 1..=254 backs up, 255 owns the addresses (RFC 9568 §5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

/// Centiseconds, 1..=4095: the advert interval as version 3 carries it (RFC 9568 §5.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Centis(u16);

impl Vrid {
    pub const fn new(value: u8) -> Option<Vrid> {
        if value == 0 { None } else { Some(Vrid(value)) }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Priority {
    pub const RELEASE: Priority = Priority(0);
    pub const OWNER: Priority = Priority(255);

    /// With a weight added, kept within what a Backup may have. The owner's is not moved.
    pub fn moved_by(self, weight: i16) -> Priority {
        if self == Priority::OWNER || weight == 0 {
            return self;
        }
        let moved = i16::from(self.0).saturating_add(weight).clamp(1, 254);
        Priority(u8::try_from(moved).unwrap_or(self.0))
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Centis {
    pub const fn new(value: u16) -> Option<Centis> {
        if value == 0 || value > 4095 { None } else { Some(Centis(value)) }
    }

    pub const fn get(self) -> u16 {
        self.0
    }

    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// Nearest to `factor` times this interval that the wire can carry.
    pub const fn times(self, factor: u16) -> Centis {
        match self.0.saturating_mul(factor) {
            0 => Centis(1),
            value if value > 4095 => Centis(4095),
            value => Centis(value),
        }
    }
}

/// `((256 - priority) * interval) / 256` (RFC 9568 §6.1), kept in nanoseconds so that neighbouring priorities stay
/// apart at short intervals.
pub fn skew_time(priority: Priority, interval: Centis) -> Duration {
    let nanos = (256 - u64::from(priority.0)) * (interval.duration().as_nanos() as u64) / 256;
    Duration::from_nanos(nanos)
}

/// `(256 - priority) / 256` seconds, whatever the interval (RFC 3768 §6.1).
pub fn skew_time_v2(priority: Priority) -> Duration {
    skew_time(priority, SECOND)
}

const SECOND: Centis = Centis(100);

/// `down_adverts * interval + skew` (RFC 9568 §6.1 with its 3 as a parameter).
pub fn active_down_interval(priority: Priority, interval: Centis, down_adverts: u8) -> Duration {
    interval.duration() * u32::from(down_adverts) + skew_time(priority, interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_moves_a_priority_within_1_to_254_but_never_the_owners() {
        #[rustfmt::skip]
        let rows = [
            (100, 0, 100), (100, 20, 120), (100, -20, 80), (100, 200, 254), (100, -200, 1), (254, 1, 254), (1, -1, 1),
            (255, -100, 255), (255, 100, 255), (100, i16::MAX, 254), (100, i16::MIN, 1),
        ];
        for (priority, weight, moved) in rows {
            assert_eq!(Priority(priority).moved_by(weight), Priority(moved), "{priority} {weight:+}");
        }
    }
}
