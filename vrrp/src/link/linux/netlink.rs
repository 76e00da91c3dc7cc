//! rtnetlink: look at interfaces and addresses, put addresses on and take them off, watch for changes.
//!
//! Read first: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h. Requests are answered by the kernel before `send`
//! returns, so nothing here ever waits for more than the kernel's own configuration lock.

mod macvlan;
pub mod reply;
mod request;

pub use reply::{ArpSettings, Assigned, Interface};

use super::sockets::set_option;
use crate::link::Change;
use crate::packet::Family;
use ipnet::IpNet;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
};
use reply::{
    IFA_ADDRESS, IFA_CACHEINFO, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_FLAGS, IFA_LOCAL, IFA_PROTO, IFLA_EXT_MASK,
    IFLA_IFNAME, LINK_BYTES, RTEXT_FILTER_SKIP_STATS, error_code, messages, read_assigned, read_change, read_interface,
};
use request::{Message, cache_info, family_number, number_of};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Marks our addresses in `IFA_PROTO`, so that `ip address` and other daemons can tell whose they are ("L").
pub const ADDRESS_MARK: u8 = 0x4c;

/// Larger than any single message the kernel sends here; dumps come in parts of at most 32 KiB.
const REPLY_BYTES: usize = 64 * 1024;

/// Room for the notifications of a host that creates thousands of interfaces while we are stalled.
const MONITOR_BUFFER_BYTES: usize = 4 * 1024 * 1024;

const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

/// Changes in one datagram. Each is acknowledged by a datagram of its own, and a few hundred of those fill the
/// default receive buffer.
const BATCH: usize = 64;

/// Requests about one interface; every link has its own, so that nobody waits for another's answer.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// An address to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    pub network: IpNet,
    /// The on-link route of its prefix already belongs to one of the node's own addresses.
    pub leaves_route_alone: bool,
    /// The node's own, whose addresses the owner (255) only lends: not put there, not given a lease, not removed.
    pub is_system: bool,
}

impl Netlink {
    pub fn open() -> io::Result<Netlink> {
        let socket = open_route_socket(0)?;
        // Without it an address dump ignores the interface it is asked for; old kernels lack it, so we filter too.
        let _ = set_option(socket.as_fd(), libc::SOL_NETLINK, NETLINK_GET_STRICT_CHK, &1i32);
        Ok(Netlink { socket, sequence: 0, request: Vec::with_capacity(4096), reply: vec![0; REPLY_BYTES] })
    }

