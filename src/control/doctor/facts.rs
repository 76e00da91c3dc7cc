//! What is known about this host and its LAN, as plain values.

use std::net::IpAddr;

/// `None` throughout means: could not be found out.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub privileges: Privileges,
    /// Ticks of all CPUs while we listened, and how many of them the hypervisor gave to others.
    pub ticks: Option<Ticks>,
    /// A lyre runs here; whether its link to the peer is up.
    pub daemon: Option<Daemon>,
    /// The other nodes of the cluster.
    pub peers: Vec<Peer>,
    /// Rules that drop adverts, as nft(8) prints them.
    pub firewall: Option<Vec<Rule>>,
    pub routers: Vec<Router>,
}

#[derive(Debug, Clone, Default)]
pub struct Privileges {
    pub may_open_raw_sockets: bool,
    pub may_change_addresses: bool,
    pub may_be_realtime: bool,
    /// Share of each period that real-time threads may take, -1 for all; 0 forbids them.
    pub realtime_runtime_us: Option<i64>,
    pub may_lock_memory: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ticks {
    pub all: u64,
    pub stolen: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Daemon {
    pub is_pair_link_up: Option<bool>,
}

#[derive(Debug, Clone)]
pub struct Peer {
    pub name: String,
    pub address: IpAddr,
    pub answers: bool,
}

/// A firewall rule, with the chain that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `inet filter input`
    pub chain: String,
    pub text: String,
}

/// One virtual router as configured, and all that concerns it.
#[derive(Debug, Clone)]
pub struct Router {
    pub name: String,
    pub interface: String,
    pub is_v4: bool,
    pub vrid: u8,
    pub version: u8,
    pub priority: u8,
    pub interval_ms: u64,
    pub addresses: Vec<IpAddr>,
    pub is_unicast: bool,
    pub has_virtual_mac: bool,
    /// What the lyre that runs here says: "active", "backup", …
    pub state: Option<String>,
    /// Alarms that the lyre here has raised about it.
    pub alarms: Vec<Alarm>,
    pub link: Option<Link>,
    /// Of all adverts of this family on this interface while we listened, one entry a sender and VRID.
    pub heard: Vec<Heard>,
    /// A socket as the speaker has it could be opened, so `Heard::at_socket` means something.
    pub has_socket: bool,
    /// The kernel's answer to an advert that does not leave the host.
    pub sending: Option<Result<(), String>>,
    /// Who said in an ARP packet that it has one of the virtual addresses.
    pub claims: Vec<Claim>,
    /// Times that one of the virtual addresses was taken off the interface while we listened.
    pub removals: u32,
}

/// The interface.
#[derive(Debug, Clone, Default)]
pub struct Link {
    pub is_up: bool,
    pub has_carrier: bool,
    pub mac: [u8; 6],
    /// Own addresses of the family that adverts can come from.
    pub sources: Vec<IpAddr>,
    /// `rp_filter` in effect: the larger one of `all` and the interface's.
    pub rp_filter: u8,
    pub manager: Option<Manager>,
    /// Of a bridge on this host that the interface is, or is a port of.
    pub bridge: Option<Bridge>,
    /// Maker of this virtual machine, from the firmware tables.
    pub hypervisor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Networkd,
    NetworkManager,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    pub is_snooping: bool,
    pub has_querier: bool,
}

/// Adverts from one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub source: IpAddr,
    pub mac: [u8; 6],
    pub vrid: u8,
    pub version: u8,
    pub priority: u8,
    pub interval_ms: u64,
    pub ttl: u8,
    pub addresses: Vec<IpAddr>,
    /// This host's own.
    pub is_ours: bool,
    /// The route to the sender leaves by the interface it was heard on.
    pub is_routed_here: bool,
    pub on_wire: u32,
    pub at_socket: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub address: IpAddr,
    pub mac: [u8; 6],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    pub remedy: String,
}
