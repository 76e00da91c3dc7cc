//! A virtual router's own hardware address: a macvlan above its interface, up exactly while it holds addresses.
//!
//! While it is down, nobody here takes frames for the virtual hardware address, as RFC 9568 §6.4.2 wants it of a
//! Backup, and no IGMP or MLD report leaves with it, which would lead switches astray. It goes down before its
//! addresses are removed for the same reason. Adverts and announcements need no macvlan: they are written as complete
//! frames on the interface below.
//!
//! Deviations from keepalived, whose `use_vmac` this is: no link-local address on the macvlan, hence none that two
//! hardware addresses answer for; `rp_filter` 2 on the macvlan instead of 0 there and new values everywhere else;
//! no `arp_filter` below, since the macvlan has no address but the virtual ones.

use super::netlink::{ArpSettings, Interface, Netlink};
use crate::announce::Mac;
use crate::link::VirtualMac;
use crate::packet::Family;
use crate::params::Vrid;
use ipnet::IpNet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

pub(super) struct Macvlan {
    name: String,
    mac: Mac,
    /// Whether IPv6 runs on it.
    has_ipv6: bool,
    family: Family,
    network_namespace: u64,
    /// Its number, and what was set on it.
    made: Option<(u32, bool)>,
    /// The interface below whose ARP settings we changed.
    base: Option<u32>,
}

impl Macvlan {
    pub(super) fn new(of: &VirtualMac, vrid: Vrid, family: Family, addresses: &[IpNet]) -> Macvlan {
        Macvlan {
            name: of.name(vrid, family),
            mac: VirtualMac::address(vrid, family),
            has_ipv6: has_ipv6(addresses),
            family,
            network_namespace: fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino()),
            made: None,
            base: None,
        }
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn reassign(&mut self, addresses: &[IpNet]) {
        self.has_ipv6 = has_ipv6(addresses);
    }

    /// Makes it, or takes the one that is there: our own, or what a former life left behind.
    pub(super) fn ensure(&mut self, netlink: &mut Netlink, base: &Interface) -> io::Result<Interface> {
        if !VirtualMac::is_name(&self.name) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for an interface"));
        }
        let found = match netlink.interface(&self.name)? {
            Some(found) if found.macvlan_of == Some(base.index) && found.mac == self.mac => Some(found),
            // A leftover above another interface, or of another VRID.
            Some(found) if found.macvlan_of.is_some() && found.mac.starts_with(&VRRP_PREFIX) => {
                netlink.delete_link(found.index)?;
                None
            }
            Some(_) => {
                let text = "another interface has this name; choose one for the virtual MAC";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            None => None,
        };
        let found = match found {
            Some(found) => found,
            None => self.make(netlink, base)?,
        };
        if self.made != Some((found.index, self.has_ipv6)) {
            netlink.set_macvlan(found.index)?;
            self.set_ipv6();
            self.made = Some((found.index, self.has_ipv6));
        }
        if self.base != Some(base.index) {
            self.quieten(netlink, base)?;
        }
        Ok(found)
    }

    fn make(&self, netlink: &mut Netlink, base: &Interface) -> io::Result<Interface> {
        netlink.add_macvlan(&self.name, base.index, self.mac)?;
        netlink.interface(&self.name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// No addresses by router advertisement, and no IPv6 at all where there is no address for it. rtnetlink cannot set
    /// these. Where /proc/sys is read-only they stay as they are: then a router's advertisement may add addresses
    /// while we are Active, which goes with the macvlan.
    fn set_ipv6(&self) {
        let set = |name: &str, value: &str| {
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{}/{name}", self.name), value);
        };
        if self.has_ipv6 {
            ["accept_ra", "autoconf", "accept_dad", "router_solicitations"].iter().for_each(|name| set(name, "0"));
        }
        set("disable_ipv6", if self.has_ipv6 { "0" } else { "1" });
    }

    /// The interface below must not answer for the virtual addresses (`arp_ignore`), nor ask in their name with its own
    /// hardware address (`arp_announce`), which would change the clients' entries.
    fn quieten(&mut self, netlink: &mut Netlink, base: &Interface) -> io::Result<()> {
        if self.family == Family::V4 {
            let quiet = ArpSettings { ignore: base.arp.ignore.max(1), announce: 2 };
            if quiet != base.arp {
                netlink.set_arp(base.index, quiet)?;
            }
            let mut users = BASES.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (self.network_namespace, base.index);
            match users.iter_mut().find(|user| user.key == key) {
                Some(user) => user.count += 1,
                None => users.push(Base { key, count: 1, before: base.arp }),
            }
        }
        self.base = Some(base.index);
        Ok(())
    }

    /// The interface below is gone, and the macvlan with it.
    pub(super) fn forget(&mut self) {
        self.made = None;
        self.release();
    }

    /// Removes it, and restores the interface below if it was the last one there.
    pub(super) fn remove(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        let restored = match self.release() {
            Some((base, before)) => netlink.set_arp(base, before),
            None => Ok(()),
        };
        match self.made.take() {
            Some((index, _)) => netlink.delete_link(index).and(restored),
            None => restored,
        }
    }

    fn release(&mut self) -> Option<(u32, ArpSettings)> {
        let base = self.base.take()?;
        let mut users = BASES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = users.iter().position(|user| user.key == (self.network_namespace, base))?;
        let user = users.get_mut(place)?;
        user.count -= 1;
        if user.count > 0 {
            return None;
        }
        let before = users.swap_remove(place).before;
        Some((base, before))
    }
}

/// An interface below, and how its ARP was before we came.
struct Base {
    key: (u64, u32),
    count: usize,
    before: ArpSettings,
}

/// Shared by all virtual routers of the process; changed only when one comes or goes.
static BASES: Mutex<Vec<Base>> = Mutex::new(Vec::new());

/// RFC 9568 §7.3
const VRRP_PREFIX: [u8; 4] = [0, 0, 0x5e, 0];

/// As it is put on the macvlan: no on-link route of its own, which would compete with the one below. Link-local
/// addresses need one, and theirs competes with nobody's.
pub(super) fn narrowed(network: IpNet) -> IpNet {
    match network.addr() {
        IpAddr::V6(address) if address.is_unicast_link_local() => IpNet::new(address.into(), 64).unwrap_or(network),
        address => IpNet::from(address),
    }
}

fn has_ipv6(addresses: &[IpNet]) -> bool {
    addresses.iter().any(|network| network.addr().is_ipv6())
}
