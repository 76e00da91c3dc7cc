//! Names as `lyre check` takes them, made from what other programs take.

/// `None` when nothing usable is left.
pub(super) fn given_name(text: &str, chars_max: usize) -> Option<String> {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = text.chars().map(allowed).collect();
    let name: String = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(chars_max).collect();
    (!name.is_empty()).then_some(name)
}

/// For the `[[vip]]` of an instance, and nobody else's.
pub(super) fn vip_name(text: &str, taken: &[String]) -> String {
    let name = given_name(text, 24).unwrap_or_else(|| "vip".to_owned());
    let name = name.trim_end_matches('.');
    // These are the reader's own: `vip3`, `NAME-v4`.
    let is_reserved = |name: &str| {
        let number = name.strip_prefix("vip").unwrap_or(name);
        number.bytes().all(|b| b.is_ascii_digit()) || name.ends_with("-v4") || name.ends_with("-v6")
    };
    let stem = if is_reserved(name) { format!("{name}-") } else { name.to_owned() };
    let first = if is_reserved(name) { format!("{stem}1") } else { stem.clone() };
    let numbered = (2..).map(|n| format!("{}-{n}", stem.trim_end_matches('-')));
    std::iter::once(first).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Of those that are taken none.
pub(super) fn unique(text: &str, taken: &[String]) -> String {
    let stem = given_name(text, 48).unwrap_or_else(|| "tracker".to_owned());
    let numbered = (2..).map(|n| format!("{stem}-{n}"));
    std::iter::once(stem.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_usable_and_unlike_each_other() {
        let mut taken = Vec::new();
        for (typed, name) in
            [("VI_1", "VI_1"), ("VI 1", "VI-1"), ("VI_1", "VI_1-2"), ("51", "51-1"), ("vip2", "vip2-1")]
        {
            let made = vip_name(typed, &taken);
            assert_eq!(made, name);
            taken.push(made);
        }
        assert_eq!(vip_name("lan-v4", &taken), "lan-v4-1");
        assert_eq!(vip_name("...", &taken), "vip-1");
        assert_eq!(unique("a b", &["a-b".to_owned()]), "a-b-2");
    }
}
