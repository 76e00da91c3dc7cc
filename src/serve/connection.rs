//! One client connection: wait for bytes, serve the request they begin, decide what comes after it.
//!
//! The task's frame is what an idle connection costs, so it holds the [`Connection`] and little else: the walk of a
//! request is a boxed future that exists while the request does (one allocation a request, of a recycled size). A
//! cancelled task closes its socket and leaves every count.

use crate::config::settings::ListenerKind;
use crate::net::clock::{Now, Timer, now};
use crate::net::stream::{Bytes, Stream};
use crate::net::tls::Version;
use crate::policy::headers::{Origin, Scheme};
use crate::serve::core::Core;
use crate::serve::request;
use crate::serve::shared::Phase;
use crate::serve::sleepers::{Place, RESTED};
use crate::serve::tunnel::Tunnel;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Unread bytes a client may still send after our last response before the socket closes under it: closing with
/// unread data makes the kernel reset the connection, and the reset can overtake the response (RFC 9112 §9.6).
const LINGER_BYTES_MAX: usize = 1024 * 1024;
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

pub struct Connection {
    pub core: Rc<Core>,
    pub stream: Stream,
    pub origin: Origin,
    pub kind: ListenerKind,
    pub tls: Option<Version>,
    pub timer: Timer,
    /// Requests served so far.
    pub served: Cell<u32>,
    place: Place,
    idle_since: Cell<Now>,
}

/// The listener a connection came through.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// As bound.
    pub port: u16,
    pub kind: ListenerKind,
}

/// What comes after a request.
pub enum Next {
    /// The next request, beginning with these bytes if there are any.
    Request(Option<Bytes>),
    /// Everything was said; the connection ends in good order.
    Close,
    /// The client has part of a response: it must not look like all of it.
    Abort,
    /// Close, but let the client finish talking so that it sees the response.
    Linger,
    Tunnel(Box<Tunnel>),
}

impl Connection {
    /// An admitted connection.
    pub fn new(core: Rc<Core>, stream: Stream, tls: Option<Version>, peer: IpAddr, door: Door) -> Connection {
        let Door { port, kind } = door;
        core.counters().connections.up();
        let scheme = if kind == ListenerKind::Https { Scheme::Https } else { Scheme::Http };
        let origin = Origin::new(peer, scheme, port, &core.view().snapshot.settings.trust);
        let place = core.sleepers.enter();
        let idle_since = Cell::new(now());
        Connection { core, stream, origin, kind, tls, timer: Timer::new(), served: Cell::new(0), place, idle_since }
    }

    /// Serves the connection to its end. A panic ends this connection and nothing else.
    pub async fn run(self) {
        let mut life = pin!(self.live());
        let ended = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| life.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        });
        if ended.await.is_err() {
            self.core.counters().panics.bump();
            tracing::error!(peer = %self.origin.peer, "a connection's task panicked, the connection is closed");
        }
    }

    async fn live(&self) {
        let mut held = None;
        loop {
            let bytes = match held.take() {
                Some(bytes) => bytes,
                None => match self.next_bytes().await {
                    Some(bytes) => bytes,
                    None => return self.part().await,
                },
            };
            match Box::pin(request::serve(self, bytes)).await {
                Next::Request(rest) => held = rest.filter(|rest| !rest.is_empty()),
                Next::Close => return self.part().await,
                Next::Abort => return self.stream.abort(),
                Next::Linger => return Box::pin(self.linger()).await,
                Next::Tunnel(tunnel) => return Box::pin(tunnel.run(self)).await,
            }
            self.served.set(self.served.get().saturating_add(1));
        }
    }

    /// The first bytes of the next request; `None` when there will be none.
    async fn next_bytes(&self) -> Option<Bytes> {
        self.idle_since.set(now());
        self.timer.arm(self.core.keepalive());
        let bytes = poll_fn(|cx| {
            if let Poll::Ready(received) = self.stream.poll_recv(cx) {
                return Poll::Ready(received.ok().filter(|bytes| !bytes.is_empty()));
            }
            if self.timer.poll_elapsed(cx).is_ready() || self.is_told_to_close() {
                return Poll::Ready(None);
            }
            self.core.sleepers.sleep(self.place, cx.waker());
            Poll::Pending
        });
        bytes.await
    }

    fn is_told_to_close(&self) -> bool {
        match self.core.phase() {
            Phase::Serving => false,
            Phase::Draining | Phase::Stopping => {
                self.core.sleepers.should_close(self.place) && now().since(self.idle_since.get()) >= RESTED
            }
            Phase::Ended => true,
        }
    }

    /// For the log.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.map(Version::as_str)
    }

    /// A TLS client is told that this is the end, or it must suspect an attacker of it.
    async fn part(&self) {
        if self.tls.is_some() {
            self.timer.arm(LINGER_TIME_MAX);
            let _ = self.timer.bound(Box::pin(self.stream.shutdown_write())).await;
        }
    }

    async fn linger(&self) {
        self.stream.shutdown_write().await;
        self.timer.arm(LINGER_TIME_MAX);
        let drained = async {
            let mut left = LINGER_BYTES_MAX;
            while let Ok(bytes) = self.stream.recv().await {
                left = left.saturating_sub(bytes.len());
                if bytes.is_empty() || left == 0 {
                    return;
                }
            }
        };
        // Whatever the outcome, the connection closes now.
        let _ = self.timer.bound(drained).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.core.sleepers.leave(self.place);
        self.core.counters().connections.down();
        self.core.dismiss(self.origin.peer);
    }
}
