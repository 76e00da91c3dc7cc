//! Raw sockets: one that only receives adverts, one that only sends them, one for complete frames.
//!
//! Read first: raw(7), ip(7), ipv6(7), packet(7). Two sockets, because the receiving one is bound to the group, which
//! no source address can be, and because a sending one must never collect a queue.
#![allow(unsafe_code)]

use super::clock;
use super::frame::{self, TRAFFIC_CLASS, ipv4_header};
use crate::announce::Mac;
use crate::link::{Datagram, HOPS};
use crate::packet::{Carrier, Family, GROUP_V4, GROUP_V6, PROTOCOL};
use crate::params::Time;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::mem::{MaybeUninit, size_of, size_of_val};
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Where the checksum is in an advert; the kernel computes and checks it for IPv6.
const CHECKSUM_OFFSET: libc::c_int = 6;

/// A [`Datagram`] as a part of the buffer it was read into.
pub(super) struct Piece {
    pub(super) place: Range<usize>,
    pub(super) carrier: Option<Carrier>,
    pub(super) received: Time,
}

impl Piece {
    pub(super) fn of(self, buffer: &[u8]) -> Datagram<'_> {
        let bytes = buffer.get(self.place).unwrap_or_default();
        Datagram { bytes, carrier: self.carrier, received: self.received }
    }
}

/// An adverts-only socket of one interface.
pub(super) struct AdvertReceiver {
    socket: Socket,
    family: Family,
    /// When the queue last had nothing: no datagram in it can be older.
    queue_was_empty: Time,
}

impl AdvertReceiver {
    /// For adverts to the VRRP group.
    pub(super) fn multicast(interface: &str, index: u32, family: Family) -> io::Result<AdvertReceiver> {
        let socket = raw_socket(family, interface)?;
        match family {
            Family::V4 => {
                socket.set_multicast_all_v4(false)?;
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
            }
            Family::V6 => {
                socket.set_multicast_all_v6(false)?;
                socket.join_multicast_v6(&GROUP_V6, index)?;
            }
        }
        AdvertReceiver::bound(socket, family, family.group(), index)
    }

    /// For adverts to our own address.
    pub(super) fn unicast(interface: &str, index: u32, own: IpAddr) -> io::Result<AdvertReceiver> {
        let family = Family::of(own);
        AdvertReceiver::bound(raw_socket(family, interface)?, family, own, index)
    }

    /// Bound to the one destination whose adverts it shall get.
    fn bound(socket: Socket, family: Family, to: IpAddr, index: u32) -> io::Result<AdvertReceiver> {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32)?;
        if family == Family::V6 {
            socket.set_recv_hoplimit_v6(true)?;
            set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1i32)?;
            set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, &CHECKSUM_OFFSET)?;
        }
        socket.bind(&socket_address(to, index))?;
        let mut receiver = AdvertReceiver { socket, family, queue_was_empty: clock::now() };
        receiver.discard_strays();
        Ok(receiver)
    }

    /// The oldest queued datagram, if any.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Piece>> {
        let before = clock::now();
        let mut control = Control::default();
        let (length, source) = match receive_message(self.socket.as_fd(), buffer, &mut control) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.queue_was_empty = before;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let received = control.stamp.map_or(before, |stamp| clock::arrival(stamp, self.queue_was_empty));
        let carrier = match self.family {
            Family::V4 => None,
            Family::V6 => Some(control.carrier(source)),
        };
        Ok(Some(Piece { place: 0..length, carrier, received }))
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// What arrived between creation and bind may be from anywhere.
    fn discard_strays(&mut self) {
        let mut scrap = [0; 64];
        while let Ok(Some(_)) = self.receive(&mut scrap) {}
    }
}

/// A socket that sends adverts from one source address and receives nothing.
pub(super) struct AdvertSender {
    socket: Socket,
    index: u32,
    source: IpAddr,
    packet: Vec<u8>,
    /// The hardware address adverts to the group leave from; none for the interface's own.
    mac: Option<(Mac, FrameSender)>,
    /// IPv4 identification; never zero, which would make the kernel choose.
    id: u16,
}

