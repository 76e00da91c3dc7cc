//! Adverts as bytes. Codec only: no sockets, no logging, no policy (RFC 9568 §5, §7.1).
//!
//! ```text
//!  0                   1                   2                   3
//! | version=3 | type=1 |     VRID      |   priority    | address count |
//! | reserve=0 |  max advertise interval (cs)  |          checksum     |
//! |                 IPv4 or IPv6 addresses (4 or 16 bytes each)       |
//! ```

use crate::params::{Centis, Priority, Vrid};
use std::net::IpAddr;

/// Address family of the carrying IP header, which decides the width of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// A decoded and checked version 3 advert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub vrid: Vrid,
    pub priority: Priority,
    pub interval: Centis,
    /// In wire order; all of the carrying family.
    pub addresses: Vec<IpAddr>,
}
