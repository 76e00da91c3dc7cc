//! One attempt at one server: the request up, the response down, both at once where the request has a long body.

use crate::config::settings::{PoolKind, Timeouts};
use crate::net::clock::{Elapsed, now};
use crate::net::pool;
use crate::net::splice::{SPLICE_BYTES_MIN, Splice};
use crate::net::stream::{Bytes, Stream};
use crate::net::upstream::Owner;
use crate::policy::headers;
use crate::policy::health::Outcome;
use crate::policy::login;
use crate::policy::pace::Download;
use crate::policy::retry;
use crate::proto::http1::exchange::{Exchange, Framing};
use crate::proto::http1::{BodyReader, ChunkError, HeadReader, emit};
use crate::serve::balance::Slot;
use crate::serve::body::{Turn, append, receive};
use crate::serve::connection::{Connection, Next};
use crate::serve::core::{PoolView, View};
use crate::serve::delivery::deliver;
use crate::serve::downstream::Downstream;
use crate::serve::plan::{self, Dress, Final, Judged};
use crate::serve::record::{Record, field};
use crate::serve::reply::{Failure, Own};
use crate::serve::upload::{Side, Upload, allowance};
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

/// A client that expects 100 gets it from us when the server is silent this long (RFC 9110 §10.1.1: it would send
/// anyway).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A response this late makes it worth a look whether the client still waits. Most are faster and pay nothing.
const UNWATCHED: Duration = Duration::from_millis(500);

/// A server that stopped reading the upload has this long to say why.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the server picked.
pub struct Link {
    pub stream: Stream,
    pub slot: Slot,
    pub owner: Owner,
    /// The request only asks: the server need not finish when nobody waits for the answer.
    pub is_abandonable: bool,
    /// Instead of the pool's.
    pub response_timeout: Option<Duration>,
    /// Another server may be asked if this one answers that it cannot.
    pub may_pass_on: bool,
}

/// How an exchange ends well.
pub enum Finished {
    Next(Next),
    Tunnel {
        upstream: Stream,
        slot: Slot,
        from_client: Option<Bytes>,
        from_upstream: Option<Bytes>,
        idle_max: Duration,
    },
}

/// How it ends badly.
pub struct Broken {
    pub failure: Failure,
    pub kind: retry::Failure,
    /// The client got bytes of the response.
    pub has_begun: bool,
    /// The body, if none of it beyond the held head was spent.
    pub upload: Option<Upload>,
}

impl Broken {
    /// The body can still be had from the spool.
    pub fn or_from(mut self, again: Option<Upload>) -> Broken {
        if !self.has_begun {
            self.upload = self.upload.or(again);
        }
        self
    }

    /// Counts towards the server's ejection; a stale connection does not.
    pub fn is_servers_fault(&self, is_reused: bool) -> bool {
        match self.failure {
            Failure::Response(_) | Failure::ResponseBody(_) => true,
            Failure::Own(own) => match own {
                Own::ConnectRefused | Own::ConnectTimeout | Own::UpgradeMismatch | Own::TooManyInterims => true,
                Own::UpstreamClosed => !is_reused,
                _ => false,
            },
            Failure::Request(_) | Failure::RequestBody(_) => false,
        }
    }
}

