//! Sockets of the ring: multishot receive into provided buffers, sends that own their bytes, and direct calls with a
//! one-shot poll for bulk bodies.

use super::super::arena::{self, Queue};
use super::super::buffers::{BUFFER_BYTES, Chunk};
use super::super::pipe::Pipe;
use super::super::slab::Key;
use super::super::sys;
use super::{Completion, Op, Ring, exchange, fd_of, word_of};
use crate::net::clock::Timer;
use io_uring::types::CancelBuilder;
use io_uring::{cqueue, opcode, squeue};
use socket2::{SockAddr, SockRef};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Buffers a socket may hold unread; then its multishot receive is cancelled until the reader caught up.
const QUEUE_MAX: usize = 4;

/// Bytes of one send entry; the kernel's own limit is a little higher.
const SEND_MAX: usize = 1 << 30;

pub(super) struct State {
    fd: OwnedFd,
    /// [`Op`] bits whose final completion is still to come.
    in_flight: u8,
    /// A cancel of the receive is on its way.
    is_cancelling: bool,
    is_closing: bool,
    /// The stream ended.
    is_finished: bool,
    /// No provided buffer was left: the next receive is a direct one.
    is_starved: bool,
    /// The last direct receive emptied the socket: wait before the next.
    is_drained: bool,
    /// More came at once than a multishot receive should take in: the next ones take one buffer each.
    is_bulk: bool,
    unread: Queue,
    failure: Option<i32>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    sending: Sending,
    /// Bytes of `sending` the kernel has taken.
    sent: usize,
    send_failure: Option<i32>,
}

/// What the kernel reads from until the operation completes.
enum Sending {
    Nothing,
    Vector(Vec<u8>),
    Chunk(Chunk),
    Address(Box<SockAddr>),
}

impl Sending {
    fn bytes(&self) -> &[u8] {
        match self {
            Sending::Vector(bytes) => bytes,
            Sending::Chunk(chunk) => chunk,
            Sending::Nothing | Sending::Address(_) => &[],
        }
    }
}

impl State {
    fn has(&self, op: Op) -> bool {
        self.in_flight & op as u8 != 0
    }
}

pub(in super::super) struct Socket {
    ring: Rc<Ring>,
    key: Key,
    fd: RawFd,
}

impl Socket {
    /// Takes over a descriptor.
    pub(super) fn new(ring: &Rc<Ring>, fd: OwnedFd) -> Socket {
        let raw = fd.as_raw_fd();
        let state = State {
            fd,
            in_flight: 0,
            is_cancelling: false,
            is_closing: false,
            is_finished: false,
            is_starved: false,
            is_drained: false,
            is_bulk: false,
            unread: Queue::default(),
            failure: None,
            reader: None,
            writer: None,
            sending: Sending::Nothing,
            sent: 0,
            send_failure: None,
        };
        let key = ring.sockets.borrow_mut().insert(state);
        Socket { ring: ring.clone(), key, fd: raw }
    }

    pub(in super::super) fn adopt(ring: &Rc<Ring>, fd: OwnedFd) -> io::Result<Socket> {
        SockRef::from(&fd).set_nonblocking(false)?;
        Ok(Socket::new(ring, fd))
    }

