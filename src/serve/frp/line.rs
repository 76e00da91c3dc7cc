//! One stream of a client's connection, from its first byte to its end.

use super::pipe::{End, Pipe};
use super::wrap::Wrap;
use crate::proto::frp::channel::{Channel, Version};
use crate::proto::frp::session::WorkId;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Line {
    pub(super) state: State,
    /// To be sent, as far as there is credit.
    pub(super) queue: Vec<u8>,
    /// Our FIN follows what is in the queue.
    pub(super) is_closing: bool,
}

pub(super) enum State {
    Opening {
        channel: Box<Channel>,
        until: Duration,
    },
    Control(Box<Channel>),
    /// Waits to be used.
    Idle {
        work: WorkId,
        version: Version,
    },
    Piping(Piping),
    /// Nothing of it counts any more.
    Done,
}

pub(super) struct Piping {
    pub(super) pipe: Arc<Pipe>,
    pub(super) wrap: Box<Wrap>,
    /// `None` once something came.
    pub(super) first_by: Option<Duration>,
}

impl Line {
    pub(super) fn new(until: Duration) -> Line {
        let state = State::Opening { channel: Box::default(), until };
        Line { state, queue: Vec::new(), is_closing: false }
    }

    /// What is queued goes out, then our FIN.
    pub(super) fn finish(&mut self) -> State {
        self.is_closing = true;
        std::mem::replace(&mut self.state, State::Done)
    }

    /// As [`Line::finish`], without what is queued.
    pub(super) fn cut(&mut self) -> State {
        self.queue.clear();
        self.finish()
    }

    /// When nobody will wait any longer.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Opening { until, .. } => Some(*until),
            State::Piping(piping) => piping.first_by,
            State::Control(_) | State::Idle { .. } | State::Done => None,
        }
    }

    /// Takes more from the user, if there is any and the last of it is gone.
    pub(super) fn refill(&mut self, now: Duration) {
        let State::Piping(piping) = &mut self.state else { return };
        if !self.queue.is_empty() || self.is_closing {
            return;
        }
        let Some(bytes) = piping.pipe.pull() else { return };
        if let Some(first_by) = &mut piping.first_by {
            *first_by = now + piping.pipe.first_byte;
        }
        match piping.wrap.wrap(bytes) {
            Ok(wrapped) => self.queue = wrapped,
            Err(error) => {
                tracing::error!(%error, "what goes through a tunnel cannot be wrapped");
                piping.pipe.end(End::Lost);
                self.cut();
            }
        }
    }
}
