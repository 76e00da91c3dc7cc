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

/// Where a virtual router lives and whom it talks to.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub interface: String,
    pub family: Family,
    /// The virtual addresses, as they are put on the interface.
    pub addresses: Vec<IpNet>,
    pub lease: Duration,
    /// The virtual addresses are the node's own (priority 255), so they may be the source.
    pub is_owner: bool,
    /// Unicast peers; none means the VRRP group.
    pub peers: Vec<IpAddr>,
    /// The only acceptable source address, if there is one.
    pub source: Option<IpAddr>,
    /// Real-time priority of the thread that renews leases.
    pub renewal_priority: Option<u8>,
}

/// One virtual router's interface, sockets and addresses.
pub struct LinuxLink {
    at: Attachment,
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
    /// No socket to the network is opened before the first survey.
    pub fn open(at: Attachment) -> Result<LinuxLink, LinkError> {
        let failed = |operation| move |cause: io::Error| (operation, cause);
        let opened = Netlink::open().map_err(failed("open netlink")).and_then(|netlink| {
            let renewal = Renewal::start(at.renewal_priority).map_err(failed("start the thread that renews leases"))?;
            Ok((netlink, renewal))
        });
        let (netlink, renewal) =
            opened.map_err(|(operation, cause)| LinkError::new(operation, &at.interface, cause))?;
        let holdings = Vec::with_capacity(at.addresses.len());
        Ok(LinuxLink { at, netlink, renewal, index: None, holdings, assigned: Vec::with_capacity(16), sockets: None })
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.at.addresses.iter().any(|network| network.addr() == address)
    }

    fn choose_source(&self) -> Option<IpAddr> {
        let current = self.sockets.as_ref().map(|sockets| sockets.source);
        let peer = self.at.peers.first().copied();
        // IPv6 adverts to the group come from a link-local address (RFC 9568 §5.1.2.1); those to a peer from an address
        // that it can answer to.
        let is_wanted = |address: IpAddr| match (self.at.source, peer) {
            (Some(only), _) => address == only,
            (None, Some(peer)) => is_link_local(address) == is_link_local(peer),
            (None, None) => address.is_ipv4() || is_link_local(address),
        };
        let may_be = |a: &&Assigned| {
            let address = a.network.addr();
            !a.is_tentative && is_wanted(address) && (self.at.is_owner || !self.is_virtual(address))
        };
        let neighbour = peer.or(self.at.addresses.first().map(IpNet::addr));
        choose(self.assigned.iter().filter(may_be), current, neighbour)
    }

    /// The address keeps away from the on-link route of a prefix that a node address already has.
    fn plan_holdings(&mut self) {
        self.holdings.clear();
        for network in &self.at.addresses {
            let leaves_route_alone = self
                .assigned
                .iter()
                .any(|a| !self.at.addresses.iter().any(|v| v.addr() == a.network.addr()) && covers(a, network));
            self.holdings.push(Holding { network: *network, leaves_route_alone });
        }
    }

    fn open_sockets(&mut self, index: u32, source: IpAddr) -> Result<(), LinkError> {
        if self.sockets.as_ref().is_some_and(|s| s.index == index && s.source == source) {
            return Ok(());
        }
        self.sockets = None;
        let name = self.at.interface.as_str();
        let failed = |operation| move |cause: io::Error| LinkError::new(operation, name, cause);
        let receiver = if self.at.peers.is_empty() {
            AdvertReceiver::multicast(name, index, self.at.family)
        } else {
            AdvertReceiver::unicast(name, index, source)
        };
        let receiver = receiver.map_err(failed("open the socket that receives adverts"))?;
        let sender = AdvertSender::open(name, index, source).map_err(failed("open the socket that sends adverts"))?;
        let frames = FrameSender::open(index).map_err(failed("open the socket for announcements"))?;
        self.sockets = Some(Sockets { index, source, receiver, sender, frames });
        Ok(())
    }

    fn sockets(&mut self, operation: &'static str) -> Result<&mut Sockets, LinkError> {
        let gone = || LinkError::new(operation, &self.at.interface, io::Error::from_raw_os_error(libc::ENETDOWN));
        self.sockets.as_mut().ok_or_else(gone)
    }
}

