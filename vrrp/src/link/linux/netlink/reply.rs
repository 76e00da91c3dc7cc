//! What rtnetlink answers, as values. Pure and total: any bytes give a value or nothing.

use crate::link::Change;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// Attribute types of linux/if_link.h and linux/if_addr.h that `libc` lacks or spreads over modules.
pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_LINK: u16 = 5;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_EXT_MASK: u16 = 29;
pub(super) const IFLA_INET6_CONF: u16 = 2;
pub(super) const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_CACHEINFO: u16 = 6;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const IFA_PROTO: u16 = 11;
pub(super) const IFA_F_NODAD: u32 = 0x02;
pub(super) const IFA_F_NOPREFIXROUTE: u32 = 0x200;
pub(super) const IFA_F_SECONDARY: u8 = 0x01;
/// It has no lifetime.
const IFA_F_PERMANENT: u8 = 0x80;
pub(super) const IFA_F_DADFAILED: u8 = 0x08;
pub(super) const IFA_F_TENTATIVE: u8 = 0x40;

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const LINK_BYTES: usize = 16;
pub(super) const ADDRESS_BYTES: usize = 8;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INET_CONF: u16 = 1;
pub(super) const MACVLAN: &[u8] = b"macvlan";
// linux/ip.h
pub(super) const CONF_ARP_ANNOUNCE: u16 = 18;
pub(super) const CONF_ARP_IGNORE: u16 = 19;

/// An interface as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub mac: [u8; 6],
    /// Administratively up and with carrier.
    pub is_running: bool,
    /// Administratively up.
    pub is_up: bool,
    /// IPv6 packets are forwarded between this interface and others.
    pub is_forwarding: bool,
    /// The interface below, if this is a macvlan.
    pub macvlan_of: Option<u32>,
    pub arp: ArpSettings,
}

/// What an interface answers and says in ARP (`arp_ignore`, `arp_announce` of ip-sysctl).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArpSettings {
    pub ignore: u32,
    pub announce: u32,
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    pub network: IpNet,
    /// Not the first of its IPv4 subnet.
    pub is_secondary: bool,
    /// IPv6: duplicate detection runs or has failed, so it cannot be a source.
    pub is_tentative: bool,
    /// Without lifetime, which ours never are: somebody else put it there.
    pub is_permanent: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
}

/// The messages of one netlink datagram; stops at the first malformed one.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let header = Header { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)? };
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
}

/// The attributes of a message body after its fixed part, or nested in another attribute.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub fn read_change(kind: u16, body: &[u8]) -> Option<Change> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            let name = attribute(body.get(LINK_BYTES..)?, IFLA_IFNAME)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            Some(Change::Link { index: u32_at(body, 4)?, name })
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            let (index, assigned) = read_assigned(body)?;
            let is_removed = kind == libc::RTM_DELADDR;
            Some(Change::Address { index, address: assigned.network.addr(), is_removed })
        }
        _ => None,
    }
}

