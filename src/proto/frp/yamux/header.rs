//! The header of a frame.
//!
//! ```text
//! | version (8) = 0 | type (8) | flags (16) | stream (32) | length (32) |
//! ```

use super::Violation;

pub const HEADER_BYTES: usize = 12;

/// Bits of [`Header::flags`]; they may be combined.
pub mod flag {
    pub const SYN: u16 = 1;
    pub const ACK: u16 = 2;
    pub const FIN: u16 = 4;
    pub const RST: u16 = 8;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `length` bytes of payload follow.
    Data,
    /// `length` is credit.
    WindowUpdate,
    /// `length` is opaque and comes back.
    Ping,
    /// `length` is the reason.
    GoAway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    pub flags: u16,
    /// 0 for the connection itself.
    pub stream: u32,
    pub length: u32,
}

impl Header {
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Header, Violation> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = bytes;
        if version != 0 {
            return Err(Violation::Version(version));
        }
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::WindowUpdate,
            2 => Kind::Ping,
            3 => Kind::GoAway,
            other => return Err(Violation::Kind(other)),
        };
        Ok(Header {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [f0, f1] = self.flags.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [0, self.kind as u8, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3]
    }

    pub fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