impl Link for LinuxLink {
    fn survey(&mut self) -> Result<Survey, LinkError> {
        let failed = |name: &str, cause| LinkError::new("look at the interface", name, cause);
        let found = self.netlink.interface(&self.at.interface).map_err(|cause| failed(&self.at.interface, cause))?;
        self.index = found.map(|interface| interface.index);
        self.assigned.clear();
        let Some(interface) = found else {
            self.sockets = None;
            return Ok(Survey::default());
        };
        self.netlink
            .addresses(interface.index, self.at.family, &mut self.assigned)
            .map_err(|cause| failed(&self.at.interface, cause))?;
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
            virtual_present: self.at.addresses.iter().filter(is_present).count(),
        })
    }

    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Datagram<'a>>, LinkError> {
        let Some(sockets) = self.sockets.as_mut() else { return Ok(None) };
        sockets.receiver.receive(buffer).map_err(|cause| LinkError::new("receive adverts", &self.at.interface, cause))
    }

    fn send(&mut self, destination: IpAddr, advert: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "send an advert";
        let sent = self.sockets(OPERATION)?.sender.send(destination, advert);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn hold_addresses(&mut self) -> Result<(), LinkError> {
        const OPERATION: &str = "add the virtual addresses";
        let mut plan = self.renewal.plan();
        plan.index = self.index;
        plan.holdings.clone_from(&self.holdings);
        plan.lease = self.at.lease;
        let result = match self.index {
            Some(index) => self.netlink.hold_addresses(index, &self.holdings, self.at.lease),
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        };
        result.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn renew_addresses(&mut self) -> Result<(), LinkError> {
        let renewed = self.renewal.request();
        renewed.map_err(|cause| LinkError::new("renew the lease of the virtual addresses", &self.at.interface, cause))
    }

    fn reassign(&mut self, addresses: &[IpNet], lease: Duration) -> Result<(), LinkError> {
        let mut gone = std::mem::replace(&mut self.at.addresses, addresses.to_vec());
        gone.retain(|network| !addresses.contains(network));
        self.at.lease = lease;
        self.plan_holdings();
        let mut plan = self.renewal.plan();
        let Some(index) = plan.index else { return Ok(()) };
        plan.holdings.clone_from(&self.holdings);
        plan.lease = lease;
        let dropped = self.netlink.drop_addresses(index, &gone);
        dropped.map_err(|cause| LinkError::new("remove former virtual addresses", &self.at.interface, cause))
    }

    fn drop_addresses(&mut self) -> Result<(), LinkError> {
        let mut plan = self.renewal.plan();
        plan.index = None;
        let Some(index) = self.index else { return Ok(()) };
        match self.netlink.drop_addresses(index, &self.at.addresses) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map_err(|cause| LinkError::new("remove the virtual addresses", &self.at.interface, cause)),
        }
    }

    fn announce(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "announce a virtual address";
        let sent = self.sockets(OPERATION)?.frames.send(frame);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.sockets.as_ref().map(|sockets| sockets.receiver.descriptor())
    }

    fn is_concerned(&self, change: &Change) -> bool {
        match change {
            Change::Unknown => true,
            Change::Link { index, name } => *name == self.at.interface || self.index == Some(*index),
            // Each lease renewal is echoed as a new address; only its removal would be news.
            Change::Address { index, address, is_removed } => {
                self.index == Some(*index) && (*is_removed || !self.is_virtual(*address))
            }
        }
    }
}

/// The one in use if it is still there, else one in the subnet of `neighbour`, else the first of the interface.
fn choose<'a>(
    candidates: impl Iterator<Item = &'a Assigned> + Clone,
    current: Option<IpAddr>,
    neighbour: Option<IpAddr>,
) -> Option<IpAddr> {
    let find = |is_right: &dyn Fn(&Assigned) -> bool| candidates.clone().find(|a| is_right(a));
    find(&|a| Some(a.network.addr()) == current)
        .or_else(|| find(&|a| neighbour.is_some_and(|neighbour| a.network.contains(&neighbour))))
        .or_else(|| find(&|a| !a.is_secondary))
        .or_else(|| find(&|_| true))
        .map(|a| a.network.addr())
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

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_stays_while_it_is_there() {
        let two = [assigned("10.0.0.1/24"), assigned("10.0.0.2/24")];
        let second = address("10.0.0.2");
        assert_eq!(choose(two.iter(), second, None), second);
        assert_eq!(choose(two[..1].iter(), second, None), address("10.0.0.1"));
        assert_eq!(choose([].iter(), second, None), None);
    }

    #[test]
    fn a_source_is_chosen_beside_the_virtual_address_or_the_peer() {
        let two = [assigned("192.0.2.1/24"), assigned("10.0.0.2/24")];
        assert_eq!(choose(two.iter(), None, address("10.0.0.9")), address("10.0.0.2"));
        assert_eq!(choose(two.iter(), None, address("203.0.113.1")), address("192.0.2.1"));
    }

    #[test]
    fn a_secondary_address_is_the_last_choice() {
        let mut two = [assigned("10.0.0.1/24"), assigned("10.0.1.1/24")];
        two[0].is_secondary = true;
        assert_eq!(choose(two.iter(), None, None), address("10.0.1.1"));
    }
}