/// Sends the request that `record` holds and carries its response to the client.
pub async fn exchange<D: Downstream>(
    client: &D,
    view: &View,
    pool: &PoolView,
    link: Link,
    upload: Upload,
    mut state: Exchange,
    record: &mut Record,
) -> Result<Finished, Broken> {
    let Link { stream, slot, owner, is_abandonable, response_timeout, may_pass_on } = link;
    let response_timeout = response_timeout.unwrap_or(pool.shared.settings.response_timeout);
    let mut slot = Some(slot);
    let end = {
        let mut side = Side::Resting(upload);
        let mut run = Run {
            client,
            view,
            pool,
            server: &stream,
            state: &mut state,
            record,
            is_abandonable,
            response_timeout,
            may_pass_on,
            pace: pace(&view.snapshot.settings.timeouts),
        };
        let result = run.converse(&mut side, &mut slot).await;
        run.record.bytes_in = side.bytes();
        match result {
            Ok(Conversed::Answered) => {
                let next = run.next(&mut side);
                End::Answered(next)
            }
            Ok(Conversed::Tunnel(from_upstream)) => End::Tunnel(from_upstream, side.take_rest()),
            Err(stop) => {
                let upload = if stop.has_begun { None } else { side.into_resting() };
                return Err(Broken { failure: stop.failure, kind: stop.kind, has_begun: stop.has_begun, upload });
            }
        }
    };
    match end {
        End::Answered(next) => {
            if state.may_reuse_upstream()
                && let Some(upstream) = &record.upstream
            {
                let idle_max = pool.shared.settings.max_requests_per_server as usize;
                upstream.idle.put(stream, owner, idle_max, client.connection().core.counters());
            }
            Ok(Finished::Next(next))
        }
        End::Tunnel(from_upstream, from_client) => match slot {
            Some(slot) => Ok(Finished::Tunnel {
                upstream: stream,
                slot,
                from_client,
                from_upstream,
                idle_max: pool.shared.settings.tunnel_timeout,
            }),
            // A slot is given up only with a final response.
            None => Ok(Finished::Next(Next::Close)),
        },
    }
}

enum End {
    Answered(Next),
    Tunnel(Option<Bytes>, Option<Bytes>),
}

enum Conversed {
    Answered,
    Tunnel(Option<Bytes>),
}

/// The exchange cannot go on.
struct Stop {
    failure: Failure,
    kind: retry::Failure,
    has_begun: bool,
}

impl Stop {
    fn early(failure: impl Into<Failure>, kind: retry::Failure) -> Stop {
        Stop { failure: failure.into(), kind, has_begun: false }
    }

    /// After bytes of the response reached the client.
    fn late(failure: impl Into<Failure>) -> Stop {
        Stop { failure: failure.into(), kind: retry::Failure::ResponseBegun, has_begun: true }
    }
}

/// The parties of one attempt.
struct Run<'r, D> {
    client: &'r D,
    view: &'r View,
    pool: &'r PoolView,
    server: &'r Stream,
    state: &'r mut Exchange,
    record: &'r mut Record,
    /// Nothing is lost if the server's answer is not awaited once the client left.
    is_abandonable: bool,
    response_timeout: Duration,
    may_pass_on: bool,
    /// How slowly the client may take the response.
    pace: Download,
}

