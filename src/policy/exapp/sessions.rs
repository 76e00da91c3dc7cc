//! Whose credentials are whose, for a few seconds.
//!
//! HaRP keys by one cookie alone, which survives login and logout, so that who just logged in is still nobody and who
//! changed is still the one before. Here the key is a digest of everything that says who somebody is.

use super::FLIGHT_MAX;
use super::decide::UserLookup;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Digest of all cookies and of Authorization; never the credentials themselves.
pub type Digest = [u8; 32];

/// A lookup that the holder makes, and lands.
#[derive(Debug, PartialEq, Eq)]
pub struct Flight {
    /// `None`: nobody else waits for it, and nothing of it is kept.
    shared: Option<(Digest, u64)>,
}

impl Flight {
    pub fn number(&self) -> Option<u64> {
        self.shared.map(|(_, number)| number)
    }
}

#[derive(Debug)]
pub enum Ask {
    Now(UserLookup),
    Fetch(Flight),
    /// Somebody makes the lookup with this number.
    Join(u64),
}

/// Times are those of one clock that never goes back.
pub struct Sessions {
    lifetime: Duration,
    entries_max: usize,
    entries: HashMap<Digest, Entry>,
    /// In the order in which they were made.
    order: VecDeque<(Digest, u64)>,
    number: u64,
}

struct Entry {
    number: u64,
    state: State,
}

enum State {
    Underway { since: Duration },
    Known { user: UserLookup, until: Duration },
}

impl State {
    fn is_over(&self, now: Duration) -> bool {
        match self {
            State::Underway { since } => now.saturating_sub(*since) >= FLIGHT_MAX,
            State::Known { until, .. } => now >= *until,
        }
    }
}

impl Sessions {
    /// A `lifetime` of zero keeps and shares nothing.
    pub fn new(lifetime: Duration, entries_max: usize) -> Sessions {
        let (entries, order) = (HashMap::new(), VecDeque::new());
        Sessions { lifetime, entries_max: entries_max.max(1), entries, order, number: 0 }
    }

    /// `digest` is `None` for credentials without a session cookie: passwords are asked about each time, as HaRP does.
    pub fn ask(&mut self, digest: Option<Digest>, now: Duration) -> Ask {
        let Some(digest) = digest.filter(|_| !self.lifetime.is_zero()) else {
            return Ask::Fetch(Flight { shared: None });
        };
        match self.entries.get(&digest).filter(|entry| !entry.state.is_over(now)) {
            Some(Entry { state: State::Known { user, .. }, .. }) => Ask::Now(user.clone()),
            Some(Entry { state: State::Underway { .. }, number }) => Ask::Join(*number),
            None => {
                self.number += 1;
                self.make_room(now);
                self.entries.insert(digest, Entry { number: self.number, state: State::Underway { since: now } });
                self.order.push_back((digest, self.number));
                Ask::Fetch(Flight { shared: Some((digest, self.number)) })
            }
        }
    }

    /// Ends a lookup. Only what Nextcloud said of somebody is kept, which may be that it is nobody.
    pub fn land(&mut self, flight: Flight, user: &UserLookup, now: Duration) {
        let Some((digest, number)) = flight.shared else { return };
        let Some(entry) = self.entries.get_mut(&digest).filter(|entry| entry.number == number) else { return };
        match user {
            UserLookup::Known(_) => entry.state = State::Known { user: user.clone(), until: now + self.lifetime },
            UserLookup::Unknown | UserLookup::Failed => {
                self.entries.remove(&digest);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets from the oldest on what is over, and one more if there is still no room.
    fn make_room(&mut self, now: Duration) {
        while let Some((digest, number)) = self.order.front() {
            let is_current = self.entries.get(digest).filter(|entry| entry.number == *number);
            let is_kept = is_current.is_some_and(|entry| !entry.state.is_over(now));
            if is_kept && self.order.len() < self.entries_max {
                return;
            }
            if is_current.is_some() {
                self.entries.remove(digest);
            }
            self.order.pop_front();
        }
    }
}

/// The value of Nextcloud's session cookie, by which it knows a browser.
pub fn passphrase<'r>(cookies: impl Iterator<Item = &'r [u8]>) -> Option<&'r [u8]> {
    let mut pairs = cookies.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| pair.strip_prefix(b"oc_sessionPassphrase=")).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::exapp::record::User;
    use crate::policy::exapp::routes::Level;
    use std::sync::Arc;

    const ZERO: Duration = Duration::ZERO;

