//! The speaker: one real-time thread, plain poll(2), several virtual routers.
//!
//! Its owner (Lyre's parent process) talks to it through [`Host`] (what the speaker asks) and [`Handle`] (what the
//! owner orders). Neither ever blocks the thread.

use crate::machine::{Event, Health, Settings, State};
use crate::params::{Priority, Time};
use ipnet::IpNet;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;

/// One virtual router as the owner configures it. `settings.addresses` are the addresses of `addresses`.
#[derive(Debug, Clone)]
pub struct Router {
    /// For logs and status, unique: `vip1-v4`.
    pub name: String,
    pub interface: String,
    pub settings: Settings,
    /// With prefix lengths as they are put on the interface.
    pub addresses: Vec<IpNet>,
    /// The kernel removes the addresses this long after the last refresh (dead-man lease). Whole seconds, >= 2.
    pub lease: Duration,
}

/// What the speaker asks of its owner. Called on the real-time thread: must not block, allocate much or log to disk.
pub trait Host: Send {
    /// Descriptors whose readability calls `health` at once (a worker's pidfd). Asked before every wait.
    fn watch(&self, into: &mut Vec<RawFd>);
    /// A cheap look at what this node is able to do; called every 20 ms and when a watched descriptor is readable.
    fn health(&mut self, now: Time) -> Health;
    /// Something happened to router number `index` of the list given at start.
    fn report(&mut self, index: usize, event: &Event);
}

/// Orders to a running speaker; clonable, thread safe.
#[derive(Debug, Clone)]
pub enum Command {
    /// All routers, planned.
    HandOver,
    Resume,
    /// Replace the set of routers; those with unchanged settings do not move.
    Reload(Vec<Router>),
    /// Release everything and end the thread.
    Shutdown,
}

/// A router as status shows it.
#[derive(Debug, Clone)]
pub struct RouterStatus {
    pub name: String,
    pub interface: String,
    pub state: State,
    pub since: Time,
    pub priority: Priority,
    /// The Active's address and priority as last heard, if it is not us.
    pub active_peer: Option<(IpAddr, Priority)>,
    pub counters: Counters,
}

/// Cumulative, per router. Drop reasons carry the RFC 6527 name in their doc.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    pub adverts_sent: u64,
    pub adverts_received: u64,
    pub transitions_to_active: u64,
}
