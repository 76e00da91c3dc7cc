//! The access log line: one a request, text or JSON, written by hand into the core's buffer (about 0.3 µs).
//!
//! Query strings are never logged: share tokens, signatures and access tokens travel in them. Every byte that is not
//! printable ASCII is escaped, so a request cannot forge a line.

pub mod session;

use crate::config::settings::{self, AccessLog, LogFormat};
use crate::telemetry::writer::Outlet;
use std::net::IpAddr;
use std::time::Duration;

/// A core's buffer goes to the writer when it holds this much, or at the next tick.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// What one line says. Times are nanoseconds; a step that did not happen is `None`.
pub struct Line<'a> {
    pub client: IpAddr,
    pub host: &'a [u8],
    pub method: &'a [u8],
    /// As received; the query is cut here.
    pub target: &'a [u8],
    /// 0 when no answer was sent.
    pub status: u16,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub pool: &'a str,
    /// Empty when the request met no server.
    pub server: &'a str,
    pub request_id: &'a str,
    /// `HTTP/1.1` or `HTTP/2.0`: what the client speaks.
    pub protocol: &'static str,
    /// `TLSv1.3`, or `None` for plain HTTP.
    pub tls: Option<&'static str>,
    pub times: Times,
    pub tries: u8,
    /// Who ended the exchange early and why: `("upstream", "truncated")`; `None` when it ran to its end.
    pub end: Option<(&'static str, &'static str)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// First byte of the request to the end of its head.
    pub head: u64,
    pub queue: Option<u64>,
    pub connect: Option<u64>,
    /// End of the request head to the end of the response head.
    pub first_byte: Option<u64>,
    pub total: u64,
}

/// One core's log lines on their way to the writer.
pub struct Log {
    outlet: Outlet,
    is_on: bool,
    format: LogFormat,
    buffer: Vec<u8>,
    stamp: Stamp,
}

