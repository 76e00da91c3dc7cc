//! Frames of the pair link. Pure; everything received is bounded and checked.
//!
//! ```text
//! | kind (1) | 0 (1) | count (2, big endian) | count entries or bytes |
//! ```
//! Each node sends on the connection it opened and only reads on those it accepted, so there is no negotiation and
//! no tie to break. A frame is at most [`FRAME_MAX`] bytes.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Version of this format; a peer with another one is refused and named in the log.
pub const VERSION: u16 = 2;
/// Entries of one frame: keeps it below a TLS record's 16 KiB.
pub const ENTRIES_MAX: usize = 400;
const ENTRY_BYTES: usize = 36;
const ADDRESS_BYTES: usize = 24;
const CHOICE_BYTES: usize = 24;
const BAN_BYTES: usize = 32;
const HEADER_BYTES: usize = 4;
pub const FRAME_MAX: usize = HEADER_BYTES + ENTRIES_MAX * ENTRY_BYTES;

/// A client's connection to a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// Whom this node writes to, for one TCP service. Names stand as marks (`policy::service::spread::mark`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub service: u64,
    /// `None`: nobody, or not known yet.
    pub writer: Option<u64>,
    /// The clients come to this node.
    pub is_active: bool,
}

/// A client that is kept out from now on, or let in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    pub address: IpAddr,
    pub term: Term,
    /// By an operator, not for failed logins.
    pub is_order: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    Lifted,
    /// Milliseconds from now: the nodes' clocks are not compared.
    Ms(u64),
    /// Until it is lifted.
    Open,
}

/// A virtual address and the MAC that the node who asks has on its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub address: IpAddr,
    pub mac: [u8; 6],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// First on every connection.
    Hello {
        version: u16,
        node: String,
    },
    /// Forget what you knew of me; a snapshot follows as `Opened`.
    Reset,
    Opened(Vec<Connection>),
    Closed(Vec<Connection>),
    /// Alive; sent every second when there is nothing else.
    Ping,
    Handover(Handover),
    /// All of them, each time one changed.
    Writers(Vec<Choice>),
    Bans(Vec<Ban>),
}

/// The words of a planned hand-over, relayed between the two parents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Handover {
    /// I am about to hand these over: send me what you do not know.
    Prepare { id: u32, moves: Vec<Move> },
    /// I forward from now on, or why I cannot.
    Prepared { id: u32, refusal: Option<String> },
    /// My last connection is gone: stop forwarding.
    Finished { id: u32 },
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    UnknownKind(u8),
    TooMany { kind: u8, count: usize },
    Text,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameError::UnknownKind(kind) => {
                write!(f, "frame of unknown kind {kind}; do both nodes run the same version?")
            }
            FrameError::TooMany { kind, count } => write!(f, "frame of kind {kind} with {count} entries"),
            FrameError::Text => write!(f, "a name is not UTF-8"),
        }
    }
}

impl std::error::Error for FrameError {}

const HELLO: u8 = 1;
const RESET: u8 = 2;
const OPENED: u8 = 3;
const CLOSED: u8 = 4;
const PING: u8 = 5;
const PREPARE: u8 = 6;
const PREPARED: u8 = 7;
const FINISHED: u8 = 8;
const WRITERS: u8 = 9;
const BANS: u8 = 10;

