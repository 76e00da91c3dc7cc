//! Frames that cost their sender nothing and us a little, counted as they arrive: SETTINGS, PING, empty DATA,
//! WINDOW_UPDATE, CONTINUATION, RST_STREAM and whatever else is only looked at.
//!
//! The meter reads frame headers (RFC 9113 §4.1) from the same bytes the frame layer gets, before it gets them. What is
//! malformed is the frame layer's to say, but for what that one keeps to itself: pseudo-header fields of trailers.
//!
//! ```text
//! | length (24) | type (8) | flags (8) | R | stream (31) | payload (length) ...
//! ```

use super::hpack::Follower;
use std::time::Duration;

/// A budget spent at once is whole again after this long, so that a burst an honest client makes is no offence.
const WINDOW: Duration = Duration::from_secs(10);

/// SETTINGS and PING frames: each wants an answer.
const ANSWERED_MAX: u32 = 100;
/// DATA frames without a byte that do not end their stream.
const EMPTY_DATA_MAX: u32 = 1_000;
/// WINDOW_UPDATE frames beyond one for each [`BYTES_PER_UPDATE`] sent to the client.
const UPDATES_MAX: u32 = 1_000;
const BYTES_PER_UPDATE: u64 = 1_024;
/// Frames that are only looked at: priorities, acknowledgements, types nobody knows.
const IGNORED_MAX: u32 = 1_000;
/// RST_STREAM frames; those of requests that had no answer yet have a tighter budget of their own.
const RESETS_MAX: u32 = 1_000;
/// CONTINUATION frames of one header block. A head within the limits needs four.
const CONTINUATIONS_MAX: u32 = 8;
/// Streams with malformed trailers of one connection.
const MALFORMED_MAX: usize = 100;

/// The budget a client overdrew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Abuse {
    Settings,
    Ping,
    EmptyData,
    WindowUpdates,
    Ignored,
    Resets,
    Continuations,
    /// Requests given up before they were answered: counted by who answers them.
    EarlyResets,
    /// Malformed requests, each answered by a reset: counted by who parses them.
    ProvokedResets,
    /// One of the frame layer's own budgets: resets in a row, resets provoked, header blocks, small DATA.
    Frames,
}

impl Abuse {
    pub const ALL: [Abuse; 10] = [
        Abuse::Settings,
        Abuse::Ping,
        Abuse::EmptyData,
        Abuse::WindowUpdates,
        Abuse::Ignored,
        Abuse::Resets,
        Abuse::Continuations,
        Abuse::EarlyResets,
        Abuse::ProvokedResets,
        Abuse::Frames,
    ];

    /// Stable word for metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Abuse::Settings => "settings",
            Abuse::Ping => "ping",
            Abuse::EmptyData => "empty_data",
            Abuse::WindowUpdates => "window_updates",
            Abuse::Ignored => "ignored_frames",
            Abuse::Resets => "resets",
            Abuse::Continuations => "continuations",
            Abuse::EarlyResets => "early_resets",
            Abuse::ProvokedResets => "provoked_resets",
            Abuse::Frames => "frames",
        }
    }
}

/// What was spent of an allowance that comes back at a steady rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// Of the last look.
    at_ns: u64,
    /// Times [`WINDOW`] in nanoseconds.
    spent: u64,
}

impl Budget {
    /// Spends one of `max`; `false` when there is none left.
    pub fn spend(&mut self, now_ns: u64, max: u32) -> bool {
        let one = WINDOW.as_nanos() as u64;
        let returned = now_ns.saturating_sub(self.at_ns).saturating_mul(u64::from(max));
        self.spent = self.spent.saturating_sub(returned);
        self.at_ns = now_ns;
        if self.spent.saturating_add(one) > one.saturating_mul(u64::from(max)) {
            return false;
        }
        self.spent += one;
        true
    }
}

/// Follows one connection's inbound bytes.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Bytes to skip: the client's preface, then payloads.
    skip: u32,
    header: [u8; 9],
    header_bytes: u8,
    continuations: u32,
    settings: Budget,
    pings: Budget,
    empty_data: Budget,
    updates: Budget,
    ignored: Budget,
    resets: Budget,
    /// WINDOW_UPDATE frames that what was sent pays for, times [`BYTES_PER_UPDATE`].
    credit: u64,
    block: Block,
    follower: Follower,
    /// The newest stream that began.
    newest: u32,
    malformed: Vec<u32>,
}