    /// Whether this process may change addresses: asks to remove one from an interface that cannot exist, which the
    /// kernel answers with "no such device" only after it has checked the capability.
    pub fn may_change_addresses(&mut self) -> bool {
        let nowhere = IpNet::from(IpAddr::from([192, 0, 2, 1]));
        let answer = self.drop_addresses(i32::MAX as u32, &[nowhere]);
        !matches!(answer, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The interface of this name, if there is one.
    pub fn interface(&mut self, name: &str) -> io::Result<Option<Interface>> {
        self.request.clear();
        let sequence = self.next_sequence();
        let mut message = Message::begin(&mut self.request, libc::RTM_GETLINK, libc::NLM_F_REQUEST, sequence);
        message.bytes.extend_from_slice(&[0; LINK_BYTES]);
        message.attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        message.attribute(IFLA_IFNAME, name.as_bytes());
        message.end();
        let mut found = None;
        match self.exchange(|kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = read_interface(body);
            }
        }) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// All addresses of one family on one interface, in the kernel's order, appended to `into`.
    pub fn addresses(&mut self, index: u32, family: Family, into: &mut Vec<Assigned>) -> io::Result<()> {
        self.request.clear();
        let sequence = self.next_sequence();
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let mut message = Message::begin(&mut self.request, libc::RTM_GETADDR, flags, sequence);
        message.address_header(family_number(family), 0, index);
        message.end();
        self.exchange(|kind, body| {
            if kind == libc::RTM_NEWADDR
                && let Some((on, assigned)) = read_assigned(body)
                && on == index
            {
                into.push(assigned);
            }
        })
    }

    /// Puts addresses on an interface or renews their lease; the kernel removes them when it runs out.
    ///
    /// All are tried; the first refusal is returned.
    pub fn hold_addresses(&mut self, index: u32, holdings: &[Holding], lease: Duration) -> io::Result<()> {
        let batches = holdings.chunks(BATCH).map(|batch| self.hold_batch(index, batch, lease));
        batches.fold(Ok(()), io::Result::and)
    }

    /// Takes addresses off an interface. Absent ones are fine.
    pub fn drop_addresses(&mut self, index: u32, addresses: &[IpNet]) -> io::Result<()> {
        addresses.chunks(BATCH).map(|batch| self.drop_batch(index, batch)).fold(Ok(()), io::Result::and)
    }

    fn hold_batch(&mut self, index: u32, holdings: &[Holding], lease: Duration) -> io::Result<()> {
        self.request.clear();
        let first = self.sequence.wrapping_add(1);
        let ours = || holdings.iter().filter(|holding| !holding.is_system);
        for holding in ours() {
            let sequence = self.next_sequence();
            let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let mut message = Message::begin(&mut self.request, libc::RTM_NEWADDR, flags, sequence);
            message.address_header(number_of(holding.network.addr()), holding.network.prefix_len(), index);
            message.address(IFA_LOCAL, holding.network.addr());
            message.address(IFA_ADDRESS, holding.network.addr());
            message.attribute(IFA_FLAGS, &holding.flags().to_ne_bytes());
            message.attribute(IFA_CACHEINFO, &cache_info(holding.network.addr(), lease));
            message.attribute(IFA_PROTO, &[ADDRESS_MARK]);
            message.end();
        }
        self.acknowledged(first, ours().count(), libc::EEXIST)
    }

    fn drop_batch(&mut self, index: u32, addresses: &[IpNet]) -> io::Result<()> {
        self.request.clear();
        let first = self.sequence.wrapping_add(1);
        for network in addresses {
            let sequence = self.next_sequence();
            let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
            let mut message = Message::begin(&mut self.request, libc::RTM_DELADDR, flags, sequence);
            message.address_header(number_of(network.addr()), network.prefix_len(), index);
            // Without IFA_ADDRESS the kernel does not insist on the prefix length (IPv4), so an address that somebody
            // re-added with another one goes too.
            message.address(IFA_LOCAL, network.addr());
            message.end();
        }
        self.acknowledged(first, addresses.len(), libc::EADDRNOTAVAIL)
    }

    /// Sends the request and waits for one acknowledgement a message; `harmless` is an error that counts as success.
    fn acknowledged(&mut self, first: u32, count: usize, harmless: i32) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        send(self.socket.as_raw_fd(), &self.request, MsgFlags::empty())?;
        let (mut answered, mut outcome) = (0, Ok(()));
        while answered < count {
            let length = receive(self.socket.as_fd(), &mut self.reply)?;
            for (header, body) in messages(self.reply.get(..length).unwrap_or_default()) {
                let is_ours = header.sequence.wrapping_sub(first) < count as u32;
                if header.kind != libc::NLMSG_ERROR as u16 || !is_ours {
                    continue;
                }
                answered += 1;
                let code = error_code(body);
                if code != 0 && code != harmless && outcome.is_ok() {
                    outcome = Err(io::Error::from_raw_os_error(code));
                }
            }
        }
        outcome
    }

    /// Sends one query and feeds the kind and body of each message of its answer to `take`.
    fn exchange(&mut self, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let sequence = self.sequence;
        send(self.socket.as_raw_fd(), &self.request, MsgFlags::empty())?;
        loop {
            let length = receive(self.socket.as_fd(), &mut self.reply)?;
            for (header, body) in messages(self.reply.get(..length).unwrap_or_default()) {
                if header.sequence != sequence {
                    continue;
                }
                match libc::c_int::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR if error_code(body) == 0 => return Ok(()),
                    libc::NLMSG_ERROR => return Err(io::Error::from_raw_os_error(error_code(body))),
                    _ => take(header.kind, body),
                }
                if header.flags & libc::NLM_F_MULTI as u16 == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

impl Holding {
    fn flags(&self) -> u32 {
        // Duplicate detection would keep the address unusable for a second, and for good after a split brain.
        let detection = if self.network.addr().is_ipv6() { IFA_F_NODAD } else { 0 };
        let route = if self.leaves_route_alone { IFA_F_NOPREFIXROUTE } else { 0 };
        detection | route
    }
}

/// Notifications of links and addresses in this network namespace.
pub struct Monitor {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Monitor {
    pub fn open() -> io::Result<Monitor> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        let socket = open_route_socket(groups as u32)?;
        // Refused without CAP_NET_ADMIN over the first namespace; the default holds a few hundred notifications.
        let _ = setsockopt(&socket, RcvBufForce, &MONITOR_BUFFER_BYTES);
        Ok(Monitor { socket, buffer: vec![0; REPLY_BYTES] })
    }

    pub fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Hands every queued change to `take`.
    pub fn drain(&mut self, mut take: impl FnMut(Change)) -> io::Result<()> {
        loop {
            let length = match receive(self.socket.as_fd(), &mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    take(Change::Unknown);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (header, body) in messages(self.buffer.get(..length).unwrap_or_default()) {
                if let Some(change) = read_change(header.kind, body) {
                    take(change);
                }
            }
        }
    }
}

fn open_route_socket(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// One datagram from the kernel; those of other processes are skipped.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let (length, sender) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), buffer)?;
        if sender.is_some_and(|sender| sender.pid() == 0) {
            return Ok(length);
        }
    }
}
