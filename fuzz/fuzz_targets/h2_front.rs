//! Any bytes behind a client's preface into the frame layer as we set it up, with the budgets in front of it: whatever
//! requests come out, the head that is written for each must be one request for our own parser, or none, and no field
//! of it may contain what ends a line.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lyre::proto::http1::{Fields, Limits, Parsed, parse_request};
use lyre::proto::http2::meter::Meter;
use lyre::proto::http2::request::Body;
use lyre::serve::h2::{builder, write_parts};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// Gives these bytes, then keeps silent; takes everything.
struct Feed<'a>(&'a [u8]);

impl AsyncRead for Feed<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(into.remaining()));
        into.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Feed<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
