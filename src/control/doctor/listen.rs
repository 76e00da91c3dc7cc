//! Listens to the LAN for a while, twice: on the wire (a packet socket, before any filter) and as a speaker does.

use super::advert;
use super::facts::{Claim, Heard, Router};
use lyre_vrrp::link::Change;
use lyre_vrrp::link::linux::clock;
use lyre_vrrp::link::linux::netlink::Monitor;
use lyre_vrrp::packet::{Family, GROUP_V4, GROUP_V6, PROTOCOL};
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Bounds memory against somebody who makes up senders.
const HEARD_MAX: usize = 256;

/// Everything open for listening; what cannot be opened is left out.
pub(super) struct Ears {
    wire: Option<Socket>,
    monitor: Option<Monitor>,
    /// Per router, if its speaker's socket could be opened.
    sockets: Vec<Option<Socket>>,
    indices: Vec<u32>,
}

impl Ears {
    /// `indices` are the interfaces of the routers, 0 for one that does not exist.
    pub(super) fn open(routers: &[Router], indices: Vec<u32>) -> Ears {
        let open = |(router, index): (&Router, &u32)| {
            if *index == 0 || router.is_unicast { None } else { as_speaker(router, *index).ok() }
        };
        Ears {
            wire: wire().ok(),
            monitor: Monitor::open().ok(),
            sockets: routers.iter().zip(&indices).map(open).collect(),
            indices,
        }
    }

    pub(super) fn has_socket(&self, router: usize) -> bool {
        self.wire.is_some() && self.sockets.get(router).is_some_and(Option::is_some)
    }

    /// Fills in what is heard about each router.
    pub(super) fn listen(&mut self, routers: &mut [Router], wait: Duration) {
        let end = Instant::now() + wait;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut ready: Vec<_> = self.descriptors().map(clock::readable).collect();
            let _ = clock::wait(&mut ready, Some(clock::now().plus(left.min(Duration::from_secs(1)))));
            self.take_frames(routers, &mut buffer);
            self.take_messages(routers, &mut buffer);
            self.take_changes(routers);
        }
    }

    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let sockets = self.wire.iter().chain(self.sockets.iter().flatten()).map(Socket::as_raw_fd);
        sockets.chain(self.monitor.iter().map(Monitor::descriptor))
    }

    fn take_frames(&self, routers: &mut [Router], buffer: &mut [u8]) {
        let Some(wire) = &self.wire else { return };
        while let Ok((length, Some(from))) = recvfrom::<SockaddrStorage>(wire.as_raw_fd(), buffer) {
            let Some(link) = from.as_link_addr() else { continue };
            let Some(frame) = buffer.get(..length) else { continue };
            let is_ours = link.pkttype() == libc::PACKET_OUTGOING;
            let here = |router: usize| self.indices.get(router) == u32::try_from(link.ifindex()).ok().as_ref();
            for (_, router) in routers.iter_mut().enumerate().filter(|(number, _)| here(*number)) {
                if let Some(heard) = advert::in_frame(frame).filter(|heard| heard.source.is_ipv4() == router.is_v4) {
                    note(router, Heard { is_ours, on_wire: 1, ..heard });
                } else if !is_ours && let Some(claim) = advert::claim(frame) {
                    note_claim(router, claim);
                }
            }
        }
    }

    fn take_messages(&self, routers: &mut [Router], buffer: &mut [u8]) {
        for (router, socket) in routers.iter_mut().zip(&self.sockets) {
            let Some(socket) = socket else { continue };
            while let Ok((length, Some(from))) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), buffer) {
                let v4 = from.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
                let Some(source) = v4.or(from.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()))) else {
                    continue;
                };
                // IPv4 comes with its header, IPv6 without.
                let header = buffer.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
                let message = buffer.get(if router.is_v4 { header } else { 0 }..length).unwrap_or_default();
                if let Some(heard) = advert::in_message(source, message) {
                    note(router, Heard { at_socket: 1, ..heard });
                }
            }
        }
    }

    fn take_changes(&mut self, routers: &mut [Router]) {
        let (Some(monitor), indices) = (&mut self.monitor, &self.indices) else { return };
        let _ = monitor.drain(|change| {
            let Change::Address { index, address, is_removed: true } = change else { return };
            for (router, at) in routers.iter_mut().zip(indices) {
                if *at == index && router.addresses.contains(&address) {
                    router.removals += 1;
                }
            }
        });
    }
}

/// Adds to what is known of its sender; wire and socket together make one entry.
fn note(router: &mut Router, heard: Heard) {
    let is_same = |known: &Heard| (known.source, known.vrid) == (heard.source, heard.vrid);
    let Some(known) = router.heard.iter().position(is_same).and_then(|at| router.heard.get_mut(at)) else {
        if router.heard.len() < HEARD_MAX {
            router.heard.push(heard);
        }
        return;
    };
    let (on_wire, at_socket) = (known.on_wire + heard.on_wire, known.at_socket + heard.at_socket);
    // Only the wire knows hardware address and TTL, and a release says least about its sender.
    if heard.on_wire > 0 && (heard.priority > 0 || known.on_wire == 0) {
        *known = heard;
    }
    (known.on_wire, known.at_socket) = (on_wire, at_socket);
}

fn note_claim(router: &mut Router, claim: Claim) {
    if router.addresses.contains(&claim.address) && !router.claims.contains(&claim) && router.claims.len() < HEARD_MAX {
        router.claims.push(claim);
    }
}

/// Sees every frame of this network namespace.
fn wire() -> io::Result<Socket> {
    let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), Some(everything))
}

/// As the speaker opens it: what it gets, the speaker gets.
fn as_speaker(router: &Router, index: u32) -> io::Result<Socket> {
    let socket = raw(router)?;
    if router.is_v4 {
        socket.set_multicast_all_v4(false)?;
        socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
    } else {
        socket.set_multicast_all_v6(false)?;
        socket.join_multicast_v6(&GROUP_V6, index)?;
    }
    socket.bind(&group(router, index))?;
    Ok(socket)
}

/// Offers the kernel an advert with a hop limit of 0, which passes the firewall's output rules and stays in this host.
pub(super) fn try_to_send(router: &Router, index: u32) -> io::Result<()> {
    let socket = raw(router)?;
    if router.is_v4 {
        socket.set_multicast_ttl_v4(0)?;
        socket.set_multicast_loop_v4(false)?;
    } else {
        socket.set_multicast_hops_v6(0)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(index)?;
    }
    let harmless = [0x31, router.vrid, 0, 0, 0, 0, 0, 0];
    socket.send_to_with_flags(&harmless, &group(router, index), libc::MSG_DONTROUTE).map(drop)
}

fn raw(router: &Router) -> io::Result<Socket> {
    let domain = if router.is_v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(Protocol::from(i32::from(PROTOCOL))))?;
    socket.bind_device(Some(router.interface.as_bytes()))?;
    Ok(socket)
}

fn group(router: &Router, index: u32) -> SockAddr {
    let group = if router.is_v4 { Family::V4.group() } else { Family::V6.group() };
    match group {
        IpAddr::V4(_) => SocketAddr::V4(SocketAddrV4::new(GROUP_V4, 0)).into(),
        IpAddr::V6(_) => SocketAddr::V6(SocketAddrV6::new(GROUP_V6, 0, 0, index)).into(),
    }
}
