//! One stream as a client of the walk: its request as text, its body as bytes, responses as frames.

use super::limits;
use super::mux::{Mux, Place};
use crate::net::clock::Timer;
use crate::net::pool::{self, Pooled};
use crate::net::stream::{Bytes as Received, Stream};
use crate::proto::http1::{BodyLength, RequestError};
use crate::proto::http2::request::{Body, Request, write_head};
use crate::proto::http2::response::{self, Head};
use crate::serve::connection::{Connection, Next};
use crate::serve::downstream::Downstream;
use crate::serve::reply::Failure;
use crate::serve::request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha1::{Digest as _, Sha1};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Body bytes taken along with the head if they are there already: they can be sent again, and give a small body
/// without length one.
const AT_HAND_BYTES_MAX: usize = 16 * 1024;

/// Tunnelled bytes received at a time.
const RECEIVE_BYTES: usize = 16 * 1024;

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A stream's two halves. `h2` wants them mutable; nothing is borrowed across an await.
pub(super) struct Client {
    mux: Rc<Mux>,
    timer: Timer,
    parts: RefCell<Option<Parts>>,
    body: RefCell<RecvStream>,
    /// Received, not yet read.
    unread: RefCell<Bytes>,
    /// Read, and not yet passed on: the client has no credit for it.
    owed: Cell<usize>,
    uploaded: Cell<u64>,
    /// Body bytes that the client's windows and the frame layer took.
    sent: Cell<u64>,
    respond: RefCell<SendResponse<Bytes>>,
    /// After the head of the response.
    sender: RefCell<Option<SendStream<Bytes>>>,
    /// Of a bridged handshake: the answer the upstream owes.
    key: RefCell<Option<String>>,
}

/// Serves one stream. `_place` is left when all is done, also by cancellation.
pub(super) async fn serve(client: Client, _place: Place) {
    let client = Rc::new(client);
    let rest = client.at_hand().await;
    let mut head = pool::vector();
    // Of a request that makes no sense the log still gets what was written.
    let written = client.write_head(&mut head, rest.as_ref().map_or(0, |rest| rest.len()));
    let written = rest.as_ref().map_err(|error| *error).and(written);
    let rest = rest.ok().filter(|rest| !rest.is_empty()).map(Received::Owned);
    let next = Box::pin(request::serve_stream(&*client, head, written, rest)).await;
    if client.sender.borrow().is_none() {
        return client.part_unanswered();
    }
    match next {
        // What is unread of the request is cut off by dropping its half: RST_STREAM(NO_ERROR), RFC 9113 §8.1.
        Next::Request(_) | Next::Close | Next::Linger => {}
        Next::Abort => client.abort(),
        Next::Tunnel(tunnel) => tunnel.run(client.clone()).await,
    }
}

impl Client {
    pub(super) fn new(mux: Rc<Mux>, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) -> Client {
        let (parts, body) = request.into_parts();
        Client {
            mux,
            timer: Timer::new(),
            parts: RefCell::new(Some(parts)),
            body: RefCell::new(body),
            unread: RefCell::default(),
            owed: Cell::new(0),
            uploaded: Cell::new(0),
            sent: Cell::new(0),
            respond: RefCell::new(respond),
            sender: RefCell::new(None),
            key: RefCell::new(None),
        }
    }

    /// The body bytes that came with the head.
    async fn at_hand(&self) -> Result<Pooled, RequestError> {
        if self.body.borrow().is_end_stream() {
            return Ok(Pooled::default());
        }
        if self.declares_nothing() {
            return self.await_nothing().await.map(|()| Pooled::default());
        }
        let mut bytes = pool::vector();
        bytes.resize(AT_HAND_BYTES_MAX, 0);
        let count = poll_fn(|cx| match self.poll_recv_into(cx, &mut bytes) {
            Poll::Ready(Ok(count)) => Poll::Ready(count),
            // A failure shows again where it matters.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(0),
        });
        let count = count.await;
        bytes.truncate(count);
        Ok(Pooled::new(bytes))
    }

