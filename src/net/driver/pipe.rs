//! Pipes through which the kernel moves a body from one socket to another without copying it (splice(2)). A core has a
//! few, last in first out; a transfer holds one only while bytes are in it.

use super::sys;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a pipe holds: 64 pages. An unprivileged user may have 64 MiB in pipes (fs.pipe-user-pages-soft).
const PIPE_BYTES: i32 = 256 * 1024;

/// Pipes of a core, each two descriptors and some kernel memory; whoever finds none left copies.
const PIPES_MAX: usize = 64;

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
    /// Pipes that exist; [`PIPES_MAX`] once the system has refused one.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

pub(in crate::net) struct Pipe {
    outlet: OwnedFd,
    inlet: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one; none when too many are in use, or the system does not give any.
    pub(in crate::net) fn take() -> Option<Pipe> {
        if let Some(pipe) = IDLE.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        if COUNT.get() >= PIPES_MAX {
            return None;
        }
        let pipe = Pipe::open().ok();
        COUNT.set(if pipe.is_some() { COUNT.get() + 1 } else { PIPES_MAX });
        pipe
    }

    fn open() -> nix::Result<Pipe> {
        let (outlet, inlet) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        fcntl(&inlet, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES))?;
        Ok(Pipe { outlet, inlet, held: 0 })
    }

    pub(in crate::net) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Gives an empty pipe back; one with bytes of a transfer that failed is closed.
    pub(in crate::net) fn give(self) {
        let is_kept = self.held == 0 && IDLE.try_with(|idle| idle.borrow_mut().push(self)).is_ok();
        if !is_kept {
            let _ = COUNT.try_with(|count| count.set(count.get().saturating_sub(1)));
        }
    }

    /// Takes what `socket` has, at most `bytes_max`: 0 is the end of its stream, none that there is nothing now.
    pub(super) fn fill(&mut self, socket: &impl AsFd, bytes_max: usize) -> io::Result<Option<usize>> {
        let count = sys::splice(socket, &self.inlet, bytes_max)?;
        self.held += count.unwrap_or(0);
        Ok(count)
    }

    /// Gives `socket` what is held; none if it takes nothing now.
    pub(super) fn drain(&mut self, socket: &impl AsFd) -> io::Result<Option<usize>> {
        let count = sys::splice(&self.outlet, socket, self.held)?;
        self.held -= count.unwrap_or(0).min(self.held);
        Ok(count)
    }
}
