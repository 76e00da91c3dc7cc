//! One stream: its two windows and which sides are done with it.

use super::INITIAL_WINDOW;
use std::time::Duration;

/// Credit goes out at the latest for so much: a window that is only refilled when it is half empty stalls long lines.
const CREDIT_BYTES: u32 = 128 << 10;

#[derive(Debug)]
pub(super) struct Stream {
    /// What we may still send.
    send: u32,
    /// What the client may still send.
    receive: u32,
    /// With the caller, not taken yet.
    held: u32,
    /// Taken by the caller, not given back as credit yet.
    taken: u32,
    /// Sum of the three above, always.
    window: u32,
    /// Sending was asked for while there was no credit: the caller wants to know when there is.
    pub(super) is_starved: bool,
    /// Its first message was read (see [`super::Limits::unsettled_max`]).
    pub(super) is_settled: bool,
    /// When we sent our FIN; what arrives after it is dropped.
    pub(super) closed_at: Option<Duration>,
    /// The client sent its FIN.
    pub(super) is_finished: bool,
}

impl Stream {
    /// Acknowledged with a window of so much, which is at least [`INITIAL_WINDOW`].
    pub(super) fn new(window: u32) -> Stream {
        Stream {
            send: INITIAL_WINDOW,
            receive: window,
            held: 0,
            taken: 0,
            window,
            is_starved: false,
            is_settled: false,
            closed_at: None,
            is_finished: false,
        }
    }

    /// Data of the client; `false` if it was never given so much credit.
    pub(super) fn arrive(&mut self, bytes: u32) -> bool {
        let Some(left) = self.receive.checked_sub(bytes) else { return false };
        self.receive = left;
        self.held += bytes;
        true
    }

    /// The caller took so much; what it says is held to what it has. The answer is the credit to send, if it is time.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u32> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.held);
        self.held -= bytes;
        self.taken += bytes;
        let is_due = self.taken >= CREDIT_BYTES.min(self.window / 2);
        if !is_due || self.closed_at.is_some() || self.is_finished {
            return None;
        }
        let credit = std::mem::take(&mut self.taken);
        self.receive += credit;
        Some(credit)
    }

    /// Credit of the client; `false` if it is more than can be.
    pub(super) fn credit(&mut self, bytes: u32) -> bool {
        let Some(send) = self.send.checked_add(bytes) else { return false };
        self.send = send;
        true
    }

    /// Takes up to `want` of the credit for data.
    pub(super) fn spend(&mut self, want: u32) -> u32 {
        let bytes = want.min(self.send);
        self.send -= bytes;
        self.is_starved = bytes == 0;
        bytes
    }

    pub(super) fn send_window(&self) -> u32 {
        self.send
    }

    pub(super) fn check(&self) {
        debug_assert_eq!(self.receive + self.held + self.taken, self.window);
    }
}
