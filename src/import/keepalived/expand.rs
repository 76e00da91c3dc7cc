//! Files become plain lines: includes followed, conditions decided, variables replaced, sequences spelt out.
//!
//! The order is keepalived's: comment, include, condition, sequence, definition, substitution, and again for what a
//! substitution brought in. So an `include` behind a condition or out of a variable is not followed there either.
//!
//! All work is paid from one budget, so that no file, however small, makes more text than [`WORK_MAX`].

use super::lex;
use super::repeat;
use super::variables::{self, Predefined, Variables};
use crate::import::error::{ErrorKind, ImportError, Position};
use crate::import::files::Files;
use crate::import::findings::{self, Class, Findings};
use crate::import::pattern;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes looked at, over all rounds. keepalived's largest known configurations have some 10 MiB.
const WORK_MAX: usize = 32 << 20;

/// What a line costs besides its bytes.
const LINE_WORK: usize = 32;

const INCLUDE_DEPTH_MAX: usize = 16;

/// Conditions, sequences and variables inside each other.
const NESTING_MAX: usize = 64;

/// `_RANDOM` without arguments starts here.
const RANDOM_MIN: &str = "0";

pub(super) struct Line {
    pub(super) text: String,
    pub(super) at: Position,
}

pub(super) struct Expanded {
    pub(super) lines: Vec<Line>,
    pub(super) findings: Findings,
    /// Names after `@` other than this host's, and how many lines are left out because of them.
    pub(super) other_hosts: BTreeMap<String, usize>,
}

pub(super) fn expand(path: &Path, host: &str, files: &dyn Files) -> Result<Expanded, ImportError> {
    let out = Expanded { lines: Vec::new(), findings: Findings::default(), other_hosts: BTreeMap::new() };
    let mut expander =
        Expander { files, host, variables: Variables::default(), reading: Vec::new(), work_left: WORK_MAX, out };
    let at = Position { file: name_of(path), line: 0 };
    let text = files.read(path).map_err(|error| at.error(ErrorKind::Unreadable(error)))?;
    expander.file(path, &text)?;
    Ok(expander.out)
}

struct Expander<'a> {
    files: &'a dyn Files,
    host: &'a str,
    variables: Variables,
    /// The file being read, last, and those that include it.
    reading: Vec<PathBuf>,
    work_left: usize,
    out: Expanded,
}

