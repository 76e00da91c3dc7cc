//! Socket I/O of one executor: completion based on an own io_uring ([`ring`]), or readiness on edge-triggered epoll
//! ([`epoll`]), behind one API. Everything here is single threaded (`!Send`) and lives as long as its executor.
//!
//! Rules the callers rely on:
//! - An idle socket owns no buffer. [`Socket::recv`] yields a [`Chunk`] of a per-core pool; dropping it gives it back.
//! - Bytes arrive in order whichever receive call is used: `recv` and `recv_into` may be mixed freely.
//! - Dropping any future of this module loses no bytes and leaks no descriptor; a dropped `send` may have sent any
//!   prefix, so the only sensible next call on that socket is `abort` or drop.
//! - The kernel only ever writes to memory the driver owns until the final completion.
//! - `EINTR` never surfaces.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Which implementation an executor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ring,
    Epoll,
}

/// Handle to this executor's driver. Cheap to clone.
#[derive(Clone)]
pub struct Driver(Rc<()>);

/// A connected stream socket (TCP or Unix). Drop closes it after its last completion.
pub struct Socket(());

/// A listening socket. One per core and address.
pub struct Listener(());

/// Received bytes in a pool buffer; empty means end of stream.
pub struct Chunk(());

/// Numbers of one driver for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub sockets: usize,
    /// Pool buffers not at home.
    pub buffers_out: usize,
    pub operations: usize,
    /// Times the provided-buffer ring was empty (ENOBUFS).
    pub starved: u64,
}

impl Driver {
    /// Makes the driver of the calling executor and spawns its loop as a glommio task.
    /// Fails with the reason when the kernel or a seccomp profile forbids `kind`.
    pub fn start(_kind: Kind) -> io::Result<Driver> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn kind(&self) -> Kind {
        Kind::Epoll
    }

    pub fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Takes over a bound, listening, close-on-exec socket.
    pub fn listen(&self, _socket: OwnedFd) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes over a connected stream socket.
    pub fn adopt(&self, _socket: OwnedFd) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// TCP connect without blocking, NODELAY set, bound to `source` if given (IP_BIND_ADDRESS_NO_PORT).
    pub async fn connect(&self, _to: SocketAddr, _source: Option<IpAddr>, _timeout: Duration) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Listener {
    /// The next connection, NODELAY and close-on-exec set, with its peer. ECONNABORTED and the like are retried
    /// inside; EMFILE, ENFILE, ENOBUFS and ENOMEM surface so that the caller can back off. Must not be raced in a
    /// select: stop with [`Listener::stop`], then `accept` ends with `Ok(None)` after handing out what was accepted.
    pub async fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        Ok(None)
    }

    pub fn stop(&self) {}
}

impl Socket {
    /// Next bytes in a pool buffer (at most 16 KiB); an empty chunk is end of stream, also on every later call.
    /// At most one receive call may be pending.
    pub fn recv(&self) -> impl Future<Output = io::Result<Chunk>> + '_ {
        std::future::poll_fn(|cx| self.poll_recv(cx))
    }

    pub fn poll_recv(&self, _cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Bulk receive straight into `buffer` (bodies: use 64 KiB). 0 is end of stream.
    pub fn poll_recv_into(&self, _cx: &mut Context<'_>, _buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Sends all of `buffer`, then gives it back (contents intact). At most one send call may be pending; receives
    /// may go on meanwhile.
    pub async fn send(&self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (Ok(()), buffer)
    }

    /// Sends all of a received chunk without copying it, then gives its buffer back.
    pub async fn send_chunk(&self, _chunk: Chunk) -> io::Result<()> {
        Ok(())
    }

    /// Bulk send straight from `bytes`; answers how many the kernel took.
    pub fn poll_send(&self, _cx: &mut Context<'_>, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// Sends FIN after what was sent.
    pub fn shutdown_write(&self) {}

    /// The peer gets RST (SO_LINGER 0) when the socket closes.
    pub fn abort(&self) {}

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Chunk {
    /// Drops the first `n` bytes; `n` larger than the rest leaves it empty.
    pub fn advance(&mut self, _n: usize) {}
}

impl std::ops::Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &[]
    }
}
