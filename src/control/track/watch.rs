//! One tracker as it runs: its probe, its judge, and what is told about it.

use crate::config::settings::track::Tracker;
use crate::control::track::judge::{Input, Judge, Rules, Standing, Verdict};
use crate::control::track::probe::{self, Finding, Probe, Surroundings};
use lyre_vrrp::params::Time;
use nix::poll::PollFd;

pub struct Watch {
    tracker: Tracker,
    judge: Judge,
    probe: Box<dyn Probe>,
    since: Time,
    /// Of the last result.
    reason: String,
    checks: u64,
    bad_checks: u64,
    turns: u64,
}

/// A tracker as status shows it.
#[derive(Debug, Clone)]
pub struct Report {
    pub name: String,
    pub kind: &'static str,
    pub routers: Vec<String>,
    pub standing: Standing,
    pub since: Time,
    pub reason: String,
    pub verdict: Verdict,
    pub checks: u64,
    pub bad_checks: u64,
    /// Changes between good and bad.
    pub turns: u64,
}

impl Watch {
    /// `None` for what is not watched here (the worker).
    pub fn new(tracker: Tracker, around: &Surroundings, now: Time, starts_bad: bool) -> Option<Watch> {
        let probe = probe::of(&tracker, around, now)?;
        let judge = Judge::new(Rules::of(&tracker, starts_bad));
        let reason = "no result yet".to_owned();
        Some(Watch { tracker, judge, probe, since: now, reason, checks: 0, bad_checks: 0, turns: 0 })
    }

    pub fn name(&self) -> &str {
        &self.tracker.name
    }

    pub fn speaks_about(&self, router: &str) -> bool {
        self.tracker.routers.iter().any(|name| name == router)
    }

    /// Whether it can go on as `tracker`: it looks at the same thing in the same way.
    pub fn can_become(&self, tracker: &Tracker) -> bool {
        let looks = |tracker: &Tracker| (tracker.kind.clone(), tracker.interval, tracker.timeout);
        self.tracker.name == tracker.name && looks(&self.tracker) == looks(tracker)
    }

    /// Other routers, effect, counts or delays; what is known stays.
    pub fn follow(&mut self, tracker: Tracker) {
        self.judge.follow(Rules::of(&tracker, false));
        self.tracker = tracker;
    }

    pub fn verdict(&self) -> Verdict {
        self.judge.verdict()
    }

    pub fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        self.probe.interests(into);
    }

    pub fn deadline(&self) -> Option<Time> {
        [self.probe.deadline(), self.judge.deadline()].into_iter().flatten().min()
    }

    /// Does what can be done now. True if its standing or its verdict changed.
    pub fn advance(&mut self, now: Time) -> bool {
        let before = self.judge.standing();
        let mut has_changed = match self.probe.advance(now) {
            Some(finding) => self.hear(now, finding),
            None => false,
        };
        has_changed |= self.judge.handle(now, Input::Tick);
        if before != self.judge.standing() {
            self.since = now;
            self.turns += u64::from(before != Standing::Unknown);
        }
        has_changed
    }

    fn hear(&mut self, now: Time, Finding { outcome, reason }: Finding) -> bool {
        self.checks += 1;
        self.bad_checks += u64::from(outcome == crate::control::track::judge::Outcome::Bad);
        self.reason = reason;
        self.judge.handle(now, Input::Found(outcome))
    }

    pub fn report(&self) -> Report {
        Report {
            name: self.tracker.name.clone(),
            kind: self.tracker.kind.name(),
            routers: self.tracker.routers.clone(),
            standing: self.judge.standing(),
            since: self.since,
            reason: self.reason.clone(),
            verdict: self.judge.verdict(),
            checks: self.checks,
            bad_checks: self.bad_checks,
            turns: self.turns,
        }
    }
}
