//! The front through its bytes: streams of frames, damaged at random, into the real frame layer. Whatever it makes of
//! them, the head we write must be one request for our own parser, or none.

use super::stream::write_parts;
use crate::proto::http1::{Fields, Limits, Parsed, parse_request};
use crate::proto::http2::meter::Meter;
use crate::proto::http2::request::Body;
use bytes::Bytes;
use feed::Feed;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

mod feed;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Requests of every kind, as a client would send them.
fn honest() -> Vec<u8> {
    let line = [(":method", "GET"), (":scheme", "https"), (":authority", "cloud.test"), (":path", "/a?b=%2F")];
    let with = |more: &[(&'static str, &'static str)]| block(&[&line[..], more].concat());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 5, 1, &with(&[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")])));
    bytes.extend(frame(1, 4, 3, &with(&[("content-length", "5"), ("expect", "100-continue")])));
    bytes.extend(frame(0, 1, 3, b"hello"));
    bytes.extend(frame(1, 5, 5, &block(&[(":method", "GET"), line[1], line[3], ("host", "cloud.test")])));
    let connect = [(":method", "CONNECT"), (":protocol", "websocket"), line[1], line[2], line[3]];
    bytes.extend(frame(1, 4, 7, &block(&connect)));
    bytes.extend(frame(1, 1, 9, &with(&[])));
    bytes.extend(frame(9, 4, 9, &block(&[("x", "y")])));
    bytes
}

/// The heads these bytes come to.
fn heads(bytes: &[u8]) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Meter::new().received(bytes, 0);
    let builder = super::builder();
    let Poll::Ready(Ok(mut h2)) = pin!(builder.handshake::<_, Bytes>(Feed(bytes))).poll(&mut cx) else { return 0 };
    let (mut count, mut open) = (0, Vec::new());
    while let Poll::Ready(Some(Ok((request, respond)))) = h2.poll_accept(&mut cx) {
        let (parts, body) = request.into_parts();
        for kind in [Body::None, Body::Counted(3), Body::Streamed] {
            let mut head = Vec::new();
            if write_parts(&mut head, &parts, kind, "dGhlIHNhbXBsZSBub25jZQ==").is_err() {
                continue;
            }
            let mut fields = Fields::new();
            if let Ok(parsed) = parse_request(&head, &mut fields, &Limits::default()) {
                let Parsed::Done { consumed, .. } = parsed else { panic!("incomplete: {head:?}") };
                assert_eq!(consumed, head.len(), "{:?}", String::from_utf8_lossy(&head));
                count += 1;
            }
        }
        open.push((respond, body));
    }
    count
}

#[test]
fn honest_streams_are_requests() {
    assert_eq!(heads(&honest()), 5 * 3);
}

#[test]
fn damaged_streams_are_one_request_each_or_none() {
    let honest = honest();
    let mut count = 0;
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = honest.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(24..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] = random.u8(..),
                1 => bytes[at] = *random.choice(b"\r\n\0 :;,/\t#*@%").unwrap_or(&0),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, random.u8(..)),
                _ => {
                    let end = random.usize(at..bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
            if bytes.len() < 30 {
                break;
            }
        }
        // A failed assertion names the head; this names the seed.
        let result = std::panic::catch_unwind(|| heads(&bytes));
        count += result.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(count > 1_000, "too much damage to tell: {count} heads");
}
