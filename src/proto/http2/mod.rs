//! What HTTP/2 (RFC 9113) adds to the rules of HTTP/1.1, as an intermediary needs it. Frames and HPACK are the `h2`
//! crate's; here is what it leaves to its user.
//!
//! Reading order: [`request`] turns a stream's pseudo-header and fields into the head of an HTTP/1.1 request, which
//! then meets the same parser, limits and rules as any other; [`response`] takes the head of a response apart for a
//! stream; [`meter`] counts frames that cost their sender nothing, and has [`hpack`] look into trailers.

pub mod hpack;
pub mod meter;
pub mod request;
pub mod response;
