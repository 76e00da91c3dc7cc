//! Records of ExApps: one lookup for all who ask at once, kept while Nextcloud is silent, pushed and withdrawn by AppAPI.
//!
//! ```text
//!            ask                      land
//!  (nothing) ----> flight ------------------> record --SOFT_TTL--> record + flight (whoever asks has the old one)
//!      ^             | not found                ^ |                     |
//!      |             v                     push | | withdraw            | failed: the old one stays
//!      +--15 s-- not found                      | v                     v
//!      '------------ 60 s ------------------ withdrawn (clients: not there; AppAPI may)
//! ```
//!
//! HaRP keeps a record for ever, lets a lookup overwrite what was pushed meanwhile, and finds a disabled app again with
//! the next request. Here a lookup that began before a push or a withdrawal changes nothing any more.

use super::FLIGHT_MAX;
use super::decide::Signature;
use super::record::Record;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An app that Nextcloud does not know is not asked for again.
pub const ABSENT: Duration = Duration::from_secs(15);
/// A record is used this long without asking again; a push sets it back.
pub const SOFT_TTL: Duration = Duration::from_secs(300);
/// A withdrawn app is not looked up for clients.
pub const WITHDRAWN: Duration = Duration::from_secs(60);
/// Between lookups that failed while there is an old record.
pub const RETRY: Duration = Duration::from_secs(15);
/// Who wants the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker<'r> {
    Client,
    /// It says itself where the app is.
    AppApi(Signature<'r>),
}

#[derive(Debug, Clone)]
pub enum Lookup {
    Known(Arc<Record>),
    NotFound,
    Withdrawn,
    /// What Nextcloud said is no record.
    Invalid,
    /// Nextcloud did not say.
    Failed,
}

/// What came of one request to Nextcloud.
#[derive(Debug)]
pub enum Fetched {
    Found(Record),
    NotFound,
    Invalid,
    Failed,
}

/// A lookup that the holder makes, and lands.
#[derive(Debug, PartialEq, Eq)]
pub struct Flight {
    pub id: String,
    number: u64,
}

#[derive(Debug)]
pub enum Ask {
    Now(Lookup),
    /// Use this one, and make the lookup besides.
    Revalidate(Arc<Record>, Flight),
    /// Make the lookup; its landing is the answer.
    Fetch(Flight),
    /// Somebody makes the lookup with this number; its landing is the answer.
    Join(u64),
}

/// Times are those of one clock that never goes back.
pub struct Records {
    entries_max: usize,
    entries: HashMap<String, Entry>,
    /// Of flights, pushes and withdrawals alike, so that one number tells which was first.
    number: u64,
    /// Counts questions, for which entry was used longest ago.
    turn: u64,
}

#[derive(Default)]
struct Entry {
    record: Option<Kept>,
    absent_until: Duration,
    withdrawn_until: Duration,
    flight: Option<(u64, Duration)>,
    /// Number of the last push or withdrawal.
    changed: u64,
    used: u64,
    /// What AppAPI said of the app that differed from the record, when it was last asked for because of it.
    differed: Option<Told>,
}

struct Kept {
    record: Arc<Record>,
    stale_at: Duration,
}

/// Version, host and port by AppAPI's word.
#[derive(PartialEq, Eq)]
struct Told(Vec<u8>, Vec<u8>, Vec<u8>);

impl Told {
    fn of(signature: &Signature<'_>) -> Told {
        Told(signature.version.to_vec(), signature.host.to_vec(), signature.port.to_vec())
    }
}

fn differs(record: &Record, signature: &Signature<'_>) -> bool {
    record.version.as_bytes() != signature.version
        || record.host.as_bytes() != signature.host
        || record.port.to_string().as_bytes() != signature.port
}

impl Records {
    pub fn new(entries_max: usize) -> Records {
        Records { entries_max: entries_max.max(1), entries: HashMap::new(), number: 0, turn: 0 }
    }

    /// `id` is lower-case.
    pub fn ask(&mut self, id: &str, asker: Asker<'_>, now: Duration) -> Ask {
        self.turn += 1;
        let turn = self.turn;
        if !self.entries.contains_key(id) {
            if !self.make_room(false) {
                return Ask::Now(Lookup::Failed);
            }
            self.entries.insert(id.to_owned(), Entry::default());
        }
        let Some(entry) = self.entries.get_mut(id) else { return Ask::Now(Lookup::Failed) };
        entry.used = turn;
        if asker == Asker::Client && now < entry.withdrawn_until {
            return Ask::Now(Lookup::Withdrawn);
        }
        entry.flight = entry.flight.filter(|(_, since)| now.saturating_sub(*since) < FLIGHT_MAX);
        let has_differed = entry.has_differed(asker);
        let underway = entry.flight.map(|(number, _)| number);
        match (&entry.record, underway) {
            (Some(kept), None) if !has_differed && now < kept.stale_at => Ask::Now(Lookup::Known(kept.record.clone())),
            (Some(kept), Some(_)) if !has_differed => Ask::Now(Lookup::Known(kept.record.clone())),
            (None, None) if now < entry.absent_until => Ask::Now(Lookup::NotFound),
            (_, Some(number)) => Ask::Join(number),
            (kept, None) => {
                let old = kept.as_ref().filter(|_| !has_differed).map(|kept| kept.record.clone());
                self.number += 1;
                entry.flight = Some((self.number, now));
                let flight = Flight { id: id.to_owned(), number: self.number };
                match old {
                    Some(old) => Ask::Revalidate(old, flight),
                    None => Ask::Fetch(flight),
                }
            }
        }
    }

