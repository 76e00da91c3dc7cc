//! Adverts as bytes. Codec only: no sockets, no logging, no policy (RFC 9568 §5, §7.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! | vers=3| type=1|     VRID      |   priority    | address count |
//! +-------+-------+---------------+---------------+---------------+
//! | rsvd=0|  max advertise interval (cs)          |   checksum    |  (4 + 12 + 16 bits)
//! +-------+---------------------------------------+---------------+
//! |             IPv4 or IPv6 addresses (4 or 16 bytes each)       |
//! +---------------------------------------------------------------+
//! ```
//!
//! Received bytes pass three steps, each of which can be the last: [`ipv4`] (IPv4 only: the IP header), [`vrid`] (is
//! it ours at all), [`decode`] (everything else, in the order of the variants of [`DecodeError`]).
//!
//! Deviation: an IPv6 advert whose first address is not link-local is accepted (RFC 9568 §5.2.9 demands it), because
//! keepalived sends such adverts unless told to be strict; test `an_ipv6_list_may_start_with_a_global_address`.

use crate::error::DecodeError;
use crate::params::{Centis, Priority, Vrid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol and next header number.
pub const PROTOCOL: u8 = 112;
/// Where adverts go (RFC 9568 §5.1.1.2, §5.1.2.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// Address family of the carrying IP header, which decides the width of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The multicast group adverts of this family are sent to.
    pub const fn group(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(GROUP_V4),
            Family::V6 => IpAddr::V6(GROUP_V6),
        }
    }

    const fn address_bytes(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

/// A decoded and checked version 3 advert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub vrid: Vrid,
    pub priority: Priority,
    pub interval: Centis,
    /// In wire order; all of the carrying family, 1..=255 of them.
    pub addresses: Vec<IpAddr>,
}

/// What the IP header around a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// What the checksum of a version 3 advert over IPv4 covers. IPv6 always includes its pseudo-header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Checksum {
    /// Pseudo-header and message: RFC 5798 as widely read; default of keepalived and FRR, hence ours.
    #[default]
    Pseudo,
    /// The message alone: RFC 9568 §5.2.8.
    Message,
}

/// Splits an IPv4 datagram, as a raw socket delivers it, into what its header says and the message in it.
///
/// Options are skipped. Bytes beyond the total length are dropped if they are the padding of a short Ethernet frame,
/// else the datagram is refused. The header's own checksum was the kernel's business.
pub fn ipv4(datagram: &[u8]) -> Result<(Carrier, &[u8]), DecodeError> {
    let have = datagram.len();
    let Some((header, _)) = datagram.split_first_chunk::<IPV4_HEADER_BYTES>() else {
        return Err(DecodeError::Truncated { have });
    };
    let [version_ihl, _, len0, len1, _, _, frag0, frag1, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_bytes = usize::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES {
        return Err(DecodeError::Ipv4Header);
    }
    let total = usize::from(u16::from_be_bytes([len0, len1]));
    if have < total || (have > total && have > ETHERNET_PAYLOAD_MIN_BYTES) {
        return Err(DecodeError::Length { expected: total, actual: have });
    }
    let message = datagram.get(header_bytes..total).ok_or(DecodeError::Ipv4Header)?; // total < header
    if u16::from_be_bytes([frag0, frag1]) & MORE_FRAGMENTS_OR_OFFSET != 0 {
        return Err(DecodeError::Fragment);
    }
    if protocol != PROTOCOL {
        return Err(DecodeError::Protocol { got: protocol });
    }
    let carrier = Carrier {
        source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        ttl,
    };
    Ok((carrier, message))
}

/// The VRID of a message that is long enough to have one. Messages for a VRID nobody here uses are normal on a LAN
/// and need no further look.
pub fn vrid(message: &[u8]) -> Result<Vrid, DecodeError> {
    let Some(([_, vrid, ..], _)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated { have: message.len() });
    };
    Vrid::new(*vrid).ok_or(DecodeError::Vrid { got: *vrid })
}

