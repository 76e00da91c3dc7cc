//! Did you mean: the known word nearest to a mistyped one.

/// The nearest of `known`, if it is near enough to be what was meant.
pub(crate) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    if typed.len() > 64 {
        return None;
    }
    let plain = typed.to_ascii_lowercase().replace('-', "_");
    let (distance, word) = known.iter().map(|word| (distance(&plain, word), *word)).min_by_key(|(d, _)| *d)?;
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let extends = plain.len() >= 3 && (word.starts_with(&plain) || plain.starts_with(word));
    (distance <= allowed || extends).then_some(word)
}

/// Edits between two words: insert, remove, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&row, j) + usize::from(x != *y)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j > 0 && previous == Some(*y) && b.get(j - 1) == Some(&x);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(x);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["addresses", "interface", "vrid", "advert_interval", "preempt", "version"];

    #[test]
    fn typing_slips_find_the_word_that_was_meant() {
        let slips = [
            ("adresses", "addresses"),
            ("address", "addresses"),
            ("interfcae", "interface"),
            ("iface_", ""),
            ("VRID", "vrid"),
            ("vird", "vrid"),
            ("advert-interval", "advert_interval"),
            ("advert_int", "advert_interval"),
            ("premept", "preempt"),
            ("banana", ""),
            ("", ""),
        ];
        for (typed, meant) in slips {
            assert_eq!(nearest(typed, &KNOWN).unwrap_or(""), meant, "{typed}");
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("abc", "abd", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }
}
