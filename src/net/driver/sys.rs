//! The socket calls both drivers make directly: never blocking, never interrupted.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// None: would block.
pub(super) fn receive(fd: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    retry(|| recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// None: would block.
pub(super) fn transmit(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    retry(|| send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL))
}

/// Moves bytes between a pipe and a socket, both non-blocking, without copying them. None: would block.
pub(super) fn splice(from: &impl AsFd, to: &impl AsFd, length: usize) -> io::Result<Option<usize>> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    retry(|| {
        // SAFETY: both descriptors are open for the call, and there are no offsets to point to.
        let count = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), length, flags) };
        Errno::result(count).map(|count| count as usize)
    })
}

/// The next connection of a listener that is in non-blocking mode, close-on-exec. None: would block.
/// Connections that died in the queue are skipped.
pub(super) fn accept(listener: &impl AsFd) -> io::Result<Option<(Socket, SocketAddr)>> {
    loop {
        match SockRef::from(listener).accept() {
            Ok((socket, peer)) => return Ok(Some((socket, address_of(&peer)))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if !is_exhaustion(&error) && is_transient_accept(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The caller must back off: the process or the system is out of something.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// accept(2) passes on what befell the queued connection; these say nothing about the listener.
pub(super) fn is_transient_accept(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM
        )
    )
}

/// The descriptor an accept completion carries.
pub(super) fn accepted(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for this completion, which is seen once; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Unix sockets have no such address; it reads as 0.0.0.0:0.
pub(super) fn address_of(address: &SockAddr) -> SocketAddr {
    address.as_socket().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
}

/// A TCP socket ready to connect to `to`, close-on-exec, without Nagle's delay.
pub(super) fn outgoing(to: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        defer_port_choice(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Closing sends RST.
pub(super) fn reset_on_close(fd: &impl AsFd) {
    // Fails only on sockets that have nothing to reset.
    let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
}

/// Sends FIN. An error means that the connection is gone already.
pub(super) fn finish(fd: &impl AsFd) {
    let _ = SockRef::from(fd).shutdown(std::net::Shutdown::Write);
}

/// Bytes that a TCP peer has acknowledged so far. None: it is no TCP socket.
pub(super) fn acknowledged(fd: &impl AsFd) -> Option<u64> {
    const AT: usize = std::mem::offset_of!(libc::tcp_info, tcpi_bytes_acked);
    let mut info = [0; size_of::<libc::tcp_info>()];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the pointers describe `info` and its length, which outlive the call.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // The kernel writes no more than it knows of.
    let known = info.get(..length as usize).filter(|_| answer == 0)?;
    known.get(AT..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, when the kernel knows the whole 4-tuple, so that 64 k
/// connections per destination (not per source) are possible.
fn defer_port_choice(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn retry(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
