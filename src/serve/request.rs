//! The walk of one request, from its first bytes to what comes after it on its connection. All branching is here.
//!
//! ```text
//! head -> plan (route, rewrite) -> balance -> connection -> exchange -> what next
//!             |                       ^-- retry, when that is safe --'
//!             '-- answered here       any failure -> reply
//! ```

use crate::net::clock::now;
use crate::net::pool::{self, Pooled};
use crate::net::stream::{Bytes, Stream};
use crate::net::upstream::Owner;
use crate::policy::health::Outcome;
use crate::policy::retry::{self, Attempt, Replay, Retry, retry};
use crate::proto::http1::{HeadReader, RequestError};
use crate::serve::balance::{self, Slot};
use crate::serve::connection::{Connection, Next};
use crate::serve::core::{PoolView, View, elapsed_ns};
use crate::serve::downstream::Downstream;
use crate::serve::exapps;
use crate::serve::exchange::{Broken, Finished, Link, exchange};
use crate::serve::introduction;
use crate::serve::plan::{self, Forward, Local, LocalKind, Plan, Refused};
use crate::serve::record::Record;
use crate::serve::reply::{self, About, Answer, Failure, Own, body::Audience};
use crate::serve::spooling::gather;
use crate::serve::tunnel::Tunnel;
use crate::serve::upload::Upload;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A method that must not run twice goes out on a connection that was alive this recently, or on a new one.
const PROVEN: Duration = Duration::from_secs(1);

/// Serves one request whose first bytes are `bytes`.
pub async fn serve(connection: Rc<Connection>, bytes: Bytes) -> Next {
    let connection = &*connection;
    let view = connection.core.view();
    let mut record = Record::begin(connection, Connection::PROTOCOL);
    let finished = match receive_head(connection, &view, bytes, &record).await {
        Ok((plan, rest)) => walk(connection, &view, plan, rest, &mut record).await,
        Err(refused) => Err(note(&mut record, *refused)),
    };
    conclude(connection, record, finished).await
}

/// Serves the request of a stream: `head` is it as text, complete unless `written` says why it is none; `rest` is what
/// there is of its body.
pub async fn serve_stream<D: Downstream>(
    client: &D,
    head: Vec<u8>,
    written: Result<(), RequestError>,
    rest: Option<Bytes>,
) -> Next {
    let connection = client.connection();
    let view = connection.core.view();
    let mut record = Record::begin(connection, D::PROTOCOL);
    let refused = |error| Refused::early(Failure::Request(error), &head);
    let planned = match written {
        Ok(()) => match plan::request(connection, &view, &mut HeadReader::new(), &head, &record.id) {
            // It was written as a whole.
            Ok(None) => Err(refused(RequestError::RequestLine)),
            Ok(Some((plan, _))) => Ok(plan),
            Err(refused) => Err(refused),
        },
        Err(error) => Err(refused(error)),
    };
    pool::recycle(head);
    let finished = match planned {
        Ok(plan) => walk(client, &view, plan, rest, &mut record).await,
        Err(refused) => Err(note(&mut record, *refused)),
    };
    conclude(client, record, finished).await
}

async fn conclude<D: Downstream>(client: &D, mut record: Record, finished: Result<Finished, Fault>) -> Next {
    match finished {
        Ok(Finished::Next(next)) => {
            record.finish(client.connection());
            next
        }
        Ok(Finished::Tunnel { upstream, slot, from_client, from_upstream, idle_max }) => {
            record.leave_flight();
            record.request.shrink();
            let boxed = |early: Option<Bytes>| early.filter(|bytes| !bytes.is_empty()).map(Box::new);
            let (from_client, from_upstream) = (boxed(from_client), boxed(from_upstream));
            Next::Tunnel(Box::new(Tunnel { upstream, slot, from_client, from_upstream, record, idle_max }))
        }
        Err(fault) => refuse(client, record, fault).await,
    }
}

/// A failure, and whether the client has seen part of a response.
pub struct Fault {
    pub failure: Failure,
    pub has_begun: bool,
}

impl<F: Into<Failure>> From<F> for Fault {
    fn from(failure: F) -> Fault {
        Fault { failure: failure.into(), has_begun: false }
    }
}

