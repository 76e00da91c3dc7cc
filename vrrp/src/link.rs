//! What a speaker needs from the operating system, for one interface and address family.
//!
//! Plain values and one trait. The trait has no idea of Active or Backup: it moves bytes, puts addresses on an
//! interface and takes them off. [`linux`] is its only real implementation; tests of the runner bring their own.

pub mod linux;

use crate::announce::Mac;
use crate::packet::{Carrier, Family};
use crate::params::{Time, Vrid};
use ipnet::IpNet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;

/// Hop limit and TTL of every multicast advert (RFC 9568 §5.1.1.3, §5.1.2.3).
pub const HOPS: u8 = 255;

/// One virtual router's hold on one interface.
pub trait Link {
    /// Looks at the interface as it is now, and opens, moves or closes sockets accordingly.
    fn survey(&mut self) -> Result<Survey, LinkError>;

    /// The oldest queued datagram for us, or nothing when the queue is empty. Never waits.
    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Datagram<'a>>, LinkError>;

    /// Sends one advert from the source of the last survey to the VRRP group or a peer.
    fn send(&mut self, destination: IpAddr, advert: &[u8]) -> Result<(), LinkError>;

    /// Puts the virtual addresses of these places on the interface, with a fresh lease. Present ones are no error. Begins
    /// at 0 and goes on in slices, so that many addresses need not be put there in one go.
    fn hold_addresses(&mut self, places: Range<usize>) -> Result<(), LinkError>;

    /// Has the lease of held addresses renewed soon. Never waits; an error is that of the renewal before.
    fn renew_addresses(&mut self) -> Result<(), LinkError>;

    /// Exchanges the virtual addresses, advertised and excluded ones. Held ones that are no longer listed go; new ones come with the next hold.
    fn reassign(&mut self, addresses: &[IpNet], lease: Duration) -> Result<(), LinkError>;

    /// Exchanges the unicast peers (none: the VRRP group) and the only acceptable source. Takes effect with the next
    /// survey.
    fn redirect(&mut self, peers: Vec<IpAddr>, source: Option<IpAddr>);

    /// Takes all virtual addresses off the interface. Absent ones are no error.
    fn drop_addresses(&mut self) -> Result<(), LinkError>;

    /// Sends one complete Ethernet frame (an ARP packet or a neighbour advertisement).
    fn announce(&mut self, frame: &[u8]) -> Result<(), LinkError>;

    /// Readable when `receive` has something; none while the interface is unusable.
    fn descriptors(&self) -> [Option<RawFd>; 2];

    /// Begins or ends to look at what reaches the interface before any firewall. Never waits, may be ignored.
    fn overhear(&mut self, is_on: bool);

    /// What an ended look saw, once.
    fn overheard(&mut self) -> Option<Overheard>;

    /// Takes back what was made for this router besides addresses. May take a while; nothing is called afterwards.
    fn close(&mut self);

    /// Whether a change seen by the monitor may alter what `survey` says.
    fn is_concerned(&self, change: &Change) -> bool;
}

/// A virtual router's own hardware address, 00:00:5e:00:01:VRID (IPv6: 02), on a macvlan above its interface.
///
/// Clients keep their neighbour entries over a failover; only switches have to learn. Many hypervisors forbid it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VirtualMac {
    /// Of the macvlan, at most 15 bytes, without dots and slashes; `vrrp4-51` or `vrrp6-51` if not given.
    pub interface: Option<String>,
    /// Adverts leave by the interface below, with its own hardware address (keepalived's `vmac_xmit_base`).
    pub adverts_from_base: bool,
}

impl VirtualMac {
    /// RFC 9568 §7.3.
    pub fn address(vrid: Vrid, family: Family) -> Mac {
        let family = match family {
            Family::V4 => 1,
            Family::V6 => 2,
        };
        [0, 0, 0x5e, 0, family, vrid.get()]
    }

    /// Name of the macvlan.
    pub fn name(&self, vrid: Vrid, family: Family) -> String {
        let family = match family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        self.interface.clone().unwrap_or_else(|| format!("vrrp{family}-{}", vrid.get()))
    }

    /// Whether the kernel takes this name for an interface and sysctl(8) can name its settings.
    pub fn is_name(name: &str) -> bool {
        let is_fine = |byte: u8| byte.is_ascii_graphic() && !b"./:%".contains(&byte);
        (1..=15).contains(&name.len()) && name.bytes().all(is_fine)
    }
}

/// What an interface offers a virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Where adverts come from; none when the interface is absent, down, without carrier or without own address.
    pub source: Option<IpAddr>,
    /// Hardware address for announcements.
    pub mac: [u8; 6],
    /// The kernel forwards this family here, so neighbour advertisements carry the router flag.
    pub is_forwarding: bool,
    /// How many of the virtual addresses are on the interface.
    pub virtual_present: usize,
    /// Some of them are the node's own and stay whatever becomes of the router.
    pub is_resident: bool,
}

/// Adverts of our VRID on the wire, whatever became of them above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overheard {
    pub from_others: u64,
    /// From our own source address, yet not sent by us. IPv4 drops them before any socket.
    pub from_our_address: u64,
}

/// A received IP datagram of protocol 112, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// IPv4: with the IP header in front, as raw sockets deliver it. IPv6: only the message.
    pub bytes: &'a [u8],
    /// IPv6: what the IP header said.
    pub carrier: Option<Carrier>,
    /// When the kernel received it, not when we looked.
    pub received: Time,
}

/// Something changed on an interface. Only a hint: `survey` tells the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link appeared, changed or vanished.
    Link { index: u32, name: String },
    /// An address appeared, changed or vanished.
    Address { index: u32, address: IpAddr, is_removed: bool },
    /// The kernel dropped notifications: anything may have changed.
    Unknown,
}

/// The operating system refused something.
#[derive(Debug)]
pub struct LinkError {
    /// What was tried, as in "join the VRRP group".
    pub operation: &'static str,
    pub interface: String,
    pub cause: io::Error,
}

impl LinkError {
    pub(crate) fn new(operation: &'static str, interface: &str, cause: impl Into<io::Error>) -> LinkError {
        LinkError { operation, interface: interface.to_owned(), cause: cause.into() }
    }

    /// Forbidden, as by a firewall or a lost capability.
    pub fn is_refusal(&self) -> bool {
        self.cause.kind() == io::ErrorKind::PermissionDenied
    }

    /// The interface went away or down under us; a survey follows anyway.
    pub fn is_link_gone(&self) -> bool {
        let gone = [libc::ENODEV, libc::ENETDOWN, libc::ENXIO, libc::ENETUNREACH, libc::EADDRNOTAVAIL];
        self.cause.raw_os_error().is_some_and(|code| gone.contains(&code))
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} on {}: {}", self.operation, self.interface, self.cause)
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
