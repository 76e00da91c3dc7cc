//! A client's bytes: received whatever happens to what is sent, because a client that cannot write gives up its whole
//! session. Only the windows of its streams hold it back.

use super::client::Client;
use super::{Gate, is_stopping};
use crate::net::clock::{Timer, now};
use crate::net::driver::breathe;
use crate::net::stream::{Bytes, Stream};
use crate::serve::core::Core;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Pieces received before the core's other tasks have a turn.
const PIECES: usize = 16;

/// The worker's phase is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

type Sending<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>;

/// Until the connection is over, one way or another.
pub(super) async fn drive(core: &Rc<Core>, gate: Arc<Gate>, stream: Stream, first: Bytes, peer: SocketAddr) {
    let mut client = Client::new(time(), core.clone(), gate, peer);
    client.receive(time(), &first);
    drop(first);
    let mut drive = Drive { core, stream: &stream, client, sending: None, timer: Timer::new() };
    while poll_fn(|cx| drive.poll(cx)).await == Turn::Again {
        breathe().await;
    }
    if drive.client.is_replaced() {
        stream.abort();
    }
}

#[derive(PartialEq, Eq)]
enum Turn {
    Again,
    Over,
}

struct Drive<'a> {
    core: &'a Core,
    stream: &'a Stream,
    client: Client,
    sending: Option<Sending<'a>>,
    timer: Timer,
}

impl Drive<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut pieces = 0;
        loop {
            let now = time();
            let mut is_moving = false;
            for letter in self.client.letters(cx) {
                self.client.deliver(now, letter);
                is_moving = true;
            }
            match self.stream.poll_recv(cx) {
                Poll::Ready(Ok(bytes)) if !bytes.is_empty() => {
                    self.client.receive(now, &bytes);
                    pieces += 1;
                    is_moving = true;
                }
                Poll::Ready(_) => return Poll::Ready(Turn::Over),
                Poll::Pending => {}
            }
            self.client.tick(now);
            let Ok(is_sent) = self.send(now, cx) else { return Poll::Ready(Turn::Over) };
            let may_go = is_stopping(self.core) && self.client.is_unused();
            if self.client.is_over() || may_go {
                return Poll::Ready(Turn::Over);
            }
            if pieces >= PIECES {
                return Poll::Ready(Turn::Again);
            }
            if is_moving || is_sent {
                continue;
            }
            self.timer.arm(self.client.deadline().saturating_sub(now).min(LOOK));
            if self.timer.poll_elapsed(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Whether something was sent and there may be more.
    fn send(&mut self, now: Duration, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.sending.is_none() {
            let mut out = Vec::new();
            self.client.pump(now, &mut out);
            if out.is_empty() {
                return Ok(false);
            }
            let stream = self.stream;
            self.sending = Some(Box::pin(async move { stream.send(out).await.0 }));
        }
        let Some(sending) = &mut self.sending else { return Ok(false) };
        let Poll::Ready(outcome) = sending.as_mut().poll(cx) else { return Ok(false) };
        self.sending = None;
        outcome.map(|()| true)
    }
}

fn time() -> Duration {
    Duration::from_nanos(now().0)
}
