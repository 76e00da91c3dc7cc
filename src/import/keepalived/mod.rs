//! keepalived.conf -> lyre.toml.
//!
//! Reading order: [`expand`] (files, conditions, variables and sequences become plain lines), [`lex`] (a line becomes
//! words), [`tree`] (words become statements with blocks), [`map`] (statements become `[[vip]]` and pools), [`super::findings`]
//! (what happened to every single statement). [`keywords`] is the table of what is not carried over, and why.
//!
//! Nothing is dropped silently: each statement, or the block around it, has a finding.

mod expand;
mod keywords;
mod lex;
mod map;
mod repeat;
mod tree;
mod variables;

pub use super::{Class, ErrorKind, Files, Finding, Import, ImportError, Position};

use std::path::Path;

/// Reads `path` and all it includes as keepalived would on the host `host` (its option -i), and maps it.
pub fn import(path: &Path, host: &str, files: &dyn Files) -> Result<Import, ImportError> {
    let expanded = expand::expand(path, host, files)?;
    let statements = tree::build(&expanded.lines)?;
    Ok(map::map(path, host, &statements, expanded))
}
