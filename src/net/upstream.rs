//! Connections to one server from one core: connect, keep, hand out again.
//!
//! The pool is last-in first-out, so that a quiet period lets the cold end grow old and close. Every idle connection
//! keeps a receive armed: a server that closes is noticed at once, and bytes that answer no request close it too. What
//! the armed receive finds out raises a flag; [`Idle::tend`] looks at the connections on the core's next tick, and
//! [`Idle::take`] always looks before it hands one out.

use crate::config::settings::Place;
use crate::net::clock::{Now, now};
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use crate::telemetry::counters::CoreCounters;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A new connection to a server, from `source` where that works.
pub async fn connect(driver: &Driver, to: &Place, source: Option<IpAddr>, timeout: Duration) -> io::Result<Stream> {
    let to = match to {
        Place::Ip(to) => *to,
        Place::Unix(path) => return driver.connect_unix(path).map(Stream::Plain),
    };
    let source = source.filter(|source| source.is_ipv4() == to.is_ipv4() && !to.ip().is_loopback());
    let socket = match driver.connect(to, source, timeout).await {
        Err(error) if source.is_some() && error.kind() == io::ErrorKind::AddrNotAvailable => {
            driver.connect(to, None, timeout).await?
        }
        other => other?,
    };
    Ok(Stream::Plain(socket))
}

/// Idle connections of one core to one server.
pub struct Idle {
    to: Place,
    /// Oldest first.
    connections: RefCell<Vec<Parked>>,
    attention: Arc<Attention>,
    waker: Waker,
}

struct Parked {
    stream: Stream,
    since: Now,
    owner: Owner,
}

/// The client a connection speaks for; `None` speaks for any. The server was told once, at its beginning, so it
/// belongs to this client for good.
pub type Owner = Option<IpAddr>;

/// Idle connections looked at for one of a certain client, the youngest first: of many clients few come back.
const OWNED_LOOKS_MAX: usize = 64;

/// Raised by the driver when an idle connection became readable.
#[derive(Default)]
struct Attention(AtomicBool);

impl Wake for Attention {
    fn wake(self: Arc<Attention>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Attention>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Idle {
    pub fn new(to: Place) -> Idle {
        let attention = Arc::new(Attention::default());
        let waker = Waker::from(attention.clone());
        Idle { to, connections: RefCell::default(), attention, waker }
    }

    /// The most recently used connection of `owner` that is still open and silent, and was used within `fresh`.
    pub fn take(&self, owner: Owner, fresh: Duration, counters: &CoreCounters) -> Option<Stream> {
        let mut connections = self.connections.borrow_mut();
        let now = now();
        loop {
            // From the youngest on: if one is too old, all before it are.
            let usable = connections.iter().rev().take_while(|parked| now.since(parked.since) <= fresh);
            let back = usable.take(OWNED_LOOKS_MAX).position(|parked| parked.owner == owner)?;
            let index = connections.len() - 1 - back;
            let parked = connections.remove(index);
            if self.is_silent(&parked.stream, counters) {
                counters.upstream_reuses.bump();
                return Some(parked.stream);
            }
        }
    }

    /// Keeps a connection whose last exchange ended cleanly on both sides; the oldest gives way when there are
    /// `idle_max`.
    pub fn put(&self, stream: Stream, owner: Owner, idle_max: usize, counters: &CoreCounters) {
        if idle_max == 0 || !self.is_silent(&stream, counters) {
            return;
        }
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= idle_max {
            connections.remove(0);
            counters.upstream_evicted.bump();
        }
        connections.push(Parked { stream, since: now(), owner });
    }

    /// Closes what the server closed and what was unused for `keepalive`. Called once a tick; nearly free when nothing
    /// happened.
    pub fn tend(&self, keepalive: Duration, counters: &CoreCounters) {
        let mut connections = self.connections.borrow_mut();
        if self.attention.0.swap(false, Ordering::Relaxed) {
            connections.retain(|parked| self.is_silent(&parked.stream, counters));
        }
        let now = now();
        let old = connections.iter().take_while(|parked| now.since(parked.since) > keepalive).count();
        connections.drain(..old).for_each(|_| counters.upstream_evicted.bump());
    }

    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new connection, from `source` where that works: right after a take-over or on another network it may not.
    pub async fn connect(&self, driver: &Driver, source: Option<IpAddr>, timeout: Duration) -> io::Result<Stream> {
        connect(driver, &self.to, source, timeout).await
    }

    /// Polls the armed receive: pending is what an idle connection should be.
    fn is_silent(&self, stream: &Stream, counters: &CoreCounters) -> bool {
        match stream.poll_recv(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => true,
            Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                counters.upstream_unsolicited.bump();
                tracing::warn!(server = %self.to, "server sent bytes on an idle connection, closing it");
                stream.abort();
                false
            }
            Poll::Ready(_) => {
                counters.upstream_evicted.bump();
                false
            }
        }
    }
}