/// Whoever is refused shows in the log as far as it is known.
fn note(record: &mut Record, refused: Refused) -> Fault {
    let Refused { failure, text, client } = refused;
    record.request = text;
    record.client = client.unwrap_or(record.client);
    failure.into()
}

async fn walk<D: Downstream>(
    client: &D,
    view: &View,
    plan: Plan,
    rest: Option<Bytes>,
    record: &mut Record,
) -> Result<Finished, Fault> {
    record.headed = Some(now());
    match plan {
        Plan::Local(local) => answer(client, view, local, rest, record).await,
        Plan::Forward(pool, forward) => {
            // The route was resolved against this very view.
            let Some(pool) = view.pools.get(pool) else { return Err(Own::NoRoute.into()) };
            send_on(client, view, pool, forward, rest, record).await
        }
        // Rare, so it does not make every request's future larger.
        Plan::ExApp(gated) => Box::pin(exapps::serve(client, view, gated, rest, record)).await,
    }
}

/// The request's plan and the bytes behind its head.
async fn receive_head(
    connection: &Connection,
    view: &View,
    mut bytes: Bytes,
    record: &Record,
) -> Result<(Plan, Option<Bytes>), Box<Refused>> {
    let mut reader = HeadReader::new();
    match plan::request(connection, view, &mut reader, &bytes, &record.id)? {
        Some((plan, consumed)) => {
            bytes.advance(consumed);
            Ok((plan, Some(bytes).filter(|rest| !rest.is_empty())))
        }
        // Rare, so it does not make every request's future larger.
        None => Box::pin(gather_head(connection, view, reader, bytes, record)).await,
    }
}

/// A head that comes in pieces. The deadline is absolute: a client that trickles gains nothing.
async fn gather_head(
    connection: &Connection,
    view: &View,
    mut reader: HeadReader,
    first: Bytes,
    record: &Record,
) -> Result<(Plan, Option<Bytes>), Box<Refused>> {
    let mut head = Pooled::new(pool::vector());
    head.extend(&first);
    drop(first);
    connection.timer.arm(view.snapshot.settings.timeouts.head);
    loop {
        let more = match connection.timer.bound(connection.stream.recv()).await {
            Ok(Ok(more)) if !more.is_empty() => more,
            Ok(_) => return Err(Refused::early(Own::ClientGone, &head)),
            Err(_) => return Err(Refused::early(Own::HeadTimeout, &head)),
        };
        head.extend(&more);
        drop(more);
        if let Some((plan, consumed)) = plan::request(connection, view, &mut reader, &head, &record.id)? {
            head.advance(consumed);
            return Ok((plan, Some(Bytes::Owned(head)).filter(|rest| !rest.is_empty())));
        }
    }
}

/// A request that needs no server.
async fn answer<D: Downstream>(
    down: &D,
    view: &View,
    local: Local,
    rest: Option<Bytes>,
    record: &mut Record,
) -> Result<Finished, Fault> {
    record.client = local.client;
    record.request = local.text;
    if matches!(local.kind, LocalKind::Banned(_)) {
        Box::pin(tarpit(down, view.snapshot.settings.abuse.tarpit)).await;
    }
    let date = down.connection().core.date.bytes();
    let about = About { request_id: "", date: &date, head_only: false, closes: !local.keeps };
    let mut out = pool::vector();
    match &local.kind {
        LocalKind::Redirect { status, location } => {
            record.status = *status;
            reply::redirect(&mut out, *status, location, &about);
        }
        LocalKind::Options => {
            record.status = 204;
            reply::empty(&mut out, 204, &about);
        }
        LocalKind::Banned(left) => {
            let seconds = left.map_or(u32::MAX, |left| u32::try_from(left.as_secs() + 1).unwrap_or(u32::MAX));
            refuse_client(&mut out, Own::Banned, seconds, local.keeps, record, &date);
        }
        LocalKind::TooFast => refuse_client(&mut out, Own::TooFast, 1, local.keeps, record, &date),
    }
    let head_bytes = out.len() - record.bytes_out as usize;
    down.timer().arm(view.snapshot.settings.timeouts.client_idle);
    match down.timer().bound(down.send_head(out, head_bytes, true)).await {
        Ok((Ok(()), out)) => pool::recycle(out),
        Ok((Err(_), _)) => return Err(Own::ClientGone.into()),
        Err(_) => return Err(Own::ClientStuck.into()),
    }
    Ok(Finished::Next(if local.keeps { Next::Request(rest) } else { Next::Linger }))
}

