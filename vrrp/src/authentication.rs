//! The HMAC-SHA256 trailer of adverts, as keepalived 2.4 defines it: the only authentication of VRRP that is one.
//!
//! ```text
//! 0 type=1 | 1 key id 1..255 | 2-3 zero | 4-7 UTC seconds | 8-9 1/65536 s | 10-11 counter | 12-27 HMAC
//! HMAC = first 16 bytes of HMAC-SHA256(key,
//!        family 4|6, version, VRID, 0, source address left-justified in 16 bytes    (20 bytes)
//!     || VRRP message with zero for its checksum || trailer bytes 0..11 || 16 zero bytes)
//! ```
//!
//! Pure: wall time comes in as a value. It is needed on the wire only; a jump of it can make adverts stale (mode
//! [`Freshness::Clock`]) but never moves a timer.

use crate::packet::Family;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Length of the trailer. It follows the message and is told by the exact length of the datagram.
pub const TRAILER_BYTES: usize = 28;

/// Signs and verifies the adverts of one virtual router. Remembers what it has seen of each sender.
#[derive(Debug, Clone)]
pub struct Authenticator {
    keys: Vec<Key>,
    mode: Mode,
    freshness: Freshness,
    last_sent: Stamp,
    /// The newest verified stamp per sender, the most recently heard sender last.
    senders: Vec<(IpAddr, Stamp)>,
}

/// A shared secret and its number on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: u8,
    secret: Vec<u8>,
}

/// Migration goes through these from top to bottom, all routers at each step before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Send no trailer, accept adverts without; a wrong trailer is refused.
    ReceiveOnly,
    /// Send a trailer, accept adverts without.
    Permissive,
    /// Send a trailer, refuse adverts without.
    Enforce,
}

/// What a stamp must be, besides newer than the sender's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Within this much of our own clock; both clocks must be synchronised.
    Clock { window: Duration },
    /// Nothing more. A recording from before our start passes once.
    Growth,
}

/// Why a trailer, or its absence, is refused. Cheap checks come first, and only a right HMAC changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationError {
    /// No trailer where one is required.
    Missing,
    /// Not type 1, or the reserved bytes are not zero.
    Malformed,
    UnknownKey {
        id: u8,
    },
    /// Too far from our clock.
    Stale {
        off_by: Duration,
    },
    /// Not newer than what this sender sent before.
    Replayed,
    /// Another key, or altered bytes.
    Forged,
}

/// The signed part of a message, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Source address of the IP header.
    pub source: IpAddr,
    /// The VRRP message without trailer.
    pub message: &'a [u8],
}

/// Wall time as nanoseconds since 1970 without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(pub u64);

/// Trailer bytes 4..12 as one number, compared as a serial (RFC 1982), so the year 2106 is no cliff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp(u64);

impl Authenticator {
    /// The first key signs; the others are accepted too, which is how keys are rotated. `None` without a key or with
    /// two of the same number.
    pub fn new(keys: Vec<Key>, mode: Mode, freshness: Freshness) -> Option<Authenticator> {
        let is_unique = |(at, key): (usize, &Key)| keys.iter().take(at).all(|earlier| earlier.id != key.id);
        let is_sound = !keys.is_empty() && keys.iter().enumerate().all(is_unique);
        is_sound.then_some(Authenticator { keys, mode, freshness, last_sent: Stamp(0), senders: Vec::new() })
    }

    /// Takes the keys and rules of another one, and keeps what it has seen.
    pub fn adopt(&mut self, rules: &Authenticator) {
        self.keys.clone_from(&rules.keys);
        self.mode = rules.mode;
        self.freshness = rules.freshness;
    }

    /// The trailer to append to our own message; `None` if we send none. Each has a newer stamp than the one before,
    /// whatever the clock does.
    pub fn sign(&mut self, utc: Utc, signed: Signed<'_>) -> Option<[u8; TRAILER_BYTES]> {
        let key = match self.mode {
            Mode::ReceiveOnly => return None,
            Mode::Permissive | Mode::Enforce => self.keys.first()?,
        };
        let now = Stamp::at(utc);
        let stamp = if now.is_newer_than(self.last_sent) { now } else { Stamp(self.last_sent.0.wrapping_add(1)) };
        let mut trailer = [0; TRAILER_BYTES];
        let (head, tag) = trailer.split_at_mut(HEAD_BYTES);
        head.copy_from_slice(&stamp.head(key.id));
        tag.copy_from_slice(&truncated(key.hmac(signed, head)));
        self.last_sent = stamp;
        Some(trailer)
    }

