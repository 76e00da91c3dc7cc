//! The driver on edge-triggered epoll: readiness bits per socket, direct non-blocking calls. It serves where io_uring
//! is forbidden and is the oracle the ring is tested against.

use super::bell::Bell;
use super::buffers::{Chunk, HeapPool};
use super::park::Drowsiness;
use super::pipe::Pipe;
use super::slab::{Key, Slab};
use super::{Usage, sys};
use crate::net::clock::{self, Timer};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll as Interest, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::SockRef;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Events taken from the kernel by one call.
const BATCH: usize = 256;

/// What the kernel says when the bell rings; no key, for generations are shorter.
const BELL: u64 = u64::MAX;

pub(super) struct Epoll {
    interest: Interest,
    ready: RefCell<Slab<Readiness>>,
    events: RefCell<Vec<EpollEvent>>,
    pool: Rc<HeapPool>,
    bell: Arc<Bell>,
}

/// What is known of one descriptor since its last edge.
#[derive(Default)]
struct Readiness {
    is_readable: bool,
    is_writable: bool,
    /// The peer will send no more: a short read is then no sign of an empty socket.
    is_finishing: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Epoll {
    pub(super) fn start() -> io::Result<Rc<Epoll>> {
        let interest = Interest::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = Bell::hang()?;
        interest.add(bell.fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, BELL))?;
        let driver = Rc::new(Epoll {
            interest,
            ready: RefCell::new(Slab::new()),
            events: RefCell::new(vec![EpollEvent::empty(); BATCH]),
            pool: HeapPool::new(),
            bell,
        });
        glommio::spawn_local(run(driver.clone())).detach();
        Ok(driver)
    }

    pub(super) fn usage(&self) -> Usage {
        let ready = self.ready.borrow().len();
        Usage { sockets: ready, buffers_out: self.pool.out(), operations: 0, starved: 0 }
    }

    pub(super) fn listen(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Listener> {
        SockRef::from(&socket).set_nonblocking(true)?;
        let handle = Handle::new(self, socket, Readiness::default())?;
        Ok(Listener { handle, is_stopped: Cell::new(false) })
    }

    pub(super) fn adopt(self: &Rc<Self>, socket: OwnedFd) -> io::Result<Socket> {
        // Ready until proven otherwise saves the first event.
        let assumed = Readiness { is_readable: true, is_writable: true, ..Readiness::default() };
        Ok(Socket { handle: Handle::new(self, socket, assumed)? })
    }

    pub(super) async fn connect(
        self: &Rc<Self>,
        to: SocketAddr,
        source: Option<IpAddr>,
        timeout: Duration,
    ) -> io::Result<Socket> {
        let socket = sys::outgoing(to, source)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let socket = Socket { handle: Handle::new(self, socket.into(), Readiness::default())? };
        let timer = Timer::new();
        timer.arm(timeout);
        match timer.bound(poll_fn(|cx| socket.poll_connected(cx))).await {
            Ok(result) => result.map(|()| socket),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Takes the kernel's events; answers whether a task was woken.
    fn turn(&self, mut timeout: EpollTimeout) -> io::Result<bool> {
        let mut is_busy = false;
        loop {
            let mut events = self.events.borrow_mut();
            let count = match self.interest.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => {
                    timeout = EpollTimeout::ZERO;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(count) {
                is_busy |= self.note(*event);
            }
            if count < BATCH {
                return Ok(is_busy);
            }
            timeout = EpollTimeout::ZERO;
        }
    }

    fn note(&self, event: EpollEvent) -> bool {
        if event.data() == BELL {
            self.bell.answer();
            return true;
        }
        let flags = event.events();
        let mut ready = self.ready.borrow_mut();
        let Some(entry) = ready.get(key_of(event.data())) else { return false };
        let is_over = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let (mut reader, mut writer) = (None, None);
        if is_over || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP) {
            entry.is_readable = true;
            entry.is_finishing |= is_over || flags.contains(EpollFlags::EPOLLRDHUP);
            reader = entry.reader.take();
        }
        if is_over || flags.contains(EpollFlags::EPOLLOUT) {
            entry.is_writable = true;
            writer = entry.writer.take();
        }
        drop(ready);
        let is_woken = reader.is_some() || writer.is_some();
        reader.into_iter().chain(writer).for_each(Waker::wake);
        is_woken
    }
}

/// The loop: lives as long as its executor.
async fn run(driver: Rc<Epoll>) {
    let mut drowsy = Drowsiness::default();
    let mut wait = EpollTimeout::ZERO;
    loop {
        let turn = driver.turn(wait);
        wait = EpollTimeout::ZERO;
        clock::refresh();
        if turn.is_ok_and(|is_busy| is_busy) || super::is_awake() {
            drowsy = Drowsiness::default();
        } else if let Some(nap) = drowsy.nap() {
            clock::release();
            wait = EpollTimeout::try_from(nap).unwrap_or(EpollTimeout::ZERO);
            continue;
        }
        glommio::executor().yield_now().await;
    }
}

/// A registered descriptor. Closing it ends the registration.
struct Handle {
    driver: Rc<Epoll>,
    key: Key,
    fd: OwnedFd,
}

impl Handle {
    fn new(driver: &Rc<Epoll>, fd: OwnedFd, readiness: Readiness) -> io::Result<Handle> {
        let key = driver.ready.borrow_mut().insert(readiness);
        let handle = Handle { driver: driver.clone(), key, fd };
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        driver.interest.add(&handle.fd, EpollEvent::new(flags, word_of(key)))?;
        Ok(handle)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Readiness) -> T) -> Option<T> {
        self.driver.ready.borrow_mut().get(self.key).map(look)
    }

    fn is_readable(&self) -> bool {
        self.with(|entry| entry.is_readable).unwrap_or(false)
    }

    fn is_writable(&self) -> bool {
        self.with(|entry| entry.is_writable).unwrap_or(false)
    }

    /// A read got `count` of `room` bytes. Less than asked for means that the socket is empty and the next byte
    /// makes an edge, unless a FIN is already behind these bytes.
    fn note_read(&self, count: usize, room: usize) {
        if count > 0 && count < room {
            self.with(|entry| entry.is_readable = entry.is_finishing);
        }
    }

    fn wait_readable<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let old = self.with(|entry| {
            entry.is_readable = false;
            exchange(&mut entry.reader, cx)
        });
        drop(old);
        Poll::Pending
    }

    fn wait_writable<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let old = self.with(|entry| {
            entry.is_writable = false;
            exchange(&mut entry.writer, cx)
        });
        drop(old);
        Poll::Pending
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // By hand, for a duplicate of the descriptor elsewhere would keep the registration alive.
        let _ = self.driver.interest.delete(&self.fd);
        let entry = self.driver.ready.borrow_mut().remove(self.key);
        drop(entry);
    }
}

