//! One request and its response: what each side has finished, and so what its connection may do next.
//!
//! ```text
//!                      response_head: 1xx (at most 8)
//!                           .------------.
//!  Exchange::new --> Waiting ------------' --> Final --> (request_done and response_done) --> next request
//!                        '-- 101 that answers a valid upgrade --> Tunnel
//! ```
//! Rules: RFC 9112 §9.3 (persistence), RFC 9110 §10.1.1 (Expect), §7.8 (Upgrade), §15.2 (interim responses).

use super::request::{Method, RequestHead};
use super::response::ResponseHead;
use super::{BodyLength, Version};
use std::fmt;

/// Interim responses one request may get; a backend that sends more is stuck or hostile.
pub const INTERIM_RESPONSES_MAX: u8 = 8;

/// State of one request/response pair.
#[derive(Debug, Clone)]
pub struct Exchange {
    method: Method,
    version: Version,
    /// The client's connection may serve another request, as far as known now.
    keeps_client: bool,
    /// The upstream's connection may serve another request, as far as known now.
    keeps_upstream: bool,
    awaits_continue: bool,
    wants_tunnel: bool,
    /// The client's side frames bodies by itself: a stream of HTTP/2.
    is_stream: bool,
    accepts_trailers: bool,
    interim_responses: u8,
    is_request_done: bool,
    is_response_done: bool,
}

/// What to do with a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send it on if `relay`, then read the next head.
    Interim {
        relay: bool,
    },
    Final(Reply),
    /// Send the 101 on, then both connections are plain bytes.
    Tunnel,
}

/// How the final response goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// How its body ends at the upstream.
    pub received: BodyLength,
    /// How its body is framed for the client.
    pub sent: Framing,
    /// The client takes fields behind the body: it said so (RFC 9110 §6.5.1), or it speaks HTTP/2.
    pub takes_trailers: bool,
    pub persistence: Persistence,
}

/// What the response says about the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1 stays open without saying so.
    Implied,
    /// An HTTP/1.0 client that asked for it must be told.
    KeepAlive,
    Close,
}

/// Framing fields of a message we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, no framing field.
    None,
    /// No body, but a Content-Length that says what a GET would have brought (HEAD, 304).
    Declared(u64),
    Length(u64),
    Chunked,
    /// Ends with the connection or stream: an HTTP/1.0 or HTTP/2 client and a body of unknown length.
    UntilClose,
}

impl Framing {
    /// A request's framing as received; both sides speak HTTP/1.1 upstream.
    pub fn of_request(body: BodyLength) -> Framing {
        match body {
            BodyLength::None | BodyLength::UntilClose => Framing::None,
            BodyLength::Length(length) => Framing::Length(length),
            BodyLength::Chunked => Framing::Chunked,
        }
    }
}

/// The upstream broke the exchange; close its connection, the client gets 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeFault {
    /// 101 nobody asked for, or to another protocol.
    UnexpectedUpgrade,
    TooManyInterim,
    /// A second final response head.
    Unsolicited,
}

impl ExchangeFault {
    pub fn reason(self) -> &'static str {
        match self {
            ExchangeFault::UnexpectedUpgrade => "unexpected_upgrade",
            ExchangeFault::TooManyInterim => "too_many_interim",
            ExchangeFault::Unsolicited => "unsolicited",
        }
    }
}

impl fmt::Display for ExchangeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ExchangeFault {}

impl Exchange {
    /// `may_keep`: this side is willing to serve another request on the client's connection (not draining, request
    /// count below the limit).
    pub fn new(head: &RequestHead<'_>, may_keep: bool) -> Exchange {
        let asks_keep = match head.version() {
            Version::Http11 => !head.wants_close(),
            Version::Http10 => head.wants_keep_alive() && !head.wants_close(),
        };
        Exchange {
            method: head.method(),
            version: head.version(),
            keeps_client: asks_keep && may_keep,
            keeps_upstream: true,
            awaits_continue: head.expects_continue(),
            wants_tunnel: head.is_websocket_upgrade(),
            is_stream: false,
            accepts_trailers: head.accepts_trailers() && head.version() == Version::Http11,
            interim_responses: 0,
            is_request_done: head.body().is_empty(),
            is_response_done: false,
        }
    }

