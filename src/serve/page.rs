//! The page the worker shares with its parent (memfd): heartbeats and pool health, read by the real-time thread.
//!
//! Layout: an array of 64-byte lines. Line 0 is the summary, line 1+n belongs to core n. Only atomics.

use std::sync::atomic::{AtomicU32, AtomicU64};

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
