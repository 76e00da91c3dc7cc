//! What the main thread lets the real-time thread see of the worker: its page and whether it still runs. No locks.

use crate::serve::page::SharedPage;
use crate::shared::SharedError;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One for the life of the parent; workers come and go in it.
pub struct View {
    pub page: SharedPage,
    /// A descriptor number that never changes: each worker's pidfd is put over the last one, so that a thread that is
    /// polling it never meets a closed or reused number.
    slot: OwnedFd,
    /// Number of the running worker, counted from 1; 0 while there is none.
    worker: AtomicU64,
    hang_timeout_ns: AtomicU64,
}

impl View {
    /// The view, and the page's descriptor for the workers.
    pub fn create(hang_timeout: Duration) -> Result<(View, OwnedFd), SharedError> {
        let (page, memfd) = SharedPage::create(c"lyre-page")?;
        let slot = std::fs::File::open("/dev/null")
            .map_err(|_| SharedError::System { operation: "open /dev/null", error: Errno::last() })?;
        let view = View { page, slot: slot.into(), worker: AtomicU64::new(0), hang_timeout_ns: AtomicU64::new(0) };
        view.set_hang_timeout(hang_timeout);
        Ok((view, memfd))
    }

    /// Makes worker `number` visible. The page was cleared before it started.
    pub fn show(&self, number: u64, pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
        duplicate_over(pidfd, &self.slot)?;
        self.worker.store(number, Ordering::Release);
        Ok(())
    }

    pub fn hide(&self) {
        self.worker.store(0, Ordering::Release);
    }

    pub fn worker(&self) -> u64 {
        self.worker.load(Ordering::Acquire)
    }

    /// The current worker's pidfd: readable once it exited. Only meaningful while `worker` is not 0.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.slot.as_fd()
    }

    pub fn pidfd_number(&self) -> RawFd {
        self.slot.as_raw_fd()
    }

    pub fn hang_timeout(&self) -> Duration {
        Duration::from_nanos(self.hang_timeout_ns.load(Ordering::Relaxed))
    }

    pub fn set_hang_timeout(&self, timeout: Duration) {
        self.hang_timeout_ns.store(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// dup3(2) onto the number that `onto` owns.
#[allow(unsafe_code)] // nix wants the target by mutable reference; it is shared here
fn duplicate_over(fd: BorrowedFd<'_>, onto: &OwnedFd) -> Result<(), Errno> {
    // SAFETY: the number stays owned by `onto` and stays open: dup3 replaces what it refers to atomically. The second
    // owner made here is forgotten, so nothing is closed twice.
    let mut target = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(onto.as_raw_fd()) });
    nix::unistd::dup3(fd, &mut target, nix::fcntl::OFlag::O_CLOEXEC)
}