    pub(in super::super) async fn connect(
        ring: &Rc<Ring>,
        to: SocketAddr,
        source: Option<IpAddr>,
        timeout: Duration,
    ) -> io::Result<Socket> {
        let socket = Socket::new(ring, sys::outgoing(to, source)?.into());
        socket.with(|state| {
            state.sending = Sending::Address(Box::new(to.into()));
            if let Sending::Address(address) = &state.sending {
                let entry = opcode::Connect::new(fd_of(&state.fd), address.as_ptr().cast(), address.len()).build();
                ring.begin(socket.key, state, Op::Connect, entry);
            }
        });
        let timer = Timer::new();
        timer.arm(timeout);
        match timer.bound(poll_fn(|cx| socket.poll_sent(cx, Op::Connect))).await {
            Ok((result, _)) => result.map(|()| socket),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub(in super::super) fn poll_recv(&self, cx: &Context<'_>) -> Poll<io::Result<Chunk>> {
        let ring = &self.ring;
        let mut sockets = ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return Poll::Ready(Ok(Chunk::end_of_stream())) };
        if let Some(id) = ring.arena.pop(&mut state.unread) {
            return Poll::Ready(Ok(Chunk::provided(id, &ring.arena)));
        }
        if let Some(end) = ended(state) {
            return Poll::Ready(end.map(|()| Chunk::end_of_stream()));
        }
        if !state.has(Op::Receive) {
            let is_worth_a_look = state.is_bulk && !state.is_drained;
            if state.is_starved || is_worth_a_look || ring.arena.is_empty() {
                match ring.receive_directly(state) {
                    Ok(Some(chunk)) => return Poll::Ready(Ok(chunk)),
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if ring.arena.is_empty() {
                ring.await_readable(self.key, state);
            } else {
                ring.arm_receive(self.key, state);
            }
        }
        let old = exchange(&mut state.reader, cx);
        drop(sockets);
        drop(old);
        Poll::Pending
    }

    pub(in super::super) fn poll_recv_into(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let ring = &self.ring;
        let mut sockets = ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return Poll::Ready(Ok(0)) };
        let count = ring.copy_unread(state, buffer);
        if count > 0 || buffer.is_empty() {
            return Poll::Ready(Ok(count));
        }
        if let Some(end) = ended(state) {
            return Poll::Ready(end.map(|()| 0));
        }
        if state.has(Op::Receive) {
            ring.cancel_receive(self.key, state);
        } else if !state.is_drained {
            match sys::receive(&state.fd, buffer) {
                Ok(Some(count)) => {
                    state.is_finished = count == 0;
                    state.is_drained = count < buffer.len();
                    return Poll::Ready(Ok(count));
                }
                Ok(None) => ring.await_readable(self.key, state),
                Err(error) => return Poll::Ready(Err(error)),
            }
        } else {
            ring.await_readable(self.key, state);
        }
        let old = exchange(&mut state.reader, cx);
        drop(sockets);
        drop(old);
        Poll::Pending
    }

    pub(in super::super) fn is_direct(&self) -> bool {
        let mut sockets = self.ring.sockets.borrow_mut();
        sockets.get(self.key).is_some_and(|state| !state.has(Op::Receive) && state.unread.len() == 0)
    }

    pub(in super::super) fn poll_fill(
        &self,
        cx: &Context<'_>,
        pipe: &mut Pipe,
        bytes_max: usize,
    ) -> Poll<io::Result<usize>> {
        let mut sockets = self.ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return Poll::Ready(Ok(0)) };
        if let Some(end) = ended(state) {
            return Poll::Ready(end.map(|()| 0));
        }
        if !state.is_drained {
            match pipe.fill(&state.fd, bytes_max) {
                Ok(Some(count)) => {
                    state.is_finished = count == 0;
                    return Poll::Ready(Ok(count));
                }
                Ok(None) => state.is_drained = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.ring.await_readable(self.key, state);
        let old = exchange(&mut state.reader, cx);
        drop(sockets);
        drop(old);
        Poll::Pending
    }

    /// Takes `buffer` on the first poll and puts it back at the end.
    pub(in super::super) fn poll_send_vector(
        &self,
        cx: &Context<'_>,
        buffer: &mut Vec<u8>,
        is_started: &mut bool,
    ) -> Poll<io::Result<()>> {
        if !*is_started && !buffer.is_empty() {
            if let Err(Sending::Vector(back)) = self.start_send(Sending::Vector(std::mem::take(buffer))) {
                *buffer = back;
                return Poll::Ready(Err(busy()));
            }
            *is_started = true;
        }
        if !*is_started {
            return Poll::Ready(Ok(()));
        }
        self.poll_sent(cx, Op::Send).map(|(result, sending)| {
            if let Sending::Vector(back) = sending {
                *buffer = back;
            }
            result
        })
    }

    /// Takes `chunk` on the first poll.
    pub(in super::super) fn poll_send_chunk(
        &self,
        cx: &Context<'_>,
        chunk: &mut Chunk,
        is_started: &mut bool,
    ) -> Poll<io::Result<()>> {
        if !*is_started && !chunk.is_empty() {
            let chunk = std::mem::replace(chunk, Chunk::end_of_stream());
            if self.start_send(Sending::Chunk(chunk)).is_err() {
                return Poll::Ready(Err(busy()));
            }
            *is_started = true;
        }
        if *is_started { self.poll_sent(cx, Op::Send).map(|(result, _)| result) } else { Poll::Ready(Ok(())) }
    }

    pub(in super::super) fn poll_send(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |fd| sys::transmit(fd, bytes))
    }

    pub(in super::super) fn poll_drain(&self, cx: &Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        self.poll_written(cx, |fd| pipe.drain(fd))
    }

    /// A direct call that sends, or the wait for room.
    fn poll_written(
        &self,
        cx: &Context<'_>,
        write: impl FnOnce(&OwnedFd) -> io::Result<Option<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut sockets = self.ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return Poll::Ready(Err(busy())) };
        if !state.has(Op::AwaitWritable) {
            match write(&state.fd) {
                Ok(Some(count)) => return Poll::Ready(Ok(count)),
                Ok(None) => {
                    let events = libc::POLLOUT as u32;
                    let entry = opcode::PollAdd::new(fd_of(&state.fd), events).build();
                    self.ring.begin(self.key, state, Op::AwaitWritable, entry);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let old = exchange(&mut state.writer, cx);
        drop(sockets);
        drop(old);
        Poll::Pending
    }

    pub(in super::super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the slab entry owns the descriptor and closes it only after this handle is dropped.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Gives `sending` back if an abandoned send still occupies the socket.
    fn start_send(&self, sending: Sending) -> Result<(), Sending> {
        let mut sockets = self.ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key).filter(|state| !state.has(Op::Send)) else { return Err(sending) };
        let abandoned = std::mem::replace(&mut state.sending, sending);
        state.sent = 0;
        state.send_failure = None;
        self.ring.send_rest(self.key, state);
        drop(sockets);
        drop(abandoned);
        Ok(())
    }

    /// Waits for a send or connect and takes back what it owned.
    fn poll_sent(&self, cx: &Context<'_>, op: Op) -> Poll<(io::Result<()>, Sending)> {
        let mut sockets = self.ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return Poll::Ready((Err(busy()), Sending::Nothing)) };
        if state.has(op) {
            let old = exchange(&mut state.writer, cx);
            drop(sockets);
            drop(old);
            return Poll::Pending;
        }
        let result = state.send_failure.take().map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)));
        Poll::Ready((result, std::mem::replace(&mut state.sending, Sending::Nothing)))
    }

