//! Macvlan interfaces: make one above another, set it up and down, remove it.
//!
//! Read first: linux/if_link.h. Settings that rtnetlink knows are set by it, because /proc/sys is read-only in many
//! containers; those that it does not know are the caller's to write.

use super::Netlink;
use super::reply::{ArpSettings, CONF_ARP_ANNOUNCE, CONF_ARP_IGNORE, MACVLAN};
use super::reply::{IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFNAME, IFLA_INET_CONF, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO};
use super::request::Message;
use std::io;

const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// No two macvlans of one interface talk to each other. The others drop frames whose source is their own hardware
/// address, and the peer's is the same.
const MODE_PRIVATE: u32 = 1;
const ADDR_GEN_MODE_NONE: u8 = 1;
// linux/ip.h
const CONF_RP_FILTER: u16 = 8;
const CONF_PROMOTE_SECONDARIES: u16 = 20;
const CONF_ACCEPT_LOCAL: u16 = 23;

impl Netlink {
    /// A macvlan that is down.
    pub fn add_macvlan(&mut self, name: &str, base: u32, mac: [u8; 6]) -> io::Result<()> {
        self.change_link(libc::NLM_F_CREATE | libc::NLM_F_EXCL, libc::RTM_NEWLINK, |message| {
            message.link_header(0, 0, 0);
            message.attribute(IFLA_IFNAME, name.as_bytes());
            message.attribute(IFLA_LINK, &base.to_ne_bytes());
            message.attribute(IFLA_ADDRESS, &mac);
            message.nest(IFLA_LINKINFO, |info| {
                info.attribute(IFLA_INFO_KIND, MACVLAN);
                info.nest(IFLA_INFO_DATA, |data| data.attribute(IFLA_MACVLAN_MODE, &MODE_PRIVATE.to_ne_bytes()));
            });
        })
    }

    /// Answers ARP for its own addresses only, and accepts packets whose way back leads through another interface.
    ///
    /// Loose reverse path filtering, because the stricter of this setting and `all` counts as long as it is 0 or 1,
    /// and 2 overrides both.
    pub fn set_macvlan(&mut self, index: u32) -> io::Result<()> {
        let settings =
            [(CONF_ARP_IGNORE, 1), (CONF_RP_FILTER, 2), (CONF_ACCEPT_LOCAL, 1), (CONF_PROMOTE_SECONDARIES, 1)];
        self.set_ipv4(index, &settings)?;
        let outcome = self.change_link(0, libc::RTM_SETLINK, |message| {
            message.link_header(index, 0, 0);
            message.nest(IFLA_AF_SPEC, |families| {
                families.nest(libc::AF_INET6 as u16, |family| {
                    family.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
                });
            });
        });
        match outcome {
            // A kernel without IPv6 makes no addresses either.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(()),
            outcome => outcome,
        }
    }

    pub fn set_arp(&mut self, index: u32, arp: ArpSettings) -> io::Result<()> {
        self.set_ipv4(index, &[(CONF_ARP_IGNORE, arp.ignore), (CONF_ARP_ANNOUNCE, arp.announce)])
    }

    pub fn set_up(&mut self, index: u32, is_up: bool) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.change_link(0, libc::RTM_NEWLINK, |message| message.link_header(index, if is_up { up } else { 0 }, up))
    }

    pub fn delete_link(&mut self, index: u32) -> io::Result<()> {
        self.change_link(0, libc::RTM_DELLINK, |message| message.link_header(index, 0, 0))
    }

    /// By the numbers of linux/ip.h.
    fn set_ipv4(&mut self, index: u32, settings: &[(u16, u32)]) -> io::Result<()> {
        self.change_link(0, libc::RTM_SETLINK, |message| {
            message.link_header(index, 0, 0);
            message.nest(IFLA_AF_SPEC, |families| {
                families.nest(libc::AF_INET as u16, |family| {
                    family.nest(IFLA_INET_CONF, |conf| {
                        settings.iter().for_each(|(number, value)| conf.attribute(*number, &value.to_ne_bytes()));
                    });
                });
            });
        })
    }

    fn change_link(&mut self, flags: libc::c_int, kind: u16, fill: impl FnOnce(&mut Message<'_>)) -> io::Result<()> {
        self.request.clear();
        let sequence = self.next_sequence();
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
        let mut message = Message::begin(&mut self.request, kind, flags, sequence);
        fill(&mut message);
        message.end();
        self.acknowledged(sequence, 1, 0)
    }
}
