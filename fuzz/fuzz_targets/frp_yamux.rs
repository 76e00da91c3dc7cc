//! A client's bytes into the multiplexer, in pieces whose sizes the first byte chooses, while the caller takes, sends,
//! closes and lets time pass as the second says. Nothing may panic; no stream may hold more than its window; payload
//! does not depend on where the pieces end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::proto::frp::yamux::{End, Event, HEADER_BYTES, Header, INITIAL_WINDOW, Kind, Limits, Mux};
use std::collections::BTreeMap;
use std::time::Duration;

const LIMITS: Limits = Limits {
    receive_window: INITIAL_WINDOW,
    streams_max: 8,
    unsettled_max: 4,
    ping_interval: Duration::from_secs(30),
    ping_timeout: Duration::from_secs(10),
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[size, what], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let whole = listen(bytes, bytes.len().max(1));
    assert_eq!(whole, listen(bytes, usize::from(size).max(1)));
    drive(bytes, usize::from(size).max(1), what);
});

/// What is heard, without a caller that does anything: payload by stream, how it ended, what is to be sent.
fn listen(bytes: &[u8], size: usize) -> (BTreeMap<u32, Vec<u8>>, Option<End>, Vec<u8>) {
    let mut mux = Mux::new(Duration::ZERO, LIMITS);
    let mut payload = BTreeMap::<u32, Vec<u8>>::new();
    for piece in bytes.chunks(size) {
        let mut events = Vec::new();
        let outcome = mux.receive(Duration::ZERO, piece, &mut events);
        for event in events {
            if let Event::Data { stream, at } = event {
                payload.entry(stream).or_default().extend_from_slice(&piece[at]);
            }
        }
        if outcome.is_err() {
            break;
        }
    }
    // A number used again counts again.
    assert!(mux.streams() <= 8);
    let mut out = Vec::new();
    mux.transmit(&mut out);
    assert_eq!(out.len() % HEADER_BYTES, 0);
    (payload, mux.end(), out)
}

fn drive(bytes: &[u8], size: usize, what: u8) {
    let mut mux = Mux::new(Duration::ZERO, LIMITS);
    let mut held = BTreeMap::<u32, usize>::new();
    let mut now = Duration::ZERO;
    for (round, piece) in bytes.chunks(size).enumerate() {
        let mut events = Vec::new();
        let _ = mux.receive(now, piece, &mut events);
        for event in events {
            match event {
                Event::Opened { stream } => _ = held.insert(stream, 0),
                Event::Data { stream, at } => {
                    let held = held.get_mut(&stream).unwrap();
                    *held += at.len();
                    assert!(*held <= INITIAL_WINDOW as usize);
                }
                Event::Writable { stream } => assert!(mux.send_window(stream) > 0),
                Event::Finished { .. } | Event::Reset { .. } | Event::Alive { .. } => {}
            }
        }
        now += Duration::from_secs(u64::from(what >> 5));
        let stream = round as u32 % 16;
        match (usize::from(what) + round) % 7 {
            0 => mux.settle(stream),
            1 => {
                let taken = held.get_mut(&stream).map_or(3, std::mem::take);
                mux.take(stream, taken);
            }
            2 => mux.close(now, stream),
            3 => mux.reset(stream),
            4 => {
                let window = mux.send_window(stream);
                if let Some((header, sent)) = mux.data(stream, 50_000) {
                    assert!(sent > 0 && sent <= window && mux.send_window(stream) == window - sent);
                    let header = Header::decode(header).unwrap();
                    assert_eq!((header.kind, header.stream, header.length as usize), (Kind::Data, stream, sent));
                }
            }
            5 => mux.probe(now, Duration::from_secs(1)),
            _ => _ = mux.tick(now),
        }
        assert!(mux.streams() <= 8);
        if what & 1 == 0 {
            let mut out = Vec::new();
            mux.transmit(&mut out);
            out.chunks(HEADER_BYTES).for_each(|header| _ = Header::decode(header.try_into().unwrap()).unwrap());
        }
    }
}
