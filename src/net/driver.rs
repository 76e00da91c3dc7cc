//! Socket I/O of one executor: completion based on an own io_uring (`ring`), or readiness on edge-triggered epoll
//! (`epoll`), behind one API. Everything here is single threaded (`!Send`) and lives as long as its executor.
//!
//! Rules the callers rely on:
//! - An idle socket owns no buffer. [`Socket::recv`] yields a [`Chunk`] of a per-core pool; dropping it gives it back.
//! - Bytes arrive in order whichever receive call is used: `recv` and `recv_into` may be mixed freely.
//! - Dropping any future of this module loses no bytes and leaks no descriptor; a dropped `send` may have sent any
//!   prefix, so the only sensible next call on that socket is `abort` or drop.
//! - The kernel only ever writes to memory the driver owns until the final completion.
//! - `EINTR` never surfaces.

mod arena;
mod bell;
mod buffers;
mod epoll;
mod park;
mod pipe;
mod ring;
mod slab;
mod sys;

pub use bell::for_another_thread;
pub use buffers::Chunk;
pub(super) use pipe::Pipe;

use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
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
pub struct Driver(DriverKind);

#[derive(Clone)]
enum DriverKind {
    Ring(Rc<ring::Ring>),
    Epoll(Rc<epoll::Epoll>),
}

/// A connected stream socket (TCP or Unix). Drop closes it after its last completion.
pub struct Socket(SocketKind);

enum SocketKind {
    Ring(ring::Socket),
    Epoll(epoll::Socket),
}

/// A listening socket. One per core and address.
pub struct Listener(ListenerKind);

enum ListenerKind {
    Ring(ring::Listener),
    Epoll(epoll::Listener),
}

/// See [`Socket::send`].
pub struct SendVector<'a> {
    socket: &'a Socket,
    buffer: Vec<u8>,
    progress: Progress,
}

/// See [`Socket::send_chunk`].
pub struct SendChunk<'a> {
    socket: &'a Socket,
    chunk: Chunk,
    progress: Progress,
}

/// How far a send is: the ring takes the bytes at once and answers at the end, epoll takes them by and by.
#[derive(Default)]
struct Progress {
    is_started: bool,
    sent: usize,
}

/// Numbers of one driver for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sockets and listeners that are open.
    pub sockets: usize,
    /// Pool buffers not at home.
    pub buffers_out: usize,
    /// Kernel operations in flight.
    pub operations: usize,
    /// Times the provided-buffer ring was empty (ENOBUFS).
    pub starved: u64,
}

impl Driver {
    /// Makes the driver of the calling executor and spawns its loop as a glommio task.
    /// Fails with the reason when the kernel or a seccomp profile forbids `kind`.
    pub fn start(kind: Kind) -> io::Result<Driver> {
        match kind {
            Kind::Ring => Ok(Driver(DriverKind::Ring(ring::Ring::start(None)?))),
            Kind::Epoll => Ok(Driver(DriverKind::Epoll(epoll::Epoll::start()?))),
        }
    }

    pub fn kind(&self) -> Kind {
        match &self.0 {
            DriverKind::Ring(_) => Kind::Ring,
            DriverKind::Epoll(_) => Kind::Epoll,
        }
    }

    pub fn usage(&self) -> Usage {
        match &self.0 {
            DriverKind::Ring(driver) => driver.usage(),
            DriverKind::Epoll(driver) => driver.usage(),
        }
    }

    /// Takes over a bound, listening, close-on-exec socket.
    pub fn listen(&self, socket: OwnedFd) -> io::Result<Listener> {
        match &self.0 {
            DriverKind::Ring(driver) => ring::Listener::new(driver, socket).map(ListenerKind::Ring).map(Listener),
            DriverKind::Epoll(driver) => driver.listen(socket).map(ListenerKind::Epoll).map(Listener),
        }
    }

