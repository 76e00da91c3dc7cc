//! The thread's loop. Each round: wait, hear every queued advert, let time pass, then everything that can wait.
//!
//! Adverts come before time, so that a late wake-up with the Active's adverts already queued does not end in a false
//! take-over. The steady round allocates nothing and touches no file.

use super::journal::{Journal, Remark};
use super::mailbox::Mailbox;
use super::station::Station;
use super::sync::SyncGroups;
use super::{Ability, Command, Host, Options, Router, open_station};
use crate::link::Change;
use crate::link::linux::LinuxLink;
use crate::link::linux::clock::{now, readable, suspended, wait};
use crate::link::linux::netlink::Monitor;
use crate::link::linux::realtime::Shortfall;
use crate::machine::{Event, Input, State};
use crate::params::{Priority, Time, skew_time};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// How often the owner's health is asked for.
const HEALTH_PERIOD: Duration = Duration::from_millis(20);

/// How often the interfaces are compared with what we believe, in case a notification was missed. Seldom, because the
/// question waits for the kernel's configuration lock.
const SURVEY_PERIOD: Duration = Duration::from_secs(60);

/// After a look that failed, as when an address cannot be bound yet.
const SURVEY_RETRY: Duration = Duration::from_secs(1);

/// Age of a published status at most, where only counters changed.
const STATUS_PERIOD: Duration = Duration::from_millis(100);

/// How long a shutdown waits for the peer at most, so that the whole of it stays below 1.5 s.
const LEAVE_MAX: Duration = Duration::from_millis(1400);

/// Shorter ones are the time between the readings of two clocks, and harm nobody.
const SUSPEND_MIN: Duration = Duration::from_millis(10);

/// Larger than the largest advert, 255 IPv6 addresses.
const DATAGRAM_BYTES: usize = 8192;

pub(super) struct Rounds {
    stations: Vec<Station<LinuxLink>>,
    host: Box<dyn Host>,
    monitor: Monitor,
    mailbox: Arc<Mailbox>,
    journal: Journal,
    options: Options,
    groups: SyncGroups,
    /// Monitor, mailbox, stations, the owner's.
    descriptors: Vec<libc::pollfd>,
    watched: Vec<RawFd>,
    /// Descriptors of the owner that were ready in the last wait and are left out until the next look at health: a
    /// descriptor that stays readable must not make a real-time thread spin.
    muted: Vec<RawFd>,
    buffer: Vec<u8>,
    /// What the owner last said of each router, in the stations' order.
    abilities: Vec<Ability>,
    health_at: Time,
    survey_at: Time,
    status_at: Time,
    is_status_stale: bool,
    has_mail: bool,
    leaving: Leaving,
    /// Whose chore is next.
    turn: usize,
    /// For how long the machine has been suspended since it started.
    suspended: Duration,
    /// How long after its time the last wait ended.
    late: Duration,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// Asked the peers to take over; ends when all have, or at this time.
    Until(Time),
    Done,
}

impl Rounds {
    pub(super) fn new(
        stations: Vec<Station<LinuxLink>>,
        host: Box<dyn Host>,
        monitor: Monitor,
        mailbox: Arc<Mailbox>,
        journal: Journal,
        options: Options,
    ) -> Rounds {
        Rounds {
            stations,
            host,
            monitor,
            mailbox,
            journal,
            options,
            groups: SyncGroups::default(),
            descriptors: Vec::with_capacity(64),
            watched: Vec::with_capacity(16),
            muted: Vec::with_capacity(16),
            buffer: vec![0; DATAGRAM_BYTES],
            abilities: Vec::new(),
            health_at: Time::default(),
            survey_at: Time::default(),
            status_at: Time::default(),
            is_status_stale: true,
            has_mail: true,
            leaving: Leaving::No,
            turn: 0,
            suspended: suspended().unwrap_or_default(),
            late: Duration::ZERO,
        }
    }

    /// One line for everything that could not be had, with its remedy.
    pub(super) fn warn_unprotected(&mut self, missing: &[Shortfall]) {
        if missing.is_empty() {
            return;
        }
        let list: Vec<_> =
            missing.iter().map(|m| format!("{} (needs {}: {})", m.what, m.capability, m.cause)).collect();
        let text = format!("VRRP runs without {}; adverts may be late on a busy machine", list.join(" and "));
        self.journal.note_unprotected(text);
    }

    /// Runs until a shutdown has been carried out.
    pub(super) fn run(mut self) {
        self.abilities = vec![Ability::default(); self.stations.len()];
        self.groups = SyncGroups::form(&mut self.stations, &self.abilities, now());
        self.ask_health();
        while self.leaving != Leaving::Done {
            self.survey_if_due();
            self.obey();
            self.leave_if_done();
            self.settle_groups();
            self.tell();
            self.publish();
            self.journal.flush();
            self.wait();
            self.hear();
            self.settle_groups();
            self.tick();
            self.settle_groups();
            self.do_chore();
            self.notice_changes();
            if now() >= self.health_at || !self.muted.is_empty() {
                self.ask_health();
            }
        }
        self.tell();
        self.is_status_stale = true;
        self.publish();
        self.stations.iter_mut().for_each(Station::close);
        self.journal.close();
    }

