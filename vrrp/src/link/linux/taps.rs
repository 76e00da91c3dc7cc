//! Packet sockets that hear adverts where the sockets of [`super::sockets`] cannot.
//!
//! [`Twin`] hears what comes from our own virtual hardware address while our macvlan is up: the kernel then gives such
//! frames to the macvlan alone. [`Tap`] hears what reaches an interface before any firewall, for a short look.

use super::clock;
use super::frame::{ETHERNET_HEADER_BYTES, IPV6_HEADER_BYTES};
use super::sockets::{Control, Piece, packet_address, receive_message, set_option};
use crate::announce::Mac;
use crate::link::Overheard;
use crate::packet::{self, Carrier, Family, PROTOCOL};
use crate::params::{Time, Vrid};
use socket2::{Domain, SockFilter, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Adverts from our own virtual hardware address, that is from another Active (or so it believes).
pub(super) struct Twin {
    socket: Socket,
    family: Family,
    queue_was_empty: Time,
}

impl Twin {
    pub(super) fn open(macvlan: u32, family: Family, mac: Mac) -> io::Result<Twin> {
        let socket = listen(macvlan, family, Some(mac))?;
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32)?;
        Ok(Twin { socket, family, queue_was_empty: clock::now() })
    }

    /// The oldest queued datagram, if any.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Piece>> {
        let before = clock::now();
        let mut control = Control::default();
        let length = match receive_message(self.socket.as_fd(), buffer, &mut control) {
            Ok((length, _)) => length,
            Err(error) if is_nothing(&error) => {
                self.queue_was_empty = before;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let received = control.stamp.map_or(before, |stamp| clock::arrival(stamp, self.queue_was_empty));
        let whole = Piece { place: ETHERNET_HEADER_BYTES..length, carrier: None, received };
        if self.family == Family::V4 {
            return Ok(Some(whole));
        }
        let packet = buffer.get(whole.place.clone()).unwrap_or_default();
        let (carrier, message_bytes) =
            ipv6(packet).map_or((NO_CARRIER, 0), |(carrier, message)| (carrier, message.len()));
        let start = ETHERNET_HEADER_BYTES + IPV6_HEADER_BYTES;
        Ok(Some(Piece { place: start..start + message_bytes, carrier: Some(carrier), received }))
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// All adverts on an interface, firewall or not.
pub(super) struct Tap {
    socket: Socket,
    family: Family,
}

/// Frames a look reads at most; one would do.
const LOOK_MAX: usize = 64;

impl Tap {
    pub(super) fn open(index: u32, family: Family) -> io::Result<Tap> {
        Ok(Tap { socket: listen(index, family, None)?, family })
    }

    /// The adverts of this VRID in the queue.
    pub(super) fn count(&self, vrid: Vrid, own: IpAddr) -> Overheard {
        let mut buffer = [0; 2048];
        let mut seen = Overheard::default();
        for _ in 0..LOOK_MAX {
            let Ok((length, _)) = receive_message(self.socket.as_fd(), &mut buffer, &mut Control::default()) else {
                break;
            };
            let datagram = buffer.get(ETHERNET_HEADER_BYTES..length).unwrap_or_default();
            let read = match self.family {
                Family::V4 => packet::ipv4(datagram).ok(),
                Family::V6 => ipv6(datagram),
            };
            match read {
                Some((_, message)) if packet::vrid(message) != Ok(vrid) => {}
                Some((carrier, _)) if carrier.source == own => seen.from_our_address += 1,
                Some(_) => seen.from_others += 1,
                None => {}
            }
        }
        seen
    }
}

/// ENETDOWN is said once after the macvlan went down.
fn is_nothing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENETDOWN)
}

/// A packet socket that gets adverts only, or only those from one hardware address.
fn listen(index: u32, family: Family, from: Option<Mac>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
    let filter: Vec<_> = program(family, from).into_iter().map(|(c, t, f, k)| SockFilter::new(c, t, f, k)).collect();
    socket.attach_filter(&filter)?;
    let ether_type = match family {
        Family::V4 => libc::ETH_P_IP as u16,
        Family::V6 => libc::ETH_P_IPV6 as u16,
    };
    socket.bind(&packet_address(index, ether_type)?)?;
    Ok(socket)
}

/// An instruction of classic BPF: code, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

/// Over the Ethernet frame: protocol or next header 112, and the source if one is wanted.
fn program(family: Family, from: Option<Mac>) -> Vec<Instruction> {
    let protocol_at = match family {
        Family::V4 => 14 + 9,
        Family::V6 => 14 + 6,
    };
    let mut tests = vec![(libc::BPF_B, protocol_at, u32::from(PROTOCOL))];
    if let Some([a, b, c, d, e, f]) = from {
        tests.push((libc::BPF_W, 6, u32::from_be_bytes([a, b, c, d])));
        tests.push((libc::BPF_H, 10, u32::from(u16::from_be_bytes([e, f]))));
    }
    let count = tests.len();
    let pair = |(place, (width, at, value)): (usize, (u32, u32, u32))| {
        // Else over the tests that are left, two instructions each, and the "yes".
        let no = ((count - 1 - place) * 2 + 1) as u8;
        [(LOAD | width as u16, 0, 0, at), (JUMP_IF_EQUAL, 0, no, value)]
    };
    tests.into_iter().enumerate().flat_map(pair).chain([(RETURN, 0, 0, u32::MAX), (RETURN, 0, 0, 0)]).collect()
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A header that no check lets pass.
const NO_CARRIER: Carrier =
    Carrier { source: IpAddr::V6(Ipv6Addr::UNSPECIFIED), destination: IpAddr::V6(Ipv6Addr::UNSPECIFIED), ttl: 0 };

/// Splits an IPv6 packet without extension headers.
fn ipv6(bytes: &[u8]) -> Option<(Carrier, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<IPV6_HEADER_BYTES>()?;
    let [version, _, _, _, length0, length1, next_header, ttl, addresses @ ..] = header;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let destination: [u8; 16] = destination.try_into().ok()?;
    if version >> 4 != 6 || *next_header != PROTOCOL {
        return None;
    }
    let message = rest.get(..usize::from(u16::from_be_bytes([*length0, *length1])))?;
    let carrier = Carrier {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(destination)),
        ttl: *ttl,
    };
    Some((carrier, message))
}

#[cfg(test)]
mod tests {
    use super::super::frame;
    use super::*;
    use crate::packet::GROUP_V6;

    #[test]
    fn an_ipv6_frame_of_ours_splits_into_header_and_message() {
        let source = IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        let mut bytes = Vec::new();
        frame::write(&mut bytes, [2; 6], source, IpAddr::V6(GROUP_V6), 1, &[1; 24]);
        let (carrier, message) = ipv6(&bytes[14..]).unwrap();
        assert_eq!(carrier, Carrier { source, destination: IpAddr::V6(GROUP_V6), ttl: 255 });
        assert_eq!(message.len(), 24);
        for length in 0..bytes.len() - 14 {
            assert_eq!(ipv6(&bytes[14..14 + length]), None);
        }
    }

    /// What the kernel would do with a frame.
    fn accepts(program: &[Instruction], frame: &[u8]) -> bool {
        let (mut at, mut value) = (0, 0);
        loop {
            let (code, _, no, operand) = program[at];
            let offset = operand as usize;
            at += 1;
            match code & 0x07 {
                0 => {
                    let width = [4, 2, 1][usize::from(code >> 3 & 3)];
                    value = frame[offset..offset + width].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
                }
                5 if value != operand => at += usize::from(no),
                5 => {}
                _ => return operand != 0,
            }
        }
    }

    #[test]
    fn a_filter_lets_adverts_pass_and_from_the_wanted_source_only() {
        let mac = [0, 0, 0x5e, 0, 1, 51];
        let (source, group) = (IpAddr::from([10, 0, 0, 1]), Family::V4.group());
        let mut ours = Vec::new();
        frame::write(&mut ours, mac, source, group, 1, &[1; 12]);
        assert!(accepts(&program(Family::V4, None), &ours) && accepts(&program(Family::V4, Some(mac)), &ours));
        for at in 6..12 {
            let mut other = ours.clone();
            other[at] ^= 1;
            assert!(accepts(&program(Family::V4, None), &other) && !accepts(&program(Family::V4, Some(mac)), &other));
        }
        ours[14 + 9] = 17;
        assert!(!accepts(&program(Family::V4, None), &ours) && !accepts(&program(Family::V4, Some(mac)), &ours));
    }
}
