//! Listeners of the ring: one multishot accept each, its results in a bounded queue.

use super::super::slab::Key;
use super::super::sys;
use super::{Completion, Op, Ring, Socket, exchange, fd_of, word_of};
use io_uring::opcode;
use io_uring::types::CancelBuilder;
use socket2::SockRef;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Accepted connections waiting for the caller before accepting pauses.
const QUEUE_MAX: usize = 64;

pub(super) struct State {
    fd: OwnedFd,
    is_armed: bool,
    is_cancelling: bool,
    is_stopped: bool,
    is_closing: bool,
    accepted: VecDeque<OwnedFd>,
    failure: Option<i32>,
    waker: Option<Waker>,
}

pub(in super::super) struct Listener {
    ring: Rc<Ring>,
    key: Key,
}

impl Listener {
    pub(in super::super) fn new(ring: &Rc<Ring>, fd: OwnedFd) -> io::Result<Listener> {
        let socket = SockRef::from(&fd);
        // A non-blocking file makes ring operations fail with EAGAIN instead of waiting.
        socket.set_nonblocking(false)?;
        // Accepted TCP sockets inherit it, which saves a call for each. Unix listeners have no such option.
        let _ = socket.set_tcp_nodelay(true);
        let state = State {
            fd,
            is_armed: false,
            is_cancelling: false,
            is_stopped: false,
            is_closing: false,
            accepted: VecDeque::new(),
            failure: None,
            waker: None,
        };
        let key = ring.listeners.borrow_mut().insert(state);
        Ok(Listener { ring: ring.clone(), key })
    }

    pub(in super::super) async fn accept(&self) -> io::Result<Option<(Socket, SocketAddr)>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<Option<(Socket, SocketAddr)>>> {
        let mut listeners = self.ring.listeners.borrow_mut();
        let Some(state) = listeners.get(self.key) else { return Poll::Ready(Ok(None)) };
        while let Some(fd) = state.accepted.pop_front() {
            // Not connected any more: the peer went away in the queue.
            let Ok(peer) = SockRef::from(&fd).peer_addr() else { continue };
            return Poll::Ready(Ok(Some((Socket::new(&self.ring, fd), sys::address_of(&peer)))));
        }
        if let Some(errno) = state.failure.take() {
            return Poll::Ready(Err(io::Error::from_raw_os_error(errno)));
        }
        if state.is_stopped && !state.is_armed {
            return Poll::Ready(self.accept_rest(state));
        }
        if !state.is_armed {
            self.ring.arm_accept(self.key, state);
        }
        let old = exchange(&mut state.waker, cx);
        drop(listeners);
        drop(old);
        Poll::Pending
    }

    /// After a stop: what the kernel had completed for us when accepting ended.
    fn accept_rest(&self, state: &State) -> io::Result<Option<(Socket, SocketAddr)>> {
        SockRef::from(&state.fd).set_nonblocking(true)?;
        let accepted = sys::accept(&state.fd)?;
        Ok(accepted.map(|(socket, peer)| (Socket::new(&self.ring, socket.into()), peer)))
    }

    pub(in super::super) fn stop(&self) {
        let mut listeners = self.ring.listeners.borrow_mut();
        let Some(state) = listeners.get(self.key) else { return };
        state.is_stopped = true;
        self.ring.cancel_accept(self.key, state);
        let waker = state.waker.take();
        drop(listeners);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.ring.listeners.borrow_mut();
        let Some(state) = listeners.get(self.key) else { return };
        state.is_closing = true;
        let orphans = std::mem::take(&mut state.accepted);
        let waker = state.waker.take();
        self.ring.cancel_accept(self.key, state);
        let closed = if state.is_armed { None } else { listeners.remove(self.key) };
        drop(listeners);
        drop((orphans, waker, closed));
    }
}

impl Ring {
    fn arm_accept(&self, key: Key, state: &mut State) {
        state.is_armed = true;
        let entry = opcode::AcceptMulti::new(fd_of(&state.fd)).flags(libc::SOCK_CLOEXEC).build();
        self.submit(key, Op::Accept, entry);
    }

    fn cancel_accept(&self, key: Key, state: &mut State) {
        if state.is_armed && !state.is_cancelling {
            state.is_cancelling = true;
            self.cancel(key, Op::CancelAccept, CancelBuilder::user_data(word_of(key, Op::Accept)));
        }
    }

    pub(super) fn accepted(&self, key: Key, completion: Completion) {
        let fd = completion.outcome().map(|_| sys::accepted(completion.result));
        let mut listeners = self.listeners.borrow_mut();
        let Some(state) = listeners.get(key) else { return };
        match fd {
            // An orphan of a closed listener is dropped below, outside the borrow.
            Ok(fd) => state.accepted.push_back(fd),
            Err(libc::ECANCELED) => {}
            Err(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                if sys::is_exhaustion(&error) || !sys::is_transient_accept(&error) {
                    state.failure = Some(errno);
                }
            }
        }
        if completion.is_final() {
            state.is_armed = false;
            state.is_cancelling = false;
        } else if state.accepted.len() >= QUEUE_MAX {
            self.cancel_accept(key, state);
        }
        let waker = state.waker.take();
        let orphans = if state.is_closing { std::mem::take(&mut state.accepted) } else { VecDeque::new() };
        let closed = if state.is_closing && !state.is_armed { listeners.remove(key) } else { None };
        drop(listeners);
        drop((orphans, closed));
        waker.into_iter().for_each(Waker::wake);
    }

    /// If the accept is still armed the cancel missed it (it was completing): try again while it is wanted.
    pub(super) fn accept_cancelled(&self, key: Key) {
        let mut listeners = self.listeners.borrow_mut();
        let Some(state) = listeners.get(key) else { return };
        if state.is_armed && state.is_cancelling {
            state.is_cancelling = false;
            if state.is_closing || state.is_stopped {
                self.cancel_accept(key, state);
            }
        }
    }
}
