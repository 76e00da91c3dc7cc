//! Watches the files of the certificates that are served with: when one changes, and is left alone for a look, it is
//! time to read them again. By looking, not by inotify: renewals replace files, links to files and whole directories,
//! and what is asked is only what the path leads to now.

use crate::config::settings::Settings;
use lyre_vrrp::params::Time;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a path leads to: device, inode, length, and when it was written. `None`: nothing.
type Sign = Option<(u64, u64, u64, i64, i64)>;

#[derive(Debug)]
pub struct CertificateWatch {
    /// As they were when the running configuration was read, or when a change was last acted on.
    known: Vec<(PathBuf, Sign)>,
    /// Of the last look, if it differed.
    seen: Option<Vec<(PathBuf, Sign)>>,
    look_at: Time,
}

impl CertificateWatch {
    pub fn new(settings: &Settings, now: Time) -> CertificateWatch {
        CertificateWatch { known: look(paths(settings)), seen: None, look_at: now.plus(LOOK_EVERY) }
    }

    /// None if there is nothing to watch.
    pub fn deadline(&self) -> Option<Time> {
        (!self.known.is_empty()).then_some(self.look_at)
    }

    /// True once for every change that has come to rest: a certificate and its key are written one after the other.
    pub fn has_changed(&mut self, now: Time) -> bool {
        if self.known.is_empty() || now < self.look_at {
            return false;
        }
        self.look_at = now.plus(LOOK_EVERY);
        let found = look(self.known.iter().map(|(path, _)| path.clone()).collect());
        if found == self.known {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return false;
        }
        self.known = found;
        self.seen = None;
        true
    }
}

fn paths(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        settings.certificates.iter().flat_map(|c| [c.cert_path.clone(), c.key_path.clone()]).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn look(paths: Vec<PathBuf>) -> Vec<(PathBuf, Sign)> {
    paths.into_iter().map(|path| (sign(&path), path)).map(|(sign, path)| (path, sign)).collect()
}

fn sign(path: &Path) -> Sign {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
