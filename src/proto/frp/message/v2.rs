//! Version 2, which clients from 0.69 on can be told to speak. Every stream begins with [`MAGIC`], then frames:
//!
//! ```text
//! | type (16) | flags (16) = 0 | length (32) | payload (length) |
//! ```
//!
//! A control stream begins with a hello of each side, in which they agree on the cipher ([`ClientHello`]).

use super::{Kind, Message, MessageError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

pub const MAGIC: [u8; 7] = *b"FRP\0\x02\r\n";

/// Of a frame's payload.
pub const PAYLOAD_BYTES_MAX: usize = 65_536;

const HEAD_BYTES: usize = 8;
const CLIENT_HELLO: u16 = 1;
const SERVER_HELLO: u16 = 2;
const MESSAGE: u16 = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Its payload, which both sides hash as it is.
    ClientHello(&'a [u8]),
    Message(Message),
}

/// What a client offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// Ciphers in its order of preference.
    pub algorithms: Vec<String>,
    pub client_random: [u8; 32],
}

/// The first frame and how many bytes it took; `None` while it is not complete.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, MessageError> {
    let Some(&[k0, k1, f0, f1, l0, l1, l2, l3]) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let (kind, flags) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([f0, f1]));
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if kind != CLIENT_HELLO && kind != MESSAGE {
        return Err(MessageError::Frame(kind));
    }
    if flags != 0 {
        return Err(MessageError::Flags(flags));
    }
    if length as usize > PAYLOAD_BYTES_MAX {
        return Err(MessageError::Length(length.into()));
    }
    let end = HEAD_BYTES + length as usize;
    let Some(payload) = bytes.get(HEAD_BYTES..end) else { return Ok(None) };
    if kind == CLIENT_HELLO {
        return Ok(Some((Frame::ClientHello(payload), end)));
    }
    let Some((number, body)) = payload.split_first_chunk::<2>() else {
        return Err(MessageError::Length(length.into()));
    };
    let number = u16::from_be_bytes(*number);
    let kind = usize::from(number).checked_sub(1).and_then(|at| Kind::ALL.get(at));
    let message = Message::parse(*kind.ok_or(MessageError::Kind(number))?, body)?;
    Ok(Some((Frame::Message(message), end)))
}

/// Appends the message.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    let number = Kind::ALL.iter().position(|kind| *kind == message.kind()).map_or(0, |at| at as u16 + 1);
    let mut payload = number.to_be_bytes().to_vec();
    message.write(&mut payload);
    frame(MESSAGE, &payload, out);
}

/// Appends the server's hello with this payload.
pub fn encode_server_hello(payload: &[u8], out: &mut Vec<u8>) {
    frame(SERVER_HELLO, payload, out);
}

/// The payload of the server's hello that chooses `algorithm`.
pub fn server_hello(algorithm: &str, server_random: &[u8; 32]) -> Vec<u8> {
    let random = STANDARD.encode(server_random);
    let crypto = format!(r#"{{"algorithm":"{algorithm}","serverRandom":"{random}"}}"#);
    format!(r#"{{"selected":{{"message":{{"codec":"json"}},"crypto":{crypto}}}}}"#).into_bytes()
}

fn frame(kind: u16, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

impl ClientHello {
    pub fn parse(payload: &[u8]) -> Result<ClientHello, MessageError> {
        let problem = |text: &str| MessageError::Json(text.to_owned());
        let hello: Hello = super::json::read(payload)?;
        let Capabilities { message, crypto } = hello.capabilities;
        if !message.codecs.iter().any(|codec| codec == "json") {
            return Err(problem("a client that does not speak JSON"));
        }
        let random = STANDARD.decode(&crypto.client_random).ok().and_then(|random| random.try_into().ok());
        let client_random = random.ok_or_else(|| problem("clientRandom is not 32 bytes of base64"))?;
        Ok(ClientHello { algorithms: crypto.algorithms, client_random })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hello {
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    message: Codecs,
    crypto: Crypto,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Codecs {
    codecs: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Crypto {
    algorithms: Vec<String>,
    #[serde(rename = "clientRandom")]
    client_random: String,
}