impl AdvertSender {
    pub(super) fn open(interface: &str, index: u32, source: IpAddr, mac: Option<Mac>) -> io::Result<AdvertSender> {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = raw_socket(family, interface)?;
        // BPF "ret 0": drop everything that would be queued.
        socket.attach_filter(&[SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0)])?;
        socket.set_recv_buffer_size(0)?;
        match source {
            IpAddr::V4(_) => {
                socket.set_header_included_v4(true)?;
                socket.set_multicast_loop_v4(false)?;
                let membership = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr { s_addr: 0 },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: index as libc::c_int,
                };
                set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &membership)?;
            }
            IpAddr::V6(v6) => {
                socket.set_multicast_hops_v6(u32::from(HOPS))?;
                socket.set_unicast_hops_v6(u32::from(HOPS))?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_if_v6(index)?;
                socket.set_tclass_v6(u32::from(TRAFFIC_CLASS))?;
                set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, &CHECKSUM_OFFSET)?;
                socket.bind(&socket_address(v6.into(), index))?;
            }
        }
        let mac = mac.map(|mac| Ok::<_, io::Error>((mac, FrameSender::open(index)?))).transpose()?;
        Ok(AdvertSender { socket, index, source, packet: Vec::with_capacity(2048), mac, id: 0 })
    }

    pub(super) fn send(&mut self, destination: IpAddr, advert: &[u8]) -> io::Result<()> {
        if let (Some((mac, frames)), true) = (&self.mac, destination.is_multicast()) {
            self.id = self.id.checked_add(1).unwrap_or(1);
            frame::write(&mut self.packet, *mac, self.source, destination, self.id, advert);
            return frames.send(&self.packet);
        }
        self.packet.clear();
        if let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, destination) {
            self.id = self.id.checked_add(1).unwrap_or(1);
            self.packet.extend_from_slice(&ipv4_header(source, destination, self.id, advert.len()));
        }
        self.packet.extend_from_slice(advert);
        // The group needs no route; a peer may be behind a router.
        let flags = if destination.is_multicast() { libc::MSG_DONTROUTE } else { 0 };
        let address = socket_address(destination, self.index);
        self.socket.send_to_with_flags(&self.packet, &address, flags).map(drop)
    }
}

/// Sends complete Ethernet frames on one interface and receives nothing.
pub(super) struct FrameSender(Socket);

impl FrameSender {
    pub(super) fn open(index: u32) -> io::Result<FrameSender> {
        // Protocol 0 means: no copy of any incoming frame.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, None)?;
        socket.bind(&packet_address(index, 0)?)?;
        Ok(FrameSender(socket))
    }

    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}

/// Where a packet socket listens; protocol 0 is nowhere.
pub(super) fn packet_address(index: u32, protocol: u16) -> io::Result<SockAddr> {
    // SAFETY: a sockaddr_ll fits into the zeroed storage and is plain data; the length is its own.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = storage.cast::<libc::sockaddr_ll>();
            (*link).sll_family = libc::AF_PACKET as libc::sa_family_t;
            (*link).sll_protocol = protocol.to_be();
            (*link).sll_ifindex = index as libc::c_int;
            *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })?
    };
    Ok(address)
}

/// Sets an option that neither socket2 nor nix knows.
pub(super) fn set_option<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: `value` is live and `length` bytes long; the kernel copies it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (value as *const T).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn raw_socket(family: Family, interface: &str) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(i32::from(PROTOCOL))))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// Link-local and multicast IPv6 addresses mean something on one interface only.
fn socket_address(address: IpAddr, index: u32) -> SockAddr {
    match address {
        IpAddr::V4(v4) => SocketAddrV4::new(v4, 0).into(),
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_multicast() => SocketAddrV6::new(v6, 0, 0, index).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, 0).into(),
    }
}

/// The control messages we ask for.
#[derive(Default)]
pub(super) struct Control {
    /// Nanoseconds of CLOCK_REALTIME.
    pub(super) stamp: Option<u64>,
    hops: Option<u8>,
    destination: Option<Ipv6Addr>,
}

impl Control {
    /// A missing control message reads as a header that no check lets pass.
    fn carrier(&self, source: Ipv6Addr) -> Carrier {
        let destination = IpAddr::V6(self.destination.unwrap_or(Ipv6Addr::UNSPECIFIED));
        Carrier { source: IpAddr::V6(source), destination, ttl: self.hops.unwrap_or(0) }
    }
}

/// Room for the three control messages, aligned as the kernel's header wants it.
#[repr(align(8))]
struct ControlBuffer([u8; 256]);

/// recvmsg(2): length, IPv6 source, control messages.
pub(super) fn receive_message(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut Control,
) -> io::Result<(usize, Ipv6Addr)> {
    let mut control_buffer = ControlBuffer([0; 256]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid value of these plain C structs.
    let mut name: libc::sockaddr_in6 = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: as above.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control_buffer.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<ControlBuffer>() as _;
    // SAFETY: every pointer in `header` is to a live local or to `buffer`, with its true length.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `header` was filled by the kernel and its buffers are still live.
    unsafe { read_control(&header, control) };
    Ok((length as usize, Ipv6Addr::from(name.sin6_addr.s6_addr)))
}

/// SAFETY: `header` must come from a successful recvmsg whose control buffer is still live.
unsafe fn read_control(header: &libc::msghdr, control: &mut Control) {
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR stay inside msg_controllen; data is read unaligned and only after its
    // type told its size, which the kernel guarantees.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let stamp = data.cast::<libc::timespec>().read_unaligned();
                    control.stamp = Some((stamp.tv_sec as u64) * 1_000_000_000 + stamp.tv_nsec as u64);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    control.hops = u8::try_from(data.cast::<libc::c_int>().read_unaligned()).ok();
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    control.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_hop_limit_is_none_that_passes() {
        assert_eq!(Control::default().carrier(Ipv6Addr::LOCALHOST).ttl, 0);
    }
}
