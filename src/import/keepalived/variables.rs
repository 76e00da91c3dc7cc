//! `$NAME=value`, `$NAME`, `${NAME}` and the names keepalived defines itself.

use crate::import::error::{ErrorKind, ImportError, Position};
use std::collections::HashMap;

/// One line after substitution, also one that several lines came from.
const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Variables {
    /// Values may have several lines.
    values: HashMap<String, String>,
}

/// Answers the names that start with an underscore; `None` leaves the text as it is.
pub(super) trait Predefined {
    fn value(&mut self, name: &str, arguments: &[&str], at: &Position) -> Option<String>;
}

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// Replaces every known name once; what that brings in is not looked at. `None` when there was nothing to replace.
    ///
    /// A name without braces ends at white space, so `$A.1` is left alone. Unknown names stay, as scripts have them.
    pub(super) fn replaced(
        &self,
        text: &str,
        at: &Position,
        predefined: &mut dyn Predefined,
    ) -> Result<Option<String>, ImportError> {
        let mut out = String::new();
        let mut rest = text;
        let mut is_changed = false;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            match reference(after) {
                Some((name, arguments, behind)) => match self.value(name, &arguments, at, predefined) {
                    Some(value) => {
                        out.push_str(&value);
                        is_changed = true;
                        rest = behind;
                    }
                    None => {
                        out.push('$');
                        rest = after;
                    }
                },
                None => {
                    out.push('$');
                    rest = after;
                }
            }
            if out.len() > LINE_BYTES_MAX {
                return Err(at.error(ErrorKind::TooMuch));
            }
        }
        out.push_str(rest);
        Ok(is_changed.then_some(out))
    }

    fn value(&self, name: &str, arguments: &[&str], at: &Position, predefined: &mut dyn Predefined) -> Option<String> {
        if let Some(value) = self.values.get(name) {
            return arguments.is_empty().then(|| value.clone());
        }
        name.starts_with('_').then(|| predefined.value(name, arguments, at)).flatten()
    }
}

/// `$NAME=VALUE`: both. White space before the `=` makes it something else.
pub(super) fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

pub(super) fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// What follows a `$`: name, arguments (only in braces), the text behind.
fn reference(after: &str) -> Option<(&str, Vec<&str>, &str)> {
    if let Some(inner) = after.strip_prefix('{') {
        let (inner, behind) = inner.split_once('}')?;
        let mut words = inner.split_whitespace();
        let name = words.next().filter(|name| is_name(name))?;
        return Some((name, words.collect(), behind));
    }
    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
    let (name, behind) = after.split_at(end);
    let is_whole = behind.is_empty() || behind.starts_with(char::is_whitespace);
    (is_name(name) && is_whole).then_some((name, Vec::new(), behind))
}
