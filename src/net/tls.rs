//! TLS 1.2 and 1.3 on rustls, as bytes like any other: [`Stream::Tls`](crate::net::stream::Stream).
//!
//! Reading order: `session` (rustls as a pure byte machine), `stream` (a session over a socket), `config`
//! (certificates, suites), `tickets`, `accept` and `connect` (the two handshakes).
//!
//! An idle connection holds the session's keys and no buffer. The end of a stream is a close_notify; a FIN without
//! one is `UnexpectedEof`, for it may be an attacker's truncation (RFC 8446 §6.1).

mod accept;
mod config;
mod connect;
mod session;
mod stream;
mod tickets;

pub use accept::Acceptor;
pub use config::{Certificate, ConfigError, Names, checked_config, server_config, ticketer};
pub use connect::{Connector, Trust};
pub use stream::TlsStream;
pub use tickets::shared_ticketer;

use rustls::ProtocolVersion;

/// What a handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name the client asked for; none from a client that sent none.
    pub sni: Option<String>,
    pub version: Version,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// By a session ticket: no certificate was used.
    pub resumed: bool,
    pub alpn: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Tls12 => "TLSv1.2",
            Version::Tls13 => "TLSv1.3",
        }
    }

    /// Only these two are ever enabled.
    fn of(version: Option<ProtocolVersion>) -> Version {
        match version {
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => Version::Tls13,
        }
    }
}

#[cfg(test)]
mod tests;
