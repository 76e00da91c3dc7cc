//! The certificates of ExApps' tunnels: a directory of files with the names that HaRP gives them.
//!
//! ```text
//! ca.crt      what clients know the server by, and the server its clients      ca.key      signs
//! server.crt  the server's, always called harp.nc                              server.key
//! client.crt  the one of all ExApps and engines                                client.key
//! ```
//!
//! A directory that is there is taken over as it is, HaRP's too: clients hold copies of its files, and nobody brings them new
//! ones. Only the server's leaf is made anew before it ends, by the same authority, so that clients need nothing. Two nodes
//! need the same directory.

pub mod issue;

use crate::config::x509;
use issue::{Authority, CLIENT, IssueError, SERVER, Term};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of HaRP.
pub const DAYS: u32 = 5_000;

/// A server's leaf that ends sooner is made anew.
const RENEWAL: i64 = 30 * 86_400;

const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

/// What became of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Made,
    Kept,
    /// The server has a new leaf.
    Renewed,
}

#[derive(Debug)]
pub enum FrpFilesError {
    File {
        path: PathBuf,
        error: io::Error,
    },
    /// No certificate is in it.
    NoCertificate(PathBuf),
    Issue {
        directory: PathBuf,
        error: IssueError,
    },
}

/// Sees to it that the directory has what tunnels need at `now`, since 1970. What is made is good for `days`.
pub fn prepare(directory: &Path, days: u32, now: Duration) -> Result<Outcome, FrpFilesError> {
    let term = Term { from: now, days };
    let at = |name: &str| directory.join(name);
    if !directory.exists() {
        return make(directory, term).map(|()| Outcome::Made);
    }
    let is_due = match not_after(&at("server.crt")) {
        Ok(end) => end.saturating_sub(now.as_secs() as i64) < RENEWAL,
        // It is worth nothing as it is.
        Err(FrpFilesError::NoCertificate(_)) => true,
        Err(FrpFilesError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if !is_due {
        return Ok(Outcome::Kept);
    }
    renew(directory, term).map(|()| Outcome::Renewed)
}

/// When the certificate in a file ends, in seconds since 1970.
pub fn not_after(path: &Path) -> Result<i64, FrpFilesError> {
    let text = read(path)?;
    let der = CertificateDer::from_pem_slice(text.as_bytes()).ok();
    let validity = der.and_then(|der| x509::validity(&der));
    validity.map(|validity| validity.not_after).ok_or_else(|| FrpFilesError::NoCertificate(path.to_owned()))
}

/// Whole or not at all: what is there once is never made again.
fn make(directory: &Path, term: Term) -> Result<(), FrpFilesError> {
    let failed = |error| FrpFilesError::Issue { directory: directory.to_owned(), error };
    let authority = Authority::make(term).map_err(failed)?;
    let mut name = directory.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(name);
    let at = |path: &Path, error| FrpFilesError::File { path: path.to_owned(), error };
    DirBuilder::new().mode(0o755).create(&new).map_err(|error| at(&new, error))?;
    let fill = || {
        write(&new.join("ca.crt"), &authority.certificate_pem, PUBLIC)?;
        write(&new.join("ca.key"), &authority.key_pem(), SECRET)?;
        for (file, name) in [("server", SERVER), ("client", CLIENT)] {
            let key = issue::key().map_err(failed)?;
            let leaf = authority.issue(name, &key, term).map_err(failed)?;
            write(&new.join(format!("{file}.crt")), &leaf, PUBLIC)?;
            write(&new.join(format!("{file}.key")), &key.serialize_pem(), SECRET)?;
        }
        fs::rename(&new, directory).map_err(|error| at(directory, error))
    };
    fill().inspect_err(|_| drop(fs::remove_dir_all(&new)))
}

fn renew(directory: &Path, term: Term) -> Result<(), FrpFilesError> {
    let failed = |error| FrpFilesError::Issue { directory: directory.to_owned(), error };
    let authority = Authority::of(read(&directory.join("ca.crt"))?, &read(&directory.join("ca.key"))?);
    let authority = authority.map_err(failed)?;
    let path = directory.join("server.key");
    let is_new = !path.exists();
    let key = match is_new {
        true => issue::key().map_err(failed)?,
        false => rcgen::KeyPair::from_pem(&read(&path)?).map_err(|error| failed(error.into()))?,
    };
    let leaf = authority.issue(SERVER, &key, term).map_err(failed)?;
    if is_new {
        write(&path, &key.serialize_pem(), SECRET)?;
    }
    write(&directory.join("server.crt"), &leaf, PUBLIC)
}

fn read(path: &Path) -> Result<String, FrpFilesError> {
    fs::read_to_string(path).map_err(|error| FrpFilesError::File { path: path.to_owned(), error })
}

/// Never half a file under its name.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), FrpFilesError> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let written = || {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    let undo = |_: &io::Error| drop(fs::remove_file(&new));
    written().inspect_err(undo).map_err(|error| FrpFilesError::File { path: path.to_owned(), error })
}

impl fmt::Display for FrpFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrpFilesError::File { path, error } => write!(f, "{}: {error}", path.display()),
            FrpFilesError::NoCertificate(path) => write!(f, "there is no certificate in {}", path.display()),
            FrpFilesError::Issue { directory, error } => {
                let directory = directory.display();
                match error {
                    IssueError::Certificate(error) => write!(f, "certificates in {directory}: {error}"),
                    IssueError::Authority(error) => write!(
                        f,
                        "ca.key in {directory} does not sign for ca.crt ({error}): bring back the pair that clients know, or \
                         move the directory away and install every ExApp again"
                    ),
                    IssueError::Random => f.write_str("the kernel gives no random bytes"),
                }
            }
        }
    }
}

impl std::error::Error for FrpFilesError {}

#[cfg(test)]
mod tests;
