//! What a connection's task and the tasks of its streams share.

use super::limits;
use super::stream::{self, Client};
use super::window;
use crate::net::clock::{Now, now};
use crate::net::h2::Wire;
use crate::net::stream::Stream;
use crate::proto::http2::meter::{Abuse, Budget, Meter};
use crate::serve::connection::Connection;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

pub(super) struct Mux {
    pub(super) connection: Rc<Connection>,
    meter: RefCell<Meter>,
    abuse: Cell<Option<Abuse>>,
    /// Requests at work.
    live: Cell<u32>,
    early_resets: Cell<Budget>,
    /// Resets of ours.
    provoked: Cell<u32>,
    /// Of the largest upload under way.
    window_wanted: Cell<u32>,
    /// When it should be asked to come anew.
    worn_out: Now,
    /// The connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Mux {
    pub(super) fn new(connection: Rc<Connection>) -> Mux {
        Mux {
            connection,
            meter: RefCell::new(Meter::new()),
            abuse: Cell::new(None),
            live: Cell::new(0),
            early_resets: Cell::new(Budget::default()),
            provoked: Cell::new(0),
            window_wanted: Cell::new(0),
            worn_out: now().after(limits::AGE_MAX.mul_f64(0.9 + 0.2 * fastrand::f64())),
            waker: RefCell::new(None),
        }
    }

    /// The connection's task is woken through this.
    pub(super) fn listen(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.abuse.get()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.live.get() > 0
    }

    /// Served enough, or for long enough.
    pub(super) fn is_worn_out(&self) -> bool {
        let limit = self.connection.core.view().snapshot.settings.limits.keepalive_requests_max;
        self.connection.served.get() >= limit || now() >= self.worn_out
    }

    pub(super) fn window_wanted(&self) -> u32 {
        self.window_wanted.get()
    }

    pub(super) fn forget_uploads(&self) {
        self.window_wanted.set(0);
    }

    /// A stream has brought this much so far.
    pub(super) fn uploaded(&self, bytes: u64) {
        let earned = window::earned(bytes);
        if earned > self.window_wanted.get() {
            self.window_wanted.set(earned);
            self.wake();
        }
    }

    /// A client gave up before it got an answer.
    pub(super) fn reset_early(&self) {
        let mut budget = self.early_resets.get();
        if !budget.spend(now().0, limits::EARLY_RESETS_MAX) {
            self.accuse(Abuse::EarlyResets);
        }
        self.early_resets.set(budget);
    }

    /// What came behind the body of this stream's request makes it none.
    pub(super) fn is_malformed(&self, stream: u32) -> bool {
        self.meter.borrow().is_malformed(stream)
    }

    /// A request made no sense and is answered by a reset.
    pub(super) fn reset_malformed(&self) {
        self.provoked.set(self.provoked.get().saturating_add(1));
        if self.provoked.get() as usize > limits::PROVOKED_RESETS_MAX {
            self.accuse(Abuse::ProvokedResets);
        }
    }

    fn accuse(&self, abuse: Abuse) {
        if self.abuse.get().is_none() {
            self.abuse.set(Some(abuse));
            self.wake();
        }
    }

    /// A stream begins.
    pub(super) fn open(self: &Rc<Mux>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let counters = self.connection.core.counters();
        if self.live.get() >= limits::REQUESTS_MAX || self.abuse.get().is_some() {
            counters.h2_refused.bump();
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        self.connection.served.set(self.connection.served.get().saturating_add(1));
        let place = Place::new(self.clone());
        let serving = Box::pin(stream::serve(Client::new(self.clone(), request, respond), place));
        glommio::spawn_local(Guarded { serving, mux: self.clone() }).detach();
    }
}

impl Wire for Rc<Mux> {
    fn stream(&self) -> &Stream {
        &self.connection.stream
    }

    fn received(&self, bytes: &[u8]) -> bool {
        if let Err(abuse) = self.meter.borrow_mut().received(bytes, now().0) {
            self.accuse(abuse);
        }
        self.abuse.get().is_none()
    }

    fn sent(&self, bytes: usize) {
        self.meter.borrow_mut().sent(bytes);
    }
}

/// A request's place on its connection.
pub(super) struct Place(Rc<Mux>);

impl Place {
    fn new(mux: Rc<Mux>) -> Place {
        mux.live.set(mux.live.get() + 1);
        Place(mux)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let live = self.0.live.get().saturating_sub(1);
        self.0.live.set(live);
        if live == 0 {
            self.0.wake();
        }
    }
}

/// A stream's task. A panic ends this stream and nothing else.
struct Guarded<F> {
    serving: Pin<Box<F>>,
    mux: Rc<Mux>,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| task.serving.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                let connection = &task.mux.connection;
                connection.core.counters().panics.bump();
                tracing::error!(peer = %connection.origin.peer, "a stream's task panicked, the stream is reset");
                Poll::Ready(())
            }
        }
    }
}
