//! nginx.conf -> lyre.toml.
//!
//! Reading order: [`lex`] (text becomes words and marks), [`tree`] (they become directives with blocks, includes
//! followed), [`map`] (http, server and location become listeners and routes; [`listen`], [`backends`] and [`stream`]
//! read their parts). [`keywords`] is the table of what is not carried over, and why.
//!
//! Nothing is dropped silently: each directive, or the block around it, has a finding.

mod backends;
mod keywords;
mod lex;
mod listen;
mod map;
mod stream;
mod tree;
mod units;

use super::{Files, Import, ImportError, edge, findings::Findings};
use std::path::Path;

/// Reads `path` and all it includes, and maps it.
pub fn import(path: &Path, files: &dyn Files) -> Result<Import, ImportError> {
    let mut findings = Findings::default();
    let directives = tree::read(path, files, &mut findings)?;
    let edge = map::edge(&mut findings, &directives);
    let mut order = Vec::new();
    tree::positions(&directives, &mut order);
    Ok(edge::finish(edge, findings, "nginx", path, order.into_iter()))
}
