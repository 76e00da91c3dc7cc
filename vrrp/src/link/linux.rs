//! [`Link`] on Linux: raw sockets for adverts, rtnetlink for addresses, a packet socket for announcements.
//!
//! Knows nothing of Active and Backup. The crate's `unsafe` lives in the files below this one.

pub mod clock;
mod eavesdrop;
mod frame;
mod macvlan;
pub mod netlink;
pub mod realtime;
mod renewal;
mod sockets;
mod taps;

use crate::announce::Mac;
use crate::link::{Change, Datagram, Link, LinkError, Overheard, Survey, VirtualMac};
use crate::packet::Family;
use crate::params::Vrid;
use eavesdrop::{Eavesdrop, Target};
use ipnet::IpNet;
use macvlan::{Macvlan, narrowed};
use netlink::{Assigned, Holding, Interface, Netlink};
use renewal::Renewal;
use sockets::{AdvertReceiver, AdvertSender, FrameSender};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::Duration;
use taps::Twin;

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
    pub vrid: Vrid,
    pub family: Family,
    /// The virtual addresses, advertised and excluded ones, as they are put on the interface.
    pub addresses: Vec<IpNet>,
    pub virtual_mac: Option<VirtualMac>,
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
    eavesdrop: Eavesdrop,
    macvlan: Option<Macvlan>,
    /// Where the addresses live: the interface or the macvlan above it. Of the last survey; addresses can be dropped
    /// from an interface that is down.
    index: Option<u32>,
    is_holding: bool,
    holdings: Vec<Holding>,
    /// As they are put on the interface, in the order of the configuration.
    networks: Vec<IpNet>,
    /// Those of them that are not the node's own anyway.
    removable: Vec<IpNet>,
    /// The same, sorted, without prefix lengths.
    virtuals: Vec<IpAddr>,
    /// On the interface, of the virtual router's family.
    assigned: Vec<Assigned>,
    /// Where the addresses live, of any family they have.
    present: Vec<Assigned>,
    sockets: Option<Sockets>,
}

/// All sockets of an interface while it is usable.
struct Sockets {
    index: u32,
    source: IpAddr,
    receiver: AdvertReceiver,
    sender: AdvertSender,
    frames: FrameSender,
    /// With a virtual MAC, and the macvlan's number.
    twin: Option<(u32, Twin)>,
}

impl LinuxLink {
    /// No socket to the network is opened before the first survey.
    pub fn open(at: Attachment) -> Result<LinuxLink, LinkError> {
        let failed = |operation| move |cause: io::Error| (operation, cause);
        let opened = Netlink::open().map_err(failed("open netlink")).and_then(|netlink| {
            let renewal = Renewal::start(at.renewal_priority).map_err(failed("start the thread that renews leases"))?;
            let eavesdrop = Eavesdrop::start().map_err(failed("start the thread that looks at the wire"))?;
            Ok((netlink, renewal, eavesdrop))
        });
        let (netlink, renewal, eavesdrop) =
            opened.map_err(|(operation, cause)| LinkError::new(operation, &at.interface, cause))?;
        let macvlan = at.virtual_mac.as_ref().map(|of| Macvlan::new(of, at.vrid, at.family, &at.addresses));
        let holdings = Vec::with_capacity(at.addresses.len());
        let mut link = LinuxLink {
            at,
            netlink,
            renewal,
            eavesdrop,
            macvlan,
            index: None,
            is_holding: false,
            holdings,
            networks: Vec::new(),
            removable: Vec::new(),
            virtuals: Vec::new(),
            assigned: Vec::with_capacity(16),
            present: Vec::with_capacity(16),
            sockets: None,
        };
        link.list_addresses();
        Ok(link)
    }

    fn list_addresses(&mut self) {
        let has_macvlan = self.macvlan.is_some();
        let wanted = |network: &IpNet| if has_macvlan { narrowed(*network) } else { *network };
        self.networks = self.at.addresses.iter().map(wanted).collect();
        self.virtuals = self.networks.iter().map(IpNet::addr).collect();
        self.virtuals.sort_unstable();
        self.removable.clone_from(&self.networks);
    }

