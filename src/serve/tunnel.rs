//! Both connections of an accepted upgrade: bytes both ways, half-close, one idle timer.

use crate::net::clock::Timer;
use crate::net::stream::{Bytes, Stream};
use crate::policy::tunnel::{Departure, Meaning, Side, meaning};
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
    /// Bytes that came right behind the heads. Rare, so a tunnel without them pays nothing for them.
    pub from_client: Option<Box<Bytes>>,
    pub from_upstream: Option<Box<Bytes>>,
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
            let up = pin!(flow.carry(&end, &self.upstream, early_up, &sent_up));
            let down = pin!(flow.carry(&self.upstream, &end, early_down, &sent_down));
            let (mut up, mut down) = (Direction::new(up), Direction::new(down));
            // Either may have been woken; and what one's failure means depends on whether the other has ended.
            let both = poll_fn(|cx| {
                up.poll(cx);
                down.poll(cx);
                match (up.end, down.end) {
                    (Some(Err(broken)), other) => Poll::Ready(Err(broken.of(Side::Client, Side::Server, other))),
                    (other, Some(Err(broken))) => Poll::Ready(Err(broken.of(Side::Server, Side::Client, other))),
                    (Some(Ok(())), Some(Ok(()))) => Poll::Ready(Ok(())),
                    (None, _) | (_, None) => Poll::Pending,
                }
            });
            client.timer().bound(both).await
        };
        self.record.bytes_in += sent_up.get();
        self.record.bytes_out += sent_down.get();
        self.record.end = match ended {
            Ok(Ok(()) | Err(Meaning::Over)) => None,
            Ok(Err(Meaning::ClientLeft)) => Some(Own::ClientGone.into()),
            Ok(Err(Meaning::ServerBroke)) => Some(Own::TunnelBroken.into()),
            Err(_) => Some(Own::TunnelIdle.into()),
        };
        if matches!(ended, Ok(Err(Meaning::ClientLeft | Meaning::ServerBroke))) {
            // One side broke: the other must see a break too, not an orderly end.
            client.abort();
            self.upstream.abort();
        }
        self.record.finish(client.connection());
    }
}

/// Bytes one way, and how that ended.
struct Direction<'a> {
    carrying: Pin<&'a mut dyn Future<Output = Result<(), Broken>>>,
    end: Option<Result<(), Broken>>,
}

impl<'a> Direction<'a> {
    fn new(carrying: Pin<&'a mut dyn Future<Output = Result<(), Broken>>>) -> Direction<'a> {
        Direction { carrying, end: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        if self.end.is_none()
            && let Poll::Ready(end) = self.carrying.as_mut().poll(cx)
        {
            self.end = Some(end);
        }
    }
}

/// A direction's failure.
#[derive(Debug, Clone, Copy)]
struct Broken {
    /// It was the side that the bytes come from, not the one they go to.
    is_source: bool,
    departure: Departure,
}

impl Broken {
    fn source(error: &io::Error) -> Broken {
        let departure = match error.kind() {
            io::ErrorKind::UnexpectedEof => Departure::Silent,
            _ => Departure::Broken,
        };
        Broken { is_source: true, departure }
    }

    fn sink(_: io::Error) -> Broken {
        Broken { is_source: false, departure: Departure::Broken }
    }

    /// What this failure of the direction from `source` to `sink` means; `back` is how the other direction ended, if it did.
    fn of(self, source: Side, sink: Side, back: Option<Result<(), Broken>>) -> Meaning {
        // What the source's opposite had to say came by the other direction; the sink's by this one, which broke.
        match self.is_source {
            true => meaning(source, self.departure, matches!(back, Some(Ok(())))),
            false => meaning(sink, self.departure, false),
        }
    }
}

struct Flow<'a> {
    timer: &'a Timer,
    idle_max: Cell<Duration>,
}

impl Flow<'_> {
    fn progress(&self) {
        self.timer.arm(self.idle_max.get());
    }

    /// Until `from` ends; then `to` gets the end and the other direction less patience.
    #[allow(clippy::manual_async_fn)] // which would keep its arguments twice, in every idle tunnel
    fn carry(
        &self,
        from: &impl End,
        to: &impl End,
        early: Option<Box<Bytes>>,
        sent: &Cell<u64>,
    ) -> impl Future<Output = Result<(), Broken>> {
        async move {
            if let Some(bytes) = early {
                sent.set(bytes.len() as u64);
                Box::pin(to.send_bytes(*bytes)).await.map_err(Broken::sink)?;
            }
            let mut turn = Turn::default();
            loop {
                let bytes = poll_fn(|cx| from.poll_recv(cx)).await.map_err(|error| Broken::source(&error))?;
                self.progress();
                let count = bytes.len() as u64;
                if count == 0 {
                    // Now, or it would have its place in every idle tunnel.
                    drop(bytes);
                    to.finish().await;
                    self.idle_max.set(self.idle_max.get().min(HALF_CLOSED_IDLE_MAX));
                    self.progress();
                    return Ok(());
                }
                to.send_bytes(bytes).await.map_err(Broken::sink)?;
                sent.set(sent.get() + count);
                turn.step().await;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::connection::Connection;

    fn size_of_future<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_tunnel_is_small() {
        assert!(size_of::<Tunnel>() <= 320, "{}", size_of::<Tunnel>());
        let run = size_of_future(|(tunnel, client): (Box<Tunnel>, Rc<Connection>)| tunnel.run(client));
        assert!(run <= 512, "{run}");
    }
}
