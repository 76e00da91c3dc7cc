//! The page the worker shares with its parent (memfd): heartbeats and pool health, read by the real-time thread.
//!
//! Layout: an array of 64-byte lines. Line 0 is the summary, line 1+n belongs to core n; pools follow. Only atomics, so either side may
//! write any value at any time; the parent treats what it reads as hints of an untrusted process.

#![allow(unsafe_code)] // the promise that the page is atomics only

use crate::shared::{Plain, Shared, hash_name};
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

/// Pools that trackers can ask about; further ones are not on the page.
pub const POOLS_MAX: usize = 256;

#[repr(C)]
#[derive(Default)]
pub struct PoolLine {
    /// Hash of the pool's name; 0 is a free line.
    name: AtomicU64,
    /// Usable servers, and servers in the upper half.
    servers: AtomicU64,
}

#[repr(C)]
pub struct Page {
    pub summary: Summary,
    pub core: [CoreLine; CORES_MAX],
    pool: [PoolLine; POOLS_MAX],
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
        for PoolLine { name, servers } in &self.pool {
            name.store(0, Ordering::Release);
            servers.store(0, Ordering::Relaxed);
        }
        for CoreLine { beat, connections, requests, tunnels } in &self.core {
            for field in [beat, connections, requests, tunnels] {
                field.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Writes down how many servers of every pool are usable, and how many there are.
    pub fn note_pools<'a>(&self, pools: impl Iterator<Item = (&'a str, u32, u32)>) {
        let free = ("", 0, 0);
        for (line, (name, usable, servers)) in self.pool.iter().zip(pools.chain(std::iter::repeat(free))) {
            let key = if name.is_empty() { 0 } else { hash_name(name) };
            if line.name.load(Ordering::Relaxed) != key {
                // Nobody may read the one's servers under the other's name.
                line.name.store(0, Ordering::Release);
            }
            line.servers.store(u64::from(servers) << 32 | u64::from(usable), Ordering::Release);
            line.name.store(key, Ordering::Release);
        }
    }

    /// Usable servers of a pool and all of them, once the worker has written them.
    pub fn pool(&self, name: &str) -> Option<(u32, u32)> {
        let key = hash_name(name);
        let line = self.pool.iter().find(|line| line.name.load(Ordering::Acquire) == key)?;
        let servers = line.servers.load(Ordering::Acquire);
        Some((u32::try_from(servers & 0xffff_ffff).unwrap_or(0), u32::try_from(servers >> 32).unwrap_or(0)))
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
    fn pools_are_found_by_name_and_follow_a_reload() {
        let (page, _memfd) = SharedPage::create(c"lyre-page").unwrap();
        page.note_pools([("web", 1, 2), ("push", 3, 3)].into_iter());
        assert_eq!((page.pool("web"), page.pool("push"), page.pool("wiki")), (Some((1, 2)), Some((3, 3)), None));
        page.note_pools([("push", 0, 3)].into_iter());
        assert_eq!((page.pool("web"), page.pool("push")), (None, Some((0, 3))));
        page.clear();
        assert_eq!(page.pool("push"), None);
    }

    #[test]
    fn a_lying_core_count_stays_inside_the_page() {
        let (page, _memfd) = SharedPage::create(c"lyre-page").unwrap();
        page.summary.cores.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(page.lines().len(), CORES_MAX);
    }
}
