//! A process of a node, with its output in a file.

use crate::demo::error::DemoError;
use crate::demo::lab::Host;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Lines of a log that people get to see.
const TAIL_LINES: usize = 25;

pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` on `host`; both of its outputs are appended to `log`.
    pub(super) fn start(host: &Host, command: &mut Command, log: &Path) -> Result<Process, DemoError> {
        let open = || File::options().create(true).append(true).open(log);
        let step = || DemoError::lab(format!("opening {}", log.display()));
        command.stdin(Stdio::null()).stdout(open().map_err(step())?).stderr(open().map_err(step())?);
        Ok(Process { child: host.spawn(command)? })
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// An error that tells how it ended, if it has.
    pub(super) fn must_run(&mut self, name: &str) -> Result<(), DemoError> {
        match self.child.try_wait() {
            Ok(Some(status)) => {
                Err(DemoError::Command { command: name.to_owned(), said: format!("ended by itself, {status}") })
            }
            Ok(None) => Ok(()),
            Err(source) => Err(DemoError::Lab { step: format!("looking after {name}"), source }),
        }
    }

    /// Direct children, oldest first.
    pub(super) fn children(&self) -> Vec<Pid> {
        children_of(self.pid())
    }

    /// Signals the process and everything below it. Children first would give the parent time to say goodbye.
    pub(super) fn kill_tree(&mut self) -> Result<(), DemoError> {
        let below: Vec<Pid> =
            self.children().into_iter().flat_map(|child| [vec![child], children_of(child)].concat()).collect();
        signal(self.pid(), Signal::SIGKILL)?;
        for pid in below {
            signal(pid, Signal::SIGKILL)?;
        }
        self.wait()
    }

    pub(super) fn wait(&mut self) -> Result<(), DemoError> {
        self.child.wait().map(drop).map_err(DemoError::lab("waiting for a node's process"))
    }
}

/// Sends `signal`; a process that is already gone is fine.
pub(super) fn signal(pid: Pid, signal: Signal) -> Result<(), DemoError> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(DemoError::Lab { step: format!("sending {signal} to process {pid}"), source: error.into() }),
    }
}

/// From /proc: field 4 of `stat`, after the command name, which may hold anything but ends with the last `)`.
fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Pid> = entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let ppid: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            (ppid == parent.as_raw()).then_some(Pid::from_raw(pid))
        })
        .collect();
    found.sort();
    found
}

pub(super) fn tail(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}
