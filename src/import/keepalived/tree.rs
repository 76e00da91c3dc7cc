//! Words become statements, a block hangs on the statement before it.

use super::expand::Line;
use super::lex::{self, Token, Word};
use crate::import::error::{ErrorKind, ImportError, Position};
use crate::import::findings::Said;

/// keepalived's own blocks go five deep.
const DEPTH_MAX: usize = 16;

/// One line of words, and the block behind it if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) keyword: Word,
    pub(super) arguments: Vec<Word>,
    pub(super) block: Option<Vec<Statement>>,
}

pub(super) fn build(lines: &[Line]) -> Result<Vec<Statement>, ImportError> {
    let mut builder = Builder { done: Vec::new(), open: Vec::new() };
    for line in lines {
        builder.line(line)?;
    }
    builder.finish()
}

impl Statement {
    pub(super) fn at(&self) -> &Position {
        &self.keyword.at
    }

    pub(super) fn name(&self) -> &str {
        &self.keyword.text
    }

    /// The argument at `index`, counted from 0.
    pub(super) fn argument(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).map(|word| word.text.as_str())
    }

    /// The statements of its block; none without one.
    pub(super) fn inside(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }

    /// All its words: for blocks whose lines are values, as addresses.
    pub(super) fn words(&self) -> Vec<&str> {
        std::iter::once(&self.keyword).chain(&self.arguments).map(|word| word.text.as_str()).collect()
    }
}

/// Their arguments do not belong into a file that is mailed around.
const SECRETS: &[&str] = &["auth_pass", "key", "password"];

impl Said for Statement {
    const PROGRAM: &'static str = "keepalived";

    fn at(&self) -> &Position {
        &self.keyword.at
    }

    fn shown(&self) -> String {
        match SECRETS.contains(&self.name()) {
            true => format!("{} (not shown)", self.name()),
            false => self.words().join(" "),
        }
    }
}

struct Builder {
    /// Statements of the block that is being read.
    done: Vec<Statement>,
    /// The statements around it, each with those that came before it.
    open: Vec<(Vec<Statement>, Statement)>,
}

impl Builder {
    fn line(&mut self, line: &Line) -> Result<(), ImportError> {
        let mut words: Vec<Word> = Vec::new();
        for token in lex::tokens(&line.text, &line.at)? {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    self.statement(&mut words);
                    self.enter(&line.at)?;
                }
                Token::Close => {
                    self.statement(&mut words);
                    self.leave(&line.at)?;
                }
            }
        }
        self.statement(&mut words);
        Ok(())
    }

    fn statement(&mut self, words: &mut Vec<Word>) {
        let mut words = std::mem::take(words).into_iter();
        if let Some(keyword) = words.next() {
            self.done.push(Statement { keyword, arguments: words.collect(), block: None });
        }
    }

    fn enter(&mut self, at: &Position) -> Result<(), ImportError> {
        let keyword = self.done.pop().filter(|statement| statement.block.is_none());
        let keyword = keyword.ok_or_else(|| at.error(ErrorKind::BlockWithoutKeyword))?;
        if self.open.len() >= DEPTH_MAX {
            return Err(at.error(ErrorKind::BlockDepth));
        }
        self.open.push((std::mem::take(&mut self.done), keyword));
        Ok(())
    }

    fn leave(&mut self, at: &Position) -> Result<(), ImportError> {
        let (before, mut statement) = self.open.pop().ok_or_else(|| at.error(ErrorKind::StrayBrace))?;
        statement.block = Some(std::mem::replace(&mut self.done, before));
        self.done.push(statement);
        Ok(())
    }

    fn finish(self) -> Result<Vec<Statement>, ImportError> {
        match self.open.last() {
            None => Ok(self.done),
            Some((_, statement)) => {
                Err(statement.at().error(ErrorKind::UnclosedBlock(statement.name().chars().take(64).collect())))
            }
        }
    }
}