    fn declares_nothing(&self) -> bool {
        let parts = self.parts.borrow();
        let length = parts.as_ref().and_then(|parts| parts.headers.get(http::header::CONTENT_LENGTH));
        length.is_some_and(|length| length.as_bytes().iter().all(|digit| *digit == b'0'))
    }

    /// A body declared empty while its stream is open: DATA would make the request malformed, and nobody could take back
    /// what was sent on by then. So its end is awaited, as long as a head may take.
    async fn await_nothing(&self) -> Result<(), RequestError> {
        self.timer.arm(self.connection().core.view().snapshot.settings.timeouts.head);
        let mut none = [0];
        match self.timer.bound(poll_fn(|cx| self.poll_body(cx, &mut none))).await {
            Ok(Ok(0)) | Err(_) => Ok(()),
            Ok(_) => Err(RequestError::ContentLength),
        }
    }

    fn write_head(&self, head: &mut Vec<u8>, at_hand: usize) -> Result<(), RequestError> {
        let Some(parts) = self.parts.take() else { return Err(RequestError::RequestLine) };
        let body = match self.body.borrow().is_end_stream() {
            true if at_hand > 0 && self.unread.borrow().is_empty() => Body::Counted(at_hand as u64),
            true if at_hand == 0 => Body::None,
            _ => Body::Streamed,
        };
        let is_tunnel = parts.extensions.get::<Protocol>().is_some();
        let key = is_tunnel.then(|| STANDARD.encode(std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..))));
        let written = write_parts(head, &parts, body, key.as_deref().unwrap_or_default());
        self.key.replace(key);
        written
    }

    /// The next of the body without waiting for more than the first byte; 0 at its end.
    fn poll_body(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut unread = self.unread.borrow_mut();
        let mut body = self.body.borrow_mut();
        let mut count = 0;
        while count < buffer.len() {
            if unread.is_empty() {
                match body.poll_data(cx) {
                    Poll::Ready(Some(Ok(data))) => *unread = data,
                    Poll::Ready(None) if count == 0 && self.mux.is_malformed(body.stream_id().into()) => {
                        return Poll::Ready(Err(malformed()));
                    }
                    Poll::Ready(Some(Err(error))) if count == 0 => return Poll::Ready(Err(broken(error))),
                    Poll::Pending if count == 0 => return Poll::Pending,
                    Poll::Ready(Some(Err(_)) | None) | Poll::Pending => break,
                }
                continue;
            }
            let take = unread.len().min(buffer.len() - count);
            if let Some(room) = buffer.get_mut(count..count + take) {
                unread.copy_to_slice(room);
            }
            count += take;
        }
        Poll::Ready(Ok(count))
    }

    fn is_malformed(&self) -> bool {
        self.mux.is_malformed(self.respond.borrow().stream_id().into())
    }

    /// Gives the client credit for what was passed on.
    fn settle(&self) {
        let owed = self.owed.take();
        if owed > 0 {
            // Fails only for a stream that is gone.
            let _ = self.body.borrow_mut().flow_control().release_capacity(owed);
        }
    }

    /// No head was sent: the client gave up, or its request made no sense (RFC 9113 §8.1.1).
    fn part_unanswered(&self) {
        let mut respond = self.respond.borrow_mut();
        let reset = respond.poll_reset(&mut Context::from_waker(std::task::Waker::noop()));
        if reset.is_ready() {
            self.mux.reset_early();
        } else {
            self.mux.reset_malformed();
            respond.send_reset(Reason::PROTOCOL_ERROR);
        }
    }

    async fn send_data(&self, mut bytes: &[u8], is_end: bool) -> io::Result<()> {
        if bytes.is_empty() {
            return if is_end { self.with_sender(|sender| sender.send_data(Bytes::new(), true)) } else { Ok(()) };
        }
        while !bytes.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, bytes.len())).await?;
            let (now, later) = bytes.split_at_checked(room.min(bytes.len())).unwrap_or((bytes, &[]));
            let data = Bytes::copy_from_slice(now);
            self.with_sender(|sender| sender.send_data(data, is_end && later.is_empty()))?;
            self.sent.set(self.sent.get() + now.len() as u64);
            bytes = later;
        }
        Ok(())
    }

    /// Waits until the client's windows and the send buffer take some of `wanted`.
    fn poll_room(&self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let mut sender = self.sender.borrow_mut();
        let Some(sender) = sender.as_mut() else { return Poll::Ready(Err(gone())) };
        sender.reserve_capacity(wanted);
        loop {
            if sender.capacity() > 0 {
                return Poll::Ready(Ok(sender.capacity()));
            }
            match ready!(sender.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(gone())),
            }
        }
    }

    fn with_sender(&self, act: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>) -> io::Result<()> {
        match self.sender.borrow_mut().as_mut() {
            Some(sender) => act(sender).map_err(broken),
            None => Err(gone()),
        }
    }

    /// The upstream answered the key it was given (RFC 6455 §4.2.2): it does speak WebSocket.
    fn is_accepted(&self, head: &[u8]) -> bool {
        let key = self.key.borrow();
        let expected = key.as_deref().map(|key| STANDARD.encode(Sha1::digest(format!("{key}{WEBSOCKET_GUID}"))));
        expected.as_deref().map(str::as_bytes) == response::websocket_accept(head)
    }

    fn begin(&self, head: &[u8], is_end: bool) -> io::Result<()> {
        // A body with a length is complete before its stream is.
        if self.is_malformed() {
            return Err(malformed());
        }
        let response = self.response(head)?;
        let sender = self.respond.borrow_mut().send_response(response, is_end).map_err(broken)?;
        self.sender.replace(Some(sender));
        Ok(())
    }

    fn response(&self, head: &[u8]) -> io::Result<Response<()>> {
        let text = head;
        let head = Head::of(head).ok_or_else(misshapen)?;
        if head.status == 101 && !self.is_accepted(text) {
            return Err(misshapen());
        }
        let mut response = Response::new(());
        // A stream's tunnel opens with a 200 (RFC 8441 §5), so no other answer to its request may look like one.
        let status = match head.status {
            101 => 200,
            200..300 if self.key.borrow().is_some() => 502,
            status => status,
        };
        *response.status_mut() = StatusCode::from_u16(status).map_err(|_| misshapen())?;
        *response.headers_mut() = header_map(head.fields());
        Ok(response)
    }
}

