//! keepalived.conf -> lyre.toml.
//!
//! Reading order: [`expand`] (files, conditions, variables and sequences become plain lines), [`lex`] (a line becomes
//! words), [`tree`] (words become statements with blocks), [`map`] (statements become `[[vip]]` and pools), [`findings`]
//! (what happened to every single statement). [`keywords`] is the table of what is not carried over, and why.
//!
//! Nothing is dropped silently: each statement, or the block around it, has a finding.

mod error;
mod expand;
mod files;
mod findings;
mod keywords;
mod lex;
mod map;
mod pattern;
mod repeat;
mod tree;
mod variables;

pub use error::{ErrorKind, ImportError, Position};
pub use files::Files;
pub use findings::{Class, Finding};

use std::path::Path;

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

/// Reads `path` and all it includes as keepalived would on the host `host` (its option -i), and maps it.
pub fn import(path: &Path, host: &str, files: &dyn Files) -> Result<Import, ImportError> {
    let expanded = expand::expand(path, host, files)?;
    let statements = tree::build(&expanded.lines)?;
    Ok(map::map(path, host, &statements, expanded))
}
