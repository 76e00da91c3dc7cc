//! The connection: its streams, its pings and its end.

use super::INITIAL_WINDOW;
use super::end::{End, Violation};
use super::header::{HEADER_BYTES, Header, Kind, flag};
use super::stream::Stream;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

/// Data frames are cut to this, so that a ping never waits behind much and a frame fits a few TLS records.
const FRAME_BYTES_MAX: u32 = 32 << 10;

/// After our FIN the client has so long for its own; then its stream is reset, or one that never answers would stay.
const LINGER: Duration = Duration::from_secs(30);

/// Pings of the client not answered yet. An honest one sends one every 20 to 60 seconds.
const URGENT_MAX: usize = 64;

/// Other frames that wait to be sent: an acknowledgement for each of a thousand streams, several times over.
const WAITING_MAX: usize = 8_192;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What the client may send on a stream before we took any of it. At least [`INITIAL_WINDOW`], which it has anyway.
    pub receive_window: u32,
    pub streams_max: usize,
    /// Streams whose first message was not read yet ([`Mux::settle`]).
    pub unsettled_max: usize,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            receive_window: INITIAL_WINDOW,
            streams_max: 1_024,
            unsettled_max: 64,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// What arrived means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new stream, acknowledged already.
    Opened { stream: u32 },
    /// Payload, where it lies in the bytes handed in. To be kept until it is taken ([`Mux::take`]).
    Data { stream: u32, at: Range<usize> },
    /// There is credit again for a stream that had none when it was asked for.
    Writable { stream: u32 },
    /// The client is done with the stream, in both directions: what it sent before still counts, then close it.
    Finished { stream: u32 },
    /// The stream is gone.
    Reset { stream: u32 },
    /// The client answered a ping after so long.
    Alive { after: Duration },
}

/// Where in the frames the inbound bytes are.
#[derive(Debug)]
enum Input {
    Header { bytes: [u8; HEADER_BYTES], have: usize },
    Body { stream: u32, left: u32, is_last: bool },
}

const AT_HEADER: Input = Input::Header { bytes: [0; HEADER_BYTES], have: 0 };

#[derive(Debug, Clone, Copy)]
struct Ping {
    id: u32,
    sent: Duration,
    until: Duration,
}

/// One connection with one client.
#[derive(Debug)]
pub struct Mux {
    limits: Limits,
    input: Input,
    streams: HashMap<u32, Stream>,
    unsettled: usize,
    /// Answers to pings, our own pings, the last word: before everything else.
    urgent: VecDeque<Header>,
    waiting: VecDeque<Header>,
    /// When to look for closed streams whose time is over.
    sweep_at: Option<Duration>,
    next_ping_at: Duration,
    ping: Option<Ping>,
    ping_id: u32,
    end: Option<End>,
}

impl Mux {
    pub fn new(now: Duration, limits: Limits) -> Mux {
        let limits = Limits { receive_window: limits.receive_window.max(INITIAL_WINDOW), ..limits };
        Mux {
            limits,
            input: AT_HEADER,
            streams: HashMap::new(),
            unsettled: 0,
            urgent: VecDeque::new(),
            waiting: VecDeque::new(),
            sweep_at: None,
            next_ping_at: now + limits.ping_interval,
            ping: None,
            ping_id: 0,
            end: None,
        }
    }

    /// A client that has logged in may have more streams than one that has not.
    pub fn set_streams_max(&mut self, streams_max: usize) {
        self.limits.streams_max = streams_max;
    }

    /// Takes what arrived, cut anywhere, and appends what it means. The connection is over with an error.
    pub fn receive(&mut self, now: Duration, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), End> {
        let mut at = 0;
        while at < bytes.len() {
            if let Some(end) = self.end {
                return Err(end);
            }
            let rest = bytes.get(at..).unwrap_or_default();
            at += match self.input {
                Input::Header { .. } => self.gather(now, rest, events)?,
                Input::Body { stream, left, is_last } => {
                    let take = rest.len().min(left as usize);
                    self.body(stream, at..at + take, left - take as u32, is_last, events)?;
                    take
                }
            };
        }
        self.check();
        self.end.map_or(Ok(()), Err)
    }

