//! How one virtual router speaks: version, password, who its peers are. Decoding and encoding depend on nothing else.

use super::checksum::{self, checksum_form};
use super::{Advert, Carrier, Checksum, Family, HEADER_BYTES, vrid};
use crate::authentication::TRAILER_BYTES;
use crate::error::DecodeError;
use crate::params::{Centis, Priority, Version, Vrid};
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The default is multicast version 3 without authentication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dialect {
    pub wire: Wire,
    pub peers: Peers,
    /// Messages may end in an HMAC trailer, which is handed out unverified; see [`crate::authentication`].
    pub has_trailer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wire {
    #[default]
    V3,
    /// IPv4 only. `interval` is ours in whole seconds; adverts with another one are refused (RFC 3768 §7.1).
    V2 { interval: Centis, password: Option<Password> },
}

/// `auth_pass`: eight bytes, shorter ones padded with zero. Travels in clear text; protects from accidents only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 8]);

/// Where adverts go and come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Peers {
    #[default]
    Multicast,
    /// Only these are believed: without that check any host on the Internet could elect itself.
    Unicast(Vec<Peer>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    /// Accepted TTL or hop limit: `255..=255` for a neighbour, lower for a peer behind routers.
    pub ttl: RangeInclusive<u8>,
}

/// A message that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub advert: Advert,
    pub checksum: Checksum,
    pub trailer: Option<[u8; TRAILER_BYTES]>,
}

impl Dialect {
    /// Checks a message completely, but for its HMAC trailer.
    ///
    /// The checks come in the order of RFC 9568 §7.1 as refined by keepalived. Left to the caller: whether the VRID is
    /// ours, whether the source is our own, whether interval (version 3) and addresses match our configuration.
    pub fn decode(&self, message: &[u8], carrier: &Carrier) -> Result<Received, DecodeError> {
        let checked = self.check(message, carrier)?;
        let Checked { vrid, priority, interval, checksum, trailer, .. } = checked;
        let advert = Advert { vrid, priority, interval, addresses: checked.addresses().collect() };
        Ok(Received { advert, checksum, trailer })
    }

    /// [`Dialect::decode`] without taking memory for the addresses.
    pub fn check<'a>(&self, message: &'a [u8], carrier: &Carrier) -> Result<Checked<'a>, DecodeError> {
        let vrid = vrid(message)?;
        let Some((header, body)) = message.split_first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Truncated { have: message.len() });
        };
        let [version_type, _, priority, count, field4, field5, _, _] = *header;
        let (version, kind) = (version_type >> 4, version_type & 0x0f);
        let family = Family::of(carrier.source);

        // The length follows the version in the packet, so that a sound message of the other version is told apart by
        // its version and not by the length of its password.
        let addresses_bytes = usize::from(count) * family.address_bytes();
        let password_bytes = if version == 2 { PASSWORD_BYTES } else { 0 };
        let expected = HEADER_BYTES + addresses_bytes + password_bytes;
        let trailer = self.split_trailer(message, expected)?;
        self.check_ttl(carrier)?;
        if version != self.wire.version() || (version == 2 && family == Family::V6) {
            return Err(DecodeError::Version { got: version });
        }
        if let Wire::V2 { interval, password } = self.wire {
            check_password(password, field4, body.get(addresses_bytes..).unwrap_or_default())?;
            if u16::from(field5) * 100 != interval.get() {
                return Err(DecodeError::IntervalMismatch { got_s: field5 });
            }
        }
        if kind != TYPE_ADVERTISEMENT {
            return Err(DecodeError::Type { got: kind });
        }
        // IPv4 leaves the trailer out of the checksum; over IPv6 the kernel makes it, and covers everything.
        let covered = if family == Family::V4 { message.get(..expected).unwrap_or(message) } else { message };
        let checksum = checksum_form(covered, carrier, self.wire).ok_or(DecodeError::Checksum)?;
        let interval = match self.wire {
            Wire::V2 { interval, .. } => interval,
            Wire::V3 => Centis::new(u16::from_be_bytes([field4 & 0x0f, field5])).ok_or(DecodeError::Interval)?,
        };
        self.check_destination(carrier, family)?;
        if count == 0 {
            return Err(DecodeError::Count);
        }
        self.check_source(carrier)?;
        let list = body.get(..addresses_bytes).unwrap_or_default();
        Ok(Checked { vrid, priority: Priority(priority), interval, list, family, checksum, trailer })
    }

    /// The message without trailer, with its checksum in the given form for these addresses of the IP header.
    pub fn encode(&self, advert: &Advert, source: IpAddr, destination: IpAddr, form: Checksum) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER_BYTES + advert.addresses.len() * 16 + PASSWORD_BYTES);
        self.encode_into(&mut message, advert, source, destination, form);
        message
    }

    /// [`Dialect::encode`] in place of what `message` held.
    pub fn encode_into(
        &self,
        message: &mut Vec<u8>,
        advert: &Advert,
        source: IpAddr,
        destination: IpAddr,
        form: Checksum,
    ) {
        let family = Family::of(source);
        let addresses = || advert.addresses.iter().filter(|address| Family::of(**address) == family).take(COUNT_MAX);
        debug_assert_eq!(addresses().count(), advert.addresses.len(), "one family, at most 255 addresses");
        let count = addresses().count();
        message.clear();
        message.extend_from_slice(&[self.wire.version() << 4 | TYPE_ADVERTISEMENT, advert.vrid.get()]);
        message.extend_from_slice(&[advert.priority.0, u8::try_from(count).unwrap_or(u8::MAX)]);
        message.extend_from_slice(&match self.wire {
            Wire::V3 => advert.interval.get().to_be_bytes(),
            Wire::V2 { interval, password } => [u8::from(password.is_some()), whole_seconds(interval)],
        });
        message.extend_from_slice(&[0, 0]);
        for address in addresses() {
            match address {
                IpAddr::V4(address) => message.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => message.extend_from_slice(&address.octets()),
            }
        }
        if let Wire::V2 { password, .. } = self.wire {
            message.extend_from_slice(&password.map_or([0; PASSWORD_BYTES], |password| password.0));
        }
        checksum::write(message, source, destination, form, self.wire);
    }

    fn split_trailer(&self, message: &[u8], expected: usize) -> Result<Option<[u8; TRAILER_BYTES]>, DecodeError> {
        let actual = message.len();
        let rest = message.get(expected..).ok_or(DecodeError::Length { expected, actual })?;
        match rest.try_into() {
            Ok(trailer) if self.has_trailer => Ok(Some(trailer)),
            _ if rest.is_empty() => Ok(None),
            Ok(_) | Err(_) => Err(DecodeError::Length { expected, actual }),
        }
    }

    /// An unknown unicast peer has no range; it is refused for its address, later.
    fn check_ttl(&self, carrier: &Carrier) -> Result<(), DecodeError> {
        let is_fine = match &self.peers {
            Peers::Multicast => carrier.ttl == TTL,
            Peers::Unicast(peers) => find(peers, carrier.source).is_none_or(|peer| peer.ttl.contains(&carrier.ttl)),
        };
        if is_fine { Ok(()) } else { Err(DecodeError::Ttl { got: carrier.ttl }) }
    }

    fn check_destination(&self, carrier: &Carrier, family: Family) -> Result<(), DecodeError> {
        let is_fine = match &self.peers {
            Peers::Multicast => carrier.destination == family.group(),
            Peers::Unicast(_) => !carrier.destination.is_multicast(),
        };
        if is_fine { Ok(()) } else { Err(DecodeError::Destination { got: carrier.destination }) }
    }

    fn check_source(&self, carrier: &Carrier) -> Result<(), DecodeError> {
        let is_fine = match &self.peers {
            Peers::Multicast => is_neighbour_address(carrier.source),
            Peers::Unicast(peers) => find(peers, carrier.source).is_some(),
        };
        if is_fine { Ok(()) } else { Err(DecodeError::Source { got: carrier.source }) }
    }
}

