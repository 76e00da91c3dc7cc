//! After a take-over: make the dead node's clients notice at once (the technique of Samba's CTDB).
//!
//! For each connection the peer had, the new Active sends a bare ACK from the virtual address with a sequence number
//! that cannot be right. The client's TCP answers with an ACK that carries its true numbers (RFC 9293 §3.10.7.4), our
//! kernel has no such connection and answers that with RST, and the client's connection is reset within a round
//! trip. A tickle to a connection that lives is one harmless duplicate ACK.
//!
//! Order: the address is on the interface and announced before the first tickle, else the answer goes to the dead MAC.

use crate::pair::wire::Connection;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When rounds start, counted from the take-over. Linux answers pure out-of-window ACKs at most every 500 ms a
/// socket, so closer repeats are useless.
const ROUNDS: [Duration; 3] = [Duration::from_millis(20), Duration::from_millis(700), Duration::from_secs(2)];

/// Sequence and acknowledgement number of each, one in every quarter of what they can be. A number that is too high makes
/// a connection-tracking firewall on the client's side drop the segment; one that is too low passes, as a late repeat
/// would. Exactly one of the four is too low in both. The client answers whatever the second number says (RFC 9293
/// §3.10.7.4), and of several once.
const NUMBERS: [(u32, u32); 4] = [(0, 0), (1 << 31, 1 << 31), (0, 1 << 31), (1 << 31, 0)];

/// Pace: 5,000 connections a second.
const BURST: usize = 50;
const BURST_EVERY: Duration = Duration::from_millis(10);

const HEADER_BYTES: usize = 20;
const ACK: u8 = 0x10;
const WINDOW: u16 = 1234;

/// Sends all rounds for `connections`, stops early when `is_active` turns false. Blocks for about two seconds: give
/// it a thread of its own. Answers how many tickles went out.
pub fn tickle(connections: &[Connection], is_active: &AtomicBool) -> io::Result<usize> {
    let started = Instant::now();
    let sender = Sender::open(connections)?;
    let mut sent = 0;
    for after in ROUNDS {
        std::thread::sleep((started + after).saturating_duration_since(Instant::now()));
        for burst in connections.chunks(BURST) {
            if !is_active.load(Ordering::Relaxed) {
                return Ok(sent);
            }
            let tickles = burst.iter().flat_map(|connection| NUMBERS.map(|numbers| (connection, numbers)));
            sent += tickles.filter(|(connection, numbers)| sender.send(connection, *numbers).is_ok()).count();
            if burst.len() == BURST {
                std::thread::sleep(BURST_EVERY);
            }
        }
    }
    Ok(sent)
}

/// Raw sockets of the families in use. They receive nothing.
struct Sender {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Sender {
    fn open(connections: &[Connection]) -> io::Result<Sender> {
        let any = |is_v4: bool| connections.iter().any(|c| c.local.is_ipv4() == is_v4);
        // IPPROTO_RAW sends what we write, header included, and never receives.
        let v4 = any(true).then(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))));
        let v6 = any(false).then(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))));
        Ok(Sender { v4: v4.transpose()?, v6: v6.transpose()? })
    }

    fn send(&self, connection: &Connection, numbers: (u32, u32)) -> io::Result<()> {
        let (from, to) = (connection.local, connection.client);
        match (from.ip(), to.ip(), &self.v4, &self.v6) {
            (IpAddr::V4(source), IpAddr::V4(destination), Some(socket), _) => {
                let packet = packet_v4(source, from.port(), destination, to.port(), numbers);
                socket.send_to(&packet, &SocketAddr::from((destination, 0)).into()).map(drop)
            }
            (IpAddr::V6(source), IpAddr::V6(destination), _, Some(socket)) => {
                let packet = packet_v6(source, from.port(), destination, to.port(), numbers);
                socket.send_to(&packet, &SocketAddr::from((destination, 0)).into()).map(drop)
            }
            _ => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}

/// `| sport | dport | seq | ack | 0x50 0x10 | window | checksum | 0 |` (RFC 9293 §3.1)
fn header(source_port: u16, port: u16, (sequence, acknowledged): (u32, u32), pseudo: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let parts: [(usize, &[u8]); 6] = [
        (0, &source_port.to_be_bytes()),
        (2, &port.to_be_bytes()),
        (4, &sequence.to_be_bytes()),
        (8, &acknowledged.to_be_bytes()),
        (12, &[0x50, ACK]),
        (14, &WINDOW.to_be_bytes()),
    ];
    for (at, bytes) in parts {
        header.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
    let [high, low] = checksum(&[pseudo, &header].concat()).to_be_bytes();
    (header[16], header[17]) = (high, low);
    header
}

fn packet_v4(source: Ipv4Addr, source_port: u16, destination: Ipv4Addr, port: u16, numbers: (u32, u32)) -> Vec<u8> {
    let addresses = [source.octets(), destination.octets()].concat();
    let pseudo = [addresses.as_slice(), &[0, 6, 0, HEADER_BYTES as u8]].concat();
    // Length, identification and checksum of the IP header are the kernel's (raw(7)).
    let ip = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    [ip.as_slice(), &addresses, &header(source_port, port, numbers, &pseudo)].concat()
}

fn packet_v6(source: Ipv6Addr, source_port: u16, destination: Ipv6Addr, port: u16, numbers: (u32, u32)) -> Vec<u8> {
    let addresses = [source.octets(), destination.octets()].concat();
    let pseudo = [addresses.as_slice(), &[0, 0, 0, HEADER_BYTES as u8, 0, 0, 0, 6]].concat();
    let ip = [0x60, 0, 0, 0, 0, HEADER_BYTES as u8, 6, 64];
    [ip.as_slice(), &addresses, &header(source_port, port, numbers, &pseudo)].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests;
