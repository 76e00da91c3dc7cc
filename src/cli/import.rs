//! `lyre import`: lyre.toml on stdout, exit status by what was carried over.

use super::output;
use crate::import::{Files, Import, ImportError, haproxy, keepalived, nginx};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;

/// Printed, but something of it is missing.
const INCOMPLETE: u8 = 2;

/// A configuration beyond this is something else.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// This machine.
struct Disk;

pub(super) fn keepalived(path: &Path, host: Option<String>) -> ExitCode {
    let host = host.unwrap_or_else(host_name);
    print(keepalived::import(path, &host, &Disk))
}

pub(super) fn haproxy(path: &Path) -> ExitCode {
    print(haproxy::import(path, &Disk))
}

pub(super) fn nginx(path: &Path) -> ExitCode {
    print(nginx::import(path, &Disk))
}

fn print(import: Result<Import, ImportError>) -> ExitCode {
    let import = match import {
        Ok(import) => import,
        Err(error) => return output::fail(&error),
    };
    let printed = output::print(&import.toml);
    if import.is_complete() || printed != ExitCode::SUCCESS { printed } else { ExitCode::from(INCOMPLETE) }
}

/// Empty where there is none: no line is for that.
fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "has more than 16 MiB"));
        }
        // Comments in old encodings are common, and nothing else may have such bytes.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let entries = std::fs::read_dir(directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
