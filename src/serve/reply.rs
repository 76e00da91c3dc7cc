//! What Lyre itself answers: the only table from failure to status, log level and counter, and the bodies in the
//! language of whoever asks (people, DAV clients, OCS and JSON clients).

pub mod body;

use crate::telemetry::access::number;
use body::Audience;
use tracing::Level;

/// Whose doing it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Downstream,
    Upstream,
    Internal,
}

/// Why an exchange did not end with an upstream's complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Failure {
    /// The request head breaks a rule; the codec's reason is counted and logged beside it.
    Malformed,
    HeadTimeout,
    HeadTooLarge,
    TargetTooLong,
    MethodTooLong,
    UnsupportedVersion,
    UnsupportedCoding,
    MethodNotAllowed,
    ExpectationUnknown,
    BodyTooLarge,
    /// The request body's framing broke after the head was accepted.
    BodyMalformed,
    BodyTimeout,
    /// No route takes this host and path.
    NoRoute,
    /// The request passed through this edge before.
    Loop,
    /// The client went away; nothing can be answered.
    ClientGone,
    /// The client took no byte of the response for too long.
    ClientStuck,
    ConnectRefused,
    ConnectTimeout,
    /// The server closed or reset the connection before a response head was complete.
    UpstreamClosed,
    /// The response breaks a rule.
    UpstreamMalformed,
    ResponseTimeout,
    /// The response ended before its announced end; the client sees a cut, never a clean end.
    Truncated,
    /// The server was silent within a body for too long.
    UpstreamStuck,
    /// An upgrade was answered with an upgrade nobody asked for.
    UpgradeMismatch,
    /// Every server of the pool is down.
    NoServer,
    QueueFull,
    QueueTimeout,
    /// This core, or this client, has all the connections it may have.
    Overloaded,
    Draining,
    Panicked,
}

/// The row of one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Stable: access log, metrics label.
    pub code: &'static str,
    pub side: Side,
    /// `None`: the response had started, or nobody is there to read one.
    pub status: Option<u16>,
    /// Of the log event; the access log has its line anyway.
    pub level: Level,
    pub retry_after_s: Option<u32>,
    /// One sentence for whoever reads the page.
    pub text: &'static str,
}

impl Failure {
    pub const ALL: [Failure; 30] = [
        Failure::Malformed,
        Failure::HeadTimeout,
        Failure::HeadTooLarge,
        Failure::TargetTooLong,
        Failure::MethodTooLong,
        Failure::UnsupportedVersion,
        Failure::UnsupportedCoding,
        Failure::MethodNotAllowed,
        Failure::ExpectationUnknown,
        Failure::BodyTooLarge,
        Failure::BodyMalformed,
        Failure::BodyTimeout,
        Failure::NoRoute,
        Failure::Loop,
        Failure::ClientGone,
        Failure::ClientStuck,
        Failure::ConnectRefused,
        Failure::ConnectTimeout,
        Failure::UpstreamClosed,
        Failure::UpstreamMalformed,
        Failure::ResponseTimeout,
        Failure::Truncated,
        Failure::UpstreamStuck,
        Failure::UpgradeMismatch,
        Failure::NoServer,
        Failure::QueueFull,
        Failure::QueueTimeout,
        Failure::Overloaded,
        Failure::Draining,
        Failure::Panicked,
    ];

    /// Place in [`crate::telemetry::counters::CoreCounters::failures`].
    pub fn index(self) -> usize {
        self as usize
    }

