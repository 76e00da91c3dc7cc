//! Framing: three bytes of length, one of sequence, the payload.

use super::Fault;

/// No answer to a check comes near it.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

const HEADER_BYTES: usize = 4;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) sequence: u8,
    pub(super) payload: Vec<u8>,
}

/// Collects received bytes into packets.
#[derive(Default)]
pub(super) struct Reader(Vec<u8>);

impl Reader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next whole packet.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, Fault> {
        let &[low, middle, high, sequence, ..] = self.0.as_slice() else { return Ok(None) };
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > PAYLOAD_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        let Some(payload) = self.0.get(HEADER_BYTES..HEADER_BYTES + length) else { return Ok(None) };
        let packet = Packet { sequence, payload: payload.to_vec() };
        self.0.drain(..HEADER_BYTES + length);
        Ok(Some(packet))
    }
}

/// Payloads here are far below the 16 MiB where framing would need a second packet.
pub(super) fn frame(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let [low, middle, high, ..] = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.extend_from_slice(&[low, middle, high, sequence]);
    out.extend_from_slice(payload);
    out
}
