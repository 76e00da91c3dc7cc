//! Signals as input of the poll loop: blocked in every thread, read from a signalfd.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// What an operator asks for by signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Stop,
    Reload,
}

pub struct Signals {
    queue: SignalFd,
}

/// Asynchronous signals with a meaning or a deadly default. Faults (SIGSEGV, …), job control and SIGXCPU keep their
/// default: blocking those hides bugs or defeats limits.
const BLOCKED: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGPIPE,
];

impl Signals {
    /// Blocks them in the calling thread, which must be the only one: later threads inherit it.
    pub fn block() -> Result<Signals, Errno> {
        let mask = SigSet::from_iter(BLOCKED);
        mask.thread_block()?;
        // An ignored SIGCHLD (inherited from whoever started us) would reap workers behind our back.
        reset_child_signal()?;
        Ok(Signals { queue: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// The next one that means something; never blocks.
    pub fn take(&mut self) -> Option<Wish> {
        loop {
            let info = self.queue.read_signal().ok().flatten()?;
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => return Some(Wish::Stop),
                Ok(Signal::SIGHUP) => return Some(Wish::Reload),
                _ => {}
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

#[allow(unsafe_code)]
fn reset_child_signal() -> Result<(), Errno> {
    // SAFETY: installs the default disposition, no handler.
    unsafe { nix::sys::signal::signal(Signal::SIGCHLD, nix::sys::signal::SigHandler::SigDfl) }.map(drop)
}
