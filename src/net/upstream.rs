//! Connections to one server from one core: connect, keep, hand out again.
//!
//! The pool is last-in first-out, so that a quiet period lets the cold end grow old and close. Every idle connection
//! keeps a receive armed: a server that closes is noticed at once, and bytes that answer no request close it too. What
//! the armed receive finds out raises a flag; [`Idle::tend`] looks at the connections on the core's next tick, and
//! [`Idle::take`] always looks before it hands one out.

use crate::net::clock::{Now, now};
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use crate::net::target::{Name, Order, Target};
use crate::telemetry::counters::CoreCounters;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A new connection to a server, from `source` where that works. Of a name's addresses those are tried that are left, each
/// with its share of what is left of `timeout`.
pub async fn connect(
    driver: &Driver,
    to: &Target,
    source: Option<IpAddr>,
    timeout: Duration,
    order: Order,
) -> io::Result<Stream> {
    match to {
        Target::Ip(to) => connect_ip(driver, *to, source, timeout).await,
        Target::Unix(path) => driver.connect_unix(path).map(Stream::Plain),
        Target::Name(name) => connect_name(driver, name, source, timeout, order).await,
        Target::Far(_, way) => way.open(driver, timeout).await,
    }
}

async fn connect_name(
    driver: &Driver,
    name: &Name,
    source: Option<IpAddr>,
    timeout: Duration,
    order: Order,
) -> io::Result<Stream> {
    let begin = now();
    let (addresses, indices) = name.candidates(order);
    let mut result = Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "not resolved yet"));
    for (tried, index) in indices.iter().enumerate() {
        let Some(address) = addresses.list.get(*index) else { continue };
        let share = timeout.saturating_sub(now().since(begin)) / (indices.len() - tried) as u32;
        result = connect_ip(driver, *address, source, share).await;
        addresses.note(*index, result.is_err());
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn connect_ip(driver: &Driver, to: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<Stream> {
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
    to: Target,
    /// The generation of its addresses that was last looked at.
    generation: Cell<Option<u64>>,
    /// Oldest first.
    connections: RefCell<Vec<Parked>>,
    attention: Arc<Attention>,
    waker: Waker,
}

struct Parked {
    stream: Stream,
    since: Now,
    owner: Owner,
    /// Where it leads, if that can change.
    peer: Option<SocketAddr>,
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
    pub fn new(to: Target) -> Idle {
        let attention = Arc::new(Attention::default());
        let waker = Waker::from(attention.clone());
        let generation = Cell::new(to.generation());
        Idle { to, generation, connections: RefCell::default(), attention, waker }
    }

    /// The most recently used connection of `owner` that is still open and silent, and was used within `fresh`.
    pub fn take(&self, owner: Owner, fresh: Duration, counters: &CoreCounters) -> Option<Stream> {
        self.follow(counters);
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
        let peer = match self.to.name() {
            None => None,
            Some(name) => match stream.socket().and_then(|socket| socket.peer_addr().ok()) {
                Some(peer) if name.addresses().list.contains(&peer) => Some(peer),
                // The server has moved meanwhile.
                _ => return counters.upstream_evicted.bump(),
            },
        };
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= idle_max {
            connections.remove(0);
            counters.upstream_evicted.bump();
        }
        connections.push(Parked { stream, since: now(), owner, peer });
    }

    /// Closes what the server closed and what was unused for `keepalive`. Called once a tick; nearly free when nothing
    /// happened.
    pub fn tend(&self, keepalive: Duration, counters: &CoreCounters) {
        self.follow(counters);
        let mut connections = self.connections.borrow_mut();
        if self.attention.0.swap(false, Ordering::Relaxed) {
            connections.retain(|parked| self.is_silent(&parked.stream, counters));
        }
        let now = now();
        let old = connections.iter().take_while(|parked| now.since(parked.since) > keepalive).count();
        connections.drain(..old).for_each(|_| counters.upstream_evicted.bump());
    }

    /// Closes the connections that lead to addresses which the server's name has no more.
    fn follow(&self, counters: &CoreCounters) {
        let generation = self.to.generation();
        if generation == self.generation.get() {
            return;
        }
        // The generation was read first: addresses that change now are looked at next time.
        self.generation.set(generation);
        let Some(addresses) = self.to.name().map(|name| name.addresses()) else { return };
        self.connections.borrow_mut().retain(|parked| {
            let stays = parked.peer.is_some_and(|peer| addresses.list.contains(&peer));
            if !stays {
                counters.upstream_evicted.bump();
            }
            stays
        });
    }

    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new connection, from `source` where that works: right after a take-over or on another network it may not.
    pub async fn connect(&self, driver: &Driver, source: Option<IpAddr>, timeout: Duration) -> io::Result<Stream> {
        connect(driver, &self.to, source, timeout, Order::Proven).await
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

#[cfg(test)]
mod tests;
