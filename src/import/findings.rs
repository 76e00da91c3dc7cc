//! What became of every statement.

use super::error::Position;
use std::fmt;

/// How a statement fared, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Mapped,
    /// Mapped, with a difference worth knowing.
    Remark,
    /// Not needed: what it does is always so, or has no part in this.
    Ignored,
    /// What it does is lost, and somebody must act.
    Refused,
    /// No keyword that the program has here.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub at: Position,
    pub class: Class,
    /// The statement, shortened; one line.
    pub what: String,
    /// Where it went, or why it did not.
    pub why: String,
}

/// What a finding is about.
pub(super) trait Said {
    /// Whose configuration it is from.
    const PROGRAM: &'static str;

    fn at(&self) -> &Position;

    /// As typed, without what is secret in it.
    fn shown(&self) -> String;
}

#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

/// Statements are shown up to here.
const SHOWN_CHARS_MAX: usize = 60;

impl Findings {
    pub(super) fn mapped(&mut self, statement: &impl Said, to: impl Into<String>) {
        self.add(statement, Class::Mapped, to);
    }

    pub(super) fn remark(&mut self, statement: &impl Said, why: impl Into<String>) {
        self.add(statement, Class::Remark, why);
    }

    pub(super) fn ignored(&mut self, statement: &impl Said, why: impl Into<String>) {
        self.add(statement, Class::Ignored, why);
    }

    pub(super) fn refused(&mut self, statement: &impl Said, why: impl Into<String>) {
        self.add(statement, Class::Refused, why);
    }

    pub(super) fn unknown<S: Said>(&mut self, statement: &S, place: &str) {
        let why = format!("no keyword of {place} that {} has; is it misspelt?", S::PROGRAM);
        self.add(statement, Class::Unknown, why);
    }

    pub(super) fn add(&mut self, statement: &impl Said, class: Class, why: impl Into<String>) {
        self.at(statement.at(), class, shortened(&statement.shown()), why);
    }

    /// In the order of the source, as far as one file goes; those of included files stay where they were read.
    /// `statements` say in which order files come.
    pub(super) fn sort<'a>(&mut self, statements: impl Iterator<Item = &'a Position>) {
        let mut files: Vec<std::rc::Rc<str>> = Vec::new();
        let files_of = statements.map(|position| position.file.clone());
        for file in files_of.chain(self.0.iter().map(|finding| finding.at.file.clone())) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        self.0.sort_by_key(|finding| {
            let file = files.iter().position(|file| *file == finding.at.file);
            (file, finding.at.line)
        });
    }

    pub(super) fn at(&mut self, at: &Position, class: Class, what: impl Into<String>, why: impl Into<String>) {
        self.0.push(Finding { at: at.clone(), class, what: one_line(&what.into()), why: one_line(&why.into()) });
    }
}

impl Class {
    /// Heading of the summary.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Class::Mapped => "mapped",
            Class::Remark => "mapped with a remark",
            Class::Ignored => "ignored, as it is not needed",
            Class::Refused => "refused: what these did is missing now",
            Class::Unknown => "not understood",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.at, self.what, self.why)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Nothing that ends a comment or turns the terminal's direction.
pub(super) fn one_line(text: &str) -> String {
    let is_odd =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().map(|c| if is_odd(c) { '?' } else { c }).collect()
}
