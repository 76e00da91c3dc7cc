//! [`Link`] on Linux: raw sockets for adverts, rtnetlink for addresses, a packet socket for announcements.
//!
//! Knows nothing of Active and Backup. The crate's `unsafe` lives in the files below this one.

pub mod clock;
pub mod netlink;
pub mod realtime;
mod renewal;
mod sockets;

use crate::link::{Change, Datagram, Link, LinkError, Survey};
use crate::packet::Family;
use ipnet::IpNet;
use netlink::{Assigned, Holding, Netlink};
use renewal::Renewal;
use sockets::{AdvertReceiver, AdvertSender, FrameSender};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::RawFd;
use std::time::Duration;

/// Whether this process may open the sockets adverts need.
pub fn may_open_raw_sockets() -> bool {
    let attempt = socket2::Socket::new(
        socket2::Domain::IPV4,
        socket2::Type::RAW,
        Some(socket2::Protocol::from(i32::from(crate::packet::PROTOCOL))),
    );
    !matches!(attempt, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

/// One virtual router's interface, sockets and addresses.
pub struct LinuxLink {
    interface: String,
    family: Family,
    addresses: Vec<IpNet>,
    lease: Duration,
    /// The virtual addresses are the node's own (priority 255), so they may be the source.
    is_owner: bool,
    netlink: Netlink,
    renewal: Renewal,
    /// Of the last survey; addresses can be dropped from an interface that is down.
    index: Option<u32>,
    holdings: Vec<Holding>,
    assigned: Vec<Assigned>,
    sockets: Option<Sockets>,
}

/// All sockets of an interface while it is usable.
struct Sockets {
    index: u32,
    source: IpAddr,
    receiver: AdvertReceiver,
    sender: AdvertSender,
    frames: FrameSender,
}

impl LinuxLink {
    /// No socket to the network is opened before the first survey. `renewal_priority` is the real-time priority of the
    /// thread that renews leases.
    pub fn open(
        interface: &str,
        family: Family,
        addresses: &[IpNet],
        lease: Duration,
        is_owner: bool,
        renewal_priority: Option<u8>,
    ) -> Result<LinuxLink, LinkError> {
        let failed = |operation| move |cause: io::Error| LinkError::new(operation, interface, cause);
        Ok(LinuxLink {
            interface: interface.to_owned(),
            family,
            addresses: addresses.to_vec(),
            lease,
            is_owner,
            netlink: Netlink::open().map_err(failed("open netlink"))?,
            renewal: Renewal::start(renewal_priority).map_err(failed("start the thread that renews leases"))?,
            index: None,
            holdings: Vec::with_capacity(addresses.len()),
            assigned: Vec::with_capacity(16),
            sockets: None,
        })
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|network| network.addr() == address)
    }

    fn choose_source(&self) -> Option<IpAddr> {
        let current = self.sockets.as_ref().map(|sockets| sockets.source);
        let candidates = self.assigned.iter().filter(|a| self.is_owner || !self.is_virtual(a.network.addr()));
        match self.family {
            Family::V4 => choose_ipv4(candidates, current, self.addresses.first()),
            Family::V6 => choose_ipv6(candidates, current),
        }
    }

    /// The address keeps away from the on-link route of a prefix that a node address already has.
    fn plan_holdings(&mut self) {
        self.holdings.clear();
        for network in &self.addresses {
            let leaves_route_alone = self
                .assigned
                .iter()
                .any(|a| !self.addresses.iter().any(|v| v.addr() == a.network.addr()) && covers(a, network));
            self.holdings.push(Holding { network: *network, leaves_route_alone });
        }
    }

    fn open_sockets(&mut self, index: u32, source: IpAddr) -> Result<(), LinkError> {
        if self.sockets.as_ref().is_some_and(|s| s.index == index && s.source == source) {
            return Ok(());
        }
        self.sockets = None;
        let name = self.interface.as_str();
        let failed = |operation| move |cause: io::Error| LinkError::new(operation, name, cause);
        let receiver =
            AdvertReceiver::open(name, index, self.family).map_err(failed("open the socket that receives adverts"))?;
        let sender = AdvertSender::open(name, index, source).map_err(failed("open the socket that sends adverts"))?;
        let frames = FrameSender::open(index).map_err(failed("open the socket for announcements"))?;
        self.sockets = Some(Sockets { index, source, receiver, sender, frames });
        Ok(())
    }

    fn sockets(&mut self, operation: &'static str) -> Result<&mut Sockets, LinkError> {
        let gone = || LinkError::new(operation, &self.interface, io::Error::from_raw_os_error(libc::ENETDOWN));
        self.sockets.as_mut().ok_or_else(gone)
    }
}

impl Link for LinuxLink {
    fn survey(&mut self) -> Result<Survey, LinkError> {
        let failed = |name: &str, cause| LinkError::new("look at the interface", name, cause);
        let found = self.netlink.interface(&self.interface).map_err(|cause| failed(&self.interface, cause))?;
        self.index = found.map(|interface| interface.index);
        self.assigned.clear();
        let Some(interface) = found else {
            self.sockets = None;
            return Ok(Survey::default());
        };
        self.netlink
            .addresses(interface.index, self.family, &mut self.assigned)
            .map_err(|cause| failed(&self.interface, cause))?;
        self.plan_holdings();
        let source = if interface.is_running { self.choose_source() } else { None };
        match source {
            Some(source) => self.open_sockets(interface.index, source)?,
            None => self.sockets = None,
        }
        let is_present = |network: &&IpNet| self.assigned.iter().any(|a| a.network.addr() == network.addr());
        Ok(Survey {
            source,
            mac: interface.mac,
            is_forwarding: interface.is_forwarding,
            virtual_present: self.addresses.iter().filter(is_present).count(),
        })
    }

    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Datagram<'a>>, LinkError> {
        let Some(sockets) = self.sockets.as_mut() else { return Ok(None) };
        sockets.receiver.receive(buffer).map_err(|cause| LinkError::new("receive adverts", &self.interface, cause))
    }

    fn send(&mut self, advert: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "send an advert";
        let sent = self.sockets(OPERATION)?.sender.send(advert);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.interface, cause))
    }

    fn hold_addresses(&mut self) -> Result<(), LinkError> {
        const OPERATION: &str = "add the virtual addresses";
        let mut plan = self.renewal.plan();
        plan.index = self.index;
        plan.holdings.clone_from(&self.holdings);
        plan.lease = self.lease;
        let result = match self.index {
            Some(index) => self.netlink.hold_addresses(index, &self.holdings, self.lease),
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        };
        result.map_err(|cause| LinkError::new(OPERATION, &self.interface, cause))
    }

    fn renew_addresses(&mut self) -> Result<(), LinkError> {
        let renewed = self.renewal.request();
        renewed.map_err(|cause| LinkError::new("renew the lease of the virtual addresses", &self.interface, cause))
    }

    fn drop_addresses(&mut self) -> Result<(), LinkError> {
        let mut plan = self.renewal.plan();
        plan.index = None;
        let Some(index) = self.index else { return Ok(()) };
        match self.netlink.drop_addresses(index, &self.addresses) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map_err(|cause| LinkError::new("remove the virtual addresses", &self.interface, cause)),
        }
    }

    fn announce(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "announce a virtual address";
        let sent = self.sockets(OPERATION)?.frames.send(frame);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.interface, cause))
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.sockets.as_ref().map(|sockets| sockets.receiver.descriptor())
    }

    fn is_concerned(&self, change: &Change) -> bool {
        match change {
            Change::Unknown => true,
            Change::Link { index, name } => *name == self.interface || self.index == Some(*index),
            // Each lease renewal is echoed as a new address; only its removal would be news.
            Change::Address { index, address, is_removed } => {
                self.index == Some(*index) && (*is_removed || !self.is_virtual(*address))
            }
        }
    }
}

