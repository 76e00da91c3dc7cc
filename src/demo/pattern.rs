//! The bytes of every big file in the laboratory: a function of the offset, so that nobody stores them and both ends
//! notice a byte that is missing, doubled or wrong.

/// Length after which the pattern repeats. Prime, so that a shift by any buffer or record size shows.
const PERIOD: usize = 65_521;

/// One period and a bit more, to cut slices from.
pub struct Pattern {
    bytes: Vec<u8>,
}

/// Longest slice [`Pattern::at`] gives.
pub const SLICE_MAX: usize = 64 * 1024;

impl Pattern {
    pub fn new() -> Pattern {
        let byte = |index: usize| {
            let index = (index % PERIOD) as u32;
            (index.wrapping_mul(2_654_435_761) >> 24) as u8
        };
        Pattern { bytes: (0..PERIOD + SLICE_MAX).map(byte).collect() }
    }

    /// The bytes from `offset` of the file on: `length` of them, at most [`SLICE_MAX`].
    pub fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        let end = start + length.min(SLICE_MAX);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// Whether `bytes` are the file's from `offset` on.
    pub fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut offset = offset;
        bytes.chunks(SLICE_MAX).all(|chunk| {
            let same = self.at(offset, chunk.len()) == chunk;
            offset += chunk.len() as u64;
            same
        })
    }
}

impl Default for Pattern {
    fn default() -> Pattern {
        Pattern::new()
    }
}

/// FNV-1a, 64 bits: cheap, order sensitive, good enough against accidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(pub u64);

impl Checksum {
    pub const fn new() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }

    pub fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

impl Default for Checksum {
    fn default() -> Checksum {
        Checksum::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_from_any_offset_continue_each_other() {
        let pattern = Pattern::new();
        let mut joined = Vec::new();
        for offset in (0..200_000).step_by(777) {
            joined.extend_from_slice(pattern.at(offset as u64, 777));
        }
        assert!(pattern.matches(0, &joined));
    }

    #[test]
    fn a_missing_byte_is_noticed() {
        let pattern = Pattern::new();
        let mut bytes = pattern.at(10, 1000).to_vec();
        bytes.remove(500);
        assert!(!pattern.matches(10, &bytes));
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        let mut sum = Checksum::new();
        sum.update(b"foobar");
        assert_eq!(sum, Checksum(0x8594_4171_f739_67e8));
    }
}
