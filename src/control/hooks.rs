//! Hooks: what is told to the operator's programs when a virtual router changes, in keepalived's words.
//!
//! [`state`] (pure: from what the speaker reports to keepalived's states), [`runner`] (scripts one after the other, on a
//! thread of their own), [`fifo`], [`reader`] (who reads a FIFO for the operator, on a thread of its own), [`outlet`] (the
//! two together). The main thread only hands lines and scripts over; it never waits for either.

pub mod fifo;
pub mod outlet;
pub mod reader;
pub mod runner;
pub mod state;

use crate::config::settings::Settings;
use crate::config::settings::track::{About, Command, Hook, Removal};
use crate::control::ha::{Happened, What};
use lyre_vrrp::machine::{Event, State};
use lyre_vrrp::params::{Priority, Time};
use outlet::Outlets;
use runner::{Job, Runner, Tally};
use state::{Announced, Router, Told};
use std::collections::BTreeMap;
use std::time::Duration;

/// An Active that hears a rival tells it no more often than this.
const CONTEST_PAUSE: Duration = Duration::from_secs(10);
/// For the last scripts, at the end.
const END_TIME: Duration = Duration::from_secs(5);

pub struct Hooks {
    hooks: Vec<Hook>,
    outlets: Outlets,
    /// In the settings' order.
    routers: Vec<Router>,
    runner: Runner,
    contested: BTreeMap<String, Time>,
    /// What was last told of each sync group.
    groups: BTreeMap<String, Announced>,
    /// The process is about to end: whatever is not Active any more has stopped.
    is_ending: bool,
}

impl Hooks {
    pub fn start(settings: &Settings) -> std::io::Result<Hooks> {
        let mut hooks = Hooks {
            hooks: Vec::new(),
            outlets: Outlets::default(),
            routers: Vec::new(),
            runner: Runner::start()?,
            contested: BTreeMap::new(),
            groups: BTreeMap::new(),
            is_ending: false,
        };
        hooks.reload(settings);
        Ok(hooks)
    }

    /// Routers that stay keep what was told of them.
    pub fn reload(&mut self, settings: &Settings) {
        let is_gone = |router: &Router| !settings.routers.iter().any(|stays| stays.name == router.router);
        let gone = (0..self.routers.len()).filter(|at| self.routers.get(*at).is_some_and(is_gone));
        for index in gone.collect::<Vec<_>>() {
            let told = self.routers.get_mut(index).and_then(Router::delete);
            self.tell_with_group(index, told);
        }
        let before = std::mem::take(&mut self.routers);
        self.routers = state::routers(settings, before);
        self.groups.retain(|group, _| self.routers.iter().any(|router| router.group.as_ref() == Some(group)));
        self.hooks.clone_from(&settings.hooks);
        self.outlets.reload(&self.hooks, &self.runner);
    }

    /// Tells what follows from what the speaker reported.
    pub fn hear(&mut self, now: Time, happened: &Happened) {
        let Some(router) = self.routers.get_mut(happened.index) else { return };
        let before = router.priority();
        let told = match &happened.what {
            What::Event(Event::Transition { to, .. }) if self.is_ending && *to != State::Active => router.stop(),
            What::Event(Event::Transition { to, reason, .. }) => router.moved(*to, *reason),
            What::Event(Event::LosingAdvert { .. }) => return self.contest(now, happened.index),
            What::Event(_) => None,
            What::Ability(_) if self.is_ending => None,
            What::Ability(ability) => router.may(*ability),
        };
        if router.priority() != before {
            self.tell_priority(happened.index);
        }
        self.tell_with_group(happened.index, told);
    }

    /// The process was told to stop: addresses that are handed over now are not coming back.
    pub fn begin_end(&mut self) {
        self.is_ending = true;
    }

    /// The process ends: every router stops, and the scripts get some time.
    pub fn end(mut self) {
        for index in 0..self.routers.len() {
            let told = self.routers.get_mut(index).and_then(Router::stop);
            self.tell_with_group(index, told);
        }
        self.outlets.close();
        self.runner.end(END_TIME);
    }

    pub fn tally(&self) -> Tally {
        Tally { lost_lines: self.outlets.lost_lines(), ..self.runner.tally() }
    }

    fn contest(&mut self, now: Time, index: usize) {
        let Some(router) = self.routers.get(index) else { return };
        let last = self.contested.get(&router.name).copied();
        if last.is_some_and(|last| now.since(last) < CONTEST_PAUSE) {
            return;
        }
        self.contested.insert(router.name.clone(), now);
        let told = Told { state: Announced::Contested, priority: router.priority() };
        self.tell(index, told);
    }