/// The header block that arrives. HEADERS may begin with the length of its padding and a priority (RFC 9113 §6.2), which
/// belong to nobody's block.
#[derive(Debug, Clone, Default)]
struct Block {
    stream: u32,
    is_trailers: bool,
    /// Bytes of this frame before its part of the block, the padding's length first if there is any.
    lead: u32,
    is_padded: bool,
    /// Of this frame.
    left: u32,
    /// This frame's part is the last one.
    is_last: bool,
    is_open: bool,
}

/// `PRI * HTTP/2.0 CRLF CRLF SM CRLF CRLF`
const PREFACE_BYTES: u32 = 24;

/// Enough for the updates of a window of any size.
const CREDIT_MAX: u64 = 64 << 20;

impl Meter {
    /// At the start of a connection.
    pub fn new() -> Meter {
        Meter {
            skip: PREFACE_BYTES,
            header: [0; 9],
            header_bytes: 0,
            continuations: 0,
            settings: Budget::default(),
            pings: Budget::default(),
            empty_data: Budget::default(),
            updates: Budget::default(),
            ignored: Budget::default(),
            resets: Budget::default(),
            credit: 0,
            block: Block::default(),
            follower: Follower::new(),
            newest: 0,
            malformed: Vec::new(),
        }
    }

    /// The trailers of this stream held pseudo-header fields: its request is malformed (RFC 9113 §8.1).
    pub fn is_malformed(&self, stream: u32) -> bool {
        self.malformed.contains(&stream)
    }

    /// Bytes went to the client: it may say that it took them.
    pub fn sent(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_add(bytes as u64).min(CREDIT_MAX);
    }

    /// The next bytes of the client. The first overdrawn budget is the answer; then the connection should end.
    pub fn received(&mut self, mut bytes: &[u8], now_ns: u64) -> Result<(), Abuse> {
        while !bytes.is_empty() {
            if self.block.is_open {
                bytes = self.follow(bytes)?;
                continue;
            }
            if self.skip > 0 {
                let skipped = (self.skip as usize).min(bytes.len());
                self.skip -= skipped as u32;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let have = usize::from(self.header_bytes);
            let take = (self.header.len() - have).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(take).unwrap_or_default();
            if let Some(room) = self.header.get_mut(have..have + take) {
                room.copy_from_slice(part);
            }
            self.header_bytes += take as u8;
            bytes = rest;
            if usize::from(self.header_bytes) == self.header.len() {
                self.header_bytes = 0;
                self.frame(now_ns)?;
            }
        }
        Ok(())
    }

    /// Takes what `bytes` hold of the block's frame, up to its padding; answers the rest.
    fn follow<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Abuse> {
        let Some((first, rest)) = bytes.split_first() else { return Ok(bytes) };
        let block = &mut self.block;
        if block.lead > 0 {
            block.lead -= 1;
            if std::mem::take(&mut block.is_padded) {
                self.skip = u32::from(*first).min(block.left);
                block.left -= self.skip;
            }
            self.settle()?;
            return Ok(rest);
        }
        let take = usize::try_from(block.left).unwrap_or(usize::MAX).min(bytes.len());
        let (now, later) = bytes.split_at_checked(take).unwrap_or_default();
        block.left -= take as u32;
        self.follower.push(now);
        self.settle()?;
        Ok(later)
    }

    /// Looks whether the frame's part of the block is complete, and the block with it.
    fn settle(&mut self) -> Result<(), Abuse> {
        if self.block.lead > 0 || self.block.left > 0 {
            return Ok(());
        }
        self.block.is_open = false;
        if !self.block.is_last || !self.follower.end() || !self.block.is_trailers {
            return Ok(());
        }
        if self.malformed.len() >= MALFORMED_MAX {
            return Err(Abuse::ProvokedResets);
        }
        self.malformed.push(self.block.stream);
        Ok(())
    }

    /// A frame of a header block begins, `length` bytes long.
    fn open(&mut self, kind: u8, flags: u8, length: u32) -> Result<(), Abuse> {
        let [.., a, b, c, d] = self.header;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let is_headers = kind == HEADERS;
        let is_set = |flag: u8| is_headers && flags & flag != 0;
        let lead = u32::from(is_set(PADDED)) + if is_set(PRIORITY) { 5 } else { 0 };
        self.block = Block {
            stream,
            is_trailers: if is_headers { stream <= self.newest } else { self.block.is_trailers },
            // A frame that is too short for them is the frame layer's to judge.
            lead: lead.min(length),
            is_padded: is_set(PADDED) && length > 0,
            left: length.saturating_sub(lead),
            is_last: flags & END_HEADERS != 0,
            is_open: true,
        };
        self.newest = self.newest.max(stream);
        self.skip = 0;
        self.settle()
    }

    /// A frame header is complete.
    fn frame(&mut self, now_ns: u64) -> Result<(), Abuse> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length;
        let is_set = |flag: u8| flags & flag != 0;
        if kind != CONTINUATION {
            self.continuations = 0;
        }
        let (budget, max, abuse) = match kind {
            DATA if length > 0 || is_set(END_STREAM) => return Ok(()),
            DATA => (&mut self.empty_data, EMPTY_DATA_MAX, Abuse::EmptyData),
            HEADERS => return self.open(kind, flags, length),
            CONTINUATION => {
                self.continuations += 1;
                if self.continuations > CONTINUATIONS_MAX {
                    return Err(Abuse::Continuations);
                }
                return self.open(kind, flags, length);
            }
            RST_STREAM => (&mut self.resets, RESETS_MAX, Abuse::Resets),
            SETTINGS if !is_set(ACK) => (&mut self.settings, ANSWERED_MAX, Abuse::Settings),
            PING if !is_set(ACK) => (&mut self.pings, ANSWERED_MAX, Abuse::Ping),
            WINDOW_UPDATE if self.credit >= BYTES_PER_UPDATE => {
                self.credit -= BYTES_PER_UPDATE;
                return Ok(());
            }
            WINDOW_UPDATE => (&mut self.updates, UPDATES_MAX, Abuse::WindowUpdates),
            _ => (&mut self.ignored, IGNORED_MAX, Abuse::Ignored),
        };
        if budget.spend(now_ns, max) { Ok(()) } else { Err(abuse) }
    }
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::new()
    }
}

