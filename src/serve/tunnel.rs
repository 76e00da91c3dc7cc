//! Both connections of an accepted upgrade: bytes both ways, half-close, one idle timer.

use crate::net::clock::Timer;
use crate::net::stream::{Bytes, Stream};
use crate::serve::balance::Slot;
use crate::serve::body::Turn;
use crate::serve::core::Core;
use crate::serve::downstream::Downstream;
use crate::serve::record::Record;
use crate::serve::reply::Own;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// After one side finished, the other gets this long without a byte.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(30);

pub struct Tunnel {
    pub upstream: Stream,
    /// Holds the server's place for as long as the tunnel lives.
    pub slot: Slot,
    /// Bytes that came right behind the heads.
    pub from_client: Option<Bytes>,
    pub from_upstream: Option<Bytes>,
    pub record: Record,
    pub idle_max: Duration,
}

impl Tunnel {
    pub async fn run<D: Downstream>(mut self: Box<Tunnel>, client: Rc<D>) {
        let client = &*client;
        let _open = Open::new(client.connection().core.clone());
        let flow = Flow { timer: client.timer(), idle_max: Cell::new(self.idle_max) };
        flow.progress();
        let (early_up, early_down) = (self.from_client.take(), self.from_upstream.take());
        let (sent_up, sent_down) = (Cell::new(0), Cell::new(0));
        let ended = {
            let end = Client(client);
            let mut up = pin!(flow.carry(&end, &self.upstream, early_up, &sent_up));
            let mut down = pin!(flow.carry(&self.upstream, &end, early_down, &sent_down));
            let (mut is_up_done, mut is_down_done) = (false, false);
            let both = poll_fn(|cx| {
                // Either may have been woken, so both are polled.
                for (side, is_done) in
                    [(up.as_mut() as Direction<'_>, &mut is_up_done), (down.as_mut(), &mut is_down_done)]
                {
                    match if *is_done { Poll::Pending } else { side.poll(cx) } {
                        Poll::Ready(Ok(())) => *is_done = true,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => {}
                    }
                }
                if is_up_done && is_down_done { Poll::Ready(Ok(())) } else { Poll::Pending }
            });
            client.timer().bound(both).await
        };
        self.record.bytes_in += sent_up.get();
        self.record.bytes_out += sent_down.get();
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                // One side broke: the other must see a break too, not an orderly end.
                client.abort();
                self.upstream.abort();
                self.record.end = Some(Own::TunnelBroken.into());
            }
            Err(_) => self.record.end = Some(Own::TunnelIdle.into()),
        }
        self.record.finish(client.connection());
    }
}

type Direction<'a> = Pin<&'a mut dyn Future<Output = io::Result<()>>>;

struct Flow<'a> {
    timer: &'a Timer,
    idle_max: Cell<Duration>,
}

impl Flow<'_> {
    fn progress(&self) {
        self.timer.arm(self.idle_max.get());
    }

    /// Until `from` ends; then `to` gets the end and the other direction less patience.
    async fn carry(&self, from: &impl End, to: &impl End, early: Option<Bytes>, sent: &Cell<u64>) -> io::Result<()> {
        let mut turn = Turn::default();
        let mut next = early.filter(|bytes| !bytes.is_empty());
        loop {
            let bytes = match next.take() {
                Some(bytes) => bytes,
                None => poll_fn(|cx| from.poll_recv(cx)).await?,
            };
            self.progress();
            if bytes.is_empty() {
                to.finish().await;
                self.idle_max.set(self.idle_max.get().min(HALF_CLOSED_IDLE_MAX));
                self.progress();
                return Ok(());
            }
            let count = bytes.len() as u64;
            to.send_bytes(bytes).await?;
            sent.set(sent.get() + count);
            turn.step().await;
        }
    }
}

/// One end of a tunnel.
trait End {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>>;
    fn send_bytes(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>>;
    fn finish(&self) -> impl Future<Output = ()>;
}

impl End for Stream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        Stream::poll_recv(self, cx)
    }

    fn send_bytes(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> {
        Stream::send_bytes(self, bytes)
    }

    fn finish(&self) -> impl Future<Output = ()> {
        self.shutdown_write()
    }
}

struct Client<'a, D>(&'a D);

impl<D: Downstream> End for Client<'_, D> {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.0.poll_recv(cx)
    }

    fn send_bytes(&self, bytes: Bytes) -> impl Future<Output = io::Result<()>> {
        self.0.send_bytes(bytes)
    }

    fn finish(&self) -> impl Future<Output = ()> {
        self.0.finish()
    }
}

/// Counts an open tunnel for as long as it lives.
struct Open(Rc<Core>);

impl Open {
    fn new(core: Rc<Core>) -> Open {
        core.counters().tunnels.up();
        Open(core)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters().tunnels.down();
    }
}
