//! The page the worker shares with its parent (memfd): heartbeats and pool health, read by the real-time thread.
//!
//! Layout: an array of 64-byte lines. Line 0 is the summary, line 1+n belongs to core n. Only atomics, so either side may
//! write any value at any time; the parent treats what it reads as hints of an untrusted process.

#![allow(unsafe_code)] // one shared mapping

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub const CORES_MAX: usize = 255;

#[repr(C, align(64))]
#[derive(Default)]
pub struct Summary {
    /// 1 once all cores accept.
    pub ready: AtomicU32,
    /// Web servers that take requests (up or in maintenance), and how many there are. 0 of n means degraded.
    pub usable_servers: AtomicU32,
    pub servers: AtomicU32,
    /// Number of data cores.
    pub cores: AtomicU32,
}

#[repr(C, align(64))]
#[derive(Default)]
pub struct CoreLine {
    /// Bumped about every 10 ms by a live executor.
    pub beat: AtomicU64,
    /// Open client connections, requests in flight, open tunnels.
    pub connections: AtomicU64,
    pub requests: AtomicU64,
    pub tunnels: AtomicU64,
}

#[repr(C)]
pub struct Page {
    pub summary: Summary,
    pub core: [CoreLine; CORES_MAX],
}

const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<Page>()).unwrap();

/// A mapping of the page; derefs to [`Page`]. Share it between threads in an `Arc`.
pub struct SharedPage {
    at: NonNull<Page>,
}

/// Why a descriptor is not usable as the page.
#[derive(Debug)]
pub enum PageError {
    /// Not a memfd of the right size that can no longer shrink: reading it could be a bus error.
    NotAPage,
    System {
        operation: &'static str,
        error: Errno,
    },
}

impl SharedPage {
    /// A zeroed page and the descriptor to pass on. Its size is sealed. Parent side; one page for all workers, one
    /// after the other.
    pub fn create() -> Result<(SharedPage, OwnedFd), PageError> {
        let memfd = memfd_create("lyre-page", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(|error| PageError::System { operation: "memfd_create", error })?;
        nix::unistd::ftruncate(&memfd, size_of::<Page>() as libc::off_t)
            .map_err(|error| PageError::System { operation: "ftruncate", error })?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals))
            .map_err(|error| PageError::System { operation: "fcntl(F_ADD_SEALS)", error })?;
        Ok((SharedPage::map(&memfd)?, memfd))
    }

    /// Maps a page that another process created. Worker side.
    pub fn open(memfd: OwnedFd) -> Result<SharedPage, PageError> {
        let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|_| PageError::NotAPage)?;
        let stat = nix::sys::stat::fstat(&memfd).map_err(|error| PageError::System { operation: "fstat", error })?;
        let is_fixed = SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK);
        if !is_fixed || stat.st_size != size_of::<Page>() as libc::off_t {
            return Err(PageError::NotAPage);
        }
        SharedPage::map(&memfd)
    }

    fn map(memfd: &impl AsFd) -> Result<SharedPage, PageError> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory. The file is SIZE bytes
        // and sealed against shrinking (both checked by the callers), so every access stays inside it.
        let at =
            unsafe { mmap(None, SIZE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, memfd, 0) }
                .map_err(|error| PageError::System { operation: "mmap", error })?;
        Ok(SharedPage { at: at.cast() })
    }
}

impl std::ops::Deref for SharedPage {
    type Target = Page;

    fn deref(&self) -> &Page {
        // SAFETY: the mapping is SIZE bytes, page aligned, lives as long as `self`, and consists of atomics only, for
        // which every bit pattern is valid and writes by others are allowed.
        unsafe { self.at.as_ref() }
    }
}

// SAFETY: the content is atomics; the mapping is not tied to a thread.
unsafe impl Send for SharedPage {}
// SAFETY: as above; `&SharedPage` only yields `&Page`.
unsafe impl Sync for SharedPage {}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours and no `&Page` outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), SIZE.get()) };
    }
}

impl Page {
    /// Number of data cores in use, as the worker says, never above [`CORES_MAX`].
    pub fn cores(&self) -> usize {
        (self.summary.cores.load(Ordering::Relaxed) as usize).min(CORES_MAX)
    }

    /// As new, for the next worker. Only while none runs.
    pub fn clear(&self) {
        let Summary { ready, usable_servers, servers, cores } = &self.summary;
        for field in [ready, usable_servers, servers, cores] {
            field.store(0, Ordering::Release);
        }
        for CoreLine { beat, connections, requests, tunnels } in &self.core {
            for field in [beat, connections, requests, tunnels] {
                field.store(0, Ordering::Relaxed);
            }
        }
    }

    pub fn is_ready(&self) -> bool {
        self.summary.ready.load(Ordering::Acquire) == 1
    }

    /// The lines of the cores in use.
    pub fn lines(&self) -> &[CoreLine] {
        self.core.get(..self.cores()).unwrap_or(&self.core)
    }
}

impl std::fmt::Display for PageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PageError::NotAPage => f.write_str("descriptor is not a sealed page of the expected size"),
            PageError::System { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

impl std::error::Error for PageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PageError::NotAPage => None,
            PageError::System { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mappings_see_the_same_page() {
        let (parent, memfd) = SharedPage::create().unwrap();
        let worker = SharedPage::open(memfd).unwrap();
        worker.summary.cores.store(2, Ordering::Relaxed);
        worker.core[1].beat.store(7, Ordering::Relaxed);
        assert_eq!(parent.lines().len(), 2);
        assert_eq!(parent.lines()[1].beat.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_lying_core_count_stays_inside_the_page() {
        let (page, _memfd) = SharedPage::create().unwrap();
        page.summary.cores.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(page.lines().len(), CORES_MAX);
    }

    #[test]
    fn the_page_cannot_be_resized() {
        let (_page, memfd) = SharedPage::create().unwrap();
        assert_eq!(nix::unistd::ftruncate(&memfd, 0), Err(Errno::EPERM));
    }

    #[test]
    fn other_descriptors_are_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(SharedPage::open(null.into()), Err(PageError::NotAPage)));
        let small = memfd_create("small", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(matches!(SharedPage::open(small), Err(PageError::NotAPage)));
    }
}
