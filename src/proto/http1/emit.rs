//! Heads and chunks to bytes, appended to the caller's buffer. Which fields to send is `policy::headers`' business.
//!
//! Values come from parsed heads or are our own, so they hold no CR, LF or NUL; debug builds check it.

use super::bytes::{is_target, is_token, is_value};
use std::ops::Deref;

/// `METHOD target HTTP/1.1`, the target byte for byte. It comes in two parts, of which the first may be empty.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], first: &[u8], rest: &[u8]) {
    debug_assert!(is_token(method) && (first.is_empty() || is_target(first)) && (rest.is_empty() || is_target(rest)));
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(first);
    out.extend_from_slice(rest);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 status reason`; always 1.1, the version this proxy speaks (RFC 9110 §2.5).
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    debug_assert!((100..=999).contains(&status) && is_value(reason));
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name) && is_value(value));
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

pub fn chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
}

/// The empty line.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Interim response that lets a client send its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Follows the data of every chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The zero chunk; trailers and an empty line come behind it.
pub const LAST_CHUNK_HEAD: &[u8] = b"0\r\n";
/// The zero chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The size line before `bytes` of data. `bytes` must not be 0: that would end the body.
pub fn chunk_head(bytes: usize) -> ChunkHead {
    debug_assert!(bytes > 0);
    let mut head = ChunkHead { text: *b"0000000000000000\r\n", start: 15 };
    let mut rest = bytes;
    for index in (0..16).rev() {
        let digit = (rest & 0xf) as u8;
        if let Some(byte) = head.text.get_mut(index) {
            *byte = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
        head.start = index;
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    head
}

/// Text of a chunk's size line, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead {
    text: [u8; 18],
    start: usize,
}

impl Deref for ChunkHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.text.get(self.start..).unwrap_or_default()
    }
}

/// Without leading zeros.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [b'0'; 20];
    let mut start = text.len();
    for byte in text.iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(start..).unwrap_or_default());
}