/// The request as text; see [`write_head`].
pub fn write_parts(head: &mut Vec<u8>, parts: &Parts, body: Body, websocket_key: &str) -> Result<(), RequestError> {
    let request = Request {
        method: parts.method.as_str().as_bytes(),
        scheme: parts.uri.scheme_str().map(str::as_bytes),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        path: parts.uri.path_and_query().map_or(&b""[..], |path| path.as_str().as_bytes()),
        protocol: parts.extensions.get::<Protocol>().map(|protocol| protocol.as_str().as_bytes()),
        body,
        websocket_key: websocket_key.as_bytes(),
    };
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    write_head(head, &request, fields)
}

/// Names and values were checked when they came from the upstream; what `http` still does not take is left out.
fn header_map<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(24);
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}

impl Downstream for Client {
    const PROTOCOL: &'static str = "HTTP/2.0";
    const IS_STREAM: bool = true;
    const PIECE_BYTES_MAX: u64 = limits::PIECE_BYTES_MAX;

    fn connection(&self) -> &Connection {
        &self.mux.connection
    }

    fn timer(&self) -> &Timer {
        &self.timer
    }

    fn bare(&self) -> Option<&Stream> {
        None
    }

    /// The end of the stream is the end of a body without length.
    fn received(&self, body: BodyLength) -> BodyLength {
        if body == BodyLength::Chunked { BodyLength::UntilClose } else { body }
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        let mut bytes = pool::vector();
        bytes.resize(RECEIVE_BYTES, 0);
        match self.poll_recv_into(cx, &mut bytes) {
            Poll::Ready(Ok(count)) => {
                bytes.truncate(count);
                Poll::Ready(Ok(Received::Owned(Pooled::new(bytes))))
            }
            Poll::Ready(Err(error)) => {
                pool::recycle(bytes);
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                pool::recycle(bytes);
                Poll::Pending
            }
        }
    }