pub(super) struct Listener {
    handle: Handle,
    is_stopped: Cell<bool>,
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Option<(Socket, SocketAddr)>>> {
        match sys::accept(&self.handle.fd) {
            Ok(Some((socket, peer))) => {
                // The peer may be gone already; the first receive will say so.
                let _ = socket.set_tcp_nodelay(true);
                Poll::Ready(self.handle.driver.adopt(socket.into()).map(|socket| Some((socket, peer))))
            }
            Ok(None) if self.is_stopped.get() => Poll::Ready(Ok(None)),
            Ok(None) => self.handle.wait_readable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn stop(&self) {
        self.is_stopped.set(true);
        let waker = self.handle.with(|entry| entry.reader.take()).flatten();
        waker.into_iter().for_each(Waker::wake);
    }
}

pub(super) struct Socket {
    handle: Handle,
}

impl Socket {
    pub(super) fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<Chunk>> {
        if !self.handle.is_readable() {
            return self.handle.wait_readable(cx);
        }
        let pool = &self.handle.driver.pool;
        let mut buffer = pool.take();
        let result = sys::receive(&self.handle.fd, &mut buffer);
        if let Ok(Some(count @ 1..)) = result {
            self.handle.note_read(count, buffer.len());
            return Poll::Ready(Ok(Chunk::heap(buffer, count, pool)));
        }
        pool.give(buffer);
        match result {
            Ok(Some(_)) => Poll::Ready(Ok(Chunk::end_of_stream())),
            Ok(None) => self.handle.wait_readable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_recv_into(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.handle.is_readable() {
            return self.handle.wait_readable(cx);
        }
        match sys::receive(&self.handle.fd, buffer) {
            Ok(Some(count)) => {
                self.handle.note_read(count, buffer.len());
                Poll::Ready(Ok(count))
            }
            Ok(None) => self.handle.wait_readable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.handle.is_writable() {
            return self.handle.wait_writable(cx);
        }
        match sys::transmit(&self.handle.fd, bytes) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => self.handle.wait_writable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_fill(&self, cx: &Context<'_>, pipe: &mut Pipe, bytes_max: usize) -> Poll<io::Result<usize>> {
        if !self.handle.is_readable() {
            return self.handle.wait_readable(cx);
        }
        match pipe.fill(&self.handle.fd, bytes_max) {
            // Less than asked for says nothing: the pipe may be what is full.
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => self.handle.wait_readable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn poll_drain(&self, cx: &Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        if !self.handle.is_writable() {
            return self.handle.wait_writable(cx);
        }
        match pipe.drain(&self.handle.fd) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => self.handle.wait_writable(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.handle.is_writable() {
            return self.handle.wait_writable(cx);
        }
        match SockRef::from(&self.handle.fd).take_error() {
            Ok(None) => Poll::Ready(Ok(())),
            Ok(Some(error)) | Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.handle.fd
    }
}

/// Puts the context's waker in `slot` unless it is there; the old one is the caller's to drop outside any borrow.
fn exchange(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    slot.replace(cx.waker().clone())
}

fn word_of(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.index)
}

fn key_of(word: u64) -> Key {
    Key { index: word as u32, generation: (word >> 32) as u32 }
}
