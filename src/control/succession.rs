//! What becomes of clients' connections when virtual addresses move.
//!
//! Taken over after a silence: the clients of the node that fell silent are tickled (`control::tickle`).
//! Planned: the new Active forwards what it does not own (`control::forward`), the old one keeps the addresses on `lo`
//! (the shelter) until its last connection is finished. The words between the two travel over the pair link.

use crate::config::settings::Settings;
use crate::control::forward::Forwarder;
use crate::control::tickle::tickle;
use crate::pair::table::SharedTable;
use crate::pair::wire::{Connection, Handover, Move};
use crate::shared::SharedError;
use ipnet::IpNet;
use lyre_vrrp::link::linux::netlink::{Holding, Netlink};
use lyre_vrrp::params::Time;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// `lo` is always the first interface of a network namespace.
const LOOPBACK: u32 = 1;
/// Longest shelter and forwarding. Transfers that take longer are reset when it ends and resume on the new node.
pub const SHELTER_TIME: Duration = Duration::from_secs(600);
/// The shelter's own dead-man lease: addresses on `lo` must not outlive us by much.
const SHELTER_LEASE: Duration = Duration::from_secs(10);
const SHELTER_REFRESH: Duration = Duration::from_secs(3);

pub struct Succession {
    table: SharedTable,
    table_fd: OwnedFd,
    /// Our end of the pair link, bound here, used by the worker; `None` without a cluster of two.
    listener: Option<Socket>,
    is_link_up: bool,
    next_id: u32,
    /// The question under way.
    asked: Option<u32>,
    forwarding: Option<Forwarding>,
    shelter: Option<Shelter>,
    /// Tells the running tickle thread that the addresses are ours still.
    tickling: Arc<AtomicBool>,
}

struct Forwarding {
    id: u32,
    until: Time,
    _programs: Vec<Forwarder>,
}

struct Shelter {
    id: u32,
    holdings: Vec<Holding>,
    until: Time,
    refresh_at: Time,
    /// Sysctl files and what they held before.
    sysctls: Vec<(String, String)>,
}

/// What the answer to a question about forwarding was.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Prepared,
    Refused(String),
}

impl Succession {
    pub fn new(settings: &Settings) -> Result<Succession, SharedError> {
        let (table, table_fd) = SharedTable::create(c"lyre-peers")?;
        Ok(Succession {
            table,
            table_fd,
            listener: listener(settings),
            is_link_up: false,
            next_id: 1,
            asked: None,
            forwarding: None,
            shelter: None,
            tickling: Arc::new(AtomicBool::new(false)),
        })
    }

    /// For a starting worker: the table and our end of the link.
    pub fn descriptors(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.listener.as_ref().map(|listener| [self.table_fd.as_fd(), listener.as_fd()])
    }

    pub fn is_link_up(&self) -> bool {
        self.is_link_up
    }

    /// How many connections of the peer are known.
    pub fn known(&self) -> usize {
        self.table.connections().count()
    }

    pub fn is_forwarding(&self) -> bool {
        self.forwarding.is_some()
    }

    pub fn is_sheltering(&self) -> bool {
        self.shelter.is_some()
    }

    /// The link came up or broke. A peer that is gone finishes nothing any more: its clients are told.
    pub fn link(&mut self, is_up: bool) {
        self.is_link_up = is_up;
        if !is_up && self.forwarding.take().is_some() {
            tracing::warn!(target: "lyre::control", "the node that handed over is gone; resetting its clients");
            self.tickle_all(None);
        }
    }

    /// These addresses are ours from now on. `was_silent`: their last holder did not let go by itself.
    pub fn took_over(&mut self, addresses: &[IpAddr], was_silent: bool) {
        self.end_shelter();
        self.tickling.store(true, Ordering::Relaxed);
        if was_silent {
            self.forwarding = None;
        }
        if self.forwarding.is_none() {
            self.tickle_all(Some(addresses));
        }
    }

    /// No virtual address is ours any more.
    pub fn lost(&mut self) {
        self.tickling.store(false, Ordering::Relaxed);
        self.forwarding = None;
    }

