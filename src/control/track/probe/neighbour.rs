//! Asks a neighbour for its hardware address: ARP (RFC 826) and neighbour solicitation (RFC 4861 §4.3) on one interface.
//!
//! ```text
//! ARP payload   00 01 08 00 06 04 | operation 2 | sender mac 6 | sender ip 4 | target mac 6 | target ip 4     = 28
//! NS            87 00 checksum 2 | 0 4 | target 16 | 01 01 mac 6                                             = 32
//! NA            88 00 checksum 2 | flags 4 | target 16 | options
//! ```

#![allow(unsafe_code)] // packet(7) addresses

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt::Ipv6RecvHopLimit};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

pub type Mac = [u8; 6];

const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Only a neighbour can send this (RFC 4861 §7.1.2): every router on the way takes one off.
const HOPS: i32 = 255;
/// Read in one go; other people's traffic must not keep the thread.
const DRAIN_MAX: usize = 256;

/// This node's side of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    pub index: u32,
    pub mac: Mac,
    pub address: IpAddr,
}

/// A socket that asks one neighbour and hears its answers.
pub struct Neighbour {
    socket: Socket,
    own: Own,
    target: IpAddr,
}

impl Neighbour {
    pub fn open(own: Own, target: IpAddr, interface: &str) -> io::Result<Neighbour> {
        let socket = match target {
            IpAddr::V4(_) => {
                let protocol = (libc::ETH_P_ARP as u16).to_be();
                let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(protocol))))?;
                socket.bind(&packet_address(own.index, BROADCAST))?;
                socket
            }
            IpAddr::V6(_) => {
                let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
                socket.bind_device(Some(interface.as_bytes()))?;
                socket.set_multicast_hops_v6(HOPS as u32)?;
                setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
                socket
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Neighbour { socket, own, target })
    }

    pub fn own(&self) -> Own {
        self.own
    }

    pub fn ask(&self) -> io::Result<()> {
        match (self.target, self.own.address) {
            (IpAddr::V4(target), IpAddr::V4(own)) => {
                let question = arp_question(self.own.mac, own, target);
                self.socket.send_to(&question, &packet_address(self.own.index, BROADCAST)).map(drop)
            }
            (IpAddr::V6(target), _) => {
                let group = SocketAddrV6::new(solicited_node(target), 0, 0, self.own.index);
                self.socket.send_to(&solicitation(self.own.mac, target), &group.into()).map(drop)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Whether an answer has come; reads what there is.
    pub fn has_answered(&self) -> bool {
        (0..DRAIN_MAX).map_while(|_| self.read()).any(|is_answer| is_answer)
    }

    /// `None` when there is nothing more.
    fn read(&self) -> Option<bool> {
        let mut buffer = [0; 256];
        let (length, hops) = match self.target {
            IpAddr::V4(_) => (io::Read::read(&mut &self.socket, &mut buffer).ok()?, None),
            IpAddr::V6(_) => receive(self.socket.as_fd(), &mut buffer)?,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        Some(match self.target {
            IpAddr::V4(target) => is_arp_answer(bytes, target),
            IpAddr::V6(target) => hops == Some(HOPS) && is_advertisement(bytes, target),
        })
    }
}

impl AsFd for Neighbour {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Length and hop limit of a datagram.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Option<(usize, Option<i32>)> {
    let mut space = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(fd.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT).ok()?;
    let hops = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
        _ => None,
    });
    Some((message.bytes, hops))
}

const BROADCAST: Mac = [0xff; 6];

/// For ARP on one interface.
fn packet_address(index: u32, mac: Mac) -> SockAddr {
    let [a, b, c, d, e, f] = mac;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
        sll_ifindex: i32::try_from(index).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    };
    let initialise = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: the storage is larger than any address and suitably aligned; the length is that of what was written.
        unsafe {
            storage.cast::<libc::sockaddr_ll>().write(address);
            length.write(size_of::<libc::sockaddr_ll>() as libc::socklen_t);
        }
        Ok(())
    };
    // SAFETY: it initialises a valid address and its length, and cannot fail.
    match unsafe { SockAddr::try_init(initialise) } {
        Ok(((), address)) => address,
        Err(_) => SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into(),
    }
}

/// "Who has `target`? Tell `own`."
fn arp_question(mac: Mac, own: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    [&ETHERNET_IPV4[..], &[0, REQUEST], &mac, &own.octets(), &[0; 6], &target.octets()].concat()
}

fn is_arp_answer(bytes: &[u8], target: Ipv4Addr) -> bool {
    bytes.starts_with(&ETHERNET_IPV4)
        && bytes.get(6..8) == Some(&[0, REPLY])
        && bytes.get(14..18) == Some(&target.octets())
        && bytes.len() >= 28
}

/// The kernel fills in the checksum.
fn solicitation(mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &mac].concat()
}

fn is_advertisement(bytes: &[u8], target: Ipv6Addr) -> bool {
    bytes.starts_with(&[ADVERTISEMENT, 0]) && bytes.get(8..24) == Some(&target.octets())
}

/// RFC 4291 §2.7.1
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = target.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    #[test]
    fn an_arp_question_is_laid_out_as_in_rfc_826() {
        let question = arp_question(MAC, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(question, [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        assert!(!is_arp_answer(&question, Ipv4Addr::new(10, 0, 0, 2)));
    }

    #[test]
    fn only_a_whole_reply_of_the_target_is_an_answer() {
        let target = Ipv4Addr::new(10, 0, 0, 1);
        let mut reply = arp_question(MAC, target, Ipv4Addr::new(10, 0, 0, 2));
        reply[7] = REPLY;
        assert!(is_arp_answer(&reply, target));
        assert!(!is_arp_answer(&reply, Ipv4Addr::new(10, 0, 0, 3)));
        for length in 0..reply.len() {
            assert!(!is_arp_answer(&reply[..length], target), "{length} bytes");
        }
    }

    #[test]
    fn a_solicitation_goes_to_the_targets_group() {
        let target: Ipv6Addr = "fd77::12:3456".parse().unwrap();
        assert_eq!(solicited_node(target), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        let bytes = solicitation(MAC, target);
        assert_eq!((bytes.len(), bytes[0], &bytes[8..24]), (32, 135, &target.octets()[..]));
        let mut answer = bytes.clone();
        answer[0] = ADVERTISEMENT;
        assert!(is_advertisement(&answer, target) && !is_advertisement(&bytes, target));
        assert!(!is_advertisement(&answer[..23], target));
    }
}
