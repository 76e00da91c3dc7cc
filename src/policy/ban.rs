//! Failed logins a client, and who is banned for them. Bounded: the client not heard of for the longest time makes room.
//!
//! ```text
//!  failure --> known credential? --yes--> its count -- 10 in the window --> this credential is refused for a while
//!                    '--no--> the client's count ------ failures_max in the window --> the client is banned
//! ```
//!
//! A device with a revoked password repeats itself for ever, behind an address it shares with a whole office: it is told
//! from somebody who guesses by the credential, which for the one is always the same. So only failures with another
//! credential count against the address. Each further ban is twice as long as the one before, up to a limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// Failures with the same credential within the window until it is refused here, without asking the server again.
pub const CREDENTIAL_FAILURES_MAX: u32 = 10;

/// How long a client's bans are remembered after the last one, so that the next is longer.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Whom limits count as one: an IPv4 address, or the /64 that an IPv6 client has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    pub fn of(client: IpAddr) -> Network {
        Network(match client.to_canonical() {
            IpAddr::V6(v6) => IpAddr::from((u128::from(v6) & !u128::from(u64::MAX)).to_be_bytes()),
            v4 => v4,
        })
    }

    /// The first address of it.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failed logins in `window` until the ban.
    pub failures_max: u32,
    pub window: Duration,
    /// The first ban.
    pub ban: Duration,
    /// The longest ban.
    pub ban_max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    FailedLogins,
    /// By the operator.
    Order,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::FailedLogins => "failed_logins",
            Reason::Order => "order",
        }
    }
}

/// A client that is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    pub network: Network,
    /// On the clock of the caller; `None` is without end.
    pub until: Option<Duration>,
    pub reason: Reason,
    /// The other node's, which told us of it.
    pub is_learnt: bool,
}

impl Ban {
    fn is_over(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now >= until)
    }
}

/// What a failed login led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Counted,
    /// From now on this credential of this client is refused for so long.
    CredentialRefused(Duration),
    Banned(Ban),
}

/// Times are those of one clock that never goes back.
pub struct Ledger {
    entries_max: usize,
    clients: HashMap<Network, Client>,
    credentials: HashMap<(Network, u64), Count>,
}

struct Client {
    count: Count,
    ban: Option<Ban>,
    /// Bans for failed logins so far.
    bans: u32,
}

/// Failures of a window that begins with the first of them.
#[derive(Clone, Copy)]
struct Count {
    failures: u32,
    since: Duration,
    last: Duration,
    /// Of a credential.
    refused_until: Option<Duration>,
}

impl Count {
    fn new(now: Duration) -> Count {
        Count { failures: 0, since: now, last: now, refused_until: None }
    }

    fn bump(&mut self, now: Duration, window: Duration) {
        if now.saturating_sub(self.since) >= window {
            (self.failures, self.since) = (0, now);
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
    }
}

impl Ledger {
    /// Remembers at most `entries_max` clients and as many credentials.
    pub fn new(entries_max: usize) -> Ledger {
        Ledger { entries_max: entries_max.max(1), clients: HashMap::new(), credentials: HashMap::new() }
    }

    /// A login of `network` failed; `credential` tells its credentials apart, if it is known.
    pub fn failed(&mut self, network: Network, credential: Option<u64>, rules: &Rules, now: Duration) -> Outcome {
        if let Some(credential) = credential {
            let is_known = self.credentials.contains_key(&(network, credential));
            if !is_known {
                make_room(&mut self.credentials, self.entries_max, |count| count.refused_until.unwrap_or(count.last));
            }
            let count = self.credentials.entry((network, credential)).or_insert_with(|| Count::new(now));
            let is_fresh = !is_known || now.saturating_sub(count.since) >= rules.window;
            count.bump(now, rules.window);
            if count.failures >= CREDENTIAL_FAILURES_MAX {
                count.refused_until = Some(now + rules.ban);
                return Outcome::CredentialRefused(rules.ban);
            }
            if !is_fresh {
                return Outcome::Counted;
            }
        }
        self.count(network, rules, now)
    }

