//! Tokens become directives with blocks; included files stand where they are included.

use super::lex::{self, Token};
use crate::import::error::{ErrorKind, ImportError, Position};
use crate::import::files::Files;
use crate::import::findings::{Class, Findings, Said, one_line};
use crate::import::pattern;
use std::path::{Path, PathBuf};
use std::rc::Rc;

const DEPTH_MAX: usize = 32;
const INCLUDE_DEPTH_MAX: usize = 16;

/// Bytes of all files that are read.
const WORK_MAX: usize = 16 << 20;

/// What one included file costs besides its bytes.
const FILE_WORK: usize = 4096;

#[derive(Debug, Clone)]
pub(super) struct Directive {
    pub(super) at: Position,
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.word(0)
    }

    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map(String::as_str).unwrap_or_default()
    }

    pub(super) fn from(&self, index: usize) -> &[String] {
        self.words.get(index..).unwrap_or_default()
    }

    pub(super) fn inside(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }
}

impl Said for Directive {
    const PROGRAM: &'static str = "nginx";

    fn at(&self) -> &Position {
        &self.at
    }

    fn shown(&self) -> String {
        let is_secret = |word: &String| word.to_ascii_lowercase().contains("authorization");
        match self.words.iter().position(is_secret) {
            Some(index) => format!("{} (not shown)", self.words.get(..=index).unwrap_or_default().join(" ")),
            None => self.words.join(" "),
        }
    }
}

pub(super) fn read(path: &Path, files: &dyn Files, findings: &mut Findings) -> Result<Vec<Directive>, ImportError> {
    let directory = path.parent().unwrap_or(Path::new(""));
    // A site is included from the directory above its own, and names files from there.
    let is_site = ["sites-enabled", "sites-available", "conf.d"].iter().any(|name| directory.ends_with(name));
    let base = if is_site { directory.parent().unwrap_or(directory) } else { directory };
    let at = Position { file: name_of(path), line: 0 };
    let text = files.read(path).map_err(|error| at.error(ErrorKind::Unreadable(error)))?;
    let mut reader = Reader { files, findings, base: base.to_owned(), reading: Vec::new(), work_left: WORK_MAX };
    reader.file(path, &text, &at)
}

/// In the order of the directives.
pub(super) fn positions<'a>(directives: &'a [Directive], into: &mut Vec<&'a Position>) {
    for directive in directives {
        into.push(&directive.at);
        positions(directive.inside(), into);
    }
}

struct Reader<'a> {
    files: &'a dyn Files,
    findings: &'a mut Findings,
    base: PathBuf,
    /// The file being read, last, and those that include it.
    reading: Vec<PathBuf>,
    work_left: usize,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &str, from: &Position) -> Result<Vec<Directive>, ImportError> {
        self.work_left =
            self.work_left.checked_sub(text.len() + FILE_WORK).ok_or_else(|| from.error(ErrorKind::TooMuch))?;
        self.reading.push(path.to_owned());
        let file = name_of(path);
        let place = |line: usize| Position { file: file.clone(), line };
        let tokens = lex::tokens(text).map_err(|line| place(line).error(ErrorKind::UnterminatedQuote))?;
        // The block that is read, last, and those around it with the words before their brace.
        let mut done: Vec<Directive> = Vec::new();
        let mut open: Vec<(Vec<Directive>, Position, Vec<String>)> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut start = place(0);
        for (line, token) in tokens {
            match token {
                Token::Word(word) => {
                    if words.is_empty() {
                        start = place(line);
                    }
                    words.push(word);
                }
                Token::End if words.first().is_some_and(|word| word == "include") => {
                    let name = words.get(1).cloned().unwrap_or_default();
                    words.clear();
                    done.extend(self.include(&name, &start)?);
                }
                Token::End if words.is_empty() => {}
                Token::End => {
                    done.push(Directive { at: start.clone(), words: std::mem::take(&mut words), block: None });
                }
                Token::Open if words.is_empty() => return Err(place(line).error(ErrorKind::BlockWithoutKeyword)),
                Token::Open if open.len() >= DEPTH_MAX => return Err(place(line).error(ErrorKind::BlockDepth)),
                Token::Open => open.push((std::mem::take(&mut done), start.clone(), std::mem::take(&mut words))),
                Token::Close => {
                    if let Some(word) = words.first() {
                        return Err(start.error(ErrorKind::UnfinishedDirective(short(word))));
                    }
                    let (before, at, words) = open.pop().ok_or_else(|| place(line).error(ErrorKind::StrayBrace))?;
                    let inside = std::mem::replace(&mut done, before);
                    done.push(Directive { at, words, block: Some(inside) });
                }
            }
        }
        if let Some((_, at, words)) = open.last() {
            let keyword = words.first().map(|word| short(word)).unwrap_or_default();
            return Err(at.error(ErrorKind::UnclosedBlock(keyword)));
        }
        if let Some(word) = words.first() {
            return Err(start.error(ErrorKind::UnfinishedDirective(short(word))));
        }
        self.reading.pop();
        Ok(done)
    }

    fn include(&mut self, name: &str, at: &Position) -> Result<Vec<Directive>, ImportError> {
        let what = format!("include {name}");
        let paths = pattern::paths(self.files, &self.base, name);
        if paths.is_empty() {
            self.findings.at(at, Class::Ignored, &*what, "no file has such a name");
        }
        let mut found = Vec::new();
        for path in paths {
            if self.reading.contains(&path) {
                return Err(at.error(ErrorKind::IncludeCycle(path)));
            }
            if self.reading.len() >= INCLUDE_DEPTH_MAX {
                return Err(at.error(ErrorKind::IncludeDepth));
            }
            // What only PHP and browsers need says nothing of where requests go.
            let known = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if matches!(known, "fastcgi_params" | "fastcgi.conf" | "mime.types" | "uwsgi_params" | "scgi_params") {
                self.findings.at(at, Class::Ignored, &*what, "is about files and PHP, which are the web server's work");
                continue;
            }
            match self.files.read(&path) {
                Ok(text) => {
                    self.findings.at(at, Class::Mapped, &*what, format!("read {}", path.display()));
                    found.extend(self.file(&path, &text, at)?);
                }
                Err(error) => {
                    let why = format!("{} cannot be read ({error}); import again once it is there", path.display());
                    self.findings.at(at, Class::Refused, &*what, why);
                }
            }
        }
        Ok(found)
    }
}

fn short(word: &str) -> String {
    one_line(&word.chars().take(64).collect::<String>())
}

fn name_of(path: &Path) -> Rc<str> {
    one_line(&path.display().to_string()).into()
}
