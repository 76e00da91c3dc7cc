//! The server's side of ExApps' tunnels: connections of frpc, on the cores that accepted them.
//!
//! This file lets a connection in and finds out what it is; [`connection`] drives its bytes; [`client`] is one client
//! between the bytes and `proto::frp`, with a [`mod@line`] for each of its streams. [`tunnels`] is what all cores share: any
//! of them opens a tunnel and gets the end of a [`pipe`]; an [`inbox`] is how it tells the client's core. A [`way`] is how
//! what is behind a tunnel is connected to like any server.

mod client;
mod connection;
mod inbox;
mod line;
mod pipe;
mod tunnels;
mod way;
mod wrap;

use crate::config::settings::ExApps;
use crate::net::clock::Timer;
use crate::net::driver::{Chunk, Socket};
use crate::net::stream::{Bytes, Stream};
use crate::net::tls::{Acceptor, ConfigError, checked_config};
use crate::proto::frp::identity::Keys;
use crate::serve::core::{Core, spawn_guarded};
use crate::serve::pairing::Noted;
use crate::serve::shared::{Phase, Snapshot, certificate};
pub use pipe::Tunnel;
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
pub use tunnels::{Call, Tunnels};
pub use way::Behind;

/// From the first byte to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Before TLS, if the client was told to: a byte that says so.
const TLS_MARKER: u8 = 0x17;
const TLS_HANDSHAKE: u8 = 0x16;
/// The version byte of the multiplexer.
const MUX: u8 = 0;

/// What the settings say about those who connect.
pub struct Gate {
    listen: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    keys: Keys,
}

impl Gate {
    /// `None`: nothing listens.
    pub fn build(exapps: &ExApps) -> Result<Option<Gate>, ConfigError> {
        let Some(settings) = &exapps.frp else { return Ok(None) };
        let tls = settings.tls.as_ref();
        let tls =
            tls.map(|tls| checked_config(&certificate(&tls.certificate), tls.client_ca.as_deref())).transpose()?;
        Ok(Some(Gate { listen: settings.listen, tls, keys: Keys::new(Some(&exapps.shared_key.0), []) }))
    }
}

/// The gate that listens on `address`.
pub fn gate_at(snapshot: &Snapshot, address: SocketAddr) -> Option<Arc<Gate>> {
    snapshot.frp.as_ref().filter(|gate| gate.listen == address).cloned()
}

/// Takes an accepted connection in, or resets it.
pub fn welcome(core: &Rc<Core>, gate: Arc<Gate>, socket: Socket, peer: SocketAddr) {
    core.counters().accepted.bump();
    let client = peer.ip().to_canonical();
    if core.admit(client).is_err() {
        core.counters().refused.bump();
        socket.abort();
        return;
    }
    let guard = Guard::new(core.clone(), client, peer, &socket);
    let panicked = "a tunnel client's task panicked, its connection is closed";
    spawn_guarded(core.clone(), peer, panicked, walk(guard, gate, socket, peer));
}

/// Everything a connection counts in, left however it ends.
struct Guard {
    core: Rc<Core>,
    client: IpAddr,
    /// For the other node, which resets this client if we die: it is back at once, and not when it pings next.
    _noted: Option<Box<Noted>>,
}

impl Guard {
    fn new(core: Rc<Core>, client: IpAddr, peer: SocketAddr, socket: &Socket) -> Guard {
        let local = core.shared.pairing().and_then(|pairing| Some((pairing, socket.local_addr().ok()?)));
        let noted = local.and_then(|(pairing, local)| pairing.note(core.index, peer, local)).map(Box::new);
        core.counters().connections.up();
        Guard { core, client, _noted: noted }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.core.counters().connections.down();
        self.core.dismiss(self.client);
    }
}

async fn walk(guard: Guard, gate: Arc<Gate>, socket: Socket, peer: SocketAddr) {
    let core = &guard.core;
    let (stream, first) = match enter(core, &gate, socket).await {
        Ok(entered) => entered,
        Err(error) => {
            core.warn_seldom(|others| {
                tracing::warn!(client = %guard.client, %error, others, "a tunnel's client did not get in");
            });
            return;
        }
    };
    if first.first() != Some(&MUX) {
        core.warn_seldom(|others| {
            let remedy = "set transport.tcpMux = true in its configuration (the default)";
            tracing::warn!(client = %guard.client, others, remedy, "a tunnel's client does not use the multiplexer");
        });
        return;
    }
    connection::drive(core, gate, stream, first, peer).await;
}

/// Finds out what comes by the first byte, and gets TLS behind us. With it, the first bytes inside.
async fn enter(core: &Core, gate: &Gate, socket: Socket) -> io::Result<(Stream, Bytes)> {
    let timer = Timer::new();
    timer.arm(HANDSHAKE);
    let entered = timer.bound(secure(core, gate, socket)).await;
    let entered = entered.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"))?;
    let (stream, first) = entered?;
    if !first.is_empty() {
        return Ok((stream, first));
    }
    timer.arm(client::FIRST_MESSAGE);
    let first = timer.bound(stream.recv()).await;
    let first = first.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no first message in time"))??;
    if first.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((stream, first)) }
}

async fn secure(core: &Core, gate: &Gate, socket: Socket) -> io::Result<(Stream, Bytes)> {
    let mut hello = received(&socket).await?;
    let Some(tls) = &gate.tls else {
        return match hello.first() {
            Some(&(TLS_MARKER | TLS_HANDSHAKE)) => Err(invalid("it speaks TLS, and frp_tls is \"off\" here")),
            _ => Ok((Stream::Plain(socket), Bytes::Chunk(hello))),
        };
    };
    if hello.first() == Some(&TLS_MARKER) {
        hello.advance(1);
        if hello.is_empty() {
            hello = received(&socket).await?;
        }
    }
    if hello.first() != Some(&TLS_HANDSHAKE) {
        return Err(invalid("it does not speak TLS, which is demanded here"));
    }
    let counters = core.counters();
    if counters.handshaking.read() >= core.view().snapshot.settings.limits.handshakes_max as u64 {
        return Err(io::Error::other("too many handshakes at once"));
    }
    let _one_more = Handshaking::new(core);
    let outcome = Acceptor::new(tls.clone()).accept_from(socket, hello).await;
    match &outcome {
        Ok(_) => counters.handshakes.bump(),
        Err(_) => counters.handshakes_failed.bump(),
    }
    let (stream, _) = outcome?;
    Ok((stream, Bytes::Owned(Default::default())))
}

/// A handshake under way, also when it is given up.
struct Handshaking<'a>(&'a Core);

impl<'a> Handshaking<'a> {
    fn new(core: &'a Core) -> Handshaking<'a> {
        core.counters().handshaking.up();
        Handshaking(core)
    }
}

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        self.0.counters().handshaking.down();
    }
}

async fn received(socket: &Socket) -> io::Result<Chunk> {
    let chunk = socket.recv().await?;
    if chunk.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(chunk) }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The worker is about to end: what carries nothing may go.
fn is_stopping(core: &Core) -> bool {
    core.phase() >= Phase::Stopping
}