    /// Ends a lookup. The answer is for all who joined it, each through [`Records::allow`].
    pub fn land(&mut self, flight: Flight, fetched: Fetched, now: Duration) -> Lookup {
        let fetched = match fetched {
            Fetched::Found(record) => Lookup::Known(Arc::new(record)),
            Fetched::NotFound => Lookup::NotFound,
            Fetched::Invalid => Lookup::Invalid,
            Fetched::Failed => Lookup::Failed,
        };
        let Some(entry) = self.entries.get_mut(&flight.id) else { return fetched };
        let is_current = entry.flight.is_some_and(|(number, _)| number == flight.number);
        if is_current {
            entry.flight = None;
        }
        if !is_current || entry.changed > flight.number {
            // It was given up, or may be from before the change.
            return entry.record.as_ref().map_or(fetched, |kept| Lookup::Known(kept.record.clone()));
        }
        match (&fetched, &mut entry.record) {
            (Lookup::Known(record), kept) => {
                *kept = Some(Kept { record: record.clone(), stale_at: now + SOFT_TTL });
                entry.absent_until = Duration::ZERO;
                fetched
            }
            (Lookup::NotFound, kept) => {
                *kept = None;
                entry.absent_until = now + ABSENT;
                fetched
            }
            (Lookup::Withdrawn | Lookup::Invalid | Lookup::Failed, Some(kept)) => {
                kept.stale_at = now + RETRY;
                Lookup::Known(kept.record.clone())
            }
            (Lookup::Withdrawn | Lookup::Invalid | Lookup::Failed, None) => fetched,
        }
    }

    /// What of a landing is for this asker: the app may have been withdrawn meanwhile.
    pub fn allow(&self, id: &str, asker: Asker<'_>, landed: Lookup, now: Duration) -> Lookup {
        let is_withdrawn = self.entries.get(id).is_some_and(|entry| now < entry.withdrawn_until);
        if asker == Asker::Client && is_withdrawn { Lookup::Withdrawn } else { landed }
    }

    /// AppAPI enabled the app.
    pub fn push(&mut self, id: &str, record: Arc<Record>, now: Duration) {
        if let Some(entry) = self.changed(id) {
            entry.record = Some(Kept { record, stale_at: now + SOFT_TTL });
            (entry.absent_until, entry.withdrawn_until) = (Duration::ZERO, Duration::ZERO);
            entry.differed = None;
        }
    }

    /// AppAPI disabled the app; whether it was known.
    pub fn withdraw(&mut self, id: &str, now: Duration) -> bool {
        let Some(entry) = self.changed(id) else { return false };
        entry.withdrawn_until = now + WITHDRAWN;
        entry.absent_until = Duration::ZERO;
        entry.record.take().is_some()
    }

    fn changed(&mut self, id: &str) -> Option<&mut Entry> {
        if !self.entries.contains_key(id) && self.make_room(true) {
            self.entries.insert(id.to_owned(), Entry::default());
        }
        self.number += 1;
        self.turn += 1;
        let entry = self.entries.get_mut(id)?;
        (entry.changed, entry.used) = (self.number, self.turn);
        Some(entry)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The apps there is a record of.
    pub fn known(&self) -> impl Iterator<Item = (&str, &Arc<Record>)> {
        self.entries.iter().filter_map(|(id, entry)| Some((id.as_str(), &entry.record.as_ref()?.record)))
    }

    /// Names of no app go first, then what was not asked for longest. What is being looked up stays for the sake of
    /// another lookup, so that these are bounded too; for the sake of what AppAPI says it goes.
    fn make_room(&mut self, at_any_price: bool) -> bool {
        if self.entries.len() < self.entries_max {
            return true;
        }
        let dispensable = self.entries.iter().filter(|(_, entry)| at_any_price || entry.flight.is_none());
        let worth = |entry: &Entry| {
            (entry.flight.is_some(), entry.record.is_some(), entry.withdrawn_until > Duration::ZERO, entry.used)
        };
        let least = dispensable.min_by_key(|(_, entry)| worth(entry)).map(|(id, _)| id.clone());
        least.is_some_and(|id| self.entries.remove(&id).is_some())
    }
}

impl Entry {
    /// AppAPI says something else of the app than its record, and Nextcloud was not asked about that yet.
    fn has_differed(&mut self, asker: Asker<'_>) -> bool {
        let (Asker::AppApi(signature), Some(kept)) = (asker, &self.record) else { return false };
        if !differs(&kept.record, &signature) {
            return false;
        }
        let told = Told::of(&signature);
        if self.differed.as_ref() == Some(&told) {
            return false;
        }
        self.differed = Some(told);
        true
    }
}

impl Flight {
    pub fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests;
