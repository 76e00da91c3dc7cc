//! HAProxy's times and counts.

/// Milliseconds of `30s`, `500`, `1m`, `1h30m` is not one; what is finer is cut off. No unit is milliseconds.
pub(super) fn ms(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    match text.get(digits..)? {
        "us" => Some(number / 1000),
        "" | "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::ms;

    #[test]
    fn times_have_units() {
        for (text, wanted) in [("30s", 30_000), ("500", 500), ("2m", 120_000), ("1h", 3_600_000), ("1500us", 1)] {
            assert_eq!(ms(text), Some(wanted), "{text}");
        }
        for text in ["", "s", "1x", "-1", "99999999999999999999", "18446744073709551615d"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
