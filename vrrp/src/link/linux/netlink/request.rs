//! Requests to rtnetlink as bytes. Pure: nothing here sends.

use crate::packet::Family;
use std::net::IpAddr;
use std::time::Duration;

/// A request under construction at the end of a buffer that may hold others before it.
pub(super) struct Message<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Message<'a> {
    pub(super) fn begin(bytes: &'a mut Vec<u8>, kind: u16, flags: libc::c_int, sequence: u32) -> Message<'a> {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]); // length, known at the end
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags as u16).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]); // port: the kernel knows
        Message { bytes, start }
    }

    pub(super) fn address_header(&mut self, family: u8, prefix: u8, index: u32) {
        self.bytes.extend_from_slice(&[family, prefix, 0, 0]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
    }

    pub(super) fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    /// Length, type, value, padding to four bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute made of attributes; its length is written when `fill` is done.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        if let Some(field) = self.bytes.get_mut(start..start + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// `struct ifinfomsg`; `flags` are set as far as `change` says.
    pub(super) fn link_header(&mut self, index: u32, flags: u32, change: u32) {
        self.bytes.extend_from_slice(&[0; 4]); // family and type: any
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&change.to_ne_bytes());
    }

    pub(super) fn end(self) {
        let length = (self.bytes.len() - self.start) as u32;
        if let Some(field) = self.bytes.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// `struct ifa_cacheinfo`: preferred and valid lifetime in seconds, two stamps the kernel fills.
///
/// IPv6 addresses are deprecated from the start, so that they are not picked as source of outgoing connections.
pub(super) fn cache_info(address: IpAddr, lease: Duration) -> [u8; 16] {
    let valid = u32::try_from(lease.as_secs()).unwrap_or(u32::MAX).max(1);
    let preferred = if address.is_ipv6() { 0 } else { valid };
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&preferred.to_ne_bytes());
    bytes[4..8].copy_from_slice(&valid.to_ne_bytes());
    bytes
}

pub(super) fn number_of(address: IpAddr) -> u8 {
    family_number(if address.is_ipv4() { Family::V4 } else { Family::V6 })
}

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::u32_at;
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn leases_are_whole_seconds_and_ipv6_addresses_are_never_a_source() {
        let seconds = |bytes: [u8; 16]| (u32_at(&bytes, 0).unwrap(), u32_at(&bytes, 4).unwrap());
        assert_eq!(seconds(cache_info([10, 0, 0, 1].into(), Duration::from_secs(3))), (3, 3));
        assert_eq!(seconds(cache_info(Ipv6Addr::LOCALHOST.into(), Duration::from_secs(3))), (0, 3));
        assert_eq!(seconds(cache_info([10, 0, 0, 1].into(), Duration::from_millis(1))), (1, 1), "0 would be refused");
    }
}