    /// Takes over a connected stream socket.
    pub fn adopt(&self, socket: OwnedFd) -> io::Result<Socket> {
        match &self.0 {
            DriverKind::Ring(driver) => ring::Socket::adopt(driver, socket).map(SocketKind::Ring).map(Socket),
            DriverKind::Epoll(driver) => driver.adopt(socket).map(SocketKind::Epoll).map(Socket),
        }
    }

    /// TCP connect without blocking, NODELAY set, bound to `source` if given (IP_BIND_ADDRESS_NO_PORT).
    /// `timeout` has the resolution of [`crate::net::clock::Timer`] and ends in `TimedOut`.
    pub async fn connect(&self, to: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<Socket> {
        match &self.0 {
            DriverKind::Ring(driver) => {
                ring::Socket::connect(driver, to, source, timeout).await.map(SocketKind::Ring).map(Socket)
            }
            DriverKind::Epoll(driver) => driver.connect(to, source, timeout).await.map(SocketKind::Epoll).map(Socket),
        }
    }
}

impl Driver {
    /// Unix connect: done or refused at once. A listener whose queue is full refuses, as `WouldBlock`.
    pub fn connect_unix(&self, path: &Path) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        self.adopt(socket.into())
    }
}

/// While one lives, this core's driver loop does not nap: for work that advances by turns of the loop.
pub(super) struct StayAwake(());

thread_local! {
    static AWAKE: Cell<usize> = const { Cell::new(0) };
}

impl StayAwake {
    pub(super) fn new() -> StayAwake {
        AWAKE.set(AWAKE.get() + 1);
        StayAwake(())
    }
}

impl Drop for StayAwake {
    fn drop(&mut self) {
        let _ = AWAKE.try_with(|awake| awake.set(awake.get().saturating_sub(1)));
    }
}

/// Lets the core's other tasks and its event loop have a turn: for loops that may never find their sockets idle.
pub async fn breathe() {
    let _awake = StayAwake::new();
    glommio::executor().yield_now().await;
}

fn is_awake() -> bool {
    AWAKE.get() > 0
}

impl Listener {
    /// The next connection, NODELAY and close-on-exec set, with its peer. ECONNABORTED and the like are retried
    /// inside; EMFILE, ENFILE, ENOBUFS and ENOMEM surface so that the caller can back off. Must not be raced in a
    /// select: stop with [`Listener::stop`], then `accept` ends with `Ok(None)` after handing out what was accepted.
    pub async fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        match &self.0 {
            ListenerKind::Ring(listener) => {
                let accepted = listener.accept().await?;
                Ok(accepted.map(|(socket, peer)| (Socket(SocketKind::Ring(socket)), peer)))
            }
            ListenerKind::Epoll(listener) => {
                let accepted = listener.accept().await?;
                Ok(accepted.map(|(socket, peer)| (Socket(SocketKind::Epoll(socket)), peer)))
            }
        }
    }

    pub fn stop(&self) {
        match &self.0 {
            ListenerKind::Ring(listener) => listener.stop(),
            ListenerKind::Epoll(listener) => listener.stop(),
        }
    }
}