impl Frame {
    /// Appends the frame's bytes. Lists longer than a frame allows are split into several.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Frame::Hello { version, node } => {
                let name = clip(node);
                header(out, HELLO, name.len() + 2);
                out.extend_from_slice(&version.to_be_bytes());
                out.extend_from_slice(name);
            }
            Frame::Reset => header(out, RESET, 0),
            Frame::Ping => header(out, PING, 0),
            Frame::Opened(list) => connections(out, OPENED, list),
            Frame::Closed(list) => connections(out, CLOSED, list),
            Frame::Writers(list) => {
                let list = list.get(..ENTRIES_MAX.min(list.len())).unwrap_or_default();
                header(out, WRITERS, list.len());
                list.iter().for_each(|choice| choice.encode(out));
            }
            Frame::Bans(list) => {
                for part in list.chunks(ENTRIES_MAX) {
                    header(out, BANS, part.len());
                    part.iter().for_each(|ban| ban.encode(out));
                }
            }
            Frame::Handover(Handover::Prepare { id, moves }) => {
                let moves = moves.get(..ENTRIES_MAX.min(moves.len())).unwrap_or_default();
                header(out, PREPARE, moves.len());
                out.extend_from_slice(&id.to_be_bytes());
                for entry in moves {
                    out.extend_from_slice(&mapped(entry.address).octets());
                    out.extend_from_slice(&entry.mac);
                    out.extend_from_slice(&[0, 0]);
                }
            }
            Frame::Handover(Handover::Prepared { id, refusal }) => {
                let text = clip(refusal.as_deref().unwrap_or(""));
                header(out, PREPARED, text.len());
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(text);
            }
            Frame::Handover(Handover::Finished { id }) => {
                header(out, FINISHED, 0);
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
    }

    /// The first frame of `bytes` and how many bytes it took; `None` until it is complete.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
        let Some((&[kind, _, high, low], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let count = usize::from(u16::from_be_bytes([high, low]));
        let body_bytes = match kind {
            HELLO if (2..=257).contains(&count) => count,
            RESET | PING if count == 0 => 0,
            OPENED | CLOSED if count <= ENTRIES_MAX => count * ENTRY_BYTES,
            PREPARE if count <= ENTRIES_MAX => 4 + count * ADDRESS_BYTES,
            PREPARED if count <= 255 => 4 + count,
            FINISHED if count == 0 => 4,
            WRITERS if count <= ENTRIES_MAX => count * CHOICE_BYTES,
            BANS if count <= ENTRIES_MAX => count * BAN_BYTES,
            HELLO..=BANS => return Err(FrameError::TooMany { kind, count }),
            _ => return Err(FrameError::UnknownKind(kind)),
        };
        let Some(body) = rest.get(..body_bytes) else { return Ok(None) };
        let frame = match kind {
            HELLO => {
                let (version, name) = body.split_first_chunk::<2>().unwrap_or((&[0, 0], &[]));
                Frame::Hello { version: u16::from_be_bytes(*version), node: text(name)? }
            }
            RESET => Frame::Reset,
            PING => Frame::Ping,
            OPENED => Frame::Opened(body.chunks_exact(ENTRY_BYTES).map(connection).collect()),
            CLOSED => Frame::Closed(body.chunks_exact(ENTRY_BYTES).map(connection).collect()),
            WRITERS => Frame::Writers(body.chunks_exact(CHOICE_BYTES).map(Choice::decode).collect()),
            BANS => Frame::Bans(body.chunks_exact(BAN_BYTES).map(Ban::decode).collect()),
            _ => Frame::Handover(handover(kind, body)?),
        };
        Ok(Some((frame, HEADER_BYTES + body_bytes)))
    }
}

// Flags of an entry.
const HAS_WRITER: u8 = 1;
const IS_ACTIVE: u8 = 2;
const IS_ORDER: u8 = 1;
const IS_LIFTED: u8 = 2;
const IS_OPEN: u8 = 4;

