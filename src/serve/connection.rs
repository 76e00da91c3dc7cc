//! One client connection: wait for bytes, serve the request they begin, decide what comes after it.
//!
//! The task's frame is what an idle connection costs, so it holds the [`Connection`] and nothing else: the walk of a
//! request is a boxed future that exists while the request does (one allocation a request, of a recycled size). A
//! cancelled task closes its socket and leaves every count.

use crate::config::settings::ListenerKind;
use crate::net::clock::{Now, Timer, now};
use crate::net::stream::{Bytes, Stream};
use crate::net::tls::{TlsInfo, Version};
use crate::policy::headers::{Origin, Scheme};
use crate::proto::http1::BodyLength;
use crate::proto::http1::authority::Authority;
use crate::serve::core::Core;
use crate::serve::downstream::Downstream;
use crate::serve::h2;
use crate::serve::pairing::Noted;
use crate::serve::reply::Failure;
use crate::serve::request;
use crate::serve::shared::Phase;
use crate::serve::sleepers::{Place, RESTED};
use crate::serve::tunnel::Tunnel;
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
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
    /// The server name of the handshake, where it matters: there is more than one certificate.
    name: Option<Box<ServerName>>,
    pub timer: Timer,
    /// Requests served so far.
    pub served: Cell<u32>,
    _noted: Option<Box<Noted>>,
    place: Place,
    idle_since: Cell<Now>,
}

/// Of its own type so that a connection, of which there are many, holds one word.
struct ServerName(String);

/// The listener a connection came through.
#[derive(Debug, Clone, Copy)]
pub struct Door {
    /// As bound, or as a balancer says the client knows it.
    pub port: u16,
    pub kind: ListenerKind,
}

/// Who was let in, by which door.
pub struct Newcomer {
    pub client: SocketAddr,
    pub door: Door,
    /// For the other node, which resets this client if we die.
    pub noted: Option<Box<Noted>>,
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
    fn new(core: Rc<Core>, stream: Stream, tls: Option<TlsInfo>, newcomer: Newcomer) -> Connection {
        let Newcomer { client: peer, door: Door { port, kind }, noted } = newcomer;
        core.counters().connections.up();
        let scheme = if kind == ListenerKind::Https { Scheme::Https } else { Scheme::Http };
        let origin = Origin::new(peer, scheme, port, &core.view().snapshot.settings.trust);
        let version = tls.as_ref().map(|info| info.version);
        let names_matter = core.view().snapshot.settings.certificates.len() > 1;
        let name = tls.and_then(|info| info.sni).filter(|_| names_matter).map(|name| Box::new(ServerName(name)));
        let place = core.sleepers.enter();
        let idle_since = Cell::new(now());
        Connection {
            core,
            stream,
            origin,
            kind,
            tls: version,
            name,
            timer: Timer::new(),
            served: Cell::new(0),
            _noted: noted,
            place,
            idle_since,
        }
    }

    /// Whether requests for `host` may come this way: a client that asks for another of our names here (RFC 9110 §7.4,
    /// RFC 9113 §9.1.1) was given a certificate for it too.
    pub fn is_for(&self, host: &[u8]) -> bool {
        let (Some(name), Some(Ok(host))) =
            (&self.name, Authority::parse(host).map(|authority| std::str::from_utf8(authority.host)))
        else {
            return true;
        };
        let ServerName(name) = &**name;
        name.eq_ignore_ascii_case(host) || self.core.view().snapshot.names.are_together(name, host)
    }

