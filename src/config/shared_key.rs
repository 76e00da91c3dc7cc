//! The shared key of AppAPI as an administrator writes it, and as ExApps can carry it: they put it into a TOML string.

use crate::config::settings::Secret;
use std::fmt;

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadKey {
    Empty,
    /// A byte outside printable ASCII.
    Unprintable,
    /// `"` or `\` inside.
    Quote,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadKey::Empty => "the key is empty",
            BadKey::Unprintable => "the key may hold printable ASCII only",
            BadKey::Quote => "the key may hold neither \" nor \\: ExApps write it into a quoted text",
        })
    }
}

/// Takes the line ends of a file off, then one pair of each kind of quotes, as HaRP does; each quote on its own.
pub(crate) fn shared_key(raw: &[u8]) -> Result<Secret, BadKey> {
    let mut key = raw;
    while let Some(rest) = key.strip_suffix(b"\n").or_else(|| key.strip_suffix(b"\r")) {
        key = rest;
    }
    for quote in [b"\"", b"'"] {
        key = key.strip_prefix(quote).unwrap_or(key);
        key = key.strip_suffix(quote).unwrap_or(key);
    }
    match key {
        [] => Err(BadKey::Empty),
        key if !key.iter().all(|byte| (0x20..=0x7e).contains(byte)) => Err(BadKey::Unprintable),
        key if key.iter().any(|byte| b"\"\\".contains(byte)) => Err(BadKey::Quote),
        key => Ok(Secret(key.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_66_a_key_that_exapps_cannot_carry_is_refused() {
        for (raw, why) in [
            ("", BadKey::Empty),
            ("\n", BadKey::Empty),
            ("\"\"", BadKey::Empty),
            ("'\"", BadKey::Empty),
            ("a\"b", BadKey::Quote),
            ("a\\b", BadKey::Quote),
            ("schlüssel", BadKey::Unprintable),
            ("a\tb", BadKey::Unprintable),
        ] {
            assert_eq!(shared_key(raw.as_bytes()).err(), Some(why), "{raw:?}");
        }
    }

    #[test]
    fn case_67_quotes_around_a_key_are_none_of_it() {
        for raw in ["\"abc\"", "'abc'", "\"'abc'\"", "abc\n", "abc\r\n\n", "\"abc", "abc'"] {
            assert!(shared_key(raw.as_bytes()).unwrap().matches(b"abc"), "{raw:?}");
        }
        assert!(shared_key(b"a b'c").unwrap().matches(b"a b'c"));
    }
}
