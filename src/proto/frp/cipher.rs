//! What a token is good for in version 1: the proof of a login, and AES-128 in cipher feedback mode over the control
//! stream, and over work streams that ask for it. It hides bytes from nobody who can change them; TLS is what protects.

use aws_lc_rs::cipher::{
    AES_128, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::pbkdf2;
use md5::{Digest as _, Md5};
use std::fmt;
use std::num::NonZeroU32;

/// Sent in the clear by each side before its first encrypted byte.
pub const IV_BYTES: usize = 16;

const BLOCK_BYTES: usize = 16;
const SALT: &[u8] = b"frp";
const ITERATIONS: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// The key both sides derive from a token. Costs 64 rounds of PBKDF2: once a token, not once a stream.
#[derive(Clone)]
pub struct Key([u8; BLOCK_BYTES]);

impl Key {
    pub fn derive(token: &[u8]) -> Key {
        let mut key = [0; BLOCK_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ITERATIONS, SALT, token, &mut key);
        Key(key)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> [u8; BLOCK_BYTES] {
        self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&mut self.0);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// What proves in a login that the client has the token: MD5 of token and decimal timestamp, in lower case hex.
pub fn privilege_key(token: &[u8], timestamp: i64) -> String {
    let digest = Md5::new().chain_update(token).chain_update(timestamp.to_string()).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The library refused: it has no memory, or no cipher of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherError;

/// Encrypts one direction of one stream.
pub struct Sealer {
    key: StreamingEncryptingKey,
    /// Not sent yet.
    iv: Option<[u8; IV_BYTES]>,
}

impl Sealer {
    /// `iv` must be random, and its own for every direction of every stream.
    pub fn new(key: &Key, iv: [u8; IV_BYTES]) -> Result<Sealer, CipherError> {
        let cipher = UnboundCipherKey::new(&AES_128, &key.0).map_err(|_| CipherError)?;
        let context = EncryptionContext::Iv128(iv.into());
        let key = StreamingEncryptingKey::less_safe_cfb128(cipher, context).map_err(|_| CipherError)?;
        Ok(Sealer { key, iv: Some(iv) })
    }

    /// Appends `plain` encrypted, before it the IV if these are the first bytes.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CipherError> {
        if plain.is_empty() {
            return Ok(());
        }
        if let Some(iv) = self.iv.take() {
            out.extend_from_slice(&iv);
        }
        let key = &mut self.key;
        transform(plain, out, |plain, room| key.update(plain, room).map(|done| done.written().len()).ok())
    }
}

/// Decrypts one direction of one stream; the other side's IV comes first.
pub struct Opener {
    key: Key,
    iv: [u8; IV_BYTES],
    have: usize,
    cipher: Option<StreamingDecryptingKey>,
}

impl Opener {
    pub fn new(key: &Key) -> Opener {
        Opener { key: key.clone(), iv: [0; IV_BYTES], have: 0, cipher: None }
    }

    /// Appends `bytes` decrypted.
    pub fn open(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CipherError> {
        let missing = (IV_BYTES - self.have).min(bytes.len());
        let (iv, sealed) = bytes.split_at_checked(missing).unwrap_or_default();
        if let Some(room) = self.iv.get_mut(self.have..self.have + missing) {
            room.copy_from_slice(iv);
        }
        self.have += missing;
        if sealed.is_empty() {
            return Ok(());
        }
        let cipher = match &mut self.cipher {
            Some(cipher) => cipher,
            none => none.insert(Self::cipher(&self.key, self.iv)?),
        };
        transform(sealed, out, |sealed, room| cipher.update(sealed, room).map(|done| done.written().len()).ok())
    }

    fn cipher(key: &Key, iv: [u8; IV_BYTES]) -> Result<StreamingDecryptingKey, CipherError> {
        let cipher = UnboundCipherKey::new(&AES_128, &key.0).map_err(|_| CipherError)?;
        StreamingDecryptingKey::cfb128(cipher, DecryptionContext::Iv128(iv.into())).map_err(|_| CipherError)
    }
}

/// Appends what `cipher` makes of `bytes`: as many. The library wants room for a block more.
fn transform(
    bytes: &[u8],
    out: &mut Vec<u8>,
    cipher: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>,
) -> Result<(), CipherError> {
    let start = out.len();
    out.resize(start + bytes.len() + BLOCK_BYTES, 0);
    let written = out.get_mut(start..).and_then(|room| cipher(bytes, room));
    out.truncate(start + written.unwrap_or(0));
    if written == Some(bytes.len()) { Ok(()) } else { Err(CipherError) }
}

impl fmt::Display for CipherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cryptographic library refused")
    }
}

impl std::error::Error for CipherError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cut of a stream gives the same bytes, in both directions.
    #[test]
    fn the_keystream_goes_on_across_cuts() {
        let key = Key::derive(b"k");
        let plain: Vec<u8> = (0..200).collect();
        let mut whole = Vec::new();
        Sealer::new(&key, [7; 16]).unwrap().seal(&plain, &mut whole).unwrap();
        assert_eq!(whole.len(), 16 + plain.len());
        for cut in 0..=plain.len() {
            let mut sealer = Sealer::new(&key, [7; 16]).unwrap();
            let mut sealed = Vec::new();
            sealer.seal(&plain[..cut], &mut sealed).unwrap();
            sealer.seal(&plain[cut..], &mut sealed).unwrap();
            assert_eq!(sealed, whole);
        }
        for cut in 0..=whole.len() {
            let mut opener = Opener::new(&key);
            let mut opened = Vec::new();
            opener.open(&whole[..cut], &mut opened).unwrap();
            opener.open(&whole[cut..], &mut opened).unwrap();
            assert_eq!(opened, plain);
        }
    }

    #[test]
    fn nothing_is_sent_before_there_is_something_to_say() {
        let mut out = Vec::new();
        Sealer::new(&Key::derive(b""), [0; 16]).unwrap().seal(b"", &mut out).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", Key::derive(b"secret")), "Key");
    }
}