    /// The question for the peer before a planned hand-over; `None` if it cannot be asked.
    pub fn ask(&mut self, settings: &Settings) -> Option<Handover> {
        if !self.is_link_up {
            return None;
        }
        let moves = moves(settings).inspect_err(|error| {
            tracing::warn!(target: "lyre::control", %error, "cannot ask the peer to forward");
        });
        let (id, moves) = (self.next_id, moves.ok()?);
        self.next_id = self.next_id.wrapping_add(1);
        self.asked = Some(id);
        Some(Handover::Prepare { id, moves })
    }

    /// What the peer said: a reply to send back, and the answer to our own question if this is it.
    pub fn heard(&mut self, now: Time, settings: &Settings, words: Handover) -> (Option<Handover>, Option<Answer>) {
        match words {
            Handover::Prepare { id, moves } => {
                let refusal = match forwarders(settings, &moves) {
                    Ok(programs) => {
                        self.forwarding = Some(Forwarding { id, until: now.plus(SHELTER_TIME), _programs: programs });
                        None
                    }
                    Err(error) => Some(error.to_string()),
                };
                (Some(Handover::Prepared { id, refusal }), None)
            }
            Handover::Prepared { id, refusal } if self.asked == Some(id) => {
                self.asked = None;
                (None, Some(refusal.map_or(Answer::Prepared, Answer::Refused)))
            }
            Handover::Prepared { .. } => (None, None),
            Handover::Finished { id } => {
                if self.forwarding.as_ref().is_some_and(|forwarding| forwarding.id == id) {
                    self.forwarding = None;
                    self.tickle_all(None); // whoever is left was cut by the time limit
                }
                (None, None)
            }
        }
    }

    /// Keeps the virtual addresses on `lo`, silent, for the connections that stay here. Before the release.
    pub fn take_shelter(&mut self, now: Time, settings: &Settings) -> io::Result<()> {
        // Two nodes must never forward to each other.
        self.forwarding = None;
        let id = self.next_id.wrapping_sub(1);
        let holdings: Vec<Holding> = settings
            .routers
            .iter()
            .flat_map(|router| router.held())
            .map(|network| Holding {
                network: IpNet::from(network.addr()),
                leaves_route_alone: false,
                is_system: false,
            })
            .collect();
        let mut sysctls = Vec::new();
        for router in &settings.routers {
            // Answer ARP only for addresses of the interface asked on, and never ask in the name of a virtual address.
            for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
                let path = format!("/proc/sys/net/ipv4/conf/{}/{key}", router.interface);
                if sysctls.iter().any(|(known, _)| *known == path) {
                    continue;
                }
                let before = std::fs::read_to_string(&path)?;
                std::fs::write(&path, value)?;
                sysctls.push((path, before));
            }
        }
        self.shelter = Some(Shelter { id, holdings, until: now.plus(SHELTER_TIME), refresh_at: now, sysctls });
        self.refresh_shelter(now)
    }

    fn refresh_shelter(&mut self, now: Time) -> io::Result<()> {
        let Some(shelter) = &mut self.shelter else { return Ok(()) };
        shelter.refresh_at = now.plus(SHELTER_REFRESH);
        Netlink::open()?.hold_addresses(LOOPBACK, &shelter.holdings, SHELTER_LEASE)
    }

    /// Gives the shelter up; the word for the peer if there was one.
    pub fn end_shelter(&mut self) -> Option<Handover> {
        let shelter = self.shelter.take()?;
        let addresses: Vec<IpNet> = shelter.holdings.iter().map(|holding| holding.network).collect();
        let dropped = Netlink::open().and_then(|mut netlink| netlink.drop_addresses(LOOPBACK, &addresses));
        if let Err(error) = dropped {
            tracing::warn!(target: "lyre::control", %error, "cannot take the virtual addresses off lo; their lease ends in seconds");
        }
        for (path, before) in shelter.sysctls {
            if let Err(error) = std::fs::write(&path, before) {
                tracing::warn!(target: "lyre::control", %path, %error, "cannot restore a sysctl");
            }
        }
        Some(Handover::Finished { id: shelter.id })
    }

    /// Refreshes and expires. `open`: connections the worker still has. Answers the word for the peer when the shelter
    /// ended.
    pub fn tick(&mut self, now: Time, open: u64) -> Option<Handover> {
        if self.forwarding.as_ref().is_some_and(|forwarding| now >= forwarding.until) {
            self.forwarding = None;
        }
        let shelter = self.shelter.as_ref()?;
        if open == 0 || now >= shelter.until {
            tracing::info!(target: "lyre::control", open, "hand-over finished");
            return self.end_shelter();
        }
        if now >= shelter.refresh_at
            && let Err(error) = self.refresh_shelter(now)
        {
            tracing::warn!(target: "lyre::control", %error, "cannot refresh the virtual addresses on lo");
        }
        None
    }

    /// When `tick` has something to do. The end of the last connection is looked for every tenth of a second.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let shelter = self.shelter.as_ref().map(|_| now.plus(Duration::from_millis(100)));
        let forwarding = self.forwarding.as_ref().map(|forwarding| forwarding.until);
        [shelter, forwarding].into_iter().flatten().min()
    }

    /// Resets the clients that the peer had; `None`: on all addresses.
    fn tickle_all(&self, addresses: Option<&[IpAddr]>) {
        let is_wanted = |c: &Connection| addresses.is_none_or(|addresses| addresses.contains(&c.local.ip()));
        let connections: Vec<Connection> = self.table.connections().filter(is_wanted).collect();
        if connections.is_empty() {
            return;
        }
        let is_active = Arc::clone(&self.tickling);
        let count = connections.len();
        let work = move || match tickle(&connections, &is_active) {
            Ok(sent) => {
                tracing::info!(target: "lyre::control", sent, connections = count, "tickled the lost node's clients")
            }
            Err(error) => tracing::warn!(target: "lyre::control", %error, "cannot tickle the lost node's clients"),
        };
        if let Err(error) = std::thread::Builder::new().name("tickle".into()).spawn(work) {
            tracing::warn!(target: "lyre::control", %error, "cannot tickle the lost node's clients");
        }
    }
}

