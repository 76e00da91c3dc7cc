//! Plain, TLS (and later tunnelled) bytes as one type, so that `serve` never asks which it is.

use crate::net::driver::{Chunk, Socket};
use std::io;
use std::task::{Context, Poll};

/// One connection's bytes. Same contract as [`Socket`]: ordered, cancel safe receives, one send at a time.
pub enum Stream {
    Plain(Socket),
}

/// Received plaintext.
pub enum Bytes {
    Chunk(Chunk),
    /// Decrypted; the vector comes from the core's pool and returns on drop.
    Owned(Vec<u8>),
}

impl Stream {
    /// Empty is a clean end of stream (FIN, or close_notify for TLS; a TLS FIN without it is `UnexpectedEof`).
    pub fn poll_recv(&self, _cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    pub async fn recv(&self) -> io::Result<Bytes> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    pub fn poll_recv_into(&self, _cx: &mut Context<'_>, _buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    pub async fn send(&self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        (Ok(()), buffer)
    }

    pub async fn send_bytes(&self, _bytes: Bytes) -> io::Result<()> {
        Ok(())
    }

    /// All of `bytes`, borrowed: for body pieces in a pool buffer the caller keeps.
    pub async fn send_all(&self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// FIN, after close_notify for TLS.
    pub async fn shutdown_write(&self) {}

    pub fn abort(&self) {}
}

impl Bytes {
    pub fn advance(&mut self, _n: usize) {}
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Chunk(chunk) => chunk,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
