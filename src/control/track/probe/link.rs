//! An interface's carrier: the kernel's notifications say when to look, the list of interfaces what there is.

use super::{Finding, Probe};
use lyre_vrrp::params::Time;
use nix::errno::Errno;
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// RTMGRP_LINK
const LINK_CHANGES: u32 = 1;
/// A look without notification, should one have been lost.
const LOOK: Duration = Duration::from_secs(1);

pub struct Link {
    interface: String,
    /// None where the kernel has none to give; then the periodic look is all.
    changes: Option<OwnedFd>,
    next: Time,
}

impl Link {
    pub fn new(interface: String) -> Link {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let open = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute);
        let changes = open.and_then(|fd| bind(fd.as_raw_fd(), &NetlinkAddr::new(0, LINK_CHANGES)).map(|()| fd)).ok();
        Link { interface, changes, next: Time(0) }
    }

    /// Reads notifications away; what they say is not as certain as a look.
    fn has_changed(&self) -> bool {
        let Some(changes) = &self.changes else { return false };
        let mut buffer = [0; 8192];
        let mut any = false;
        loop {
            match recv(changes.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(1..) => any = true,
                Ok(0) | Err(Errno::EAGAIN) => return any,
                // An overrun (ENOBUFS) is a change as well; what else there may be is left to the next look.
                Err(_) => return true,
            }
        }
    }

    fn look(&self) -> Option<Finding> {
        let mut all = nix::ifaddrs::getifaddrs().ok()?;
        let Some(found) = all.find(|entry| entry.interface_name == self.interface) else {
            return Finding::bad("there is no such interface");
        };
        let has = |flag: InterfaceFlags| found.flags.contains(flag);
        match (has(InterfaceFlags::IFF_UP), has(InterfaceFlags::IFF_RUNNING)) {
            (true, true) => Finding::good("up"),
            (true, false) => Finding::bad("no carrier"),
            (false, _) => Finding::bad("switched off"),
        }
    }
}

impl Probe for Link {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        into.extend(self.changes.as_ref().map(|changes| PollFd::new(changes.as_fd(), PollFlags::POLLIN)));
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next)
    }

    fn advance(&mut self, now: Time) -> Option<Finding> {
        if !self.has_changed() && now < self.next {
            return None;
        }
        self.next = now.plus(LOOK);
        self.look()
    }
}
