//! What is known of one exchange for its log line and the counters; counts it as in flight while it exists.

use crate::net::clock::{Now, now};
use crate::net::pool;
use crate::proto::http1::Limits;
use crate::proto::http1::bytes::is_token;
use crate::serve::connection::Connection;
use crate::serve::core::{Core, RequestId, Upstream, elapsed_ns};
use crate::serve::reply::Failure;
use crate::telemetry::access::{Line, Times};
use std::net::IpAddr;
use std::rc::Rc;

pub struct Record {
    core: Rc<Core>,
    pub id: RequestId,
    pub started: Now,
    /// End of the request head.
    pub headed: Option<Now>,
    pub queue: Option<u64>,
    pub connect: Option<u64>,
    pub first_byte: Option<u64>,
    pub client: IpAddr,
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub tries: u8,
    pub upstream: Option<Rc<Upstream>>,
    pub end: Option<Failure>,
    pub request: RequestText,
    /// Of the client.
    protocol: &'static str,
    is_in_flight: bool,
}

/// The request as text, for the log and for our own answers: the head as it went, or would go, upstream.
#[derive(Default)]
pub struct RequestText {
    pub head: Vec<u8>,
    pub method_bytes: usize,
    pub target_bytes: usize,
}

impl RequestText {
    /// What can be read of a head that broke a rule, or lacks its end. For the log line and the form of the answer only.
    pub fn glimpse(bytes: &[u8]) -> RequestText {
        const HEAD_BYTES_MAX: usize = 16 * 1024;
        const TARGET_BYTES_MAX: usize = 1024;
        const FIELD_BYTES_MAX: usize = 256;
        let bytes = bytes.trim_ascii_start();
        let bytes = bytes.get(..HEAD_BYTES_MAX).unwrap_or(bytes);
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        if method.len() > Limits::METHOD_BYTES_MAX || !is_token(method) {
            return RequestText::default();
        }
        let target = words.next().unwrap_or_default();
        let target = target.get(..TARGET_BYTES_MAX).unwrap_or(target);
        let known = |name: &[u8]| {
            let value = field(bytes, name);
            value.get(..FIELD_BYTES_MAX).unwrap_or(value)
        };
        RequestText::short(method, target, known(b"host"), known(b"accept"))
    }

    /// Enough for the log line and for the form of an answer.
    pub fn short(method: &[u8], target: &[u8], host: &[u8], accept: &[u8]) -> RequestText {
        let mut head = pool::vector();
        head.extend_from_slice(method);
        head.push(b' ');
        head.extend_from_slice(target);
        head.extend_from_slice(b"\r\nhost: ");
        head.extend_from_slice(host);
        head.extend_from_slice(b"\r\naccept: ");
        head.extend_from_slice(accept);
        RequestText { head, method_bytes: method.len(), target_bytes: target.len() }
    }

    pub fn method(&self) -> &[u8] {
        self.head.get(..self.method_bytes).unwrap_or_default()
    }

    pub fn target(&self) -> &[u8] {
        let start = self.method_bytes + 1;
        self.head.get(start..start + self.target_bytes).unwrap_or_default()
    }

    pub fn path(&self) -> &[u8] {
        self.target().split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// Value of the first field of this lower-case name.
    pub fn field(&self, name: &[u8]) -> &[u8] {
        field(&self.head, name)
    }

    /// Keeps what the log line needs and nothing more, for exchanges that live long.
    pub fn shrink(&mut self) {
        let end = self.method_bytes + 1 + self.target_bytes;
        let host = self.field(b"host").to_vec();
        let mut short = Vec::with_capacity(end + host.len() + 16);
        short.extend_from_slice(self.head.get(..end).unwrap_or_default());
        short.extend_from_slice(b"\r\nhost: ");
        short.extend_from_slice(&host);
        pool::recycle(std::mem::replace(&mut self.head, short));
    }
}

/// Value of the first field of this lower-case name in a head as text; empty without one.
pub fn field<'a>(head: &'a [u8], name: &[u8]) -> &'a [u8] {
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        if let Some((before, value)) = line.split_at_checked(name.len())
            && before.eq_ignore_ascii_case(name)
            && let Some(value) = value.strip_prefix(b":")
        {
            return value.trim_ascii();
        }
    }
    &[]
}

impl Record {
    pub fn begin(connection: &Connection, protocol: &'static str) -> Record {
        let core = &connection.core;
        core.counters().requests.bump();
        core.counters().in_flight.up();
        Record {
            core: core.clone(),
            id: core.request_id(),
            started: now(),
            headed: None,
            queue: None,
            connect: None,
            first_byte: None,
            client: connection.origin.peer,
            status: 0,
            bytes_in: 0,
            bytes_out: 0,
            tries: 0,
            upstream: None,
            end: None,
            request: RequestText::default(),
            protocol,
            is_in_flight: true,
        }
    }

