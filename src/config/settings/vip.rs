//! Virtual routers, one per `[[vip]]` and address family: what `lyre_vrrp::runner::Router` is made from.

use super::Secret;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

pub use lyre_vrrp::authentication::Mode as HmacMode;
pub use lyre_vrrp::link::VirtualMac;
pub use lyre_vrrp::machine::Announcing;
pub use lyre_vrrp::packet::{Peer, Peers};

#[derive(Debug, Clone, PartialEq)]
pub struct VirtualRouter {
    /// `vip1-v4`: name of the `[[vip]]` and family; unique.
    pub name: String,
    pub interface: String,
    pub vrid: u8,
    /// 2 (IPv4 and whole seconds only) or 3.
    pub version: u8,
    /// Base priority of this node (254 for the first node of the list, 253 for the second, ...). 255 is the owner.
    pub priority: u8,
    pub advert_interval_cs: u16,
    pub down_adverts: u8,
    /// `None`: never from a healthy Active; `Some(delay)`: preempt after it.
    pub preempt: Option<Duration>,
    /// Advertised and installed, one family, at least one.
    pub addresses: Vec<IpNet>,
    /// Installed and announced, but in no advert; of either family.
    pub excluded: Vec<IpNet>,
    pub peers: Peers,
    /// The only source address of adverts; none lets the interface decide.
    pub source: Option<IpAddr>,
    pub checksum: Checksum,
    pub authentication: Authentication,
    /// Routers of the same group become Active and Backup together.
    pub sync_group: Option<String>,
    pub virtual_mac: Option<VirtualMac>,
    pub announcing: Announcing,
    pub lease: Duration,
}

impl VirtualRouter {
    /// Every address that the Active holds.
    pub fn held(&self) -> impl Iterator<Item = &IpNet> {
        self.addresses.iter().chain(&self.excluded)
    }
}

/// Of version 3 over IPv4, the only one with two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// As the peer was last heard to do, until then with pseudo-header.
    Auto,
    Pseudo,
    Message,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    None,
    /// Version 2 only; at most eight bytes.
    Password(Secret),
    Hmac(Hmac),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// At least one, the first signs. The secrets are empty in the worker, which does not need them.
    pub keys: Vec<Key>,
    pub mode: HmacMode,
    /// How far the clocks of the nodes may be apart; `None`: stamps need only grow.
    pub window: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// 1..=255, unique.
    pub id: u8,
    /// 32 to 64 bytes.
    pub secret: Secret,
}

/// Why nobody can own this address.
pub fn unusable(network: IpNet) -> Option<&'static str> {
    let address = network.addr();
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Some("cannot be a virtual address");
    }
    match network {
        IpNet::V4(network) if network.prefix_len() < 31 && network.addr() == network.network() => {
            Some("is the network itself")
        }
        IpNet::V4(network) if network.prefix_len() < 31 && network.addr() == network.broadcast() => {
            Some("is the network's broadcast address")
        }
        _ => None,
    }
}
