//! What Lyre itself answers: the only table from failure to status, log level and counter, and the bodies in the
//! language of whoever asks (people, DAV clients, OCS and JSON clients).

pub mod body;

use crate::proto::http1::{ChunkError, RequestError, ResponseError};
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

impl Side {
    /// Metrics label and first part of the access log's `end`.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Downstream => "downstream",
            Side::Upstream => "upstream",
            Side::Internal => "internal",
        }
    }
}

/// Why an exchange did not end with an upstream's complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The request head breaks a rule.
    Request(RequestError),
    /// The request body's framing broke after the head was accepted.
    RequestBody(ChunkError),
    /// The response head breaks a rule.
    Response(ResponseError),
    /// The response body's framing broke; most often its head is on the way already.
    ResponseBody(ChunkError),
    Own(Own),
}

/// Failures that are not a parser's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Own {
    HeadTimeout,
    BodyTooLarge,
    BodyTimeout,
    /// The body came more slowly than it has to.
    BodySlow,
    /// The path climbs above its root.
    AboveRoot,
    /// No route takes this host and path.
    NoRoute,
    /// A place of the installation that no client has to see.
    Hidden,
    /// An ExApp's path, and nothing here speaks to ExApps.
    NoGateway,
    /// The gateway to ExApps refused it.
    ExApp,
    /// The request passed through this edge before.
    Loop,
    /// The client went away; nothing can be answered.
    ClientGone,
    /// The client took no byte of the response for too long.
    ClientStuck,
    /// The client took the response more slowly than it has to.
    ClientSlow,
    ConnectRefused,
    ConnectTimeout,
    /// The server closed or reset the connection before a response head was complete.
    UpstreamClosed,
    ResponseTimeout,
    /// The server said that it cannot, another was asked, and could not be had.
    Unavailable,
    /// More interim responses than a request may have.
    TooManyInterims,
    /// The response ended before its announced end; the client sees a cut, never a clean end.
    Truncated,
    /// The server was silent within a body for too long.
    UpstreamStuck,
    /// An upgrade was answered with an upgrade nobody asked for.
    UpgradeMismatch,
    /// The server's side of a tunnel was reset.
    TunnelBroken,
    /// Both sides of a tunnel were silent for too long.
    TunnelIdle,
    /// Every server of the pool is down.
    NoServer,
    QueueFull,
    QueueTimeout,
    /// WebSockets come faster than the servers behind them can log in.
    UpgradeRate,
    /// The disk, or the share of it for bodies without a length, is full.
    SpoolFull,
    /// A body without a length could not be written or read back.
    SpoolBroken,
    /// This core, or this client, has all the connections it may have.
    Overloaded,
    /// The client, or its credential, is kept out after failed logins or by order.
    Banned,
    /// The client makes more requests than it may.
    TooFast,
    /// The deadline of a stop passed while the exchange was in flight.
    Stopped,
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

impl Own {
    pub const ALL: [Own; 35] = [
        Own::HeadTimeout,
        Own::BodyTooLarge,
        Own::BodyTimeout,
        Own::BodySlow,
        Own::AboveRoot,
        Own::NoRoute,
        Own::Hidden,
        Own::NoGateway,
        Own::ExApp,
        Own::Loop,
        Own::ClientGone,
        Own::ClientStuck,
        Own::ClientSlow,
        Own::ConnectRefused,
        Own::ConnectTimeout,
        Own::UpstreamClosed,
        Own::ResponseTimeout,
        Own::Unavailable,
        Own::TooManyInterims,
        Own::Truncated,
        Own::UpstreamStuck,
        Own::UpgradeMismatch,
        Own::TunnelBroken,
        Own::TunnelIdle,
        Own::NoServer,
        Own::QueueFull,
        Own::QueueTimeout,
        Own::UpgradeRate,
        Own::SpoolFull,
        Own::SpoolBroken,
        Own::Overloaded,
        Own::Banned,
        Own::TooFast,
        Own::Stopped,
        Own::Panicked,
    ];

