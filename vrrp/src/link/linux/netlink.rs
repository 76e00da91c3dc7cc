//! rtnetlink: look at interfaces and addresses, put addresses on and take them off, watch for changes.
//!
//! Read first: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h. Requests are answered by the kernel before `send`
//! returns, so nothing here ever waits for more than the kernel's own configuration lock.

use super::sockets::set_option;
use crate::link::Change;
use crate::packet::Family;
use ipnet::IpNet;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Marks our addresses in `IFA_PROTO`, so that `ip address` and other daemons can tell whose they are ("L").
pub const ADDRESS_MARK: u8 = 0x4c;

/// Larger than any single message the kernel sends here; dumps come in parts of at most 32 KiB.
const REPLY_BYTES: usize = 64 * 1024;

/// Room for the notifications of a host that creates thousands of interfaces while we are stalled.
const MONITOR_BUFFER_BYTES: usize = 4 * 1024 * 1024;

// Attribute types of linux/if_link.h and linux/if_addr.h that `libc` lacks or spreads over modules.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INET6_CONF: u16 = 2;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFA_F_SECONDARY: u8 = 0x01;
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_TENTATIVE: u8 = 0x40;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;

/// Requests about one interface; every link has its own, so that nobody waits for another's answer.
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// An interface as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub mac: [u8; 6],
    /// Administratively up and with carrier.
    pub is_running: bool,
    /// IPv6 packets are forwarded between this interface and others.
    pub is_forwarding: bool,
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub network: IpNet,
    /// Not the first of its IPv4 subnet.
    pub is_secondary: bool,
    /// IPv6: duplicate detection runs or has failed, so it cannot be a source.
    pub is_tentative: bool,
}

/// An address to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    pub network: IpNet,
    /// The on-link route of its prefix already belongs to one of the node's own addresses.
    pub leaves_route_alone: bool,
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
        self.request.clear();
        let first = self.sequence.wrapping_add(1);
        for holding in holdings {
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
        self.acknowledged(first, holdings.len(), libc::EEXIST)
    }

    /// Takes addresses off an interface. Absent ones are fine.
    pub fn drop_addresses(&mut self, index: u32, addresses: &[IpNet]) -> io::Result<()> {
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

/// A request under construction at the end of a buffer that may hold others before it.
struct Message<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Message<'a> {
    fn begin(bytes: &'a mut Vec<u8>, kind: u16, flags: libc::c_int, sequence: u32) -> Message<'a> {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]); // length, known at the end
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags as u16).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]); // port: the kernel knows
        Message { bytes, start }
    }

    fn address_header(&mut self, family: u8, prefix: u8, index: u32) {
        self.bytes.extend_from_slice(&[family, prefix, 0, 0]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// Length, type, value, padding to four bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(self) {
        let length = (self.bytes.len() - self.start) as u32;
        if let Some(field) = self.bytes.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// `struct ifa_cacheinfo`: preferred and valid lifetime in seconds, two stamps the kernel fills.
///
/// IPv6 addresses are deprecated from the start, so that they are not picked as source of outgoing connections.
fn cache_info(address: IpAddr, lease: Duration) -> [u8; 16] {
    let valid = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX).max(1);
    let preferred = if address.is_ipv6() { 0 } else { valid };
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&preferred.to_ne_bytes());
    bytes[4..8].copy_from_slice(&valid.to_ne_bytes());
    bytes
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages of one netlink datagram; stops at the first malformed one.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let header = Header { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)? };
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The attributes of a message body after its fixed part, or nested in another attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn read_change(kind: u16, body: &[u8]) -> Option<Change> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            let name = attribute(body.get(LINK_BYTES..)?, IFLA_IFNAME)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            Some(Change::Link { index: u32_at(body, 4)?, name })
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let (index, assigned) = read_assigned(body)?;
            let is_removed = kind == libc::RTM_DELADDR;
            Some(Change::Address { index, address: assigned.network.addr(), is_removed })
        }
        _ => None,
    }
}

