//! A planned hand-over that cuts no connection.
//!
//! When the virtual address moves, the new Active receives the packets of connections that live on the old one. Its
//! kernel knows no socket for them and would answer RST. Instead a small XDP program on the new Active sends every
//! TCP packet for a virtual address that is neither a new connection nor one of our own back out to the old node's
//! MAC; the old node keeps the address on `lo` while it finishes, answers no ARP for it, and sends to the client
//! directly. New connections are served here from the first packet on.
//!
//! A packet that came from the peer is never sent back, so two forwarding nodes cannot play ping-pong.
//! Needs CAP_NET_ADMIN and CAP_BPF (or SYS_ADMIN) in the initial user namespace and both nodes on one segment; where
//! that is missing the hand-over still works by draining first.

mod program;

use program::bpf;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Virtual addresses one program handles; more are refused so that the program stays below a page.
pub const ADDRESSES_MAX: usize = 64;

/// An attached program. Dropping it detaches.
#[derive(Debug)]
pub struct Forwarder {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Forwarder {
    /// Sends packets of unknown connections to `addresses` out of interface number `interface` to `peer`'s MAC.
    ///
    /// The error says which step the kernel refused; EPERM means a missing capability or a user namespace.
    pub fn attach(interface: u32, addresses: &[IpAddr], peer: [u8; 6]) -> io::Result<Forwarder> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "between 1 and 64 virtual addresses"));
        }
        let program = bpf::load(&program::assemble(addresses, peer))?;
        let link = bpf::attach(&program, interface)?;
        Ok(Forwarder { _link: link, _program: program })
    }
}

#[cfg(test)]
mod tests;
