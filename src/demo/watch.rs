//! Who holds the virtual address, seen from outside, for any contender: what the kernel says of each node's interface.
//!
//! Listened to, not asked for: a question takes the kernel's configuration lock, and a watcher that loses the processor
//! meanwhile holds up every take-over it is there to measure.

use crate::demo::lab::{Host, VIRTUAL_V4};
use lyre_vrrp::link::Change;
use lyre_vrrp::link::linux::clock::{now, readable, wait};
use lyre_vrrp::link::linux::netlink::Monitor;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERFACE: &str = "eth0";

const STOP_WITHIN: Duration = Duration::from_millis(50);

/// Running watchers, one per node; ends when dropped.
pub struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    holds: [AtomicBool; 2],
    /// Times a node was seen to take the address, and the last of them.
    taken: AtomicU32,
    last_taken: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    /// Index of the node.
    Node(usize),
    /// More than one: for a moment during a planned move, otherwise a split brain.
    Both,
}

impl Watch {
    pub fn start(nodes: &[Host; 2]) -> Watch {
        let shared = Arc::new(Shared::default());
        let threads = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let shared = Arc::clone(&shared);
                node.thread(move || shared.look(index))
            })
            .collect();
        Watch { shared, threads }
    }

    pub fn holder(&self) -> Holder {
        let [a, b] = &self.shared.holds;
        match (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)) {
            (false, false) => Holder::Nobody,
            (true, false) => Holder::Node(0),
            (false, true) => Holder::Node(1),
            (true, true) => Holder::Both,
        }
    }

    /// When a node was last seen to take the address.
    pub fn last_taken(&self) -> Option<Instant> {
        *self.shared.last_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a node took the address since the start.
    pub fn taken(&self) -> u32 {
        self.shared.taken.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn look(&self, node: usize) {
        let Some(slot) = self.holds.get(node) else { return };
        if self.follow(slot).is_err() {
            slot.store(false, Ordering::Relaxed);
        }
    }

    fn follow(&self, slot: &AtomicBool) -> std::io::Result<()> {
        let mut monitor = Monitor::open()?;
        let interface = if_nametoindex(INTERFACE)?;
        self.note(slot, is_assigned());
        while !self.stop.load(Ordering::Relaxed) {
            wait(&mut [readable(monitor.descriptor())], Some(now().plus(STOP_WITHIN)))?;
            monitor.drain(|change| match change {
                // On the loopback interface it only lets old connections finish: nobody is told to come here.
                Change::Address { index, address, is_removed } if index == interface && address == VIRTUAL_V4 => {
                    self.note(slot, !is_removed);
                }
                Change::Unknown => self.note(slot, is_assigned()),
                Change::Address { .. } | Change::Link { .. } => {}
            })?;
        }
        Ok(())
    }

    fn note(&self, slot: &AtomicBool, holds: bool) {
        let held = slot.swap(holds, Ordering::Relaxed);
        if holds && !held {
            *self.last_taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_assigned() -> bool {
    getifaddrs().is_ok_and(|mut all| {
        all.any(|entry| {
            entry.interface_name == INTERFACE
                && entry.address.and_then(|address| address.as_sockaddr_in().map(|v4| v4.ip())) == Some(VIRTUAL_V4)
        })
    })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A watcher that failed to join its node's namespace leaves "holds nothing", which no condition accepts.
            drop(thread.join());
        }
    }
}
