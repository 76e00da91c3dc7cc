//! The line of a TCP session, written when it ends.

use super::{BUFFER_BYTES, Escape, Log, address, digits, end, escape, millis, number, or_dash};
use crate::config::settings::LogFormat;
use std::net::IpAddr;
use std::time::Duration;

/// What the line says. Times are nanoseconds.
pub struct Line<'a> {
    pub client: IpAddr,
    pub service: &'a str,
    /// Empty when the session met no server.
    pub server: &'a str,
    pub session_id: &'a str,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connect: Option<u64>,
    pub total: u64,
    pub tries: u8,
    /// `None` when both sides closed.
    pub end: Option<(&'static str, &'static str)>,
}

impl Log {
    /// As [`Log::write`].
    pub fn write_session(&mut self, wall: Duration, line: &Line<'_>) -> u64 {
        if !self.is_on {
            return 0;
        }
        self.stamp.set(wall);
        match self.format {
            LogFormat::Text => text(&mut self.buffer, self.stamp.bytes(), line),
            LogFormat::Json => json(&mut self.buffer, self.stamp.bytes(), line),
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { 0 }
    }
}

fn text(out: &mut Vec<u8>, stamp: &[u8], line: &Line<'_>) {
    out.extend_from_slice(stamp);
    out.push(b' ');
    address(out, line.client);
    out.extend_from_slice(b" TCP ");
    out.extend_from_slice(line.service.as_bytes());
    out.push(b'/');
    out.extend_from_slice(or_dash(line.server));
    for (name, ns) in [(" total=", Some(line.total)), (" connect=", line.connect)] {
        out.extend_from_slice(name.as_bytes());
        match ns {
            Some(ns) => {
                millis(out, ns);
                out.extend_from_slice(b"ms");
            }
            None => out.push(b'-'),
        }
    }
    for (name, count) in [(" in=", line.bytes_in), (" out=", line.bytes_out), (" tries=", u64::from(line.tries))] {
        out.extend_from_slice(name.as_bytes());
        number(out, count);
    }
    out.extend_from_slice(b" id=");
    out.extend_from_slice(or_dash(line.session_id));
    out.extend_from_slice(b" end=");
    end(out, line.end);
    out.push(b'\n');
}

fn json(out: &mut Vec<u8>, stamp: &[u8], line: &Line<'_>) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(stamp);
    out.extend_from_slice(b"\",\"client.address\":\"");
    address(out, line.client);
    out.extend_from_slice(b"\",\"network.transport\":\"tcp\",\"lyre.service\":\"");
    escape(out, line.service.as_bytes(), Escape::Json);
    out.extend_from_slice(b"\",\"lyre.server\":\"");
    escape(out, line.server.as_bytes(), Escape::Json);
    out.push(b'"');
    for (name, ns) in [("total", Some(line.total)), ("connect", line.connect)] {
        let Some(ns) = ns else { continue };
        out.extend_from_slice(b",\"duration.");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        number(out, ns / 1_000_000_000);
        out.push(b'.');
        digits(out, ns % 1_000_000_000 / 1_000, 6);
    }
    for (name, count) in
        [("lyre.bytes_in", line.bytes_in), ("lyre.bytes_out", line.bytes_out), ("lyre.tries", u64::from(line.tries))]
    {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        number(out, count);
    }
    out.extend_from_slice(b",\"lyre.session_id\":\"");
    escape(out, line.session_id.as_bytes(), Escape::Json);
    out.extend_from_slice(b"\",\"lyre.end\":\"");
    end(out, line.end);
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            client: IpAddr::from([10, 0, 0, 21]),
            service: "galera",
            server: "10.0.0.31:3306",
            session_id: "01ab",
            bytes_in: 3,
            bytes_out: 1234,
            connect: Some(1_500_000),
            total: 2_003_004_000,
            tries: 2,
            end: Some(("upstream", "lost")),
        }
    }

    #[test]
    fn a_session_is_one_text_line() {
        let mut out = Vec::new();
        text(&mut out, b"2026-11-21T12:00:00.000Z", &line());
        assert_eq!(
            String::from_utf8(out).expect("ascii"),
            "2026-11-21T12:00:00.000Z 10.0.0.21 TCP galera/10.0.0.31:3306 total=2003.004ms connect=1.500ms in=3 \
             out=1234 tries=2 id=01ab end=upstream.lost\n"
        );
    }

    #[test]
    fn a_session_is_one_json_object() {
        let mut out = Vec::new();
        json(&mut out, b"2026-11-21T12:00:00.000Z", &Line { end: None, connect: None, server: "", ..line() });
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["lyre.service"], "galera");
        assert_eq!((&value["lyre.end"], &value["lyre.bytes_out"]), (&"ok".into(), &1234.into()));
        assert_eq!(value["duration.total"], 2.003004);
        assert_eq!(value.get("duration.connect"), None);
    }
}