/// The one in use if it is still there, else one in the virtual address's subnet, else the first of the interface.
fn choose_ipv4<'a>(
    candidates: impl Iterator<Item = &'a Assigned> + Clone,
    current: Option<IpAddr>,
    virtual_address: Option<&IpNet>,
) -> Option<IpAddr> {
    let in_use = candidates.clone().find(|a| Some(a.network.addr()) == current);
    let beside = || candidates.clone().find(|a| virtual_address.is_some_and(|v| a.network.contains(&v.addr())));
    let primary = || candidates.clone().find(|a| !a.is_secondary);
    in_use.or_else(beside).or_else(primary).or_else(|| candidates.clone().next()).map(|a| a.network.addr())
}

/// Adverts come from a link-local address (RFC 9568 §5.1.2.1) that passed duplicate detection.
fn choose_ipv6<'a>(candidates: impl Iterator<Item = &'a Assigned> + Clone, current: Option<IpAddr>) -> Option<IpAddr> {
    let usable = candidates.filter(|a| is_link_local(a.network.addr()) && !a.is_tentative);
    let in_use = usable.clone().find(|a| Some(a.network.addr()) == current);
    in_use.or_else(|| usable.clone().next()).map(|a| a.network.addr())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}

fn covers(assigned: &Assigned, network: &IpNet) -> bool {
    assigned.network.trunc() == network.trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(text: &str) -> Assigned {
        Assigned { network: text.parse().unwrap(), is_secondary: false, is_tentative: false }
    }

    #[test]
    fn an_ipv4_source_stays_while_it_is_there() {
        let two = [assigned("10.0.0.1/24"), assigned("10.0.0.2/24")];
        let second = Some("10.0.0.2".parse().unwrap());
        assert_eq!(choose_ipv4(two.iter(), second, None), second);
        assert_eq!(choose_ipv4(two[..1].iter(), second, None), Some("10.0.0.1".parse().unwrap()));
        assert_eq!(choose_ipv4([].iter(), second, None), None);
    }

    #[test]
    fn an_ipv4_source_is_chosen_beside_the_virtual_address() {
        let two = [assigned("192.0.2.1/24"), assigned("10.0.0.2/24")];
        let virtual_address = "10.0.0.9/32".parse().unwrap();
        assert_eq!(choose_ipv4(two.iter(), None, Some(&virtual_address)), Some("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn an_ipv6_source_is_link_local_and_not_tentative() {
        let mut all = [assigned("fd00::1/64"), assigned("fe80::1/64"), assigned("fe80::2/64")];
        all[1].is_tentative = true;
        assert_eq!(choose_ipv6(all.iter(), None), Some("fe80::2".parse().unwrap()));
        assert_eq!(choose_ipv6(all[..2].iter(), None), None);
    }
}
