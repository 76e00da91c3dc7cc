//! keepalived's numbers: whole ones, and seconds with a fraction.

use std::ops::RangeInclusive;

pub(super) fn whole(text: Option<&str>, range: RangeInclusive<u8>) -> Option<u8> {
    text?.parse::<u8>().ok().filter(|value| range.contains(value))
}

/// Seconds, possibly with a fraction, as milliseconds; what is finer is cut off.
pub(super) fn seconds_ms(text: Option<&str>) -> Option<u64> {
    let (whole, fraction) = text?.split_once('.').unwrap_or((text?, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction)
}

/// As lyre.toml writes it: `100ms`, `2s`.
pub(super) fn duration(ms: u64) -> String {
    crate::config::units::show_duration(std::time::Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_fractions_and_nothing_else() {
        for (text, ms) in [("1", 1000), ("0.5", 500), (".25", 250), ("2.", 2000), ("1.23456", 1234), ("0", 0)] {
            assert_eq!(seconds_ms(Some(text)), Some(ms), "{text}");
        }
        for text in ["", ".", "-1", "1s", "1e3", "99999999999999999999", "18446744073709551"] {
            let value = seconds_ms(Some(text));
            assert!(value.is_none() || text == "18446744073709551", "{text}");
        }
    }
}
