//! Seconds since 1970 as days and times that people read, in UTC and the Gregorian calendar.

/// `2026-11-20`
pub(crate) fn show_day(seconds: i64) -> String {
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-20 12:03:04 UTC`
pub(crate) fn show_time(seconds: i64) -> String {
    let of_day = seconds.rem_euclid(86_400);
    format!("{} {:02}:{:02}:{:02} UTC", show_day(seconds), of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

/// Days since 1970-01-01, counted from a year that begins in March so that the leap day comes last.
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Not later than the year meant, whichever side of 1970 it is on; at most a few years before it.
    let guess = 1969 + days.div_euclid(365).min(days.div_euclid(366));
    let year = (guess..).find(|year| days < days_from_civil(year + 1, 1, 1)).unwrap_or(guess);
    let month = (1..=12).rev().find(|month| days >= days_from_civil(year, *month, 1)).unwrap_or(1);
    (year, month, days - days_from_civil(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_both_ways() {
        for (year, month, day, days) in
            [(1970, 1, 1, 0), (1970, 3, 1, 59), (2000, 2, 29, 11_016), (2026, 11, 20, 20_777), (1950, 1, 1, -7_305)]
        {
            assert_eq!(days_from_civil(year, month, day), days, "{year}-{month}-{day}");
            assert_eq!(civil_from_days(days), (year, month, day));
        }
        for days in -720_000..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(show_time(1_795_176_184), "2026-11-20 12:03:04 UTC");
        assert_eq!(show_time(-1), "1969-12-31 23:59:59 UTC");
    }
}
