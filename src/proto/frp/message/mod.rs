//! The messages of FRP. Every one is a JSON object with Go's habits: keys in any case, what is missing or null is zero,
//! what is unknown is nobody's business. How they are framed depends on the version of the protocol: [`v1`], [`v2`].

mod bodies;
mod json;
pub mod v1;
pub mod v2;

pub use bodies::{
    CloseProxy, Hidden, Login, LoginResp, Metas, NewProxy, NewProxyResp, NewVisitorConn, NewVisitorConnResp,
    NewWorkConn, Nothing, Ping, Pong, StartWorkConn,
};
use std::fmt;

/// More of them than anybody needs; a message's length bounds them anyway.
pub const METAS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Login(Box<Login>),
    LoginResp(LoginResp),
    NewProxy(Box<NewProxy>),
    NewProxyResp(NewProxyResp),
    CloseProxy(CloseProxy),
    NewWorkConn(NewWorkConn),
    ReqWorkConn,
    StartWorkConn(StartWorkConn),
    Ping(Ping),
    Pong(Pong),
    NewVisitorConn(NewVisitorConn),
    NewVisitorConnResp(NewVisitorConnResp),
    /// One of a proxy type that is not served here. Its content was not looked at.
    Other(Kind),
}

/// Which message, whatever its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Login,
    LoginResp,
    NewProxy,
    NewProxyResp,
    CloseProxy,
    NewWorkConn,
    ReqWorkConn,
    StartWorkConn,
    NewVisitorConn,
    NewVisitorConnResp,
    Ping,
    Pong,
    UdpPacket,
    NatHoleVisitor,
    NatHoleClient,
    NatHoleResp,
    NatHoleSid,
    NatHoleReport,
}

/// Why bytes are no message. The connection is over: there is no telling where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageError {
    /// No message has this type byte or number.
    Kind(u16),
    /// Negative, or longer than any message may be.
    Length(i64),
    /// Flags that no version defines yet.
    Flags(u16),
    /// A frame that has no place here.
    Frame(u16),
    /// No JSON object, or a member of the wrong type.
    Json(String),
    TooManyMetas,
}

impl Message {
    pub fn kind(&self) -> Kind {
        match self {
            Message::Login(_) => Kind::Login,
            Message::LoginResp(_) => Kind::LoginResp,
            Message::NewProxy(_) => Kind::NewProxy,
            Message::NewProxyResp(_) => Kind::NewProxyResp,
            Message::CloseProxy(_) => Kind::CloseProxy,
            Message::NewWorkConn(_) => Kind::NewWorkConn,
            Message::ReqWorkConn => Kind::ReqWorkConn,
            Message::StartWorkConn(_) => Kind::StartWorkConn,
            Message::Ping(_) => Kind::Ping,
            Message::Pong(_) => Kind::Pong,
            Message::NewVisitorConn(_) => Kind::NewVisitorConn,
            Message::NewVisitorConnResp(_) => Kind::NewVisitorConnResp,
            Message::Other(kind) => *kind,
        }
    }

    /// The message of this kind in these bytes.
    fn parse(kind: Kind, bytes: &[u8]) -> Result<Message, MessageError> {
        let message = match kind {
            Kind::Login => Message::Login(json::read(bytes)?),
            Kind::LoginResp => Message::LoginResp(json::read(bytes)?),
            Kind::NewProxy => Message::NewProxy(json::read(bytes)?),
            Kind::NewProxyResp => Message::NewProxyResp(json::read(bytes)?),
            Kind::CloseProxy => Message::CloseProxy(json::read(bytes)?),
            Kind::NewWorkConn => Message::NewWorkConn(json::read(bytes)?),
            Kind::ReqWorkConn => json::read::<serde::de::IgnoredAny>(bytes).map(|_| Message::ReqWorkConn)?,
            Kind::StartWorkConn => Message::StartWorkConn(json::read(bytes)?),
            Kind::Ping => Message::Ping(json::read(bytes)?),
            Kind::Pong => Message::Pong(json::read(bytes)?),
            Kind::NewVisitorConn => Message::NewVisitorConn(json::read(bytes)?),
            Kind::NewVisitorConnResp => Message::NewVisitorConnResp(json::read(bytes)?),
            Kind::UdpPacket
            | Kind::NatHoleVisitor
            | Kind::NatHoleClient
            | Kind::NatHoleResp
            | Kind::NatHoleSid
            | Kind::NatHoleReport => Message::Other(kind),
        };
        let counts = match &message {
            Message::Login(login) => [login.metas.len(), 0],
            Message::NewProxy(proxy) => [proxy.metas.len(), proxy.annotations.len()],
            _ => [0, 0],
        };
        if counts.iter().any(|count| *count > METAS_MAX) {
            return Err(MessageError::TooManyMetas);
        }
        Ok(message)
    }

    /// Appends its JSON.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Message::Login(body) => json::write(body, out),
            Message::LoginResp(body) => json::write(body, out),
            Message::NewProxy(body) => json::write(body, out),
            Message::NewProxyResp(body) => json::write(body, out),
            Message::CloseProxy(body) => json::write(body, out),
            Message::NewWorkConn(body) => json::write(body, out),
            Message::StartWorkConn(body) => json::write(body, out),
            Message::Ping(body) => json::write(body, out),
            Message::Pong(body) => json::write(body, out),
            Message::NewVisitorConn(body) => json::write(body, out),
            Message::NewVisitorConnResp(body) => json::write(body, out),
            Message::ReqWorkConn | Message::Other(_) => out.extend_from_slice(b"{}"),
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Kind(kind) => write!(f, "no message has type {kind}; are the tokens the same on both sides?"),
            MessageError::Length(length) => write!(f, "a message of {length} bytes"),
            MessageError::Flags(flags) => write!(f, "flags {flags:#x}, which are not defined"),
            MessageError::Frame(kind) => write!(f, "a frame of type {kind} where none may be"),
            MessageError::Json(problem) => write!(f, "not the JSON of its message: {problem}"),
            MessageError::TooManyMetas => write!(f, "more than {METAS_MAX} metas"),
        }
    }
}

impl std::error::Error for MessageError {}

#[cfg(test)]
mod tests;
