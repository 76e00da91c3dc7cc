//! What is asked of DNS servers and what is taken from their answers (RFC 1035, RFC 3596): the addresses of a name, and
//! nothing else. simple-dns knows the format of messages; here is what an answer must be to be believed.
//!
//! No EDNS: every server understands a plain question, answers beyond 512 bytes come over TCP, and datagrams that small
//! are not fragmented on the way.

pub mod files;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A plain answer over UDP has at most 512 bytes (RFC 1035 §4.2.1); not every server keeps to it.
pub const DATAGRAM_BYTES_MAX: usize = 4096;

/// Addresses of one family that a name may have; more are left out.
pub const ADDRESSES_MAX: usize = 16;

/// Aliases followed within one answer.
const ALIASES_MAX: usize = 16;

/// Header (RFC 1035 §4.1.1), and the least a record or question takes.
const HEADER_BYTES: usize = 12;
const ENTRY_BYTES_MIN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// One question: the addresses of `name`, which ends at the root whether it has a dot there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// Random, so that nobody can answer who does not see the question.
    pub id: u16,
    pub name: &'a str,
    pub family: Family,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Sorted, at least one. `ttl` in seconds: the least of the records on the way.
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    /// The name exists, without an address of this family.
    NoData,
    NoName,
    /// There is more than fits a datagram: ask over TCP.
    Truncated,
    /// The server does not say: SERVFAIL, REFUSED and their like.
    Refused,
}

/// Bytes that are no answer to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another id or question, or no answer at all: somebody else's, late or forged.
    NotOurs,
    Malformed,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotOurs => "an answer to another question",
            Fault::Malformed => "an answer that is no DNS message",
        })
    }
}

impl std::error::Error for Fault {}

impl Question<'_> {
    /// `None` if `name` cannot be asked for.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let name = Name::new(self.name).ok()?;
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(simple_dns::Question::new(name, self.qtype(), CLASS::IN.into(), false));
        packet.build_bytes_vec().ok()
    }

    /// Reads `bytes` as the answer to this question.
    pub fn answer(&self, bytes: &[u8]) -> Result<Answer, Fault> {
        let message = answers_only(bytes).ok_or(Fault::Malformed)?;
        let packet = Packet::parse(&message).map_err(|_| Fault::Malformed)?;
        if packet.id() != self.id || !packet.has_flags(PacketFlag::RESPONSE) || !self.is_asked_in(&packet) {
            return Err(Fault::NotOurs);
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Ok(Answer::Truncated);
        }
        match packet.rcode() {
            RCODE::NoError => self.addresses(&packet.answers),
            RCODE::NameError => Ok(Answer::NoName),
            _ => Ok(Answer::Refused),
        }
    }

    fn qtype(&self) -> QTYPE {
        match self.family {
            Family::V4 => TYPE::A.into(),
            Family::V6 => TYPE::AAAA.into(),
        }
    }

    fn is_asked_in(&self, packet: &Packet) -> bool {
        let [asked] = packet.questions.as_slice() else { return false };
        let is_name = Name::new(self.name).is_ok_and(|name| asked.qname == name);
        is_name && asked.qtype == self.qtype() && asked.qclass == QCLASS::CLASS(CLASS::IN)
    }

    /// The addresses at the end of the chain of aliases that begins with our name. Records beside that chain are not ours.
    fn addresses(&self, records: &[ResourceRecord]) -> Result<Answer, Fault> {
        let mut name = Name::new(self.name).map_err(|_| Fault::NotOurs)?;
        let mut ttl = u32::MAX;
        let mut aliases = 0;
        let of = |name: &Name, record: &&ResourceRecord| record.class == CLASS::IN && record.name == *name;
        loop {
            let alias = records.iter().filter(|record| of(&name, record)).find_map(|record| match &record.rdata {
                RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else { break };
            aliases += 1;
            if aliases > ALIASES_MAX {
                return Err(Fault::Malformed);
            }
            name = target;
            ttl = ttl.min(life(alias_ttl));
        }
        let mut addresses = Vec::new();
        for record in records.iter().filter(|record| of(&name, record)) {
            let address = match &record.rdata {
                RData::A(a) => IpAddr::V4(Ipv4Addr::from(a.address)),
                RData::AAAA(aaaa) => IpAddr::V6(Ipv6Addr::from(aaaa.address)),
                _ => continue,
            };
            if Family::of(address) == self.family && is_host(address) && !addresses.contains(&address) {
                addresses.push(address);
                ttl = ttl.min(life(record.ttl));
            }
        }
        // Servers turn the order round with every answer; which of too many are kept must not follow it.
        addresses.sort_unstable();
        addresses.truncate(ADDRESSES_MAX);
        Ok(if addresses.is_empty() { Answer::NoData } else { Answer::Addresses { addresses, ttl } })
    }
}

/// The message without its last two sections, of which nothing is used. `None` if the header promises more than the
/// bytes can hold, which the parser would take memory for.
fn answers_only(bytes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| bytes.get(at..at + 2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]])));
    let entries = word(4)? + word(6)?;
    if HEADER_BYTES + entries * ENTRY_BYTES_MIN > bytes.len() {
        return None;
    }
    let mut message = bytes.to_vec();
    message.get_mut(8..HEADER_BYTES)?.fill(0);
    Some(message)
}

/// A TTL with its highest bit set counts as zero (RFC 2181 §8).
fn life(ttl: u32) -> u32 {
    if ttl > u32::MAX >> 1 { 0 } else { ttl }
}

/// Whether a server can have this address. Filters answer 0.0.0.0 and :: for names they hide, and a connection there
/// would be one to ourselves; link-local addresses say nothing without an interface.
pub fn is_host(address: IpAddr) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || is_link_local || is_broadcast)
}

#[cfg(test)]
mod tests;