    /// Whether a received message may be acted on.
    pub fn verify(
        &mut self,
        utc: Utc,
        signed: Signed<'_>,
        trailer: Option<&[u8; TRAILER_BYTES]>,
    ) -> Result<(), AuthenticationError> {
        let Some(trailer) = trailer else {
            return match self.mode {
                Mode::ReceiveOnly | Mode::Permissive => Ok(()),
                Mode::Enforce => Err(AuthenticationError::Missing),
            };
        };
        let (head, tag) = trailer.split_at(HEAD_BYTES);
        let [TYPE_HMAC_SHA256, id, 0, 0, stamp @ ..] = head else {
            return Err(AuthenticationError::Malformed);
        };
        let stamp = Stamp(stamp.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let key = self.keys.iter().find(|key| key.id == *id).ok_or(AuthenticationError::UnknownKey { id: *id })?;
        self.check_freshness(utc, signed.source, stamp)?;
        key.hmac(signed, head).verify_truncated_left(tag).map_err(|_| AuthenticationError::Forged)?;
        self.remember(signed.source, stamp);
        Ok(())
    }

    fn check_freshness(&self, utc: Utc, source: IpAddr, stamp: Stamp) -> Result<(), AuthenticationError> {
        if let Freshness::Clock { window } = self.freshness {
            let off_by = stamp.distance(Stamp::at(utc));
            if off_by > window {
                return Err(AuthenticationError::Stale { off_by });
            }
        }
        let last = self.senders.iter().find(|(sender, _)| *sender == source);
        match last {
            Some((_, last)) if !stamp.is_newer_than(*last) => Err(AuthenticationError::Replayed),
            Some(_) | None => Ok(()),
        }
    }

    fn remember(&mut self, source: IpAddr, stamp: Stamp) {
        self.senders.retain(|(sender, _)| *sender != source);
        if self.senders.len() >= SENDERS_MAX {
            self.senders.remove(0);
        }
        self.senders.push((source, stamp));
    }
}

impl Key {
    /// 32..=64 bytes, and a number from 1.
    pub fn new(id: u8, secret: Vec<u8>) -> Option<Key> {
        (id != 0 && (32..=64).contains(&secret.len())).then_some(Key { id, secret })
    }

    fn hmac(&self, signed: Signed<'_>, head: &[u8]) -> Hmac<Sha256> {
        let (family, source) = match signed.source {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(address) => (6, address.octets()),
        };
        debug_assert_eq!(family == 4, Family::of(signed.source) == Family::V4);
        let byte = |at| signed.message.get(at).copied().unwrap_or_default();
        let (before, rest) = signed.message.split_at(signed.message.len().min(CHECKSUM_AT));
        let after = rest.get(2..).unwrap_or_default();

        // Keys up to a block (64 bytes) are used as they are; longer ones cannot be constructed.
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
        hmac.update(&[family, byte(0) >> 4, byte(1), 0]);
        hmac.update(&source);
        hmac.update(before);
        hmac.update(&[0, 0]);
        hmac.update(after);
        hmac.update(head);
        hmac.update(&[0; TAG_BYTES]);
        hmac
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.fill(0);
        std::hint::black_box(&mut self.secret);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Stamp {
    fn at(utc: Utc) -> Stamp {
        let (seconds, nanos) = (utc.0 / 1_000_000_000, utc.0 % 1_000_000_000);
        let fraction = nanos * 65_536 / 1_000_000_000;
        Stamp(seconds << 32 | fraction << 16)
    }

    fn is_newer_than(self, other: Stamp) -> bool {
        self.0.wrapping_sub(other.0).cast_signed() > 0
    }

    fn distance(self, other: Stamp) -> Duration {
        let units = self.0.wrapping_sub(other.0).cast_signed().unsigned_abs();
        let nanos = (u128::from(units) * 1_000_000_000) >> 32;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn head(self, key_id: u8) -> [u8; HEAD_BYTES] {
        let [a, b, c, d, e, f, g, h] = self.0.to_be_bytes();
        [TYPE_HMAC_SHA256, key_id, 0, 0, a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for AuthenticationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthenticationError::Missing => f.write_str("no HMAC trailer"),
            AuthenticationError::Malformed => f.write_str("malformed HMAC trailer"),
            AuthenticationError::UnknownKey { id } => write!(f, "unknown key {id}"),
            AuthenticationError::Stale { off_by } => write!(f, "stamp {off_by:?} away from our clock"),
            AuthenticationError::Replayed => f.write_str("replayed"),
            AuthenticationError::Forged => f.write_str("wrong HMAC"),
        }
    }
}

impl std::error::Error for AuthenticationError {}

const TYPE_HMAC_SHA256: u8 = 1;
const HEAD_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Where a VRRP message has its checksum, which is filled in after signing.
const CHECKSUM_AT: usize = 6;

/// Senders whose last stamp is remembered: far more than a virtual router has peers. Only owners of a key get in.
const SENDERS_MAX: usize = 32;

fn truncated(hmac: Hmac<Sha256>) -> [u8; TAG_BYTES] {
    let whole: [u8; 32] = hmac.finalize().into_bytes().into();
    let [tag, _] = whole.as_chunks::<TAG_BYTES>().0 else { return [0; TAG_BYTES] };
    *tag
}

#[cfg(test)]
mod tests;
