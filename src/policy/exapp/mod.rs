//! The gateway to ExApps as decisions: what AppAPI expects of HaRP, without its weaknesses.
//!
//! ```text
//!  request --> decide --> needs record --> records (one lookup for all who ask, kept, revalidated)
//!                |  '---> needs user ----> sessions
//!                |
//!                +--> forward ------------> edits (what the ExApp gets to read)
//!                +--> control ------------> control (typed commands) --> engine (which call of the container engine next)
//!                '--> refused ------------> failures (who is banned)
//! ```
//!
//! [`gateway`] is all of it as one memory, [`lookup`] the questions to Nextcloud. Everything here is told the time and what
//! others answered; `serve::exapps` is what does the asking. A deviation from HaRP is named where it is made.

pub mod control;
pub mod decide;
pub mod edits;
pub mod engine;
pub mod failures;
pub mod gateway;
pub mod lookup;
pub mod path;
pub mod pattern;
pub mod record;
pub mod records;
pub mod reply;
pub mod routes;
pub mod sessions;
pub mod tally;

/// Nobody waits longer for a lookup: it was lost.
const FLIGHT_MAX: std::time::Duration = std::time::Duration::from_secs(60);
