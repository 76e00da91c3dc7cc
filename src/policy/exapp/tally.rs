//! What the gateway counts, for those who look after it.

use super::decide::Reason;
use super::failures::Kind;
use std::collections::BTreeMap;

/// Apps that Nextcloud knows are few; whatever comes beyond that many is counted without a name.
const APPS_MAX: usize = 1_024;

#[derive(Default)]
pub struct Tally {
    apps: BTreeMap<String, App>,
    refusals: [u64; Reason::ALL.len()],
    failures: [u64; Kind::ALL.len()],
    bans: u64,
}

/// Of one app that Nextcloud knows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct App {
    /// That reached it, or were meant to.
    pub forwarded: u64,
    pub refused: u64,
}

impl Tally {
    pub fn forwarded(&mut self, app: &str) {
        if let Some(app) = self.app(app) {
            app.forwarded += 1;
        }
    }

    /// `app` is one that Nextcloud knows, or none.
    pub fn refused(&mut self, app: Option<&str>, reason: Reason) {
        add(&mut self.refusals, reason as usize);
        if let Some(app) = app.and_then(|app| self.app(app)) {
            app.refused += 1;
        }
    }

    pub fn failed(&mut self, kind: Kind, is_banned: bool) {
        add(&mut self.failures, kind as usize);
        self.bans += u64::from(is_banned);
    }

    pub fn of(&self, app: &str) -> App {
        self.apps.get(app).copied().unwrap_or_default()
    }

    pub fn apps(&self) -> impl Iterator<Item = (&str, App)> {
        self.apps.iter().map(|(id, app)| (id.as_str(), *app))
    }

    pub fn refusals(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(self.refusals)
    }

    pub fn failures(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().zip(self.failures)
    }

    /// How often somebody was banned.
    pub fn bans(&self) -> u64 {
        self.bans
    }

    fn app(&mut self, id: &str) -> Option<&mut App> {
        if !self.apps.contains_key(id) {
            if self.apps.len() >= APPS_MAX {
                return None;
            }
            self.apps.insert(id.to_owned(), App::default());
        }
        self.apps.get_mut(id)
    }
}

fn add(counts: &mut [u64], index: usize) {
    if let Some(count) = counts.get_mut(index) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_reason_and_kind_counts_for_itself() {
        let mut tally = Tally::default();
        tally.forwarded("foo");
        tally.forwarded("foo");
        tally.refused(Some("foo"), Reason::Level);
        tally.refused(None, Reason::UnknownApp);
        tally.failed(Kind::Scan, false);
        tally.failed(Kind::Scan, true);
        assert_eq!(tally.of("foo"), App { forwarded: 2, refused: 1 });
        assert_eq!(tally.apps().count(), 1);
        let counted: Vec<_> = tally.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Reason::UnknownApp, 1), (Reason::Level, 1)]);
        assert_eq!(tally.failures().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(Kind::Scan, 2)]);
        assert_eq!(tally.bans(), 1);
    }

    #[test]
    fn apps_are_bounded() {
        let mut tally = Tally::default();
        (0..5_000).for_each(|number| tally.forwarded(&format!("app{number}")));
        assert_eq!(tally.apps().count(), APPS_MAX);
    }
}
