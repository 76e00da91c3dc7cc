//! Adverts and ARP packets as they are on the wire, read leniently: what a speaker would refuse is what we look for.

use super::facts::{Claim, Heard};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const VRRP: u8 = 112;

/// The advert in an Ethernet frame, if there is one.
pub(super) fn in_frame(frame: &[u8]) -> Option<Heard> {
    let mac = frame.get(6..12)?.try_into().ok()?;
    let packet = frame.get(14..)?;
    let (source, ttl, message) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&VRRP) => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            (IpAddr::V4(v4(packet.get(12..16)?)?), *packet.get(8)?, packet.get(header..total.min(packet.len()))?)
        }
        [0x86, 0xdd] if packet.get(6) == Some(&VRRP) => {
            (IpAddr::V6(v6(packet.get(8..24)?)?), *packet.get(7)?, packet.get(40..)?)
        }
        _ => return None,
    };
    read(source, mac, ttl, message)
}

/// An advert that came through a socket, of which only sender and VRID matter.
pub(super) fn in_message(source: IpAddr, message: &[u8]) -> Option<Heard> {
    read(source, [0; 6], 0, message)
}

fn read(source: IpAddr, mac: [u8; 6], ttl: u8, message: &[u8]) -> Option<Heard> {
    let [version_type, vrid, priority, count, high, low, ..] = *message else { return None };
    let version = version_type >> 4;
    let interval_ms = match version {
        2 => u64::from(low) * 1000,
        _ => u64::from(u16::from_be_bytes([high & 0x0f, low])) * 10,
    };
    let body = message.get(8..).unwrap_or_default();
    let addresses = match source {
        IpAddr::V4(_) => {
            body.chunks_exact(4).take(count.into()).filter_map(|bytes| v4(bytes).map(IpAddr::V4)).collect()
        }
        IpAddr::V6(_) => {
            body.chunks_exact(16).take(count.into()).filter_map(|bytes| v6(bytes).map(IpAddr::V6)).collect()
        }
    };
    Some(Heard {
        source,
        mac,
        vrid,
        version,
        priority,
        interval_ms,
        ttl,
        addresses,
        is_ours: false,
        is_routed_here: false,
        on_wire: 0,
        at_socket: 0,
    })
}

/// Who says in an ARP packet that it has an address.
pub(super) fn claim(frame: &[u8]) -> Option<Claim> {
    if frame.get(12..14)? != [0x08, 0x06] {
        return None;
    }
    Some(Claim { mac: frame.get(22..28)?.try_into().ok()?, address: IpAddr::V4(v4(frame.get(28..32)?)?) })
}

fn v4(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn v6(bytes: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] = &[
        1, 0, 0x5e, 0, 0, 0x12, 2, 0, 0, 0, 0, 9, 8, 0, // Ethernet
        0x45, 0xc0, 0, 32, 0, 1, 0, 0, 255, 112, 0, 0, 10, 77, 0, 2, 224, 0, 0, 18, // IPv4
        0x31, 51, 253, 1, 0, 10, 0, 0, 10, 77, 0, 100, // VRRP
    ];

    #[test]
    fn an_advert_is_found_in_its_frame() {
        let heard = in_frame(FRAME).unwrap();
        assert_eq!((heard.source, heard.mac), (IpAddr::from([10, 77, 0, 2]), [2, 0, 0, 0, 0, 9]));
        assert_eq!((heard.version, heard.vrid, heard.priority, heard.interval_ms, heard.ttl), (3, 51, 253, 100, 255));
        assert_eq!(heard.addresses, [IpAddr::from([10, 77, 0, 100])]);
    }

    #[test]
    fn no_cut_of_it_is_a_panic() {
        for length in 0..FRAME.len() {
            let _ = in_frame(&FRAME[..length]);
            let _ = in_message(IpAddr::from([10, 77, 0, 2]), FRAME.get(34..length).unwrap_or_default());
            let _ = claim(&FRAME[..length]);
        }
    }

    #[test]
    fn an_arp_packet_is_a_claim() {
        let mut frame = [0; 42];
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 7]);
        frame[28..32].copy_from_slice(&[10, 77, 0, 100]);
        let expected = Claim { address: IpAddr::from([10, 77, 0, 100]), mac: [2, 0, 0, 0, 0, 7] };
        assert_eq!(claim(&frame), Some(expected));
    }
}
