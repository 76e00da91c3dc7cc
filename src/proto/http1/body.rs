//! Bodies as they pass: where a declared length ends, and the chunked coding of RFC 9112 §7.1. Nothing is stored.
//!
//! Stricter than the RFC asks: no whitespace around the size, bounded extensions and trailers, and a bound on framing
//! per payload byte. Extensions are checked, then dropped; so are trailers, unless somebody wants to have them.

use super::BodyLength;
use super::bytes::{is_token_byte, is_value_byte};
use super::error::ChunkError;
use std::ops::Range;

/// Follows one body over the bytes of a connection.
#[derive(Debug, Clone)]
pub enum BodyReader {
    Length { left: u64 },
    Chunked(ChunkDecoder),
    UntilClose { is_closed: bool },
}

/// What a piece of input holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Payload within the input; may be empty.
    pub data: Range<usize>,
    /// Input bytes dealt with; bytes behind it are for the next call, or the next message after `is_done`.
    pub consumed: usize,
    /// The body is complete.
    pub is_done: bool,
}

/// The connection ended inside a body: the message must not be completed towards the other side (RFC 9112 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated;

impl BodyReader {
    pub fn new(length: BodyLength) -> BodyReader {
        match length {
            BodyLength::None => BodyReader::Length { left: 0 },
            BodyLength::Length(left) => BodyReader::Length { left },
            BodyLength::Chunked => BodyReader::Chunked(ChunkDecoder::new()),
            BodyLength::UntilClose => BodyReader::UntilClose { is_closed: false },
        }
    }

    /// Takes the next received bytes. One call yields at most one run of payload: call again with the rest until all
    /// input is consumed or the body is done.
    pub fn decode(&mut self, input: &[u8]) -> Result<Span, ChunkError> {
        match self {
            BodyReader::Length { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= take as u64;
                Ok(Span { data: 0..take, consumed: take, is_done: *left == 0 })
            }
            BodyReader::Chunked(decoder) => decoder.decode(input),
            BodyReader::UntilClose { is_closed } => {
                Ok(Span { data: 0..input.len(), consumed: input.len(), is_done: *is_closed })
            }
        }
    }

    /// Bytes of a declared length passed by unseen, at most [`BodyReader::expected`]. Other bodies have to be looked at.
    pub fn pass(&mut self, bytes: u64) {
        if let BodyReader::Length { left } = self {
            debug_assert!(bytes <= *left);
            *left = left.saturating_sub(bytes);
        }
    }

    /// Keeps the trailers of a chunked body for [`BodyReader::take_trailers`].
    pub fn keep_trailers(&mut self) {
        if let BodyReader::Chunked(decoder) = self {
            decoder.keep_trailers();
        }
    }

