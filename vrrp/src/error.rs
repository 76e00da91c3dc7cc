//! Why received bytes are refused. What the operating system refuses is [`crate::link::LinkError`].

use std::fmt;
use std::net::IpAddr;

/// Why received bytes are not an advert we may act on. In the order of the checks; the first that fails is reported.
///
/// Hostile or foreign input, never our own fault: a counter and a debug line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than an IP header and the first eight of a VRRP message.
    Truncated {
        have: usize,
    },
    /// Not IPv4, or a header or total length that contradicts the bytes.
    Ipv4Header,
    /// A piece of a datagram; adverts are never fragmented.
    Fragment,
    /// Another IP protocol than 112.
    Protocol {
        got: u8,
    },
    /// VRID 0, or one that nobody here uses (the latter decided by the caller).
    Vrid {
        got: u8,
    },
    /// Header, address count and message length disagree.
    Length {
        expected: usize,
        actual: usize,
    },
    /// Crossed a router: multicast adverts arrive with 255 (RFC 9568 §5.1.1.3).
    Ttl {
        got: u8,
    },
    Version {
        got: u8,
    },
    /// Version 2: authenticated otherwise than configured (RFC 2338 §5.3.6).
    AuthType {
        got: u8,
    },
    /// Version 2: another password.
    Password,
    /// Version 2: another interval than ours. Both sides will be Active until it is corrected.
    IntervalMismatch {
        got_s: u8,
    },
    /// Only type 1 exists.
    Type {
        got: u8,
    },
    /// Neither with nor without pseudo-header.
    Checksum,
    /// Zero centiseconds would make every Backup take over at once (erratum 8301).
    Interval,
    /// Not sent to the VRRP group, or multicast where unicast is spoken.
    Destination {
        got: IpAddr,
    },
    /// No address at all (erratum 8299).
    Count,
    /// Not a node's address: unspecified, loopback, multicast, broadcast; IPv6: not link-local. Unicast: not a peer.
    Source {
        got: IpAddr,
    },
}

impl DecodeError {
    /// The matching counter of RFC 6527 without its `vrrpv3` prefix, or Lyre's own name where there is none.
    pub const fn counter(&self) -> &'static str {
        match self {
            DecodeError::Truncated { .. } | DecodeError::Ipv4Header | DecodeError::Length { .. } => {
                "PacketLengthErrors"
            }
            DecodeError::Fragment => "fragments",
            DecodeError::Protocol { .. } => "protocol_errors",
            DecodeError::Vrid { .. } => "RouterVrIdErrors",
            DecodeError::Ttl { .. } => "StatisticsIpTtlErrors",
            DecodeError::Version { .. } => "RouterVersionErrors",
            // RFC 2787 (version 2)
            DecodeError::AuthType { .. } => "StatsInvalidAuthType",
            DecodeError::Password => "StatsAuthFailures",
            DecodeError::Type { .. } => "StatisticsRcvdInvalidTypePackets",
            DecodeError::Checksum => "RouterChecksumErrors",
            DecodeError::Interval | DecodeError::IntervalMismatch { .. } => "StatisticsAdvIntervalErrors",
            DecodeError::Destination { .. } | DecodeError::Count => "StatisticsAddressListErrors",
            DecodeError::Source { .. } => "source_errors",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated { have } => write!(f, "only {have} bytes"),
            DecodeError::Ipv4Header => f.write_str("malformed IPv4 header"),
            DecodeError::Fragment => f.write_str("IPv4 fragment"),
            DecodeError::Protocol { got } => write!(f, "IP protocol {got}, not 112"),
            DecodeError::Vrid { got } => write!(f, "VRID {got} is not ours"),
            DecodeError::Length { expected, actual } => write!(f, "{actual} bytes where {expected} belong"),
            DecodeError::Ttl { got } => write!(f, "TTL {got}, not 255"),
            DecodeError::Version { got } => write!(f, "version {got}"),
            DecodeError::AuthType { got } => write!(f, "authentication type {got}"),
            DecodeError::Password => f.write_str("wrong password"),
            DecodeError::IntervalMismatch { got_s } => write!(f, "advert interval {got_s} s is not ours"),
            DecodeError::Type { got } => write!(f, "type {got}"),
            DecodeError::Checksum => f.write_str("wrong checksum"),
            DecodeError::Interval => f.write_str("advert interval 0"),
            DecodeError::Destination { got } => write!(f, "sent to {got}, not to the VRRP group"),
            DecodeError::Count => f.write_str("no addresses"),
            DecodeError::Source { got } => write!(f, "source {got} is not a node's address"),
        }
    }
}

impl std::error::Error for DecodeError {}
