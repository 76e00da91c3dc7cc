//! Configurations of other programs, read and written anew as lyre.toml. Pure: text in, text out; `cli` opens the files.
//!
//! One room per program, and what they share: [`error`], [`files`], [`findings`] (what became of every statement),
//! [`pattern`] (names of included files), [`names`], [`mod@write`] (comments, texts and the summary), [`edge`] (what web proxies
//! become).

mod edge;
mod error;
mod files;
mod findings;

pub mod haproxy;
pub mod keepalived;
mod names;
pub mod nginx;
mod pattern;
mod write;

pub use error::{ErrorKind, ImportError, Position};
pub use files::Files;
pub use findings::{Class, Finding};

/// A configuration, imported.
pub struct Import {
    /// The text of lyre.toml, with remarks and the summary as comments.
    pub toml: String,
    /// One for every statement, in the order of the source.
    pub findings: Vec<Finding>,
}

impl Import {
    /// Whether everything was carried over or is not needed; `false` when something was refused or not understood.
    pub fn is_complete(&self) -> bool {
        !self.findings.iter().any(|finding| matches!(finding.class, Class::Refused | Class::Unknown))
    }
}
