//! The speaker: one real-time thread, plain poll(2), several virtual routers.
//!
//! Its owner (Lyre's parent process) talks to it through [`Host`] (what the speaker asks) and [`Handle`] (what the
//! owner orders). Neither ever blocks the thread: orders and status pass through locks the thread only tries, log
//! lines through a bounded queue to a thread of its own.

mod journal;
mod mailbox;
mod rounds;
mod station;
mod sync;

pub use crate::alarm::{Alarm, Alarms};
use crate::authentication::{Authenticator, Freshness, Key, Mode};
use crate::link::LinkError;
pub use crate::link::VirtualMac;
use crate::link::linux::netlink::{Monitor, Netlink};
use crate::link::linux::{Attachment, LinuxLink};
use crate::link::linux::{may_open_raw_sockets, realtime};
pub use crate::machine::Announcing;
use crate::machine::{Event, Health, Settings, State};
use crate::packet::{Checksum, ChecksumChoice, Dialect};
use crate::params::{Priority, Time};
use ipnet::IpNet;
use journal::Journal;
use mailbox::Mailbox;
use rounds::Rounds;
use station::{Station, held_addresses, unicast_peers};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

/// Starts speakers.
pub struct Speaker;

impl Speaker {
    /// Opens what needs privilege, then runs the routers on a thread of its own, in the caller's network namespace.
    ///
    /// An interface that does not exist yet is no error; its router waits for it.
    pub fn start(routers: Vec<Router>, host: Box<dyn Host>, options: Options) -> Result<Handle, StartError> {
        check_capabilities()?;
        let monitor = Monitor::open().map_err(StartError::Resource)?;
        let open = |router| open_station(router, options.realtime_priority);
        let stations = routers.into_iter().map(open).collect::<Result<Vec<_>, _>>().map_err(StartError::Link)?;
        let mailbox = Arc::new(Mailbox::new().map_err(StartError::Resource)?);
        let journal = Journal::start().map_err(StartError::Resource)?;
        let mut rounds = Rounds::new(stations, host, monitor, Arc::clone(&mailbox), journal, options.clone());
        rounds.publish(); // so that the first look at the status already finds every router
        let run = move || {
            if let Some(priority) = options.realtime_priority {
                rounds.warn_unprotected(&realtime::protect_thread(priority));
            }
            rounds.run();
        };
        let thread = thread::Builder::new().name("vrrp".to_owned()).spawn(run).map_err(StartError::Resource)?;
        Ok(Handle { mailbox, thread: Arc::new(Mutex::new(Some(thread))) })
    }
}

/// How the speaker's thread runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// SCHED_FIFO priority, 1..=99; also locks the process's memory. None runs as an ordinary thread.
    pub realtime_priority: Option<u8>,
}

impl Default for Options {
    /// Above the kernel's default for threaded interrupts' neighbours such as keepalived, below its watchdogs.
    fn default() -> Options {
        Options { realtime_priority: Some(50) }
    }
}

/// One virtual router as the owner configures it. `settings.addresses` are the addresses of `addresses`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// For logs and status, unique: `vip1-v4`.
    pub name: String,
    pub interface: String,
    pub settings: Settings,
    /// With prefix lengths as they are put on the interface.
    pub addresses: Vec<IpNet>,
    /// Held and announced like `addresses`, but not in adverts; of either family, as many as wanted.
    pub excluded: Vec<IpNet>,
    pub virtual_mac: Option<VirtualMac>,
    pub announcing: Announcing,
    /// The kernel removes the addresses this long after the last refresh (dead-man lease). Whole seconds, >= 2.
    pub lease: Duration,
    pub speech: Speech,
    /// Routers with the same name here become Active and Backup together.
    pub sync_group: Option<String>,
}

impl Router {
    /// Multicast, version 3, no authentication, on its own, the interface's hardware address; `settings` come from the same addresses.
    pub fn new(name: String, interface: String, settings: Settings, addresses: Vec<IpNet>, lease: Duration) -> Router {
        Router {
            name,
            interface,
            settings,
            addresses,
            excluded: Vec::new(),
            virtual_mac: None,
            announcing: Announcing::default(),
            lease,
            speech: Speech::default(),
            sync_group: None,
        }
    }
}

/// How a router talks to its peers. The default is multicast version 3 without authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speech {
    /// Its version must be that of the router's settings.
    pub dialect: Dialect,
    /// Version 3 over IPv4 only.
    pub checksum: ChecksumChoice,
    /// The only acceptable source address; none lets the interface decide.
    pub source: Option<IpAddr>,
    /// Signs and checks adverts. `dialect.has_trailer` must be set with it.
    pub authentication: Option<Authentication>,
}

