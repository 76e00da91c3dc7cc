//! What `GET /v1/status` answers and `lyre status` shows. Times are seconds unless the name says otherwise.
//!
//! Fields are only ever added: scripts read this.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name in `[cluster]`, if there is one.
    pub node: Option<String>,
    pub version: String,
    /// The parent's process number.
    pub pid: u32,
    pub uptime: f64,
    pub state: NodeState,
    pub config: Config,
    /// As bound.
    pub listeners: Vec<SocketAddr>,
    pub routers: Vec<Router>,
    /// What the routers' health depends on.
    #[serde(default)]
    pub trackers: Vec<Tracker>,
    #[serde(default)]
    pub hooks: Hooks,
    pub worker: Worker,
    pub cores: Vec<Core>,
    /// What https listeners serve with.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The link to the other node; null without one.
    #[serde(default)]
    pub pair: Option<PairLink>,
    /// As the worker reports them; null while it does not answer.
    #[serde(default)]
    pub pools: serde_json::Value,
    /// Everything else the worker reports.
    #[serde(default)]
    pub detail: serde_json::Map<String, serde_json::Value>,
    /// Newest last, at most 50.
    pub transitions: Vec<Transition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub path: PathBuf,
    /// Seconds since 1970; null where the file does not say.
    pub not_after: Option<i64>,
    /// Seconds from now; negative once it has expired.
    pub expires_in: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairLink {
    pub is_up: bool,
    /// Connections of the other node's clients that are known here, to be reset should that node die.
    pub peer_connections: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// No worker accepts yet, or none does at the moment.
    Starting,
    Serving,
    /// Connections are closed as they become idle.
    Draining,
    /// A planned hand-over runs.
    HandingOver,
    Stopping,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub path: PathBuf,
    /// When the running configuration was read; milliseconds since 1970.
    pub loaded_unix_ms: u64,
    pub reloads: u64,
    pub failed_reloads: u64,
    /// Why the last reload failed, if it did.
    pub last_error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub name: String,
    pub interface: String,
    pub vrid: u8,
    pub addresses: Vec<String>,
    /// `initialize`, `backup` or `active`.
    pub state: String,
    /// How long it has been in this state.
    pub since: f64,
    /// Why it came to this state.
    pub reason: Option<String>,
    /// As advertised now; 0 offers the address to the peer.
    pub priority: u8,
    /// As configured, and what trackers add to it.
    #[serde(default)]
    pub base_priority: u8,
    #[serde(default)]
    pub weight: i16,
    /// `able`, `degraded` or `unable`.
    #[serde(default)]
    pub health: String,
    /// Trackers that keep it from its addresses, each with its reason.
    #[serde(default)]
    pub faults: Vec<String>,
    pub peer: Option<Peer>,
    /// What somebody should look at.
    #[serde(default)]
    pub alarms: Vec<RaisedAlarm>,
    pub counters: RouterCounters,
}

/// A condition of a router that lasts; docs/operations.md explains each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaisedAlarm {
    pub name: String,
    /// How long ago it was raised.
    pub since: f64,
    /// Its likely cause, and what to do.
    pub remedy: String,
}

/// The Active as last heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub address: IpAddr,
    pub priority: u8,
}

/// Cumulative; what each one counts is in `lyre_vrrp::runner::Counters`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterCounters {
    pub adverts_sent: u64,
    pub adverts_received: u64,
    pub transitions_to_active: u64,
    pub releases_sent: u64,
    pub releases_received: u64,
    pub late_own_adverts: u64,
    pub send_errors: u64,
    /// Received datagrams that were refused, by reason.
    pub drops: std::collections::BTreeMap<String, u64>,
    pub interval_mismatches: u64,
    pub address_list_mismatches: u64,
    pub announcements_sent: u64,
    pub address_errors: u64,
    pub stalls: u64,
    /// Seconds.
    pub longest_stall: f64,
    /// How often each alarm's condition was seen, by the alarm's name; those never seen are left out.
    pub alarm_signs: std::collections::BTreeMap<String, u64>,
    /// The same under the names of RFC 6527, without their prefix `vrrpv3`.
    pub rfc6527: std::collections::BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    pub name: String,
    pub kind: String,
    /// `good`, `bad`, or `unknown` before the first result.
    pub state: String,
    /// How long it has been in this state; null where that is not known.
    pub since: Option<f64>,
    /// Of the last result, for people.
    pub reason: String,
    /// It keeps its routers from their addresses.
    pub fault: bool,
    /// What it adds to their priority.
    pub weight: i16,
    pub routers: Vec<String>,
    pub checks: u64,
    pub bad_checks: u64,
    /// Changes between good and bad.
    pub turns: u64,
}

/// Cumulative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Scripts started.
    pub runs: u64,
    pub failures: u64,
    /// Not run, because too many waited.
    pub dropped: u64,
    /// Lines of FIFOs that nobody read.
    pub lost_lines: u64,
    /// Event streams that were read too slowly.
    pub dropped_subscribers: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub state: WorkerState,
    pub pid: Option<i32>,
    pub uptime: Option<f64>,
    pub starts: u64,
    /// Ends that nobody ordered.
    pub crashes: u64,
    /// Of these, the ones where a core stopped moving.
    pub hangs: u64,
    /// Times a core got no CPU for the hang timeout.
    #[serde(default)]
    pub starvations: u64,
    pub last_exit: Option<String>,
    /// Until the next start, while down.
    pub restart_in: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Starting,
    Ready,
    /// Told to end.
    Stopping,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    pub core: usize,
    pub connections: u64,
    pub requests: u64,
    pub tunnels: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub unix_ms: u64,
    pub router: String,
    pub from: String,
    pub to: String,
    pub reason: String,
}

/// Answer of `POST /v1/failover`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failover {
    /// Every virtual address is with a peer now.
    pub moved: bool,
    /// From the release to the peer's first advert.
    pub release_ms: Option<f64>,
    /// From the order to the end, draining included.
    pub total_ms: f64,
    pub holders: Vec<Holder>,
    /// For people.
    pub message: String,
}

/// Who has a virtual router's addresses; `holder` is null if nobody is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub router: String,
    pub holder: Option<String>,
}

/// Answer of the other orders and of everything that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub message: String,
    /// One per problem, ready to print.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}
