//! Two streams, both directions, until both ended: the body of an upgraded connection or a tunnel.
//!
//! One direction receives only after it has sent what it had, so a slow receiver slows its sender. Small messages
//! travel in receive buffers without a copy; a direction that proves to be bulk changes to [splices](super::splice) between
//! plain sockets, to 64 KiB buffers and direct calls otherwise. While nothing flows no buffer is held.

use crate::net::clock::Timer;
use crate::net::driver;
use crate::net::pool::{self, BodyBuffer};
use crate::net::splice::Splice;
use crate::net::stream::Stream;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

/// A receive this large says bulk, one below [`SMALL_BYTES`] says that bulk is over.
const BULK_BYTES: usize = 12 * 1024;
const SMALL_BYTES: usize = 4 * 1024;

/// Pieces one direction moves before others get a turn.
const PIECES_PER_TURN: u32 = 8;

/// What a relay did. Bytes count what was received, of which all but the last piece was surely sent.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second stream to the first.
    pub back: u64,
    pub end: End,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed.
    Finished,
    /// Nothing moved for the idle time; the streams are as they were.
    Idle,
    /// A side failed; both streams are set to reset when dropped, for neither side may take a piece for the whole.
    Failed(Side, io::Error),
    /// Told to; the streams are as they were.
    Stopped,
}

/// The stream an error came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    First,
    Second,
}

/// Moves bytes between `first` and `second` until both have closed their side, one fails, or nothing moved for
/// `idle`. Each end of stream is passed on, so half-closed connections work.
pub async fn relay(first: &Stream, second: &Stream, idle: Duration) -> Relayed {
    relay_until(first, second, Some(idle), std::future::pending(), |_, _| {}).await
}

/// As [`relay`], also ending when `stop` does, with every piece told to `seen` when it arrives. Without `idle` it lasts
/// as long as both sides do.
pub async fn relay_until(
    first: &Stream,
    second: &Stream,
    idle: Option<Duration>,
    stop: impl Future<Output = ()>,
    seen: impl Fn(Side, usize),
) -> Relayed {
    let (forth, back) = (Cell::new(0), Cell::new(0));
    let timer = Timer::new();
    let wait = || idle.into_iter().for_each(|idle| timer.arm(idle));
    wait();
    let progress = |side: Side, counter: &Cell<u64>, count: usize| {
        counter.set(counter.get() + count as u64);
        seen(side, count);
        wait();
    };
    let forward =
        pin!(pump((first, Side::First), (second, Side::Second), |count| progress(Side::First, &forth, count)));
    let backward =
        pin!(pump((second, Side::Second), (first, Side::First), |count| progress(Side::Second, &back, count)));
    let mut both = Both { forward, backward, is_forward_done: false, is_backward_done: false };
    let mut stop = pin!(stop);
    let until = poll_fn(|cx| match stop.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => Pin::new(&mut both).poll(cx).map(Some),
    });
    let end = match timer.bound(until).await {
        Ok(None) => End::Stopped,
        Ok(Some(Ok(()))) => End::Finished,
        Ok(Some(Err((side, error)))) => {
            first.abort();
            second.abort();
            End::Failed(side, error)
        }
        Err(_) => End::Idle,
    };
    Relayed { forth: forth.get(), back: back.get(), end }
}

type Failure = (Side, io::Error);

/// One direction to its end.
async fn pump(from: (&Stream, Side), to: (&Stream, Side), progress: impl Fn(usize)) -> Result<(), Failure> {
    let (from, source) = from;
    let (to, sink) = to;
    let mut is_bulk = false;
    let mut pieces = 0;
    loop {
        let count = if is_bulk { move_bulk(from, to).await } else { move_piece(from, to).await };
        let count = count.map_err(|(is_source, error)| (if is_source { source } else { sink }, error))?;
        if count == 0 {
            to.shutdown_write().await;
            return Ok(());
        }
        progress(count);
        is_bulk = if is_bulk { count >= SMALL_BYTES } else { count >= BULK_BYTES };
        pieces += 1;
        if pieces % PIECES_PER_TURN == 0 {
            driver::breathe().await;
        }
    }
}

/// The bytes moved, none at the end of the stream; or whether it was the source that failed, and how.
type Moved = Result<usize, (bool, io::Error)>;

/// One receive buffer from `from` to `to`.
async fn move_piece(from: &Stream, to: &Stream) -> Moved {
    let bytes = from.recv().await.map_err(|error| (true, error))?;
    let count = bytes.len();
    if count > 0 {
        to.send_bytes(bytes).await.map_err(|error| (false, error))?;
    }
    Ok(count)
}

/// What there is, without a copy if that is possible now; or up to 64 KiB through a body buffer.
async fn move_bulk(from: &Stream, to: &Stream) -> Moved {
    if let Some(mut splice) = Splice::between(from, to) {
        match poll_fn(|cx| splice.poll_take(cx, u64::MAX)).await {
            Ok(count) => {
                poll_fn(|cx| splice.poll_pass(cx)).await.map_err(|error| (false, error))?;
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err((true, error)),
        }
    }
    let (body, count) = poll_fn(|cx| receive_bulk(from, cx)).await.map_err(|error| (true, error))?;
    let bytes = body.get(..count).unwrap_or(&[]);
    to.send_all(bytes).await.map_err(|error| (false, error))?;
    Ok(count)
}

/// A buffer is taken for the attempt only.
fn receive_bulk(from: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<(BodyBuffer, usize)>> {
    let mut body = pool::body();
    from.poll_recv_into(cx, &mut body).map_ok(|count| (body, count))
}

/// Both directions in one task: ready when both are, or with the first failure.
struct Both<'a, F, B> {
    forward: Pin<&'a mut F>,
    backward: Pin<&'a mut B>,
    is_forward_done: bool,
    is_backward_done: bool,
}

impl<F, B> Future for Both<'_, F, B>
where
    F: Future<Output = Result<(), Failure>>,
    B: Future<Output = Result<(), Failure>>,
{
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let both = &mut *self;
        if !both.is_forward_done
            && let Poll::Ready(result) = both.forward.as_mut().poll(cx)
        {
            result?;
            both.is_forward_done = true;
        }
        if !both.is_backward_done
            && let Poll::Ready(result) = both.backward.as_mut().poll(cx)
        {
            result?;
            both.is_backward_done = true;
        }
        if both.is_forward_done && both.is_backward_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests;
