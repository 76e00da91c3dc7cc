//! Adverts as bytes. Codec only: no sockets, no logging, no policy (RFC 9568 §5, §7.1; version 2: RFC 3768 §5, and
//! the passwords of RFC 2338 §5.3.6 as keepalived still sends them).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |version| type=1|     VRID      |   priority    | address count |
//! +-------+-------+---------------+---------------+---------------+
//! | rsvd=0|  max advertise interval (cs)          |   checksum    |  version 3 (4 + 12 bits)
//! |  auth type    |  interval (s) |               |   checksum    |  version 2 (8 + 8 bits)
//! +-------+---------------------------------------+---------------+
//! |             IPv4 or IPv6 addresses (4 or 16 bytes each)       |
//! +---------------------------------------------------------------+
//! |          8 bytes of authentication data (version 2)           |
//! +---------------------------------------------------------------+
//! |          28 bytes of HMAC trailer (if configured)             |  see `authentication`
//! +---------------------------------------------------------------+
//! ```
//!
//! Received bytes pass three steps, each of which can be the last: [`ipv4()`] (IPv4 only: the IP header), [`vrid`] (is
//! it ours at all), [`Dialect::decode`] (everything else, in the order of the variants of [`DecodeError`]).
//!
//! Deviation: an IPv6 advert whose first address is not link-local is accepted (RFC 9568 §5.2.9 demands it), because
//! keepalived sends such adverts unless told to be strict; test `an_ipv6_list_may_start_with_a_global_address`.

mod checksum;
mod dialect;
mod ipv4;
#[cfg(test)]
mod tests;

pub(crate) use checksum::{fold, pseudo_header_sum, sum};
pub use dialect::{Checked, Dialect, Password, Peer, Peers, Received, Wire};
pub use ipv4::ipv4;

use crate::error::DecodeError;
use crate::params::{Centis, Priority, Vrid};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol and next header number.
pub const PROTOCOL: u8 = 112;
/// Where adverts go (RFC 9568 §5.1.1.2, §5.1.2.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// A decoded and checked advert of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    pub vrid: Vrid,
    pub priority: Priority,
    /// Version 2: whole seconds, and always our own (others are refused).
    pub interval: Centis,
    /// In wire order; all of the carrying family, 1..=255 of them.
    pub addresses: Vec<IpAddr>,
}

impl Advert {
    /// The version 3 message, with its checksum in the given form for these addresses of the IP header.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, form: Checksum) -> Vec<u8> {
        Dialect::default().encode(self, source, destination, form)
    }
}

/// Checks a multicast version 3 message without authentication; [`Dialect::decode`] of the default dialect.
pub fn decode(message: &[u8], carrier: &Carrier) -> Result<(Advert, Checksum), DecodeError> {
    Dialect::default().decode(message, carrier).map(|received| (received.advert, received.checksum))
}

/// The VRID of a message that is long enough to have one. Messages for a VRID nobody here uses are normal on a LAN
/// and need no further look.
pub fn vrid(message: &[u8]) -> Result<Vrid, DecodeError> {
    let Some(([_, vrid, ..], _)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated { have: message.len() });
    };
    Vrid::new(*vrid).ok_or(DecodeError::Vrid { got: *vrid })
}

/// What the IP header around a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// What the checksum of a version 3 advert over IPv4 covers. IPv6 always includes its pseudo-header, version 2 never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Checksum {
    /// Pseudo-header and message: RFC 5798 as widely read; default of keepalived and FRR, hence ours.
    #[default]
    Pseudo,
    /// The message alone: RFC 9568 §5.2.8.
    Message,
}

/// Which form of checksum to send: always the same, or what the peer was last heard to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumChoice {
    Always(Checksum),
    /// The form last accepted from anybody; [`Checksum::Pseudo`] until then.
    Mirror {
        heard: Checksum,
    },
}

impl ChecksumChoice {
    /// `checksum = "auto"` before anything was heard.
    pub const AUTO: ChecksumChoice = ChecksumChoice::Mirror { heard: Checksum::Pseudo };

    /// Takes the form of an accepted advert into account.
    pub fn hear(&mut self, form: Checksum) {
        match self {
            ChecksumChoice::Always(_) => {}
            ChecksumChoice::Mirror { heard } => *heard = form,
        }
    }

    pub const fn to_send(self) -> Checksum {
        match self {
            ChecksumChoice::Always(form) | ChecksumChoice::Mirror { heard: form } => form,
        }
    }
}

/// Address family of the carrying IP header, which decides the width of the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The multicast group adverts of this family are sent to.
    pub const fn group(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(GROUP_V4),
            Family::V6 => IpAddr::V6(GROUP_V6),
        }
    }

    const fn address_bytes(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

const HEADER_BYTES: usize = 8;
