//! `lyre keygen`: a secret for both nodes.

use super::output;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const SECRET_BYTES: usize = 32;

#[derive(Debug)]
enum KeygenError {
    Random(io::Error),
    Exists(PathBuf),
    Write { path: PathBuf, error: io::Error },
}

pub(super) fn run(out: Option<&Path>) -> ExitCode {
    let line = match secret() {
        Ok(line) => line,
        Err(error) => return output::fail(&KeygenError::Random(error)),
    };
    let Some(path) = out else { return output::print(&line) };
    match write(path, &line) {
        Ok(()) => {
            output::note(format_args!("wrote {}; copy it to every node, over a safe channel", path.display()));
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&error),
    }
}

/// One line of hexadecimal digits: survives editors, copy and paste, and trailing newlines.
fn secret() -> io::Result<String> {
    let mut bytes = [0u8; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut line: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    line.push('\n');
    Ok(line)
}

/// Never over an existing file: a replaced secret cuts the pair in two.
fn write(path: &Path, line: &str) -> Result<(), KeygenError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeygenError::Exists(path.to_owned()),
        _ => KeygenError::Write { path: path.to_owned(), error },
    };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let failed = |error| KeygenError::Write { path: path.to_owned(), error };
    file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

impl fmt::Display for KeygenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeygenError::Random(_) => f.write_str("the kernel gives no random bytes"),
            KeygenError::Exists(path) => {
                write!(f, "{} is there already; remove it first if no node uses it any more", path.display())
            }
            KeygenError::Write { path, .. } => write!(f, "cannot write {}", path.display()),
        }
    }
}

impl std::error::Error for KeygenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KeygenError::Random(error) | KeygenError::Write { error, .. } => Some(error),
            KeygenError::Exists(_) => None,
        }
    }
}