    #[rustfmt::skip]
    pub fn answer(self) -> Answer {
        use Failure as F;
        use Side::{Downstream, Internal, Upstream};
        // A client's mistakes and noise are debug; a server's failure is worth a warning; ours is an error.
        let (code, side, status, level, retry_after_s, text) = match self {
            F::Malformed          => ("malformed",           Downstream, Some(400), Level::DEBUG, None,     "The request could not be understood."),
            F::HeadTimeout        => ("head_timeout",        Downstream, Some(408), Level::DEBUG, None,     "The request took too long to arrive."),
            F::HeadTooLarge       => ("head_too_large",      Downstream, Some(431), Level::DEBUG, None,     "The request's header fields are too large."),
            F::TargetTooLong      => ("target_too_long",     Downstream, Some(414), Level::DEBUG, None,     "The address of the request is too long."),
            F::MethodTooLong      => ("method_too_long",     Downstream, Some(501), Level::DEBUG, None,     "This method is not known here."),
            F::UnsupportedVersion => ("http_version",        Downstream, Some(505), Level::DEBUG, None,     "This version of HTTP is not spoken here."),
            F::UnsupportedCoding  => ("transfer_coding",     Downstream, Some(501), Level::DEBUG, None,     "This transfer coding is not known here."),
            F::MethodNotAllowed   => ("method_not_allowed",  Downstream, Some(405), Level::DEBUG, None,     "This method is not allowed here."),
            F::ExpectationUnknown => ("expectation",         Downstream, Some(417), Level::DEBUG, None,     "The request expects something this server does not offer."),
            F::BodyTooLarge       => ("body_too_large",      Downstream, Some(413), Level::DEBUG, None,     "The upload is larger than this server accepts."),
            F::BodyMalformed      => ("body_malformed",      Downstream, Some(400), Level::DEBUG, None,     "The upload was not framed correctly."),
            F::BodyTimeout        => ("body_timeout",        Downstream, Some(408), Level::DEBUG, None,     "The upload made no progress for too long."),
            F::NoRoute            => ("no_route",            Downstream, Some(404), Level::DEBUG, None,     "Nothing is served under this name."),
            F::Loop               => ("loop",                Internal,   Some(502), Level::ERROR, None,     "The request came back to where it was sent from."),
            F::ClientGone         => ("client_gone",         Downstream, None,      Level::DEBUG, None,     ""),
            F::ClientStuck        => ("client_stuck",        Downstream, None,      Level::DEBUG, None,     ""),
            F::ConnectRefused     => ("connect_refused",     Upstream,   Some(502), Level::WARN,  None,     "The server behind this address could not be reached."),
            F::ConnectTimeout     => ("connect_timeout",     Upstream,   Some(504), Level::WARN,  None,     "The server behind this address did not answer in time."),
            F::UpstreamClosed     => ("upstream_closed",     Upstream,   Some(502), Level::WARN,  None,     "The server behind this address gave up before it answered."),
            F::UpstreamMalformed  => ("upstream_malformed",  Upstream,   Some(502), Level::WARN,  None,     "The server behind this address gave an answer that makes no sense."),
            F::ResponseTimeout    => ("response_timeout",    Upstream,   Some(504), Level::WARN,  None,     "The server behind this address did not answer in time."),
            F::Truncated          => ("truncated",           Upstream,   None,      Level::WARN,  None,     ""),
            F::UpstreamStuck      => ("upstream_stuck",      Upstream,   None,      Level::WARN,  None,     ""),
            F::UpgradeMismatch    => ("upgrade_mismatch",    Upstream,   Some(502), Level::WARN,  None,     "The server behind this address gave an answer that makes no sense."),
            F::NoServer           => ("no_server",           Upstream,   Some(503), Level::DEBUG, Some(30), "No server is available at the moment. Please try again in a little while."),
            F::QueueFull          => ("queue_full",          Internal,   Some(503), Level::DEBUG, Some(5),  "The servers are very busy. Please try again in a moment."),
            F::QueueTimeout       => ("queue_timeout",       Internal,   Some(503), Level::DEBUG, Some(5),  "The servers are very busy. Please try again in a moment."),
            F::Overloaded         => ("overloaded",          Internal,   Some(503), Level::DEBUG, Some(5),  "Too many connections are open. Please try again in a moment."),
            F::Draining           => ("draining",            Internal,   Some(503), Level::DEBUG, Some(1),  "This server is about to restart. Please try again."),
            F::Panicked           => ("panic",               Internal,   Some(500), Level::ERROR, None,     "Something went wrong inside the proxy."),
        };
        Answer { code, side, status, level, retry_after_s, text }
    }
}

