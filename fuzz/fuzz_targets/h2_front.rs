//! Any bytes behind a client's preface into the frame layer as we set it up, with the budgets in front of it: whatever
//! requests come out, the head that is written for each must be one request for our own parser, or none, and no field
//! of it may contain what ends a line.
#![no_main]

#[path = "../../src/serve/h2/tests/feed.rs"]
mod feed;

use bytes::Bytes;
use feed::Feed;
use libfuzzer_sys::fuzz_target;
use lyre::proto::http1::{Fields, Limits, Parsed, parse_request};
use lyre::proto::http2::meter::Meter;
use lyre::proto::http2::request::Body;
use lyre::serve::h2::{builder, write_parts};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|input: &[u8]| {
    let bytes = [PREFACE, input].concat();
    // The budgets end a flood long before this many bytes are over; without a clock all of it comes at once.
    if Meter::new().received(&bytes, 0).is_err() {
        return;
    }
    let mut cx = Context::from_waker(Waker::noop());
    let builder = builder();
    let Poll::Ready(Ok(mut h2)) = pin!(builder.handshake::<_, Bytes>(Feed(&bytes))).poll(&mut cx) else { return };
    let mut open = Vec::new();
    while let Poll::Ready(Some(Ok((request, respond)))) = h2.poll_accept(&mut cx) {
        let (parts, body) = request.into_parts();
        for kind in [Body::None, Body::Counted(3), Body::Streamed] {
            let mut head = Vec::new();
            if write_parts(&mut head, &parts, kind, "dGhlIHNhbXBsZSBub25jZQ==").is_ok() {
                check(&head);
            }
        }
        open.push((respond, body));
    }
});

fn check(head: &[u8]) {
    let mut fields = Fields::new();
    let Ok(parsed) = parse_request(head, &mut fields, &Limits::default()) else { return };
    let Parsed::Done { consumed, .. } = parsed else { panic!("incomplete: {head:?}") };
    assert_eq!(consumed, head.len());
    let lines = head.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(lines, head.iter().filter(|byte| matches!(byte, b'\r')).count());
    assert_eq!(lines, head.iter().filter(|byte| matches!(byte, b'\n')).count());
}
