//! Text on its way out: colours only where somebody sees them, and a closed pipe is no error.

#![allow(clippy::print_stdout, clippy::print_stderr)] // the room that prints

use super::FAILED;
use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Colours for one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Coloured,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Good,
    Odd,
    Bad,
    Faint,
    Strong,
}

impl Style {
    pub(super) fn of_stdout() -> Style {
        Style::of(std::io::stdout().is_terminal())
    }

    pub(super) fn of_stderr() -> Style {
        Style::of(std::io::stderr().is_terminal())
    }

    fn of(is_terminal: bool) -> Style {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if is_terminal && !is_set("NO_COLOR") && !is_dumb { Style::Coloured } else { Style::Plain }
    }

    pub(super) fn paint(self, colour: Colour, text: impl std::fmt::Display) -> String {
        let code = match colour {
            _ if self == Style::Plain => return text.to_string(),
            Colour::Good => "32",
            Colour::Odd => "33",
            Colour::Bad => "31",
            Colour::Faint => "2",
            Colour::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The result of a command. A reader that has gone away has what it wanted.
pub(super) fn print(text: &str) -> ExitCode {
    match try_print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// As [`print()`], for those who go on printing.
pub(super) fn try_print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// For people, beside the result.
pub(super) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `lyre: what went wrong: why`.
pub(super) fn fail(error: &dyn Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let reason = inner.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        source = inner.source();
    }
    note(format_args!("{} {text}", Style::of_stderr().paint(Colour::Bad, "lyre:")));
    ExitCode::from(FAILED)
}
