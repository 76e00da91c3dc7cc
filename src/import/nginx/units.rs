//! nginx's times and sizes.

/// Milliseconds of `60`, `60s`, `1h30m`, `500ms`; no unit is seconds.
pub(super) fn ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, length) = match () {
            () if rest.starts_with("ms") => (1, 2),
            () if rest.starts_with('s') => (1000, 1),
            () if rest.starts_with('m') => (60_000, 1),
            () if rest.starts_with('h') => (3_600_000, 1),
            () if rest.starts_with('d') => (86_400_000, 1),
            () if rest.starts_with('w') => (604_800_000, 1),
            () if rest.is_empty() => (1000, 0),
            () => return None,
        };
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(length..)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::ms;

    #[test]
    fn times_have_units() {
        for (text, wanted) in [("60", 60_000), ("1h30m", 5_400_000), ("500ms", 500), ("3600s", 3_600_000), ("0", 0)] {
            assert_eq!(ms(text), Some(wanted), "{text}");
        }
        for text in ["", "s", "1x", "-1", "99999999999999999999", "18446744073709551615d"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }
}
