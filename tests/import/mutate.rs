//! Configurations as nobody would write them.

/// `text` with up to eight words exchanged, added or lost; new ones are of `words` or of `noise`.
pub(crate) fn mutated(random: &mut fastrand::Rng, text: &str, words: &[&str], noise: &[&str]) -> String {
    let mut out: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    for _ in 0..random.usize(1..=8) {
        let at = random.usize(..out.len().max(1));
        match random.u8(..4) {
            0 if !out.is_empty() => out[at] = words[random.usize(..words.len())],
            1 => out.insert(at, words[random.usize(..words.len())]),
            2 if !out.is_empty() => drop(out.remove(at)),
            _ => out.insert(at, noise[random.usize(..noise.len())]),
        }
    }
    out.concat()
}
