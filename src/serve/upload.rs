//! A request's body on its way up: what is at hand goes with the head, the rest is pumped while the response is awaited.

use crate::config::settings::Timeouts;
use crate::net::clock::{Timer, now};
use crate::net::pool;
use crate::net::splice::{SPLICE_BYTES_MIN, Splice};
use crate::net::spool::Spooled;
use crate::net::stream::{Bytes, Stream};
use crate::policy::pace::{Allowance, Patience};
use crate::proto::http1::exchange::Framing;
use crate::proto::http1::{BodyLength, BodyReader, ChunkError, emit};
use crate::serve::body::{Turn, append, receive};
use crate::serve::downstream::Downstream;
use crate::serve::reply::{Failure, Own};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// Body bytes that may travel with the head in one send, and so can be sent again.
const PRIMED_BYTES_MAX: usize = 16 * 1024;

/// Bytes read back from the spool at a time; twice as many are in memory.
const READ_BYTES: usize = 256 * 1024;

/// Bytes taken at a time while a body is gathered.
const TAKEN_BYTES_MAX: u64 = 32 * 1024;

pub struct Upload {
    reader: BodyReader,
    framing: Framing,
    /// Received and not dealt with: body, and after its end the client's next request.
    pub rest: Option<Bytes>,
    pub bytes: u64,
    bytes_max: u64,
    is_done: bool,
    /// Body bytes went out by themselves and were let go.
    is_spent: bool,
    /// All of the body, if it had to be gathered first.
    spooled: Option<Spooled>,
}

impl Upload {
    /// `rest` is what came behind the head; `received` is how the client ends the body.
    pub fn new(
        body: BodyLength,
        received: BodyLength,
        rest: Option<Bytes>,
        bytes_max: Option<u64>,
    ) -> Result<Upload, Failure> {
        let bytes_max = bytes_max.unwrap_or(u64::MAX);
        if matches!(body, BodyLength::Length(length) if length > bytes_max) {
            return Err(Own::BodyTooLarge.into());
        }
        let framing = Framing::of_request(body);
        Ok(Upload {
            reader: BodyReader::new(received),
            framing,
            rest,
            bytes: 0,
            bytes_max,
            is_done: body.is_empty(),
            is_spent: false,
            spooled: None,
        })
    }

    /// All of the body went into a send.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The client sent body bytes already.
    pub fn has_begun(&self) -> bool {
        self.bytes > 0 || self.rest.as_ref().is_some_and(|rest| !rest.is_empty())
    }

    /// The body is to be gathered: its bytes come bare from now on, and there are at most `bytes_max`.
    pub fn undress(&mut self, bytes_max: u64) {
        self.framing = Framing::None;
        self.bytes_max = self.bytes_max.min(bytes_max);
    }

    /// Appends the next body bytes to `out`.
    pub async fn take<D: Downstream>(
        &mut self,
        client: &D,
        timer: &Timer,
        allowance: &mut Allowance,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        if self.rest.as_ref().is_some_and(|rest| !rest.is_empty()) {
            return self.prime(out);
        }
        if D::IS_STREAM {
            let piece = in_time(timer, allowance, receive(from(client), TAKEN_BYTES_MAX)).await?;
            self.bytes += piece.len() as u64;
            out.extend_from_slice(&piece);
            self.is_done = piece.is_empty();
            return if self.bytes > self.bytes_max { Err(Own::BodyTooLarge.into()) } else { Ok(()) };
        }
        self.rest = Some(not_empty(in_time(timer, allowance, poll_fn(|cx| client.poll_recv(cx))).await)?);
        self.prime(out)
    }

    /// All of the body was gathered: in `spooled`, or behind the head already.
    pub fn measured(&mut self, spooled: Option<Spooled>) {
        self.framing = Framing::Length(self.bytes);
        self.is_done = spooled.is_none();
        self.spooled = spooled;
    }

    /// The same once more, for a second attempt, if all of it is at hand and nothing of the next request is.
    pub fn again(&self) -> Option<Upload> {
        let spooled = self.spooled.clone().filter(|_| self.rest.as_ref().is_none_or(|rest| rest.is_empty()))?;
        let Upload { bytes, bytes_max, .. } = *self;
        let reader = BodyReader::new(BodyLength::Length(0));
        Some(Upload {
            reader,
            framing: self.framing,
            rest: None,
            bytes,
            bytes_max,
            is_done: false,
            is_spent: false,
            spooled: Some(spooled),
        })
    }

