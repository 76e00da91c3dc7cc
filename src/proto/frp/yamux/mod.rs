//! The multiplexer under FRP: many streams in one connection, each with a window of its own. The server's side: streams
//! are opened by the client only. Read first: the yamux specification of hashicorp, and what frpc makes of it here.
//!
//! [`Mux`] is fed what arrives and says what it means ([`Event`]); payload stays where the caller has it. What is to be
//! sent it hands out as headers of twelve bytes; the caller puts payload behind the header of its own data.
//!
//! Four habits of frpc decide how this is done:
//! - a stream that is not acknowledged within 75 seconds ends its session, so every SYN is answered at once;
//! - a second FIN on one stream ends its session, so each stream gets exactly one;
//! - a GoAway with code 0 leaves it connected and useless, so there is none but for abuse;
//! - a connection that is not read ends its session within 40 seconds, so only windows may push back.

mod end;
mod header;
mod mux;
mod stream;

pub use end::{End, Violation};
pub use header::{HEADER_BYTES, Header, Kind, flag};
pub use mux::{Event, Limits, Mux};

/// What each side may send on a stream before any credit.
pub const INITIAL_WINDOW: u32 = 256 << 10;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
