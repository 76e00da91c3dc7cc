//! How a stream begins, and the control stream's messages both ways: in the clear up to the answer to the login, then
//! ciphered. Every byte of a control stream passes a [`Channel`]; other streams leave theirs after the first message.

use super::aead::{self, AeadError, Algorithm, Direction};
use super::cipher::{self, CipherError};
use super::message::{LoginResp, Message, MessageError, v1, v2};
use std::fmt;

/// Which framing a stream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// A shared token of both sides, with what derives from it.
#[derive(Clone)]
pub struct Token {
    bytes: Vec<u8>,
    key: cipher::Key,
}

impl Token {
    pub fn new(token: &[u8]) -> Token {
        Token { bytes: token.to_vec(), key: cipher::Key::derive(token) }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For streams that are encrypted in version 1's way, in either version.
    pub fn key(&self) -> &cipher::Key {
        &self.key
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&mut self.bytes);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Random bytes that one accepted login needs.
#[derive(Clone, Copy)]
pub struct Entropy {
    pub nonce: [u8; 24],
    pub random: [u8; 32],
}

/// Why a stream is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelError {
    Message(MessageError),
    Aead(AeadError),
    Cipher(CipherError),
    /// Bytes that should be version 2's magic and are not.
    Magic,
    /// The hello of version 2 is missing, or it is the second one.
    Hello,
    /// No cipher that both sides know.
    Algorithm,
    /// More bytes after the login, before its answer.
    Early,
}

/// What the bytes between the two sides are.
enum Guard {
    Clear,
    Cfb { open: Box<cipher::Opener>, seal: Box<cipher::Sealer> },
    Aead { open: Box<aead::Opener>, seal: Box<aead::Sealer> },
}

/// One stream's messages, from its first byte.
pub struct Channel {
    /// Unknown before the first bytes.
    version: Option<Version>,
    /// The client's hello of version 2, as it came.
    hello: Option<Vec<u8>>,
    /// Decrypted, not read yet: less than a message and what was handed in last.
    inbound: Vec<u8>,
    guard: Guard,
}

impl Default for Channel {
    fn default() -> Channel {
        Channel { version: None, hello: None, inbound: Vec::new(), guard: Guard::Clear }
    }
}

impl Channel {
    /// Takes bytes of the client. Read all messages with [`Channel::next`] before the next ones.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        match &mut self.guard {
            Guard::Clear => self.inbound.extend_from_slice(bytes),
            Guard::Cfb { open, .. } => open.open(bytes, &mut self.inbound).map_err(ChannelError::Cipher)?,
            Guard::Aead { open, .. } => open.open(bytes, &mut self.inbound).map_err(ChannelError::Aead)?,
        }
        Ok(())
    }

    /// The next complete message.
    #[allow(clippy::should_implement_trait)] // it can fail, and ends only for now
    pub fn next(&mut self) -> Result<Option<Message>, ChannelError> {
        loop {
            let version = match self.version {
                Some(version) => version,
                None => match self.begin()? {
                    Some(version) => version,
                    None => return Ok(None),
                },
            };
            if version == Version::V1 {
                let Some((message, used)) = v1::decode(&self.inbound).map_err(ChannelError::Message)? else {
                    return Ok(None);
                };
                self.inbound.drain(..used);
                return Ok(Some(message));
            }
            let Some((frame, used)) = v2::decode(&self.inbound).map_err(ChannelError::Message)? else {
                return Ok(None);
            };
            match frame {
                v2::Frame::Message(message) => {
                    self.inbound.drain(..used);
                    return Ok(Some(message));
                }
                v2::Frame::ClientHello(_) if self.hello.is_some() => return Err(ChannelError::Hello),
                v2::Frame::ClientHello(payload) => self.hello = Some(payload.to_vec()),
            }
            self.inbound.drain(..used);
        }
    }

    /// Which version the stream speaks, once that is known.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Appends a message to what is to be sent.
    pub fn write(&mut self, message: &Message, out: &mut Vec<u8>) -> Result<(), ChannelError> {
        let mut clear = Vec::new();
        match self.version {
            Some(Version::V2) => v2::encode(message, &mut clear),
            _ => v1::encode(message, &mut clear),
        }
        match &mut self.guard {
            Guard::Clear => out.append(&mut clear),
            Guard::Cfb { seal, .. } => seal.seal(&clear, out).map_err(ChannelError::Cipher)?,
            Guard::Aead { seal, .. } => seal.seal(&clear, out).map_err(ChannelError::Aead)?,
        }
        Ok(())
    }

    /// Appends the answer to a login that is accepted. Everything after it is ciphered, both ways.
    pub fn accept(
        &mut self,
        answer: LoginResp,
        token: &Token,
        entropy: &Entropy,
        out: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        if !self.inbound.is_empty() {
            return Err(ChannelError::Early);
        }
        let guard = match self.version {
            Some(Version::V2) => self.agree(token, entropy, out)?,
            _ => {
                let (iv, _) = entropy.nonce.split_first_chunk().ok_or(ChannelError::Algorithm)?;
                let seal = Box::new(cipher::Sealer::new(token.key(), *iv).map_err(ChannelError::Cipher)?);
                Guard::Cfb { open: Box::new(cipher::Opener::new(token.key())), seal }
            }
        };
        self.write(&Message::LoginResp(answer), out)?;
        self.guard = guard;
        Ok(())
    }

    /// Appends the answer to a login that is refused; then the stream should end.
    pub fn refuse(&mut self, answer: LoginResp, entropy: &Entropy, out: &mut Vec<u8>) -> Result<(), ChannelError> {
        if self.version == Some(Version::V2) {
            self.agree(&Token::new(b""), entropy, out)?;
        }
        self.write(&Message::LoginResp(answer), out)
    }

    /// What came behind the first message of a stream that is no control stream: payload already.
    pub fn into_rest(self) -> Vec<u8> {
        self.inbound
    }

    /// Decides on the version; the magic is used up.
    fn begin(&mut self) -> Result<Option<Version>, ChannelError> {
        let Some(first) = self.inbound.first() else { return Ok(None) };
        if *first == v2::MAGIC[0] {
            let have = self.inbound.len().min(v2::MAGIC.len());
            if self.inbound.get(..have) != v2::MAGIC.get(..have) {
                return Err(ChannelError::Magic);
            }
            if have < v2::MAGIC.len() {
                return Ok(None);
            }
            self.inbound.drain(..have);
            self.version = Some(Version::V2);
        } else {
            self.version = Some(Version::V1);
        }
        Ok(self.version)
    }

    /// The server's hello of version 2, and the ciphers that follow from both.
    fn agree(&mut self, token: &Token, entropy: &Entropy, out: &mut Vec<u8>) -> Result<Guard, ChannelError> {
        let client = self.hello.take().ok_or(ChannelError::Hello)?;
        let hello = v2::ClientHello::parse(&client).map_err(ChannelError::Message)?;
        let algorithm =
            Algorithm::choose(hello.algorithms.iter().map(String::as_str)).ok_or(ChannelError::Algorithm)?;
        let server = v2::server_hello(algorithm.name(), &entropy.random);
        v2::encode_server_hello(&server, out);
        let transcript = aead::transcript(&client, &server);
        let key = |direction| aead::Key::derive(algorithm, token.bytes(), &transcript, direction);
        let open = key(Direction::ClientToServer).map_err(ChannelError::Aead)?;
        let seal = key(Direction::ServerToClient).map_err(ChannelError::Aead)?;
        Ok(Guard::Aead {
            open: Box::new(aead::Opener::new(open)),
            seal: Box::new(aead::Sealer::new(seal, entropy.nonce)),
        })
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Message(error) => error.fmt(f),
            ChannelError::Aead(error) => error.fmt(f),
            ChannelError::Cipher(error) => error.fmt(f),
            ChannelError::Magic => f.write_str("neither version 1 nor version 2 of the protocol"),
            ChannelError::Hello => f.write_str("a login of version 2 without its hello, or with two"),
            ChannelError::Algorithm => f.write_str("no cipher that both sides know"),
            ChannelError::Early => f.write_str("bytes after the login, before its answer"),
        }
    }
}

impl std::error::Error for ChannelError {}

#[cfg(test)]
mod tests;
