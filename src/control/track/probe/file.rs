//! A file: its number, or that it is there. The directory is watched, so that a file that is made, replaced or removed
//! is seen like one that is written.

use super::{Finding, Probe};
use crate::config::settings::track::FileMode;
use crate::control::track::judge::Outcome;
use lyre_vrrp::params::Time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A look without notification: for network file systems, which give none, and while the directory is not there.
const LOOK: Duration = Duration::from_secs(1);

/// No number is longer.
const BYTES_MAX: u64 = 64;

pub struct File {
    path: PathBuf,
    mode: FileMode,
    changes: Option<Inotify>,
    next: Time,
}

impl File {
    pub fn new(path: PathBuf, mode: FileMode) -> File {
        File { path, mode, changes: None, next: Time(0) }
    }

    fn watch(&mut self) {
        let Some(directory) = self.path.parent() else { return };
        let interesting = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let open = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        self.changes = open.and_then(|changes| changes.add_watch(directory, interesting).map(|_| changes)).ok();
    }

    /// Whether something happened to this file, or to its directory, which is then watched anew.
    fn has_changed(&mut self) -> bool {
        let Some(changes) = &self.changes else { return false };
        let mut any = false;
        loop {
            match changes.read_events() {
                Ok(events) => {
                    any |= events
                        .iter()
                        .any(|event| event.name.is_none() || event.name.as_deref() == self.path.file_name());
                    let gone = AddWatchFlags::IN_DELETE_SELF
                        | AddWatchFlags::IN_MOVE_SELF
                        | AddWatchFlags::IN_IGNORED
                        | AddWatchFlags::IN_UNMOUNT;
                    if events.iter().any(|event| event.mask.intersects(gone)) {
                        self.changes = None;
                        return true;
                    }
                }
                Err(Errno::EAGAIN) => return any,
                Err(_) => {
                    self.changes = None;
                    return true;
                }
            }
        }
    }

    fn look(&self) -> Option<Finding> {
        match self.mode {
            FileMode::Number => number(&self.path),
            FileMode::Exists => Finding::of(self.is_there(), self.describe()),
            FileMode::Absent => Finding::of(!self.is_there(), self.describe()),
        }
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    fn describe(&self) -> &'static str {
        if self.is_there() { "it is there" } else { "it is not there" }
    }
}

impl Probe for File {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        into.extend(self.changes.as_ref().map(|changes| PollFd::new(changes.as_fd(), PollFlags::POLLIN)));
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next)
    }

    fn advance(&mut self, now: Time) -> Option<Finding> {
        if !self.has_changed() && now < self.next {
            return None;
        }
        self.next = now.plus(LOOK);
        if self.changes.is_none() {
            self.watch();
        }
        self.look()
    }
}

/// A missing or empty file is 0.
fn number(path: &Path) -> Option<Finding> {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(Finding {
                outcome: Outcome::Number(0),
                reason: "it is not there, which counts as 0".to_owned(),
            });
        }
        Err(error) => return Finding::bad(format!("cannot be read: {error}")),
    };
    let word = text.split_whitespace().next().unwrap_or("0");
    match word.parse() {
        Ok(number) => Some(Finding { outcome: Outcome::Number(number), reason: format!("it holds {number}") }),
        Err(_) => Finding::bad("it holds no number"),
    }
}

/// Its beginning. Never waits, should it be a pipe.
fn read(path: &Path) -> io::Result<String> {
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