/// A 429 that says when to come back.
fn refuse_client(out: &mut Vec<u8>, own: Own, seconds: u32, keeps: bool, record: &mut Record, date: &[u8]) {
    // A ban without end is looked at again in a day.
    let retry_after_s = Some(seconds.min(86_400));
    let answer = Answer { retry_after_s, ..Failure::from(own).answer() };
    let request = &record.request;
    let audience = Audience::of(request.method(), request.path(), request.field(b"accept"));
    let head_only = request.method() == b"HEAD";
    let about = About { request_id: record.id.as_str(), date, head_only, closes: !keeps };
    (record.status, record.end) = (429, Some(own.into()));
    record.bytes_out = reply::write(out, &answer, 429, audience, &about);
}

/// Lets a banned client wait for its answer: who guesses passwords gets through fewer of them. Only so many at once,
/// since each holds a connection.
async fn tarpit<D: Downstream>(down: &D, length: Duration) {
    const TARPITTED_MAX: u64 = 256;
    let counters = down.connection().core.counters();
    if length.is_zero() || counters.tarpitted.read() >= TARPITTED_MAX {
        return;
    }
    counters.tarpitted.up();
    let _guard = Leave(|| counters.tarpitted.down());
    down.timer().arm(length);
    poll_fn(|cx| down.timer().poll_elapsed(cx)).await;
}

/// Runs its function when the scope is left, also by cancellation.
struct Leave<F: FnMut()>(F);

impl<F: FnMut()> Drop for Leave<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Balance, connect, exchange; again where that is safe.
pub async fn send_on<D: Downstream>(
    down: &D,
    view: &View,
    pool: &PoolView,
    forward: Forward,
    rest: Option<Bytes>,
    record: &mut Record,
) -> Result<Finished, Fault> {
    let connection = down.connection();
    let core = &connection.core;
    let Forward { exchange: state, method, body, text, client, wish, response_timeout, is_upgrade, needs_length } =
        forward;
    let mut state = if D::IS_STREAM { state.over_stream() } else { state };
    record.client = client;
    record.request = text;
    let mut upload = Upload::new(body, down.received(body), rest, view.snapshot.settings.limits.body_bytes_max)?;
    if upload.has_begun() {
        state.continued();
    }
    if is_upgrade {
        balance::admit_upgrade(pool, down.timer()).await?;
    }
    let mut head = std::mem::take(&mut record.request.head);
    let primed = match needs_length {
        true if !balance::has_server(pool) => Err(Own::NoServer.into()),
        // Rare, so it does not make every request's future larger.
        true => Box::pin(gather(down, view, upload, &mut head, &mut state)).await,
        false => upload.prime(&mut head).map(|()| upload),
    };
    record.request.head = head;
    upload = primed?;
    record.bytes_in = upload.bytes;
    if upload.is_done() {
        state.request_done();
    }
    pool.budget.borrow_mut().request();
    let (mut excluded, mut needs_fresh, mut attempts) = (None, false, 0);
    let mut last_failure: Option<Failure> = None;
    loop {
        record.tries = record.tries.saturating_add(1);
        let (slot, queued) = match balance::acquire(core, pool, excluded, wish, down.timer()).await {
            Ok(entered) => entered,
            // After a failed attempt the first failure tells more than "nobody else is there".
            Err(own) => return Err(last_failure.unwrap_or(own.into()).into()),
        };
        record.queue = queued.or(record.queue);
        record.upstream = Some(slot.upstream.clone());
        let index = slot.index;
        let is_safe = retry::is_repeatable(method, record.request.path());
        let owner = pool.shared.settings.send_proxy.map(|_| client);
        let may_pass_on = retry::may_pass_on(method, attempts)
            && pool.budget.borrow().has_one()
            && balance::has_other_server(core, pool, index);
        let pooled = if needs_fresh { None } else { take_pooled(connection, pool, &slot, owner, is_safe) };
        let is_reused = pooled.is_some();
        let broken = match pooled {
            Some(stream) => Ok(stream),
            None => connect(connection, view, pool, &slot, record).await,
        };
        let broken = match broken {
            Ok(stream) => {
                let link = Link { stream, slot, owner, is_abandonable: is_safe, response_timeout, may_pass_on };
                let again = upload.again();
                match exchange(down, view, pool, link, upload, state.clone(), record).await {
                    Ok(finished) => return Ok(finished),
                    Err(broken) => broken.or_from(again),
                }
            }
            Err(failure) => {
                drop(slot);
                Broken { failure, kind: retry::Failure::NothingSent, has_begun: false, upload: Some(upload) }
            }
        };
        if !is_reused || broken.kind == retry::Failure::Unavailable {
            attempts += 1;
        }
        if broken.is_servers_fault(is_reused)
            && let Some(upstream) = pool.servers.get(index)
        {
            core.note(pool, upstream, Outcome::Failed);
        }
        let Some(kept) = broken.upload else {
            return Err(Fault { failure: broken.failure, has_begun: broken.has_begun });
        };
        let decision = retry(&Attempt {
            method,
            path: record.request.path(),
            failure: broken.kind,
            is_reused,
            replay: Replay::Whole,
            attempts,
        });
        if decision == Retry::No || broken.has_begun || !pool.budget.borrow_mut().spend() {
            return Err(Fault { failure: broken.failure, has_begun: broken.has_begun });
        }
        core.counters().retries.bump();
        (needs_fresh, excluded) = match decision {
            Retry::SameFresh => (true, excluded),
            Retry::Other | Retry::No => (needs_fresh, Some(index)),
        };
        last_failure = Some(broken.failure);
        upload = kept;
    }
}

