//! Durations and sizes as typed: a whole number and its unit, `"100ms"`, `"64KiB"`.

use std::time::Duration;

/// Why a text is no duration or size, with what to write instead where that can be guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitError {
    pub message: String,
    pub hint: String,
}

/// Milliseconds of each duration unit.
const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const DURATION_HELP: &str = "Units are ms, s, m, h and d";
const SIZE_HELP: &str = "Units are B, KiB, MiB, GiB and TiB";

/// What people type for a unit, and the unit they mean.
const DURATION_SLIPS: [(&str, &str); 17] = [
    ("msec", "ms"),
    ("msecs", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("min", "m"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hour", "h"),
    ("hours", "h"),
    ("hr", "h"),
    ("day", "d"),
    ("days", "d"),
];

const SIZE_SLIPS: [(&str, &str); 10] = [
    ("b", "B"),
    ("byte", "B"),
    ("bytes", "B"),
    ("k", "KiB"),
    ("kb", "KiB"),
    ("m", "MiB"),
    ("mb", "MiB"),
    ("g", "GiB"),
    ("gb", "GiB"),
    ("tb", "TiB"),
];

pub fn duration(text: &str) -> Result<Duration, UnitError> {
    parse(text, "duration", &DURATIONS, &DURATION_SLIPS, DURATION_HELP, "10s").map(Duration::from_millis)
}

/// Bytes.
pub fn size(text: &str) -> Result<u64, UnitError> {
    parse(text, "size", &SIZES, &SIZE_SLIPS, SIZE_HELP, "64KiB")
}

/// The largest unit that shows `duration` as a whole number: `90s`, `5m`, `100ms`.
pub fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATIONS)
}

pub fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn parse(
    text: &str,
    what: &str,
    units: &[(&str, u64)],
    slips: &[(&str, &str)],
    help: &str,
    example: &str,
) -> Result<u64, UnitError> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let fail = |message: String, hint: String| Err(UnitError { message, hint });
    if number.is_empty() {
        return fail(format!("{text:?} is no {what}"), format!("Write a whole number and a unit, as \"{example}\"."));
    }
    if unit.is_empty() {
        return fail(format!("{text:?} has no unit"), format!("{help}, as in \"{example}\"."));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let meant = unit.trim().to_ascii_lowercase();
        let known = units.iter().map(|(name, _)| (*name, *name)).chain(slips.iter().copied());
        let hint = match known.into_iter().find(|(slip, _)| slip.to_ascii_lowercase() == meant) {
            Some((_, unit)) => format!("Write \"{number}{unit}\"."),
            None if unit.starts_with(['.', ',']) => format!("Write a whole number of a smaller unit. {help}."),
            None => format!("{help}, as in \"{example}\"."),
        };
        return fail(format!("{text:?} has no known {what} unit"), hint);
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)) {
        Some(value) => Ok(value),
        None => fail(format!("{text:?} is too large"), format!("{help}, as in \"{example}\".")),
    }
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |&&(_, factor): &&(&str, u64)| value >= factor && value.is_multiple_of(factor);
    let smallest = ("", 1);
    let (unit, factor) = units.iter().rev().find(fits).or(units.first()).unwrap_or(&smallest);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_parses_and_shows_as_typed() {
        for text in ["0ms", "100ms", "2s", "90s", "5m", "1h", "180d"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["0B", "1B", "64KiB", "1500KiB", "5GiB", "3TiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        assert_eq!(size("5GiB").unwrap(), 5 * 1024 * 1024 * 1024);
    }

    #[test]
    fn slips_are_answered_with_what_was_meant() {
        for (text, meant) in [("10sec", "10s"), ("10 s", "10s"), ("5min", "5m"), ("2 Hours", "2h"), ("7MS", "7ms")] {
            assert_eq!(duration(text).unwrap_err().hint, format!("Write \"{meant}\"."));
        }
        for (text, meant) in [("64k", "64KiB"), ("64kib", "64KiB"), ("10MB", "10MiB"), ("9bytes", "9B")] {
            assert_eq!(size(text).unwrap_err().hint, format!("Write \"{meant}\"."));
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "s", "-1s", "1.5s", "1", "1s2", "99999999999999999999s", "99999999999999999d", "1KiB", "٣s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "B", "1", "1s", "0x10B", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
