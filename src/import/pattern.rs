//! File name patterns of `include`: `*`, `?`, `[a-z]` and `{a,b}`, as glob(3) knows them.

use super::files::Files;
use std::path::{Path, PathBuf};

/// Alternatives that one pattern may have by its braces, and paths that it may match.
const MATCHES_MAX: usize = 1024;

/// The existing paths that `pattern` means, sorted; relative ones start from `base`. A pattern without wildcards is
/// its own path, whether it exists or not, so that the reader can say what is missing.
pub(super) fn paths(files: &dyn Files, base: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for plain in alternatives(pattern) {
        let (start, rest) = match plain.strip_prefix('/') {
            Some(rest) => (PathBuf::from("/"), rest.to_owned()),
            None => (base.to_owned(), plain),
        };
        let mut candidates = vec![start];
        for part in rest.split('/').filter(|part| !part.is_empty()) {
            candidates = step(files, &candidates, part);
        }
        candidates.sort();
        found.extend(candidates);
        found.truncate(MATCHES_MAX);
    }
    found
}

pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// One path component further.
fn step(files: &dyn Files, from: &[PathBuf], part: &str) -> Vec<PathBuf> {
    if !is_pattern(part) {
        return from.iter().map(|path| path.join(part)).collect();
    }
    let pattern: Vec<char> = part.chars().collect();
    let mut found = Vec::new();
    for directory in from {
        let names = files.names(directory).unwrap_or_default();
        // A leading point must be written, as in a shell.
        let fits = |name: &&String| part.starts_with('.') == name.starts_with('.') && matches(&pattern, name);
        found.extend(names.iter().filter(fits).map(|name| directory.join(name)));
    }
    found.truncate(MATCHES_MAX);
    found
}

/// `{a,b}` spelt out; nested braces too.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(text) = open.pop() {
        if done.len() + open.len() >= MATCHES_MAX {
            break;
        }
        match first_braces(&text) {
            None => done.push(text),
            // Pushed in reverse, so that the first one is taken first.
            Some((before, parts, after)) => {
                open.extend(parts.iter().rev().map(|part| format!("{before}{part}{after}")));
            }
        }
    }
    done
}

/// The first outermost `{...}`: what stands before, the parts between its commas, what stands after.
fn first_braces(text: &str) -> Option<(&str, Vec<&str>, &str)> {
    let (before, inner) = text.split_once('{')?;
    let mut depth = 0usize;
    let mut parts = Vec::new();
    let mut start = 0;
    for (index, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                parts.push(inner.get(start..index)?);
                return Some((before, parts, inner.get(index + 1..)?));
            }
            ',' if depth == 0 => {
                parts.push(inner.get(start..index)?);
                start = index + 1;
            }
            _ => {}
        }
    }
    None
}

/// Whether `name` fits the whole pattern. Remembers only the last `*`, so time is at most the product of the lengths.
fn matches(pattern: &[char], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(from) {
        match one(pattern, at, c) {
            Step::Star => {
                star = Some((at + 1, from));
                at += 1;
            }
            Step::Fits(next) => {
                at = next;
                from += 1;
            }
            Step::Differs => {
                let Some((after, tried)) = star else { return false };
                star = Some((after, tried + 1));
                at = after;
                from = tried + 1;
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

enum Step {
    Star,
    /// The index of the next pattern element.
    Fits(usize),
    Differs,
}

fn one(pattern: &[char], at: usize, c: char) -> Step {
    match pattern.get(at) {
        None => Step::Differs,
        Some('*') => Step::Star,
        Some('?') => Step::Fits(at + 1),
        Some('[') => match class(pattern, at, c) {
            Some((true, next)) => Step::Fits(next),
            Some((false, _)) => Step::Differs,
            None if c == '[' => Step::Fits(at + 1),
            None => Step::Differs,
        },
        Some(p) if *p == c => Step::Fits(at + 1),
        Some(_) => Step::Differs,
    }
}

/// `[a-z]` or `[!a-z]` at `at`: whether `c` is in it, and the index behind it. `None` when it has no end.
fn class(pattern: &[char], at: usize, c: char) -> Option<(bool, usize)> {
    let mut index = at + 1;
    let is_negated = matches!(pattern.get(index), Some('!' | '^'));
    index += usize::from(is_negated);
    let first = index;
    let mut is_in = false;
    loop {
        let low = *pattern.get(index)?;
        if low == ']' && index > first {
            return Some((is_in != is_negated, index + 1));
        }
        match (pattern.get(index + 1), pattern.get(index + 2)) {
            (Some('-'), Some(high)) if *high != ']' => {
                is_in |= (low..=*high).contains(&c);
                index += 3;
            }
            _ => {
                is_in |= low == c;
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_fit_as_in_a_shell() {
        let fits = |pattern: &str, name: &str| matches(&pattern.chars().collect::<Vec<_>>(), name);
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("*", "x"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("*a*b*", "xxaxxbxx"),
            ("[", "["),
            ("[]]", "]"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("a?c", "ac"), ("[a-c]x", "dx"), ("", "x"), ("[a", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn braces_are_spelt_out_in_order() {
        assert_eq!(alternatives("{foo/{,cat,dog},bar}"), ["foo/", "foo/cat", "foo/dog", "bar"]);
        assert_eq!(alternatives("a{b"), ["a{b"]);
        assert!(alternatives(&"{a,b}".repeat(60)).len() <= MATCHES_MAX);
    }
}