/// A message that passed all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked<'a> {
    pub vrid: Vrid,
    pub priority: Priority,
    pub interval: Centis,
    pub checksum: Checksum,
    pub trailer: Option<[u8; TRAILER_BYTES]>,
    list: &'a [u8],
    family: Family,
}

impl Checked<'_> {
    /// In wire order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.list.chunks_exact(self.family.address_bytes()).filter_map(address)
    }
}

impl Wire {
    pub const fn version(self) -> u8 {
        match self.kind() {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }

    pub const fn kind(self) -> Version {
        match self {
            Wire::V2 { .. } => Version::V2,
            Wire::V3 => Version::V3,
        }
    }
}

impl Password {
    /// The first eight bytes, as keepalived cuts them.
    pub fn new(text: &[u8]) -> Password {
        let mut bytes = [0; PASSWORD_BYTES];
        bytes.iter_mut().zip(text).for_each(|(byte, given)| *byte = *given);
        Password(bytes)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

const TYPE_ADVERTISEMENT: u8 = 1;
const COUNT_MAX: usize = 255;
const PASSWORD_BYTES: usize = 8;
const TTL: u8 = 255;

/// RFC 2338 §5.3.6; type 2 (IP authentication header) never got this far.
const AUTH_NONE: u8 = 0;
const AUTH_PASSWORD: u8 = 1;

fn check_password(ours: Option<Password>, kind: u8, data: &[u8]) -> Result<(), DecodeError> {
    match (ours, kind) {
        (None, AUTH_NONE) => Ok(()),
        (Some(ours), AUTH_PASSWORD) => {
            // Every byte is compared whatever the earlier ones were.
            let differing = ours.0.iter().zip(data).fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
            if differing == 0 { Ok(()) } else { Err(DecodeError::Password) }
        }
        (None | Some(_), got) => Err(DecodeError::AuthType { got }),
    }
}

/// Version 2 carries whole seconds; the configuration allows nothing else.
fn whole_seconds(interval: Centis) -> u8 {
    u8::try_from((interval.get() / 100).max(1)).unwrap_or(u8::MAX)
}

fn find(peers: &[Peer], address: IpAddr) -> Option<&Peer> {
    peers.iter().find(|peer| peer.address == address)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Whether a multicast advert may come from here (RFC 9568 §5.1.1.1, §5.1.2.1).
fn is_neighbour_address(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
