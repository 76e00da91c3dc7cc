//! The PROXY protocol, versions 1 (text) and 2 (binary): how a balancer of connections says who the client is, once,
//! before the first byte of the connection. Read first: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
//!
//! ```text
//! v1  PROXY TCP4 192.0.2.7 198.51.100.1 51234 443\r\n        at most 107 bytes
//!
//! v2  +-----------------------------------------------+
//!     | 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A           |  signature
//!     +-----------+-----------+-----------------------+
//!     | version 2 | family    | length, 16 bits,      |
//!     | command   | transport | of all that follows   |
//!     +-----------+-----------+-----------------------+
//!     | source address, destination address           |  4 + 4, 16 + 16 or 108 + 108 bytes
//!     | source port, destination port                 |  2 + 2 bytes, none for Unix
//!     | type-length-values                            |  skipped
//!     +-----------------------------------------------+
//! ```
//!
//! Strict: nothing is guessed, and whatever is not a header is an error, so that a client's own bytes never pass for
//! one. On the strict side of the specification: a header is at most [`HEADER_BYTES_MAX`] long.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Longest line of version 1, with its CRLF: two IPv6 addresses and two ports of full length.
pub const LINE_BYTES_MAX: usize = 107;

/// Longest header accepted. The specification allows 64 KiB of extensions; real ones (TLS facts, cloud endpoints) stay
/// in the hundreds, and this is memory a stranger's bytes may take before anything is known of them.
pub const HEADER_BYTES_MAX: usize = 4096;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;

/// Which form to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// What a header says of the connection behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The sender speaks for itself, as for a health check (v2 LOCAL).
    Local,
    /// A client without an address that means anything here: v1 UNKNOWN, v2 UNSPEC, Unix or datagrams.
    Unknown,
    Tcp {
        source: SocketAddr,
        destination: SocketAddr,
    },
}

impl ProxyHeader {
    /// The client; `None` where the connection's own peer is to be used.
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            ProxyHeader::Tcp { source, .. } => Some(*source),
            ProxyHeader::Local | ProxyHeader::Unknown => None,
        }
    }

    /// Where the client connected to.
    pub fn destination(&self) -> Option<SocketAddr> {
        match self {
            ProxyHeader::Tcp { destination, .. } => Some(*destination),
            ProxyHeader::Local | ProxyHeader::Unknown => None,
        }
    }
}

/// Outcome of a look at the first bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// So far it is the beginning of a header.
    NeedMore,
    /// What is behind `consumed` belongs to the connection.
    Done { header: ProxyHeader, consumed: usize },
}

/// The bytes are no PROXY header; nothing of the connection may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyHeaderError {
    /// Neither `PROXY ` nor the signature: most likely somebody who does not speak it.
    Absent,
    LineTooLong,
    Line,
    Address,
    Port,
    Version,
    Command,
    Family,
    TooShort,
    TooLong,
}

impl ProxyHeaderError {
    pub const ALL: [ProxyHeaderError; 10] = [
        ProxyHeaderError::Absent,
        ProxyHeaderError::LineTooLong,
        ProxyHeaderError::Line,
        ProxyHeaderError::Address,
        ProxyHeaderError::Port,
        ProxyHeaderError::Version,
        ProxyHeaderError::Command,
        ProxyHeaderError::Family,
        ProxyHeaderError::TooShort,
        ProxyHeaderError::TooLong,
    ];

    /// Stable lower-case word for logs.
    pub fn reason(self) -> &'static str {
        match self {
            ProxyHeaderError::Absent => "absent",
            ProxyHeaderError::LineTooLong => "line_too_long",
            ProxyHeaderError::Line => "line",
            ProxyHeaderError::Address => "address",
            ProxyHeaderError::Port => "port",
            ProxyHeaderError::Version => "version",
            ProxyHeaderError::Command => "command",
            ProxyHeaderError::Family => "family",
            ProxyHeaderError::TooShort => "too_short",
            ProxyHeaderError::TooLong => "too_long",
        }
    }
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyHeaderError::Absent => "the connection does not begin with a PROXY header",
            ProxyHeaderError::LineTooLong => "PROXY line longer than 107 bytes",
            ProxyHeaderError::Line => "PROXY line is not the five words of version 1 with single spaces",
            ProxyHeaderError::Address => "address in the PROXY line is none of its family",
            ProxyHeaderError::Port => "port in the PROXY line is not 0..65535",
            ProxyHeaderError::Version => "PROXY header of a version other than 1 and 2",
            ProxyHeaderError::Command => "command of the PROXY header is neither LOCAL nor PROXY",
            ProxyHeaderError::Family => "address family or transport of the PROXY header is unknown",
            ProxyHeaderError::TooShort => "PROXY header shorter than the addresses of its family",
            ProxyHeaderError::TooLong => "PROXY header longer than 4096 bytes",
        })
    }
}

