//! What other cores have to say to the task that drives a client's connection.

use super::pipe::Pipe;
use crate::net::driver::for_another_thread;
use crate::proto::frp::registry::SessionId;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

pub(super) enum Letter {
    /// Somebody wants to talk to what is behind `port`.
    Open { pipe: Arc<Pipe>, port: u16, from: SocketAddr, to: SocketAddr },
    /// Something happened at the other end of this pipe.
    Touched(u64),
    /// Another session wants to know whether this client is there.
    Probe { asker: SessionId },
    /// The answer: it is, or the session is gone.
    Probed { holder: SessionId },
    /// Another session of the same client takes this one's place.
    Abort,
}

#[derive(Default)]
pub(super) struct Inbox(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    letters: Vec<Letter>,
    waker: Option<Waker>,
    is_closed: bool,
}

impl Inbox {
    /// Gives the letter back when nobody reads any more.
    pub(super) fn post(&self, letter: Letter) -> Result<(), Letter> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(letter);
        }
        inner.letters.push(letter);
        let waker = inner.waker.take();
        drop(inner);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// All there are. Without any, the next one wakes the task.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Vec<Letter> {
        let mut inner = self.lock();
        if inner.letters.is_empty() {
            inner.waker = Some(for_another_thread(cx.waker()));
        }
        std::mem::take(&mut inner.letters)
    }

    /// The last letters. There will be no others.
    pub(super) fn close(&self) -> Vec<Letter> {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.waker = None;
        std::mem::take(&mut inner.letters)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
