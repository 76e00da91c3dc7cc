//! The IPv4 header around a message, as a raw socket delivers it.

use super::{Carrier, PROTOCOL};
use crate::error::DecodeError;
use std::net::{IpAddr, Ipv4Addr};

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

pub(super) const IPV4_HEADER_BYTES: usize = 20;
/// Shorter Ethernet payloads are padded to this (IEEE 802.3 §3.2.8).
const ETHERNET_PAYLOAD_MIN_BYTES: usize = 46;
/// The MF flag and the offset; not DF and the reserved bit.
const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
