//! HTTP/1.1 (RFC 9112) as an intermediary must read and write it. Ambiguous framing is refused, never repaired.
//!
//! Reading order: [`head`] finds the end of a head and indexes its fields, [`request`] and [`response`] judge it and
//! take the one framing decision of the message, [`body`] follows that decision over the bytes, [`exchange`] says what
//! a connection may do after the message, [`emit`] writes heads and chunks. [`bytes`], [`name`] and [`authority`] are vocabulary.
//!
//! Deviations from the RFC, all on the strict side: no bare LF, no obs-fold, no whitespace before a colon, no identical
//! duplicate Content-Length, no Transfer-Encoding beside Content-Length, one field line of each, `chunked` only, a
//! chunk size without surrounding whitespace, no userinfo or comma in Host. Each has a vector in `tests/vectors/http1`.

pub mod authority;
pub mod body;
pub mod bytes;
pub mod emit;
pub mod error;
pub mod exchange;
pub mod head;
pub mod name;
pub mod request;
pub mod response;

pub use body::{BodyReader, ChunkDecoder, Span};
pub use error::{ChunkError, RequestError, ResponseError};
pub use head::{Field, FieldLine, Fields, HeadReader, Parsed};
pub use name::Name;
pub use request::{Method, RequestHead, TargetForm, parse_request};
pub use response::{ResponseHead, parse_response};

/// How the end of a body is known. Decided once per message, from its complete head; a request is never `UntilClose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body and no framing field: a GET, or a response that cannot have one.
    None,
    /// Declared, may be 0: an empty PUT keeps its `Content-Length: 0` (PHP tells it from an absent one).
    Length(u64),
    Chunked,
    /// A response without length: ends with the connection (RFC 9112 §6.3 item 8).
    UntilClose,
}

impl BodyLength {
    /// No byte of body will come.
    pub fn is_empty(self) -> bool {
        matches!(self, BodyLength::None | BodyLength::Length(0))
    }
}

/// The minor versions spoken; everything else is refused while parsing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
}

/// Bounds of a head. Sizes in bytes, without the CRLF of the line they bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Start line and field lines with their CRLFs. More than [`Limits::HEAD_BYTES_CEILING`] counts as that.
    pub head_bytes_max: usize,
    /// One field line.
    pub line_bytes_max: usize,
    /// More than [`Limits::FIELDS_CEILING`] counts as that.
    pub fields_max: usize,
    /// The request target as sent.
    pub target_bytes_max: usize,
}

impl Limits {
    /// Field positions are kept as 16-bit offsets.
    pub const HEAD_BYTES_CEILING: usize = u16::MAX as usize;
    /// Size of the field index ([`Fields`]). Above the default, so that an edge behind an edge can take what that adds.
    pub const FIELDS_CEILING: usize = 128;
    /// The longest registered WebDAV method has 17 bytes (`UPDATEREDIRECTREF`); longer than this is 501.
    pub const METHOD_BYTES_MAX: usize = 32;
}

impl Default for Limits {
    /// 16 KiB lines carry a long share URL or a fat cookie; 64 KiB heads and 100 fields are far above any client seen.
    fn default() -> Limits {
        Limits {
            head_bytes_max: Limits::HEAD_BYTES_CEILING,
            line_bytes_max: 16 * 1024,
            fields_max: 100,
            target_bytes_max: 16 * 1024,
        }
    }
}
