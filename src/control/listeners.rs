//! Every listening socket, bound by the parent and kept for the life of the process: a worker that dies or is replaced
//! loses no SYN, because the queue belongs to the socket and the socket stays.

use crate::config::settings::Settings;
use crate::serve::parent::ListenerSocket;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// Connections that may wait while a worker restarts; net.core.somaxconn (4096 by default) bounds it as well.
const BACKLOG: libc::c_int = 4096;

/// Sockets by configured address, one a core.
#[derive(Default)]
pub struct Listeners {
    sockets: BTreeMap<SocketAddr, Vec<Socket>>,
}

#[derive(Debug)]
pub struct BindError {
    pub address: SocketAddr,
    pub error: io::Error,
}

impl Listeners {
    /// Binds what `settings` name and `self` does not have yet. All or nothing; every failure is told.
    pub fn bind_missing(&self, settings: &Settings, cores: usize) -> Result<Listeners, Vec<BindError>> {
        let mut added = Listeners::default();
        let mut errors = Vec::new();
        for address in settings.addresses() {
            if self.sockets.contains_key(&address) || added.sockets.contains_key(&address) {
                continue;
            }
            match bind_group(address, cores) {
                Ok(group) => drop(added.sockets.insert(address, group)),
                Err(error) => errors.push(BindError { address, error }),
            }
        }
        if errors.is_empty() { Ok(added) } else { Err(errors) }
    }

    /// Takes over newly bound sockets.
    pub fn extend(&mut self, added: Listeners) {
        self.sockets.extend(added.sockets);
    }

    /// Closes the sockets that `settings` no longer name.
    pub fn retain(&mut self, settings: &Settings) {
        self.sockets.retain(|address, _| settings.addresses().any(|named| named == *address));
    }

    /// What a worker is told, and the descriptors in the same order.
    pub fn handout(&self) -> (Vec<ListenerSocket>, Vec<BorrowedFd<'_>>) {
        self.sockets
            .iter()
            .flat_map(|(address, group)| group.iter().enumerate().map(move |(core, socket)| (*address, core, socket)))
            .map(|(address, core, socket)| (ListenerSocket { address, core }, socket.as_fd()))
            .unzip()
    }

    /// Addresses as bound: with the port the kernel chose where 0 was configured.
    pub fn bound(&self) -> Vec<SocketAddr> {
        let first = |group: &Vec<Socket>| group.first()?.local_addr().ok()?.as_socket();
        self.sockets.iter().map(|(address, group)| first(group).unwrap_or(*address)).collect()
    }
}

/// One socket a core; the kernel spreads connections over them.
fn bind_group(address: SocketAddr, cores: usize) -> io::Result<Vec<Socket>> {
    let first = bind(address)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut group = vec![first];
    for _ in 1..cores {
        group.push(bind(address)?);
    }
    Ok(group)
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    // A Backup listens on the virtual address before it owns it. The IPv4 option works on IPv6 sockets as well.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => f.write_str(" (another program listens there; `ss -ltnp` names it)"),
            _ => Ok(()),
        }
    }
}