    fn wait(&mut self) {
        self.watched.clear();
        self.host.watch(&mut self.watched);
        self.descriptors.clear();
        self.descriptors.push(readable(self.monitor.descriptor()));
        self.descriptors.push(readable(self.mailbox.descriptor()));
        self.descriptors.extend(self.stations.iter().flat_map(Station::descriptors).map(readable));
        let owners_from = self.descriptors.len();
        let is_heeded = |descriptor: &&RawFd| !self.muted.contains(*descriptor);
        self.descriptors.extend(self.watched.iter().filter(is_heeded).copied().map(readable));
        let begun = now();
        let looks = self.stations.iter().filter_map(|station| station.look_by(begun));
        let deadline = looks.fold(self.deadline(), Time::min);
        let result = wait(&mut self.descriptors, Some(deadline));
        self.late = now().since(deadline.max(begun));
        if result.is_err() {
            // Only a descriptor table that somebody else broke gets here; go on by the clock, but never spin.
            std::thread::sleep(Duration::from_millis(1));
        }
        let is_ready = |entry: &libc::pollfd| entry.revents != 0;
        self.has_mail |= self.descriptors.get(1).is_some_and(is_ready);
        let owners = self.descriptors.get(owners_from..).unwrap_or_default();
        self.muted.extend(owners.iter().filter(|entry| is_ready(entry)).map(|entry| entry.fd));
    }

    fn deadline(&self) -> Time {
        let stations = self.stations.iter().filter_map(Station::deadline);
        let until = match self.leaving {
            Leaving::Until(until) => Some(until),
            Leaving::No | Leaving::Done => None,
        };
        stations.chain(until).fold(self.health_at.min(self.survey_at), Time::min)
    }

    fn hear(&mut self) {
        self.notice_suspend();
        for station in &mut self.stations {
            station.hear(now, &mut self.buffer);
            station.wake_late(now(), self.late);
        }
    }

    fn tick(&mut self) {
        for station in &mut self.stations {
            station.tick(now());
        }
    }

    /// One slice of one router, in turn; then adverts are looked at again.
    fn do_chore(&mut self) {
        for _ in 0..self.stations.len() {
            self.turn = (self.turn + 1) % self.stations.len();
            if self.stations.get_mut(self.turn).is_some_and(|station| station.do_chore(now())) {
                return;
            }
        }
    }

    /// CLOCK_MONOTONIC stands still while the machine is suspended; the addresses did not.
    fn notice_suspend(&mut self) {
        let Some(total) = suspended() else { return };
        let slept = total.saturating_sub(self.suspended);
        if slept >= SUSPEND_MIN {
            self.suspended = total;
            self.stations.iter_mut().for_each(|station| station.sleep_unnoticed(now(), slept));
        }
    }

    /// Not while leaving: then each member lets go for itself.
    fn settle_groups(&mut self) {
        if self.leaving == Leaving::No {
            self.groups.settle(&mut self.stations, &self.abilities, now());
        }
    }

    fn notice_changes(&mut self) {
        if self.descriptors.first().is_none_or(|monitor| monitor.revents == 0) {
            return;
        }
        let stations = &mut self.stations;
        // Changes make the concerned routers look for themselves, once, which also tells our own doing from others'.
        let drained = self.monitor.drain(|change: Change| {
            stations.iter_mut().for_each(|station| station.notice(&change));
        });
        let mut have_worked = true;
        for station in stations.iter_mut().filter(|station| station.is_survey_due()) {
            have_worked &= station.survey(now());
        }
        if !have_worked || drained.is_err() {
            self.survey_at = self.survey_at.min(now().plus(SURVEY_RETRY));
        }
    }

    fn survey_if_due(&mut self) {
        if now() >= self.survey_at {
            let mut have_worked = true;
            for station in &mut self.stations {
                have_worked &= station.survey(now());
            }
            self.survey_at = now().plus(if have_worked { SURVEY_PERIOD } else { SURVEY_RETRY });
        }
    }

    fn ask_health(&mut self) {
        let is_periodic = now() >= self.health_at;
        self.learn_abilities();
        if is_periodic {
            self.muted.clear();
            self.health_at = now().plus(HEALTH_PERIOD);
        }
    }

    /// Asks the owner about every router and hands on what is new.
    fn learn_abilities(&mut self) {
        let of_node = self.host.health(now());
        let known = self.stations.iter_mut().zip(&mut self.abilities);
        for (place, (station, known)) in known.enumerate() {
            let ability = self.host.ability(place, station.name(), of_node);
            let before = std::mem::replace(known, ability);
            // The weight first: a node that becomes able again must not advertise its old priority.
            if before.weight != ability.weight {
                station.weigh(now(), ability.weight);
            }
            if before.health != ability.health {
                station.input(now(), Input::Health(self.groups.health(place, ability.health)));
            }
            self.is_status_stale |= before != ability;
        }
    }