impl<'r, D: Downstream> Run<'r, D> {
    fn connection(&self) -> &'r Connection {
        self.client.connection()
    }

    async fn converse(&mut self, side: &mut Side<'r>, slot: &mut Option<Slot>) -> Result<Conversed, Stop> {
        self.send_head().await?;
        if !self.state.awaits_continue() {
            self.start(side);
        }
        let (judged, bytes) = self.response_head(side).await?;
        self.record.first_byte = Some(self.record.since_head());
        match judged {
            Heard::Tunnel(out) => {
                self.record.status = 101;
                let head_bytes = out.len();
                self.send_head_to_client(side, out, head_bytes, false).await?;
                Ok(Conversed::Tunnel(Some(bytes).filter(|bytes| !bytes.is_empty())))
            }
            Heard::Final(head) => {
                self.record.status = head.status;
                self.body(side, slot, head, bytes).await?;
                Ok(Conversed::Answered)
            }
        }
    }

    fn start(&self, side: &mut Side<'r>) {
        side.start(self.client, self.server, allowance(&self.view.snapshot.settings.timeouts));
    }

    async fn send_head(&mut self) -> Result<(), Stop> {
        let timer = self.client.timer();
        timer.arm(self.pool.shared.settings.idle_timeout);
        let head = std::mem::take(&mut self.record.request.head);
        match timer.bound(self.server.send(head)).await {
            Ok((result, head)) => {
                self.record.request.head = head;
                // Some bytes may have been taken: as good as sent.
                result.map_err(|_| Stop::early(Own::UpstreamClosed, retry::Failure::NoResponse))
            }
            Err(Elapsed) => Err(Stop::early(Own::ResponseTimeout, retry::Failure::Timeout)),
        }
    }

    /// The final or upgrading response head and what came behind it; interim ones are passed on.
    async fn response_head(&mut self, side: &mut Side<'r>) -> Result<(Heard, Bytes), Stop> {
        let mut reader = HeadReader::new();
        let mut held: Option<Bytes> = None;
        let dress = Dress::of(&self.view.snapshot.settings, &self.pool.shared.settings, self.connection());
        loop {
            let mut bytes = match held.take() {
                Some(bytes) => bytes,
                None => self.first_bytes(side).await?,
            };
            match plan::response(&self.connection().core, self.state, &mut reader, &bytes, dress) {
                Ok(Judged::Final(head)) => {
                    self.note_answer(head.is_server_error);
                    self.note_login(&head);
                    if self.may_pass_on && head.is_unavailable {
                        return Err(Stop::early(Own::Unavailable, retry::Failure::Unavailable));
                    }
                    bytes.advance(head.consumed);
                    return Ok((Heard::Final(head), bytes));
                }
                Ok(Judged::Tunnel { out, consumed }) => {
                    bytes.advance(consumed);
                    return Ok((Heard::Tunnel(out), bytes));
                }
                Ok(Judged::Interim { out, consumed, is_continue }) => {
                    if let Some(out) = out {
                        self.send_interim(side, out).await?;
                    }
                    if is_continue {
                        self.start(side);
                    }
                    bytes.advance(consumed);
                    held = Some(bytes).filter(|bytes| !bytes.is_empty());
                    reader = HeadReader::new();
                }
                // Rare: a head larger than one receive buffer, or cut by the network.
                Ok(Judged::NeedMore) => held = Some(Box::pin(self.more(side, bytes)).await?),
                Err(failure) => return Err(Stop::early(failure, retry::Failure::ResponseBegun)),
            }
        }
    }

    /// Any well-formed answer keeps the server in its pool, whatever its status.
    fn note_answer(&self, is_server_error: bool) {
        let core = &self.connection().core;
        let Some(upstream) = &self.record.upstream else { return };
        core.note(self.pool, upstream, Outcome::Answered);
        if let Some(cell) = upstream.cell(core) {
            cell.requests.bump();
            if is_server_error {
                cell.errors.bump();
            }
        }
    }

    /// Counts the login if this is one and it failed. What an ExApp refuses is its own affair: its routes say what counts.
    fn note_login(&self, head: &Final) {
        let request = &self.record.request;
        let is_nextclouds = self.pool.shared.settings.kind != PoolKind::ExApp;
        if !is_nextclouds || !login::may_have_failed(request.method(), head.status) {
            return;
        }
        let authorization = request.field(b"authorization");
        let location = field(&head.out, b"location");
        let (method, path) = (request.method(), request.path());
        let exchange = login::Exchange { method, path, authorization, status: head.status, location };
        if login::has_failed(&exchange) {
            self.connection().core.login_failed(self.record.client, login::credential(authorization));
        }
    }

    /// The first bytes of a response head, with the upload going on beside the wait.
    async fn first_bytes(&mut self, side: &mut Side<'r>) -> Result<Bytes, Stop> {
        let timer = self.client.timer();
        let mut deadline = now().after(self.response_timeout);
        let mut is_watching = false;
        loop {
            let is_waiting_for_continue = self.state.awaits_continue();
            let may_watch = self.is_abandonable && side.is_spent();
            let left = deadline.since(now());
            timer.arm(match () {
                () if is_waiting_for_continue => CONTINUE_PATIENCE,
                () if side.is_refused() => REFUSAL_PATIENCE,
                () if may_watch && !is_watching => left.min(UNWATCHED),
                () => left,
            });
            let was_running = side.is_running();
            let client = Some(self.client).filter(|_| may_watch && is_watching);
            match side.beside(timer.bound(either(self.server, client))).await {
                Ok(Ok(Heeded::Server(Ok(bytes)))) if !bytes.is_empty() => return Ok(bytes),
                Ok(Ok(Heeded::Server(_))) => return Err(Stop::early(Own::UpstreamClosed, retry::Failure::NoResponse)),
                // The next request came early: it waits its turn, and nobody looks at the client any more.
                Ok(Ok(Heeded::Client(Ok(bytes)))) if !bytes.is_empty() => side.keep(bytes),
                Ok(Ok(Heeded::Client(_))) => return Err(Stop::early(Own::ClientGone, retry::Failure::ResponseBegun)),
                Ok(Err(Elapsed)) if is_waiting_for_continue => {
                    self.state.continued();
                    self.send_interim(side, emit::CONTINUE.to_vec()).await?;
                    self.start(side);
                }
                // The time for the answer counts from the end of the request.
                Ok(Err(Elapsed)) if was_running && !side.is_refused() => {
                    deadline = now().after(self.response_timeout);
                }
                Ok(Err(Elapsed)) if may_watch && !is_watching => is_watching = true,
                Ok(Err(Elapsed)) => return Err(Stop::early(Own::ResponseTimeout, retry::Failure::Timeout)),
                Err(failure) => return Err(Stop::early(failure, retry::Failure::ResponseBegun)),
            }
        }
    }

    /// `bytes` and those behind them, in one piece.
    async fn more(&mut self, side: &mut Side<'r>, bytes: Bytes) -> Result<Bytes, Stop> {
        let mut gathered = match bytes {
            Bytes::Owned(gathered) => gathered,
            chunk => {
                let mut gathered = pool::Pooled::new(pool::vector());
                gathered.extend(&chunk);
                gathered
            }
        };
        let timer = self.client.timer();
        timer.arm(self.pool.shared.settings.idle_timeout);
        match side.beside(timer.bound(self.server.recv())).await {
            Ok(Ok(Ok(more))) if !more.is_empty() => {
                gathered.extend(&more);
                Ok(Bytes::Owned(gathered))
            }
            Ok(Ok(_)) => Err(Stop::early(Own::UpstreamClosed, retry::Failure::ResponseBegun)),
            Ok(Err(Elapsed)) => Err(Stop::early(Own::ResponseTimeout, retry::Failure::ResponseBegun)),
            Err(failure) => Err(Stop::early(failure, retry::Failure::ResponseBegun)),
        }
    }

    /// Head and body of the final response to the client.
    async fn body(
        &mut self,
        side: &mut Side<'r>,
        slot: &mut Option<Slot>,
        head: Final,
        mut bytes: Bytes,
    ) -> Result<(), Stop> {
        let Final { reply, mut out, .. } = head;
        let head_bytes = out.len();
        let mut reader = BodyReader::new(reply.received);
        if reply.takes_trailers {
            reader.keep_trailers();
        }
        // What came with the head goes out with it, in one send.
        while !bytes.is_empty() && !reader.is_done() {
            let span = reader.decode(&bytes).map_err(broken_early)?;
            let data = bytes.get(span.data).unwrap_or_default();
            self.record.bytes_out += data.len() as u64;
            append(&mut out, data, reply.sent);
            bytes.advance(span.consumed);
        }
        if !bytes.is_empty() {
            self.connection().core.counters().upstream_unsolicited.bump();
            self.state.spoil_upstream();
        }
        drop(bytes);
        if reader.is_done() {
            slot.take();
            self.heed_early_end(side);
        }
        let trailers = self.end(&mut out, &mut reader, reply.sent);
        let is_end = reader.is_done() && trailers.is_empty();
        self.send_head_to_client(side, out, head_bytes, is_end).await?;
        self.send_trailers(side, trailers).await?;
        let mut turn = Turn::default();
        while !reader.is_done() {
            if let Some(splice) = self.bypass(side, &reader, reply.sent) {
                Box::pin(self.splice(splice, side, slot, &mut reader)).await?;
                if reader.is_done() {
                    break;
                }
            }
            self.carry(side, slot, &mut reader, reply.sent).await?;
            turn.step().await;
        }
        Ok(())
    }

    /// The way past us for the rest of a long body, if there is one: nothing may be going on beside it.
    fn bypass(&self, side: &Side<'r>, reader: &BodyReader, sent: Framing) -> Option<Splice<'r>> {
        let is_plain = matches!(reader, BodyReader::Length { .. }) && sent != Framing::Chunked;
        if !is_plain || reader.expected() < SPLICE_BYTES_MIN || !side.is_spent() {
            return None;
        }
        Splice::between(self.server, self.client.bare()?)
    }

    /// The body through the kernel, to its end or to where that does not work.
    async fn splice(
        &mut self,
        mut splice: Splice<'r>,
        side: &mut Side<'r>,
        slot: &mut Option<Slot>,
        reader: &mut BodyReader,
    ) -> Result<(), Stop> {
        let (client, timer) = (self.client, self.client.timer());
        let mut turn = Turn::default();
        while !reader.is_done() {
            timer.arm(self.pool.shared.settings.idle_timeout);
            let count = match timer.bound(poll_fn(|cx| splice.poll_take(cx, reader.expected()))).await {
                Ok(Ok(0)) => return Err(Stop::late(Own::Truncated)),
                Ok(Ok(count)) => count as u64,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
                Ok(Err(_)) => return Err(Stop::late(Own::Truncated)),
                Err(Elapsed) => return Err(Stop::late(Own::UpstreamStuck)),
            };
            reader.pass(count);
            self.record.bytes_out += count;
            if reader.is_done() {
                slot.take();
                self.heed_early_end(side);
            }
            let passing = poll_fn(|cx| splice.poll_pass(cx));
            told(Ok(deliver(client, &mut self.pace, count as usize, passing).await))?;
            turn.step().await;
        }
        Ok(())
    }

    /// A response that was over before its request was: the server may take the rest of the body for its next request
    /// (0.CL), so nobody else's may follow it there, even if the body does come to its end.
    fn heed_early_end(&mut self, side: &Side<'r>) {
        if !side.is_done() {
            self.state.spoil_upstream();
        }
    }

    /// One piece of the response body.
    async fn carry(
        &mut self,
        side: &mut Side<'r>,
        slot: &mut Option<Slot>,
        reader: &mut BodyReader,
        sent: Framing,
    ) -> Result<(), Stop> {
        let timer = self.client.timer();
        let server = self.server;
        let is_plain = matches!(reader, BodyReader::Length { .. });
        let bytes_max = if is_plain { reader.expected().min(D::PIECE_BYTES_MAX) } else { D::PIECE_BYTES_MAX };
        timer.arm(self.pool.shared.settings.idle_timeout);
        let piece =
            match side.beside(timer.bound(receive(|cx, buffer| server.poll_recv_into(cx, buffer), bytes_max))).await {
                Ok(Ok(Ok(piece))) => piece,
                Ok(Ok(Err(_))) => return Err(Stop::late(Own::Truncated)),
                Ok(Err(Elapsed)) => return Err(Stop::late(Own::UpstreamStuck)),
                Err(failure) => return Err(Stop::late(failure)),
            };
        if piece.is_empty() {
            reader.end_of_stream().map_err(|_| Stop::late(Own::Truncated))?;
            slot.take();
            let mut last = pool::vector();
            self.end(&mut last, reader, sent);
            return self.send_to_client(side, last, true).await.map_err(Stop::begun);
        }
        let client = self.client;
        if is_plain && sent != Framing::Chunked {
            // Bounded by what is expected, so all of it is body.
            let _ = reader.decode(&piece);
            self.record.bytes_out += piece.len() as u64;
            if reader.is_done() {
                slot.take();
                self.heed_early_end(side);
            }
            let sending = client.send_all(&piece, reader.is_done());
            return told(side.beside(deliver(client, &mut self.pace, piece.len(), sending)).await);
        }
        let mut out = pool::vector();
        let mut at = 0;
        while at < piece.len() && !reader.is_done() {
            let rest = piece.get(at..).unwrap_or_default();
            let span = reader.decode(rest).map_err(|error| Stop::late(Failure::ResponseBody(error)))?;
            let data = rest.get(span.data).unwrap_or_default();
            self.record.bytes_out += data.len() as u64;
            append(&mut out, data, sent);
            at += span.consumed;
        }
        if reader.is_done() {
            if at < piece.len() {
                self.connection().core.counters().upstream_unsolicited.bump();
                self.state.spoil_upstream();
            }
            slot.take();
            self.heed_early_end(side);
        }
        let trailers = self.end(&mut out, reader, sent);
        drop(piece);
        let is_end = reader.is_done() && trailers.is_empty();
        self.send_to_client(side, out, is_end).await.map_err(Stop::begun)?;
        self.send_trailers(side, trailers).await.map_err(Stop::begun)
    }

    /// Adds the end of the body if it was reached. Answers the trailers of a client that takes them on their own.
    fn end(&self, out: &mut Vec<u8>, reader: &mut BodyReader, sent: Framing) -> Vec<u8> {
        if !reader.is_done() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        headers::write_trailers(&mut lines, &reader.take_trailers());
        if sent == Framing::Chunked {
            out.extend_from_slice(emit::LAST_CHUNK_HEAD);
            out.append(&mut lines);
            emit::end(out);
        }
        if D::IS_STREAM { lines } else { Vec::new() }
    }

    async fn send_trailers(&mut self, side: &mut Side<'r>, lines: Vec<u8>) -> Result<(), Stop> {
        if lines.is_empty() {
            return Ok(());
        }
        let client = self.client;
        let sending = client.send_trailers(&lines);
        told(Box::pin(side.beside(deliver(client, &mut self.pace, lines.len(), sending))).await)
    }

    async fn send_interim(&mut self, side: &mut Side<'r>, out: Vec<u8>) -> Result<(), Stop> {
        let (client, bytes) = (self.client, out.len());
        told(given_back(side.beside(deliver(client, &mut self.pace, bytes, client.send_interim(out))).await))
    }

    async fn send_head_to_client(
        &mut self,
        side: &mut Side<'r>,
        out: Vec<u8>,
        head_bytes: usize,
        is_end: bool,
    ) -> Result<(), Stop> {
        let (client, bytes) = (self.client, out.len());
        let sending = client.send_head(out, head_bytes, is_end);
        told(given_back(side.beside(deliver(client, &mut self.pace, bytes, sending)).await))
    }

    async fn send_to_client(&mut self, side: &mut Side<'r>, out: Vec<u8>, is_end: bool) -> Result<(), Stop> {
        if out.is_empty() && !(D::IS_STREAM && is_end) {
            pool::recycle(out);
            return Ok(());
        }
        let (client, bytes) = (self.client, out.len());
        told(given_back(side.beside(deliver(client, &mut self.pace, bytes, client.send(out, is_end))).await))
    }

    /// After a complete response: what comes next on the client's connection.
    fn next(&mut self, side: &mut Side<'r>) -> Next {
        if side.is_done() {
            self.state.request_done();
        }
        self.state.response_done();
        if self.state.may_reuse_client() {
            return Next::Request(side.take_rest());
        }
        let has_unread = !side.is_done() || side.take_rest().is_some_and(|rest| !rest.is_empty());
        if has_unread { Next::Linger } else { Next::Close }
    }
}