    fn with(&self, act: impl FnOnce(&mut State)) {
        if let Some(state) = self.ring.sockets.borrow_mut().get(self.key) {
            act(state);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut sockets = self.ring.sockets.borrow_mut();
        let Some(state) = sockets.get(self.key) else { return };
        state.is_closing = true;
        let wakers = (state.reader.take(), state.writer.take());
        self.ring.give_unread(state);
        let closed = if state.in_flight == 0 {
            sockets.remove(self.key)
        } else {
            self.ring.cancel(self.key, Op::Cancel, CancelBuilder::fd(fd_of(&state.fd)).all());
            None
        };
        drop(sockets);
        drop((wakers, closed));
    }
}

impl Ring {
    fn begin(&self, key: Key, state: &mut State, op: Op, entry: io_uring::squeue::Entry) {
        state.in_flight |= op as u8;
        self.submit(key, op, entry);
    }

    /// The next bytes into a provided buffer, when they come. A multishot receive goes on by itself, which is right for
    /// heads and messages; of a body it would take in half a megabyte before anybody could stop it.
    fn arm_receive(&self, key: Key, state: &mut State) {
        let entry = if state.is_bulk {
            let receive = opcode::Recv::new(fd_of(&state.fd), std::ptr::null_mut(), BUFFER_BYTES as u32);
            receive.buf_group(arena::GROUP).build().flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(fd_of(&state.fd), arena::GROUP).build()
        };
        self.begin(key, state, Op::Receive, entry);
    }

    /// One receive into a heap buffer; none if there is nothing. For when the provided buffers ran out, or bulk passes.
    fn receive_directly(&self, state: &mut State) -> io::Result<Option<Chunk>> {
        state.is_starved = false;
        let mut buffer = self.pool.take();
        let result = sys::receive(&state.fd, &mut buffer);
        state.is_drained = !matches!(result, Ok(Some(count)) if count == buffer.len());
        if let Ok(Some(count @ 1..)) = result {
            state.is_bulk &= count == buffer.len();
            return Ok(Some(Chunk::heap(buffer, count, &self.pool)));
        }
        self.pool.give(buffer);
        match result? {
            Some(_) => {
                state.is_finished = true;
                Ok(Some(Chunk::end_of_stream()))
            }
            None => Ok(None),
        }
    }

    fn await_readable(&self, key: Key, state: &mut State) {
        if !state.has(Op::AwaitReadable) {
            let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
            let entry = opcode::PollAdd::new(fd_of(&state.fd), events).build();
            self.begin(key, state, Op::AwaitReadable, entry);
        }
    }

    fn cancel_receive(&self, key: Key, state: &mut State) {
        if !state.is_cancelling {
            state.is_cancelling = true;
            self.cancel(key, Op::Cancel, CancelBuilder::user_data(word_of(key, Op::Receive)));
        }
    }

