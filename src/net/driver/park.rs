//! How the driver loop sleeps: it awaits readability of its ring or epoll descriptor through glommio, so that timers
//! and wakes from other cores keep working and an idle core costs nothing.
#![allow(unsafe_code)]

use glommio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_io::AsyncRead;

/// One loop's bed.
pub(super) struct Parking {
    /// A duplicate of the watched descriptor, dressed as a stream: glommio has no wait for other descriptors, but a
    /// fresh stream's first read waits for readability before it touches the descriptor. Good for one wake.
    watch: RefCell<Option<TcpStream>>,
    sleeper: RefCell<Option<Waker>>,
    is_kicked: Cell<bool>,
}

impl Parking {
    pub(super) fn new() -> Parking {
        Parking { watch: RefCell::new(None), sleeper: RefCell::new(None), is_kicked: Cell::new(false) }
    }

    /// Sleeps until `fd` is readable or someone kicks. May return without either.
    pub(super) async fn wait(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        if self.watch.borrow().is_none() {
            let duplicate = fd.try_clone_to_owned()?.into_raw_fd();
            // SAFETY: `duplicate` is open and owned by nobody else; the stream closes it. That it is no TCP socket
            // matters only for calls we do not make: the one read ends in ENOTSOCK.
            let stream = unsafe { TcpStream::from_raw_fd(duplicate) };
            self.watch.replace(Some(stream));
        }
        poll_fn(|cx| self.poll_wait(cx)).await;
        Ok(())
    }

    /// Ends a sleep: there is something to submit.
    pub(super) fn kick(&self) {
        if let Some(sleeper) = self.sleeper.take() {
            self.is_kicked.set(true);
            sleeper.wake();
        }
    }

    fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_kicked.take() {
            return Poll::Ready(());
        }
        let mut watch = self.watch.borrow_mut();
        let is_readable = match watch.as_mut() {
            Some(stream) => Pin::new(stream).poll_read(cx, &mut [0]).is_ready(),
            None => true,
        };
        if is_readable {
            *watch = None;
            self.sleeper.replace(None);
            return Poll::Ready(());
        }
        self.sleeper.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}