    /// An address of the owner that the system gave the node. What we put there has a lease.
    fn is_system(&self, address: IpAddr) -> bool {
        let is_it = |a: &Assigned| a.network.addr() == address && a.is_permanent;
        self.at.is_owner && self.macvlan.is_none() && self.present.iter().any(is_it)
    }

    fn is_virtual(&self, address: IpAddr) -> bool {
        self.virtuals.binary_search(&address).is_ok()
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
        let is_usable = |a: &&Assigned| !a.is_tentative && is_wanted(a.network.addr());
        let is_real = |a: &&Assigned| is_usable(a) && !self.is_virtual(a.network.addr());
        let neighbour = peer.or(self.at.addresses.first().map(IpNet::addr));
        // An owner may have none but the virtual one. From another it is heard better: whoever stands in for it has
        // the virtual one, and drops what seems to come from itself.
        let real = choose(self.assigned.iter().filter(is_real), current, neighbour);
        real.or_else(|| choose(self.assigned.iter().filter(is_usable), current, neighbour).filter(|_| self.at.is_owner))
    }

    /// The address keeps away from the on-link route of a prefix that a node address already has.
    fn plan_holdings(&mut self) {
        let had_system = self.has_system_addresses();
        self.holdings.clear();
        self.removable.clear();
        for at in 0..self.networks.len() {
            let Some(network) = self.networks.get(at).copied() else { break };
            let is_own = |a: &Assigned| self.virtuals.binary_search(&a.network.addr()).is_err();
            let leaves_route_alone =
                self.macvlan.is_none() && self.assigned.iter().any(|a| covers(a, &network) && is_own(a));
            let is_system = self.is_system(network.addr());
            self.holdings.push(Holding { network, leaves_route_alone, is_system });
            if !is_system {
                self.removable.push(network);
            }
        }
        self.renewal.make_room(self.holdings.len());
        if self.is_holding && (had_system || self.has_system_addresses()) {
            // The node's own came or went; a renewal of the old plan would put a lease on it.
            self.renewal.plan().holdings.clone_from(&self.holdings);
        }
    }

    fn has_system_addresses(&self) -> bool {
        self.holdings.iter().any(|holding| holding.is_system)
    }

    /// How many virtual addresses are there, and usable.
    fn count_present(&mut self, holder: &Interface) -> io::Result<usize> {
        self.present.clear();
        let mixed = self.networks.iter().any(|network| Family::of(network.addr()) != self.at.family);
        if mixed {
            self.netlink.addresses(holder.index, Family::V4, &mut self.present)?;
            self.netlink.addresses(holder.index, Family::V6, &mut self.present)?;
        } else if self.macvlan.is_some() {
            self.netlink.addresses(holder.index, self.at.family, &mut self.present)?;
        } else {
            self.present.extend_from_slice(&self.assigned);
        }
        // The node's own addresses are there whether we hold them or not.
        let is_counted = |a: &&Assigned| self.is_holding || !(self.at.is_owner && a.is_permanent);
        let is_there = |a: &&Assigned| self.virtuals.binary_search(&a.network.addr()).is_ok();
        let present = self.present.iter().filter(is_there).filter(is_counted).count();
        if self.macvlan.is_none() || holder.is_up == (self.is_holding || present > 0) {
            return Ok(present);
        }
        if holder.is_up {
            // A former life left it up, and its lease has ended since.
            self.netlink.set_up(holder.index, false)?;
        }
        // Addresses on a macvlan that somebody set down serve nobody.
        Ok(0)
    }

    fn open_sockets(&mut self, index: u32, source: IpAddr) -> Result<(), LinkError> {
        let macvlan = self.macvlan.as_ref().zip(self.index).map(|(macvlan, index)| (index, macvlan.mac()));
        let name = self.at.interface.as_str();
        let failed = |operation| move |cause: io::Error| LinkError::new(operation, name, cause);
        if let Some(sockets) = self.sockets.as_mut().filter(|s| s.index == index && s.source == source) {
            if sockets.twin.as_ref().map(|(on, _)| *on) != macvlan.map(|(on, _)| on) {
                let twin = open_twin(macvlan, self.at.family);
                sockets.twin = twin.map_err(failed("listen for our virtual MAC"))?;
            }
            return Ok(());
        }
        self.sockets = None;
        let receiver = if self.at.peers.is_empty() {
            AdvertReceiver::multicast(name, index, self.at.family)
        } else {
            AdvertReceiver::unicast(name, index, source)
        };
        let receiver = receiver.map_err(failed("open the socket that receives adverts"))?;
        let is_from_base = self.at.virtual_mac.as_ref().is_none_or(|of| of.adverts_from_base);
        let mac = macvlan.map(|(_, mac)| mac).filter(|_| !is_from_base);
        let sender =
            AdvertSender::open(name, index, source, mac).map_err(failed("open the socket that sends adverts"))?;
        let frames = FrameSender::open(index).map_err(failed("open the socket for announcements"))?;
        let twin = open_twin(macvlan, self.at.family).map_err(failed("listen for our virtual MAC"))?;
        self.sockets = Some(Sockets { index, source, receiver, sender, frames, twin });
        Ok(())
    }

