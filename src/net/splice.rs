//! A body from one plain socket to another that never enters user space.
//!
//! What the kernel received goes into a pipe and from there out again, by reference: the bytes are copied neither in nor
//! out. Anything in the way (TLS, bytes received already, no pipe left, a kernel that will not) means that the caller
//! copies instead.

use crate::net::driver::{Pipe, Socket};
use crate::net::stream::Stream;
use std::io;
use std::task::{Context, Poll, ready};

/// Shorter bodies are not worth the calls.
pub const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// Bytes taken at a time: what the pipe's slots hold as pages, about 50 µs of work.
const TAKEN_BYTES_MAX: u64 = 256 * 1024;

/// One direction between two sockets. While it lives, nothing else is to be received from the one or sent to the other.
pub struct Splice<'a> {
    from: &'a Socket,
    to: &'a Socket,
    /// While bytes are in it.
    pipe: Option<Pipe>,
}

impl<'a> Splice<'a> {
    /// None if these two cannot be spliced now.
    pub fn between(from: &'a Stream, to: &'a Stream) -> Option<Splice<'a>> {
        let (Stream::Plain(from), Stream::Plain(to)) = (from, to) else { return None };
        if !from.is_direct() {
            return None;
        }
        from.make_nonblocking().and_then(|()| to.make_nonblocking()).ok()?;
        Some(Splice { from, to, pipe: None })
    }

    /// Takes some bytes, at most `bytes_max`; 0 at the end of the stream. `Unsupported` if there is no pipe or the kernel
    /// will not: nothing was taken then. What was taken has to be [passed on](Splice::poll_pass) before more is.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, bytes_max: u64) -> Poll<io::Result<usize>> {
        let Some(mut pipe) = self.pipe.take().or_else(Pipe::take) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let result = self.from.poll_fill(cx, &mut pipe, bytes_max.min(TAKEN_BYTES_MAX) as usize);
        if pipe.is_empty() {
            pipe.give();
        } else {
            self.pipe = Some(pipe);
        }
        result.map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS | libc::EPERM) => io::ErrorKind::Unsupported.into(),
            _ => error,
        })
    }

    /// Ready when all that was taken is sent.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(pipe) = &mut self.pipe {
            ready!(self.to.poll_drain(cx, pipe))?;
            if pipe.is_empty() {
                self.pipe.take().into_iter().for_each(Pipe::give);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Splice<'_> {
    fn drop(&mut self) {
        self.pipe.take().into_iter().for_each(Pipe::give);
    }
}

#[cfg(test)]
mod tests;
