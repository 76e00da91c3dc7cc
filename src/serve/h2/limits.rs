//! Every bound of an HTTP/2 connection in one place. Frames that cost nothing to send have theirs in
//! [`meter`](crate::proto::http2::meter).

use std::time::Duration;

/// Open streams, as announced. A page of previews is two dozen requests at once; browsers are content with 100.
pub const STREAMS_MAX: u32 = 100;

/// Requests at work. A stream the client resets leaves its place to the next one at once, its request at a server only
/// when that is over: beyond this, streams are refused (RFC 9113 §8.7 lets the client try again).
pub const REQUESTS_MAX: u32 = 2 * STREAMS_MAX;

/// Sum of names and values plus 32 each (RFC 9113 §6.5.2): room for a head of 64 KiB with 128 fields, so that what is
/// too large is mostly refused by the rules for all requests and not by the frame layer's.
pub const HEADER_LIST_BYTES_MAX: u32 = 72 * 1024;

/// Response bytes of one stream that wait for the client's window or the socket: one piece on its way, and the next.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Response bytes handed to the frame layer at a time: with their frames' headers they fill one batch of TLS records.
pub const PIECE_BYTES_MAX: u64 = 63 * 1024;

/// Requests the client may give up before they were answered, a window of ten seconds (CVE-2023-44487). Closing a page
/// of previews takes back fewer.
pub const EARLY_RESETS_MAX: u32 = 100;

/// Resets of ours a connection may provoke by breaking rules of streams (CVE-2025-8671).
pub const PROVOKED_RESETS_MAX: usize = 100;

/// A connection this old, give or take a tenth, is asked to come anew: certificates, addresses and balance change.
pub const AGE_MAX: Duration = Duration::from_secs(3600);

/// What is left to say once the last stream ended, or a budget was overdrawn.
pub const PARTING_TIME_MAX: Duration = Duration::from_secs(2);
