//! Problems of a configuration: where, what, and what to do. All of them are reported at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One finding, an error or a warning. `line` and `column` count from 1; 0 when the problem has no place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    pub line: usize,
    /// In characters, not bytes.
    pub column: usize,
    /// `vip[0].vrid`; empty when the problem belongs to no key.
    pub key: String,
    pub message: String,
    /// What to write instead, or where to look.
    pub hint: Option<String>,
    /// The line of the file, and how many characters of it are meant.
    pub excerpt: Option<(String, usize)>,
}

/// Never empty.
#[derive(Debug, Clone)]
pub struct ConfigErrors(pub Vec<Problem>);

impl Problem {
    /// A problem of the whole file.
    pub fn of_file(file: &Path, message: String) -> Problem {
        Problem { file: file.to_owned(), line: 0, column: 0, key: String::new(), message, hint: None, excerpt: None }
    }
}

/// ```text
/// lyre.toml:12:8: vip[0].vrid: 0 is not 1..255. Write vrid = 51, and a different one for every pair on this LAN.
///    12 | vrid = 0
///       |        ^
/// ```
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        if !self.message.ends_with(['.', '?', '!']) {
            f.write_str(".")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " {hint}")?;
        }
        if let Some((line, width)) = &self.excerpt {
            let indent = self.column.saturating_sub(1);
            write!(f, "\n{:>5} | {line}\n      | {:indent$}{}", self.line, "", "^".repeat((*width).max(1)))?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