    #[rustfmt::skip]
    fn answer(self) -> Answer {
        use Side::{Downstream, Internal, Upstream};
        // A client's mistakes and noise are debug; a server's failure is worth a warning; ours is an error.
        let (code, side, status, level, retry_after_s, text) = match self {
            Own::HeadTimeout     => ("head_timeout",     Downstream, Some(408), Level::DEBUG, None,     "The request took too long to arrive."),
            Own::BodyTooLarge    => ("body_too_large",   Downstream, Some(413), Level::DEBUG, None,     "The upload is larger than this server accepts."),
            Own::BodyTimeout     => ("body_timeout",     Downstream, Some(408), Level::DEBUG, None,     "The upload made no progress for too long."),
            Own::BodySlow        => ("body_slow",        Downstream, Some(408), Level::DEBUG, None,     "The upload was too slow."),
            Own::AboveRoot       => ("above_root",       Downstream, Some(400), Level::DEBUG, None,     "The request could not be understood."),
            Own::NoRoute         => ("no_route",         Downstream, Some(404), Level::DEBUG, None,     "Nothing is served under this name."),
            Own::Hidden          => ("hidden",           Downstream, Some(404), Level::DEBUG, None,     "There is nothing here."),
            Own::NoGateway       => ("no_gateway",       Internal,   Some(404), Level::DEBUG, None,     "No gateway for external apps is configured here."),
            Own::ExApp           => ("exapp",            Downstream, None,      Level::DEBUG, None,     ""),
            Own::Loop            => ("loop",             Internal,   Some(502), Level::ERROR, None,     "The request came back to where it was sent from."),
            Own::ClientGone      => ("client_gone",      Downstream, None,      Level::DEBUG, None,     ""),
            Own::ClientStuck     => ("client_stuck",     Downstream, None,      Level::DEBUG, None,     ""),
            Own::ClientSlow      => ("client_slow",      Downstream, None,      Level::DEBUG, None,     ""),
            Own::ConnectRefused  => ("connect_refused",  Upstream,   Some(502), Level::WARN,  None,     "The server behind this address could not be reached."),
            Own::ConnectTimeout  => ("connect_timeout",  Upstream,   Some(504), Level::WARN,  None,     "The server behind this address did not answer in time."),
            Own::UpstreamClosed  => ("closed",           Upstream,   Some(502), Level::WARN,  None,     "The server behind this address gave up before it answered."),
            Own::ResponseTimeout => ("response_timeout", Upstream,   Some(504), Level::WARN,  None,     "The server behind this address did not answer in time."),
            Own::Unavailable     => ("unavailable",      Upstream,   Some(502), Level::DEBUG, None,     "The server behind this address cannot answer at the moment."),
            Own::TooManyInterims => ("interims",         Upstream,   Some(502), Level::WARN,  None,     NONSENSE),
            Own::Truncated       => ("truncated",        Upstream,   None,      Level::WARN,  None,     ""),
            Own::UpstreamStuck   => ("stuck",            Upstream,   None,      Level::WARN,  None,     ""),
            Own::UpgradeMismatch => ("upgrade_mismatch", Upstream,   Some(502), Level::WARN,  None,     NONSENSE),
            Own::TunnelBroken    => ("tunnel_broken",    Upstream,   None,      Level::DEBUG, None,     ""),
            Own::TunnelIdle      => ("tunnel_idle",      Internal,   None,      Level::DEBUG, None,     ""),
            Own::NoServer        => ("no_server",        Upstream,   Some(503), Level::DEBUG, Some(30), "No server is available at the moment. Please try again in a little while."),
            Own::QueueFull       => ("queue_full",       Internal,   Some(503), Level::DEBUG, Some(5),  BUSY),
            Own::QueueTimeout    => ("queue_timeout",    Internal,   Some(503), Level::DEBUG, Some(5),  BUSY),
            Own::UpgradeRate     => ("upgrade_rate",     Internal,   Some(503), Level::DEBUG, Some(5),  "Too many clients connect at once. Please try again in a moment."),
            Own::SpoolFull       => ("spool_full",       Internal,   Some(507), Level::WARN,  None,     "There is no room for this upload at the moment."),
            Own::SpoolBroken     => ("spool_broken",     Internal,   Some(500), Level::ERROR, None,     "Something went wrong inside the proxy."),
            Own::Overloaded      => ("overloaded",       Internal,   Some(503), Level::DEBUG, Some(5),  "Too many connections are open. Please try again in a moment."),
            Own::Banned          => ("banned",           Downstream, Some(429), Level::DEBUG, Some(600), "Too many logins failed from your address. Please try again later."),
            Own::TooFast         => ("too_fast",         Downstream, Some(429), Level::DEBUG, Some(1),  "Too many requests come from your address. Please try again in a moment."),
            Own::Stopped         => ("stopped",          Internal,   None,      Level::INFO,  None,     ""),
            Own::Panicked        => ("panic",            Internal,   Some(500), Level::ERROR, None,     "Something went wrong inside the proxy."),
        };
        Answer { code, side, status, level, retry_after_s, text }
    }
}

const NONSENSE: &str = "The server behind this address gave an answer that makes no sense.";
const BUSY: &str = "The servers are very busy. Please try again in a moment.";

impl Failure {
    /// Number of failures, for counters.
    pub const COUNT: usize =
        RequestError::ALL.len() + ResponseError::ALL.len() + 2 * ChunkError::ALL.len() + Own::ALL.len();

