//! Adverts as complete Ethernet frames, for those that do not leave with the interface's own hardware address.

use crate::announce::Mac;
use crate::link::HOPS;
use crate::packet::{PROTOCOL, fold, pseudo_header_sum, sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const IPV4_HEADER_BYTES: usize = 20;
pub(super) const IPV6_HEADER_BYTES: usize = 40;
pub(super) const ETHERNET_HEADER_BYTES: usize = 14;

/// Internetwork control (CS6), as routing protocols use it, so that a full link drops others first.
pub(super) const TRAFFIC_CLASS: u8 = 0xc0;

/// Writes one advert to a multicast group, with its trailer if it has one. `id` is the IPv4 identification. Nothing if
/// the addresses are not of one family or the destination is no group.
pub(super) fn write(into: &mut Vec<u8>, mac: Mac, source: IpAddr, destination: IpAddr, id: u16, advert: &[u8]) {
    into.clear();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(group)) if group.is_multicast() => {
            let [_, b, c, d] = group.octets();
            into.extend_from_slice(&[0x01, 0x00, 0x5e, b & 0x7f, c, d]);
            into.extend_from_slice(&mac);
            into.extend_from_slice(&[0x08, 0x00]);
            let mut header = ipv4_header(source, group, id, advert.len());
            let checksum = (!fold(sum(&header))).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            into.extend_from_slice(&header);
            into.extend_from_slice(advert);
        }
        (IpAddr::V6(from), IpAddr::V6(group)) if group.is_multicast() => {
            let [.., c, d, e, f] = group.octets();
            into.extend_from_slice(&[0x33, 0x33, c, d, e, f]);
            into.extend_from_slice(&mac);
            into.extend_from_slice(&[0x86, 0xdd]);
            into.extend_from_slice(&ipv6_header(from, group, advert.len()));
            let start = into.len();
            into.extend_from_slice(advert);
            // What the kernel does for its own sockets: over the trailer, too.
            let Some(message) = into.get_mut(start..) else { return };
            let Some(field) = message.get_mut(CHECKSUM) else { return };
            field.fill(0);
            let whole = pseudo_header_sum(source, destination, message.len()) + sum(message);
            if let Some(field) = message.get_mut(CHECKSUM) {
                field.copy_from_slice(&(!fold(whole)).to_be_bytes());
            }
        }
        _ => {}
    }
}

const CHECKSUM: std::ops::Range<usize> = 6..8;

/// RFC 791 without options; the checksum is still zero.
pub(super) fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, id: u16, payload: usize) -> [u8; IPV4_HEADER_BYTES] {
    let length = u16::try_from(IPV4_HEADER_BYTES + payload).unwrap_or(u16::MAX);
    let mut header = [0; IPV4_HEADER_BYTES];
    header[0] = 0x45;
    header[1] = TRAFFIC_CLASS;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[8] = HOPS;
    header[9] = PROTOCOL;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    header
}

/// RFC 8200 §3.
fn ipv6_header(source: Ipv6Addr, destination: Ipv6Addr, payload: usize) -> [u8; IPV6_HEADER_BYTES] {
    let length = u16::try_from(payload).unwrap_or(u16::MAX);
    let mut header = [0; IPV6_HEADER_BYTES];
    header[0] = 0x60 | TRAFFIC_CLASS >> 4;
    header[1] = TRAFFIC_CLASS << 4;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = PROTOCOL;
    header[7] = HOPS;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{self, Advert, Carrier, Checksum, Dialect, Family, GROUP_V4, GROUP_V6};
    use crate::params::{Centis, Priority, Vrid};

    const MAC: Mac = [0, 0, 0x5e, 0, 1, 51];

    fn advert(address: IpAddr) -> Advert {
        let (vrid, interval) = (Vrid::new(51).unwrap(), Centis::new(10).unwrap());
        Advert { vrid, priority: Priority(254), interval, addresses: vec![address] }
    }

    #[test]
    fn our_ipv4_header_passes_the_checks_of_received_ones() {
        let source = Ipv4Addr::new(10, 77, 0, 1);
        let mut bytes = ipv4_header(source, GROUP_V4, 1, 3).to_vec();
        bytes.extend_from_slice(b"abc");
        let (carrier, message) = packet::ipv4(&bytes).unwrap();
        assert_eq!(carrier, Carrier { source: IpAddr::V4(source), destination: IpAddr::V4(GROUP_V4), ttl: 255 });
        assert_eq!(message, b"abc");
        assert_eq!(bytes[6..8], [0, 0], "fragments allowed, so that a small MTU on the way does not eat adverts");
    }

    #[test]
    fn an_ipv4_frame_goes_to_the_group_from_the_virtual_address_and_decodes() {
        let (source, group) = (IpAddr::from([10, 77, 0, 1]), IpAddr::V4(GROUP_V4));
        let sent = advert(IpAddr::from([10, 77, 0, 100]));
        let mut frame = vec![9; 3];
        write(&mut frame, MAC, source, group, 7, &sent.encode(source, group, Checksum::Pseudo));
        assert_eq!(frame[..14], [0x01, 0, 0x5e, 0, 0, 0x12, 0, 0, 0x5e, 0, 1, 51, 0x08, 0]);
        assert_eq!(fold(sum(&frame[14..34])), 0xffff, "header checksum");
        let (carrier, message) = packet::ipv4(&frame[14..]).unwrap();
        assert_eq!(packet::decode(message, &carrier).unwrap().0, sent);
    }

    #[test]
    fn the_checksum_of_an_ipv6_frame_covers_the_trailer() {
        let (source, group) = (IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), IpAddr::V6(GROUP_V6));
        let sent = advert("fe80::100".parse().unwrap());
        for trailer in [&[][..], &[7; 28]] {
            let bytes = [sent.encode(source, group, Checksum::Pseudo).as_slice(), trailer].concat();
            let mut frame = Vec::new();
            write(&mut frame, MAC, source, group, 7, &bytes);
            assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 0x12, 0, 0, 0x5e, 0, 1, 51, 0x86, 0xdd]);
            assert_eq!(frame[14..16], [0x6c, 0], "traffic class");
            let dialect = Dialect { has_trailer: !trailer.is_empty(), ..Dialect::default() };
            let carrier = Carrier { source, destination: Family::V6.group(), ttl: frame[14 + 7] };
            assert_eq!(dialect.decode(&frame[54..], &carrier).unwrap().advert, sent);
        }
    }

    #[test]
    fn a_unicast_destination_gives_no_frame() {
        let mut frame = vec![1];
        write(&mut frame, MAC, IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]), 1, b"abcdefgh");
        assert!(frame.is_empty());
    }
}
