//! What the worker and its parent say to each other. How the messages travel is [`crate::serve::channel`]'s concern.

pub use crate::serve::channel::{Channel, ChannelError, Received, Receiver, Sender};

use crate::config::bundle::Bundle;
use crate::pair::wire::Handover;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Parent to worker.
#[derive(Serialize, Deserialize)]
pub enum Order {
    /// First message. Descriptors: the shared page; with `has_link` the table of the peer's connections
    /// (`pair::table`) and the pair link's listening socket; then the listeners in the order of `listeners`.
    Start { bundle: Box<Bundle>, listeners: Vec<ListenerSocket>, has_link: bool },
    /// Swap settings. Descriptors: sockets of `added`. Listeners not in the new settings are closed by the worker.
    Reload { bundle: Box<Bundle>, added: Vec<ListenerSocket> },
    /// Stop accepting, finish what runs, then exit.
    Stop { deadline_ms: u64 },
    /// Keep serving, but close client connections as they become idle (before a planned hand-over); `false` undoes.
    Drain { on: bool },
    /// Virtual addresses this node holds now, for the access log and connection bookkeeping.
    Held { addresses: Vec<IpAddr> },
    /// Say this to the other node, if the pair link stands.
    Pair(Handover),
    /// Answer with `Report::Status` carrying the same number.
    Status { id: u64 },
    /// Answer with `Report::Metrics` carrying the same number.
    Metrics { id: u64 },
    /// Answer with `Report::Bans` carrying the same number.
    Bans { id: u64, change: Option<BanChange> },
    /// What an earlier worker reported as `Report::Banned` and is not over.
    Restore { bans: Vec<Banned> },
}

/// What an operator wants of the bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BanChange {
    /// `None`: until it is lifted.
    Ban {
        address: IpAddr,
        length_ms: Option<u64>,
    },
    Unban {
        address: IpAddr,
    },
}

/// A client that is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banned {
    pub address: IpAddr,
    /// `None`: until it is lifted.
    pub left_ms: Option<u64>,
    /// By an operator, not for failed logins.
    pub is_order: bool,
    /// The other node's.
    pub is_learnt: bool,
}

/// Which core's listener a passed descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerSocket {
    pub address: SocketAddr,
    pub core: usize,
}

/// Worker to parent.
#[derive(Serialize, Deserialize)]
pub enum Report {
    /// All cores accept.
    Ready,
    /// The new settings serve, or why they do not.
    Reloaded {
        error: Option<String>,
    },
    /// Nothing is in flight any more (only while draining); `open` tunnels may remain.
    Drained {
        tunnels: u64,
    },
    /// The other node said this.
    Pair(Handover),
    /// Our side of the pair link came up or broke.
    Link {
        is_up: bool,
    },
    Status {
        id: u64,
        json: String,
    },
    Metrics {
        id: u64,
        text: String,
    },
    /// All bans as JSON; or what became of a change: an answer for the operator, or why not.
    Bans {
        id: u64,
        answer: Result<String, String>,
    },
    /// Somebody is kept out from now on.
    Banned(Banned),
    /// Let in again, by order at the other node.
    Unbanned {
        address: IpAddr,
    },
}