    /// A member's news, what it makes of the other members, and what all make of the group.
    ///
    /// keepalived's order: the group comes after its members, but first of all at the start.
    fn tell_with_group(&mut self, index: usize, told: Option<Told>) {
        let group = self.routers.get(index).and_then(|router| router.group.clone());
        let Some(group) = group else { return told.map_or((), |told| self.tell(index, told)) };
        if let Some(Told { state: state @ (Announced::Backup | Announced::Fault), .. }) = told
            && !self.groups.contains_key(&group)
        {
            self.tell_group(&group, state);
        }
        if let Some(told) = told {
            self.tell(index, told);
        }
        for (index, told) in state::spread_fault(&mut self.routers, &group) {
            self.tell(index, told);
        }
        let members = self.routers.iter().filter(|router| router.group.as_ref() == Some(&group));
        if let Some(state) = state::of_group(members.map(Router::told)) {
            self.tell_group(&group, state);
        }
    }

    fn tell_group(&mut self, group: &str, state: Announced) {
        if self.groups.insert(group.to_owned(), state) != Some(state) {
            let is_meant =
                |hook: &Hook| matches!(&hook.about, About::Groups(groups) if groups.iter().any(|g| g == group));
            let words = |state| state::group_words(group, state);
            self.run(state, words, is_meant);
            self.write(state, words, |hook| hook.about == About::All || is_meant(hook));
        }
    }

    fn tell(&mut self, index: usize, told: Told) {
        let Some(router) = self.routers.get(index).cloned() else { return };
        let words = |state| router.words(Told { state, ..told });
        self.run(told.state, words, |hook| is_about(hook, &router.router));
        self.write(told.state, words, |hook| is_about(hook, &router.router));
    }

    fn tell_priority(&mut self, index: usize) {
        let Some((router, words)) = self.routers.get(index).and_then(|r| Some((r.router.clone(), r.priority_words()?)))
        else {
            return;
        };
        for (hook, outlet) in self.outlets.of(&self.hooks) {
            if hook.has_priority_changes && is_about(hook, &router) {
                outlet.write(&words);
            }
        }
    }

    /// The script of the state first, then the general one, and the FIFO after both: keepalived's order.
    fn run(&self, state: Announced, words: impl Fn(Announced) -> [String; 4], is_meant: impl Fn(&Hook) -> bool) {
        for hook in self.hooks.iter().filter(|hook| is_meant(hook)) {
            let state = as_heard(hook, state);
            let words = words(state);
            let [_, name, ..] = &words;
            if let Some(command) = script_for(hook, state) {
                self.runner.run(Job::new(hook, command, Vec::new(), name));
            }
            if let Some(command) = &hook.any {
                self.runner.run(Job::new(hook, command, words.to_vec(), name));
            }
        }
    }

    fn write(&mut self, state: Announced, words: impl Fn(Announced) -> [String; 4], is_meant: impl Fn(&Hook) -> bool) {
        for (hook, outlet) in self.outlets.of(&self.hooks).filter(|(hook, _)| is_meant(hook)) {
            outlet.write(&words(as_heard(hook, state)));
        }
    }
}

/// Who did not ask for the difference hears of a router that was removed as of one that stopped.
fn as_heard(hook: &Hook, state: Announced) -> Announced {
    match (state, &hook.removal) {
        (Announced::Deleted, Removal::Stop) => Announced::Stop,
        _ => state,
    }
}

fn is_about(hook: &Hook, router: &str) -> bool {
    match &hook.about {
        About::All => true,
        About::Routers(routers) => routers.iter().any(|name| name == router),
        About::Groups(_) => false,
    }
}

fn script_for(hook: &Hook, state: Announced) -> Option<&Command> {
    match state {
        Announced::Master => hook.active.as_ref(),
        Announced::Backup => hook.backup.as_ref(),
        Announced::Fault => hook.fault.as_ref(),
        Announced::Stop => hook.stop.as_ref(),
        Announced::Deleted => match &hook.removal {
            Removal::Deleted(command) => command.as_ref(),
            Removal::Stop => None,
        },
        Announced::Contested => hook.contested.as_ref(),
    }
}

/// What trackers make of a configured priority.
pub fn moved(priority: u8, weight: i16) -> u8 {
    Priority(priority).moved_by(weight).0
}
