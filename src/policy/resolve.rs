//! When names are asked for, whom to ask next, and which addresses count afterwards.
//!
//! The two families of a name are looked up on their own, each by its own TTL, so that a server which keeps silent about
//! one of them delays nothing. Addresses are only ever replaced by addresses: no answer, a refusal, or an answer that
//! there is nothing leaves the last good ones in place.

use crate::proto::dns::Family;
use std::net::IpAddr;
use std::time::Duration;

/// Answers are believed for their TTL within these bounds.
pub const TTL_MIN: Duration = Duration::from_secs(1);
pub const TTL_MAX: Duration = Duration::from_secs(3600);

/// A family that the name does not have is asked for this often, while the other one has addresses.
const ABSENT: Duration = Duration::from_secs(60);

/// Between questions that brought nothing: doubles from the first to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Every server is asked this often before a lookup is given up.
const ROUNDS: usize = 2;

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Not empty.
    Addresses(Vec<IpAddr>, Duration),
    /// There is no such name, or it has no address of this family.
    Absent,
    /// Nobody said.
    Unknown,
}

/// What became of one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: u32,
    },
    NoData,
    NoName,
    /// No answer in time, or one that says nothing.
    Nothing,
}

/// One lookup: through the names that are meant, and for each through the servers.
#[derive(Debug, Clone)]
pub struct Lookup {
    names: Vec<String>,
    name: usize,
    servers: usize,
    /// The one that answered last, for this and for the next lookup.
    pub server: usize,
    tries: usize,
}

impl Lookup {
    pub fn new(names: Vec<String>, servers: usize, first: usize) -> Lookup {
        Lookup { names, name: 0, servers, server: first.checked_rem(servers).unwrap_or(0), tries: 0 }
    }

    /// Whom to ask for which name now.
    pub fn question(&self) -> Option<(&str, usize)> {
        (self.tries < self.servers * ROUNDS).then_some((self.names.get(self.name)?.as_str(), self.server))
    }

    /// Takes what came of the question; answers the end of the lookup, if it is that.
    pub fn heard(&mut self, heard: Heard) -> Option<Found> {
        match heard {
            Heard::Addresses { addresses, .. } if addresses.is_empty() => Some(Found::Absent),
            Heard::Addresses { addresses, ttl } => {
                Some(Found::Addresses(addresses, Duration::from_secs(ttl.into()).clamp(TTL_MIN, TTL_MAX)))
            }
            // The name is there. Another one of the list could be another host's.
            Heard::NoData => Some(Found::Absent),
            Heard::NoName => {
                (self.name, self.tries) = (self.name + 1, 0);
                (self.name >= self.names.len()).then_some(Found::Absent)
            }
            Heard::Nothing => {
                self.tries += 1;
                self.server = (self.server + 1).checked_rem(self.servers).unwrap_or(0);
                (self.tries >= self.servers * ROUNDS).then_some(Found::Unknown)
            }
        }
    }
}

/// What is known of a name. Times are since any one moment.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    halves: [Half; 2],
}

/// One family.
#[derive(Debug, Clone, Default)]
struct Half {
    /// The last good ones, sorted.
    addresses: Vec<IpAddr>,
    state: HalfState,
    /// In a row.
    failures: u32,
    due: Duration,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum HalfState {
    #[default]
    NotAsked,
    Present,
    Absent,
    Unknown,
}

/// How far the addresses of a name can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No address yet.
    Unresolved,
    /// As the servers say.
    Fresh,
    /// The last good ones: the servers say nothing, or that there is nothing.
    Kept,
}

impl Memory {
    /// When to ask for this family.
    pub fn due(&self, family: Family) -> Duration {
        self.half(family).due
    }

    /// Asks for both at once: where to ask has changed.
    pub fn hurry(&mut self) {
        self.halves.iter_mut().for_each(|half| half.due = Duration::ZERO);
    }

    /// Takes what was found.
    pub fn take(&mut self, family: Family, found: Found, now: Duration) {
        let other_has = self.half(other(family)).state == HalfState::Present;
        let half = self.half_mut(family);
        let was_present = half.state == HalfState::Present;
        let wait = match found {
            Found::Addresses(mut addresses, ttl) => {
                addresses.sort_unstable();
                (half.addresses, half.state, half.failures) = (addresses, HalfState::Present, 0);
                ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Found::Absent if other_has => {
                (half.state, half.failures) = (HalfState::Absent, 0);
                ABSENT
            }
            Found::Absent => {
                half.state = HalfState::Absent;
                half.retry()
            }
            Found::Unknown => {
                half.state = HalfState::Unknown;
                half.retry()
            }
        };
        half.due = now + wait;
        let has_gone = was_present && half.state == HalfState::Absent;
        if has_gone && !other_has {
            // It may have moved to the other family.
            self.half_mut(other(family)).due = now;
        }
    }

    /// Those to use now: of families that are there, or the last good ones if none is.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let there = self.halves.iter().filter(|half| half.state != HalfState::Absent);
        let addresses: Vec<IpAddr> = there.flat_map(|half| half.addresses.iter().copied()).collect();
        match addresses.is_empty() {
            true => self.halves.iter().flat_map(|half| half.addresses.iter().copied()).collect(),
            false => addresses,
        }
    }

    pub fn standing(&self) -> Standing {
        let has = |state| self.halves.iter().any(|half| half.state == state && !half.addresses.is_empty());
        if self.halves.iter().all(|half| half.addresses.is_empty()) {
            Standing::Unresolved
        } else if has(HalfState::Present) && !has(HalfState::Unknown) {
            Standing::Fresh
        } else {
            Standing::Kept
        }
    }

    /// Both families were asked for at least once.
    pub fn is_asked(&self) -> bool {
        self.halves.iter().all(|half| half.state != HalfState::NotAsked)
    }

    /// What the last answers amount to, for whoever has to mend it.
    pub fn trouble(&self) -> Option<&'static str> {
        let any = |state| self.halves.iter().any(|half| half.state == state);
        match self.standing() {
            Standing::Fresh => None,
            _ if any(HalfState::Unknown) => Some("no DNS server answers"),
            _ if any(HalfState::NotAsked) => None,
            _ => Some("the name has no address"),
        }
    }

    fn half(&self, family: Family) -> &Half {
        let [v4, v6] = &self.halves;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    fn half_mut(&mut self, family: Family) -> &mut Half {
        let [v4, v6] = &mut self.halves;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }
}

impl Half {
    /// How long to wait after another failure.
    fn retry(&mut self) -> Duration {
        let wait = RETRY_MIN * 2u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        wait.min(RETRY_MAX)
    }
}

fn other(family: Family) -> Family {
    match family {
        Family::V4 => Family::V6,
        Family::V6 => Family::V4,
    }
}

#[cfg(test)]
mod tests;
