//! Ports for peers that bind them by themselves.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Of the loopback address, free in TCP and UDP, and below the range from which the kernel takes ports for clients: no
/// connection of another test gets it before the peer does. Given out once in this process.
pub fn quiet() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..20_000 {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).into()) % 20_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + number as u16));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from 10000 to 29999");
}