fn take_pooled(connection: &Connection, pool: &PoolView, slot: &Slot, owner: Owner, is_safe: bool) -> Option<Stream> {
    let keepalive = pool.shared.settings.keepalive;
    let fresh = if is_safe { keepalive } else { keepalive.min(PROVEN) };
    slot.upstream.idle.take(owner, fresh, connection.core.counters())
}

async fn connect(
    connection: &Connection,
    view: &View,
    pool: &PoolView,
    slot: &Slot,
    record: &mut Record,
) -> Result<Stream, Failure> {
    let core = &connection.core;
    let since = now();
    core.counters().upstream_connects.bump();
    let connecting =
        slot.upstream.idle.connect(&core.driver, view.snapshot.source, pool.shared.settings.connect_timeout);
    let result = connecting.await;
    record.connect = Some(elapsed_ns(since));
    let stream = result.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Own::ConnectTimeout,
        _ => Own::ConnectRefused,
    })?;
    if let Some(version) = pool.shared.settings.send_proxy {
        let header = introduction::header(version, connection, record.client);
        // It fits the empty buffer of a new socket.
        stream.send(header).await.0.map_err(|_| Own::ConnectRefused)?;
    }
    Ok(stream)
}

/// Ends a request that failed: an answer if one can be given, the counters, the log.
async fn refuse<D: Downstream>(client: &D, mut record: Record, fault: Fault) -> Next {
    let connection = client.connection();
    let core = &connection.core;
    let answer = fault.failure.answer();
    record.end = Some(fault.failure);
    let server = record.upstream.as_ref().map_or("-", |upstream| upstream.server.name.as_str());
    core.complain(&answer, server, connection.origin.peer);
    let Some(status) = answer.status.filter(|_| !fault.has_begun && client.explains(fault.failure)) else {
        record.finish(connection);
        return Next::Abort;
    };
    record.status = status;
    let request = &record.request;
    let audience = Audience::of(request.method(), request.target(), request.field(b"accept"));
    let date = core.date.bytes();
    let head_only = request.method() == b"HEAD";
    let id = record.id;
    let about = About { request_id: id.as_str(), date: &date, head_only, closes: true };
    let mut out = pool::vector();
    record.bytes_out = reply::write(&mut out, &answer, status, audience, &about);
    let head_bytes = out.len() - record.bytes_out as usize;
    client.timer().arm(core.view().snapshot.settings.timeouts.client_idle);
    let sent = client.timer().bound(client.send_head(out, head_bytes, true)).await;
    record.finish(connection);
    match sent {
        Ok((Ok(()), out)) => {
            pool::recycle(out);
            Next::Linger
        }
        Ok((Err(_), _)) | Err(_) => Next::Close,
    }
}