impl Choice {
    fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.writer.is_some() { HAS_WRITER } else { 0 } | if self.is_active { IS_ACTIVE } else { 0 };
        out.extend_from_slice(&self.service.to_be_bytes());
        out.extend_from_slice(&self.writer.unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&[flags, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn decode(entry: &[u8]) -> Choice {
        let flags = entry.get(16).copied().unwrap_or(0);
        let writer = (flags & HAS_WRITER != 0).then(|| word(entry, 8));
        Choice { service: word(entry, 0), writer, is_active: flags & IS_ACTIVE != 0 }
    }
}

impl Ban {
    fn encode(&self, out: &mut Vec<u8>) {
        let (flag, ms) = match self.term {
            Term::Lifted => (IS_LIFTED, 0),
            Term::Open => (IS_OPEN, 0),
            Term::Ms(ms) => (0, ms),
        };
        let flags = flag | if self.is_order { IS_ORDER } else { 0 };
        out.extend_from_slice(&mapped(self.address).octets());
        out.extend_from_slice(&ms.to_be_bytes());
        out.extend_from_slice(&[flags, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn decode(entry: &[u8]) -> Ban {
        let flags = entry.get(24).copied().unwrap_or(0);
        let term = match () {
            () if flags & IS_LIFTED != 0 => Term::Lifted,
            () if flags & IS_OPEN != 0 => Term::Open,
            () => Term::Ms(word(entry, 16)),
        };
        Ban { address: address(entry), term, is_order: flags & IS_ORDER != 0 }
    }
}

/// The eight bytes of `entry` at `at`.
fn word(entry: &[u8], at: usize) -> u64 {
    let bytes = entry.get(at..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn handover(kind: u8, body: &[u8]) -> Result<Handover, FrameError> {
    let (id, rest) = body.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let id = u32::from_be_bytes(*id);
    Ok(match kind {
        PREPARE => {
            let moves = rest
                .chunks_exact(ADDRESS_BYTES)
                .map(|entry| {
                    let mut mac = [0; 6];
                    mac.iter_mut().zip(entry.iter().skip(16)).for_each(|(to, from)| *to = *from);
                    Move { address: address(entry), mac }
                })
                .collect();
            Handover::Prepare { id, moves }
        }
        PREPARED => Handover::Prepared { id, refusal: if rest.is_empty() { None } else { Some(text(rest)?) } },
        _ => Handover::Finished { id },
    })
}

fn header(out: &mut Vec<u8>, kind: u8, count: usize) {
    let [high, low] = u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
    out.extend_from_slice(&[kind, 0, high, low]);
}

/// At most 255 bytes, cut at a character.
fn clip(text: &str) -> &[u8] {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().as_bytes()
}

fn text(bytes: &[u8]) -> Result<String, FrameError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| FrameError::Text)
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn connections(out: &mut Vec<u8>, kind: u8, list: &[Connection]) {
    for part in list.chunks(ENTRIES_MAX) {
        header(out, kind, part.len());
        for entry in part {
            out.extend_from_slice(&mapped(entry.client.ip()).octets());
            out.extend_from_slice(&mapped(entry.local.ip()).octets());
            out.extend_from_slice(&entry.client.port().to_be_bytes());
            out.extend_from_slice(&entry.local.port().to_be_bytes());
        }
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    let mut octets = [0; 16];
    octets.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    IpAddr::from(octets).to_canonical()
}

fn connection(entry: &[u8]) -> Connection {
    let (client, rest) = entry.split_at_checked(16).unwrap_or_default();
    let (local, ports) = rest.split_at_checked(16).unwrap_or_default();
    let port =
        |at: usize| u16::from_be_bytes([ports.get(at).copied().unwrap_or(0), ports.get(at + 1).copied().unwrap_or(0)]);
    Connection { client: SocketAddr::new(address(client), port(0)), local: SocketAddr::new(address(local), port(2)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Frame> {
        let one = Connection { client: "203.0.113.9:40001".parse().unwrap(), local: "10.0.0.10:443".parse().unwrap() };
        let two =
            Connection { client: "[2001:db8::9]:40002".parse().unwrap(), local: "[fd00::10]:443".parse().unwrap() };
        let moves = vec![
            Move { address: "10.0.0.10".parse().unwrap(), mac: [2, 0, 0, 0, 0, 1] },
            Move { address: "fd00::10".parse().unwrap(), mac: [2, 0, 0, 0, 0, 1] },
        ];
        vec![
            Frame::Hello { version: VERSION, node: "edge-a".into() },
            Frame::Reset,
            Frame::Opened(vec![one, two]),
            Frame::Closed(vec![two]),
            Frame::Closed(vec![]),
            Frame::Ping,
            Frame::Handover(Handover::Prepare { id: 7, moves }),
            Frame::Handover(Handover::Prepared { id: 7, refusal: None }),
            Frame::Handover(Handover::Prepared { id: 7, refusal: Some("no CAP_BPF".into()) }),
            Frame::Handover(Handover::Finished { id: u32::MAX }),
            Frame::Writers(vec![
                Choice { service: 1, writer: Some(u64::MAX), is_active: true },
                Choice { service: u64::MAX, writer: None, is_active: false },
                Choice { service: 3, writer: Some(0), is_active: false },
            ]),
            Frame::Writers(vec![]),
            Frame::Bans(vec![
                Ban { address: "203.0.113.9".parse().unwrap(), term: Term::Ms(600_000), is_order: false },
                Ban { address: "2001:db8::".parse().unwrap(), term: Term::Open, is_order: true },
                Ban { address: "203.0.113.9".parse().unwrap(), term: Term::Lifted, is_order: true },
            ]),
        ]
    }

    #[test]
    fn decode_inverts_encode_and_asks_for_more_at_every_truncation() {
        for frame in sample() {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            if frame == Frame::Closed(vec![]) {
                assert!(bytes.is_empty(), "an empty list is no frame");
                continue;
            }
            for end in 0..bytes.len() {
                assert_eq!(Frame::decode(&bytes[..end]), Ok(None), "{frame:?} cut at {end}");
            }
            assert_eq!(Frame::decode(&bytes), Ok(Some((frame.clone(), bytes.len()))), "{frame:?}");
        }
    }

    #[test]
    fn a_long_list_is_split_into_frames_of_bounded_size() {
        let entry = Connection { client: "203.0.113.9:1".parse().unwrap(), local: "10.0.0.10:443".parse().unwrap() };
        let mut bytes = Vec::new();
        Frame::Opened(vec![entry; 1000]).encode(&mut bytes);
        let mut seen = 0;
        while let Some((Frame::Opened(list), used)) = Frame::decode(&bytes).unwrap() {
            assert!(used <= FRAME_MAX);
            seen += list.len();
            bytes.drain(..used);
        }
        assert_eq!(seen, 1000);
        let ban = Ban { address: "203.0.113.9".parse().unwrap(), term: Term::Open, is_order: false };
        let choice = Choice { service: 1, writer: None, is_active: false };
        let mut bytes = Vec::new();
        Frame::Bans(vec![ban; 1000]).encode(&mut bytes);
        Frame::Writers(vec![choice; 1000]).encode(&mut bytes);
        let (mut bans, mut choices) = (0, 0);
        while let Some((frame, used)) = Frame::decode(&bytes).unwrap() {
            assert!(used <= FRAME_MAX);
            match frame {
                Frame::Bans(list) => bans += list.len(),
                Frame::Writers(list) => choices += list.len(),
                other => panic!("{other:?}"),
            }
            bytes.drain(..used);
        }
        assert_eq!((bans, choices), (1000, ENTRIES_MAX));
    }

    #[test]
    fn unknown_kinds_and_excessive_counts_are_errors() {
        assert_eq!(Frame::decode(&[99, 0, 0, 0]), Err(FrameError::UnknownKind(99)));
        assert_eq!(Frame::decode(&[OPENED, 0, 0xff, 0xff]), Err(FrameError::TooMany { kind: OPENED, count: 65535 }));
        assert_eq!(Frame::decode(&[HELLO, 0, 0, 3, 0, 1, 0xff]), Err(FrameError::Text));
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100_000 {
            let bytes: Vec<u8> =
                (0..random.usize(..80)).map(|_| if random.bool() { random.u8(..12) } else { random.u8(..) }).collect();
            let _ = Frame::decode(&bytes);
        }
    }
}