    fn alice() -> UserLookup {
        UserLookup::Known(Arc::new(User { id: "alice".into(), level: Level::User }))
    }

    fn fetch(ask: Ask) -> Flight {
        match ask {
            Ask::Fetch(flight) => flight,
            other => panic!("no fetch: {other:?}"),
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn case_04_one_lookup_in_three_seconds() {
        let mut sessions = Sessions::new(ms(3000), 8);
        let flight = fetch(sessions.ask(Some([1; 32]), ZERO));
        assert!(matches!(sessions.ask(Some([1; 32]), ZERO), Ask::Join(number) if Some(number) == flight.number()));
        sessions.land(flight, &alice(), ZERO);
        assert!(matches!(sessions.ask(Some([1; 32]), ms(2999)), Ask::Now(UserLookup::Known(_))));
        fetch(sessions.ask(Some([1; 32]), ms(3100)));
    }

    #[test]
    fn case_05_a_lifetime_of_zero_asks_each_time() {
        let mut sessions = Sessions::new(ZERO, 8);
        let first = fetch(sessions.ask(Some([1; 32]), ZERO));
        let second = fetch(sessions.ask(Some([1; 32]), ZERO));
        assert_eq!((first.number(), second.number()), (None, None));
        sessions.land(first, &alice(), ZERO);
        fetch(sessions.ask(Some([1; 32]), ZERO));
        assert!(sessions.is_empty());
    }

    #[test]
    fn case_08_credentials_without_a_session_are_asked_about_each_time() {
        let mut sessions = Sessions::new(ms(3000), 8);
        let flight = fetch(sessions.ask(None, ZERO));
        sessions.land(flight, &alice(), ZERO);
        fetch(sessions.ask(None, ZERO));
    }

    #[test]
    fn refusals_and_failures_are_not_kept() {
        let mut sessions = Sessions::new(ms(3000), 8);
        for lookup in [UserLookup::Unknown, UserLookup::Failed] {
            let flight = fetch(sessions.ask(Some([1; 32]), ZERO));
            sessions.land(flight, &lookup, ZERO);
        }
        fetch(sessions.ask(Some([1; 32]), ZERO));
    }

    #[test]
    fn other_credentials_are_somebody_else() {
        let mut sessions = Sessions::new(ms(3000), 8);
        let flight = fetch(sessions.ask(Some([1; 32]), ZERO));
        sessions.land(flight, &alice(), ZERO);
        fetch(sessions.ask(Some([2; 32]), ZERO));
    }

    #[test]
    fn there_are_never_too_many_and_the_oldest_go() {
        let mut sessions = Sessions::new(ms(3000), 4);
        for n in 0..200u8 {
            let flight = fetch(sessions.ask(Some([n; 32]), ms(n.into())));
            sessions.land(flight, &alice(), ms(n.into()));
            assert!(sessions.len() <= 4 && sessions.order.len() <= 4);
        }
        assert!(matches!(sessions.ask(Some([199; 32]), ms(200)), Ask::Now(_)));
        fetch(sessions.ask(Some([100; 32]), ms(200)));
        // One key over and over leaves nothing behind either.
        for n in 0..200u64 {
            let flight = fetch(sessions.ask(Some([7; 32]), ms(10_000 * (n + 1))));
            sessions.land(flight, &UserLookup::Failed, ms(10_000 * (n + 1)));
            assert!(sessions.order.len() <= 4);
        }
    }

    #[test]
    fn a_lost_lookup_is_made_again_and_lands_nowhere() {
        let mut sessions = Sessions::new(ms(3000), 4);
        let lost = fetch(sessions.ask(Some([1; 32]), ZERO));
        let next = fetch(sessions.ask(Some([1; 32]), ms(60_000)));
        sessions.land(lost, &alice(), ms(60_000));
        assert!(matches!(sessions.ask(Some([1; 32]), ms(60_000)), Ask::Join(number) if Some(number) == next.number()));
    }

    #[test]
    fn the_session_is_found_among_cookies() {
        let of = |lines: &'static [&'static str]| passphrase(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(of(&["a=b; oc_sessionPassphrase=xyz%2F; c=d"]), Some(&b"xyz%2F"[..]));
        assert_eq!(of(&["a=b", "oc_sessionPassphrase=x"]), Some(&b"x"[..]));
        for lines in [&["oc_sessionPassphrase="][..], &["xoc_sessionPassphrase=1"], &["a=oc_sessionPassphrase=1"], &[]]
        {
            assert_eq!(passphrase(lines.iter().map(|line| line.as_bytes())), None, "{lines:?}");
        }
    }
}
