//! Where something stands, and why a file cannot be understood at all.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// A line of a file; lines count from 1, 0 is the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub file: Rc<str>,
    pub line: usize,
}

/// The configuration cannot be read. What can be read but not carried over is a finding instead.
#[derive(Debug)]
pub struct ImportError {
    pub at: Position,
    pub kind: ErrorKind,
}

#[derive(Debug)]
pub enum ErrorKind {
    Unreadable(io::Error),
    /// A file includes itself, directly or through others.
    IncludeCycle(PathBuf),
    IncludeDepth,
    /// More text than any configuration has: variables or sequences that multiply.
    TooMuch,
    /// A variable that contains itself.
    VariableDepth,
    /// `~SEQ` or `~LST` that cannot be followed.
    BadRepeat(&'static str),
    UnterminatedQuote,
    /// `{` without a keyword before it.
    BlockWithoutKeyword,
    /// The keyword whose `{` is never closed.
    UnclosedBlock(String),
    StrayBrace,
    BlockDepth,
    /// Words that no `;` ends, first among them.
    UnfinishedDirective(String),
}

impl Position {
    pub(super) fn error(&self, kind: ErrorKind) -> ImportError {
        ImportError { at: self.clone(), kind }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::Unreadable(_) => f.write_str("cannot be read"),
            ErrorKind::IncludeCycle(path) => {
                write!(f, "{} is being read already: the includes go in a circle", path.display())
            }
            ErrorKind::IncludeDepth => f.write_str("the includes are nested too deeply"),
            ErrorKind::TooMuch => {
                f.write_str("variables, sequences or includes make more text than a configuration can have")
            }
            ErrorKind::VariableDepth => f.write_str("variables are nested too deeply; does one contain itself?"),
            ErrorKind::BadRepeat(why) => write!(f, "this ~SEQ or ~LST cannot be followed: {why}"),
            ErrorKind::UnterminatedQuote => f.write_str("a quote is opened and never closed"),
            ErrorKind::BlockWithoutKeyword => f.write_str("there is no keyword before this {"),
            ErrorKind::UnclosedBlock(keyword) => write!(f, "the block of {keyword} is never closed; a }} is missing"),
            ErrorKind::StrayBrace => f.write_str("this } closes nothing"),
            ErrorKind::UnfinishedDirective(keyword) => write!(f, "no ; ends {keyword}"),
            ErrorKind::BlockDepth => f.write_str("blocks are nested too deeply"),
        }
    }
}

impl std::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}
