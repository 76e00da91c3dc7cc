//! HTTP/2 to clients: one task a connection, which drives the `h2` crate, and one task a stream, which walks its request
//! like any other ([`request::serve_stream`](crate::serve::request::serve_stream)).
//!
//! Reading order: [`limits`] (every bound, with its reason), [`run`] (the connection), [`mux`] (what the connection's
//! task and its streams share), [`stream`] (one stream as a client of the walk), [`window`] (how much may be on its way
//! to us).
//!
//! A cancelled connection drops its socket; its streams then fail at their next step, and leave every count.

pub mod limits;
mod mux;
mod stream;
mod window;

use crate::net::h2::{Outbox, Pipe};
use crate::proto::http2::meter::Abuse;
use crate::serve::connection::Connection;
use crate::serve::shared::Phase;
use bytes::Bytes;
use h2::server::{self, Builder};
use h2::{Error, Reason};
use mux::Mux;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use window::Windows;

pub use stream::write_parts;

/// Serves a connection whose client chose `h2`, to its end.
pub async fn run(connection: Rc<Connection>) {
    connection.core.counters().h2_connections.bump();
    let mux = Rc::new(Mux::new(connection.clone()));
    let pipe = Pipe::new(mux.clone());
    let outbox = pipe.outbox();
    connection.timer.arm(connection.core.keepalive());
    let builder = builder();
    let shaking = Box::pin(connection.timer.bound(builder.handshake::<_, Bytes>(pipe)));
    let Ok(Ok(h2)) = shaking.await else { return };
    let mut run = Run { mux, h2, outbox, stage: Stage::Open, is_resting: false, windows: Windows::default() };
    let is_over = poll_fn(|cx| run.poll(cx)).await;
    drop(run);
    if is_over == Over::Said {
        // Whoever is cut off while talking must get to read why.
        Box::pin(connection.linger()).await;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// By the client, or in good order.
    Done,
    /// By GOAWAY with an error.
    Said,
}

/// The frame layer as we set it up; the fuzz target of the front uses the same.
pub fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(window::STREAM_BYTES)
        .initial_connection_window_size(window::CONNECTION_BYTES)
        .max_concurrent_streams(limits::STREAMS_MAX)
        .max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .max_send_buffer_size(limits::SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(limits::EARLY_RESETS_MAX as usize)
        .max_local_error_reset_streams(Some(limits::PROVOKED_RESETS_MAX))
        .enable_connect_protocol();
    builder
}

type H2 = server::Connection<Pipe<Rc<Mux>>, Bytes>;

struct Run {
    mux: Rc<Mux>,
    h2: H2,
    outbox: Outbox<Rc<Mux>>,
    stage: Stage,
    /// No stream is open, and the timer runs.
    is_resting: bool,
    windows: Windows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// GOAWAY was sent: the open streams finish, later ones are the next connection's.
    Parting,
    /// The client overdrew a budget: the last word is ENHANCE_YOUR_CALM.
    Ending,
}

impl Run {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Over> {
        self.mux.listen(cx.waker());
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.mux.open(request, respond);
                    if self.mux.is_worn_out() {
                        self.part();
                    }
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.note(&error);
                    return Poll::Ready(if error.is_io() { Over::Done } else { Over::Said });
                }
                Poll::Ready(None) if self.stage == Stage::Ending => return Poll::Ready(Over::Said),
                Poll::Ready(None) => return Poll::Ready(Over::Done),
                Poll::Pending => {}
            }
            if let Some(abuse) = self.mux.abuse()
                && self.stage != Stage::Ending
            {
                self.end(abuse);
                continue;
            }
            if self.windows.follow(&self.mux, &mut self.h2) {
                continue;
            }
            match self.poll_rest(cx) {
                Poll::Ready(true) => continue,
                Poll::Ready(false) => return Poll::Ready(Over::Done),
                Poll::Pending => {}
            }
            return match self.outbox.poll_drain(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(Over::Done),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        }
    }

    /// What ends a connection that does nothing wrong. `false`: it is over.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let connection = &self.mux.connection;
        let core = &connection.core;
        if core.phase() == Phase::Ended {
            return Poll::Ready(false);
        }
        if self.stage == Stage::Open && connection.may_be_told_to_close() {
            self.part();
            return Poll::Ready(true);
        }
        connection.sleep(cx.waker());
        if self.mux.is_busy() && self.stage != Stage::Ending {
            self.is_resting = false;
            return Poll::Pending;
        }
        if !self.is_resting {
            self.is_resting = true;
            let patience = if self.stage == Stage::Open { core.keepalive() } else { limits::PARTING_TIME_MAX };
            connection.timer.arm(patience);
        }
        if connection.timer.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        if self.stage != Stage::Open {
            return Poll::Ready(false);
        }
        self.part();
        Poll::Ready(true)
    }

    /// GOAWAY in two steps (RFC 9113 §6.8): streams the client opened before it learnt of it are served.
    fn part(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Parting;
            self.is_resting = false;
            self.h2.graceful_shutdown();
        }
    }

    fn end(&mut self, abuse: Abuse) {
        self.stage = Stage::Ending;
        self.is_resting = false;
        self.complain(abuse);
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    }

    fn note(&self, error: &Error) {
        if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
            self.complain(self.mux.abuse().unwrap_or(Abuse::Frames));
        }
    }

    fn complain(&self, abuse: Abuse) {
        let connection = &self.mux.connection;
        if let Some(counter) = connection.core.counters().h2_abuses.get(abuse as usize) {
            counter.bump();
        }
        let client = connection.origin.peer;
        tracing::debug!(%client, reason = abuse.reason(), "HTTP/2 client overdrew a budget, connection closed");
    }
}

#[cfg(test)]
mod tests;
