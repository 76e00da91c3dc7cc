//! Plain, TLS and tunnelled bytes as one type, so that `serve` never asks which it is.

mod far;

use crate::net::driver::{Chunk, SendChunk, SendVector, Socket};
use crate::net::pool::Pooled;
use crate::net::tls::TlsStream;
pub use far::{Far, FarStream};
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

/// One connection's bytes. Same contract as [`Socket`]: ordered, cancel safe receives, one send at a time.
pub enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
    /// To something that this core has no socket to.
    Far(Box<FarStream>),
}

/// Received plaintext.
pub enum Bytes {
    Chunk(Chunk),
    /// Decrypted; the vector comes from the core's pool and returns on drop.
    Owned(Pooled),
}

impl Stream {
    /// Empty is a clean end of stream (FIN, or close_notify for TLS; a TLS FIN without it is `UnexpectedEof`).
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        match self {
            Stream::Plain(socket) => socket.poll_recv(cx).map_ok(Bytes::Chunk),
            Stream::Tls(stream) => stream.poll_recv(cx).map_ok(Bytes::Owned),
            Stream::Far(stream) => stream.poll_recv(cx).map_ok(Bytes::Owned),
        }
    }

    pub async fn recv(&self) -> io::Result<Bytes> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Bulk receive; 0 is a clean end of stream.
    pub fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(socket) => socket.poll_recv_into(cx, buffer),
            Stream::Tls(stream) => stream.poll_recv_into(cx, buffer),
            Stream::Far(stream) => stream.poll_recv_into(cx, buffer),
        }
    }

    pub async fn recv_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_recv_into(cx, buffer)).await
    }

    /// Sends all of `buffer`, then gives it back.
    pub fn send(&self, buffer: Vec<u8>) -> Sending<'_, SendVector<'_>> {
        match self {
            Stream::Plain(socket) => Sending::Plain { future: socket.send(buffer) },
            Stream::Tls(stream) => Sending::Boxed { future: Box::pin(stream.send(buffer)) },
            Stream::Far(stream) => Sending::Boxed { future: Box::pin(stream.send(buffer)) },
        }
    }

    /// Sends what was received elsewhere, without a copy where the buffers allow it.
    pub fn send_bytes(&self, bytes: Bytes) -> Sending<'_, SendChunk<'_>> {
        match (self, bytes) {
            (Stream::Plain(socket), Bytes::Chunk(chunk)) => Sending::Plain { future: socket.send_chunk(chunk) },
            (Stream::Far(stream), bytes) => Sending::Boxed { future: Box::pin(stream.send_bytes(bytes)) },
            (stream, bytes) => {
                let send = async move { stream.send_all(&bytes).await };
                Sending::Boxed { future: Box::pin(send) }
            }
        }
    }

    /// All of `bytes`, borrowed: for body pieces in a pool buffer the caller keeps.
    pub async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let sent = poll_fn(|cx| socket.poll_send(cx, rest)).await?;
                    rest = rest.get(sent..).unwrap_or(&[]);
                }
                Ok(())
            }
            Stream::Tls(stream) => Box::pin(stream.send_all(bytes)).await,
            Stream::Far(stream) => stream.send_all(bytes).await,
        }
    }

    /// FIN, after close_notify for TLS. What is far away is told nothing: it would take it for the end of both directions.
    pub async fn shutdown_write(&self) {
        match self {
            Stream::Plain(socket) => socket.shutdown_write(),
            Stream::Tls(stream) => Box::pin(stream.shutdown_write()).await,
            Stream::Far(_) => {}
        }
    }

    /// RST instead of FIN when the stream is dropped.
    pub fn abort(&self) {
        if let Some(socket) = self.socket() {
            socket.abort();
        }
    }

    /// The socket underneath, for its addresses; there is none to what is far away.
    pub fn socket(&self) -> Option<&Socket> {
        match self {
            Stream::Plain(socket) => Some(socket),
            Stream::Tls(stream) => Some(stream.socket()),
            Stream::Far(_) => None,
        }
    }
}

pin_project! {
    /// A send of a stream. TLS is boxed: one small allocation beside the encryption, and the task of a plain
    /// connection stays small.
    #[project = SendingProjection]
    pub enum Sending<'a, F: Future> {
        Plain {
            #[pin]
            future: F,
        },
        Boxed {
            future: Pin<Box<dyn Future<Output = F::Output> + 'a>>,
        },
    }
}

impl<F: Future> Future for Sending<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            SendingProjection::Plain { future } => future.poll(cx),
            SendingProjection::Boxed { future } => future.as_mut().poll(cx),
        }
    }
}

impl Bytes {
    /// Drops the first `n` bytes; `n` larger than the rest leaves it empty.
    pub fn advance(&mut self, n: usize) {
        match self {
            Bytes::Chunk(chunk) => chunk.advance(n),
            Bytes::Owned(bytes) => bytes.advance(n),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Chunk(chunk) => chunk,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