    /// The client is a stream of HTTP/2: bodies go to it without a framing of their own, and the end of the stream is
    /// theirs.
    pub fn over_stream(mut self) -> Exchange {
        self.is_stream = true;
        self
    }

    /// The client holds its body back until it gets 100.
    pub fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// The client got a 100, ours or a relayed one, or sent body bytes without waiting.
    pub fn continued(&mut self) {
        self.awaits_continue = false;
    }

    /// The whole request, body included, was received and sent upstream.
    pub fn request_done(&mut self) {
        self.awaits_continue = false;
        self.is_request_done = true;
    }

    pub fn is_request_done(&self) -> bool {
        self.is_request_done
    }

    /// Judges a response head and, for a final one, fixes its framing and what the client is told about its connection.
    pub fn response_head(&mut self, head: &ResponseHead<'_>) -> Result<Step, ExchangeFault> {
        if self.is_response_done {
            return Err(ExchangeFault::Unsolicited);
        }
        if head.status() == 101 {
            if !self.wants_tunnel || !head.is_websocket_accept() {
                self.fail();
                return Err(ExchangeFault::UnexpectedUpgrade);
            }
            (self.keeps_client, self.keeps_upstream) = (false, false);
            return Ok(Step::Tunnel);
        }
        if head.is_interim() {
            return self.interim(head.status());
        }
        Ok(Step::Final(self.final_head(head)))
    }

    /// The body of the final response was received and sent to its end.
    pub fn response_done(&mut self) {
        self.is_response_done = true;
        // An upload that outlives its response leaves the upstream's next byte in doubt (desync by early response).
        self.keeps_upstream &= self.is_request_done;
    }

    /// Either connection failed, or the message cannot be completed.
    pub fn fail(&mut self) {
        (self.keeps_client, self.keeps_upstream) = (false, false);
    }

    /// The upstream sent more than the message, or its end was the end of its connection.
    pub fn spoil_upstream(&mut self) {
        self.keeps_upstream = false;
    }

    /// The client's connection may carry the next request now.
    pub fn may_reuse_client(&self) -> bool {
        self.keeps_client && self.is_request_done && self.is_response_done
    }

    /// The upstream's connection may go back to its pool now.
    pub fn may_reuse_upstream(&self) -> bool {
        self.keeps_upstream && self.is_request_done && self.is_response_done
    }

    fn interim(&mut self, status: u16) -> Result<Step, ExchangeFault> {
        self.interim_responses += 1;
        if self.interim_responses > INTERIM_RESPONSES_MAX {
            self.fail();
            return Err(ExchangeFault::TooManyInterim);
        }
        // A 100 is for a client that waits for it; the others are for every HTTP/1.1 client.
        let relay = self.version == Version::Http11 && (status != 100 || self.awaits_continue);
        if status == 100 {
            self.awaits_continue = false;
        }
        Ok(Step::Interim { relay })
    }

    fn final_head(&mut self, head: &ResponseHead<'_>) -> Reply {
        let received = head.body(self.method);
        let sent = match received {
            BodyLength::None if self.method == Method::Head || head.status() == 304 => {
                head.declared_length().map_or(Framing::None, Framing::Declared)
            }
            BodyLength::None => Framing::None,
            BodyLength::Length(length) => Framing::Length(length),
            BodyLength::Chunked | BodyLength::UntilClose if self.version == Version::Http11 && !self.is_stream => {
                Framing::Chunked
            }
            BodyLength::Chunked | BodyLength::UntilClose => Framing::UntilClose,
        };
        self.keeps_upstream &= head.is_persistent() && received != BodyLength::UntilClose;
        // A client that waited for 100 may or may not send its body now; one whose upload is refused should stop.
        let is_upload_cut = !self.is_request_done && (self.awaits_continue || head.status() >= 300);
        // After a refused upgrade nobody can say whether the client's next bytes are HTTP.
        self.keeps_client &= sent != Framing::UntilClose && !is_upload_cut && !self.wants_tunnel;
        let persistence = match (self.keeps_client, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, Version::Http11) => Persistence::Implied,
        };
        // A field named in Connection ends here, also when it comes late.
        let ends_here = || head.fields().any(|line| line.is_connection_option());
        let takes_trailers =
            received == BodyLength::Chunked && (self.accepts_trailers || self.is_stream) && !ends_here();
        Reply { received, sent, takes_trailers, persistence }
    }
}

#[cfg(test)]
mod tests;