impl Log {
    pub fn new(outlet: Outlet, settings: &settings::Log) -> Log {
        let is_on = settings.access != AccessLog::Off;
        Log { outlet, is_on, format: settings.format, buffer: Vec::new(), stamp: Stamp::default() }
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// After a reload.
    pub fn adopt(&mut self, settings: &settings::Log) {
        self.is_on = settings.access != AccessLog::Off;
        self.format = settings.format;
    }

    /// Adds a line; answers how many lines were lost because the writer is behind.
    pub fn write(&mut self, wall: Duration, line: &Line<'_>) -> u64 {
        if !self.is_on {
            return 0;
        }
        self.stamp.set(wall);
        match self.format {
            LogFormat::Text => text(&mut self.buffer, &self.stamp, line),
            LogFormat::Json => json(&mut self.buffer, &self.stamp, line),
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { 0 }
    }

    /// Hands the buffer over; answers how many lines were lost.
    pub fn flush(&mut self) -> u64 {
        if self.buffer.is_empty() {
            return 0;
        }
        match self.outlet.swap(std::mem::take(&mut self.buffer)) {
            Ok(empty) => {
                self.buffer = empty;
                0
            }
            Err(mut full) if full.len() < BUFFER_BYTES => {
                // Not full yet: try again at the next tick.
                std::mem::swap(&mut self.buffer, &mut full);
                0
            }
            Err(mut full) => {
                let lost = full.iter().filter(|byte| **byte == b'\n').count() as u64;
                full.clear();
                self.buffer = full;
                lost
            }
        }
    }
}

fn text(out: &mut Vec<u8>, stamp: &Stamp, line: &Line<'_>) {
    out.extend_from_slice(stamp.bytes());
    out.push(b' ');
    address(out, line.client);
    out.extend_from_slice(b" \"");
    escape(out, line.method, Escape::Text);
    out.push(b' ');
    target(out, line.target, Escape::Text);
    out.extend_from_slice(b"\" ");
    number(out, u64::from(line.status));
    out.push(b' ');
    number(out, line.bytes_out);
    out.push(b' ');
    match line.server {
        "" => out.push(b'-'),
        server => {
            out.extend_from_slice(line.pool.as_bytes());
            out.push(b'/');
            out.extend_from_slice(server.as_bytes());
        }
    }
    let times = &line.times;
    for (name, ns) in [
        (" total=", Some(times.total)),
        (" first=", times.first_byte),
        (" connect=", times.connect),
        (" queue=", times.queue),
        (" head=", Some(times.head)),
    ] {
        out.extend_from_slice(name.as_bytes());
        match ns {
            Some(ns) => {
                millis(out, ns);
                out.extend_from_slice(b"ms");
            }
            None => out.push(b'-'),
        }
    }
    out.extend_from_slice(b" in=");
    number(out, line.bytes_in);
    out.extend_from_slice(b" tries=");
    number(out, u64::from(line.tries));
    out.extend_from_slice(b" host=");
    match line.host {
        b"" => out.push(b'-'),
        host => escape(out, host, Escape::Text),
    }
    out.extend_from_slice(b" id=");
    out.extend_from_slice(or_dash(line.request_id));
    out.extend_from_slice(b" proto=");
    out.extend_from_slice(line.protocol.as_bytes());
    out.extend_from_slice(b" tls=");
    out.extend_from_slice(or_dash(line.tls.unwrap_or("")));
    out.extend_from_slice(b" end=");
    end(out, line.end);
    out.push(b'\n');
}

/// Names follow the OpenTelemetry semantic conventions where they have one; durations are seconds.
fn json(out: &mut Vec<u8>, stamp: &Stamp, line: &Line<'_>) {
    out.extend_from_slice(b"{\"timestamp\":\"");
    out.extend_from_slice(stamp.bytes());
    out.extend_from_slice(b"\",\"client.address\":\"");
    address(out, line.client);
    out.extend_from_slice(b"\",\"http.request.method\":\"");
    escape(out, line.method, Escape::Json);
    out.extend_from_slice(b"\",\"url.path\":\"");
    target(out, line.target, Escape::Json);
    out.extend_from_slice(b"\",\"server.address\":\"");
    escape(out, line.host, Escape::Json);
    out.extend_from_slice(b"\",\"http.response.status_code\":");
    number(out, u64::from(line.status));
    out.extend_from_slice(b",\"http.request.body.size\":");
    number(out, line.bytes_in);
    out.extend_from_slice(b",\"http.response.body.size\":");
    number(out, line.bytes_out);
    out.extend_from_slice(b",\"lyre.pool\":\"");
    escape(out, line.pool.as_bytes(), Escape::Json);
    out.extend_from_slice(b"\",\"lyre.server\":\"");
    escape(out, line.server.as_bytes(), Escape::Json);
    out.push(b'"');
    let times = &line.times;
    for (name, ns) in [
        ("total", Some(times.total)),
        ("first_byte", times.first_byte),
        ("connect", times.connect),
        ("queue", times.queue),
        ("head", Some(times.head)),
    ] {
        let Some(ns) = ns else { continue };
        out.extend_from_slice(b",\"duration.");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        number(out, ns / 1_000_000_000);
        out.push(b'.');
        digits(out, ns % 1_000_000_000 / 1_000, 6);
    }
    out.extend_from_slice(b",\"lyre.tries\":");
    number(out, u64::from(line.tries));
    out.extend_from_slice(b",\"network.protocol.version\":\"");
    out.extend_from_slice(line.protocol.strip_prefix("HTTP/").unwrap_or(line.protocol).as_bytes());
    out.push(b'"');
    if let Some(version) = line.tls {
        out.extend_from_slice(b",\"tls.protocol.version\":\"");
        out.extend_from_slice(version.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b",\"lyre.request_id\":\"");
    escape(out, line.request_id.as_bytes(), Escape::Json);
    out.extend_from_slice(b"\",\"lyre.end\":\"");
    end(out, line.end);
    out.extend_from_slice(b"\"}\n");
}

/// `ok`, or side and reason as `upstream.truncated`.
fn end(out: &mut Vec<u8>, end: Option<(&'static str, &'static str)>) {
    match end {
        None => out.extend_from_slice(b"ok"),
        Some((side, code)) => {
            out.extend_from_slice(side.as_bytes());
            out.push(b'.');
            out.extend_from_slice(code.as_bytes());
        }
    }
}

fn or_dash(text: &str) -> &[u8] {
    if text.is_empty() { b"-" } else { text.as_bytes() }
}

/// The path of a target, a bare `?` standing for a query that was there.
fn target(out: &mut Vec<u8>, target: &[u8], how: Escape) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(end) => {
            escape(out, target.get(..end).unwrap_or_default(), how);
            out.push(b'?');
        }
        None => escape(out, target, how),
    }
}

#[derive(Clone, Copy)]
enum Escape {
    Text,
    Json,
}

fn escape(out: &mut Vec<u8>, bytes: &[u8], how: Escape) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(byte, 0x20..=0x7e) && !matches!(byte, b'"' | b'\\') {
            continue;
        }
        out.extend_from_slice(bytes.get(plain_from..at).unwrap_or_default());
        out.extend_from_slice(match how {
            Escape::Text => b"\\x",
            Escape::Json => b"\\u00",
        });
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
        plain_from = at + 1;
    }
    out.extend_from_slice(bytes.get(plain_from..).unwrap_or_default());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let mut dot = false;
            for octet in v4.octets() {
                if dot {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
                dot = true;
            }
        }
        IpAddr::V6(v6) => {
            use std::io::Write;
            // A vector takes every write.
            let _ = write!(out, "{v6}");
        }
    }
}

/// Milliseconds with three decimals.
fn millis(out: &mut Vec<u8>, ns: u64) {
    number(out, ns / 1_000_000);
    out.push(b'.');
    digits(out, ns % 1_000_000 / 1_000, 3);
}

/// Decimal without leading zeros.
pub fn number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A u64 has at most 20 digits.
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Decimal of exactly `width` digits, the low ones of `n`.
fn digits(out: &mut Vec<u8>, n: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (n / 10u64.pow(place) % 10) as u8);
    }
}