    fn poll_recv_into(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.settle();
        let count = ready!(self.poll_body(cx, buffer))?;
        self.owed.set(count);
        self.uploaded.set(self.uploaded.get() + count as u64);
        self.mux.uploaded(self.uploaded.get());
        Poll::Ready(Ok(count))
    }

    /// Nothing follows a request on its stream; only a reset is news.
    fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        self.respond.borrow_mut().poll_reset(cx).map(|_| Err(gone()))
    }

    /// Of this stream: others get their share of a slow connection in turn, and one whose window stays closed gains nothing
    /// by them.
    fn taken(&self) -> Option<u64> {
        Some(self.sent.get())
    }

    async fn send_interim(&self, out: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let sent = self
            .response(&out)
            .and_then(|response| self.respond.borrow_mut().send_informational(response).map_err(broken));
        (sent, out)
    }

    async fn send_head(&self, out: Vec<u8>, head_bytes: usize, is_end: bool) -> (io::Result<()>, Vec<u8>) {
        let (head, body) = out.split_at_checked(head_bytes).unwrap_or((&out, &[]));
        let sent = match self.begin(head, is_end && body.is_empty()) {
            Ok(()) if body.is_empty() => Ok(()),
            Ok(()) => self.send_data(body, is_end).await,
            Err(error) => Err(error),
        };
        (sent, out)
    }

    async fn send(&self, out: Vec<u8>, is_end: bool) -> (io::Result<()>, Vec<u8>) {
        (self.send_data(&out, is_end).await, out)
    }

    async fn send_all(&self, bytes: &[u8], is_end: bool) -> io::Result<()> {
        self.send_data(bytes, is_end).await
    }

    async fn send_trailers(&self, lines: &[u8]) -> io::Result<()> {
        let trailers = header_map(response::fields(lines));
        self.with_sender(|sender| sender.send_trailers(trailers))
    }

    async fn send_bytes(&self, bytes: Received) -> io::Result<()> {
        self.send_data(&bytes, false).await
    }

    async fn finish(&self) {
        let _ = self.send_data(&[], true).await;
    }

    fn abort(&self) {
        // A tunnel's reset is the other side's (RFC 8441 §5), a cut body the server's fault.
        let reason = match self.key.borrow().is_some() {
            _ if self.is_malformed() => Reason::PROTOCOL_ERROR,
            true => Reason::CANCEL,
            false => Reason::INTERNAL_ERROR,
        };
        if let Some(sender) = self.sender.borrow_mut().as_mut() {
            sender.send_reset(reason);
        }
    }

    /// A malformed request is an error of its stream; what it says cannot be relied on for an answer.
    fn explains(&self, failure: Failure) -> bool {
        match failure {
            Failure::Request(error) => error.status() != 400,
            Failure::RequestBody(_) => false,
            Failure::Response(_) | Failure::ResponseBody(_) | Failure::Own(_) => true,
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(gone);
    }
    // The client wants no more of this stream: as if it had closed a connection without a goodbye.
    if error.is_remote() && error.is_reset() && matches!(error.reason(), Some(Reason::CANCEL | Reason::NO_ERROR)) {
        return io::ErrorKind::UnexpectedEof.into();
    }
    io::Error::other(error)
}

/// The request turned out to be none.
fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn misshapen() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}