    /// Counted as a tunnel from here on.
    pub fn leave_flight(&mut self) {
        if std::mem::replace(&mut self.is_in_flight, false) {
            self.core.counters().in_flight.down();
        }
    }

    /// Nanoseconds from the end of the request head to now.
    pub fn since_head(&self) -> u64 {
        elapsed_ns(self.headed.unwrap_or(self.started))
    }

    /// Counts the exchange and writes its line.
    pub fn finish(&mut self, connection: &Connection) {
        let total = elapsed_ns(self.started);
        let counters = self.core.counters();
        counters.response(self.status);
        counters.duration.record(total);
        counters.bytes_in.add(self.bytes_in);
        counters.bytes_out.add(self.bytes_out);
        let end = self.end.map(|failure| {
            counters.failure(failure.index());
            let answer = failure.answer();
            (answer.side.as_str(), answer.code)
        });
        if !self.core.is_logging() {
            return;
        }
        let server = self.upstream.as_ref().map(|upstream| &upstream.server);
        let line = Line {
            client: self.client,
            host: self.request.field(b"host"),
            method: self.request.method(),
            target: self.request.target(),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            pool: server.map_or("", |server| server.pool.as_str()),
            server: server.map_or("", |server| server.name.as_str()),
            request_id: self.id.as_str(),
            protocol: self.protocol,
            tls: connection.tls_version(),
            times: Times {
                head: self.headed.map_or(total, |headed| headed.0.saturating_sub(self.started.0)),
                queue: self.queue,
                connect: self.connect,
                first_byte: self.first_byte,
                total,
            },
            tries: self.tries,
            end,
        };
        let started = self.core.date.wall(self.started);
        self.core.log(|log, _| log.write(started, &line));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.leave_flight();
        pool::recycle(std::mem::take(&mut self.request.head));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_head_tells_the_request_again() {
        let head =
            b"PROPFIND /a/b?c HTTP/1.1\r\nHost: cloud.example.com\r\nACCEPT:  text/html \r\n\r\nhost: body".to_vec();
        let mut text = RequestText { head, method_bytes: 8, target_bytes: 6 };
        assert_eq!((text.method(), text.target(), text.path()), (&b"PROPFIND"[..], &b"/a/b?c"[..], &b"/a/b"[..]));
        assert_eq!((text.field(b"accept"), text.field(b"cookie")), (&b"text/html"[..], &b""[..]));
        text.shrink();
        assert_eq!((text.target(), text.field(b"host")), (&b"/a/b?c"[..], &b"cloud.example.com"[..]));
        assert!(text.head.len() < 64);
    }

    #[test]
    fn a_broken_head_is_known_as_far_as_it_goes() {
        let read = |bytes: &[u8]| {
            let text = RequestText::glimpse(bytes);
            [text.method(), text.target(), text.field(b"host"), text.field(b"accept")]
                .map(|part| String::from_utf8_lossy(part).into_owned())
        };
        for (bytes, known) in [
            (&b"GET /a?b HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..], ["GET", "/a?b", "a", ""]),
            (b"\r\nGET /a HTTP/1.1\nAccept: x\nHost: a\n\n", ["GET", "/a", "a", "x"]),
            (b"PROPFIND /dav/ HTTP/1.1\r\nHo", ["PROPFIND", "/dav/", "", ""]),
            (b"GET", ["GET", "", "", ""]),
            (b"GET /x", ["GET", "/x", "", ""]),
            (b"\x16\x03\x01\x02\0\x01 /x HTTP/1.1\r\nHost: a\r\n", ["", "", "", ""]),
            (b"", ["", "", "", ""]),
        ] {
            assert_eq!(read(bytes), known, "{}", String::from_utf8_lossy(bytes));
        }
        let huge = [b"GET /".as_slice(), &[b'a'; 100_000], b" HTTP/1.1\r\nHost: ", &[b'b'; 100_000]].concat();
        assert!(RequestText::glimpse(&huge).head.len() < 2_000);
    }

    #[test]
    fn arbitrary_bytes_are_glimpsed_at_within_bounds() {
        for seed in 0..10_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let alphabet = b"GET /a?: \r\nHostaccep\0\xff";
            let bytes: Vec<u8> = (0..random.usize(..200)).map(|_| *random.choice(alphabet).unwrap_or(&0)).collect();
            let text = RequestText::glimpse(&bytes);
            assert!(text.method().len() <= Limits::METHOD_BYTES_MAX && text.head.len() < 2_000, "seed {seed}");
            assert!(!text.method().contains(&b' ') && !text.target().contains(&b'\n'), "seed {seed}");
        }
    }

    #[test]
    fn no_head_is_no_text() {
        let text = RequestText::default();
        assert!(text.method().is_empty() && text.target().is_empty() && text.field(b"host").is_empty());
    }
}