    fn count(&mut self, network: Network, rules: &Rules, now: Duration) -> Outcome {
        let client = self.client(network, now);
        client.count.bump(now, rules.window);
        if client.count.failures < rules.failures_max || client.ban.is_some_and(|ban| !ban.is_over(now)) {
            return Outcome::Counted;
        }
        let length = rules.ban.saturating_mul(1 << client.bans.min(20)).min(rules.ban_max.max(rules.ban));
        let ban = Ban { network, until: Some(now + length), reason: Reason::FailedLogins, is_learnt: false };
        client.bans = client.bans.saturating_add(1);
        client.ban = Some(ban);
        client.count = Count::new(now);
        Outcome::Banned(ban)
    }

    pub fn ban(&mut self, ban: Ban, now: Duration) {
        self.client(ban.network, now).ban = Some(ban);
    }

    /// A ban of the other node's. One that lasts as long is not touched. Whether it is news.
    pub fn learn(&mut self, ban: Ban, now: Duration) -> bool {
        let end = |ban: Ban| ban.until.unwrap_or(Duration::MAX);
        let is_news = self.banned(ban.network, now).is_none_or(|known| end(known) < end(ban));
        if is_news {
            self.ban(ban, now);
        }
        is_news
    }

    /// Lets a client in again and forgets what it did; whether there was anything to forget.
    pub fn unban(&mut self, network: Network) -> bool {
        let credentials = self.credentials.len();
        self.credentials.retain(|key, _| key.0 != network);
        let was_refused = self.credentials.len() < credentials;
        self.clients.remove(&network).is_some_and(|client| client.ban.is_some()) || was_refused
    }

    /// The ban that `network` is under.
    pub fn banned(&self, network: Network, now: Duration) -> Option<Ban> {
        self.clients.get(&network)?.ban.filter(|ban| !ban.is_over(now))
    }

    /// How long this credential is still refused.
    pub fn refused(&self, network: Network, credential: u64, now: Duration) -> Option<Duration> {
        let until = self.credentials.get(&(network, credential))?.refused_until?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    pub fn bans(&self, now: Duration) -> impl Iterator<Item = Ban> + '_ {
        self.clients.values().filter_map(|client| client.ban).filter(move |ban| !ban.is_over(now))
    }

    /// Bans and refused credentials: what there is to look for.
    pub fn standing(&self, now: Duration) -> usize {
        let refused = self.credentials.values().filter(|count| count.refused_until.is_some_and(|until| now < until));
        self.bans(now).count() + refused.count()
    }

    /// Forgets what is over. `window` is that of the rules.
    pub fn sweep(&mut self, window: Duration, now: Duration) {
        let is_recent = |count: &Count, memory| now.saturating_sub(count.last) < memory;
        self.credentials
            .retain(|_, count| is_recent(count, window) || count.refused_until.is_some_and(|until| now < until));
        self.clients.retain(|_, client| {
            if client.ban.is_some_and(|ban| ban.is_over(now)) {
                // The memory counts from the end of the ban.
                client.count.last = now;
                client.ban = None;
            }
            let memory = if client.bans > 0 { MEMORY } else { window };
            client.ban.is_some() || is_recent(&client.count, memory)
        });
    }

    pub fn len(&self) -> usize {
        self.clients.len().max(self.credentials.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn client(&mut self, network: Network, now: Duration) -> &mut Client {
        if !self.clients.contains_key(&network) {
            // Who is banned stays longest, those for ever to the last.
            make_room(&mut self.clients, self.entries_max, |client| match client.ban {
                None => client.count.last,
                Some(Ban { until: Some(until), .. }) => until.max(now),
                Some(Ban { until: None, .. }) => Duration::MAX,
            });
        }
        self.clients.entry(network).or_insert_with(|| Client { count: Count::new(now), ban: None, bans: 0 })
    }
}

/// Removes the entry of least worth when there are enough.
fn make_room<K: Copy + Eq + Hash, V>(entries: &mut HashMap<K, V>, max: usize, worth: impl Fn(&V) -> Duration) {
    if entries.len() < max {
        return;
    }
    let least = entries.iter().min_by_key(|(_, value)| worth(value)).map(|(key, _)| *key);
    if let Some(key) = least {
        entries.remove(&key);
    }
}

#[cfg(test)]
mod tests;
