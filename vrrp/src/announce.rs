//! Gratuitous ARP (RFC 5227, both forms) and unsolicited neighbour advertisements (RFC 4861) as bytes.
//!
//! Complete Ethernet frames, to be sent as they are on a packet socket. One call per address and form; when and how
//! often is the machine's business.
//!
//! ```text
//! ARP  ff*6 | smac 6 | 08 06 | 00 01 08 00 06 04 | operation 2 | smac 6 | vip 4 | target mac 6 | vip 4       = 42
//! NA   33 33 00 00 00 01 | smac 6 | 86 dd | IPv6 header 40 | 88 00 checksum 2 | flags 4 | vip 16 | 02 01 smac 6 = 86
//! ```

use crate::packet::{fold, sum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Six bytes as they stand in a frame.
pub type Mac = [u8; 6];

/// All frames that announce one address: for IPv4 the request form, then the reply form; for IPv6 the advertisement.
pub fn frames(mac: Mac, address: IpAddr, is_router: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => vec![arp_request(mac, address).to_vec(), arp_reply(mac, address).to_vec()],
        IpAddr::V6(address) => vec![neighbor_advertisement(mac, address, is_router).to_vec()],
    }
}

/// "Who has `address`? Tell `address`": what most stacks learn from. The target hardware address is all ones as in
/// keepalived's frames; RFC 5227 §3 leaves it open.
pub fn arp_request(mac: Mac, address: Ipv4Addr) -> [u8; 42] {
    arp(mac, address, 1, BROADCAST)
}

/// "`address` is at `mac`", unasked: what some firewalls and stacks want. Linux takes a reply for gratuitous (and so
/// exempt from its one-second `locktime`) only if target and sender hardware addresses are equal.
pub fn arp_reply(mac: Mac, address: Ipv4Addr) -> [u8; 42] {
    arp(mac, address, 2, mac)
}

/// "`address` is at `mac`" to all nodes: S clear, O set. `is_router` must match what the kernel answers when asked
/// (the interface's forwarding setting), or hosts see the flag flip.
pub fn neighbor_advertisement(mac: Mac, address: Ipv6Addr, is_router: bool) -> [u8; 86] {
    let flags = if is_router { ROUTER | OVERRIDE } else { OVERRIDE };
    let [m0, m1, m2, m3, m4, m5] = mac;
    let target_link_layer_address = [2, 1, m0, m1, m2, m3, m4, m5];
    let (source, all_nodes) = (address.octets(), ALL_NODES.octets());
    let (payload_bytes, next_header) = ([0, 32], 58_u8);
    let words = sum(&[0x88, 0])
        + sum(&[flags])
        + sum(&source)
        + sum(&target_link_layer_address)
        // pseudo-header, RFC 8200 §8.1
        + sum(&source)
        + sum(&all_nodes)
        + sum(&payload_bytes)
        + u64::from(next_header);
    let checksum = (!fold(words)).to_be_bytes();

    let mut frame = Frame::<86>::default();
    frame.put(&ALL_NODES_MAC).put(&mac).put(&[0x86, 0xdd]);
    frame.put(&[0x60, 0, 0, 0]).put(&payload_bytes).put(&[next_header, 255]).put(&source).put(&all_nodes);
    frame.put(&[0x88, 0]).put(&checksum).put(&[flags, 0, 0, 0]).put(&source).put(&target_link_layer_address);
    frame.done()
}

fn arp(mac: Mac, address: Ipv4Addr, operation: u8, target_mac: Mac) -> [u8; 42] {
    let address = address.octets();
    let mut frame = Frame::<42>::default();
    frame.put(&BROADCAST).put(&mac).put(&[0x08, 0x06]);
    frame.put(&[0, 1, 0x08, 0, 6, 4, 0, operation]).put(&mac).put(&address).put(&target_mac).put(&address);
    frame.done()
}

const BROADCAST: Mac = [0xff; 6];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Flags of RFC 4861 §4.4.
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;

