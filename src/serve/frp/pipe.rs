//! The bytes between whoever opened a tunnel, on any core, and the client's connection on its own. Buffers change hands
//! as they are. Both ways are bounded: towards the client by [`FORTH_BYTES`], from it by the stream's window, which is
//! given back only for what was taken.

use super::inbox::{Inbox, Letter};
use crate::net::driver::for_another_thread;
use crate::net::stream::Far;
use crate::proto::frp::session::Failure;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// May lie here towards the client before its sender has to wait.
const FORTH_BYTES: usize = 256 << 10;

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By the client, after everything it had to say.
    Finished,
    /// With its stream, or with the whole connection.
    Lost,
    /// Nothing came back in time: the app does not answer, or its client could not reach it and does not say so.
    Silent,
    /// It was never there.
    Failed(Failure),
}

pub(super) struct Pipe {
    /// Among all of the worker.
    pub(super) id: u64,
    /// The first byte is expected so long after the last one that was sent.
    pub(super) first_byte: Duration,
    inbox: Arc<Inbox>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    is_open: bool,
    end: Option<End>,
    /// Its user is gone.
    is_left: bool,
    /// The connection was told that there is something to look at, and has not looked yet.
    is_touched: bool,
    forth: VecDeque<Vec<u8>>,
    forth_bytes: usize,
    /// With how much of the window each takes.
    back: VecDeque<(Vec<u8>, usize)>,
    /// Of what was taken.
    credit: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What the connection finds when it looks.
pub(super) struct Look {
    pub(super) credit: usize,
    pub(super) is_left: bool,
}

impl Pipe {
    pub(super) fn new(id: u64, first_byte: Duration, inbox: Arc<Inbox>) -> Pipe {
        Pipe { id, first_byte, inbox, inner: Mutex::default() }
    }

    pub(super) fn open(&self) {
        let mut inner = self.lock();
        inner.is_open = true;
        let waker = inner.reader.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The first end counts.
    pub(super) fn end(&self, end: End) {
        let mut inner = self.lock();
        inner.end.get_or_insert(end);
        inner.forth.clear();
        inner.forth_bytes = 0;
        let wakers = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// From the client: `window` of its stream is given back once the bytes were taken.
    pub(super) fn push(&self, bytes: Vec<u8>, window: usize) {
        let mut inner = self.lock();
        inner.back.push_back((bytes, window));
        let waker = inner.reader.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The next for the client.
    pub(super) fn pull(&self) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let bytes = inner.forth.pop_front()?;
        inner.forth_bytes -= bytes.len();
        let waker = inner.writer.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        Some(bytes)
    }

    pub(super) fn look(&self) -> Look {
        let mut inner = self.lock();
        inner.is_touched = false;
        Look { credit: std::mem::take(&mut inner.credit), is_left: inner.is_left }
    }

    /// Tells the connection, once until it looks.
    fn touch(&self, mut inner: MutexGuard<'_, Inner>) {
        let is_news = !std::mem::replace(&mut inner.is_touched, true);
        drop(inner);
        if is_news {
            // A connection that is gone has ended its pipes.
            let _ = self.inbox.post(Letter::Touched(self.id));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open tunnel: bytes to and from the app behind it. It may be used on any core, by one task; dropped, it is closed.
/// There is no closing of one direction: the client would close both.
pub struct Tunnel(Arc<Pipe>);

impl Tunnel {
    pub(super) fn new(pipe: Arc<Pipe>) -> Tunnel {
        Tunnel(pipe)
    }

    /// Waits until somebody is at the other end.
    pub(super) async fn wait_open(&self) -> Result<(), Failure> {
        poll_fn(|cx| {
            let mut inner = self.0.lock();
            match inner.end {
                Some(End::Failed(failure)) => Poll::Ready(Err(failure)),
                _ if inner.is_open => Poll::Ready(Ok(())),
                Some(_) => Poll::Ready(Err(Failure::Lost)),
                None => {
                    inner.reader = Some(for_another_thread(cx.waker()));
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Empty is the end.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for room, then hands the bytes over. They are on their way, not there yet.
    pub async fn send(&self, bytes: Vec<u8>) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.hand_over(bytes);
        Ok(())
    }
}

impl Far for Tunnel {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let mut inner = self.0.lock();
        if let Some((bytes, window)) = inner.back.pop_front() {
            inner.credit += window;
            self.0.touch(inner);
            return Poll::Ready(Ok(bytes));
        }
        match inner.end {
            Some(End::Finished) => Poll::Ready(Ok(Vec::new())),
            Some(end) => Poll::Ready(Err(error(end))),
            None => {
                inner.reader = Some(for_another_thread(cx.waker()));
                Poll::Pending
            }
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        match inner.end {
            Some(End::Finished) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(end) => Poll::Ready(Err(error(end))),
            None if inner.forth_bytes < FORTH_BYTES => Poll::Ready(Ok(())),
            None => {
                inner.writer = Some(for_another_thread(cx.waker()));
                Poll::Pending
            }
        }
    }

    fn hand_over(&self, bytes: Vec<u8>) {
        let mut inner = self.0.lock();
        if !bytes.is_empty() && inner.end.is_none() {
            inner.forth_bytes += bytes.len();
            inner.forth.push_back(bytes);
            self.0.touch(inner);
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.is_left = true;
        self.0.touch(inner);
    }
}

fn error(end: End) -> io::Error {
    match end {
        End::Finished => io::ErrorKind::UnexpectedEof.into(),
        End::Lost => io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel was lost"),
        End::Silent => io::Error::new(io::ErrorKind::TimedOut, "nothing came through the tunnel in time"),
        End::Failed(failure) => io::Error::new(io::ErrorKind::NotConnected, failure),
    }
}

#[cfg(test)]
mod tests;
