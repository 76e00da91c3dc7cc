//! Who a connection speaks for, said in a PROXY header: read from balancers in front, written to servers behind.
//!
//! A cancelled read closes its socket; nothing was counted for a client yet.

use crate::config::settings::{Listener, ProxyVersion};
use crate::net::clock::Timer;
use crate::net::driver::Socket;
use crate::proto::proxy_header::{self, HEADER_BYTES_MAX, Parsed, ProxyHeader, ProxyHeaderError, Version};
use crate::serve::connection::Connection;
use crate::serve::core::Core;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};

/// Whether `peer` may connect to a listener that wants the header. A stranger is not answered: a header of its would
/// have to be believed, and a request without one comes from the wrong side.
pub fn is_expected(core: &Core, listener: &Listener, peer: SocketAddr) -> bool {
    let address = peer.ip().to_canonical();
    let counters = core.counters();
    if !listener.proxy_protocol.iter().any(|network| network.contains(&address)) {
        counters.proxy_strangers.bump();
        core.warn_seldom(|others| {
            let listener = listener.address;
            tracing::warn!(%listener, %peer, others, "not among those who may send a PROXY header, closed");
        });
        return false;
    }
    let limit = core.view().snapshot.settings.limits.max_connections as u64;
    let has_room = counters.connections.read() + counters.introducing.read() < limit;
    if !has_room {
        counters.refused.bump();
    }
    has_room
}

/// The client, and the port it connected to if that was said. `None`: the connection is to be closed.
///
/// Reads the header and not a byte more, so that what is behind it needs no place to be kept.
pub async fn read(core: &Core, socket: &Socket, peer: SocketAddr) -> Option<(SocketAddr, Option<u16>)> {
    let counters = core.counters();
    let timer = Timer::new();
    timer.arm(core.view().snapshot.settings.timeouts.handshake);
    counters.introducing.up();
    let read = Box::pin(timer.bound(receive(socket))).await;
    counters.introducing.down();
    let reason = match read {
        Ok(Ok(header)) => {
            let client = header.source().unwrap_or(peer);
            return Some((client, header.destination().map(|to| to.port()).filter(|port| *port != 0)));
        }
        // Closed before a byte: how balancers look whether we are there.
        Ok(Err(None)) => return None,
        Ok(Err(Some(error))) => error.reason(),
        Err(_) => "timeout",
    };
    counters.proxy_refused.bump();
    core.warn_seldom(|others| tracing::warn!(%peer, reason, others, "no good PROXY header, connection closed"));
    None
}

/// `Err(None)` is an end before the first byte.
async fn receive(socket: &Socket) -> Result<ProxyHeader, Option<ProxyHeaderError>> {
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        let end = (start + proxy_header::bytes_missing(&bytes)).min(HEADER_BYTES_MAX);
        bytes.resize(end, 0);
        let room = bytes.get_mut(start..).unwrap_or_default();
        let count = poll_fn(|cx| socket.poll_recv_into(cx, room)).await.unwrap_or(0);
        bytes.truncate(start + count);
        match proxy_header::parse(&bytes) {
            Ok(Parsed::Done { header, .. }) => return Ok(header),
            Ok(Parsed::NeedMore) if count > 0 => {}
            Ok(Parsed::NeedMore) if start == 0 => return Err(None),
            Ok(Parsed::NeedMore) => return Err(Some(ProxyHeaderError::TooShort)),
            Err(error) => return Err(Some(error)),
        }
    }
}

/// What a connection to a server begins with for requests of `client`, which came over `connection`.
pub fn header(version: ProxyVersion, connection: &Connection, client: IpAddr) -> Vec<u8> {
    let origin = &connection.origin;
    // The port of a client behind a proxy is known to that proxy alone.
    let port = if client == origin.peer { origin.peer_port } else { 0 };
    let local = connection.stream.socket().and_then(|socket| socket.local_addr().ok());
    let endpoints = local.map(|to| (SocketAddr::new(client, port), SocketAddr::new(to.ip(), origin.port)));
    let mut out = Vec::new();
    proxy_header::write(&mut out, wire(version), endpoints);
    out
}

/// As [`header`], for the node's own connections: health checks.
pub fn own_header(version: ProxyVersion) -> Vec<u8> {
    let mut out = Vec::new();
    proxy_header::write(&mut out, wire(version), None);
    out
}

fn wire(version: ProxyVersion) -> Version {
    match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    }
}