fn read_interface(body: &[u8]) -> Option<Interface> {
    let flags = u32_at(body, 8)?;
    let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let rest = body.get(LINK_BYTES..)?;
    Some(Interface {
        index: u32_at(body, 4)?,
        mac: attribute(rest, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        is_running: flags & wanted == wanted,
        is_forwarding: read_forwarding(rest).unwrap_or(false),
    })
}

/// `IFLA_AF_SPEC` holds one nest a family; the IPv6 one has the settings of /proc/sys/net/ipv6/conf as an array, of
/// which forwarding is the first.
fn read_forwarding(attributes: &[u8]) -> Option<bool> {
    let families = attribute(attributes, IFLA_AF_SPEC)?;
    let settings = attribute(attribute(families, libc::AF_INET6 as u16)?, IFLA_INET6_CONF)?;
    Some(u32_at(settings, 0)? != 0)
}

/// Interface index and address of an address message.
fn read_assigned(body: &[u8]) -> Option<(u32, Assigned)> {
    let (family, prefix, flags) = (*body.first()?, *body.get(1)?, *body.get(2)?);
    let rest = body.get(ADDRESS_BYTES..)?;
    // IFA_LOCAL is ours on point-to-point links, where IFA_ADDRESS is the other end; IPv6 often has only the latter.
    let value = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    let address = match libc::c_int::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return None,
    };
    let assigned = Assigned {
        network: IpNet::new(address, prefix).ok()?,
        is_secondary: address.is_ipv4() && flags & IFA_F_SECONDARY != 0,
        is_tentative: address.is_ipv6() && flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    };
    Some((u32_at(body, 4)?, assigned))
}

/// `struct nlmsgerr` begins with the negative error number; zero acknowledges.
fn error_code(body: &[u8]) -> i32 {
    u32_at(body, 0).map_or(libc::EIO, |code| (code as i32).wrapping_neg())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn number_of(address: IpAddr) -> u8 {
    family_number(if address.is_ipv4() { Family::V4 } else { Family::V6 })
}

fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_message() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut message = Message::begin(&mut bytes, libc::RTM_NEWADDR, libc::NLM_F_REQUEST, 7);
        message.address_header(libc::AF_INET as u8, 24, 3);
        message.address(IFA_LOCAL, [10, 0, 0, 1].into());
        message.attribute(IFA_PROTO, &[ADDRESS_MARK]);
        message.end();
        bytes
    }

    #[test]
    fn a_written_message_reads_back() {
        let bytes = address_message();
        let (header, body) = messages(&bytes).next().unwrap();
        assert_eq!((header.kind, header.sequence), (libc::RTM_NEWADDR, 7));
        let (index, assigned) = read_assigned(body).unwrap();
        assert_eq!((index, assigned.network), (3, "10.0.0.1/24".parse().unwrap()));
        assert_eq!(attribute(&body[ADDRESS_BYTES..], IFA_PROTO), Some(&[ADDRESS_MARK][..]));
    }

    #[test]
    fn several_messages_in_one_datagram_are_all_read() {
        let bytes = [address_message(), address_message()].concat();
        assert_eq!(messages(&bytes).count(), 2);
    }

    #[test]
    fn truncated_and_twisted_messages_end_in_nothing() {
        let whole = [address_message(), address_message()].concat();
        let read = |bytes: &[u8]| messages(bytes).filter_map(|(h, body)| read_change(h.kind, body)).count();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]) <= 1);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 15, 16, 127, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                assert!(read(&bytes) <= 2);
                messages(&bytes).for_each(|(_, body)| {
                    let _ = (read_interface(body), read_assigned(body), error_code(body));
                });
            }
        }
    }

    #[test]
    fn leases_are_whole_seconds_and_ipv6_addresses_are_never_a_source() {
        let seconds = |bytes: [u8; 16]| (u32_at(&bytes, 0).unwrap(), u32_at(&bytes, 4).unwrap());
        assert_eq!(seconds(cache_info([10, 0, 0, 1].into(), Duration::from_secs(3))), (3, 3));
        assert_eq!(seconds(cache_info(Ipv6Addr::LOCALHOST.into(), Duration::from_secs(3))), (0, 3));
        assert_eq!(seconds(cache_info([10, 0, 0, 1].into(), Duration::from_millis(1))), (1, 1), "0 would be refused");
    }
}