impl Default for Speech {
    fn default() -> Speech {
        let checksum = ChecksumChoice::Always(Checksum::Pseudo);
        Speech { dialect: Dialect::default(), checksum, source: None, authentication: None }
    }
}

/// Keys and rules of a router's HMAC trailers; equal if they are, whatever was heard since.
#[derive(Clone)]
pub struct Authentication {
    rules: (Vec<Key>, Mode, Freshness),
    /// As it is before anything was sent or heard.
    fresh: Authenticator,
}

impl Authentication {
    /// The first key signs; `None` without a key or with two of the same number.
    pub fn new(keys: Vec<Key>, mode: Mode, freshness: Freshness) -> Option<Authentication> {
        let fresh = Authenticator::new(keys.clone(), mode, freshness)?;
        Some(Authentication { rules: (keys, mode, freshness), fresh })
    }
}

impl PartialEq for Authentication {
    fn eq(&self, other: &Authentication) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Authentication {}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, mode, freshness) = &self.rules;
        write!(f, "Authentication({} keys, {mode:?}, {freshness:?})", keys.len())
    }
}

/// What the speaker asks of its owner. Called on the real-time thread: must not block, allocate much or log to disk.
pub trait Host: Send {
    /// Descriptors whose readability calls `health` at once (a worker's pidfd). Asked before every wait.
    fn watch(&self, into: &mut Vec<RawFd>);
    /// A cheap look at what this node is able to do; called every 20 ms and when a watched descriptor is readable.
    fn health(&mut self, now: Time) -> Health;
    /// What router number `index` with this name is able to do, given the answer just given for the whole node; asked
    /// for every router after each `health`.
    fn ability(&mut self, _index: usize, _router: &str, of_node: Health) -> Ability {
        Ability { health: of_node, weight: 0 }
    }
    /// A [`Command::Reload`] was carried out, or nothing of it: why.
    fn reloaded(&mut self, _outcome: Result<(), &LinkError>) {}
    /// Something happened to router number `index` of the list given at start or by the last reload.
    fn report(&mut self, index: usize, event: &Event);
}

/// What a router may do, by its owner's judgement. A fault ([`Health::Unable`]) beats every priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    pub health: Health,
    /// Added to the configured priority; the sum stays within 1..=254, and the owner (255) is never moved.
    pub weight: i16,
}

impl Default for Ability {
    /// Of an owner that has not been asked.
    fn default() -> Ability {
        Ability { health: Health::Able, weight: 0 }
    }
}

/// Orders to a running speaker.
#[derive(Debug, Clone)]
pub enum Command {
    /// All routers, planned.
    HandOver,
    Resume,
    /// Replace the set of routers; those that were there before (by interface, VRID, family and version) follow their
    /// new settings without moving.
    Reload(Vec<Router>),
    /// Release everything and end the thread, within 1.5 s.
    Shutdown,
}

/// A running speaker, as its owner holds it. Clonable, thread safe. Dropping it changes nothing.
#[derive(Clone)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Handle {
    /// Queues an order; carried out within about 20 ms, orders one after the other.
    pub fn command(&self, command: Command) {
        self.mailbox.post(command);
    }

    /// All routers as they were at most 100 ms ago (transitions: a moment ago), in the order of the last list.
    pub fn status(&self) -> Vec<RouterStatus> {
        self.mailbox.status()
    }

    /// False after the end of the thread, be it by `Shutdown` or by a bug; the addresses' lease then runs out.
    pub fn is_running(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for the end of the thread. An error means that it panicked, or that somebody else has joined it.
    pub fn join(&self) -> thread::Result<()> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.map_or_else(|| Err(Box::new("already joined") as Box<_>), JoinHandle::join)
    }
}

/// A router as status shows it.
#[derive(Debug, Clone)]
pub struct RouterStatus {
    pub name: String,
    pub interface: String,
    pub state: State,
    pub since: Time,
    /// As advertised, or as it would be: health and hand-over change it.
    pub priority: Priority,
    /// Where our adverts come from; none while the link is unusable.
    pub source: Option<IpAddr>,
    /// We put the addresses on the interface and keep their lease.
    pub holds_addresses: bool,
    pub health: Health,
    /// The Active's address and priority as last heard, if it is not us.
    pub active_peer: Option<(IpAddr, Priority)>,
    pub alarms: Alarms,
    pub counters: Counters,
}

