//! Our streams as the `h2` crate wants its connections: tokio's two traits, no runtime.
//!
//! The frame layer flushes after every large frame; here that is no order to send. Writes are gathered until its owner says
//! that a turn is over ([`Outbox::poll_drain`]) or enough is there, so that the frames of many streams share TLS records
//! and operations. What is received is shown to the owner before the frame layer gets it. At most [`BODY_BYTES`] wait in
//! each direction, beside what is being sent.

use crate::net::pool::{self, BODY_BYTES, BodyBuffer};
use crate::net::stream::{Bytes, Stream};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A receive this large is followed by a bulk receive.
const BULK_BYTES: usize = 8 * 1024;

/// Whose bytes pass. Cheap to clone: every send holds one.
pub trait Wire: Clone + Unpin + 'static {
    fn stream(&self) -> &Stream;

    /// These bytes arrived. `false`: the frame layer gets neither them nor any other.
    fn received(&self, bytes: &[u8]) -> bool;

    /// This many bytes went out.
    fn sent(&self, bytes: usize);
}

pub struct Pipe<W> {
    wire: W,
    inbox: Inbox,
    /// The last receive was large.
    is_bulk: bool,
    outbox: Outbox<W>,
    closing: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// What is to be sent. The pipe's owner keeps a clone.
pub struct Outbox<W> {
    wire: W,
    writes: Rc<RefCell<Writes>>,
}

#[derive(Default)]
struct Writes {
    gathered: Vec<u8>,
    sending: Option<Sending>,
    /// The frame layer has more than is room for.
    is_blocked: bool,
}

type Sending = Pin<Box<dyn Future<Output = (io::Result<()>, Vec<u8>)>>>;

/// Received and not read by the frame layer.
enum Inbox {
    Empty,
    Small(Bytes),
    Bulk {
        buffer: BodyBuffer,
        at: usize,
        end: usize,
    },
    /// The owner wants no more.
    Shut,
}

impl<W: Wire> Pipe<W> {
    pub fn new(wire: W) -> Pipe<W> {
        let outbox = Outbox { wire: wire.clone(), writes: Rc::default() };
        Pipe { wire, inbox: Inbox::Empty, is_bulk: false, outbox, closing: None }
    }

    pub fn outbox(&self) -> Outbox<W> {
        Outbox { wire: self.wire.clone(), writes: self.outbox.writes.clone() }
    }

    /// Fills the inbox; `false` at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let stream = self.wire.stream();
        let (inbox, bytes) = if self.is_bulk {
            let mut buffer = pool::body();
            let end = ready!(stream.poll_recv_into(cx, &mut buffer))?;
            (Inbox::Bulk { buffer, at: 0, end }, end)
        } else {
            let bytes = ready!(stream.poll_recv(cx))?;
            let count = bytes.len();
            (Inbox::Small(bytes), count)
        };
        self.is_bulk = bytes >= BULK_BYTES;
        let is_welcome = self.wire.received(match &inbox {
            Inbox::Small(bytes) => bytes,
            Inbox::Bulk { buffer, end, .. } => buffer.get(..*end).unwrap_or_default(),
            Inbox::Empty | Inbox::Shut => &[],
        });
        self.inbox = if is_welcome { inbox } else { Inbox::Shut };
        Poll::Ready(Ok(bytes > 0))
    }
}

impl<W: Wire> Outbox<W> {
    /// Until everything gathered is sent. To be called when the frame layer has nothing more to write for now.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writes = &mut *self.writes.borrow_mut();
        loop {
            if let Some(sending) = &mut writes.sending {
                let (result, sent) = ready!(sending.as_mut().poll(cx));
                writes.sending = None;
                self.wire.sent(sent.len());
                pool::recycle(sent);
                result?;
            }
            if writes.gathered.is_empty() {
                if std::mem::take(&mut writes.is_blocked) {
                    cx.waker().wake_by_ref();
                }
                return Poll::Ready(Ok(()));
            }
            let gathered = std::mem::take(&mut writes.gathered);
            let wire = self.wire.clone();
            writes.sending = Some(Box::pin(async move { wire.stream().send(gathered).await }));
        }
    }

    /// Takes some of `bytes`; waits while there is enough.
    fn poll_gather(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes.borrow().gathered.len() >= BODY_BYTES && self.poll_drain(cx)?.is_pending() {
            self.writes.borrow_mut().is_blocked = true;
            return Poll::Pending;
        }
        let gathered = &mut self.writes.borrow_mut().gathered;
        if gathered.capacity() == 0 {
            *gathered = pool::vector();
        }
        let count = bytes.len().min(BODY_BYTES - gathered.len());
        gathered.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }
}

impl<W: Wire> AsyncRead for Pipe<W> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pipe = self.get_mut();
        loop {
            let available = match &pipe.inbox {
                Inbox::Small(bytes) => bytes,
                Inbox::Bulk { buffer, at, end } => buffer.get(*at..*end).unwrap_or_default(),
                Inbox::Shut => return Poll::Pending,
                Inbox::Empty => &[],
            };
            if available.is_empty() {
                pipe.inbox = Inbox::Empty;
                if !ready!(pipe.poll_fill(cx))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let count = available.len().min(into.remaining());
            into.put_slice(available.get(..count).unwrap_or_default());
            match &mut pipe.inbox {
                Inbox::Small(bytes) => bytes.advance(count),
                Inbox::Bulk { at, .. } => *at += count,
                Inbox::Empty | Inbox::Shut => {}
            }
            // No buffer while waiting for the next bytes.
            let is_read = match &pipe.inbox {
                Inbox::Small(bytes) => bytes.is_empty(),
                Inbox::Bulk { at, end, .. } => at == end,
                Inbox::Empty | Inbox::Shut => false,
            };
            if is_read {
                pipe.inbox = Inbox::Empty;
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<W: Wire> AsyncWrite for Pipe<W> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.poll_gather(cx, bytes)
    }

    /// See [`Outbox::poll_drain`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends what is left, then FIN after close_notify.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = self.get_mut();
        ready!(pipe.outbox.poll_drain(cx))?;
        let wire = &pipe.wire;
        let closing = pipe.closing.get_or_insert_with(|| {
            let wire = wire.clone();
            Box::pin(async move { wire.stream().shutdown_write().await })
        });
        closing.as_mut().poll(cx).map(Ok)
    }
}
