//! Whether an address of the LAN answers for itself. Asked from the node's own address, never from a virtual one, which
//! the answer would make the gateway believe to be here.

use super::neighbour::{Neighbour, Own};
use super::{Finding, Pace, Probe};
use lyre_vrrp::params::Time;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

pub struct Gateway {
    address: IpAddr,
    interface: String,
    virtual_addresses: Vec<IpAddr>,
    pace: Pace,
    timeout: Duration,
    neighbour: Option<Neighbour>,
    /// While a question is open.
    deadline: Option<Time>,
}

impl Gateway {
    pub fn new(
        address: IpAddr,
        interface: String,
        virtual_addresses: Vec<IpAddr>,
        pace: Pace,
        timeout: Duration,
    ) -> Gateway {
        Gateway { address, interface, virtual_addresses, pace, timeout, neighbour: None, deadline: None }
    }

    /// Asks, over a new socket if the node's side of the interface is another than before.
    fn ask(&mut self, now: Time) -> Result<(), String> {
        let own = self.own()?;
        if self.neighbour.as_ref().is_none_or(|neighbour| neighbour.own() != own) {
            let opened = Neighbour::open(own, self.address, &self.interface);
            self.neighbour = Some(opened.map_err(|error| format!("cannot ask on {}: {error}", self.interface))?);
        }
        let Some(neighbour) = &self.neighbour else { return Ok(()) };
        // What came late for the last question is no answer to this one.
        neighbour.has_answered();
        neighbour.ask().map_err(|error| format!("cannot ask on {}: {error}", self.interface))?;
        self.deadline = Some(now.plus(self.timeout));
        Ok(())
    }

    fn own(&self) -> Result<Own, String> {
        let interface = &self.interface;
        let index = if_nametoindex(interface.as_str()).map_err(|_| format!("there is no interface {interface}"))?;
        let entries: Vec<_> = nix::ifaddrs::getifaddrs().map_err(|error| error.to_string())?.collect();
        let here = || entries.iter().filter(|entry| entry.interface_name == *interface);
        let mac = here().find_map(|entry| entry.address.as_ref()?.as_link_addr()?.addr());
        let addresses = here().filter_map(|entry| {
            let address = entry.address.as_ref()?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        });
        let is_own =
            |address: &IpAddr| address.is_ipv4() == self.address.is_ipv4() && !self.virtual_addresses.contains(address);
        let address = addresses.into_iter().find(is_own);
        match (mac, address) {
            (Some(mac), Some(address)) => Ok(Own { index, mac, address }),
            (None, _) => Err(format!("{interface} is no Ethernet")),
            (_, None) => Err(format!("{interface} has no address of the node's own")),
        }
    }
}

impl Probe for Gateway {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        // Only while something is awaited: there is always somebody else's ARP.
        if let (Some(neighbour), Some(_)) = (&self.neighbour, self.deadline) {
            into.push(PollFd::new(neighbour.as_fd(), PollFlags::POLLIN));
        }
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.deadline.unwrap_or(self.pace.next()))
    }

    fn advance(&mut self, now: Time) -> Option<Finding> {
        if let Some(deadline) = self.deadline {
            if self.neighbour.as_ref().is_some_and(Neighbour::has_answered) {
                self.deadline = None;
                return Finding::good(format!("{} answers on {}", self.address, self.interface));
            }
            if now < deadline {
                return None;
            }
            self.deadline = None;
            return Finding::bad(format!("{} does not answer on {}", self.address, self.interface));
        }
        if !self.pace.is_due(now) {
            return None;
        }
        self.ask(now).err().and_then(Finding::bad)
    }
}
