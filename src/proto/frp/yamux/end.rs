//! How a connection ends.

use std::fmt;

/// Why the connection is over. It stays over; what is still to be sent says so to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Violation(Violation),
    /// The client says that it is over, with a code.
    GoAway(u32),
    /// A ping was not answered in time.
    Silent,
    /// More to answer than an honest client asks for, and it does not read the answers.
    Flood,
}

/// The rule a client broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    Version(u8),
    Kind(u8),
    /// Only odd numbers are a client's.
    StreamId(u32),
    DuplicateStream(u32),
    /// More data than it had credit for.
    Window(u32),
    /// Credit beyond 4 GiB.
    Credit(u32),
    SecondFin(u32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Violation(violation) => write!(f, "the client broke the multiplexer's rules: {violation}"),
            End::GoAway(code) => write!(f, "the client ended the session with code {code}"),
            End::Silent => f.write_str("no answer to a ping"),
            End::Flood => f.write_str("more frames to answer than the client reads answers"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Version(version) => write!(f, "version {version}"),
            Violation::Kind(kind) => write!(f, "frame type {kind}"),
            Violation::StreamId(id) => write!(f, "stream {id}, which is no client's number"),
            Violation::DuplicateStream(id) => write!(f, "stream {id} opened twice"),
            Violation::Window(id) => write!(f, "more data on stream {id} than it had credit for"),
            Violation::Credit(id) => write!(f, "more credit on stream {id} than can be"),
            Violation::SecondFin(id) => write!(f, "stream {id} finished twice"),
        }
    }
}

impl std::error::Error for End {}
impl std::error::Error for Violation {}
