//! Lines become sections: `global`, `defaults`, `frontend NAME`, …

use super::lex;
use crate::import::error::{ErrorKind, ImportError, Position};
use crate::import::files::Files;
use crate::import::findings::{Class, Findings, Said, one_line};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

/// Bytes of lines and their variables; a real configuration has some hundred KiB.
const WORK_MAX: usize = 16 << 20;

/// What opens a section.
const SECTIONS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "userlist",
    "resolvers",
    "mailers",
    "cache",
    "program",
    "ring",
    "log-forward",
    "log-profile",
    "http-errors",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at: Position,
    pub(super) words: Vec<String>,
}

pub(super) struct Section {
    /// Its own line first.
    pub(super) lines: Vec<Line>,
}

impl Line {
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map(String::as_str).unwrap_or_default()
    }

    /// The words from `index` on.
    pub(super) fn from(&self, index: usize) -> &[String] {
        self.words.get(index..).unwrap_or_default()
    }
}

impl Said for Line {
    const PROGRAM: &'static str = "haproxy";

    fn at(&self) -> &Position {
        &self.at
    }

    fn shown(&self) -> String {
        let is_secret = |word: &str| {
            let word = word.to_ascii_lowercase();
            ["password", "insecure-password", "auth", "authorization", "setenv", "presetenv"].contains(&word.as_str())
        };
        match self.words.iter().position(|word| is_secret(word)) {
            Some(index) if index + 1 < self.words.len() => {
                format!("{} (not shown)", self.words.get(..=index).unwrap_or_default().join(" "))
            }
            _ => self.words.join(" "),
        }
    }
}

impl Section {
    pub(super) fn kind(&self) -> &str {
        self.lines.first().map(|line| line.word(0)).unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.lines.first().map(|line| line.word(1)).unwrap_or_default()
    }

    /// Without its own line.
    pub(super) fn inside(&self) -> &[Line] {
        self.lines.get(1..).unwrap_or_default()
    }
}

pub(super) fn read(path: &Path, files: &dyn Files, findings: &mut Findings) -> Result<Vec<Section>, ImportError> {
    let file: Rc<str> = one_line(&path.display().to_string()).into();
    let whole = Position { file: file.clone(), line: 0 };
    let text = files.read(path).map_err(|error| whole.error(ErrorKind::Unreadable(error)))?;
    let mut sections: Vec<Section> = Vec::new();
    let mut set: HashMap<String, String> = HashMap::new();
    let mut work_left = WORK_MAX;
    for (raw, line) in text.lines().zip(1..) {
        let at = Position { file: file.clone(), line };
        let words = words(raw, &at, files, &mut set, findings)?;
        let work = raw.len() + words.iter().map(String::len).sum::<usize>();
        work_left = work_left.checked_sub(work).ok_or_else(|| at.error(ErrorKind::TooMuch))?;
        let line = Line { at, words };
        let keyword = line.word(0);
        match sections.last_mut() {
            _ if keyword.is_empty() => {}
            _ if keyword.starts_with('.') => preprocessor(&line, findings),
            _ if SECTIONS.contains(&keyword) => sections.push(Section { lines: vec![line] }),
            Some(section) => section.lines.push(line),
            None => findings.unknown(&line, "the top of the file"),
        }
    }
    Ok(sections)
}

fn words(
    raw: &str,
    at: &Position,
    files: &dyn Files,
    set: &mut HashMap<String, String>,
    findings: &mut Findings,
) -> Result<Vec<String>, ImportError> {
    let mut value = |name: &str| {
        let value = set.get(name).cloned().or_else(|| files.environment(name));
        let (class, why) = match &value {
            Some(_) => (Class::Remark, "replaced by its value at the time of this import"),
            None => (Class::Refused, "is not set here; import again where haproxy's environment has it"),
        };
        findings.at(at, class, format!("${{{name}}}"), why);
        value
    };
    let words = lex::words(raw, &mut value).map_err(|_| at.error(ErrorKind::UnterminatedQuote))?;
    if let [keyword, name, value] = words.as_slice()
        && matches!(keyword.as_str(), "setenv" | "presetenv")
    {
        let is_known = keyword == "presetenv" && files.environment(name).is_some();
        if !is_known {
            set.insert(name.clone(), value.clone());
        }
    }
    Ok(words)
}

/// `.if` and its like: which branch holds is not ours to say.
fn preprocessor(line: &Line, findings: &mut Findings) {
    match line.word(0) {
        ".if" | ".elif" | ".else" => {
            findings.refused(line, "conditions are not evaluated, all branches are read; keep the one that is meant");
        }
        ".endif" => findings.ignored(line, "the end of a condition"),
        ".notice" | ".warning" | ".alert" | ".diag" => findings.ignored(line, "only a message"),
        _ => findings.unknown(line, "the preprocessor"),
    }
}
