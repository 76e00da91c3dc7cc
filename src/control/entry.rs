//! The first code of the worker process: makes sure of its parent, gives up all privileges, then calls `serve`.

#![allow(unsafe_code)] // takes ownership of the inherited channel

use crate::control::confine::confine;
use crate::control::privileges::{Capabilities, Capability, Identity, surrender};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Where the worker finds its channel.
pub const CHANNEL_FD: RawFd = 3;

/// Open files a worker wants: two descriptors per proxied connection.
const OPEN_FILES: u64 = 1 << 20;

/// Enough for the rings of any number of cores.
const MEMORY_LOCK: u64 = 512 << 20;
/// Rings of one executor, measured with some room: three of glommio's and the driver's.
const MEMORY_LOCK_PER_CORE: u64 = 768 << 10;

/// What the parent tells a worker on its command line, because it is needed before the first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orders {
    /// The parent's process number; another one means that it died while we started.
    pub parent: i32,
    pub identity: Identity,
    /// The group of the container engine's socket, if its members may use that.
    pub engine_group: Option<u32>,
    /// A log file in whose directory the worker may create and write files.
    pub writable: Option<PathBuf>,
    /// The directory in which it may make files without a name.
    pub spool: PathBuf,
}

/// Why a worker did not start.
#[derive(Debug)]
pub enum EntryError {
    /// Not started by `lyre run`.
    Arguments,
    ParentGone,
    System {
        operation: &'static str,
        error: Errno,
    },
}

impl Orders {
    /// `PARENT keep|UID:GID[:GROUP] SPOOL [LOG FILE]`
    pub(super) fn to_arguments(&self) -> Vec<OsString> {
        let identity = match self.identity {
            Identity::Keep => "keep".to_owned(),
            Identity::Switch { uid, gid } => match self.engine_group {
                None => format!("{uid}:{gid}"),
                Some(group) => format!("{uid}:{gid}:{group}"),
            },
        };
        let mut arguments = vec![self.parent.to_string().into(), identity.into(), self.spool.clone().into()];
        arguments.extend(self.writable.clone().map(OsString::from));
        arguments
    }

    fn from_arguments(arguments: &[OsString]) -> Option<Orders> {
        let (parent, identity, spool, writable) = match arguments {
            [parent, identity, spool] => (parent, identity, spool, None),
            [parent, identity, spool, writable] => (parent, identity, spool, Some(PathBuf::from(writable))),
            _ => return None,
        };
        let (identity, engine_group) = match identity.to_str()? {
            "keep" => (Identity::Keep, None),
            numbers => {
                let mut numbers = numbers.split(':').map(|number| number.parse().ok());
                let identity = Identity::Switch { uid: numbers.next()??, gid: numbers.next()?? };
                let group = numbers.next().map_or(Some(None), |group| group.map(Some))?;
                (identity, group.filter(|_| numbers.next().is_none()))
            }
        };
        Some(Orders { parent: parent.to_str()?.parse().ok()?, identity, engine_group, spool: spool.into(), writable })
    }
}

/// Turns the calling process, started by [`crate::control::spawn`], into an unprivileged one. `arguments` are those
/// after `worker`. Must run before any thread exists. Gives the channel to the parent.
pub fn enter(arguments: &[OsString]) -> Result<OwnedFd, EntryError> {
    let orders = Orders::from_arguments(arguments).ok_or(EntryError::Arguments)?;
    let system = |operation| move |error| EntryError::System { operation, error };
    let has_memory = raise_limits();
    let kept = if has_memory { None } else { Some(Capability::IpcLock) };
    surrender(orders.identity, orders.engine_group, kept).map_err(system("dropping privileges"))?;
    // Exec of a binary with file capabilities and every change of user clear the death signal, so it is set here, last.
    // A parent that died before that is seen by its number.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(system("prctl(PR_SET_PDEATHSIG)"))?;
    if nix::unistd::getppid().as_raw() != orders.parent {
        return Err(EntryError::ParentGone);
    }
    for (fence, error) in confine(orders.writable.as_deref(), &orders.spool) {
        tracing::debug!(target: "lyre::worker", fence, %error, "not available here");
    }
    nix::fcntl::fcntl(
        // SAFETY: only borrowed for this call; a closed number is an error, not undefined.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(CHANNEL_FD) },
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .map_err(|_| EntryError::Arguments)?;
    // SAFETY: the parent put the channel there for us, the call above saw it open, and nothing else took it.
    Ok(unsafe { OwnedFd::from_raw_fd(CHANNEL_FD) })
}

/// How many cores the locked-memory limit of this process allows, if neither the limit can be raised nor the worker be
/// exempt. Asked by the parent, for a warning; other programs of the same user count against it as well.
pub fn cores_by_memory_lock(held: Capabilities, identity: Identity) -> Option<usize> {
    let is_kept =
        held.has(Capability::IpcLock) && (identity != Identity::Keep || nix::unistd::Uid::effective().is_root());
    if held.has(Capability::SysResource) || is_kept {
        return None;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    // The control executor has rings as well.
    usize::try_from(hard / MEMORY_LOCK_PER_CORE).ok()?.checked_sub(1)
}

/// As many open files as allowed, memory locking for io_uring as far as allowed, no core files (they would hold keys).
///
/// Answers whether the memory suffices. The kernel counts the rings of all processes of a user together, about 1 MiB a
/// core; where the limit is low and may not be raised (no CAP_SYS_RESOURCE), CAP_IPC_LOCK is what exempts from it. That
/// one alone gives no access to anything.
fn raise_limits() -> bool {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.max(OPEN_FILES);
        if setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }
    let unlimited = nix::libc::RLIM_INFINITY;
    if setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited).is_err()
        && let Ok((_, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
    {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft >= MEMORY_LOCK)
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryError::Arguments => f.write_str("this command is internal to `lyre run`"),
            EntryError::ParentGone => f.write_str("the parent process is gone"),
            EntryError::System { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

impl std::error::Error for EntryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_command_line() {
        for identity in [Identity::Keep, Identity::Switch { uid: 65534, gid: 7 }] {
            for writable in [None, Some(PathBuf::from("/var/log/lyre/access.log"))] {
                for group in [None, Some(108)] {
                    let engine_group = group.filter(|_| identity != Identity::Keep);
                    let (spool, writable) = ("/var/tmp".into(), writable.clone());
                    let orders = Orders { parent: 42, identity, engine_group, spool, writable };
                    assert_eq!(Orders::from_arguments(&orders.to_arguments()), Some(orders));
                }
            }
        }
    }

    #[test]
    fn other_arguments_are_refused() {
        for arguments in [
            &[][..],
            &["1"],
            &["1", "keep"],
            &["1", "2", "s"],
            &["x", "keep", "s"],
            &["1", "a:b", "s"],
            &["1", "2:3:x", "s"],
            &["1", "keep", "s", "f", "g"],
        ] {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            assert_eq!(Orders::from_arguments(&arguments), None, "{arguments:?}");
        }
    }
}