    /// What is due by the clock; to be called at [`Mux::deadline`].
    pub fn tick(&mut self, now: Duration) -> Result<(), End> {
        if let Some(end) = self.end {
            return Err(end);
        }
        if self.ping.is_some_and(|ping| now >= ping.until) {
            return Err(self.finish(End::Silent));
        }
        if self.ping.is_none() && now >= self.next_ping_at {
            self.probe(now, self.limits.ping_timeout);
        }
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.sweep(now);
        }
        self.check();
        self.end.map_or(Ok(()), Err)
    }

    /// When [`Mux::tick`] has something to do.
    pub fn deadline(&self) -> Duration {
        let ping = self.ping.map_or(self.next_ping_at, |ping| ping.until);
        self.sweep_at.map_or(ping, |at| ping.min(at))
    }

    /// Asks whether the client is there. It is not if it does not answer `within` this time.
    pub fn probe(&mut self, now: Duration, within: Duration) {
        let until = now + within;
        if let Some(ping) = &mut self.ping {
            ping.until = ping.until.min(until);
            return;
        }
        self.ping = Some(Ping { id: self.ping_id, sent: now, until });
        self.next_ping_at = now + self.limits.ping_interval;
        self.urgent.push_back(Header { kind: Kind::Ping, flags: flag::SYN, stream: 0, length: self.ping_id });
        self.ping_id = self.ping_id.wrapping_add(1);
    }

    /// The caller is done with so many bytes of the stream's data: the client gets credit for them in time.
    pub fn take(&mut self, stream: u32, bytes: usize) {
        let Some(credit) = self.streams.get_mut(&stream).and_then(|stream| stream.take(bytes)) else { return };
        self.push(Header { kind: Kind::WindowUpdate, flags: 0, stream, length: credit });
    }

    /// The stream's first message was read.
    pub fn settle(&mut self, stream: u32) {
        if let Some(stream) = self.streams.get_mut(&stream).filter(|stream| !stream.is_settled) {
            stream.is_settled = true;
            self.unsettled -= 1;
        }
    }

    /// The header for the next data of a stream and how much of it may follow, at most `want`. Both must be sent, in
    /// this order and before whatever is asked for next. `None` without credit, or when the stream is closed or gone.
    pub fn data(&mut self, stream: u32, want: usize) -> Option<([u8; HEADER_BYTES], usize)> {
        let want = u32::try_from(want).unwrap_or(u32::MAX).min(FRAME_BYTES_MAX);
        let state = self.streams.get_mut(&stream).filter(|stream| stream.closed_at.is_none() && !stream.is_finished)?;
        if want == 0 || self.end.is_some() {
            return None;
        }
        match state.spend(want) {
            0 => None,
            bytes => Some((Header { kind: Kind::Data, flags: 0, stream, length: bytes }.encode(), bytes as usize)),
        }
    }

    /// What may be sent on the stream now.
    pub fn send_window(&self, stream: u32) -> usize {
        self.streams.get(&stream).map_or(0, |stream| stream.send_window() as usize)
    }

    /// Our FIN, once everything of the stream was sent. What still arrives for it is dropped.
    pub fn close(&mut self, now: Duration, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream).filter(|stream| stream.closed_at.is_none()) else { return };
        state.closed_at = Some(now);
        if state.is_finished {
            self.remove(stream);
        } else {
            self.sweep_at.get_or_insert(now + LINGER);
        }
        self.push(Header { kind: Kind::WindowUpdate, flags: flag::FIN, stream, length: 0 });
    }

    /// Ends a stream at once. The client loses what it has not read yet: for abuse, not for an end.
    pub fn reset(&mut self, stream: u32) {
        if self.remove(stream) {
            self.push(Header { kind: Kind::WindowUpdate, flags: flag::RST, stream, length: 0 });
        }
    }

    /// Whether [`Mux::transmit`] has something.
    pub fn has_frames(&self) -> bool {
        !self.urgent.is_empty() || !self.waiting.is_empty()
    }

    /// Appends the frames that wait to be sent, the urgent ones first. Between the frames of data, not inside one.
    pub fn transmit(&mut self, out: &mut Vec<u8>) {
        for header in self.urgent.drain(..).chain(self.waiting.drain(..)) {
            out.extend_from_slice(&header.encode());
        }
    }

    /// Streams that are not gone.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes of a header; how many were used.
    fn gather(&mut self, now: Duration, rest: &[u8], events: &mut Vec<Event>) -> Result<usize, End> {
        let Input::Header { bytes, have } = &mut self.input else { return Ok(0) };
        let take = rest.len().min(HEADER_BYTES - *have);
        if let (Some(room), Some(part)) = (bytes.get_mut(*have..*have + take), rest.get(..take)) {
            room.copy_from_slice(part);
        }
        *have += take;
        if *have == HEADER_BYTES {
            let header = Header::decode(*bytes);
            self.input = AT_HEADER;
            let outcome = header.and_then(|header| self.frame(now, header, events));
            outcome.map_err(|violation| self.finish(End::Violation(violation)))?;
        }
        Ok(take)
    }

    /// A complete header.
    fn frame(&mut self, now: Duration, header: Header, events: &mut Vec<Event>) -> Result<(), Violation> {
        match header.kind {
            Kind::Data | Kind::WindowUpdate => self.stream_frame(header, events),
            Kind::Ping => {
                self.pinged(now, header, events);
                Ok(())
            }
            // "Open no more streams to me": we never do.
            Kind::GoAway if header.length == 0 => Ok(()),
            Kind::GoAway => {
                self.finish(End::GoAway(header.length));
                Ok(())
            }
        }
    }

    fn pinged(&mut self, now: Duration, header: Header, events: &mut Vec<Event>) {
        if header.has(flag::SYN) {
            if self.urgent.len() >= URGENT_MAX {
                self.finish(End::Flood);
            } else {
                self.urgent.push_back(Header { flags: flag::ACK, stream: 0, ..header });
            }
        } else if header.has(flag::ACK)
            && let Some(ping) = self.ping.filter(|ping| ping.id == header.length)
        {
            self.ping = None;
            events.push(Event::Alive { after: now.saturating_sub(ping.sent) });
        }
    }

    fn stream_frame(&mut self, header: Header, events: &mut Vec<Event>) -> Result<(), Violation> {
        let id = header.stream;
        if header.has(flag::SYN) {
            self.open(id, events)?;
        }
        let is_data = header.kind == Kind::Data;
        // A stream we do not have (any more) may still have frames on the way: they count for nothing.
        if let Some(stream) = self.streams.get_mut(&id) {
            if is_data && !stream.is_finished && !stream.arrive(header.length) {
                return Err(Violation::Window(id));
            }
            if !is_data && !stream.credit(header.length) {
                return Err(Violation::Credit(id));
            }
            if stream.is_starved && header.length > 0 && !is_data {
                stream.is_starved = false;
                events.push(Event::Writable { stream: id });
            }
            if header.has(flag::RST) {
                self.remove(id);
                events.push(Event::Reset { stream: id });
            }
        }
        let is_last = header.has(flag::FIN);
        if is_data && header.length > 0 {
            self.input = Input::Body { stream: id, left: header.length, is_last };
        } else if is_last {
            self.finished(id, events)?;
        }
        Ok(())
    }

    /// A SYN: answered at once, in one way or the other.
    fn open(&mut self, id: u32, events: &mut Vec<Event>) -> Result<(), Violation> {
        if id.is_multiple_of(2) {
            return Err(Violation::StreamId(id));
        }
        if self.streams.contains_key(&id) {
            return Err(Violation::DuplicateStream(id));
        }
        if self.streams.len() >= self.limits.streams_max || self.unsettled >= self.limits.unsettled_max {
            self.push(Header { kind: Kind::WindowUpdate, flags: flag::RST, stream: id, length: 0 });
            return Ok(());
        }
        let window = self.limits.receive_window;
        self.streams.insert(id, Stream::new(window));
        self.unsettled += 1;
        let length = window - INITIAL_WINDOW;
        self.push(Header { kind: Kind::WindowUpdate, flags: flag::ACK, stream: id, length });
        events.push(Event::Opened { stream: id });
        Ok(())
    }

    /// A piece of payload, at `at` in what arrived, with so much of the frame to come.
    fn body(
        &mut self,
        id: u32,
        at: Range<usize>,
        left: u32,
        is_last: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), End> {
        self.input = if left > 0 { Input::Body { stream: id, left, is_last } } else { AT_HEADER };
        match self.streams.get_mut(&id) {
            // Nobody will take it, so there is no credit for it either; our FIN is on its way.
            Some(stream) if stream.closed_at.is_some() => _ = stream.take(at.len()),
            Some(stream) if !stream.is_finished => events.push(Event::Data { stream: id, at }),
            _ => {}
        }
        if left == 0 && is_last {
            self.finished(id, events).map_err(|violation| self.finish(End::Violation(violation)))?;
        }
        Ok(())
    }

    /// The client's FIN.
    fn finished(&mut self, id: u32, events: &mut Vec<Event>) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.is_finished {
            return Err(Violation::SecondFin(id));
        }
        stream.is_finished = true;
        if stream.closed_at.is_some() {
            self.remove(id);
        } else {
            events.push(Event::Finished { stream: id });
        }
        Ok(())
    }

    /// Resets the closed streams whose client had its time, and looks when the next one's is over.
    fn sweep(&mut self, now: Duration) {
        let ends = |stream: &Stream| stream.closed_at.map(|at| at + LINGER);
        let is_over = |stream: &Stream| ends(stream).is_some_and(|at| now >= at);
        let over: Vec<u32> = self.streams.iter().filter(|(_, stream)| is_over(stream)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.reset(id));
        self.sweep_at = self.streams.values().filter_map(ends).min();
    }

    fn remove(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.unsettled -= usize::from(!stream.is_settled);
        true
    }

    fn push(&mut self, header: Header) {
        if self.end.is_some() {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.finish(End::Flood);
            return;
        }
        self.waiting.push_back(header);
    }

    /// The connection is over, for the first reason that came up; the client is told where it is at fault.
    fn finish(&mut self, end: End) -> End {
        if let Some(earlier) = self.end {
            return earlier;
        }
        self.end = Some(end);
        if matches!(end, End::Violation(_) | End::Flood) {
            self.waiting.clear();
            self.urgent.clear();
            self.urgent.push_back(Header { kind: Kind::GoAway, flags: 0, stream: 0, length: GO_AWAY_PROTOCOL });
        }
        end
    }

    fn check(&self) {
        debug_assert!(self.urgent.len() <= URGENT_MAX + 1 && self.waiting.len() <= WAITING_MAX);
        debug_assert_eq!(self.unsettled, self.streams.values().filter(|stream| !stream.is_settled).count());
        self.streams.values().for_each(Stream::check);
    }
}

const GO_AWAY_PROTOCOL: u32 = 1;
