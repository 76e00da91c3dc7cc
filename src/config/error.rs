//! Problems of a configuration: where, what, and what to do. All of them are reported at once.

/// One finding. `line` and `column` count from 1; 0 when the problem has no place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: std::path::PathBuf,
    pub line: usize,
    pub column: usize,
    /// `vip[0].vrid`
    pub key: String,
    pub message: String,
    /// What to write instead, or where to look.
    pub hint: Option<String>,
}

/// Never empty.
#[derive(Debug, Clone)]
pub struct ConfigErrors(pub Vec<Problem>);