    /// The first bytes of the next request; `None` when there will be none. [`Connection::rest`] comes first.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(received) = self.stream.poll_recv(cx) {
            return Poll::Ready(received.ok().filter(|bytes| !bytes.is_empty()));
        }
        if self.timer.poll_elapsed(cx).is_ready() || self.is_told_to_close() {
            return Poll::Ready(None);
        }
        self.core.sleepers.sleep(self.place, cx.waker());
        Poll::Pending
    }

    /// Nothing to do until the client speaks.
    fn rest(&self) {
        self.idle_since.set(now());
        self.timer.arm(self.core.keepalive());
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

    /// Its core wants to be rid of it.
    pub fn may_be_told_to_close(&self) -> bool {
        self.core.phase() != Phase::Serving && self.core.sleepers.should_close(self.place)
    }

    /// `waker` is woken when the above may have changed.
    pub fn sleep(&self, waker: &Waker) {
        self.core.sleepers.sleep(self.place, waker);
    }

    /// For the log.
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls.map(Version::as_str)
    }

    /// A TLS client is told that this is the end, or it must suspect an attacker of it.
    async fn part(self: Rc<Connection>) {
        self.timer.arm(LINGER_TIME_MAX);
        let _ = self.timer.bound(self.stream.shutdown_write()).await;
    }

    /// Says no more, and takes what the client still says for a while.
    pub async fn linger(self: Rc<Connection>) {
        self.timer.arm(LINGER_TIME_MAX);
        let drained = async {
            self.stream.shutdown_write().await;
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

/// A client of HTTP/1.1 has the connection to itself.
impl Downstream for Connection {
    const PROTOCOL: &'static str = "HTTP/1.1";
    const IS_STREAM: bool = false;
    const PIECE_BYTES_MAX: u64 = u64::MAX;

    fn connection(&self) -> &Connection {
        self
    }

    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn bare(&self) -> Option<&Stream> {
        Some(&self.stream)
    }

    fn received(&self, body: BodyLength) -> BodyLength {
        body
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.stream.poll_recv(cx)
    }

    fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.stream.poll_recv_into(cx, buffer)
    }

    fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.stream.poll_recv(cx)
    }

    fn taken(&self) -> Option<u64> {
        self.stream.socket().and_then(|socket| socket.acknowledged())
    }

    fn send_interim(&self, out: Vec<u8>) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
        self.stream.send(out)
    }

    fn send_head(&self, out: Vec<u8>, _: usize, _: bool) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
        self.stream.send(out)
    }

    fn send(&self, out: Vec<u8>, _: bool) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
        self.stream.send(out)
    }

    fn send_all(&self, bytes: &[u8], _: bool) -> impl Future<Output = io::Result<()>> {
        self.stream.send_all(bytes)
    }

    /// They went with the last chunk.
    fn send_trailers(&self, _: &[u8]) -> impl Future<Output = io::Result<()>> {
        std::future::ready(Ok(()))
    }

    fn send_bytes(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> {
        self.stream.send_bytes(bytes)
    }

    fn finish(&self) -> impl Future<Output = ()> {
        self.stream.shutdown_write()
    }

    fn abort(&self) {
        self.stream.abort();
    }

    fn explains(&self, _: Failure) -> bool {
        true
    }
}

/// A connection's task, written by hand: a generated one keeps room for every step it may ever take.
pub struct Life {
    connection: Rc<Connection>,
    step: Step,
}

enum Step {
    Idle,
    Request(Pin<Box<dyn Future<Output = Next>>>),
    Ending(Pin<Box<dyn Future<Output = ()>>>),
}

impl Life {
    /// Of an admitted client.
    pub fn new(core: Rc<Core>, stream: Stream, tls: Option<TlsInfo>, newcomer: Newcomer) -> Life {
        let is_h2 = tls.as_ref().is_some_and(|info| info.alpn.as_deref() == Some(b"h2"));
        let connection = Rc::new(Connection::new(core, stream, tls, newcomer));
        if is_h2 {
            let step = Step::Ending(Box::pin(h2::run(connection.clone())));
            return Life { connection, step };
        }
        connection.rest();
        Life { connection, step: Step::Idle }
    }

    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.step = match &mut self.step {
                Step::Idle => match ready!(self.connection.poll_next(cx)) {
                    Some(bytes) => self.begin(bytes),
                    None => match self.end() {
                        Some(ending) => ending,
                        None => return Poll::Ready(()),
                    },
                },
                Step::Request(request) => match ready!(request.as_mut().poll(cx)) {
                    Next::Request(rest) => {
                        self.connection.served.set(self.connection.served.get().saturating_add(1));
                        match rest.filter(|rest| !rest.is_empty()) {
                            Some(rest) => self.begin(rest),
                            None => {
                                self.connection.rest();
                                Step::Idle
                            }
                        }
                    }
                    Next::Close => match self.end() {
                        Some(ending) => ending,
                        None => return Poll::Ready(()),
                    },
                    Next::Abort => {
                        self.connection.stream.abort();
                        return Poll::Ready(());
                    }
                    Next::Linger => Step::Ending(Box::pin(self.connection.clone().linger())),
                    Next::Tunnel(tunnel) => Step::Ending(Box::pin(tunnel.run(self.connection.clone()))),
                },
                Step::Ending(ending) => return ending.as_mut().poll(cx),
            };
        }
    }

    fn begin(&self, bytes: Bytes) -> Step {
        Step::Request(Box::pin(request::serve(self.connection.clone(), bytes)))
    }

    fn end(&self) -> Option<Step> {
        self.connection.tls.map(|_| Step::Ending(Box::pin(self.connection.clone().part())))
    }
}

impl Future for Life {
    type Output = ();

    /// A panic ends this connection and nothing else.
    fn poll(self: Pin<&mut Life>, cx: &mut Context<'_>) -> Poll<()> {
        let life = self.get_mut();
        match catch_unwind(AssertUnwindSafe(|| life.poll_on(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                life.connection.core.counters().panics.bump();
                let peer = life.connection.origin.peer;
                tracing::error!(%peer, "a connection's task panicked, the connection is closed");
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.core.sleepers.leave(self.place);
        self.core.dismiss(self.origin.peer);
        self.core.counters().connections.down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Life>() <= 40, "{}", size_of::<Life>());
        assert!(size_of::<Connection>() <= 144, "{}", size_of::<Connection>());
        // Exists only while a request does, but is moved once when it is made.
        let request = size_of_future(|connection| request::serve(connection, Bytes::Owned(Default::default())));
        assert!(request <= 4096, "{request}");
        eprintln!("request {request}");
    }
}