impl std::error::Error for ProxyHeaderError {}

/// Looks for a header at the start of `bytes`. Says as early as the bytes allow that there is none.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    match bytes.first() {
        None => Ok(Parsed::NeedMore),
        Some(b'P') => line(bytes),
        Some(b'\r') => binary(bytes),
        Some(_) => Err(ProxyHeaderError::Absent),
    }
}

/// How many bytes may be read behind `bytes`, the beginning of a header ([`Parsed::NeedMore`]), without reading any that
/// belong to the connection. At least 1.
pub fn bytes_missing(bytes: &[u8]) -> usize {
    const SHORTEST: usize = b"PROXY UNKNOWN\r\n".len();
    let missing = match bytes.first() {
        Some(b'\r') if bytes.len() < FIXED_BYTES => FIXED_BYTES - bytes.len(),
        Some(b'\r') => match bytes.get(14..FIXED_BYTES) {
            Some([high, low]) => {
                (FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]))).saturating_sub(bytes.len())
            }
            _ => 1,
        },
        _ if bytes.len() < SHORTEST => SHORTEST - bytes.len(),
        _ if bytes.last() == Some(&b'\r') => 1,
        _ if bytes.get(6..13) == Some(b"UNKNOWN") => 2,
        // Each word that is to come is a space and a character at least; then CRLF.
        _ => 2 * 5usize.saturating_sub(bytes.iter().filter(|byte| **byte == b' ').count()) + 2,
    };
    missing.max(1)
}

/// Appends a header for a connection from `source` to `destination`, or one that says nothing of them. The IPv4
/// address of a mixed pair is written as IPv6 (RFC 4291 §2.5.5.2): a header has one family.
pub fn write(out: &mut Vec<u8>, version: Version, endpoints: Option<(SocketAddr, SocketAddr)>) {
    match version {
        Version::V1 => write_line(out, endpoints),
        Version::V2 => write_binary(out, endpoints),
    }
}

fn line(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    const START: &[u8] = b"PROXY ";
    if !is_same_so_far(bytes, START) {
        return Err(ProxyHeaderError::Absent);
    }
    let window = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(Parsed::NeedMore) } else { Err(ProxyHeaderError::LineTooLong) };
    };
    let text = window.get(START.len()..end).ok_or(ProxyHeaderError::Line)?;
    Ok(Parsed::Done { header: words(text)?, consumed: end + 2 })
}

/// What follows `PROXY ` in a line.
fn words(text: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let text = std::str::from_utf8(text).map_err(|_| ProxyHeaderError::Line)?;
    let mut words = text.split(' ');
    let family = words.next().ok_or(ProxyHeaderError::Line)?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(ProxyHeader::Unknown);
    }
    let mut word = || words.next().ok_or(ProxyHeaderError::Line);
    let (source, destination, from_port, to_port) = (word()?, word()?, word()?, word()?);
    if words.next().is_some() {
        return Err(ProxyHeaderError::Line);
    }
    let address = |text: &str| -> Result<IpAddr, ProxyHeaderError> {
        match family {
            "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| ProxyHeaderError::Address),
            "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| ProxyHeaderError::Address),
            _ => Err(ProxyHeaderError::Line),
        }
    };
    Ok(ProxyHeader::Tcp {
        source: SocketAddr::new(address(source)?, port(from_port)?),
        destination: SocketAddr::new(address(destination)?, port(to_port)?),
    })
}

/// Decimal without leading zeros.
fn port(text: &str) -> Result<u16, ProxyHeaderError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(ProxyHeaderError::Port)
}