/// A whole response of ours to `out`. `head_only`: the request was HEAD. `date` is an IMF-fixdate.
pub fn write(out: &mut Vec<u8>, answer: &Answer, status: u16, audience: Audience, about: &About<'_>) {
    let body = body::render(answer, status, audience, about.request_id);
    status_line(out, status);
    field(out, b"date", about.date);
    field(out, b"content-type", audience.content_type().as_bytes());
    out.extend_from_slice(b"content-length: ");
    number(out, body.len() as u64);
    out.extend_from_slice(b"\r\ncache-control: no-store\r\n");
    if let Some(seconds) = answer.retry_after_s {
        out.extend_from_slice(b"retry-after: ");
        number(out, u64::from(seconds));
        out.extend_from_slice(b"\r\n");
    }
    if status == 405 {
        // RFC 9110 §15.5.6 wants the list; what upstreams allow beyond it is theirs to say.
        field(out, b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PROPFIND, PROPPATCH, MKCOL, COPY, MOVE, LOCK, UNLOCK, REPORT, SEARCH");
    }
    if !about.request_id.is_empty() {
        field(out, b"x-request-id", about.request_id.as_bytes());
    }
    if about.closes {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !about.head_only {
        out.extend_from_slice(body.as_bytes());
    }
}

/// What the response says besides the failure.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub request_id: &'a str,
    /// IMF-fixdate (RFC 9110 §5.6.7).
    pub date: &'a [u8],
    /// The request was HEAD.
    pub head_only: bool,
    pub closes: bool,
}

/// `308` to the same place on https (RFC 9110 §15.4.9: method and body stay).
pub fn redirect(out: &mut Vec<u8>, location: &[u8], about: &About<'_>) {
    status_line(out, 308);
    field(out, b"date", about.date);
    field(out, b"location", location);
    field(out, b"content-length", b"0");
    if about.closes {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// A response without a body.
pub fn empty(out: &mut Vec<u8>, status: u16, about: &About<'_>) {
    status_line(out, status);
    field(out, b"date", about.date);
    if status != 204 {
        field(out, b"content-length", b"0");
    }
    if about.closes {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(body::reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_failure_has_a_row_of_its_own_and_a_counter() {
        let mut codes = HashSet::new();
        for (at, failure) in Failure::ALL.into_iter().enumerate() {
            let answer = failure.answer();
            assert_eq!(failure.index(), at, "{failure:?}");
            assert!(at < crate::telemetry::counters::FAILURES_MAX);
            assert!(codes.insert(answer.code), "{failure:?}");
            let is_error = answer.status.is_none_or(|status| (400..600).contains(&status));
            assert!(is_error && answer.status.is_none() == answer.text.is_empty(), "{failure:?}");
            assert_eq!(answer.retry_after_s.is_some(), answer.status == Some(503), "{failure:?}");
        }
    }

    #[test]
    fn a_response_of_ours_announces_exactly_its_body() {
        for audience in Audience::ALL {
            for failure in Failure::ALL {
                let answer = failure.answer();
                let Some(status) = answer.status else { continue };
                let about = About { request_id: "ab12", date: b"now", head_only: false, closes: true };
                let mut out = Vec::new();
                write(&mut out, &answer, status, audience, &about);
                let text = String::from_utf8(out).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                assert!(head.starts_with(&format!("HTTP/1.1 {status} ")));
                assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
                assert!(head.ends_with("connection: close"));
                let mut short = Vec::new();
                write(&mut short, &answer, status, audience, &About { head_only: true, ..about });
                assert_eq!(short, format!("{head}\r\n\r\n").into_bytes());
            }
        }
    }
}
