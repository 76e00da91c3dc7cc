//! FRP as frpc speaks it to its server, from the multiplexer up to the control session. No socket, clock or randomness:
//! time is an argument (since any fixed moment), random bytes are too.
//!
//! ```text
//! TLS or TCP -> yamux -> stream -> opening: Login, NewWorkConn or NewVisitorConn
//!                                  | Login:       `channel` (clear, then ciphered) -> `session`
//!                                  ' NewWorkConn: waits in the session's pool, StartWorkConn, then plain bytes,
//!                                                 if wanted inside `snappy`, inside `cipher`
//! ```
//!
//! Without the multiplexer each of these streams is a connection of its own.

pub mod aead;
pub mod channel;
pub mod cipher;
pub mod identity;
pub mod message;
pub mod registry;
pub mod session;
pub mod snappy;
mod token;
pub mod yamux;

/// The release of frps whose behaviour clients find here.
pub const VERSION: &str = "0.61.1";

#[cfg(test)]
mod vectors;