impl Stop {
    fn begun(self) -> Stop {
        Stop { has_begun: true, kind: retry::Failure::ResponseBegun, ..self }
    }
}

/// How slowly a response may be taken.
fn pace(timeouts: &Timeouts) -> Download {
    Download::new(timeouts.download, timeouts.client_idle)
}

/// What came first.
enum Heeded {
    Server(io::Result<Bytes>),
    Client(io::Result<Bytes>),
}

async fn either<D: Downstream>(server: &Stream, client: Option<&D>) -> Heeded {
    poll_fn(|cx| {
        if let Poll::Ready(received) = server.poll_recv(cx) {
            return Poll::Ready(Heeded::Server(received));
        }
        match client.map(|client| client.poll_watch(cx)) {
            Some(Poll::Ready(received)) => Poll::Ready(Heeded::Client(received)),
            Some(Poll::Pending) | None => Poll::Pending,
        }
    })
    .await
}

/// A response head that matters.
enum Heard {
    Final(Final),
    Tunnel(Vec<u8>),
}

/// The body's framing broke in the bytes that came with the head, of which nothing was sent yet.
fn broken_early(error: ChunkError) -> Stop {
    Stop::early(Failure::ResponseBody(error), retry::Failure::ResponseBegun)
}

type Sent<T> = Result<Result<T, Own>, Failure>;

/// A send that gave its buffer back, without the buffer.
fn given_back(sent: Sent<(io::Result<()>, Vec<u8>)>) -> Sent<io::Result<()>> {
    sent.map(|sent| {
        sent.map(|(result, out)| {
            pool::recycle(out);
            result
        })
    })
}

/// How a send to the client went. By then bytes of the response may have reached it.
fn told(sent: Sent<io::Result<()>>) -> Result<(), Stop> {
    match sent {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(_))) => Err(Stop::late(Own::ClientGone)),
        Ok(Err(own)) => Err(Stop::late(own)),
        Err(failure) => Err(Stop::late(failure)),
    }
}
