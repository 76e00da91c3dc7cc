//! Collects problems of one file while it is read on, so that all of them are reported at once.

use super::error::Problem;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest line that is repeated in a report, in characters.
const EXCERPT_CHARS_MAX: usize = 300;

pub(crate) struct Findings<'a> {
    path: PathBuf,
    text: &'a str,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// Where a problem is: the key it belongs to, and the bytes of the file it shows.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) key: String,
    /// Empty at 0 when there is nothing to show.
    pub(crate) span: Range<usize>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(path: &Path, text: &'a str) -> Findings<'a> {
        Findings { path: path.to_owned(), text, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(crate) fn error(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let problem = self.problem(place, message.into(), hint.into());
        self.errors.push(problem);
    }

    pub(crate) fn warning(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let problem = self.problem(place, message.into(), hint.into());
        self.warnings.push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Errors and warnings, each in the order of the file.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.errors.sort_by_key(|problem| (problem.line, problem.column));
        self.warnings.sort_by_key(|problem| (problem.line, problem.column));
        (self.errors, self.warnings)
    }

    fn problem(&self, place: &Place, message: String, hint: String) -> Problem {
        let hint = (!hint.is_empty()).then(|| printable(&hint));
        let mut problem = Problem { key: place.key.clone(), hint, ..Problem::of_file(&self.path, printable(&message)) };
        if !place.span.is_empty() || place.span.start > 0 {
            self.locate(&mut problem, &place.span);
        }
        problem
    }

    fn locate(&self, problem: &mut Problem, span: &Range<usize>) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = self.text.get(line_start..).unwrap_or("");
        let line = rest.lines().next().unwrap_or("");
        problem.line = before.matches('\n').count() + 1;
        problem.column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        if line.chars().count() > EXCERPT_CHARS_MAX {
            return;
        }
        let meant = self.text.get(span.clone()).unwrap_or("").lines().next().unwrap_or("").chars().count();
        problem.excerpt = Some((printable(line), meant));
    }
}

/// A line as a terminal may show it: one column a character, nothing that moves the cursor.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c == '\t' { ' ' } else { c }).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