/// Checks a multicast version 3 message completely. Also tells which form its IPv4 checksum had.
///
/// The checks come in the order of RFC 9568 §7.1 as refined by keepalived. Left to the caller: whether the VRID is
/// ours, whether the source is our own, whether interval and addresses match our configuration.
pub fn decode(message: &[u8], carrier: &Carrier) -> Result<(Advert, Checksum), DecodeError> {
    let vrid = vrid(message)?;
    let Some((header, body)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated { have: message.len() });
    };
    let [version_type, _, priority, count, interval0, interval1, _, _] = *header;
    let (version, kind) = (version_type >> 4, version_type & 0x0f);
    let family = Family::of(carrier.source);
    let width = family.address_bytes();

    // A sound version 2 message is told apart by its version, not by the length its password adds.
    let trailer = if version == 2 { V2_AUTHENTICATION_BYTES } else { 0 };
    let expected = HEADER_BYTES + usize::from(count) * width + trailer;
    if message.len() != expected {
        return Err(DecodeError::Length { expected, actual: message.len() });
    }
    if carrier.ttl != TTL {
        return Err(DecodeError::Ttl { got: carrier.ttl });
    }
    if version != VERSION {
        return Err(DecodeError::Version { got: version });
    }
    if kind != TYPE_ADVERTISEMENT {
        return Err(DecodeError::Type { got: kind });
    }
    let form = checksum_form(message, carrier).ok_or(DecodeError::Checksum)?;
    let interval = Centis::new(u16::from_be_bytes([interval0 & 0x0f, interval1])).ok_or(DecodeError::Interval)?;
    if carrier.destination != family.group() {
        return Err(DecodeError::Destination { got: carrier.destination });
    }
    if count == 0 {
        return Err(DecodeError::Count);
    }
    if !is_node_address(carrier.source) {
        return Err(DecodeError::Source { got: carrier.source });
    }
    let addresses = body.chunks_exact(width).filter_map(address).collect();
    Ok((Advert { vrid, priority: Priority(priority), interval, addresses }, form))
}

impl Advert {
    /// The message, with its checksum in the given form for these addresses of the IP header.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, form: Checksum) -> Vec<u8> {
        let family = Family::of(source);
        let addresses = || self.addresses.iter().filter(|address| Family::of(**address) == family).take(COUNT_MAX);
        debug_assert_eq!(addresses().count(), self.addresses.len(), "one family, at most 255 addresses");
        let count = addresses().count();
        let [interval0, interval1] = self.interval.get().to_be_bytes();
        let mut message = Vec::with_capacity(HEADER_BYTES + count * family.address_bytes());
        message.extend_from_slice(&[VERSION << 4 | TYPE_ADVERTISEMENT, self.vrid.get(), self.priority.0]);
        message.extend_from_slice(&[u8::try_from(count).unwrap_or(u8::MAX), interval0, interval1, 0, 0]);
        for address in addresses() {
            match address {
                IpAddr::V4(address) => message.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => message.extend_from_slice(&address.octets()),
            }
        }
        let pseudo = match (family, form) {
            (Family::V4, Checksum::Message) => 0,
            (Family::V4, Checksum::Pseudo) | (Family::V6, _) => pseudo_header_sum(source, destination, message.len()),
        };
        let checksum = (!fold(pseudo + sum(&message))).to_be_bytes();
        if let Some(field) = message.get_mut(CHECKSUM_AT) {
            field.copy_from_slice(&checksum);
        }
        message
    }
}

const VERSION: u8 = 3;
const TYPE_ADVERTISEMENT: u8 = 1;
const HEADER_BYTES: usize = 8;
const CHECKSUM_AT: std::ops::Range<usize> = 6..8;
const COUNT_MAX: usize = 255;
const V2_AUTHENTICATION_BYTES: usize = 8;
const TTL: u8 = 255;

const IPV4_HEADER_BYTES: usize = 20;
/// Shorter Ethernet payloads are padded to this (IEEE 802.3 §3.2.8).
const ETHERNET_PAYLOAD_MIN_BYTES: usize = 46;
/// The MF flag and the offset; not DF and the reserved bit.
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;

/// Which form makes the message sum up to zero; the pseudo-header form wins if both do.
fn checksum_form(message: &[u8], carrier: &Carrier) -> Option<Checksum> {
    let own = sum(message);
    let pseudo = pseudo_header_sum(carrier.source, carrier.destination, message.len());
    if fold(pseudo + own) == u16::MAX {
        return Some(Checksum::Pseudo);
    }
    let is_plain = carrier.source.is_ipv4() && fold(own) == u16::MAX;
    is_plain.then_some(Checksum::Message)
}

/// Source, destination, protocol and length as 16-bit words: the same sum for the 12 bytes of IPv4 and the 40 bytes
/// of RFC 8200 §8.1, whose other bytes are zero.
fn pseudo_header_sum(source: IpAddr, destination: IpAddr, message_bytes: usize) -> u64 {
    let address = |address| match address {
        IpAddr::V4(address) => sum(&Ipv4Addr::octets(&address)),
        IpAddr::V6(address) => sum(&Ipv6Addr::octets(&address)),
    };
    address(source) + address(destination) + u64::from(PROTOCOL) + message_bytes as u64
}

/// Sum of big-endian 16-bit words, the last byte padded with zero.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let tail = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>() + tail
}

/// One's complement addition of the 16-bit words of a sum.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > u64::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whether an advert may come from here (RFC 9568 §5.1.1.1, §5.1.2.1).
fn is_node_address(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
