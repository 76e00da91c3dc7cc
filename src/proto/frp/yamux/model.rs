//! The other end for tests: a client that behaves like the one in Go as far as frames go, and checks what it is sent
//! by counting of its own.

use super::{HEADER_BYTES, Header, INITIAL_WINDOW, Kind, flag};
use std::collections::BTreeMap;

/// What frpc lets us send from the start.
pub(super) const CLIENT_WINDOW: u32 = 6 << 20;

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) streams: BTreeMap<u32, PeerStream>,
    /// To the server.
    pub(super) out: Vec<u8>,
    inbound: Vec<u8>,
    next: u32,
    pub(super) pongs: Vec<u32>,
    pub(super) gone_away: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct PeerStream {
    pub(super) credit: u32,
    /// The server may send so much yet.
    granted: u32,
    /// Received, not granted again.
    taken: u32,
    pub(super) sent: Vec<u8>,
    pub(super) received: Vec<u8>,
    pub(super) acks: u32,
    pub(super) fins: u32,
    pub(super) resets: u32,
    pub(super) has_finished: bool,
}

impl Peer {
    pub(super) fn open(&mut self) -> u32 {
        let stream = 2 * self.next + 1;
        self.next += 1;
        let state = PeerStream { credit: INITIAL_WINDOW, granted: CLIENT_WINDOW, ..PeerStream::default() };
        self.streams.insert(stream, state);
        self.frame(Kind::WindowUpdate, flag::SYN, stream, CLIENT_WINDOW - INITIAL_WINDOW);
        stream
    }

    /// As much of it as there is credit for; how much.
    pub(super) fn send(&mut self, stream: u32, bytes: &[u8]) -> usize {
        let Some(state) = self.streams.get_mut(&stream) else { return 0 };
        let length = bytes.len().min(state.credit as usize);
        state.credit -= length as u32;
        state.sent.extend_from_slice(&bytes[..length]);
        self.frame(Kind::Data, 0, stream, length as u32);
        self.out.extend_from_slice(&bytes[..length]);
        length
    }

    pub(super) fn finish(&mut self, stream: u32) {
        self.streams.get_mut(&stream).unwrap().has_finished = true;
        self.frame(Kind::WindowUpdate, flag::FIN, stream, 0);
    }

    /// Credit for what was received: late and much at once, as Go gives it, unless `is_eager`.
    pub(super) fn grant(&mut self, stream: u32, is_eager: bool) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.taken > 0 && (is_eager || state.taken >= CLIENT_WINDOW / 2) {
            let taken = std::mem::take(&mut state.taken);
            state.granted += taken;
            self.frame(Kind::WindowUpdate, 0, stream, taken);
        }
    }

    pub(super) fn frame(&mut self, kind: Kind, flags: u16, stream: u32, length: u32) {
        self.out.extend_from_slice(&Header { kind, flags, stream, length }.encode());
    }

    /// Takes what the server sent, cut anywhere.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        while let Some(header) = self.inbound.first_chunk::<HEADER_BYTES>() {
            let header = Header::decode(*header).unwrap();
            let body = if header.kind == Kind::Data { header.length as usize } else { 0 };
            if self.inbound.len() < HEADER_BYTES + body {
                return;
            }
            let frame: Vec<u8> = self.inbound.drain(..HEADER_BYTES + body).collect();
            self.take(header, &frame[HEADER_BYTES..]);
        }
    }

    fn take(&mut self, header: Header, body: &[u8]) {
        match header.kind {
            Kind::Ping if header.has(flag::SYN) => self.frame(Kind::Ping, flag::ACK, 0, header.length),
            Kind::Ping => self.pongs.push(header.length),
            Kind::GoAway => self.gone_away = Some(header.length),
            Kind::Data | Kind::WindowUpdate => {
                let state = self.streams.get_mut(&header.stream).expect("a stream the client opened");
                assert!(state.acks == 1 || header.has(flag::ACK) || header.has(flag::RST), "the ACK comes first");
                assert!(!header.has(flag::SYN) && state.resets == 0);
                state.acks += u32::from(header.has(flag::ACK));
                state.resets += u32::from(header.has(flag::RST));
                if header.kind == Kind::WindowUpdate {
                    state.credit += header.length;
                } else {
                    assert!(state.fins == 0, "data after the FIN");
                    state.granted = state.granted.checked_sub(header.length).expect("no more than was granted");
                    state.taken += header.length;
                    state.received.extend_from_slice(body);
                }
                state.fins += u32::from(header.has(flag::FIN));
                assert!(state.acks <= 1 && state.fins <= 1, "{state:?}");
            }
        }
    }
}