    pub fn take_trailers(&mut self) -> Vec<u8> {
        match self {
            BodyReader::Chunked(decoder) => decoder.take_trailers(),
            BodyReader::Length { .. } | BodyReader::UntilClose { .. } => Vec::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        match self {
            BodyReader::Length { left } => *left == 0,
            BodyReader::Chunked(decoder) => decoder.is_done(),
            BodyReader::UntilClose { is_closed } => *is_closed,
        }
    }

    /// Payload bytes surely still to come: the rest of the length, or of the current chunk. For sizing a receive.
    pub fn expected(&self) -> u64 {
        match self {
            BodyReader::Length { left } => *left,
            BodyReader::Chunked(decoder) => decoder.expected(),
            BodyReader::UntilClose { is_closed } => {
                if *is_closed {
                    0
                } else {
                    u64::MAX
                }
            }
        }
    }

    /// The sender ended the connection.
    pub fn end_of_stream(&mut self) -> Result<(), Truncated> {
        if let BodyReader::UntilClose { is_closed } = self {
            *is_closed = true;
        }
        if self.is_done() { Ok(()) } else { Err(Truncated) }
    }
}

/// Hexadecimal digits of a chunk size: 16 are 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Extension bytes of one size line. Nobody sends any; the bound is for those who send many.
const EXTENSION_LINE_BYTES_MAX: u32 = 256;
/// Extension bytes of a whole message.
const EXTENSION_BYTES_MAX: u32 = 4 * 1024;
/// Trailer section.
const TRAILER_BYTES_MAX: u32 = 8 * 1024;
/// Framing bytes allowed beyond [`OVERHEAD_FACTOR`] times the payload.
const OVERHEAD_BYTES: u64 = 16 * 1024;
/// A one-byte chunk is framed by five bytes; honest streams send larger ones.
const OVERHEAD_FACTOR: u64 = 4;

/// Takes the chunked coding off, piece by piece.
///
/// ```text
/// Size -> [Extension] -> SizeEnd -> Data -> DataCr -> DataLf -> Size ...
///                           '-- size 0 --> TrailerStart -> TrailerName -> TrailerValue -> TrailerLf -> TrailerStart
///                                               '-- CR --> EndLf -> Done
/// ```
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
    /// Size of the current chunk as read so far, then what is left of its data.
    size: u64,
    extension_line_bytes: u32,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailer_fields: u32,
    framing_bytes: u64,
    payload_bytes: u64,
    /// Trailer lines as they came, if wanted.
    trailers: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    ExtensionName { is_empty: bool },
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionQuotedPair,
    ExtensionQuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl ChunkDecoder {
    pub fn new() -> ChunkDecoder {
        ChunkDecoder {
            state: State::Size { digits: 0 },
            size: 0,
            extension_line_bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            framing_bytes: 0,
            payload_bytes: 0,
            trailers: None,
        }
    }

    /// Takes the next received bytes; see [`BodyReader::decode`]. After an error the decoder is of no further use.
    pub fn decode(&mut self, input: &[u8]) -> Result<Span, ChunkError> {
        let mut at = 0;
        while self.state != State::Done && self.state != State::Data {
            let Some(byte) = input.get(at) else { break };
            self.framing_byte(*byte)?;
            at += 1;
        }
        let start = at;
        if self.state == State::Data {
            let take = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
            at += take;
            self.size -= take as u64;
            self.payload_bytes += take as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
        }
        // The CRLF behind the data and the last chunk usually came along: finish them now, so that the end of the
        // body shows with its last payload byte and not one receive later.
        let end = at;
        while !matches!(self.state, State::Done | State::Data) && end > start {
            let Some(byte) = input.get(at) else { break };
            self.framing_byte(*byte)?;
            at += 1;
        }
        Ok(Span { data: start..end, consumed: at, is_done: self.is_done() })
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Rest of the current chunk's data.
    pub fn expected(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Keeps the trailer section, at most 8 KiB of it.
    pub fn keep_trailers(&mut self) {
        self.trailers = Some(Vec::new());
    }

    /// The lines kept, each with its CRLF, every one checked against the grammar of fields.
    pub fn take_trailers(&mut self) -> Vec<u8> {
        self.trailers.take().unwrap_or_default()
    }

    /// Trailer fields seen.
    pub fn trailer_fields(&self) -> u32 {
        self.trailer_fields
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.framing_bytes += 1;
        self.state = match self.state {
            State::Size { digits } => self.size_byte(byte, digits)?,
            State::ExtensionName { .. }
            | State::ExtensionValueStart
            | State::ExtensionToken
            | State::ExtensionQuoted
            | State::ExtensionQuotedPair
            | State::ExtensionQuotedEnd => self.extension_byte(byte)?,
            State::SizeLf if byte == b'\n' => self.chunk_begins()?,
            State::SizeLf => return Err(ChunkError::SizeLine),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { digits: 0 },
            State::DataCr | State::DataLf => return Err(ChunkError::DataEnd),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::EndLf => {
                self.trailer_byte(byte)?
            }
            // Not reached: decode stops in these states.
            State::Data | State::Done => self.state,
        };
        Ok(())
    }

    fn size_byte(&mut self, byte: u8, digits: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeLf),
            b';' if digits > 0 => {
                self.extension_line_bytes = 0;
                return Ok(State::ExtensionName { is_empty: true });
            }
            b'\n' if digits > 0 => return Err(ChunkError::SizeLine),
            _ => return Err(ChunkError::Size),
        };
        if digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
        // 16 digits fit 64 bits: nothing is shifted out.
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size { digits: digits + 1 })
    }

    /// The size line is complete.
    fn chunk_begins(&mut self) -> Result<State, ChunkError> {
        if self.framing_bytes > self.payload_bytes.saturating_mul(OVERHEAD_FACTOR).saturating_add(OVERHEAD_BYTES) {
            return Err(ChunkError::Overhead);
        }
        Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
    }

    /// `;name[=token|"quoted"]`, repeated, up to CR.
    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.extension_line_bytes += 1;
        self.extension_bytes += 1;
        if self.extension_line_bytes > EXTENSION_LINE_BYTES_MAX || self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        match (self.state, byte) {
            (State::ExtensionName { .. }, _) if is_token_byte(byte) => Ok(State::ExtensionName { is_empty: false }),
            (State::ExtensionName { is_empty: false }, b'=') => Ok(State::ExtensionValueStart),
            (State::ExtensionValueStart, b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionValueStart | State::ExtensionToken, _) if is_token_byte(byte) => Ok(State::ExtensionToken),
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionQuotedEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionQuotedPair),
            (State::ExtensionQuoted | State::ExtensionQuotedPair, _) if is_value_byte(byte) => {
                Ok(State::ExtensionQuoted)
            }
            (State::ExtensionName { is_empty: false } | State::ExtensionToken | State::ExtensionQuotedEnd, b';') => {
                Ok(State::ExtensionName { is_empty: true })
            }
            (State::ExtensionName { is_empty: false } | State::ExtensionToken | State::ExtensionQuotedEnd, b'\r') => {
                Ok(State::SizeLf)
            }
            _ => Err(ChunkError::Extension),
        }
    }

    /// `name: value CRLF` lines up to an empty one. No folding: a line starting with whitespace is an error.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailerTooLong);
        }
        let is_last_line = self.state == State::EndLf || (self.state == State::TrailerStart && byte == b'\r');
        if let Some(lines) = self.trailers.as_mut().filter(|_| !is_last_line) {
            lines.push(byte);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => {
                self.trailer_fields += 1;
                Ok(State::TrailerStart)
            }
            _ => Err(ChunkError::Trailer),
        }
    }
}

impl Default for ChunkDecoder {
    fn default() -> ChunkDecoder {
        ChunkDecoder::new()
    }
}

#[cfg(test)]
mod tests;
