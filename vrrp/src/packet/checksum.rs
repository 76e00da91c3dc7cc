//! The Internet checksum (RFC 1071) and what VRRP puts under it.
//!
//! Version 2 covers the message with its password (RFC 3768 §5.3.8), version 3 over IPv6 adds the pseudo-header of
//! RFC 8200 §8.1, version 3 over IPv4 has both forms, see [`Checksum`].

use super::{Carrier, Checksum, Family, PROTOCOL, Wire};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which form makes the message sum up to zero; the pseudo-header form wins if both do.
pub(super) fn checksum_form(message: &[u8], carrier: &Carrier, wire: Wire) -> Option<Checksum> {
    let own = sum(message);
    let plain = (fold(own) == u16::MAX).then_some(Checksum::Message);
    let pseudo = || pseudo_header_sum(carrier.source, carrier.destination, message.len());
    let whole = || (fold(pseudo() + own) == u16::MAX).then_some(Checksum::Pseudo);
    match (wire, Family::of(carrier.source)) {
        (Wire::V2 { .. }, _) => plain,
        (Wire::V3, Family::V6) => whole(),
        (Wire::V3, Family::V4) => whole().or(plain),
    }
}

/// Fills in the checksum of a message whose checksum field is still zero.
pub(super) fn write(message: &mut [u8], source: IpAddr, destination: IpAddr, form: Checksum, wire: Wire) {
    let pseudo = match (wire, Family::of(source), form) {
        (Wire::V2 { .. }, _, _) | (Wire::V3, Family::V4, Checksum::Message) => 0,
        (Wire::V3, Family::V4, Checksum::Pseudo) | (Wire::V3, Family::V6, _) => {
            pseudo_header_sum(source, destination, message.len())
        }
    };
    let checksum = (!fold(pseudo + sum(message))).to_be_bytes();
    if let Some(field) = message.get_mut(FIELD) {
        field.copy_from_slice(&checksum);
    }
}

const FIELD: std::ops::Range<usize> = 6..8;

/// Source, destination, protocol and length as 16-bit words: the same sum for the 12 bytes of IPv4 and the 40 bytes
/// of RFC 8200 §8.1, whose other bytes are zero.
pub(crate) fn pseudo_header_sum(source: IpAddr, destination: IpAddr, message_bytes: usize) -> u64 {
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