// Frame types and flags, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 0);
        bytes
    }

    fn metered(frame: &[u8], count: usize) -> Result<(), Abuse> {
        let mut meter = Meter::new();
        meter.received(&[b'x'; PREFACE_BYTES as usize], 0)?;
        (0..count).try_for_each(|_| meter.received(frame, 0))
    }

    #[test]
    fn each_budget_lasts_exactly_as_long_as_it_says() {
        for (frame, max, abuse) in [
            (frame(SETTINGS, 0, 6), 100, Abuse::Settings),
            (frame(PING, 0, 8), 100, Abuse::Ping),
            (frame(DATA, 0, 0), 1_000, Abuse::EmptyData),
            (frame(WINDOW_UPDATE, 0, 4), 1_000, Abuse::WindowUpdates),
            (frame(SETTINGS, ACK, 0), 1_000, Abuse::Ignored),
            (frame(PING, ACK, 8), 1_000, Abuse::Ignored),
            (frame(2, 0, 5), 1_000, Abuse::Ignored),
            (frame(0x10, 0, 9), 1_000, Abuse::Ignored),
            (frame(0xee, 0, 0), 1_000, Abuse::Ignored),
            (frame(RST_STREAM, 0, 4), 1_000, Abuse::Resets),
            (frame(CONTINUATION, 0, 1), 8, Abuse::Continuations),
        ] {
            assert_eq!(metered(&frame, max), Ok(()), "{abuse:?}");
            assert_eq!(metered(&frame, max + 1), Err(abuse));
        }
    }

    #[test]
    fn payload_and_requests_cost_nothing() {
        assert_eq!(metered(&frame(DATA, 0, 300), 100_000), Ok(()));
        assert_eq!(metered(&frame(DATA, END_STREAM, 0), 100_000), Ok(()));
        assert_eq!(metered(&[frame(HEADERS, 0, 9), frame(CONTINUATION, 4, 9)].concat(), 10_000), Ok(()));
    }

    #[test]
    fn a_budget_comes_back_with_time_and_not_before() {
        let mut budget = Budget::default();
        let second = 1_000_000_000;
        assert!((0..100).all(|_| budget.spend(0, 100)));
        assert!(!budget.spend(second / 10 - 1, 100));
        assert!(budget.spend(second / 10, 100) && !budget.spend(second / 10, 100));
        assert!((0..50).all(|_| budget.spend(5 * second + second / 10, 100)));
        assert!(!budget.spend(5 * second + second / 10, 100));
    }

    #[test]
    fn a_budget_is_whole_again_in_the_next_window() {
        let mut meter = Meter::new();
        meter.received(&[0; 24], 0).unwrap();
        for window in 0..3u64 {
            for _ in 0..100 {
                meter.received(&frame(PING, 0, 8), window * WINDOW.as_nanos() as u64).unwrap();
            }
        }
        assert_eq!(meter.received(&frame(PING, 0, 8), 2 * WINDOW.as_nanos() as u64), Err(Abuse::Ping));
    }

    #[test]
    fn bytes_sent_pay_for_window_updates() {
        let mut meter = Meter::new();
        meter.received(&[0; 24], 0).unwrap();
        meter.sent(5_000 * 1_024);
        for _ in 0..6_000 {
            meter.received(&frame(WINDOW_UPDATE, 0, 4), 0).unwrap();
        }
        assert_eq!(meter.received(&frame(WINDOW_UPDATE, 0, 4), 0), Err(Abuse::WindowUpdates));
    }

    fn on(stream: u8, kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    #[test]
    fn only_trailers_with_pseudo_fields_are_malformed_however_their_frames_were_cut() {
        let (plain, pseudo) = (b"\0\x01x\x01y", b"\0\x01x\x01y\x82");
        let stream = [
            vec![0; 24],
            on(1, HEADERS, END_HEADERS, pseudo),
            on(1, DATA, 0, b"hello"),
            // Padding that looks like a field, and a priority.
            on(3, HEADERS, END_HEADERS | PADDED | PRIORITY, b"\x02\0\0\0\0\0\x82\x82\x82"),
            on(3, HEADERS, END_HEADERS | END_STREAM | PADDED, b"\x02\0\x01x\x01y\x82\x82"),
            on(1, HEADERS, END_STREAM, plain),
            on(1, CONTINUATION, 0, b""),
            on(1, CONTINUATION, END_HEADERS, b"\x82"),
            on(5, HEADERS, END_HEADERS, pseudo),
            on(5, HEADERS, END_HEADERS | END_STREAM, plain),
        ]
        .concat();
        for size in 1..stream.len() {
            let mut meter = Meter::new();
            stream.chunks(size).for_each(|piece| meter.received(piece, 0).unwrap());
            assert_eq!(meter.malformed, [1], "{size}");
        }
    }

    #[test]
    fn malformed_trailers_are_no_pastime() {
        let mut meter = Meter::new();
        meter.received(&[0; 24], 0).unwrap();
        meter.received(&on(1, HEADERS, END_HEADERS, b"\x82"), 0).unwrap();
        for _ in 0..MALFORMED_MAX {
            meter.received(&on(1, HEADERS, END_HEADERS, b"\x82"), 0).unwrap();
        }
        assert_eq!(meter.received(&on(1, HEADERS, END_HEADERS, b"\x82"), 0), Err(Abuse::ProvokedResets));
    }

    #[test]
    fn the_verdict_does_not_depend_on_how_the_bytes_were_cut() {
        let mut stream = vec![0; 24];
        for _ in 0..101 {
            stream.extend(frame(DATA, 0, 70));
            stream.extend(frame(PING, 0, 8));
        }
        for size in 1..40 {
            let mut meter = Meter::new();
            let verdicts: Vec<_> = stream.chunks(size).map(|piece| meter.received(piece, 0)).collect();
            let first = verdicts.iter().position(Result::is_err).unwrap();
            assert_eq!(verdicts[first], Err(Abuse::Ping));
            assert_eq!(first, (stream.len() - 9) / size, "{size}");
        }
    }
}