    /// Appends the body bytes at hand to `out`, framed for the server.
    pub fn prime(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(rest) = self.rest.as_mut().filter(|_| !self.is_done) else { return Ok(()) };
        let bytes_before = out.len();
        while !rest.is_empty() && out.len() - bytes_before < PRIMED_BYTES_MAX {
            let span = self.reader.decode(rest).map_err(Failure::RequestBody)?;
            let data = rest.get(span.data).unwrap_or_default();
            self.bytes += data.len() as u64;
            append(out, data, self.framing);
            rest.advance(span.consumed);
            if span.is_done {
                self.end(out);
                break;
            }
        }
        if self.bytes > self.bytes_max { Err(Own::BodyTooLarge.into()) } else { Ok(()) }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.is_done = true;
        if self.framing == Framing::Chunked {
            out.extend_from_slice(emit::LAST_CHUNK);
        }
    }

    /// Everything not sent yet, from `client` to `server`. `allowance` bounds the wait for each piece, and its idle time
    /// that of the server.
    async fn pump<D: Downstream>(mut self, client: &D, server: &Stream, mut allowance: Allowance) -> (Upload, End) {
        let timer = Timer::new();
        self.is_spent = true;
        let end = match self.framing {
            _ if self.spooled.is_some() => self.pump_spooled(server, &timer, allowance.idle_max()).await,
            Framing::Length(_) => self.pump_plain(client, server, &timer, &mut allowance).await,
            _ if D::IS_STREAM => self.pump_stream(client, server, &timer, &mut allowance).await,
            _ => self.pump_chunked(client, server, &timer, &mut allowance).await,
        };
        (self, end)
    }

    /// From the spool. The next piece is read while one is sent.
    async fn pump_spooled(&mut self, server: &Stream, timer: &Timer, idle_max: Duration) -> End {
        let Some(spooled) = &self.spooled else { return End::Server };
        let read = |at: u64| (at < spooled.bytes).then(|| spooled.read(at, READ_BYTES));
        let mut at = 0;
        let mut next = read(at);
        while let Some(reading) = next {
            let Ok(piece) = reading.await else { return End::Client(Own::SpoolBroken.into()) };
            at += piece.len() as u64;
            next = read(at);
            let sent = send(server, &piece, timer, idle_max).await;
            if sent.is_err() {
                return End::Server;
            }
        }
        self.is_done = true;
        End::Done
    }

    /// Length known: bytes go through as they are, and never beyond the end.
    async fn pump_plain<D: Downstream>(
        &mut self,
        client: &D,
        server: &Stream,
        timer: &Timer,
        allowance: &mut Allowance,
    ) -> End {
        let idle_max = allowance.idle_max();
        if let Some(rest) = self.rest.as_mut()
            && !rest.is_empty()
        {
            let Ok(span) = self.reader.decode(rest) else { return End::Client(Own::ClientGone.into()) };
            let sent = send(server, rest.get(span.data).unwrap_or_default(), timer, idle_max).await;
            self.bytes += span.consumed as u64;
            rest.advance(span.consumed);
            if sent.is_err() {
                return End::Server;
            }
        }
        let mut turn = Turn::default();
        while !self.reader.is_done() {
            if self.reader.expected() >= SPLICE_BYTES_MIN
                && let Some(splice) = client.bare().and_then(|client| Splice::between(client, server))
            {
                match Box::pin(self.splice(splice, timer, allowance)).await {
                    End::Done if self.reader.is_done() => break,
                    End::Done => {}
                    end => return end,
                }
            }
            let received = in_time(timer, allowance, receive(from(client), self.reader.expected())).await;
            let piece = match not_empty(received) {
                Ok(piece) => piece,
                Err(failure) => return End::Client(failure),
            };
            // Bounded by what is expected, so all of it is body.
            let _ = self.reader.decode(&piece);
            self.bytes += piece.len() as u64;
            if send(server, &piece, timer, idle_max).await.is_err() {
                return End::Server;
            }
            drop(piece);
            // Sent is done at once: an answer may be on its way already.
            if !self.reader.is_done() {
                turn.step().await;
            }
        }
        self.is_done = true;
        End::Done
    }