pub fn read_interface(body: &[u8]) -> Option<Interface> {
    let flags = u32_at(body, 8)?;
    let wanted = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    let rest = body.get(LINK_BYTES..)?;
    Some(Interface {
        index: u32_at(body, 4)?,
        mac: attribute(rest, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        is_running: flags & wanted == wanted,
        is_up: flags & libc::IFF_UP as u32 != 0,
        is_forwarding: read_forwarding(rest).unwrap_or(false),
        macvlan_of: read_macvlan(rest),
        arp: read_arp(rest).unwrap_or_default(),
    })
}

/// `IFLA_LINK` of an interface whose kind is macvlan.
fn read_macvlan(attributes: &[u8]) -> Option<u32> {
    let kind = attribute(attribute(attributes, IFLA_LINKINFO)?, IFLA_INFO_KIND)?;
    let is_macvlan = kind.strip_suffix(&[0]).unwrap_or(kind) == MACVLAN;
    if is_macvlan { u32_at(attribute(attributes, IFLA_LINK)?, 0) } else { None }
}

/// The IPv4 settings of /proc/sys/net/ipv4/conf as an array, which counts from one.
fn read_arp(attributes: &[u8]) -> Option<ArpSettings> {
    let families = attribute(attributes, IFLA_AF_SPEC)?;
    let settings = attribute(attribute(families, libc::AF_INET as u16)?, IFLA_INET_CONF)?;
    let setting = |number: u16| u32_at(settings, (usize::from(number) - 1) * 4);
    Some(ArpSettings { ignore: setting(CONF_ARP_IGNORE)?, announce: setting(CONF_ARP_ANNOUNCE)? })
}

/// `IFLA_AF_SPEC` holds one nest a family; the IPv6 one has the settings of /proc/sys/net/ipv6/conf as an array, of
/// which forwarding is the first.
fn read_forwarding(attributes: &[u8]) -> Option<bool> {
    let families = attribute(attributes, IFLA_AF_SPEC)?;
    let settings = attribute(attribute(families, libc::AF_INET6 as u16)?, IFLA_INET6_CONF)?;
    Some(u32_at(settings, 0)? != 0)
}

/// Interface index and address of an address message.
pub fn read_assigned(body: &[u8]) -> Option<(u32, Assigned)> {
    let (family, prefix, flags) = (*body.first()?, *body.get(1)?, *body.get(2)?);
    let rest = body.get(ADDRESS_BYTES..)?;
    // IFA_LOCAL is ours on point-to-point links, where IFA_ADDRESS is the other end; IPv6 often has only the latter.
    let value = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    let address = match libc::c_int::from(family) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => return None,
    };
    let assigned = Assigned {
        network: IpNet::new(address, prefix).ok()?,
        is_secondary: address.is_ipv4() && flags & IFA_F_SECONDARY != 0,
        is_tentative: address.is_ipv6() && flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
        is_permanent: flags & IFA_F_PERMANENT != 0,
    };
    Some((u32_at(body, 4)?, assigned))
}

/// `struct nlmsgerr` begins with the negative error number; zero acknowledges.
pub fn error_code(body: &[u8]) -> i32 {
    u32_at(body, 0).map_or(libc::EIO, |code| (code as i32).wrapping_neg())
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::ADDRESS_MARK;
    use super::super::request::Message;
    use super::*;

    fn address_message() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut message = Message::begin(&mut bytes, libc::RTM_NEWADDR, libc::NLM_F_REQUEST, 7);
        message.address_header(libc::AF_INET as u8, 24, 3);
        message.address(IFA_LOCAL, [10, 0, 0, 1].into());
        message.attribute(IFA_PROTO, &[ADDRESS_MARK]);
        message.end();
        bytes
    }

    #[test]
    fn a_written_message_reads_back() {
        let bytes = address_message();
        let (header, body) = messages(&bytes).next().unwrap();
        assert_eq!((header.kind, header.sequence), (libc::RTM_NEWADDR, 7));
        let (index, assigned) = read_assigned(body).unwrap();
        assert_eq!((index, assigned.network), (3, "10.0.0.1/24".parse().unwrap()));
        assert_eq!(attribute(&body[ADDRESS_BYTES..], IFA_PROTO), Some(&[ADDRESS_MARK][..]));
    }

    #[test]
    fn several_messages_in_one_datagram_are_all_read() {
        let bytes = [address_message(), address_message()].concat();
        assert_eq!(messages(&bytes).count(), 2);
    }

    #[test]
    fn truncated_and_twisted_messages_end_in_nothing() {
        let whole = [address_message(), address_message()].concat();
        let read = |bytes: &[u8]| messages(bytes).filter_map(|(h, body)| read_change(h.kind, body)).count();
        for length in 0..whole.len() {
            assert!(read(&whole[..length]) <= 1);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 15, 16, 127, 255] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                assert!(read(&bytes) <= 2);
                messages(&bytes).for_each(|(_, body)| {
                    let _ = (read_interface(body), read_assigned(body), error_code(body));
                });
            }
        }
    }
}