/// Our end of the pair link. Without it the pair is two plain VRRP routers, so a failure is a warning.
fn listener(settings: &Settings) -> Option<Socket> {
    let cluster = settings.cluster.as_ref().filter(|cluster| cluster.nodes.len() > 1)?;
    let node = cluster.nodes.get(cluster.this)?;
    let address = SocketAddr::new(node.address, cluster.link_port);
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(8)?;
        Ok::<_, io::Error>(socket)
    };
    match bind() {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(target: "lyre::control", %address, %error, "no pair link: clients of a lost node wait for their timeouts");
            None
        }
    }
}

/// Every virtual address with our MAC on its segment.
fn moves(settings: &Settings) -> io::Result<Vec<Move>> {
    let mut netlink = Netlink::open()?;
    let mut moves = Vec::new();
    for router in &settings.routers {
        let interface = netlink.interface(&router.interface)?.ok_or(io::ErrorKind::NotFound)?;
        moves.extend(router.held().map(|network| Move { address: network.addr(), mac: interface.mac }));
    }
    Ok(moves)
}

/// One program an interface. Only for addresses that are ours by configuration: the peer cannot make us divert others.
fn forwarders(settings: &Settings, moves: &[Move]) -> io::Result<Vec<Forwarder>> {
    let mut netlink = Netlink::open()?;
    let mut wanted: BTreeMap<u32, ([u8; 6], Vec<IpAddr>)> = BTreeMap::new();
    for wish in moves {
        let is_ours = |router: &&crate::config::settings::VirtualRouter| {
            router.held().any(|network| network.addr() == wish.address)
        };
        let unknown =
            || io::Error::other(format!("{} is in no [[vip]] here: both nodes need the same file", wish.address));
        let router = settings.routers.iter().find(is_ours).ok_or_else(unknown)?;
        let interface = netlink.interface(&router.interface)?.ok_or(io::ErrorKind::NotFound)?;
        wanted.entry(interface.index).or_insert_with(|| (wish.mac, Vec::new())).1.push(wish.address);
    }
    wanted.into_iter().map(|(index, (mac, addresses))| Forwarder::attach(index, &addresses, mac)).collect()
}