fn binary(bytes: &[u8]) -> Result<Parsed, ProxyHeaderError> {
    if !is_same_so_far(bytes, &SIGNATURE) {
        return Err(ProxyHeaderError::Absent);
    }
    // Each byte is judged when it is there: a header that cannot become one is refused without waiting for the rest.
    let Some(command) = bytes.get(12).copied() else { return Ok(Parsed::NeedMore) };
    if command >> 4 != 2 {
        return Err(ProxyHeaderError::Version);
    }
    let is_local = match command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(ProxyHeaderError::Command),
    };
    let Some(kind) = bytes.get(13).copied() else { return Ok(Parsed::NeedMore) };
    // Of LOCAL the family is not looked at (§2.2).
    let family = if is_local { Family::Other { bytes: 0 } } else { Family::of(kind)? };
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(Parsed::NeedMore) };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length < family.byte_count() {
        return Err(ProxyHeaderError::TooShort);
    }
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(block) = rest.get(..length) else { return Ok(Parsed::NeedMore) };
    let header = match family {
        _ if is_local => ProxyHeader::Local,
        Family::Other { .. } => ProxyHeader::Unknown,
        Family::Ipv4 => {
            let (addresses, ports) = block.split_first_chunk::<8>().ok_or(ProxyHeaderError::TooShort)?;
            let [a, b, c, d, e, f, g, h] = *addresses;
            endpoints(Ipv4Addr::new(a, b, c, d).into(), Ipv4Addr::new(e, f, g, h).into(), ports)?
        }
        Family::Ipv6 => {
            let (source, rest) = block.split_first_chunk::<16>().ok_or(ProxyHeaderError::TooShort)?;
            let (destination, ports) = rest.split_first_chunk::<16>().ok_or(ProxyHeaderError::TooShort)?;
            endpoints(Ipv6Addr::from(*source).into(), Ipv6Addr::from(*destination).into(), ports)?
        }
    };
    Ok(Parsed::Done { header, consumed: FIXED_BYTES + length })
}

fn endpoints(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let ([a, b, c, d], _) = ports.split_first_chunk::<4>().ok_or(ProxyHeaderError::TooShort)?;
    Ok(ProxyHeader::Tcp {
        source: SocketAddr::new(source, u16::from_be_bytes([*a, *b])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([*c, *d])),
    })
}

/// What the family byte of version 2 announces.
enum Family {
    Ipv4,
    Ipv6,
    /// Nothing that can be used here, in this many bytes at least.
    Other {
        bytes: usize,
    },
}

impl Family {
    fn of(kind: u8) -> Result<Family, ProxyHeaderError> {
        match kind {
            0x00 => Ok(Family::Other { bytes: 0 }),
            0x11 => Ok(Family::Ipv4),
            0x21 => Ok(Family::Ipv6),
            // Datagrams cannot be what is behind it on a stream, Unix sockets have no address.
            0x12 => Ok(Family::Other { bytes: 12 }),
            0x22 => Ok(Family::Other { bytes: 36 }),
            0x31 | 0x32 => Ok(Family::Other { bytes: 216 }),
            _ => Err(ProxyHeaderError::Family),
        }
    }

    fn byte_count(&self) -> usize {
        match self {
            Family::Ipv4 => 12,
            Family::Ipv6 => 36,
            Family::Other { bytes } => *bytes,
        }
    }
}

fn is_same_so_far(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.iter().zip(wanted).all(|(byte, wanted)| byte == wanted)
}

/// Both of one family.
enum Pair {
    V4(SocketAddrV4, SocketAddrV4),
    V6(SocketAddrV6, SocketAddrV6),
}

impl Pair {
    fn of(source: SocketAddr, destination: SocketAddr) -> Pair {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let wide = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
            SocketAddr::V6(v6) => v6,
        };
        match (plain(source), plain(destination)) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Pair::V4(source, destination),
            (source, destination) => Pair::V6(wide(source), wide(destination)),
        }
    }
}

fn write_line(out: &mut Vec<u8>, endpoints: Option<(SocketAddr, SocketAddr)>) {
    let line = match endpoints.map(|(source, destination)| Pair::of(source, destination)) {
        Some(Pair::V4(s, d)) => format!("PROXY TCP4 {} {} {} {}\r\n", s.ip(), d.ip(), s.port(), d.port()),
        Some(Pair::V6(s, d)) => format!("PROXY TCP6 {} {} {} {}\r\n", s.ip(), d.ip(), s.port(), d.port()),
        None => "PROXY UNKNOWN\r\n".to_owned(),
    };
    out.extend_from_slice(line.as_bytes());
}

fn write_binary(out: &mut Vec<u8>, endpoints: Option<(SocketAddr, SocketAddr)>) {
    out.extend_from_slice(&SIGNATURE);
    let ports = |out: &mut Vec<u8>, source: u16, destination: u16| {
        out.extend_from_slice(&source.to_be_bytes());
        out.extend_from_slice(&destination.to_be_bytes());
    };
    match endpoints.map(|(source, destination)| Pair::of(source, destination)) {
        Some(Pair::V4(source, destination)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            ports(out, source.port(), destination.port());
        }
        Some(Pair::V6(source, destination)) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&source.ip().octets());
            out.extend_from_slice(&destination.ip().octets());
            ports(out, source.port(), destination.port());
        }
        // LOCAL: the connection is the sender's own, as for a health check.
        None => out.extend_from_slice(&[0x20, 0x00, 0, 0]),
    }
}

#[cfg(test)]
mod tests;