    fn obey(&mut self) {
        if !self.has_mail {
            return;
        }
        self.mailbox.silence();
        // Somebody is posting this very moment: his lock may take long, ours must not. The next round sees it.
        let Some(commands) = self.mailbox.take() else { return };
        self.has_mail = false;
        for command in commands {
            match command {
                Command::HandOver => self.stations.iter_mut().for_each(|s| s.input(now(), Input::HandOver)),
                Command::Resume => self.stations.iter_mut().for_each(|s| s.input(now(), Input::Resume)),
                Command::Reload(routers) => self.reload(routers),
                Command::Shutdown => self.begin_to_leave(),
            }
        }
    }

    /// Exchanges the set of routers. All new ones open before anything is touched; if one cannot, nothing changes.
    fn reload(&mut self, routers: Vec<Router>) {
        let mut opened = Vec::with_capacity(routers.len());
        for router in routers {
            let stays = self.stations.iter().any(|station| station.can_become(&router));
            let open = || open_station(router.clone(), self.options.realtime_priority).map(Some);
            match if stays { Ok(None) } else { open() } {
                Ok(station) => opened.push((router, station)),
                Err(error) => {
                    self.host.reloaded(Err(&error));
                    return self.journal.note(&router.name.as_str().into(), Remark::Trouble(error, 0));
                }
            }
        }
        self.tell(); // under the old numbers
        let mut leaving = std::mem::take(&mut self.stations);
        for (router, fresh) in opened {
            match leaving.iter().position(|station| station.can_become(&router)) {
                Some(index) => {
                    let mut station = leaving.swap_remove(index);
                    station.follow(now(), router);
                    self.stations.push(station);
                }
                None => self.stations.extend(fresh),
            }
        }
        for mut station in leaving {
            station.input(now(), Input::Shutdown);
            while let Some(remark) = station.next_remark() {
                self.journal.note(station.name(), remark);
            }
        }
        self.settle_reload();
        self.host.reloaded(Ok(()));
        self.is_status_stale = true;
    }

    /// Tells every router where it stands among the others. Its place may have changed, and a new one knows nothing yet.
    fn settle_reload(&mut self) {
        let of_node = self.host.health(now());
        self.abilities.clear();
        for (place, station) in self.stations.iter_mut().enumerate() {
            let ability = self.host.ability(place, station.name(), of_node);
            station.weigh(now(), ability.weight);
            if station.state() == State::Initialize {
                station.input(now(), Input::Health(ability.health));
            }
            self.abilities.push(ability);
        }
        // Before the groups: a new member that only has not been looked at yet is no faulty one, for which the others
        // would have to yield.
        self.survey_at = now();
        self.survey_if_due();
        self.groups = SyncGroups::form(&mut self.stations, &self.abilities, now());
    }

    /// Offers all addresses to the peers and keeps them meanwhile.
    fn begin_to_leave(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        let longest = self.stations.iter().map(patience).max().unwrap_or_default();
        self.leaving = Leaving::Until(now().plus(longest.min(LEAVE_MAX)));
        for station in &mut self.stations {
            station.input(now(), Input::HandOver);
        }
    }

    fn leave_if_done(&mut self) {
        let Leaving::Until(until) = self.leaving else { return };
        let is_held = self.stations.iter().any(Station::holds_addresses);
        if is_held && now() < until {
            return;
        }
        for station in &mut self.stations {
            station.input(now(), Input::Shutdown);
        }
        self.leaving = Leaving::Done;
    }

    /// Passes on what happened, after all that had to be done about it.
    fn tell(&mut self) {
        for (index, station) in self.stations.iter_mut().enumerate() {
            let name = Arc::clone(station.name());
            while let Some(remark) = station.next_remark() {
                self.is_status_stale = true;
                if let Remark::Event(event) = &remark {
                    self.host.report(index, event);
                    if self.leaving != Leaving::No && *event == Event::HandOverRefused {
                        station.input(now(), Input::Shutdown);
                    }
                    if !station.is_worth_logging(now(), event) {
                        continue;
                    }
                }
                self.journal.note(&name, remark);
            }
        }
    }

    /// Makes the routers' state visible to other threads.
    pub(super) fn publish(&mut self) {
        if !self.is_status_stale && now() < self.status_at {
            return;
        }
        let stations = &self.stations;
        let is_written = self.mailbox.publish(|list| {
            let is_same_set = list.len() == stations.len()
                && stations.iter().zip(list.iter()).all(|(station, status)| station.router().name == status.name);
            if is_same_set {
                stations.iter().zip(list).for_each(|(station, status)| station.update(status));
            } else {
                *list = stations.iter().map(Station::status).collect();
            }
        });
        if is_written {
            self.is_status_stale = false;
            self.status_at = now().plus(STATUS_PERIOD);
        }
    }
}

/// How long a peer may take to answer our release: its skew time, which we can only guess from our own settings, and
/// two intervals for its advert to come.
fn patience(station: &Station<LinuxLink>) -> Duration {
    let settings = &station.router().settings;
    skew_time(Priority(1), settings.advert_interval) + settings.advert_interval.duration() * 2
}
