//! Version 1, what frpc speaks unless told otherwise.
//!
//! ```text
//! | type (8) | length (64, signed) | JSON (length) |
//! ```

use super::{Kind, Message, MessageError};

/// Of the JSON; both sides keep to it.
pub const BODY_BYTES_MAX: usize = 10_240;

const HEAD_BYTES: usize = 9;

/// The first message and how many bytes it took; `None` while it is not complete.
pub fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>, MessageError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let kind = kind(first).ok_or(MessageError::Kind(first.into()))?;
    let Some(length) = bytes.get(1..).and_then(|rest| rest.first_chunk::<8>()) else { return Ok(None) };
    let length = i64::from_be_bytes(*length);
    let body = usize::try_from(length).ok().filter(|length| *length <= BODY_BYTES_MAX);
    let end = HEAD_BYTES + body.ok_or(MessageError::Length(length))?;
    let Some(body) = bytes.get(HEAD_BYTES..end) else { return Ok(None) };
    Ok(Some((Message::parse(kind, body)?, end)))
}

/// Appends the message.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    out.push(byte(message.kind()));
    let at = out.len();
    out.extend_from_slice(&[0; 8]);
    message.write(out);
    let length = (out.len() - at - 8) as u64;
    if let Some(room) = out.get_mut(at..at + 8) {
        room.copy_from_slice(&length.to_be_bytes());
    }
}

fn byte(kind: Kind) -> u8 {
    match kind {
        Kind::Login => b'o',
        Kind::LoginResp => b'1',
        Kind::NewProxy => b'p',
        Kind::NewProxyResp => b'2',
        Kind::CloseProxy => b'c',
        Kind::NewWorkConn => b'w',
        Kind::ReqWorkConn => b'r',
        Kind::StartWorkConn => b's',
        Kind::NewVisitorConn => b'v',
        Kind::NewVisitorConnResp => b'3',
        Kind::Ping => b'h',
        Kind::Pong => b'4',
        Kind::UdpPacket => b'u',
        Kind::NatHoleVisitor => b'i',
        Kind::NatHoleClient => b'n',
        Kind::NatHoleResp => b'm',
        Kind::NatHoleSid => b'5',
        Kind::NatHoleReport => b'6',
    }
}

fn kind(byte_: u8) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| byte(*kind) == byte_)
}

impl Kind {
    /// In the order of their numbers in version 2, which begin with 1.
    pub(super) const ALL: [Kind; 18] = [
        Kind::Login,
        Kind::LoginResp,
        Kind::NewProxy,
        Kind::NewProxyResp,
        Kind::CloseProxy,
        Kind::NewWorkConn,
        Kind::ReqWorkConn,
        Kind::StartWorkConn,
        Kind::NewVisitorConn,
        Kind::NewVisitorConnResp,
        Kind::Ping,
        Kind::Pong,
        Kind::UdpPacket,
        Kind::NatHoleVisitor,
        Kind::NatHoleClient,
        Kind::NatHoleResp,
        Kind::NatHoleSid,
        Kind::NatHoleReport,
    ];
}
