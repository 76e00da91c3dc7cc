//! Programs of the operator's: checks and hooks. Started in a process group of their own, by default without any
//! privilege, and ended with everything they started.

#![allow(unsafe_code)] // code between fork and exec

use crate::config::settings::track::Command;
use crate::control::privileges::{Capabilities, Capability, Identity, account, is_mapped, surrender};
use crate::control::spawn::{Exit, Process};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, sigprocmask};
use nix::unistd::Uid;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Whom scripts run as where nothing is written, if there is such an account.
const DEFAULT_ACCOUNT: &str = "lyre_script";

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A running script.
pub struct Script {
    process: Process,
}

/// Why a script was not started.
#[derive(Debug)]
pub enum ScriptError {
    UnknownUser(String),
    /// It would run as root, and somebody else could change what it does.
    Writable(PathBuf),
    Start(io::Error),
}

/// What a script may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Everything this process may.
    Root,
    None(Identity),
}

impl Script {
    pub fn start(command: &Command, more: &[String], user: Option<&str>) -> Result<Script, ScriptError> {
        let rights = rights(user)?;
        let program = match rights {
            Rights::Root => check_owners(&command.program)?,
            Rights::None(_) => command.program.clone(),
        };
        let mut child = std::process::Command::new(program);
        child.args(&command.arguments).args(more).env_clear().env("PATH", SEARCH_PATH).current_dir("/");
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        // SAFETY: the closure only makes system calls; no allocation, no locks.
        unsafe { child.pre_exec(move || before_exec(rights)) };
        let process = child.spawn().and_then(|child| Process::adopt(&child)).map_err(ScriptError::Start)?;
        Ok(Script { process })
    }

    /// Readable once it has exited.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    /// How it ended, if it has. What it left running in its group is ended too.
    pub fn try_wait(&self) -> Option<Exit> {
        let exit = self.process.try_wait()?;
        self.kill();
        Some(exit)
    }

    /// Asks the whole group to end.
    pub fn terminate(&self) {
        let _ = killpg(self.process.pid(), Signal::SIGTERM);
    }

    /// Ends the whole group. The number stays ours: while any member lives, nobody else gets it.
    pub fn kill(&self) {
        let _ = killpg(self.process.pid(), Signal::SIGKILL);
    }
}

/// Whom it would run as, where that is somebody else.
pub fn identity(user: Option<&str>) -> Option<(u32, u32)> {
    match rights(user) {
        Ok(Rights::None(Identity::Switch { uid, gid })) => Some((uid, gid)),
        Ok(Rights::None(Identity::Keep) | Rights::Root) | Err(_) => None,
    }
}

fn rights(user: Option<&str>) -> Result<Rights, ScriptError> {
    if !Uid::effective().is_root() {
        return Ok(Rights::None(Identity::Keep));
    }
    let (uid, gid) = account(user, DEFAULT_ACCOUNT).map_err(|error| ScriptError::UnknownUser(error.0))?;
    if uid == 0 {
        return Ok(Rights::Root);
    }
    let held = Capabilities::of_this_process();
    let may_switch = held.has(Capability::SetUid) && held.has(Capability::SetGid);
    let is_known = is_mapped("/proc/self/uid_map", uid) && is_mapped("/proc/self/gid_map", gid);
    // A user namespace without other users: uid 0 without capabilities is what there is.
    Ok(Rights::None(if may_switch && is_known { Identity::Switch { uid, gid } } else { Identity::Keep }))
}

/// The script with all links resolved, if only root can change it or replace it.
fn check_owners(program: &Path) -> Result<PathBuf, ScriptError> {
    let program = fs::canonicalize(program).map_err(ScriptError::Start)?;
    for path in program.ancestors() {
        let data = fs::symlink_metadata(path).map_err(ScriptError::Start)?;
        let by_group = data.mode() & 0o020 != 0 && data.gid() != 0;
        if data.uid() != 0 || by_group || data.mode() & 0o002 != 0 {
            return Err(ScriptError::Writable(path.to_owned()));
        }
    }
    Ok(program)
}

/// Runs in the child between fork and exec: system calls only.
fn before_exec(rights: Rights) -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    if let Rights::None(identity) = rights {
        surrender(identity, None, None)?;
    }
    // SAFETY: numbers only. Marks instead of closing, because the pipe that reports a failed exec must survive until it.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScriptError::UnknownUser(name) => write!(f, "there is no account {name} to run it as"),
            ScriptError::Writable(path) => write!(
                f,
                "not run as root, because others than root can write {}: give it to root, or another user to the script",
                path.display()
            ),
            ScriptError::Start(error) => write!(f, "cannot be started: {error}"),
        }
    }
}

impl std::error::Error for ScriptError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_others_can_write_is_not_run_as_root() {
        if !Uid::effective().is_root() {
            println!("SKIPPED: what_others_can_write_is_not_run_as_root: needs root");
            return;
        }
        let directory = std::env::temp_dir().join(format!("lyre-script-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let script = directory.join("check");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let command = Command { program: script.clone(), arguments: Vec::new() };
        // The directory of temporary files itself is writable by all.
        let refused = Script::start(&command, &[], Some("root")).err();
        assert!(matches!(refused, Some(ScriptError::Writable(_))), "{refused:?}");
        assert_eq!(check_owners(Path::new("/bin/sh")).ok(), fs::canonicalize("/bin/sh").ok());
        fs::remove_dir_all(&directory).unwrap();
    }
}
