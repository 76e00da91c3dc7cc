//! How the driver loop sleeps: through glommio, so that timers and wakes from other cores keep working and an idle
//! core costs nothing. A second task, the alarm, waits for the kernel's sign and wakes the loop; anybody on the core
//! may wake it as well.
#![allow(unsafe_code)]

use futures_io::AsyncRead;
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// One loop's bed.
pub(super) struct Parking {
    sleeper: Rc<Sleeper>,
}

impl Parking {
    /// Sleeps on readability of `fd`.
    pub(super) fn on_readable(fd: OwnedFd) -> Parking {
        let sleeper = Rc::new(Sleeper::default());
        glommio::spawn_local(watch_readable(fd, sleeper.clone())).detach();
        Parking { sleeper }
    }

    /// Sleeps on `eventfd`, which must be in blocking mode and be signalled only while the loop sleeps.
    pub(super) fn on_event(eventfd: OwnedFd) -> Parking {
        let sleeper = Rc::new(Sleeper::default());
        glommio::spawn_local(watch_event(eventfd, sleeper.clone())).detach();
        Parking { sleeper }
    }

    /// Sleeps until the alarm goes off or someone kicks. May return without either.
    pub(super) async fn wait(&self) {
        SLEEPER.set(Rc::downgrade(&self.sleeper));
        self.sleeper.is_kicked.set(false);
        if let Some(alarm) = self.sleeper.alarm.take() {
            alarm.wake();
        }
        poll_fn(|cx| self.sleeper.poll_kicked(cx)).await;
    }

    /// Ends a sleep: there is something to submit.
    pub(super) fn kick(&self) {
        self.sleeper.kick();
    }
}

/// The longest wait in the kernel itself. Going to sleep and waking through glommio costs about eight system calls; a
/// core with traffic has its next event sooner than this, and pays one. Timers and wakes from other cores, which glommio
/// handles, come at most this late.
pub(super) const NAP: Duration = Duration::from_micros(200);

/// How an event loop with nothing to do goes to sleep: a turn for tasks that others woke, a nap, then sleep.
#[derive(Default)]
pub(super) struct Drowsiness(u8);

impl Drowsiness {
    /// The second quiet turn naps; the first lets the tasks in line run.
    pub(super) fn may_nap(&mut self) -> bool {
        self.0 = self.0.saturating_add(1);
        self.0 == 2
    }

    pub(super) fn may_sleep(&self) -> bool {
        self.0 > 2
    }
}

/// The loop's task while it sleeps, and the alarm's while the loop does not.
#[derive(Default)]
struct Sleeper {
    waker: RefCell<Option<Waker>>,
    is_kicked: Cell<bool>,
    alarm: RefCell<Option<Waker>>,
}

impl Sleeper {
    fn kick(&self) {
        if let Some(waker) = self.waker.take() {
            self.is_kicked.set(true);
            waker.wake();
        }
    }

    fn poll_kicked(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_kicked.take() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// For the alarm: ready while the loop sleeps.
    fn poll_asleep(&self, cx: &Context<'_>) -> Poll<()> {
        if self.waker.borrow().is_some() {
            return Poll::Ready(());
        }
        self.alarm.replace(Some(cx.waker().clone()));
        Poll::Pending
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

/// The alarm for a descriptor that can only be polled; watches while the loop sleeps.
async fn watch_readable(fd: OwnedFd, sleeper: Rc<Sleeper>) {
    loop {
        poll_fn(|cx| sleeper.poll_asleep(cx)).await;
        match readable(&fd) {
            Ok(mut stream) => {
                // Ends in ENOTSOCK once the descriptor is readable.
                let _ = poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut [0])).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the event loop cannot sleep");
                glommio::timer::sleep(Duration::from_millis(1)).await;
            }
        }
        sleeper.kick();
    }
}

/// glommio has no wait for arbitrary descriptors, but a fresh stream's first read waits for readability before it
/// touches the descriptor: a duplicate dressed as a stream is good for one wait.
fn readable(fd: &impl AsFd) -> io::Result<TcpStream> {
    let duplicate = fd.as_fd().try_clone_to_owned()?.into_raw_fd();
    // SAFETY: `duplicate` is open and owned by nobody else; the stream closes it. That it is no TCP socket matters
    // only for calls we do not make: the one read ends in ENOTSOCK.
    Ok(unsafe { TcpStream::from_raw_fd(duplicate) })
}

/// The alarm for an eventfd: a file read of it waits in the kernel and resets it.
async fn watch_event(eventfd: OwnedFd, sleeper: Rc<Sleeper>) {
    // SAFETY: the descriptor is open and from here on owned by the file alone.
    let file = unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) };
    loop {
        if let Err(error) = file.read_at(0, size_of::<u64>()).await {
            tracing::warn!(%error, "the event loop's alarm fails");
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        sleeper.kick();
    }
}