    /// Through the kernel, to the end of the body or to where that does not work.
    async fn splice(&mut self, mut splice: Splice<'_>, timer: &Timer, allowance: &mut Allowance) -> End {
        let mut turn = Turn::default();
        while !self.reader.is_done() {
            let taking = poll_fn(|cx| splice.poll_take(cx, self.reader.expected()));
            let count = match waited(timer, allowance, taking, |count| *count).await {
                Ok(Ok(count @ 1..)) => count as u64,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => return End::Done,
                Ok(_) => return End::Client(Own::ClientGone.into()),
                Err(failure) => return End::Client(failure),
            };
            self.reader.pass(count);
            self.bytes += count;
            timer.arm(allowance.idle_max());
            if !matches!(timer.bound(poll_fn(|cx| splice.poll_pass(cx))).await, Ok(Ok(()))) {
                return End::Server;
            }
            // Sent is done at once: an answer may be on its way already.
            if !self.reader.is_done() {
                turn.step().await;
            }
        }
        End::Done
    }

    /// Chunks are taken apart and put together anew; what follows the last one stays in `rest`.
    async fn pump_chunked<D: Downstream>(
        &mut self,
        client: &D,
        server: &Stream,
        timer: &Timer,
        allowance: &mut Allowance,
    ) -> End {
        let idle_max = allowance.idle_max();
        let mut turn = Turn::default();
        while !self.is_done {
            turn.step().await;
            if self.rest.as_ref().is_none_or(|rest| rest.is_empty()) {
                self.rest = match not_empty(in_time(timer, allowance, poll_fn(|cx| client.poll_recv(cx))).await) {
                    Ok(bytes) => Some(bytes),
                    Err(failure) => return End::Client(failure),
                };
            }
            let mut out = pool::vector();
            if let Err(failure) = self.prime(&mut out) {
                return End::Client(failure);
            }
            let sent = send(server, &out, timer, idle_max).await;
            pool::recycle(out);
            if sent.is_err() {
                return End::Server;
            }
        }
        End::Done
    }

    /// Length unknown, the end is the stream's: large pieces, a chunk each.
    async fn pump_stream<D: Downstream>(
        &mut self,
        client: &D,
        server: &Stream,
        timer: &Timer,
        allowance: &mut Allowance,
    ) -> End {
        let idle_max = allowance.idle_max();
        let mut turn = Turn::default();
        while !self.is_done {
            let mut out = pool::vector();
            if self.rest.as_ref().is_some_and(|rest| !rest.is_empty()) {
                if let Err(failure) = self.prime(&mut out) {
                    return End::Client(failure);
                }
            } else {
                let piece = match in_time(timer, allowance, receive(from(client), u64::MAX)).await {
                    Ok(piece) => piece,
                    Err(failure) => return End::Client(failure),
                };
                self.bytes += piece.len() as u64;
                if self.bytes > self.bytes_max {
                    return End::Client(Own::BodyTooLarge.into());
                }
                append(&mut out, &piece, self.framing);
                if piece.is_empty() {
                    self.end(&mut out);
                }
            }
            let sent = send(server, &out, timer, idle_max).await;
            pool::recycle(out);
            if sent.is_err() {
                return End::Server;
            }
            if !self.is_done {
                turn.step().await;
            }
        }
        End::Done
    }
}

/// How slowly a body may come.
pub fn allowance(timeouts: &Timeouts) -> Allowance {
    Allowance::new(timeouts.upload, timeouts.client_idle)
}

/// What `receiving` gets from the client, in the time that `allowance` has left.
async fn in_time<B: Deref<Target = [u8]>>(
    timer: &Timer,
    allowance: &mut Allowance,
    receiving: impl Future<Output = io::Result<B>>,
) -> Result<B, Failure> {
    waited(timer, allowance, receiving, |bytes| bytes.len()).await?.map_err(|error| lost(&error))
}

/// As `in_time`, where `length` tells how many bytes came. A failure if none did for too long.
async fn waited<T>(
    timer: &Timer,
    allowance: &mut Allowance,
    receiving: impl Future<Output = io::Result<T>>,
    length: impl FnOnce(&T) -> usize,
) -> Result<io::Result<T>, Failure> {
    let patience = allowance.patience();
    timer.arm(patience.length());
    let since = now();
    match timer.bound(receiving).await {
        Ok(received) => {
            if let Ok(received) = &received {
                allowance.received(now().since(since), length(received));
            }
            Ok(received)
        }
        Err(_) if matches!(patience, Patience::Slow(_)) => Err(Own::BodySlow.into()),
        Err(_) => Err(Own::BodyTimeout.into()),
    }
}