    /// Queues the unsent rest of the socket's bytes.
    fn send_rest(&self, key: Key, state: &mut State) {
        let rest = state.sending.bytes().get(state.sent..).unwrap_or(&[]);
        let length = rest.len().min(SEND_MAX) as u32;
        let entry = opcode::Send::new(fd_of(&state.fd), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.begin(key, state, Op::Send, entry);
    }

    fn copy_unread(&self, state: &mut State, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        while let Some(id) = self.arena.peek(&state.unread) {
            let bytes = self.arena.bytes(id);
            let part = bytes.len().min(buffer.len() - count);
            if let (Some(to), Some(from)) = (buffer.get_mut(count..count + part), bytes.get(..part)) {
                to.copy_from_slice(from);
            }
            let is_emptied = part == bytes.len();
            count += part;
            if !is_emptied {
                self.arena.advance(id, part);
                break;
            }
            self.arena.pop(&mut state.unread);
            self.arena.give(id);
        }
        count
    }

    fn give_unread(&self, state: &mut State) {
        while let Some(id) = self.arena.pop(&mut state.unread) {
            self.arena.give(id);
        }
    }

    pub(super) fn received(&self, key: Key, completion: Completion) {
        let provided = cqueue::buffer_select(completion.flags);
        if let Some(id) = provided {
            self.arena.note_filled(id, completion.outcome().unwrap_or(0));
        }
        self.finish(key, Op::Receive, completion, |state| {
            match (completion.outcome(), provided) {
                (Ok(1..), Some(id)) if !state.is_closing => self.arena.push(&mut state.unread, id),
                (outcome, provided) => {
                    if let Some(id) = provided {
                        self.arena.give(id);
                    }
                    match outcome {
                        Ok(0) => state.is_finished = true,
                        Ok(_) | Err(libc::ECANCELED | libc::EINTR) => {}
                        Err(libc::ENOBUFS) => {
                            state.is_starved = true;
                            self.starved.set(self.starved.get() + 1);
                        }
                        Err(errno) => state.failure = Some(errno),
                    }
                }
            }
            if completion.is_final() {
                state.is_cancelling = false;
            } else if state.unread.len() >= QUEUE_MAX {
                state.is_bulk = true;
                self.cancel_receive(key, state);
            }
            if let (true, true, Ok(count)) = (state.is_bulk, completion.is_final(), completion.outcome()) {
                state.is_bulk = count == BUFFER_BYTES;
                state.is_drained = !state.is_bulk;
            }
            state.reader.take()
        });
    }

    pub(super) fn sent(&self, key: Key, completion: Completion) {
        self.finish(key, Op::Send, completion, |state| {
            match completion.outcome() {
                Ok(count) => state.sent += count,
                Err(libc::EINTR) => {}
                Err(errno) => state.send_failure = Some(errno),
            }
            let is_partial = state.send_failure.is_none() && state.sent < state.sending.bytes().len();
            if is_partial && !state.is_closing {
                self.send_rest(key, state);
                return None;
            }
            state.writer.take()
        });
    }

    pub(super) fn connected(&self, key: Key, completion: Completion) {
        self.finish(key, Op::Connect, completion, |state| {
            state.send_failure = completion.outcome().err();
            state.writer.take()
        });
    }

    pub(super) fn became_readable(&self, key: Key) {
        let completion = Completion { word: 0, result: 0, flags: 0 };
        self.finish(key, Op::AwaitReadable, completion, |state| {
            state.is_drained = false;
            // If a chunk is wanted and there are no provided buffers, this is the signal to receive directly.
            state.is_starved = !state.has(Op::Receive);
            state.reader.take()
        });
    }

    pub(super) fn became_writable(&self, key: Key) {
        let completion = Completion { word: 0, result: 0, flags: 0 };
        self.finish(key, Op::AwaitWritable, completion, |state| state.writer.take());
    }

    /// A cancel was answered. One that met its target in the middle of completing missed it.
    pub(super) fn cancelled(&self, key: Key, completion: Completion) {
        let mut sockets = self.sockets.borrow_mut();
        let Some(state) = sockets.get(key) else { return };
        if state.is_closing && state.in_flight != 0 && completion.result <= 0 {
            self.cancel(key, Op::Cancel, CancelBuilder::fd(fd_of(&state.fd)).all());
        } else if completion.result < 0 && state.has(Op::Receive) && state.is_cancelling {
            state.is_cancelling = false;
            let waker = state.reader.take();
            drop(sockets);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Books a completion, lets `act` look at the socket, wakes whom it names and closes the socket after its last.
    fn finish(&self, key: Key, op: Op, completion: Completion, act: impl FnOnce(&mut State) -> Option<Waker>) {
        let mut sockets = self.sockets.borrow_mut();
        let Some(state) = sockets.get(key) else { return };
        if completion.is_final() {
            state.in_flight &= !(op as u8);
        }
        let waker = act(state);
        let closed = if state.is_closing && state.in_flight == 0 { sockets.remove(key) } else { None };
        drop(sockets);
        drop(closed);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// How the stream ended, if it did.
fn ended(state: &State) -> Option<io::Result<()>> {
    if let Some(errno) = state.failure {
        return Some(Err(io::Error::from_raw_os_error(errno)));
    }
    state.is_finished.then_some(Ok(()))
}

/// The caller broke the contract: a send after an abandoned one.
fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "an abandoned send still occupies the socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_socket_is_small() {
        let size = size_of::<State>() + size_of::<Socket>();
        assert!(size <= 224, "{size} bytes");
    }
}
