//! haproxy.cfg -> lyre.toml.
//!
//! Reading order: [`lex`] (a line becomes words), [`sections`] (lines become sections), [`proxy`] (frontends, backends
//! and what they inherit become plain values; [`bind`], [`server`], [`condition`], [`rules`] and [`check`] read their
//! statements), [`global`], [`assemble`] (who leads where). [`keywords`] is the table of what is not carried over, and
//! why.
//!
//! Nothing is dropped silently: each statement, or the section around it, has a finding.

mod assemble;
mod bind;
mod certificates;
mod check;
mod condition;
mod global;
mod keywords;
mod lex;
mod proxy;
mod rules;
mod sections;
mod server;
mod time;

use super::{Files, Import, ImportError, edge, findings::Findings};
use std::path::Path;

/// Reads `path` and maps it.
pub fn import(path: &Path, files: &dyn Files) -> Result<Import, ImportError> {
    let mut findings = Findings::default();
    let sections = sections::read(path, files, &mut findings)?;
    let edge = assemble::edge(&mut findings, files, path, &sections);
    let order = sections.iter().flat_map(|section| section.lines.iter()).map(|line| &line.at);
    Ok(edge::finish(edge, findings, "haproxy", path, order))
}