/// A body that is not over goes on.
fn not_empty<B: Deref<Target = [u8]>>(received: Result<B, Failure>) -> Result<B, Failure> {
    received.and_then(|bytes| if bytes.is_empty() { Err(Own::ClientGone.into()) } else { Ok(bytes) })
}

/// Why nothing more of a body comes.
fn lost(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData => Failure::RequestBody(ChunkError::Trailer),
        _ => Own::ClientGone.into(),
    }
}

fn from<D: Downstream>(client: &D) -> impl FnMut(&mut Context<'_>, &mut [u8]) -> Poll<io::Result<usize>> {
    |cx, buffer| client.poll_recv_into(cx, buffer)
}

async fn send(to: &Stream, bytes: &[u8], timer: &Timer, idle_max: Duration) -> Result<(), ()> {
    timer.arm(idle_max);
    match timer.bound(to.send_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// How the pump ended.
pub enum End {
    Done,
    /// The client failed; the exchange cannot go on.
    Client(Failure),
    /// The server takes no more. It may have answered before it stopped, so its answer is still awaited.
    Server,
}

/// The pump beside the wait for the response.
pub enum Side<'a> {
    /// Not begun, or nothing left to do.
    Resting(Upload),
    Running(Pin<Box<dyn Future<Output = (Upload, End)> + 'a>>),
    /// The server stopped reading.
    Refused(Upload),
    Moved,
}

impl<'a> Side<'a> {
    pub fn start<D: Downstream>(&mut self, client: &'a D, server: &'a Stream, allowance: Allowance) {
        *self = match std::mem::replace(self, Side::Moved) {
            Side::Resting(upload) if !upload.is_done() => {
                Side::Running(Box::pin(upload.pump(client, server, allowance)))
            }
            other => other,
        };
    }

    pub fn is_running(&self) -> bool {
        matches!(self, Side::Running(_))
    }

    /// The whole body is at the server.
    pub fn is_done(&self) -> bool {
        matches!(self, Side::Resting(upload) if upload.is_done())
    }

    /// Done, and nothing of the client's is held: its next bytes belong to another request, or are its end.
    pub fn is_spent(&self) -> bool {
        matches!(self, Side::Resting(upload) if upload.is_done() && upload.rest.as_ref().is_none_or(|rest| rest.is_empty()))
    }

    /// Bytes of the client's next request.
    pub fn keep(&mut self, bytes: Bytes) {
        if let Side::Resting(upload) = self {
            upload.rest = Some(bytes);
        }
    }

    pub fn is_refused(&self) -> bool {
        matches!(self, Side::Refused(_))
    }

    /// Runs `main` to its end with the pump beside it. The pump failing on the client's side ends both.
    pub async fn beside<T>(&mut self, main: impl Future<Output = T>) -> Result<T, Failure> {
        let mut main = pin!(main);
        poll_fn(|cx| {
            if let Side::Running(pump) = self
                && let Poll::Ready((upload, end)) = pump.as_mut().poll(cx)
            {
                *self = match end {
                    End::Done => Side::Resting(upload),
                    End::Server => Side::Refused(upload),
                    End::Client(failure) => {
                        *self = Side::Refused(upload);
                        return Poll::Ready(Err(failure));
                    }
                };
            }
            main.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Body bytes so far; unknown while the pump runs.
    pub fn bytes(&self) -> u64 {
        match self {
            Side::Resting(upload) | Side::Refused(upload) => upload.bytes,
            Side::Running(_) | Side::Moved => 0,
        }
    }

    /// The upload as it was before the attempt, if the pump never ran.
    pub fn into_resting(self) -> Option<Upload> {
        match self {
            Side::Resting(upload) => Some(upload).filter(|upload| !upload.is_spent),
            Side::Running(_) | Side::Refused(_) | Side::Moved => None,
        }
    }

    pub fn take_rest(&mut self) -> Option<Bytes> {
        match self {
            Side::Resting(upload) => upload.rest.take(),
            Side::Running(_) | Side::Refused(_) | Side::Moved => None,
        }
    }
}
