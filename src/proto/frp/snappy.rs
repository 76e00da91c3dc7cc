//! The snappy framing format, which work streams with compression are in: chunks of at most 64 KiB.
//!
//! ```text
//! | type (8) | length (24, little endian) | CRC-32C of what it holds, masked (32, little endian) | data |
//! ```

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};
use std::fmt;

/// Of a chunk's content.
const CONTENT_BYTES_MAX: usize = 65_536;

/// What 64 KiB can grow to at worst, and the checksum.
const CHUNK_BYTES_MAX: usize = 76_490 + CRC_BYTES;

const HEAD_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;
/// From here on chunks that nobody knows are passed over; below they are an error.
const SKIPPABLE: u8 = 0x80;
const IDENTIFIER: u8 = 0xff;
const IDENTIFIER_CHUNK: [u8; 10] = *b"\xff\x06\0\0sNaPpY";

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnappyError {
    /// It does not begin with the identifier, or there is a wrong one later.
    Identifier,
    /// A chunk nobody knows that may not be passed over.
    Chunk(u8),
    /// Longer than any chunk may be, or too short.
    Length(usize),
    Corrupt,
    Checksum,
}

/// Compresses one direction.
pub struct Writer {
    encoder: Encoder,
    has_begun: bool,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer { encoder: Encoder::new(), has_begun: false }
    }
}

impl Writer {
    /// Appends `bytes` as chunks that are complete: nothing is held back for more.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if !bytes.is_empty() && !self.has_begun {
            out.extend_from_slice(&IDENTIFIER_CHUNK);
            self.has_begun = true;
        }
        for content in bytes.chunks(CONTENT_BYTES_MAX) {
            self.chunk(content, out);
        }
    }

    fn chunk(&mut self, content: &[u8], out: &mut Vec<u8>) {
        let head = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        out.extend_from_slice(&masked_crc(content).to_le_bytes());
        let data = out.len();
        out.resize(data + max_compress_len(content.len()), 0);
        let compressed = out.get_mut(data..).and_then(|room| self.encoder.compress(content, room).ok());
        // What saves less than an eighth is not worth the other side's time.
        let compressed = compressed.filter(|bytes| *bytes < content.len() - content.len() / 8);
        out.truncate(data + compressed.unwrap_or(0));
        if compressed.is_none() {
            out.extend_from_slice(content);
        }
        let [l0, l1, l2, _] = ((out.len() - data + CRC_BYTES) as u32).to_le_bytes();
        let kind = if compressed.is_some() { COMPRESSED } else { PLAIN };
        if let Some(room) = out.get_mut(head..head + HEAD_BYTES) {
            room.copy_from_slice(&[kind, l0, l1, l2]);
        }
    }
}

/// Decompresses one direction. Holds at most one incomplete chunk.
pub struct Reader {
    decoder: Decoder,
    has_begun: bool,
    pending: Vec<u8>,
    /// Of a chunk that is passed over.
    skip: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { decoder: Decoder::new(), has_begun: false, pending: Vec::new(), skip: 0 }
    }
}

impl Reader {
    /// Takes some of `bytes`, at most one chunk's, and appends what that chunk holds, at most 64 KiB. How many bytes
    /// were taken: none are left when it is all of them, otherwise ask again.
    pub fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, SnappyError> {
        if self.skip > 0 {
            let taken = self.skip.min(bytes.len());
            self.skip -= taken;
            return Ok(taken);
        }
        let mut taken = self.fill(bytes, HEAD_BYTES);
        let Some(&[kind, l0, l1, l2]) = self.pending.first_chunk::<HEAD_BYTES>() else { return Ok(taken) };
        let length = u32::from_le_bytes([l0, l1, l2, 0]) as usize;
        if !self.has_begun && kind != IDENTIFIER {
            return Err(SnappyError::Identifier);
        }
        match kind {
            COMPRESSED | PLAIN if !(CRC_BYTES..=CHUNK_BYTES_MAX).contains(&length) => {
                return Err(SnappyError::Length(length));
            }
            IDENTIFIER if length != IDENTIFIER_CHUNK.len() - HEAD_BYTES => return Err(SnappyError::Identifier),
            COMPRESSED | PLAIN | IDENTIFIER => {}
            SKIPPABLE.. => {
                self.pending.clear();
                self.skip = length;
                return Ok(taken);
            }
            _ => return Err(SnappyError::Chunk(kind)),
        }
        taken += self.fill(bytes.get(taken..).unwrap_or_default(), HEAD_BYTES + length);
        if self.pending.len() == HEAD_BYTES + length {
            let chunk = std::mem::take(&mut self.pending);
            self.chunk(kind, &chunk, out)?;
            self.pending = chunk;
            self.pending.clear();
        }
        Ok(taken)
    }

    /// Moves bytes to the pending chunk until it has so many; how many were moved.
    fn fill(&mut self, bytes: &[u8], until: usize) -> usize {
        let taken = until.saturating_sub(self.pending.len()).min(bytes.len());
        self.pending.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        taken
    }

    fn chunk(&mut self, kind: u8, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), SnappyError> {
        if kind == IDENTIFIER {
            self.has_begun = true;
            return if chunk == IDENTIFIER_CHUNK { Ok(()) } else { Err(SnappyError::Identifier) };
        }
        let rest = chunk.get(HEAD_BYTES..).and_then(|rest| rest.split_first_chunk::<CRC_BYTES>());
        let (crc, data) = rest.ok_or(SnappyError::Corrupt)?;
        let length = if kind == PLAIN { data.len() } else { decompress_len(data).map_err(|_| SnappyError::Corrupt)? };
        if length > CONTENT_BYTES_MAX {
            return Err(SnappyError::Length(length));
        }
        let start = out.len();
        if kind == PLAIN {
            out.extend_from_slice(data);
        } else {
            out.resize(start + length, 0);
            let room = out.get_mut(start..).unwrap_or_default();
            if self.decoder.decompress(data, room) != Ok(length) {
                out.truncate(start);
                return Err(SnappyError::Corrupt);
            }
        }
        if masked_crc(out.get(start..).unwrap_or_default()) != u32::from_le_bytes(*crc) {
            out.truncate(start);
            return Err(SnappyError::Checksum);
        }
        Ok(())
    }
}

fn masked_crc(content: &[u8]) -> u32 {
    crc32c::crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8)
}

impl fmt::Display for SnappyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnappyError::Identifier => f.write_str("no snappy stream: its identifier is missing or wrong"),
            SnappyError::Chunk(kind) => write!(f, "a chunk of unknown type {kind:#04x}"),
            SnappyError::Length(length) => write!(f, "a chunk of {length} bytes"),
            SnappyError::Corrupt => f.write_str("a chunk that does not decompress"),
            SnappyError::Checksum => f.write_str("a chunk whose checksum is wrong"),
        }
    }
}

impl std::error::Error for SnappyError {}

#[cfg(test)]
mod tests;
