//! Pieces of bodies: receiving them into the core's large buffers, framing them for the other side.

use crate::net::driver::breathe;
use crate::net::pool::{self, BODY_BYTES, BodyBuffer};
use crate::proto::http1::emit;
use crate::proto::http1::exchange::Framing;
use std::future::poll_fn;
use std::io;
use std::ops::Deref;
use std::task::{Context, Poll};

/// Received body bytes; the buffer returns to the pool on drop.
pub struct Piece {
    buffer: BodyBuffer,
    bytes: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(..self.bytes).unwrap_or_default()
    }
}

/// The next bytes that `poll` receives into a buffer, at most `bytes_max`; empty at the end of the stream. Waits
/// without a buffer.
pub async fn receive(
    mut poll: impl FnMut(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>>,
    bytes_max: u64,
) -> io::Result<Piece> {
    let room = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(BODY_BYTES);
    poll_fn(|cx| {
        let mut buffer = pool::body();
        match poll(cx, buffer.get_mut(..room).unwrap_or_default()) {
            Poll::Ready(Ok(bytes)) => Poll::Ready(Ok(Piece { buffer, bytes })),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Keeps a transfer between two fast sockets from holding its core: after [`Turn::PIECES`] pieces others have a turn.
#[derive(Default)]
pub struct Turn(u32);

impl Turn {
    /// 256 KiB copied or 1 MiB spliced, 100 to 200 µs.
    const PIECES: u32 = 4;

    /// A piece has passed.
    pub async fn step(&mut self) {
        self.0 += 1;
        if self.0 >= Turn::PIECES {
            self.0 = 0;
            breathe().await;
        }
    }
}

/// Appends `data` as it is framed for the receiver. An empty piece adds nothing: an empty chunk would end the body.
pub fn append(out: &mut Vec<u8>, data: &[u8], framing: Framing) {
    if data.is_empty() {
        return;
    }
    if framing == Framing::Chunked {
        out.extend_from_slice(&emit::chunk_head(data.len()));
        out.extend_from_slice(data);
        out.extend_from_slice(emit::CHUNK_END);
    } else {
        out.extend_from_slice(data);
    }
}
