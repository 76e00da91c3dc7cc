//! Hooks: what is told to the operator's programs when a virtual router changes, in keepalived's words.
//!
//! [`state`] (pure: from what the speaker reports to keepalived's states), [`runner`] (scripts one after the other, on a
//! thread of their own), [`fifo`]. The main thread only hands lines and scripts over; it never waits for either.

pub mod fifo;
pub mod runner;
pub mod state;

use crate::config::settings::Settings;
use crate::config::settings::track::{Command, Hook};
use crate::control::ha::{Happened, What};
use fifo::Fifo;
use lyre_vrrp::machine::{Event, State};
use lyre_vrrp::params::{Priority, Time};
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
    fifos: Vec<Option<Fifo>>,
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
            fifos: Vec::new(),
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
            if let Some(told) = self.routers.get_mut(index).and_then(Router::stop) {
                self.tell(index, told);
            }
        }
        let before = std::mem::take(&mut self.routers);
        self.routers = state::routers(settings, before);
        self.hooks.clone_from(&settings.hooks);
        self.fifos = self.hooks.iter().map(|hook| hook.fifo.as_deref().map(Fifo::open)).collect();
    }

    /// Tells what follows from what the speaker reported.
    pub fn hear(&mut self, now: Time, happened: &Happened) {
        let Some(router) = self.routers.get_mut(happened.index) else { return };
        let told = match &happened.what {
            What::Event(Event::Transition { to, .. }) if self.is_ending && *to != State::Active => router.stop(),
            What::Event(Event::Transition { to, reason, .. }) => router.moved(*to, *reason),
            What::Event(Event::LosingAdvert { .. }) => return self.contest(now, happened.index),
            What::Event(_) => None,
            What::Ability(_) if self.is_ending => None,
            What::Ability(ability) => router.may(*ability),
        };
        if let Some(told) = told {
            self.tell(happened.index, told);
        }
    }

    /// The process was told to stop: addresses that are handed over now are not coming back.
    pub fn begin_end(&mut self) {
        self.is_ending = true;
    }

    /// The process ends: every router stops, and the scripts get some time.
    pub fn end(mut self) {
        for index in 0..self.routers.len() {
            if let Some(told) = self.routers.get_mut(index).and_then(Router::stop) {
                self.tell(index, told);
            }
        }
        self.runner.end(END_TIME);
    }

    pub fn tally(&self) -> Tally {
        let lost = self.fifos.iter().flatten().map(Fifo::lost).sum();
        Tally { lost_lines: lost, ..self.runner.tally() }
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

    fn tell(&mut self, index: usize, told: Told) {
        let Some(router) = self.routers.get(index) else { return };
        let (words, about, group) = (router.words(told), vec![router.router.clone()], router.group.clone());
        self.send(told.state, &words, &about);
        if let Some(group) = group {
            self.tell_group(&group);
        }
    }

    /// What its members make of a group, if that is news.
    fn tell_group(&mut self, group: &str) {
        let members: Vec<&Router> =
            self.routers.iter().filter(|router| router.group.as_deref() == Some(group)).collect();
        let Some(state) = state::of_group(members.iter().map(|member| member.told())) else { return };
        let about: Vec<String> = members.iter().map(|member| member.router.clone()).collect();
        if self.groups.insert(group.to_owned(), state) != Some(state) {
            self.send(state, &state::group_words(group, state), &about);
        }
    }

    /// The script of the state first, then the general one, then the FIFO: keepalived's order.
    fn send(&mut self, state: Announced, words: &[String; 4], about: &[String]) {
        let [kind, name, word, priority] = words;
        for (hook, fifo) in self.hooks.iter().zip(&mut self.fifos) {
            if !hook.routers.iter().any(|router| about.contains(router)) {
                continue;
            }
            // Scripts of one state get no arguments, so they cannot tell a group from its members.
            if let Some(command) = script_for(hook, state).filter(|_| kind == state::INSTANCE) {
                self.runner.run(Job::new(hook, command, Vec::new(), name));
            }
            if let Some(command) = &hook.any {
                self.runner.run(Job::new(hook, command, words.to_vec(), name));
            }
            if let Some(fifo) = fifo {
                fifo.write(&format!("{kind} \"{name}\" {word} {priority}\n"));
            }
        }
    }
}

fn script_for(hook: &Hook, state: Announced) -> Option<&Command> {
    match state {
        Announced::Master => hook.active.as_ref(),
        Announced::Backup => hook.backup.as_ref(),
        Announced::Fault => hook.fault.as_ref(),
        Announced::Stop => hook.stop.as_ref(),
        Announced::Contested => hook.contested.as_ref(),
    }
}

/// What trackers make of a configured priority.
pub fn moved(priority: u8, weight: i16) -> u8 {
    Priority(priority).moved_by(weight).0
}
