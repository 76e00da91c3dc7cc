//! How the driver loop sleeps: it awaits its epoll descriptor or its ring's eventfd through glommio, so that timers
//! and wakes from other cores keep working and an idle core costs nothing.
#![allow(unsafe_code)]

use futures_io::AsyncRead;
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// One loop's bed.
pub(super) struct Parking {
    alarm: Alarm,
    /// The wait under way. It survives a kick: the next sleep goes on with it.
    watch: RefCell<Option<Watch>>,
    sleeper: Rc<Sleeper>,
}

type Watch = Pin<Box<dyn Future<Output = ()>>>;

/// What ends a sleep from the kernel's side. glommio has no wait for arbitrary descriptors; these are the two ways
/// it can be brought to one.
enum Alarm {
    /// Pollable only: each wait dresses a duplicate as a fresh stream, whose first read waits for readability before
    /// it touches the descriptor.
    Readable(OwnedFd),
    /// A blocking eventfd: a file read of it waits in the kernel and resets it.
    Event(Rc<BufferedFile>),
}

impl Parking {
    /// Sleeps on readability of `fd`.
    pub(super) fn on_readable(fd: OwnedFd) -> Parking {
        Parking::new(Alarm::Readable(fd))
    }

    /// Sleeps on `eventfd`, which must be in blocking mode.
    pub(super) fn on_event(eventfd: OwnedFd) -> Parking {
        // SAFETY: the descriptor is open and from here on owned by the file alone.
        let file = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
        Parking::new(Alarm::Event(Rc::new(file)))
    }

    fn new(alarm: Alarm) -> Parking {
        Parking { alarm, watch: RefCell::new(None), sleeper: Rc::default() }
    }

    /// Sleeps until the alarm goes off or someone kicks. May return without either.
    pub(super) async fn wait(&self) -> io::Result<()> {
        if self.watch.borrow().is_none() {
            let watch = self.alarm.watch()?;
            self.watch.replace(Some(watch));
        }
        SLEEPER.set(Rc::downgrade(&self.sleeper));
        poll_fn(|cx| self.poll_wait(cx)).await;
        Ok(())
    }

    /// Ends a sleep: there is something to submit.
    pub(super) fn kick(&self) {
        self.sleeper.kick();
    }

    fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleeper.is_kicked.take() {
            return Poll::Ready(());
        }
        let mut watch = self.watch.borrow_mut();
        if watch.as_mut().is_none_or(|watch| watch.as_mut().poll(cx).is_ready()) {
            *watch = None;
            self.sleeper.waker.replace(None);
            return Poll::Ready(());
        }
        self.sleeper.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// The loop's task while it sleeps.
#[derive(Default)]
struct Sleeper {
    waker: RefCell<Option<Waker>>,
    is_kicked: Cell<bool>,
}

impl Sleeper {
    fn kick(&self) {
        if let Some(waker) = self.waker.take() {
            self.is_kicked.set(true);
            waker.wake();
        }
    }
}

thread_local! {
    /// This core's loop.
    static SLEEPER: RefCell<Weak<Sleeper>> = const { RefCell::new(Weak::new()) };
}

/// Ends the sleep of this core's loop, if it has one and it sleeps.
pub(super) fn kick_this_core() {
    let sleeper = SLEEPER.with_borrow(Weak::upgrade);
    if let Some(sleeper) = sleeper {
        sleeper.kick();
    }
}

impl Alarm {
    fn watch(&self) -> io::Result<Watch> {
        match self {
            Alarm::Readable(fd) => {
                let duplicate = fd.try_clone()?.into_raw_fd();
                // SAFETY: `duplicate` is open and owned by nobody else; the stream closes it. That it is no TCP
                // socket matters only for calls we do not make: the one read ends in ENOTSOCK.
                let mut stream = unsafe { TcpStream::from_raw_fd(duplicate) };
                Ok(Box::pin(poll_fn(move |cx| Pin::new(&mut stream).poll_read(cx, &mut [0]).map(|_| ()))))
            }
            Alarm::Event(file) => {
                let file = file.clone();
                Ok(Box::pin(async move { drop(file.read_at(0, size_of::<u64>()).await) }))
            }
        }
    }
}