impl Expander<'_> {
    fn file(&mut self, path: &Path, text: &str) -> Result<(), ImportError> {
        self.reading.push(path.to_owned());
        let file = name_of(path);
        let mut lines = text.lines().zip(1..);
        while let Some((raw, line)) = lines.next() {
            let at = Position { file: file.clone(), line };
            let mut whole = self.without_comment(raw, &at).to_owned();
            while let Some(start) = whole.strip_suffix('\\') {
                whole = start.to_owned();
                let Some((raw, _)) = lines.next() else { break };
                whole.push('\n');
                whole.push_str(self.without_comment(raw, &at));
                self.spend(raw.len(), &at)?;
            }
            match included(&whole) {
                Some((keyword, name)) => self.include(keyword, name, &at)?,
                None => self.line(&whole, &at, 0)?,
            }
        }
        self.reading.pop();
        Ok(())
    }

    fn without_comment<'t>(&mut self, raw: &'t str, at: &Position) -> &'t str {
        let (text, is_inside_word) = lex::without_comment(raw);
        if is_inside_word {
            let what = text.split_whitespace().next().unwrap_or_default();
            let why = "a ! or # inside a word starts a comment, as in keepalived; quote the word if it is part of it";
            self.out.findings.at(at, Class::Remark, what, why);
        }
        text.trim_end()
    }

    fn include(&mut self, keyword: &str, name: &str, at: &Position) -> Result<(), ImportError> {
        let base = self.reading.last().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned();
        let name = name.trim_matches(['"', '\'']);
        let paths = pattern::paths(self.files, &base, name);
        let what = format!("{keyword} {name}");
        if paths.is_empty() {
            // keepalived's stricter variants make this an error of the configuration.
            let class = if keyword == "include" { Class::Ignored } else { Class::Refused };
            self.out.findings.at(at, class, &*what, "no file has such a name");
        }
        for path in paths {
            self.spend(LINE_WORK, at)?;
            if self.reading.contains(&path) {
                return Err(at.error(ErrorKind::IncludeCycle(path)));
            }
            if self.reading.len() >= INCLUDE_DEPTH_MAX {
                return Err(at.error(ErrorKind::IncludeDepth));
            }
            match self.files.read(&path) {
                Ok(text) => {
                    self.out.findings.at(at, Class::Mapped, &*what, format!("read {}", path.display()));
                    self.file(&path, &text)?;
                }
                Err(error) => {
                    let why = format!("{} cannot be read ({error}); import again once it is there", path.display());
                    self.out.findings.at(at, Class::Refused, &*what, why);
                }
            }
        }
        Ok(())
    }

    /// One line, possibly with line ends in it where the file had backslashes.
    fn line(&mut self, text: &str, at: &Position, nesting: usize) -> Result<(), ImportError> {
        self.spend(text.len() + LINE_WORK, at)?;
        if nesting > NESTING_MAX {
            return Err(at.error(ErrorKind::VariableDepth));
        }
        let text = text.trim();
        if let Some(condition) = text.strip_prefix('@') {
            return self.condition(condition, at, nesting);
        }
        if let Some(prefix) = repeat::prefix(text) {
            let prefix = prefix.map_err(|why| at.error(ErrorKind::BadRepeat(why)))?;
            return self.repeat(&prefix, at, nesting);
        }
        if let Some((name, value)) = variables::definition(text) {
            self.variables.set(name, value.trim().to_owned());
            return Ok(());
        }
        // Not a definition, so a backslash only joined lines.
        let text = text.replace('\n', " ");
        match self.replaced(&text, at)? {
            Some(replaced) => {
                for line in replaced.split('\n') {
                    self.line(line, at, nesting + 1)?;
                }
            }
            None if text.is_empty() => {}
            None => self.out.lines.push(Line { text, at: at.clone() }),
        }
        Ok(())
    }

    /// `@id rest` or `@^id rest`.
    fn condition(&mut self, text: &str, at: &Position, nesting: usize) -> Result<(), ImportError> {
        let (is_negated, text) = match text.strip_prefix('^') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (id, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let is_this = id == self.host;
        if !is_this {
            *self.out.other_hosts.entry(id.chars().take(64).collect()).or_default() += usize::from(!is_negated);
        }
        if is_this == is_negated {
            return Ok(());
        }
        self.line(rest, at, nesting + 1)
    }

    fn repeat(&mut self, prefix: &repeat::Prefix, at: &Position, nesting: usize) -> Result<(), ImportError> {
        let arguments = self.replaced(prefix.arguments, at)?;
        let arguments = arguments.as_deref().unwrap_or(prefix.arguments);
        let parsed = repeat::parse(prefix.keyword, arguments).map_err(|why| at.error(ErrorKind::BadRepeat(why)))?;
        for round in parsed.rounds() {
            for (name, value) in round {
                self.variables.set(&name, value);
            }
            self.line(prefix.rest, at, nesting + 1)?;
        }
        Ok(())
    }

    fn replaced(&mut self, text: &str, at: &Position) -> Result<Option<String>, ImportError> {
        let mut host = Surroundings {
            files: self.files,
            host: self.host,
            path: self.reading.last(),
            findings: &mut self.out.findings,
        };
        self.variables.replaced(text, at, &mut host)
    }

    fn spend(&mut self, work: usize, at: &Position) -> Result<(), ImportError> {
        self.work_left = self.work_left.checked_sub(work).ok_or_else(|| at.error(ErrorKind::TooMuch))?;
        Ok(())
    }
}

/// The names that start with an underscore.
struct Surroundings<'a> {
    files: &'a dyn Files,
    host: &'a str,
    path: Option<&'a PathBuf>,
    findings: &'a mut Findings,
}

impl Predefined for Surroundings<'_> {
    fn value(&mut self, name: &str, arguments: &[&str], at: &Position) -> Option<String> {
        match (name, arguments) {
            ("_PWD", []) => {
                let directory = self.path.and_then(|path| path.parent()).filter(|path| !path.as_os_str().is_empty());
                Some(directory.unwrap_or(Path::new(".")).display().to_string())
            }
            ("_INSTANCE", []) => Some(self.host.to_owned()),
            ("_HASH", []) => Some("#".to_owned()),
            ("_BANG", []) => Some("!".to_owned()),
            ("_RANDOM", _) => {
                let value = arguments.first().copied().unwrap_or(RANDOM_MIN);
                let why = format!("random at every start in keepalived; written as its smallest value {value}");
                self.findings.at(at, Class::Remark, "${_RANDOM}", why);
                Some(value.to_owned())
            }
            ("_ENV", [variable]) => {
                let value = self.files.environment(variable);
                let (class, why) = match &value {
                    Some(_) => (Class::Remark, "replaced by its value at the time of this import"),
                    None => (Class::Refused, "is not set here; import again where keepalived's environment has it"),
                };
                self.findings.at(at, class, format!("${{_ENV {variable}}}"), why);
                Some(value.unwrap_or_default())
            }
            _ => None,
        }
    }
}

/// Keyword and file name of an include line.
fn included(text: &str) -> Option<(&str, &str)> {
    let (keyword, name) = text.trim().split_once(char::is_whitespace)?;
    ["include", "includer", "includem", "includew", "includeb", "includea"]
        .contains(&keyword)
        .then_some((keyword, name.trim()))
}

fn name_of(path: &Path) -> std::rc::Rc<str> {
    findings::one_line(&path.display().to_string()).into()
}