    fn sockets(&mut self, operation: &'static str) -> Result<&mut Sockets, LinkError> {
        let gone = || LinkError::new(operation, &self.at.interface, io::Error::from_raw_os_error(libc::ENETDOWN));
        self.sockets.as_mut().ok_or_else(gone)
    }
}

fn open_twin(macvlan: Option<(u32, Mac)>, family: Family) -> io::Result<Option<(u32, Twin)>> {
    macvlan.map(|(index, mac)| Ok((index, Twin::open(index, family, mac)?))).transpose()
}

impl Link for LinuxLink {
    fn survey(&mut self) -> Result<Survey, LinkError> {
        let failed = |name: &str, cause| LinkError::new("look at the interface", name, cause);
        let found = self.netlink.interface(&self.at.interface).map_err(|cause| failed(&self.at.interface, cause))?;
        self.assigned.clear();
        let Some(base) = found else {
            self.index = None;
            self.sockets = None;
            if let Some(macvlan) = &mut self.macvlan {
                macvlan.forget();
            }
            return Ok(Survey::default());
        };
        let holder = match &mut self.macvlan {
            Some(macvlan) => {
                let made = macvlan.ensure(&mut self.netlink, &base);
                made.map_err(|cause| LinkError::new("make the virtual MAC", &self.at.interface, cause))?
            }
            None => base,
        };
        self.index = Some(holder.index);
        self.netlink
            .addresses(base.index, self.at.family, &mut self.assigned)
            .map_err(|cause| failed(&self.at.interface, cause))?;
        let virtual_present = self.count_present(&holder).map_err(|cause| failed(&self.at.interface, cause))?;
        self.plan_holdings();
        let source = if base.is_running { self.choose_source() } else { None };
        match source {
            Some(source) => self.open_sockets(base.index, source)?,
            None => self.sockets = None,
        }
        let is_resident = self.has_system_addresses();
        Ok(Survey { source, mac: holder.mac, is_forwarding: holder.is_forwarding, virtual_present, is_resident })
    }

    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<Datagram<'a>>, LinkError> {
        let Some(sockets) = self.sockets.as_mut() else { return Ok(None) };
        let failed = |cause| LinkError::new("receive adverts", &self.at.interface, cause);
        let mut piece = sockets.receiver.receive(buffer).map_err(failed)?;
        if let (None, Some((_, twin))) = (&piece, &mut sockets.twin) {
            piece = twin.receive(buffer).map_err(failed)?;
        }
        Ok(piece.map(|piece| piece.of(buffer)))
    }

    fn send(&mut self, destination: IpAddr, advert: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "send an advert";
        let sent = self.sockets(OPERATION)?.sender.send(destination, advert);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn hold_addresses(&mut self, places: Range<usize>) -> Result<(), LinkError> {
        const OPERATION: &str = "add the virtual addresses";
        let mut plan = self.renewal.plan();
        plan.index = self.index;
        plan.holdings.clone_from(&self.holdings);
        plan.lease = self.at.lease;
        let is_first = places.start == 0;
        let slice = self.holdings.get(places).unwrap_or_default();
        let result = match self.index {
            Some(index) => {
                self.is_holding = true;
                let raised = match is_first && self.macvlan.is_some() {
                    true => self.netlink.set_up(index, true),
                    false => Ok(()),
                };
                raised.and(self.netlink.hold_addresses(index, slice, self.at.lease))
            }
            None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
        };
        result.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn renew_addresses(&mut self) -> Result<(), LinkError> {
        let renewed = self.renewal.request();
        renewed.map_err(|cause| LinkError::new("renew the lease of the virtual addresses", &self.at.interface, cause))
    }

    fn reassign(&mut self, addresses: &[IpNet], lease: Duration) -> Result<(), LinkError> {
        self.at.addresses = addresses.to_vec();
        self.at.lease = lease;
        let mut gone = std::mem::take(&mut self.removable);
        self.list_addresses();
        gone.retain(|network| !self.networks.contains(network));
        if let Some(macvlan) = &mut self.macvlan {
            macvlan.reassign(addresses);
        }
        self.plan_holdings();
        let mut plan = self.renewal.plan();
        let Some(index) = plan.index else { return Ok(()) };
        plan.holdings.clone_from(&self.holdings);
        plan.lease = lease;
        let dropped = self.netlink.drop_addresses(index, &gone);
        dropped.map_err(|cause| LinkError::new("remove former virtual addresses", &self.at.interface, cause))
    }

    fn redirect(&mut self, peers: Vec<IpAddr>, source: Option<IpAddr>) {
        if peers.is_empty() != self.at.peers.is_empty() {
            self.sockets = None; // bound to the group, or to our own address
        }
        self.at.peers = peers;
        self.at.source = source;
    }

    fn drop_addresses(&mut self) -> Result<(), LinkError> {
        let mut plan = self.renewal.plan();
        plan.index = None;
        self.is_holding = false;
        let Some(index) = self.index else { return Ok(()) };
        let lowered = match self.macvlan {
            Some(_) => self.netlink.set_up(index, false),
            None => Ok(()),
        };
        match self.netlink.drop_addresses(index, &self.removable).and(lowered) {
            Err(cause) if cause.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result.map_err(|cause| LinkError::new("remove the virtual addresses", &self.at.interface, cause)),
        }
    }

    fn announce(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        const OPERATION: &str = "announce a virtual address";
        let sent = self.sockets(OPERATION)?.frames.send(frame);
        sent.map_err(|cause| LinkError::new(OPERATION, &self.at.interface, cause))
    }

    fn descriptors(&self) -> [Option<RawFd>; 2] {
        let Some(sockets) = &self.sockets else { return [None; 2] };
        [Some(sockets.receiver.descriptor()), sockets.twin.as_ref().map(|(_, twin)| twin.descriptor())]
    }

    fn overhear(&mut self, is_on: bool) {
        let target = self.sockets.as_ref().filter(|_| is_on).map(|sockets| Target {
            index: sockets.index,
            family: self.at.family,
            vrid: self.at.vrid,
            own: sockets.source,
        });
        self.eavesdrop.aim(target);
    }

    fn overheard(&mut self) -> Option<Overheard> {
        self.eavesdrop.seen()
    }

    fn close(&mut self) {
        self.sockets = None;
        if let Some(mut macvlan) = self.macvlan.take() {
            // Whatever is left of it, the next life adopts.
            let _ = macvlan.remove(&mut self.netlink);
        }
    }

    fn is_concerned(&self, change: &Change) -> bool {
        let is_holder = |index: &u32| self.index == Some(*index);
        let is_below = |index: &u32| self.sockets.as_ref().is_some_and(|sockets| sockets.index == *index);
        match change {
            Change::Unknown => true,
            Change::Link { index, name } => {
                let is_ours = self.macvlan.as_ref().is_some_and(|macvlan| macvlan.is_named(name));
                *name == self.at.interface || is_ours || is_holder(index) || is_below(index)
            }
            // Each lease renewal is echoed as a new address; only its removal would be news.
            Change::Address { index, address, is_removed } => {
                let is_near = is_holder(index) || is_below(index) || self.sockets.is_none();
                is_near && (*is_removed || !self.is_virtual(*address))
            }
        }
    }
}

/// Taken out of the configuration by a reload: the macvlan goes, on the thread that has the time.
impl Drop for LinuxLink {
    fn drop(&mut self) {
        if let Some(macvlan) = self.macvlan.take() {
            self.renewal.remove_at_end(macvlan);
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
        Assigned { network: text.parse().unwrap(), is_secondary: false, is_tentative: false, is_permanent: true }
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