    pub fn all() -> impl Iterator<Item = Failure> {
        let parsers = RequestError::ALL.iter().copied().map(Failure::Request);
        let parsers = parsers.chain(ChunkError::ALL.iter().copied().map(Failure::RequestBody));
        let parsers = parsers.chain(ResponseError::ALL.iter().copied().map(Failure::Response));
        let parsers = parsers.chain(ChunkError::ALL.iter().copied().map(Failure::ResponseBody));
        parsers.chain(Own::ALL.into_iter().map(Failure::Own))
    }

    /// Place in [`crate::telemetry::counters::CoreCounters::failures`] and in [`Failure::all`].
    pub fn index(self) -> usize {
        const CHUNKS: usize = ChunkError::ALL.len();
        const RESPONSES: usize = RequestError::ALL.len() + CHUNKS;
        const BODIES: usize = RESPONSES + ResponseError::ALL.len();
        match self {
            Failure::Request(error) => error as usize,
            Failure::RequestBody(error) => RequestError::ALL.len() + error as usize,
            Failure::Response(error) => RESPONSES + error as usize,
            Failure::ResponseBody(error) => BODIES + error as usize,
            Failure::Own(own) => BODIES + CHUNKS + own as usize,
        }
    }

    pub fn answer(self) -> Answer {
        let row = |code, side, status, level, text| Answer { code, side, status, level, retry_after_s: None, text };
        match self {
            Failure::Request(error) => {
                row(error.reason(), Side::Downstream, Some(error.status()), Level::DEBUG, request_text(error.status()))
            }
            Failure::RequestBody(error) => row(
                error.reason(),
                Side::Downstream,
                Some(error.status()),
                Level::DEBUG,
                "The upload was not framed correctly.",
            ),
            Failure::Response(error) => {
                row(error.reason(), Side::Upstream, Some(error.status()), Level::WARN, NONSENSE)
            }
            Failure::ResponseBody(error) => row(error.reason(), Side::Upstream, Some(502), Level::WARN, NONSENSE),
            Failure::Own(own) => own.answer(),
        }
    }
}

const _: () = assert!(Failure::COUNT <= crate::telemetry::counters::FAILURES_MAX);

impl From<Own> for Failure {
    fn from(own: Own) -> Failure {
        Failure::Own(own)
    }
}

/// What a person is told about a request head that breaks a rule; which one stays in the log.
fn request_text(status: u16) -> &'static str {
    match status {
        405 => "This method is not allowed here.",
        413 => "The upload is larger than this server accepts.",
        414 => "The address of the request is too long.",
        421 => "This connection was opened for another server name. Please try again.",
        417 => "The request expects something this server does not offer.",
        431 => "The request's header fields are too large.",
        501 => "The request uses something that is not known here.",
        505 => "This version of HTTP is not spoken here.",
        _ => "The request could not be understood.",
    }
}

/// A whole response of ours to `out`; answers the bytes of its body.
pub fn write(out: &mut Vec<u8>, answer: &Answer, status: u16, audience: Audience, about: &About<'_>) -> u64 {
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
    if about.head_only {
        return 0;
    }
    out.extend_from_slice(body.as_bytes());
    body.len() as u64
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

/// 308 keeps method and body (RFC 9110 §15.4.9); DAV clients know 301 and keep their method too.
pub fn redirect(out: &mut Vec<u8>, status: u16, location: &[u8], about: &About<'_>) {
    status_line(out, status);
    field(out, b"date", about.date);
    field(out, b"location", location);
    field(out, b"content-length", b"0");
    if about.closes {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// An answer whose body is given, of this type; both empty for none.
pub fn plain(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8], about: &About<'_>) -> u64 {
    if content_type.is_empty() {
        empty(out, status, about);
        return 0;
    }
    status_line(out, status);
    field(out, b"date", about.date);
    field(out, b"content-type", content_type.as_bytes());
    out.extend_from_slice(b"content-length: ");
    number(out, body.len() as u64);
    out.extend_from_slice(b"\r\ncache-control: no-store\r\n");
    if about.closes {
        field(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if about.head_only {
        return 0;
    }
    out.extend_from_slice(body);
    body.len() as u64
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
    fn every_failure_has_a_row_and_a_counter_of_its_own() {
        let mut labels = HashSet::new();
        for (at, failure) in Failure::all().enumerate() {
            let answer = failure.answer();
            assert_eq!(failure.index(), at, "{failure:?}");
            let is_error = answer.status.is_none_or(|status| (400..600).contains(&status));
            assert!(is_error && answer.status.is_none() == answer.text.is_empty(), "{failure:?}");
            assert_eq!(answer.retry_after_s.is_some(), matches!(answer.status, Some(429 | 503)), "{failure:?}");
            // Both bodies share the chunk reasons; their sides tell them apart.
            assert!(labels.insert((answer.side.as_str(), answer.code)), "{failure:?}");
        }
        assert_eq!(labels.len(), Failure::COUNT);
    }

    #[test]
    fn a_response_of_ours_announces_exactly_its_body() {
        for audience in Audience::ALL {
            for failure in Failure::all() {
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
