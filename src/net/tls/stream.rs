//! A TLS session over a socket, with the contract of `Socket`: ordered, cancel-safe
//! receives, one send at a time. A dropped send may have sent half a record: then only abort or drop make sense.

use super::session::{Session, broken, sealed_bytes_max};
use super::{TlsInfo, Version};
use crate::net::driver::{Chunk, Socket};
use crate::net::pool::{self, Pooled};
use rustls::HandshakeKind;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

/// Plaintext encrypted at a time.
const BATCH_BYTES: usize = 64 * 1024;

/// Up to this a send is one vector in one operation; more goes through body buffers and direct calls.
const SMALL_BYTES: usize = 16 * 1024;

/// One TLS connection's bytes.
pub struct TlsStream {
    socket: Socket,
    session: RefCell<Session>,
    /// Decrypted and not yet read.
    unread: RefCell<Pooled>,
    /// A send is under way: it takes the control bytes along.
    is_sending: Cell<bool>,
}

impl TlsStream {
    pub(super) fn new(socket: Socket, session: Session) -> TlsStream {
        TlsStream {
            socket,
            session: RefCell::new(session),
            unread: RefCell::new(Pooled::default()),
            is_sending: Cell::new(false),
        }
    }

    pub(in crate::net) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Pooled>> {
        loop {
            let unread = self.unread.take();
            if !unread.is_empty() {
                return Poll::Ready(Ok(unread));
            }
            if let Some(end) = self.ended() {
                return Poll::Ready(end.map(|()| Pooled::default()));
            }
            self.poll_flush(cx)?;
            match self.socket.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(chunk) => self.take_in(chunk?)?,
            }
        }
    }

    pub(in crate::net) fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let count = self.copy_unread(buffer);
            if count > 0 || buffer.is_empty() {
                return Poll::Ready(Ok(count));
            }
            if let Some(end) = self.ended() {
                return Poll::Ready(end.map(|()| 0));
            }
            self.poll_flush(cx)?;
            let mut body = pool::body();
            let start = self.session.borrow().partial_bytes();
            let room = body.get_mut(start..).unwrap_or(&mut []);
            let received = match self.socket.poll_recv_into(cx, room) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(received) => received?,
            };
            if received == 0 {
                return Poll::Ready(Err(truncated()));
            }
            let ciphertext = body.get_mut(..start + received).unwrap_or(&mut []);
            let count = self.open_into(ciphertext, buffer)?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Encrypts and sends all of `buffer`, then gives it back.
    pub(in crate::net) async fn send(&self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let result = self.send_all(&buffer).await;
        (result, buffer)
    }

    /// Encrypts and sends all of `bytes`.
    pub(in crate::net) async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        let sending = Sending::new(self);
        if bytes.len() <= SMALL_BYTES {
            self.send_small(bytes).await?;
        } else {
            for piece in bytes.chunks(BATCH_BYTES) {
                self.send_batch(piece).await?;
            }
        }
        drop(sending);
        self.send_control().await
    }

    /// close_notify, then FIN. Errors mean that the peer is gone already.
    pub(in crate::net) async fn shutdown_write(&self) {
        let closed = self.session.borrow_mut().close();
        if closed.is_ok() {
            let sending = Sending::new(self);
            let _ = self.send_control().await;
            drop(sending);
        }
        self.socket.shutdown_write();
    }

    pub(in crate::net) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Receives once and lets the session work on it: for handshakes.
    pub(super) async fn step(&self) -> io::Result<()> {
        let chunk = self.socket.recv().await?;
        self.take_in(chunk)
    }

    /// Gives the session its first look: a client then has its hello to send.
    pub(super) fn start(&self) -> io::Result<()> {
        self.session.borrow_mut().open(&mut [], |_| {}).map_err(broken)
    }

    /// Sends what TLS itself has to say.
    pub(super) async fn send_control(&self) -> io::Result<()> {
        loop {
            let control = self.session.borrow_mut().take_control();
            if control.is_empty() {
                return Ok(());
            }
            let (result, control) = self.socket.send(control).await;
            pool::recycle(control);
            result?;
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.session.borrow().facts().is_handshaking()
    }

    /// The facts of a finished handshake.
    pub(super) fn info(&self, sni: Option<String>) -> TlsInfo {
        let session = self.session.borrow();
        let facts = session.facts();
        TlsInfo {
            sni,
            version: Version::of(facts.protocol_version()),
            cipher: facts.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            resumed: facts.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: facts.alpn_protocol().map(<[u8]>::to_vec),
        }
    }

    /// Ciphertext from a chunk; plaintext goes to `unread`, which is empty.
    pub(super) fn take_in(&self, mut chunk: Chunk) -> io::Result<()> {
        if chunk.is_empty() {
            return Err(truncated());
        }
        let mut plain = pool::vector();
        let result = self.session.borrow_mut().open(chunk.bytes_mut(), |bytes| plain.extend_from_slice(bytes));
        self.unread.replace(Pooled::new(plain));
        self.forgive(result)
    }

    /// Decrypts straight into the reader's buffer; the overflow goes to `unread`, which is empty.
    fn open_into(&self, ciphertext: &mut [u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        let mut overflow = Vec::new();
        let result = self.session.borrow_mut().open_with_partial(ciphertext, |bytes| {
            let part = bytes.len().min(buffer.len() - count);
            let (now, later) = bytes.split_at(part);
            if let Some(room) = buffer.get_mut(count..count + part) {
                room.copy_from_slice(now);
            }
            count += part;
            if !later.is_empty() {
                if overflow.capacity() == 0 {
                    overflow = pool::vector();
                }
                overflow.extend_from_slice(later);
            }
        });
        self.unread.replace(Pooled::new(overflow));
        if count > 0 {
            // A failure behind good bytes surfaces on the next call.
            return Ok(count);
        }
        self.forgive(result).map(|()| 0)
    }

    /// A failure behind good bytes surfaces after they were read.
    fn forgive(&self, result: Result<(), rustls::Error>) -> io::Result<()> {
        if self.unread.borrow().is_empty() { result.map_err(broken) } else { Ok(()) }
    }

    fn copy_unread(&self, buffer: &mut [u8]) -> usize {
        let mut unread = self.unread.borrow_mut();
        let count = unread.len().min(buffer.len());
        if let (Some(room), Some(bytes)) = (buffer.get_mut(..count), unread.get(..count)) {
            room.copy_from_slice(bytes);
        }
        unread.advance(count);
        if unread.is_empty() {
            *unread = Pooled::default();
        }
        count
    }

    fn ended(&self) -> Option<io::Result<()>> {
        let session = self.session.borrow();
        if let Some(error) = session.failure() {
            return Some(Err(broken(error.clone())));
        }
        session.is_finished().then_some(Ok(()))
    }

    /// Before a receive waits: sends what TLS itself has to say, unless a send will take it along. What the socket
    /// does not take now waits for the next call.
    fn poll_flush(&self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_sending.get() || !self.session.borrow().has_control() {
            return Ok(());
        }
        let mut control = self.session.borrow_mut().take_control();
        while !control.is_empty() {
            match self.socket.poll_send(cx, &control) {
                Poll::Ready(Ok(count)) => drop(control.drain(..count.min(control.len()))),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.session.borrow_mut().return_control(control);
                    return Ok(());
                }
            }
        }
        pool::recycle(control);
        Ok(())
    }

    /// Control bytes and one or two records in one vector and one operation.
    async fn send_small(&self, bytes: &[u8]) -> io::Result<()> {
        let out = self.seal_after_control(bytes)?;
        if out.is_empty() {
            return Ok(());
        }
        let (result, out) = self.socket.send(out).await;
        pool::recycle(out);
        result
    }

    fn seal_after_control(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut session = self.session.borrow_mut();
        let mut out = session.take_control();
        if out.capacity() == 0 {
            out = pool::vector();
        }
        let start = out.len();
        out.resize(start + sealed_bytes_max(bytes.len()), 0);
        let sealed = session.seal(bytes, out.get_mut(start..).unwrap_or(&mut [])).map_err(broken)?;
        out.truncate(start + sealed);
        if session.has_control() {
            // Words of TLS itself that sealing brought to light were encrypted before these records.
            out.splice(start..start, session.take_control());
        }
        Ok(out)
    }

    /// Up to 64 KiB as full records from a body buffer.
    async fn send_batch(&self, piece: &[u8]) -> io::Result<()> {
        let mut body = pool::body();
        let (sealed, before) = {
            let mut session = self.session.borrow_mut();
            let sealed = session.seal(piece, body.with_slack()).map_err(broken)?;
            // Encrypted before these records, so sent before them; what comes to light later goes after them.
            (sealed, session.take_control())
        };
        let (result, before) = self.socket.send(before).await;
        pool::recycle(before);
        result?;
        let mut rest = body.with_slack().get(..sealed).unwrap_or(&[]);
        while !rest.is_empty() {
            let sent = poll_fn(|cx| self.socket.poll_send(cx, rest)).await?;
            rest = rest.get(sent..).unwrap_or(&[]);
        }
        Ok(())
    }
}

/// Marks a send under way, also when it is dropped.
struct Sending<'a>(&'a TlsStream);

impl<'a> Sending<'a> {
    fn new(stream: &'a TlsStream) -> Sending<'a> {
        stream.is_sending.set(true);
        Sending(stream)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.is_sending.set(false);
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection without close_notify")
}
