//! The gateway's memory as one: what a request needs next, over all that is known of apps, users and failures.
//!
//! ```text
//!  step --> Done
//!    |----> FetchRecord --(asks Nextcloud)--> land_record --.
//!    |----> JoinRecord  --(somebody else asks)--------------+--> known.record --> step again
//!    |----> FetchUser, JoinUser, land_user, known.user: the same
//! ```
//!
//! One request steps at most three times. Who waits and how is the caller's; it wakes who joined with what was landed.

use super::decide::{Decision, Facts, Key, Known, UserLookup, decide};
use super::failures::{Failures, Kind};
use super::path::place;
use super::records::{self, Asker, Fetched, Lookup, Records};
use super::sessions::{self, Digest, Sessions};
use super::tally::Tally;
use crate::policy::ban::Network;
use std::time::Duration;

pub struct Gateway {
    pub records: Records,
    pub sessions: Sessions,
    pub failures: Failures,
    pub tally: Tally,
}

/// Who makes a request.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub network: Network,
    /// A trusted proxy, this host or Nextcloud itself: never banned, whatever passes through it.
    pub is_exempt: bool,
    /// Of its credentials, if they hold a session.
    pub credentials: Option<Digest>,
}

#[derive(Debug)]
pub enum Step<'r> {
    /// Never a need.
    Done(Decision<'r>),
    FetchRecord(records::Flight),
    JoinRecord(u64),
    /// For the app of this id.
    FetchUser(String, sessions::Flight),
    JoinUser(u64),
}

#[derive(Debug)]
pub struct Stepped<'r> {
    pub step: Step<'r>,
    /// A lookup to make besides; nobody waits for it.
    pub revalidate: Option<records::Flight>,
    /// The client is banned from now on.
    pub is_banned: bool,
}

impl Gateway {
    /// What comes next for a request of which `known` was found out so far.
    pub fn step<'r>(&mut self, facts: &Facts<'r>, client: &Client, known: &mut Known, now: Duration) -> Stepped<'r> {
        let is_banned = !client.is_exempt && self.failures.banned(client.network, now).is_some();
        let facts = Facts { is_banned, ..*facts };
        self.withhold(&facts, known, now);
        let mut revalidate = None;
        let step = loop {
            match decide(&facts, known) {
                Decision::NeedRecord(id, asker) => match self.records.ask(&id, asker, now) {
                    records::Ask::Now(lookup) => known.record = Some(lookup),
                    records::Ask::Revalidate(record, flight) => {
                        (known.record, revalidate) = (Some(Lookup::Known(record)), Some(flight));
                    }
                    records::Ask::Fetch(flight) => break Step::FetchRecord(flight),
                    records::Ask::Join(number) => break Step::JoinRecord(number),
                },
                Decision::NeedUser(id) => match self.sessions.ask(client.credentials, now) {
                    sessions::Ask::Now(user) => known.user = Some(user),
                    sessions::Ask::Fetch(flight) => break Step::FetchUser(id, flight),
                    sessions::Ask::Join(number) => break Step::JoinUser(number),
                },
                decided => break Step::Done(decided),
            }
        };
        let failure = match &step {
            Step::Done(Decision::Refuse(refused)) => {
                let id = place(facts.path).map(|place| String::from_utf8_lossy(place.id).to_ascii_lowercase());
                let is_known = matches!(known.record, Some(Lookup::Known(_)));
                self.tally.refused(id.as_deref().filter(|_| is_known), refused.reason);
                refused.failure
            }
            Step::Done(Decision::Forward(to)) => {
                self.tally.forwarded(&to.id);
                None
            }
            _ => None,
        };
        let is_banned = failure.is_some_and(|kind| self.fail(client, kind, now));
        Stepped { step, revalidate, is_banned }
    }

    pub fn land_record(&mut self, flight: records::Flight, fetched: Fetched, now: Duration) -> Lookup {
        self.records.land(flight, fetched, now)
    }

    pub fn land_user(&mut self, flight: sessions::Flight, user: &UserLookup, now: Duration) {
        self.sessions.land(flight, user, now);
    }

    /// The ExApp answered; `statuses` are those of the request's [`Forward`](super::decide::Forward). Whether the client is banned from now on.
    pub fn answered(&mut self, statuses: &[u16], client: &Client, status: u16, now: Duration) -> bool {
        statuses.contains(&status) && self.fail(client, Kind::Status, now)
    }

    /// Counts a failure of whatever surface; whether the client is banned from now on.
    pub fn fail(&mut self, client: &Client, kind: Kind, now: Duration) -> bool {
        let is_banned = !client.is_exempt && self.failures.count(client.network, kind, now);
        self.tally.failed(kind, is_banned);
        is_banned
    }

    /// What was looked up may have been withdrawn meanwhile.
    fn withhold(&self, facts: &Facts<'_>, known: &mut Known, now: Duration) {
        let (Some(lookup), Some(place)) = (known.record.take(), place(facts.path)) else { return };
        let id = String::from_utf8_lossy(place.id).to_ascii_lowercase();
        let signature = facts.signature.filter(|_| facts.key == Key::Right);
        let asker = signature.map_or(Asker::Client, Asker::AppApi);
        known.record = Some(self.records.allow(&id, asker, lookup, now));
    }
}

#[cfg(test)]
mod tests;