impl Socket {
    /// Next bytes in a pool buffer (at most 16 KiB); an empty chunk is end of stream, also on every later call.
    /// At most one receive call may be pending.
    pub fn recv(&self) -> impl Future<Output = io::Result<Chunk>> + '_ {
        poll_fn(|cx| self.poll_recv(cx))
    }

    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.poll_recv(cx),
            SocketKind::Epoll(socket) => socket.poll_recv(cx),
        }
    }

    /// Bulk receive straight into `buffer` (bodies: use 64 KiB). 0 is end of stream.
    pub fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.poll_recv_into(cx, buffer),
            SocketKind::Epoll(socket) => socket.poll_recv_into(cx, buffer),
        }
    }

    /// Sends all of `buffer`, then gives it back (contents intact). At most one send call may be pending; receives
    /// may go on meanwhile.
    pub fn send(&self, buffer: Vec<u8>) -> SendVector<'_> {
        SendVector { socket: self, buffer, progress: Progress::default() }
    }

    /// Sends all of a received chunk without copying it, then gives its buffer back.
    pub fn send_chunk(&self, chunk: Chunk) -> SendChunk<'_> {
        SendChunk { socket: self, chunk, progress: Progress::default() }
    }

    /// Bulk send straight from `bytes`; answers how many the kernel took.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.poll_send(cx, bytes),
            SocketKind::Epoll(socket) => socket.poll_send(cx, bytes),
        }
    }

    /// Whether the next bytes are still the kernel's: none are queued here, and no receive is under way.
    pub(super) fn is_direct(&self) -> bool {
        match &self.0 {
            SocketKind::Ring(socket) => socket.is_direct(),
            SocketKind::Epoll(_) => true,
        }
    }

    /// For splice(2), which goes by the descriptor's own mode. Sends and receives do not care, the ring's neither: it
    /// waits where they would block.
    pub(super) fn make_nonblocking(&self) -> io::Result<()> {
        SockRef::from(&self.fd()).set_nonblocking(true)
    }

    /// Moves what was received into `pipe`, at most `bytes_max`; 0 is end of stream. The socket must be
    /// [direct](Socket::is_direct) and [non-blocking](Socket::make_nonblocking).
    pub(super) fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe, bytes_max: usize) -> Poll<io::Result<usize>> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.poll_fill(cx, pipe, bytes_max),
            SocketKind::Epoll(socket) => socket.poll_fill(cx, pipe, bytes_max),
        }
    }

    /// Sends what is in `pipe`; answers how much of it the kernel took.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.poll_drain(cx, pipe),
            SocketKind::Epoll(socket) => socket.poll_drain(cx, pipe),
        }
    }

    /// Sends FIN after what was sent.
    pub fn shutdown_write(&self) {
        sys::finish(&self.fd());
    }

    /// The peer gets RST (SO_LINGER 0) when the socket closes.
    pub fn abort(&self) {
        sys::reset_on_close(&self.fd());
    }

    /// Bytes that the peer has taken so far, as its kernel says: none of those that still wait here to be sent. None: no
    /// TCP socket. One system call.
    pub fn acknowledged(&self) -> Option<u64> {
        sys::acknowledged(&self.fd())
    }

    /// Finds out within two minutes that a silent peer is gone: asks after a minute, then every ten seconds, six times.
    pub fn keep_alive(&self) -> io::Result<()> {
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(6);
        SockRef::from(&self.fd()).set_tcp_keepalive(&keepalive)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(&self.fd()).local_addr().map(|address| sys::address_of(&address))
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        SockRef::from(&self.fd()).peer_addr().map(|address| sys::address_of(&address))
    }

    /// Sends what is left of `bytes` by direct calls.
    fn poll_send_rest(&self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = bytes.get(*sent..) {
            match self.poll_send(cx, rest) {
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            SocketKind::Ring(socket) => socket.fd(),
            SocketKind::Epoll(socket) => socket.fd().as_fd(),
        }
    }
}

impl Future for SendVector<'_> {
    type Output = (io::Result<()>, Vec<u8>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let send = &mut *self;
        let result = match &send.socket.0 {
            SocketKind::Ring(socket) => {
                let polled = socket.poll_send_vector(cx, &mut send.buffer, &mut send.progress.is_started);
                std::task::ready!(polled)
            }
            SocketKind::Epoll(_) => {
                std::task::ready!(send.socket.poll_send_rest(cx, &send.buffer, &mut send.progress.sent))
            }
        };
        Poll::Ready((result, std::mem::take(&mut send.buffer)))
    }
}

impl Future for SendChunk<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let send = &mut *self;
        match &send.socket.0 {
            SocketKind::Ring(socket) => socket.poll_send_chunk(cx, &mut send.chunk, &mut send.progress.is_started),
            SocketKind::Epoll(_) => send.socket.poll_send_rest(cx, &send.chunk, &mut send.progress.sent),
        }
    }
}

#[cfg(test)]
mod tests;
