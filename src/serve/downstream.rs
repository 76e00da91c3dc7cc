//! What the walk of a request needs of the client it serves, whichever HTTP the client speaks. One implementation is a
//! whole HTTP/1.1 connection, the other one stream of HTTP/2; the walk is compiled once for each.
//!
//! Heads are handed over as HTTP/1.1 text, bodies as they are framed for that client (`Framing`): raw for a stream,
//! whose frames do the rest.

use crate::net::clock::Timer;
use crate::net::stream::{Bytes, Stream};
use crate::proto::http1::BodyLength;
use crate::serve::connection::Connection;
use crate::serve::reply::Failure;
use std::future::Future;
use std::io;
use std::task::{Context, Poll};

pub trait Downstream {
    /// For the log.
    const PROTOCOL: &'static str;

    /// The stream frames bodies: none is chunked for it, and the end of its sending is the end of the body.
    const IS_STREAM: bool;

    /// Body bytes handed over at a time.
    const PIECE_BYTES_MAX: u64;

    /// The connection below, for its core, its origin and its listener.
    fn connection(&self) -> &Connection;

    /// Bounds whatever this request waits for.
    fn timer(&self) -> &Timer;

    /// The stream below, if bodies of declared length pass it bare: they may then bypass us.
    fn bare(&self) -> Option<&Stream>;

    /// How the end of the request's body is known on this side.
    fn received(&self, body: BodyLength) -> BodyLength;

    /// As [`Stream::poll_recv`](crate::net::stream::Stream::poll_recv).
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;

    /// As [`Stream::poll_recv_into`](crate::net::stream::Stream::poll_recv_into). The client gets credit for these bytes
    /// with the next call: when they were passed on.
    fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// After the whole request: the client's next bytes, an empty piece or an error when it gave up.
    fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;

    /// Bytes of responses that the client took so far, if that can be known. What is between us and it does not count.
    fn taken(&self) -> Option<u64>;

    /// An interim response.
    fn send_interim(&self, out: Vec<u8>) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;

    /// The head of the response, `head_bytes` long, and the beginning of its body; all of it if `is_end`.
    fn send_head(
        &self,
        out: Vec<u8>,
        head_bytes: usize,
        is_end: bool,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;

    /// More of the body.
    fn send(&self, out: Vec<u8>, is_end: bool) -> impl Future<Output = (io::Result<()>, Vec<u8>)>;

    /// More of the body, borrowed.
    fn send_all(&self, bytes: &[u8], is_end: bool) -> impl Future<Output = io::Result<()>>;

    /// The end of the body and the field lines behind it.
    fn send_trailers(&self, lines: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// Tunnelled bytes.
    fn send_bytes(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>>;

    /// The end of a tunnel's direction.
    fn finish(&self) -> impl Future<Output = ()>;

    /// The client must not take what it has for all there is.
    fn abort(&self);

    /// The client gets a page for this failure, if it has a status.
    fn explains(&self, failure: Failure) -> bool;
}
