//! Session tickets under keys that follow from the cluster secret and the time: what one node hands out the other one
//! takes, and so does a worker that was started anew.
//!
//! ```text
//! ticket = window (8) | nonce (12) | AES-256-GCM(key of the window, state) with the window as associated data
//! key    = HKDF-SHA256(secret, "lyre session tickets v1" | window),   window = Unix time / 6 h
//! ```
//!
//! A ticket works for its own window and the next two. Whoever has the cluster secret can open recorded tickets: TLS 1.3
//! exchanges new keys at every resumption and loses nothing by it, a resumed TLS 1.2 session does.

use super::ConfigError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

const WINDOW_S: u64 = 6 * 3600;
/// Windows before the current one whose tickets are taken.
const WINDOWS_BACK: u64 = 2;
const WINDOW_LEN: usize = 8;
const LABEL: &[u8] = b"lyre session tickets v1";

/// Wall time in seconds since 1970: the nodes agree about nothing else.
type Clock = fn() -> u64;

struct Tickets {
    secret: hkdf::Prk,
    clock: Clock,
    /// Of the windows seen last, newest last; derived when first needed.
    keys: RwLock<Vec<(u64, Arc<LessSafeKey>)>>,
}

/// Tickets that every holder of `secret` can make and take.
pub fn shared_ticketer(secret: &[u8]) -> Result<Arc<dyn ProducesTickets>, ConfigError> {
    let tickets = Tickets::new(secret, wall);
    // A first key shows that the others can be made, too.
    match tickets.key((tickets.clock)() / WINDOW_S) {
        Some(_) => Ok(Arc::new(tickets)),
        None => Err(ConfigError::Protocol(rustls::Error::General("no key for session tickets".to_owned()))),
    }
}

#[allow(clippy::disallowed_methods)] // two nodes have only wall time in common; a jump costs resumptions, no safety
fn wall() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Tickets {
    fn new(secret: &[u8], clock: Clock) -> Tickets {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lyre").extract(secret);
        Tickets { secret, clock, keys: RwLock::default() }
    }

    fn key(&self, window: u64) -> Option<Arc<LessSafeKey>> {
        let known = |keys: &[(u64, Arc<LessSafeKey>)]| {
            keys.iter().find(|(of, _)| *of == window).map(|(_, key)| Arc::clone(key))
        };
        if let Some(key) = known(&self.keys.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(key);
        }
        let number = window.to_be_bytes();
        let info = [LABEL, &number];
        let material = self.secret.expand(&info, &AES_256_GCM).ok()?;
        let key = Arc::new(LessSafeKey::new(UnboundKey::from(material)));
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(of, _)| of.abs_diff(window) <= WINDOWS_BACK + 1);
        if known(&keys).is_none() {
            keys.push((window, Arc::clone(&key)));
        }
        Some(key)
    }

    /// The other node's clock may be ahead of ours.
    fn takes(&self, window: u64) -> bool {
        let current = (self.clock)() / WINDOW_S;
        window <= current.saturating_add(1) && window.saturating_add(WINDOWS_BACK) >= current
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(WINDOW_S * WINDOWS_BACK).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let window = (self.clock)() / WINDOW_S;
        let key = self.key(window)?;
        // Random, for no counter is shared by the nodes: a window would need 2^32 tickets before that matters.
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(window.to_be_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some([&window.to_be_bytes(), &nonce[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<WINDOW_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let window = u64::from_be_bytes(*number);
        // Before any work: strangers may claim any window.
        if !self.takes(window) {
            return None;
        }
        let key = self.key(window)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::from(*number), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"a cluster secret of some length";
    const START: u64 = 1_800_000_000 / WINDOW_S * WINDOW_S;

    fn at(clock: Clock) -> Tickets {
        Tickets::new(SECRET, clock)
    }

    #[test]
    fn another_node_with_the_secret_takes_a_ticket_until_two_windows_later() {
        let ticket = at(|| START).encrypt(b"state").unwrap();
        for clock in [|| START, || START + WINDOW_S, || START + 3 * WINDOW_S - 1, || START - 1] as [Clock; 4] {
            assert_eq!(at(clock).decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        }
        for clock in [|| START + 3 * WINDOW_S, || START - WINDOW_S - 1, || 0] as [Clock; 3] {
            assert_eq!(at(clock).decrypt(&ticket), None);
        }
    }

    #[test]
    fn another_secret_or_one_changed_byte_is_worth_nothing() {
        let tickets = at(|| START);
        let ticket = tickets.encrypt(b"state").unwrap();
        assert_eq!(Tickets::new(b"another secret", || START).decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn no_two_tickets_are_alike_and_the_keys_held_are_few() {
        let tickets = at(wall);
        assert_ne!(tickets.encrypt(b"state"), tickets.encrypt(b"state"));
        for window in 0..100 {
            tickets.key(window).unwrap();
        }
        assert!(tickets.keys.read().unwrap().len() <= 4);
    }
}