/// Cumulative, per router. Names in quotes are RFC 6527's, without their `vrrpv3` prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Every advert we sent.
    pub adverts_sent: u64,
    /// "StatisticsSentPriZeroPackets"
    pub releases_sent: u64,
    /// Our adverts that left more than half an interval late.
    pub late_own_adverts: u64,
    /// Adverts the kernel refused to send.
    pub send_errors: u64,
    /// "StatisticsRcvdAdvertisements": all that passed every check.
    pub adverts_received: u64,
    /// "StatisticsRcvdPriZeroPackets"
    pub releases_received: u64,
    /// "StatisticsMasterTransitions"
    pub transitions_to_active: u64,
    pub drops: Drops,
    /// Accepted, but with another advert interval than ours ("StatisticsAdvIntervalErrors" counts only zero here).
    pub interval_mismatches: u64,
    /// Accepted, but with other addresses than ours ("StatisticsAddressListErrors").
    pub address_list_mismatches: u64,
    /// Gratuitous ARP and neighbour advertisement frames sent.
    pub announcements_sent: u64,
    /// How often the addresses' lease was renewed.
    pub lease_refreshes: u64,
    /// Refused additions, removals and renewals of addresses.
    pub address_errors: u64,
    /// How often this node stood still so long that a peer may have taken over, and the longest time.
    pub stalls: u64,
    pub longest_stall: Duration,
}

/// Received datagrams that were dropped, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops {
    /// "RouterVrIdErrors": other VRIDs; normal when others on the LAN use VRRP.
    pub vrid: u64,
    /// "StatisticsPacketLengthErrors"
    pub length: u64,
    /// "StatisticsIpTtlErrors"
    pub ttl: u64,
    /// "RouterVersionErrors"
    pub version: u64,
    /// "StatisticsRcvdInvalidTypePackets"
    pub kind: u64,
    /// "RouterChecksumErrors" (IPv6: the kernel drops those before us, uncounted)
    pub checksum: u64,
    /// "StatisticsAdvIntervalErrors": interval zero; version 2: another than ours.
    pub interval: u64,
    /// Version 2: RFC 2787 "StatsInvalidAuthType" and "StatsAuthFailures"; all versions: HMAC trailers.
    pub authentication: u64,
    /// "StatisticsAddressListErrors": no addresses, or not sent to the group.
    pub address_list: u64,
    /// The sender's address cannot be a node's.
    pub source: u64,
    /// IPv4 fragments and other IP protocols, which the kernel should not deliver.
    pub ip: u64,
}

/// Why a speaker did not start.
#[derive(Debug)]
pub enum StartError {
    MissingCapability {
        capability: &'static str,
        purpose: &'static str,
    },
    Link(LinkError),
    /// No descriptor or thread left.
    Resource(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::MissingCapability { capability, purpose } => {
                write!(f, "VRRP needs {capability} to {purpose}")
            }
            StartError::Link(error) => error.fmt(f),
            StartError::Resource(error) => write!(f, "cannot start the VRRP speaker: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::MissingCapability { .. } => None,
            StartError::Link(error) => Some(error),
            StartError::Resource(error) => Some(error),
        }
    }
}

/// Asks the kernel instead of reading capability sets, because only it knows which user namespace counts.
fn check_capabilities() -> Result<(), StartError> {
    if !may_open_raw_sockets() {
        return Err(StartError::MissingCapability { capability: "CAP_NET_RAW", purpose: "send and receive adverts" });
    }
    let mut netlink = Netlink::open().map_err(StartError::Resource)?;
    if !netlink.may_change_addresses() {
        let purpose = "add and remove the virtual addresses";
        return Err(StartError::MissingCapability { capability: "CAP_NET_ADMIN", purpose });
    }
    Ok(())
}

/// Leases are renewed one step below the adverts.
fn open_station(router: Router, realtime_priority: Option<u8>) -> Result<Station<LinuxLink>, LinkError> {
    let renewal_priority = realtime_priority.map(|priority| priority.saturating_sub(1).max(1));
    let link = LinuxLink::open(Attachment {
        interface: router.interface.clone(),
        vrid: router.settings.vrid,
        family: router.settings.family,
        addresses: held_addresses(&router),
        virtual_mac: router.virtual_mac.clone(),
        lease: router.lease,
        is_owner: router.settings.priority == Priority::OWNER,
        peers: unicast_peers(&router.speech),
        source: router.speech.source,
        renewal_priority,
    })?;
    Ok(Station::new(router, link))
}