/// Fills an array from the front.
struct Frame<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Default for Frame<N> {
    fn default() -> Self {
        Frame { bytes: [0; N], filled: 0 }
    }
}

impl<const N: usize> Frame<N> {
    fn put(&mut self, part: &[u8]) -> &mut Self {
        let end = self.filled + part.len();
        if let Some(space) = self.bytes.get_mut(self.filled..end) {
            space.copy_from_slice(part);
        }
        self.filled = end;
        self
    }

    fn done(&self) -> [u8; N] {
        debug_assert_eq!(self.filled, N, "every byte of the frame is written");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x5a, 0xc5, 0xe2, 0x90, 0x36, 0x6b];
    const VIP_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
    const VIP_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);

    /// Origin: captured from keepalived 2.2.7 (its default form) with the MAC replaced.
    #[test]
    fn the_request_form_is_keepalived_s_frame_byte_for_byte() {
        let expected =
            "ffffffffffff 5ac5e290366b 0806 0001 0800 06 04 0001 5ac5e290366b 0a4d0064 ffffffffffff 0a4d0064";
        assert_eq!(hex(&arp_request(MAC, VIP_V4)), expected.replace(' ', ""));
    }

    #[test]
    fn the_reply_form_targets_our_own_mac_so_that_linux_takes_it_for_gratuitous() {
        let expected =
            "ffffffffffff 5ac5e290366b 0806 0001 0800 06 04 0002 5ac5e290366b 0a4d0064 5ac5e290366b 0a4d0064";
        assert_eq!(hex(&arp_reply(MAC, VIP_V4)), expected.replace(' ', ""));
    }

    /// Origin: captured from keepalived 2.2.7 on a node that does not forward (checksum e5ee).
    #[test]
    fn the_neighbour_advertisement_of_a_host_is_keepalived_s_frame_byte_for_byte() {
        let expected = "333300000001 5ac5e290366b 86dd 60000000 0020 3a ff \
                        fd770000000000000000000000000100 ff020000000000000000000000000001 \
                        8800 e5ee 20000000 fd770000000000000000000000000100 0201 5ac5e290366b";
        assert_eq!(hex(&neighbor_advertisement(MAC, VIP_V6, false)), expected.replace(' ', ""));
    }

    #[test]
    fn the_neighbour_advertisement_of_a_router_differs_in_flag_and_checksum_only() {
        let host = neighbor_advertisement(MAC, VIP_V6, false);
        let router = neighbor_advertisement(MAC, VIP_V6, true);
        let differing: Vec<usize> = (0..86).filter(|at| host[*at] != router[*at]).collect();
        assert_eq!(differing, [56, 58]);
        assert_eq!(router[56..62], [0x65, 0xee, 0xa0, 0, 0, 0]);
    }

    #[test]
    fn the_checksum_of_a_neighbour_advertisement_verifies_for_any_address_and_mac() {
        let mut seed = 7_u64;
        for _ in 0..2_000 {
            let mut random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 32) as u16
            };
            let address = Ipv6Addr::from(std::array::from_fn::<u16, 8, _>(|_| random()));
            let mac: Mac = std::array::from_fn(|_| random() as u8);
            let frame = neighbor_advertisement(mac, address, random() & 1 == 1);
            let pseudo = sum(&frame[22..54]) + 32 + 58;
            assert_eq!(fold(pseudo + sum(&frame[54..])), 0xffff, "{address} {mac:?}");
        }
    }

    #[test]
    fn an_ipv4_address_is_announced_in_both_forms_and_an_ipv6_address_once() {
        let v4 = frames(MAC, VIP_V4.into(), false);
        assert_eq!(v4, [arp_request(MAC, VIP_V4).to_vec(), arp_reply(MAC, VIP_V4).to_vec()]);
        assert_eq!(frames(MAC, VIP_V6.into(), true), [neighbor_advertisement(MAC, VIP_V6, true).to_vec()]);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
