//! Orders to the real-time thread and status from it, through locks that the thread only tries.

use super::{Command, RouterStatus};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct Mailbox {
    orders: Mutex<VecDeque<Command>>,
    status: Mutex<Vec<RouterStatus>>,
    bell: EventFd,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Mailbox> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Mailbox { orders: Mutex::default(), status: Mutex::default(), bell })
    }

    /// From any thread.
    pub(super) fn post(&self, command: Command) {
        lock(&self.orders).push_back(command);
        // Fails only when the counter is full, and then the thread is being woken anyway.
        let _ = self.bell.write(1);
    }

    /// From any thread.
    pub(super) fn status(&self) -> Vec<RouterStatus> {
        lock(&self.status).clone()
    }

    /// Readable after `post`.
    pub(super) fn descriptor(&self) -> RawFd {
        self.bell.as_fd().as_raw_fd()
    }

    /// Makes the descriptor unreadable. Before `take`, so that no order is missed.
    pub(super) fn silence(&self) {
        let _ = self.bell.read();
    }

    /// Never waits: None if somebody is posting right now.
    pub(super) fn take(&self) -> Option<VecDeque<Command>> {
        self.orders.try_lock().ok().map(|mut orders| std::mem::take(&mut *orders))
    }

    /// Lets `write` change the published status; false if somebody is reading it right now.
    pub(super) fn publish(&self, write: impl FnOnce(&mut Vec<RouterStatus>)) -> bool {
        self.status.try_lock().map(|mut status| write(&mut status)).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
