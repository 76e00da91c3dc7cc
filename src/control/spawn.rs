//! The parent's side of starting a worker: this binary again, with one end of a channel and nothing else.

#![allow(unsafe_code)] // code between fork and exec, pidfd_open

use crate::control::entry::{CHANNEL_FD, Orders};
use crate::control::privileges::{Identity, limit_capabilities};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, Uid};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Variables that change how the worker prints, and nothing else, pass; the rest of the environment (secrets among it)
/// does not.
const ENVIRONMENT: [&str; 6] = ["RUST_BACKTRACE", "TZ", "TERM", "NO_COLOR", "JOURNAL_STREAM", "LANG"];

/// A child of ours that was not reaped yet, so that its process number cannot be somebody else's.
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts `/proc/self/exe worker …` with `channel` as descriptor 3. Everything else but standard error and output
    /// is closed there. The privileges go in [`crate::control::entry`], after the exec.
    pub fn spawn(orders: &Orders, channel: OwnedFd) -> io::Result<Process> {
        // Held open in this process: the pipe by which `Command` reports a failed exec must not be number 3.
        let _reserved = reserve(CHANNEL_FD)?;
        let channel_fd = channel.as_raw_fd();
        let is_root = Uid::effective().is_root();
        let mut command = Command::new("/proc/self/exe");
        command.arg("worker").args(orders.to_arguments()).stdin(Stdio::null()).env_clear();
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // SAFETY: the closure only makes system calls; no allocation, no locks.
        unsafe { command.pre_exec(move || before_exec(channel_fd, is_root)) };
        Process::adopt(&command.spawn()?)
    }

    /// A child that was just started and that nobody else reaps.
    pub fn adopt(child: &Child) -> io::Result<Process> {
        let pid = Pid::from_raw(child.id() as libc::pid_t);
        Ok(Process { pid, pidfd: open_pidfd(pid)? })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable once the process has exited.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn kill(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// Reaps it if it has exited: how it ended.
    pub fn try_wait(&self) -> Option<Exit> {
        match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(_, code)) => Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::Signal(signal)),
            Ok(_) | Err(Errno::EINTR) => None,
            Err(_) => Some(Exit::Unknown),
        }
    }
}

/// Readable once the process, anybody's, has exited. The caller knows that the number still means the one it means.
pub fn open_pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and gives a new descriptor (close-on-exec by definition).
    let pidfd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: as above; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) })
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
    /// Somebody else reaped it.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with status {code}"),
            Exit::Signal(signal) => write!(f, "killed by {signal}"),
            Exit::Unknown => f.write_str("ended in an unknown way"),
        }
    }
}

/// Makes the access log file and gives it to the worker's user, who could not make it in a root-owned directory. Never
/// follows a link somebody put there.
pub fn prepare_log(path: &Path, identity: Identity) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    match identity {
        Identity::Switch { uid, gid } if file.metadata()?.is_file() => fchown(&file, Some(uid), Some(gid)),
        Identity::Switch { .. } | Identity::Keep => Ok(()),
    }
}

/// Makes the spool's directory if it is not there, for the worker alone. One that is there is left as it is.
pub fn prepare_spool(path: &Path, identity: Identity) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Ok(()) => match identity {
            Identity::Switch { uid, gid } => chown(path, Some(uid), Some(gid)),
            Identity::Keep => Ok(()),
        },
        Err(error) => Err(error),
    }
}

/// The group to put the worker into, so that it may use the container engine's socket; the error is why none would help.
///
/// Whoever uses that socket is master of the engine's host: the worker is, through the engine, as soon as one is
/// configured, and a descriptor that we hand it would give it nothing less.
pub fn engine_group(socket: &Path, identity: Identity) -> Result<Option<u32>, String> {
    let Identity::Switch { uid, gid } = identity else { return Ok(None) };
    let data = std::fs::metadata(socket).map_err(|error| format!("{error}; start the engine, then lyre again"))?;
    const BOTH: u32 = 0o6;
    let has = |shift: u32| (data.mode() >> shift) & BOTH == BOTH;
    if has(0) || (data.uid() == uid && has(6)) || (data.gid() == gid && has(3)) {
        return Ok(None);
    }
    if has(3) {
        return Ok(Some(data.gid()));
    }
    Err(format!("its mode is {:o}; let a group read and write it, then start lyre again", data.mode() & 0o777))
}

/// Runs in the child between fork and exec: system calls only.
fn before_exec(channel: RawFd, is_root: bool) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::prctl::set_no_new_privs()?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // A binary with file capabilities gets none of them back under no_new_privs if it has none before. Root needs its
    // own a little longer, to change its user.
    if !is_root {
        limit_capabilities(None)?;
    }
    // SAFETY: plain descriptor numbers; CHANNEL_FD is reserved in the parent, so it is not in use for anything else.
    // close_range marks instead of closing, because `Command`'s own pipe must survive until the exec.
    unsafe {
        Errno::result(libc::dup2(channel, CHANNEL_FD))?;
        let first = CHANNEL_FD as u32 + 1;
        Errno::result(libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC))?;
    }
    Ok(())
}

/// Makes sure that every descriptor up to `number` is in use while the result lives.
fn reserve(number: RawFd) -> io::Result<Vec<std::fs::File>> {
    let mut held = Vec::new();
    loop {
        let file = std::fs::File::open("/dev/null")?;
        if file.as_raw_fd() > number {
            return Ok(held);
        }
        held.push(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_worker_joins_the_group_of_the_engines_socket_only_where_that_helps() {
        let path = std::env::temp_dir().join(format!("lyre-engine-{:016x}", fastrand::u64(..)));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let data = std::fs::metadata(&path).unwrap();
        let (uid, gid) = (data.uid(), data.gid());
        let stranger = Identity::Switch { uid: uid + 1, gid: gid + 1 };
        let group = |mode, identity| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            engine_group(&path, identity)
        };
        assert_eq!(group(0o660, stranger), Ok(Some(gid)));
        assert_eq!(group(0o666, stranger), Ok(None));
        assert!(group(0o600, stranger).unwrap_err().contains("mode is 600"));
        assert!(group(0o640, stranger).is_err());
        assert_eq!(group(0o600, Identity::Switch { uid, gid: gid + 1 }), Ok(None));
        assert_eq!(group(0o660, Identity::Switch { uid: uid + 1, gid }), Ok(None));
        assert_eq!(group(0o600, Identity::Keep), Ok(None));
        std::fs::remove_file(&path).unwrap();
        assert!(engine_group(&path, stranger).is_err());
    }
}
