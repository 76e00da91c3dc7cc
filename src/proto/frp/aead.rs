//! The control stream's cipher of version 2. Each side sends its base nonce once, then records:
//!
//! ```text
//! | length (32) | ciphertext and tag (length) |
//! ```
//!
//! The nonce of record n is the base nonce plus n, as one big-endian number. Base nonce and length are authenticated
//! with each record. Where records end says nothing about where frames do.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use chacha20::{R20, hchacha};
use std::fmt;

/// Of a record's plaintext.
const PLAIN_BYTES_MAX: usize = 65_536;

const TAG_BYTES: usize = 16;
const NONCE_BYTES_MAX: usize = 24;
const LENGTH_BYTES: usize = 4;

/// A cipher both sides know; the client lists what it has in its order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Aes256Gcm,
    XChaCha20Poly1305,
}

impl Algorithm {
    /// The first of the client's that is known here.
    pub fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Algorithm> {
        let all = [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305];
        offered.into_iter().find_map(|name| all.into_iter().find(|algorithm| algorithm.name() == name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Aes256Gcm => "aes-256-gcm",
            Algorithm::XChaCha20Poly1305 => "xchacha20-poly1305",
        }
    }

    fn nonce_bytes(self) -> usize {
        match self {
            Algorithm::Aes256Gcm => 12,
            Algorithm::XChaCha20Poly1305 => NONCE_BYTES_MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ClientToServer,
    ServerToClient,
}

/// The key of one direction.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

/// What the two hellos said, byte for byte.
pub fn transcript(client_hello: &[u8], server_hello: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"frp wire v2 crypto transcript");
    for (label, payload) in [(b"client hello", client_hello), (b"server hello", server_hello)] {
        context.update(b"\0");
        context.update(label);
        context.update(b"\0");
        context.update(&(payload.len() as u64).to_be_bytes());
        context.update(payload);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

impl Key {
    pub fn derive(
        algorithm: Algorithm,
        token: &[u8],
        transcript: &[u8; 32],
        direction: Direction,
    ) -> Result<Key, AeadError> {
        let direction = match direction {
            Direction::ClientToServer => "client-to-server",
            Direction::ServerToClient => "server-to-client",
        };
        let info = format!("frp wire v2 control aead {} {direction}", algorithm.name());
        let mut bytes = [0; 32];
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, transcript).extract(token);
        let derived = secret.expand(&[info.as_bytes()], KeyBytes).and_then(|okm| okm.fill(&mut bytes));
        derived.map_err(|_| AeadError::Cipher)?;
        Ok(Key { algorithm, bytes })
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> [u8; 32] {
        self.bytes
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&mut self.bytes);
    }
}

struct KeyBytes;

impl hkdf::KeyType for KeyBytes {
    fn len(&self) -> usize {
        32
    }
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AeadError {
    /// Empty, or longer than any record may be.
    Length(u32),
    /// Changed on the way, or the tokens differ.
    Forged,
    /// So many records that nonces would repeat.
    Exhausted,
    /// The library refused.
    Cipher,
}

/// One direction: key, base nonce and how many records there were.
struct Records {
    key: Key,
    base: [u8; NONCE_BYTES_MAX],
    count: u64,
    /// Of `base`'s first 16 bytes, or of what they became by counting.
    cipher: Option<([u8; 16], LessSafeKey)>,
}

impl Records {
    fn new(key: Key, base: [u8; NONCE_BYTES_MAX]) -> Records {
        Records { key, base, count: 0, cipher: None }
    }

    fn base(&self) -> &[u8] {
        self.base.get(..self.key.algorithm.nonce_bytes()).unwrap_or_default()
    }

    fn aad(&self, length: u32) -> Vec<u8> {
        [self.base(), &length.to_be_bytes()].concat()
    }

    /// The next record's cipher and nonce.
    fn next(&mut self) -> Result<(&LessSafeKey, Nonce), AeadError> {
        let bytes = self.key.algorithm.nonce_bytes();
        let mut nonce = self.base;
        let mut carry = self.count;
        for byte in nonce.iter_mut().take(bytes).rev() {
            let sum = u64::from(*byte) + (carry & 0xff);
            *byte = sum as u8;
            carry = (carry >> 8) + (sum >> 8);
        }
        if self.count > u64::from(u32::MAX) {
            return Err(AeadError::Exhausted);
        }
        self.count += 1;
        let (prefix, unique) = match self.key.algorithm {
            Algorithm::Aes256Gcm => ([0; 16], *nonce.first_chunk::<12>().ok_or(AeadError::Cipher)?),
            Algorithm::XChaCha20Poly1305 => {
                let (prefix, tail) = nonce.split_first_chunk::<16>().ok_or(AeadError::Cipher)?;
                let mut unique = [0; 12];
                unique.iter_mut().skip(4).zip(tail).for_each(|(to, from)| *to = *from);
                (*prefix, unique)
            }
        };
        if self.cipher.as_ref().is_none_or(|(of, _)| *of != prefix) {
            self.cipher = Some((prefix, cipher(&self.key, prefix)?));
        }
        let (_, cipher) = self.cipher.as_ref().ok_or(AeadError::Cipher)?;
        Ok((cipher, Nonce::assume_unique_for_key(unique)))
    }
}

fn cipher(key: &Key, prefix: [u8; 16]) -> Result<LessSafeKey, AeadError> {
    let unbound = match key.algorithm {
        Algorithm::Aes256Gcm => UnboundKey::new(&AES_256_GCM, &key.bytes),
        // The long nonce: its first 16 bytes and the key make a key for the ordinary cipher.
        Algorithm::XChaCha20Poly1305 => {
            UnboundKey::new(&CHACHA20_POLY1305, &hchacha::<R20>(&key.bytes.into(), &prefix.into()))
        }
    };
    unbound.map(LessSafeKey::new).map_err(|_| AeadError::Cipher)
}

/// Encrypts one direction.
pub struct Sealer {
    records: Records,
    has_begun: bool,
}

impl Sealer {
    /// `base` must be random; a shorter nonce is its beginning.
    pub fn new(key: Key, base: [u8; NONCE_BYTES_MAX]) -> Sealer {
        Sealer { records: Records::new(key, base), has_begun: false }
    }

    /// Appends `plain` as records, before them the base nonce if they are the first.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), AeadError> {
        if !plain.is_empty() && !self.has_begun {
            out.extend_from_slice(self.records.base());
            self.has_begun = true;
        }
        for piece in plain.chunks(PLAIN_BYTES_MAX) {
            let length = (piece.len() + TAG_BYTES) as u32;
            let aad = self.records.aad(length);
            let mut record = piece.to_vec();
            let (cipher, nonce) = self.records.next()?;
            cipher.seal_in_place_append_tag(nonce, Aad::from(aad), &mut record).map_err(|_| AeadError::Cipher)?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&record);
        }
        Ok(())
    }
}

/// Decrypts one direction. Holds at most one incomplete record.
pub struct Opener {
    records: Records,
    /// How much of the base nonce came.
    have: usize,
    pending: Vec<u8>,
}

impl Opener {
    pub fn new(key: Key) -> Opener {
        Opener { records: Records::new(key, [0; NONCE_BYTES_MAX]), have: 0, pending: Vec::new() }
    }

    /// Appends what `bytes` complete, decrypted.
    pub fn open(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), AeadError> {
        let missing = (self.records.key.algorithm.nonce_bytes() - self.have).min(bytes.len());
        let (nonce, rest) = bytes.split_at_checked(missing).unwrap_or_default();
        if let Some(room) = self.records.base.get_mut(self.have..self.have + missing) {
            room.copy_from_slice(nonce);
        }
        self.have += missing;
        self.pending.extend_from_slice(rest);
        let mut pending = std::mem::take(&mut self.pending);
        let used = self.drain(&mut pending, out)?;
        pending.drain(..used);
        self.pending = pending;
        Ok(())
    }

    /// Opens the complete records; how many bytes they were.
    fn drain(&mut self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<usize, AeadError> {
        let mut used = 0;
        while let Some((length, rest)) =
            bytes.get_mut(used..).and_then(|rest| rest.split_first_chunk_mut::<LENGTH_BYTES>())
        {
            let length = u32::from_be_bytes(*length);
            let sealed = length as usize;
            if sealed <= TAG_BYTES || sealed > PLAIN_BYTES_MAX + TAG_BYTES {
                return Err(AeadError::Length(length));
            }
            let Some(record) = rest.get_mut(..sealed) else { break };
            let aad = self.records.aad(length);
            let (cipher, nonce) = self.records.next()?;
            let plain = cipher.open_in_place(nonce, Aad::from(aad), record).map_err(|_| AeadError::Forged)?;
            out.extend_from_slice(plain);
            used += LENGTH_BYTES + sealed;
        }
        Ok(used)
    }
}

impl fmt::Display for AeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AeadError::Length(length) => write!(f, "an encrypted record of {length} bytes"),
            AeadError::Forged => f.write_str("an encrypted record that does not open; are the tokens the same?"),
            AeadError::Exhausted => f.write_str("more records than one key is good for"),
            AeadError::Cipher => f.write_str("the cryptographic library refused"),
        }
    }
}

