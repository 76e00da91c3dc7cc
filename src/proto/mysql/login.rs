//! Greeting and login: who the server is, and the answer that proves who we are.

use super::cursor::Cursor;
use super::{Fault, Login};
use sha1::{Digest as _, Sha1};

/// Long passwords, protocol 4.1, secure connection, named plugins: as little as a login needs.
const CAPABILITIES: u32 = 0x0008_8201;
/// Of a server that speaks TLS, and of a client that will.
const TLS: u32 = 0x0800;
const PAYLOAD_BYTES_MAX: u32 = 0x0100_0000;
const CHARSET_UTF8MB4: u8 = 0x2d;

const NATIVE: &[u8] = b"mysql_native_password";

/// Bytes of the server's challenge that count.
const SCRAMBLE_BYTES: usize = 20;

/// Text of an error that is kept.
const MESSAGE_BYTES_MAX: usize = 200;

pub(super) type Scramble = [u8; SCRAMBLE_BYTES];

/// The challenge of a greeting and whether the server speaks TLS; or the error that came instead.
pub(super) fn greeting(greeting: &[u8]) -> Result<(Scramble, bool), Fault> {
    if greeting.first() == Some(&0xff) {
        return Err(refusal(greeting));
    }
    let mut cursor = Cursor(greeting);
    let mut read = || {
        let version = cursor.byte()?;
        cursor.text()?; // the server's version
        cursor.take(4)?; // connection id
        let first = cursor.take(8)?;
        cursor.take(1)?;
        let capabilities = u32::from(cursor.u16()?);
        // Character set, status and more capabilities: nothing there changes what we say.
        cursor.take(1 + 2 + 2)?;
        let length = usize::from(cursor.byte()?);
        cursor.take(6 + 4)?;
        let second = cursor.take(length.saturating_sub(9).max(12))?;
        Some((version, capabilities & TLS != 0, [first, second.get(..12)?].concat()))
    };
    let (version, has_tls, scramble) = read().ok_or(Fault::Malformed("a greeting that ends too soon"))?;
    if version != 10 {
        return Err(Fault::Malformed("another version of the protocol than 10"));
    }
    let scramble = scramble.try_into().map_err(|_| Fault::Malformed("a challenge of another length"))?;
    Ok((scramble, has_tls))
}

/// Asks for TLS: the beginning of a login, without anything of it.
pub(super) fn tls_request() -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    prologue(&mut out, true);
    out
}

fn prologue(out: &mut Vec<u8>, tls: bool) {
    let capabilities = CAPABILITIES | if tls { TLS } else { 0 };
    out.extend_from_slice(&capabilities.to_le_bytes());
    out.extend_from_slice(&PAYLOAD_BYTES_MAX.to_le_bytes());
    out.push(CHARSET_UTF8MB4);
    out.extend_from_slice(&[0; 23]);
}

/// The answer to a greeting.
pub(super) fn response(login: &Login<'_>, scramble: &[u8; SCRAMBLE_BYTES]) -> Vec<u8> {
    let token = token(login.password, scramble);
    let mut out = Vec::with_capacity(128);
    prologue(&mut out, login.tls);
    out.extend_from_slice(login.user.as_bytes());
    out.push(0);
    // Never more than twenty bytes.
    out.push(token.len() as u8);
    out.extend_from_slice(&token);
    out.extend_from_slice(NATIVE);
    out.push(0);
    out
}

/// The answer to a server that wants the account's own way to log in.
pub(super) fn switched(login: &Login<'_>, request: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut cursor = Cursor(request.get(1..).unwrap_or_default());
    let plugin = cursor.text().ok_or_else(|| Fault::Plugin("mysql_old_password".to_owned()))?;
    if plugin != NATIVE {
        return Err(Fault::Plugin(printable(plugin)));
    }
    let scramble = cursor.take(SCRAMBLE_BYTES).and_then(|bytes| bytes.try_into().ok());
    let scramble: [u8; SCRAMBLE_BYTES] = scramble.ok_or(Fault::Malformed("a challenge that ends too soon"))?;
    Ok(token(login.password, &scramble))
}

/// SHA1(password) XOR SHA1(scramble + SHA1(SHA1(password))); nothing for an empty password.
fn token(password: &[u8], scramble: &[u8; SCRAMBLE_BYTES]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let salted = Sha1::new().chain_update(scramble).chain_update(twice).finalize();
    once.iter().zip(salted).map(|(one, other)| one ^ other).collect()
}

/// An error packet in words; the state marker may be missing before the login.
pub(super) fn refusal(payload: &[u8]) -> Fault {
    let mut cursor = Cursor(payload.get(1..).unwrap_or_default());
    let Some(code) = cursor.u16() else { return Fault::Malformed("an error without a code") };
    if cursor.0.first() == Some(&b'#') {
        let _ = cursor.take(6);
    }
    Fault::Refused { code, message: printable(cursor.0) }
}

fn printable(text: &[u8]) -> String {
    let text = text.get(..MESSAGE_BYTES_MAX).unwrap_or(text);
    text.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' }).collect()
}