/// RFC 3339 in UTC with milliseconds; the part down to the second is rendered once a second.
#[derive(Default)]
struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Stamp {
    /// `wall` counts from the Unix epoch.
    fn set(&mut self, wall: Duration) {
        let second = wall.as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let (year, month, day) = civil_date(second / 86_400);
            let of_day = second % 86_400;
            digits(&mut self.text, year, 4);
            for (separator, part) in
                [(b'-', month), (b'-', day), (b'T', of_day / 3_600), (b':', of_day / 60 % 60), (b':', of_day % 60)]
            {
                self.text.push(separator);
                digits(&mut self.text, part, 2);
            }
        }
        self.text.truncate(19);
        self.text.push(b'.');
        digits(&mut self.text, u64::from(wall.subsec_millis()), 3);
        self.text.push(b'Z');
    }

    fn bytes(&self) -> &[u8] {
        &self.text
    }
}

/// `Fri, 20 Nov 2026 12:34:56 GMT` (RFC 9110 §5.6.7) of seconds since the Unix epoch.
pub fn imf_fixdate(seconds: u64) -> [u8; 29] {
    // 1970-01-01 was a Thursday.
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let (year, month, day) = civil_date(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut out = Vec::with_capacity(29);
    out.extend_from_slice(DAYS[(seconds / 86_400 % 7) as usize]);
    out.extend_from_slice(b", ");
    digits(&mut out, day, 2);
    out.push(b' ');
    out.extend_from_slice(MONTHS[(month as usize).saturating_sub(1) % 12]);
    out.push(b' ');
    digits(&mut out, year, 4);
    for (separator, part) in [(b' ', of_day / 3_600), (b':', of_day / 60 % 60), (b':', of_day % 60)] {
        out.push(separator);
        digits(&mut out, part, 2);
    }
    out.extend_from_slice(b" GMT");
    let mut date = [b' '; 29];
    date.copy_from_slice(&out);
    date
}

/// Year, month and day of a number of days after 1970-01-01, proleptic Gregorian.
///
/// Years are counted from March, so that the leap day is the last of its year; 719,468 days lie between 0000-03-01
/// and the epoch, 146,097 in a cycle of 400 years.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year_of_cycle + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::writer::Writer;

    fn line() -> Line<'static> {
        Line {
            client: IpAddr::from([192, 0, 2, 7]),
            host: b"cloud.example.com",
            method: b"GET",
            target: b"/s/a\"b\n?token=secret",
            status: 207,
            bytes_in: 3,
            bytes_out: 1234,
            pool: "web",
            server: "10.0.0.21:80",
            request_id: "01ab",
            protocol: "HTTP/2.0",
            tls: Some("TLSv1.3"),
            times: Times {
                head: 10_000,
                queue: None,
                connect: Some(1_500_000),
                first_byte: Some(2_000_999),
                total: 1_002_003_000,
            },
            tries: 1,
            end: Some(("upstream", "truncated")),
        }
    }

    fn stamp() -> Stamp {
        let mut stamp = Stamp::default();
        stamp.set(Duration::from_millis(1_709_210_096_789));
        stamp
    }

    #[test]
    fn a_text_line_has_every_field_and_no_query() {
        let mut out = Vec::new();
        text(&mut out, &stamp(), &line());
        assert_eq!(
            String::from_utf8(out).expect("ascii"),
            "2024-02-29T12:34:56.789Z 192.0.2.7 \"GET /s/a\\x22b\\x0a?\" 207 1234 web/10.0.0.21:80 \
             total=1002.003ms first=2.000ms connect=1.500ms queue=- head=0.010ms in=3 tries=1 \
             host=cloud.example.com id=01ab proto=HTTP/2.0 tls=TLSv1.3 end=upstream.truncated\n"
        );
    }

    #[test]
    fn a_json_line_is_one_json_object_with_the_path_escaped_and_cut() {
        let mut out = Vec::new();
        json(&mut out, &stamp(), &line());
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["url.path"], "/s/a\"b\n?");
        assert_eq!(value["http.response.status_code"], 207);
        assert_eq!(value["duration.total"], 1.002003);
        assert_eq!(value.get("duration.queue"), None);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn dates_agree_with_known_days() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil_date(days), date, "{days}");
        }
    }

    #[test]
    fn the_date_field_has_its_fixed_form() {
        assert_eq!(&imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&imf_fixdate(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn a_log_that_is_off_keeps_nothing() {
        let writer = Writer::start(AccessLog::Off).expect("thread");
        let off = settings::Log { format: LogFormat::Text, access: AccessLog::Off, level: tracing::Level::INFO };
        let mut log = Log::new(writer.outlet(), &off);
        assert_eq!(log.write(Duration::ZERO, &line()), 0);
        assert!(log.buffer.is_empty() && !log.is_on());
    }

    #[test]
    fn numbers_print_like_the_standard_library() {
        for n in [0, 7, 10, 99, 100, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n);
            assert_eq!(String::from_utf8(out).expect("ascii"), n.to_string());
        }
    }
}