impl std::error::Error for AeadError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> impl Iterator<Item = Key> {
        let all = [Algorithm::Aes256Gcm, Algorithm::XChaCha20Poly1305].into_iter();
        all.map(|algorithm| Key::derive(algorithm, b"t", &[1; 32], Direction::ServerToClient).unwrap())
    }

    fn sealed(key: &Key, plain: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(key.clone(), [0xff; 24]);
        plain.iter().for_each(|piece| sealer.seal(piece, &mut out).unwrap());
        out
    }

    /// With a base nonce of ones, so that the second record's has carried through every byte.
    #[test]
    fn what_is_sealed_opens_however_it_is_cut() {
        for key in keys() {
            let stream = sealed(&key, &[b"first", b"second", &[9; 100]]);
            for cut in 0..=stream.len() {
                let mut opener = Opener::new(key.clone());
                let mut out = Vec::new();
                opener.open(&stream[..cut], &mut out).unwrap();
                opener.open(&stream[cut..], &mut out).unwrap();
                assert_eq!(out, [b"firstsecond".as_slice(), &[9; 100]].concat(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_changed_bit_does_not_open() {
        for key in keys() {
            let stream = sealed(&key, &[b"first"]);
            for at in 0..stream.len() {
                let mut stream = stream.clone();
                stream[at] ^= 1;
                let mut out = Vec::new();
                // A changed length may also be one that waits for more.
                _ = Opener::new(key.clone()).open(&stream, &mut out);
                assert!(out.is_empty(), "byte {at}");
            }
        }
    }

    #[test]
    fn more_than_a_record_holds_becomes_several() {
        for key in keys() {
            let plain = vec![3; 2 * PLAIN_BYTES_MAX + 1];
            let stream = sealed(&key, &[&plain]);
            let mut out = Vec::new();
            Opener::new(key.clone()).open(&stream, &mut out).unwrap();
            assert_eq!(out, plain);
        }
    }

    #[test]
    fn lengths_no_record_has_are_refused_before_they_are_waited_for() {
        for key in keys() {
            let nonce = key.algorithm.nonce_bytes();
            for length in [0, 16, 65_553, u32::MAX] {
                let stream = [&vec![0; nonce][..], &length.to_be_bytes()].concat();
                let error = Opener::new(key.clone()).open(&stream, &mut Vec::new());
                assert_eq!(error, Err(AeadError::Length(length)));
            }
        }
    }

    /// Section A.3.1 of draft-irtf-cfrg-xchacha: the sealed text under its key, nonce and additional data.
    #[test]
    fn the_long_nonce_is_the_draft_s() {
        let bytes: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
        let mut nonce = [0; 24];
        nonce.iter_mut().zip(0x40..).for_each(|(to, byte)| *to = byte);
        let mut records = Records::new(Key { algorithm: Algorithm::XChaCha20Poly1305, bytes }, nonce);
        let (cipher, nonce) = records.next().unwrap();
        let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it."
            .to_vec();
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        cipher.seal_in_place_append_tag(nonce, Aad::from(aad), &mut text).unwrap();
        assert_eq!(text[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        assert_eq!(text[text.len() - 16..text.len() - 8], [0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79]);
    }
}
