//! Who failed too often at the gateway, and is not answered for a while.
//!
//! A client is banned while as many failures of one kind as the rules say lie within the window, as with HaRP; but each
//! kind counts on its own, and being refused by an ExApp's rules bans nobody unless asked for: a page whose session ran
//! out repeats itself, and took a whole office with it.

use crate::policy::ban::Network;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A wrong shared key.
    Key,
    /// A tunnel with a wrong token.
    Token,
    /// No such app, or a path that is an attack.
    Scan,
    /// Refused by an ExApp's routes.
    Policy,
    /// The ExApp answered with a status that its route names.
    Status,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Key, Kind::Token, Kind::Scan, Kind::Policy, Kind::Status];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Key => "key",
            Kind::Token => "token",
            Kind::Scan => "scan",
            Kind::Policy => "policy",
            Kind::Status => "status",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Failures of a kind in the window until the ban.
    pub failures_max: usize,
    pub window: Duration,
    /// Failures of kind [`Kind::Policy`] ban too.
    pub bans_policy: bool,
}

impl Rules {
    fn bans(&self, kind: Kind) -> bool {
        kind != Kind::Policy || self.bans_policy
    }
}

/// Times are those of one clock that never goes back.
pub struct Failures {
    rules: Rules,
    entries_max: usize,
    clients: HashMap<Network, Client>,
}

#[derive(Default)]
struct Client {
    /// Of each kind the last ones, as many as make a ban.
    times: [VecDeque<Duration>; Kind::ALL.len()],
}

impl Client {
    /// When the last of its bans ends.
    fn banned_until(&self, rules: &Rules) -> Option<Duration> {
        let of_kind = |(kind, times): (&Kind, &VecDeque<Duration>)| {
            let is_ban = rules.bans(*kind) && times.len() >= rules.failures_max;
            times.front().filter(|_| is_ban).map(|first| *first + rules.window)
        };
        Kind::ALL.iter().zip(&self.times).filter_map(of_kind).max()
    }

    fn last(&self) -> Duration {
        self.times.iter().filter_map(|times| times.back()).max().copied().unwrap_or_default()
    }
}

impl Failures {
    /// Remembers at most `entries_max` clients.
    pub fn new(rules: Rules, entries_max: usize) -> Failures {
        let rules = Rules { failures_max: rules.failures_max.max(1), ..rules };
        Failures { rules, entries_max: entries_max.max(1), clients: HashMap::new() }
    }

    /// Counts a failure; whether the client is banned from now on. Of a banned client nothing more is counted.
    pub fn count(&mut self, network: Network, kind: Kind, now: Duration) -> bool {
        if self.banned(network, now).is_some() {
            return false;
        }
        if !self.clients.contains_key(&network) {
            self.make_room(now);
        }
        let client = self.clients.entry(network).or_default();
        let Some((_, times)) = Kind::ALL.iter().zip(&mut client.times).find(|(of, _)| **of == kind) else {
            return false;
        };
        while times.front().is_some_and(|first| now.saturating_sub(*first) >= self.rules.window) {
            times.pop_front();
        }
        if times.len() >= self.rules.failures_max {
            times.pop_front();
        }
        times.push_back(now);
        self.banned(network, now).is_some()
    }

    /// How long the client is still banned.
    pub fn banned(&self, network: Network, now: Duration) -> Option<Duration> {
        let until = self.clients.get(&network)?.banned_until(&self.rules)?;
        until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Lets a client in again; whether it was banned.
    pub fn unban(&mut self, network: Network, now: Duration) -> bool {
        let was_banned = self.banned(network, now).is_some();
        self.clients.remove(&network);
        was_banned
    }

    /// Who is banned, and how long still.
    pub fn bans(&self, now: Duration) -> impl Iterator<Item = (Network, Duration)> + '_ {
        self.clients.keys().filter_map(move |network| Some((*network, self.banned(*network, now)?)))
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Forgets what is over.
    pub fn sweep(&mut self, now: Duration) {
        let window = self.rules.window;
        self.clients.retain(|_, client| now.saturating_sub(client.last()) < window);
    }

    /// The banned stay longest.
    fn make_room(&mut self, now: Duration) {
        if self.clients.len() < self.entries_max {
            return;
        }
        self.sweep(now);
        if self.clients.len() < self.entries_max {
            return;
        }
        let worth =
            |client: &Client| (client.banned_until(&self.rules).is_some_and(|until| now < until), client.last());
        let least = self.clients.iter().min_by_key(|(_, client)| worth(client)).map(|(network, _)| *network);
        if let Some(network) = least {
            self.clients.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { failures_max: 10, window: Duration::from_secs(300), bans_policy: false };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn network(last: u8) -> Network {
        Network::of([192, 0, 2, last].into())
    }

    #[test]
    fn case_28_ten_failures_in_the_window_ban_until_they_age() {
        let mut failures = Failures::new(RULES, 16);
        for second in 0..10 {
            assert_eq!(failures.banned(network(1), at(second)), None);
            assert_eq!(failures.count(network(1), Kind::Scan, at(second)), second == 9);
        }
        assert_eq!(failures.banned(network(2), at(10)), None);
        // Nothing that comes meanwhile makes it longer.
        assert!(!failures.count(network(1), Kind::Scan, at(200)));
        assert_eq!(failures.banned(network(1), at(299)), Some(at(1)));
        assert_eq!(failures.banned(network(1), at(300)), None);
        // The other nine are still there.
        assert!(failures.count(network(1), Kind::Scan, at(300)));
    }

    #[test]
    fn ten_failures_over_more_than_the_window_ban_nobody() {
        let mut failures = Failures::new(RULES, 16);
        for n in 0..100 {
            assert!(!failures.count(network(1), Kind::Key, at(n * 34)), "{n}");
        }
    }

    #[test]
    fn kinds_count_each_on_its_own_and_policy_only_when_asked_for() {
        let mut failures = Failures::new(RULES, 16);
        for n in 0..9 {
            Kind::ALL.iter().for_each(|kind| assert!(!failures.count(network(1), *kind, at(n))));
        }
        assert!(!failures.count(network(1), Kind::Policy, at(9)));
        assert!(failures.count(network(1), Kind::Status, at(9)));
        let mut strict = Failures::new(Rules { bans_policy: true, ..RULES }, 16);
        assert_eq!((0..10).filter(|n| strict.count(network(1), Kind::Policy, at(*n))).count(), 1);
    }

    #[test]
    fn unban_lets_in_and_forgets() {
        let mut failures = Failures::new(RULES, 16);
        (0..10).for_each(|n| _ = failures.count(network(1), Kind::Key, at(n)));
        assert_eq!(failures.bans(at(10)).collect::<Vec<_>>(), [(network(1), at(290))]);
        assert!(failures.unban(network(1), at(10)));
        assert!(!failures.unban(network(1), at(10)));
        assert!(!failures.count(network(1), Kind::Key, at(10)));
    }

    #[test]
    fn there_are_never_too_many_and_the_banned_stay() {
        let mut failures = Failures::new(RULES, 16);
        (0..10).for_each(|_| _ = failures.count(network(1), Kind::Key, at(0)));
        for last in 2..250 {
            failures.count(network(last), Kind::Policy, at(1));
            assert!(failures.len() <= 16);
        }
        assert!(failures.banned(network(1), at(2)).is_some());
        failures.sweep(at(400));
        assert!(failures.is_empty());
    }
}
