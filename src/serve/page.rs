//! The page the worker shares with its parent (memfd): heartbeats and pool health, read by the real-time thread.
//!
//! Layout: an array of 64-byte lines. Line 0 is the summary, line 1+n belongs to core n. Only atomics, so either side may
//! write any value at any time; the parent treats what it reads as hints of an untrusted process.

#![allow(unsafe_code)] // the promise that the page is atomics only

use crate::shared::{Plain, Shared};
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

// SAFETY: atomics only.
unsafe impl Plain for Page {}

/// A mapping of the page; one per worker process, so that a dying worker cannot write into its successor's.
pub type SharedPage = Shared<Page>;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_mappings_see_the_same_page() {
        let (parent, memfd) = SharedPage::create(c"lyre-page").unwrap();
        let worker = SharedPage::open(memfd).unwrap();
        worker.summary.cores.store(2, Ordering::Relaxed);
        worker.core[1].beat.store(7, Ordering::Relaxed);
        assert_eq!(parent.lines().len(), 2);
        assert_eq!(parent.lines()[1].beat.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_lying_core_count_stays_inside_the_page() {
        let (page, _memfd) = SharedPage::create(c"lyre-page").unwrap();
        page.summary.cores.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(page.lines().len(), CORES_MAX);
    }
}
