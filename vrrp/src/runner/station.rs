//! One virtual router on its link: feeds the machine what the link says, does on the link what the machine says.

mod chores;
#[cfg(test)]
mod tests;
mod watch;

use super::journal::Remark;
use super::{Counters, Drops, Router, RouterStatus, Speech};
use crate::alarm::{Alarm, Alarms};
use crate::announce;
use crate::authentication::{AuthenticationError, Authenticator, Signed};
use crate::error::DecodeError;
use crate::group::Member;
use crate::link::linux::clock::utc;
use crate::link::{Change, Datagram, Link, LinkError, Survey};
use crate::machine::{Action, Event, Health, Input, Machine, Reason, Settings, State};
use crate::packet::{self, Advert, Carrier, Checked, Checksum, ChecksumChoice, Peers};
use crate::params::{Priority, Time};
use chores::{Chore, Chores};
use ipnet::IpNet;
use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use watch::{Lateness, Lookout, Order};

/// Datagrams read in one go. More than a receive buffer of the kernel's default size holds, so that a queue is always
/// emptied, yet a flood cannot keep the thread here.
const DRAIN_MAX: usize = 1024;

/// The same refusal of the operating system is logged this often.
const TROUBLE_PERIOD: Duration = Duration::from_secs(10);

/// A peer with other settings is logged this often.
const MISMATCH_PERIOD: Duration = Duration::from_secs(3600);

/// How often alarms and the wire are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(100);

/// Holds the message of a usual number of addresses; a longer one makes room for itself once.
const MESSAGE_BYTES: usize = 512;

/// Remarks kept for one round; what a flood adds beyond is the same again and again.
const REMARKS_MAX: usize = 64;

pub(super) struct Station<L> {
    router: Router,
    name: Arc<str>,
    /// What the owner adds to the configured priority.
    weight: i16,
    /// A losing advert was heard that the sync group does not know of yet.
    is_contested: bool,
    /// As last told, whether it counts or not.
    health: Health,
    machine: Machine,
    link: L,
    survey: Survey,
    is_survey_due: bool,
    holds_addresses: bool,
    since: Time,
    /// What is sent, with the priority it was last sent with.
    advert: Advert,
    /// One a destination.
    sent: Vec<SentAdvert>,
    /// Room for a message with its trailer.
    signed: Vec<u8>,
    checksum: ChecksumChoice,
    authenticator: Option<Authenticator>,
    heard: HeardAdvert,
    /// Announcements of all virtual addresses for the surveyed hardware address: first one frame of each, then the
    /// second forms.
    frames: Vec<Vec<u8>>,
    /// How many addresses there are to hold, advertised and excluded.
    addresses: usize,
    chores: Chores,
    lookout: Lookout,
    lateness: Lateness,
    watch_at: Time,
    /// When the lease of held addresses began or was last asked to be renewed.
    renewed: Time,
    alarms: Alarms,
    counters: Counters,
    remarks: VecDeque<Remark>,
    quiet: Quiet,
}

/// The last encoded advert; nearly always the next one is the same.
struct SentAdvert {
    destination: IpAddr,
    /// What the message was encoded from; none before the first and after a change of settings.
    of: Option<(Priority, IpAddr, Checksum)>,
    /// Without trailer, whose stamp is always another.
    message: Vec<u8>,
}

/// The last accepted datagram; an equal one needs no second look. Another one takes its place in the same memory.
struct HeardAdvert {
    /// None before the first.
    carrier: Option<Carrier>,
    message: Vec<u8>,
    advert: Advert,
    is_interval_other: bool,
    is_list_other: bool,
    /// None of our addresses is in it.
    is_list_foreign: bool,
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Bytes(DecodeError),
    Authentication(AuthenticationError),
}

/// What was logged already and need not be again.
#[derive(Default)]
struct Quiet {
    /// One entry an operation, so as many as there are texts in `link`.
    troubles: Vec<Trouble>,
    dropped: Option<Refusal>,
    losing_advert: Option<Time>,
    mismatch: Option<Time>,
}

struct Trouble {
    operation: &'static str,
    logged: Time,
    repeated: u64,
}

impl<L: Link> Station<L> {
    pub(super) fn new(router: Router, link: L) -> Station<L> {
        let mut machine = Machine::new(router.settings.clone(), router.lease);
        machine.set_announcing(router.announcing.clone());
        Station {
            name: router.name.as_str().into(),
            weight: 0,
            is_contested: false,
            health: Health::Able,
            machine,
            link,
            survey: Survey::default(),
            is_survey_due: false,
            holds_addresses: false,
            since: Time::default(),
            advert: router.settings.advert(Priority::RELEASE),
            sent: destinations(&router),
            signed: Vec::with_capacity(MESSAGE_BYTES),
            checksum: router.speech.checksum,
            authenticator: router.speech.authentication.as_ref().map(|a| a.fresh.clone()),
            heard: HeardAdvert::none(&router),
            frames: Vec::new(),
            addresses: router.addresses.len() + router.excluded.len(),
            chores: Chores::default(),
            lookout: Lookout::default(),
            lateness: Lateness::default(),
            watch_at: Time::default(),
            renewed: Time::default(),
            alarms: Alarms::default(),
            counters: Counters::default(),
            remarks: VecDeque::with_capacity(2 * REMARKS_MAX),
            quiet: Quiet::default(),
            router,
        }
    }

    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// Whether `router` is this one with other settings, so that it can follow without leaving its state. Names do not
    /// count: an operator who removes the first of several renumbers the rest.
    pub(super) fn can_become(&self, router: &Router) -> bool {
        let identity = |router: &Router| {
            let settings = &router.settings;
            (settings.vrid, settings.family, settings.version, settings.priority == Priority::OWNER)
        };
        self.router.interface == router.interface
            && self.router.virtual_mac == router.virtual_mac
            && identity(&self.router) == identity(router)
    }

    /// Follows a reload. Nothing moves that did not change.
    pub(super) fn follow(&mut self, now: Time, router: Router) {
        if router == self.router {
            return;
        }
        let of = |router: &Router| (held_addresses(router), router.lease);
        let (addresses, lease) = of(&router);
        let is_moved = (&addresses, lease) != (&held_addresses(&self.router), self.router.lease);
        if is_moved && let Err(error) = self.link.reassign(&addresses, lease) {
            self.complain(now, error);
        }
        let is_redirected = self.redirect(&router);
        let adds_excluded = router.excluded.iter().any(|network| !self.router.excluded.contains(network));
        self.addresses = addresses.len();
        self.name = router.name.as_str().into();
        self.router = router;
        self.machine.set_announcing(self.router.announcing.clone());
        self.advert = self.router.settings.advert(Priority::RELEASE);
        self.sent.iter_mut().for_each(|sent| sent.of = None);
        self.heard = HeardAdvert::none(&self.router);
        self.plan_announcements();
        if is_redirected {
            self.survey(now);
        }
        self.weigh(now, self.weight);
        if is_moved && self.holds_addresses {
            self.hold_addresses(now);
            if adds_excluded {
                self.announce(now);
            }
        }
    }

    /// Learns to speak as `router` does. Whether the link has to be looked at again, because it talks to others now.
    fn redirect(&mut self, router: &Router) -> bool {
        let (old, new) = (&self.router.speech, &router.speech);
        if old == new {
            return false;
        }
        if old.checksum != new.checksum {
            self.checksum = new.checksum;
        }
        let rules = new.authentication.as_ref().map(|authentication| &authentication.fresh);
        match (&mut self.authenticator, rules) {
            // What was sent and heard stays known, or recordings of it would be believed.
            (Some(authenticator), Some(rules)) => authenticator.adopt(rules),
            (authenticator, rules) => *authenticator = rules.cloned(),
        }
        self.sent = destinations(router);
        let of = |speech: &Speech| (speech.source, unicast_peers(speech));
        let is_moved = of(old) != of(new);
        if is_moved {
            self.link.redirect(unicast_peers(new), new.source);
        }
        is_moved
    }

    /// Moves the priority away from the configured one by what the owner's trackers say.
    pub(super) fn weigh(&mut self, now: Time, weight: i16) {
        self.weight = weight;
        let settings = &self.router.settings;
        let settings = Settings { priority: settings.priority.moved_by(weight), ..settings.clone() };
        self.machine.reconfigure(now, settings, self.router.lease);
        self.act(now);
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn state(&self) -> State {
        self.machine.state()
    }

    /// What it is to its sync group.
    pub(super) fn member(&self) -> Member {
        Member::of(&self.machine)
    }

    pub(super) fn is_contested(&self) -> bool {
        self.is_contested
    }

    /// Whether a losing advert was heard since the last question.
    pub(super) fn take_contest(&mut self) -> bool {
        std::mem::take(&mut self.is_contested)
    }

    pub(super) fn holds_addresses(&self) -> bool {
        self.holds_addresses
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.link.descriptors().into_iter().flatten()
    }

    /// The last thing that happens to it at the end of the process.
    pub(super) fn close(&mut self) {
        self.link.close();
    }

    /// Remembers whether a change calls for a look.
    pub(super) fn notice(&mut self, change: &Change) {
        self.is_survey_due |= self.link.is_concerned(change);
    }

    pub(super) fn is_survey_due(&self) -> bool {
        self.is_survey_due
    }

    /// When `tick` or `do_chores` wants to be called, at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        let chores = self.chores.deadline(self.router.announcing.frames_per_second);
        [self.machine.deadline(), chores].into_iter().flatten().min()
    }

    /// What is to be logged and reported, oldest first.
    pub(super) fn next_remark(&mut self) -> Option<Remark> {
        self.remarks.pop_front()
    }

    /// Looks at the interface and tells the machine what is new. False if the look failed, which counts as no link.
    pub(super) fn survey(&mut self, now: Time) -> bool {
        self.is_survey_due = false;
        let looked = self.link.survey();
        let has_worked = looked.is_ok();
        let survey = looked.unwrap_or_else(|error| {
            self.complain(now, error);
            Survey { virtual_present: self.survey.virtual_present, ..Survey::default() }
        });
        let before = std::mem::replace(&mut self.survey, survey);
        if (before.mac, before.is_forwarding) != (self.survey.mac, self.survey.is_forwarding) || self.frames.is_empty()
        {
            self.plan_announcements();
        }
        if before.is_resident != self.survey.is_resident {
            self.input(now, Input::Health(self.health));
        }
        let (present, all, was_holding) = (self.survey.virtual_present, self.addresses, self.holds_addresses);
        if present > 0 && !self.holds_addresses && self.machine.state() == State::Initialize {
            self.input(now, Input::AddressFound);
        }
        match (before.source, self.survey.source) {
            (old, Some(source)) if old != Some(source) => self.input(now, Input::LinkUp { source }),
            (Some(_), None) => self.input(now, Input::LinkDown),
            _ => {}
        }
        // Those that were put there just now were not there when we looked.
        if was_holding && self.holds_addresses && present < all && !self.chores.is_holding() {
            self.notice_expiry(now);
            self.input(now, Input::AddressLost);
        }
        has_worked
    }

    /// Hands all queued adverts to the machine.
    pub(super) fn hear(&mut self, clock: impl Fn() -> Time, buffer: &mut [u8]) {
        for _ in 0..DRAIN_MAX {
            match self.link.receive(buffer) {
                Ok(Some(datagram)) => {
                    let now = clock();
                    self.lookout.hear(now);
                    match self.hear_datagram(now, &datagram) {
                        Ok(()) => self.quiet.dropped = None,
                        Err(error) => self.drop_datagram(now, error),
                    }
                }
                Ok(None) => return,
                Err(error) => return self.complain(clock(), error),
            }
        }
    }

    /// Lets time pass. All queued adverts must have been heard.
    pub(super) fn tick(&mut self, now: Time) {
        if let Some(deadline) = self.machine.deadline().filter(|deadline| *deadline <= now) {
            let is_late = now.since(deadline) > self.router.settings.advert_interval.duration() / 2;
            if is_late && self.machine.state() == State::Active {
                self.counters.late_own_adverts += 1;
                if self.lateness.add(now) {
                    self.sign(now, Alarm::LateAdverts);
                }
            }
            self.input(now, Input::Tick);
        }
        if now >= self.watch_at {
            self.watch_at = now.plus(WATCH_PERIOD);
            self.watch(now);
        }
    }

    /// One slice of what is to be done for the addresses. True if there was one; adverts come before the next.
    pub(super) fn do_chore(&mut self, now: Time) -> bool {
        let per_second = self.router.announcing.frames_per_second;
        match self.chores.next(now, self.addresses, self.frames.len(), per_second) {
            None => return false,
            Some(Chore::Hold(places)) => {
                if let Err(error) = self.link.hold_addresses(places) {
                    self.counters.address_errors += 1;
                    self.complain(now, error);
                }
            }
            Some(Chore::Announce(places)) => self.send_frames(now, places),
        }
        true
    }

    /// This thread did not run for so long, which its clock does not show.
    pub(super) fn sleep_unnoticed(&mut self, now: Time, late: Duration) {
        self.input(now, Input::Slept { late });
    }

    /// By when this thread has to have run, if only to know that it did: a Backup's deadline is three intervals off, and
    /// one that stood still in between together with the Active would not notice.
    pub(super) fn look_by(&self, now: Time) -> Option<Time> {
        let interval = self.router.settings.advert_interval.duration();
        (self.machine.state() == State::Backup).then(|| now.plus(interval))
    }

    /// This thread ran so much later than it should have. All queued adverts must have been heard.
    pub(super) fn wake_late(&mut self, now: Time, by: Duration) {
        if by >= self.router.settings.advert_interval.duration() {
            self.input(now, Input::Late { by });
        }
    }

    /// Conditions that nothing tells of, and the end of those that were told.
    fn watch(&mut self, now: Time) {
        if self.machine.is_damped(now) {
            self.sign(now, Alarm::Damped);
        }
        if self.lookout.awaits_result()
            && let Some(seen) = self.link.overheard()
        {
            if self.lookout.judge(seen.from_others) {
                self.sign(now, Alarm::Filtered);
            }
            if seen.from_our_address > 0 {
                self.sign(now, Alarm::AddressConflict);
            }
        }
        if self.machine.state() != State::Initialize {
            let interval = self.router.settings.advert_interval.duration();
            match self.lookout.order(now, interval * 2, interval * 5 / 2) {
                Some(Order::Begin) => self.link.overhear(true),
                Some(Order::End) => self.link.overhear(false),
                None => {}
            }
        }
        while let Some(alarm) = self.alarms.expire(now) {
            self.remark(Event::AlarmCleared(alarm));
        }
    }

    fn sign(&mut self, now: Time, alarm: Alarm) {
        if self.alarms.sign(now, alarm) {
            self.remark(Event::AlarmRaised(alarm));
        }
    }

    fn remark(&mut self, event: Event) {
        self.remarks.push_back(Remark::Event(event));
    }

    /// Our addresses are gone, or will be found to be: whether by their lease.
    fn notice_expiry(&mut self, now: Time) {
        if self.holds_addresses && now.since(self.renewed) >= self.router.lease {
            self.sign(now, Alarm::LeaseExpired);
        }
    }

    /// One input, then everything that follows from it.
    pub(super) fn input(&mut self, now: Time, input: Input<'_>) {
        // An owner's own addresses cannot move: if it let go, two nodes would answer for them (RFC 9568 §6.1: the owner
        // is Active whenever it is there).
        let input = match input {
            Input::Health(health) => {
                self.health = health;
                Input::Health(if self.survey.is_resident { Health::Able } else { health })
            }
            Input::Yield if self.survey.is_resident => return,
            Input::HandOver if self.survey.is_resident => return self.remark(Event::HandOverRefused),
            other => other,
        };
        self.machine.handle(now, input);
        self.act(now);
    }

    pub(super) fn status(&self) -> RouterStatus {
        RouterStatus {
            name: self.router.name.clone(),
            interface: self.router.interface.clone(),
            state: self.machine.state(),
            since: self.since,
            priority: self.machine.effective_priority(),
            source: self.survey.source,
            holds_addresses: self.holds_addresses,
            health: self.machine.health(),
            active_peer: self.machine.active_peer(),
            alarms: self.alarms,
            counters: self.counters.clone(),
        }
    }

    /// Brings a published status up to date without allocating.
    pub(super) fn update(&self, status: &mut RouterStatus) {
        status.state = self.machine.state();
        status.since = self.since;
        status.priority = self.machine.effective_priority();
        status.source = self.survey.source;
        status.holds_addresses = self.holds_addresses;
        status.health = self.machine.health();
        status.active_peer = self.machine.active_peer();
        status.alarms = self.alarms;
        status.counters.clone_from(&self.counters);
    }

    fn hear_datagram(&mut self, now: Time, datagram: &Datagram<'_>) -> Result<(), Refusal> {
        let (carrier, message) = match datagram.carrier {
            Some(carrier) => (carrier, datagram.bytes),
            None => packet::ipv4(datagram.bytes)?,
        };
        let is_same = self.heard.carrier == Some(carrier) && self.heard.message == message;
        // A signed message is never the same twice, unless somebody replays it.
        if self.authenticator.is_some() || !is_same {
            self.read_advert(carrier, message)?;
        }
        let heard = &self.heard;
        self.counters.count(heard);
        if (heard.is_interval_other || heard.is_list_other)
            && self.quiet.mismatch.is_none_or(|last| now.since(last) >= MISMATCH_PERIOD)
        {
            self.quiet.mismatch = Some(now);
            let (interval, addresses) = (heard.is_interval_other, heard.is_list_other);
            self.remarks.push_back(Remark::Mismatch { source: carrier.source, interval, addresses });
        }
        let signs = [
            (heard.is_interval_other, Alarm::IntervalMismatch),
            (heard.is_list_other && !heard.is_list_foreign, Alarm::AddressListMismatch),
            (heard.is_list_foreign, Alarm::DuplicateVrid),
        ];
        let input = Input::Advert { advert: &heard.advert, source: carrier.source, received: datagram.received };
        self.machine.handle(now, input);
        signs.into_iter().filter(|(is_so, _)| *is_so).for_each(|(_, alarm)| self.sign(now, alarm));
        self.act(now);
        Ok(())
    }

    fn read_advert(&mut self, carrier: Carrier, bytes: &[u8]) -> Result<(), Refusal> {
        let vrid = packet::vrid(bytes)?;
        let settings = &self.router.settings;
        if vrid != settings.vrid {
            return Err(DecodeError::Vrid { got: vrid.get() }.into());
        }
        let received = self.router.speech.dialect.check(bytes, &carrier)?;
        if let Some(authenticator) = &mut self.authenticator {
            let message = bytes.get(..bytes.len() - received.trailer.map_or(0, |t| t.len())).unwrap_or_default();
            let signed = Signed { source: carrier.source, message };
            authenticator.verify(utc(), signed, received.trailer.as_ref())?;
        }
        self.checksum.hear(received.checksum);
        self.heard.replace(carrier, bytes, &received, settings);
        Ok(())
    }

    fn act(&mut self, now: Time) {
        while let Some(action) = self.machine.poll() {
            match action {
                Action::Send { priority } => self.send(now, priority),
                Action::Install => {
                    self.holds_addresses = true;
                    self.hold_addresses(now);
                }
                Action::Refresh => self.renew_addresses(now),
                Action::Withdraw => self.drop_addresses(now),
                Action::Announce => self.announce(now),
                Action::Report(event) => self.report(now, event),
            }
        }
    }

    fn send(&mut self, now: Time, priority: Priority) {
        let Some(source) = self.survey.source else { return };
        let form = self.checksum.to_send();
        self.encode((priority, source, form));
        for at in 0..self.sent.len() {
            if let Err(error) = self.send_one(at, source) {
                self.counters.send_errors += 1;
                if !error.is_link_gone() {
                    self.sign(now, Alarm::SendRefused);
                }
                self.complain(now, error);
                continue;
            }
            self.counters.adverts_sent += 1;
            self.counters.releases_sent += u64::from(priority == Priority::RELEASE);
        }
    }

    /// The same advert for every destination, which the checksum covers.
    fn encode(&mut self, of: (Priority, IpAddr, Checksum)) {
        let (priority, source, form) = of;
        self.advert.priority = priority;
        let dialect = &self.router.speech.dialect;
        for sent in self.sent.iter_mut().filter(|sent| sent.of != Some(of)) {
            dialect.encode_into(&mut sent.message, &self.advert, source, sent.destination, form);
            sent.of = Some(of);
        }
    }

    fn send_one(&mut self, at: usize, source: IpAddr) -> Result<(), LinkError> {
        let Some(SentAdvert { destination, message, .. }) = self.sent.get(at) else { return Ok(()) };
        let Some(authenticator) = &mut self.authenticator else { return self.link.send(*destination, message) };
        self.signed.clear();
        self.signed.extend_from_slice(message);
        if let Some(trailer) = authenticator.sign(utc(), Signed { source, message }) {
            self.signed.extend_from_slice(&trailer);
        }
        self.link.send(*destination, &self.signed)
    }

    /// The first slice at once, the rest between adverts.
    fn hold_addresses(&mut self, now: Time) {
        self.renewed = now;
        self.chores.hold();
        self.do_chore(now);
    }

    fn renew_addresses(&mut self, now: Time) {
        self.renewed = now;
        self.counters.lease_refreshes += 1;
        if let Err(error) = self.link.renew_addresses() {
            self.counters.address_errors += 1;
            self.complain(now, error);
        }
    }

    fn drop_addresses(&mut self, now: Time) {
        self.holds_addresses = false;
        self.chores.cancel();
        if let Err(error) = self.link.drop_addresses() {
            self.counters.address_errors += 1;
            self.complain(now, error);
        }
    }

    fn announce(&mut self, now: Time) {
        self.chores.announce();
        if !self.chores.is_holding() {
            self.do_chore(now);
        }
    }

    fn send_frames(&mut self, now: Time, places: std::ops::Range<usize>) {
        for frame in self.frames.get(places).unwrap_or_default() {
            match self.link.announce(frame) {
                Ok(()) => self.counters.announcements_sent += 1,
                Err(error) => return self.complain(now, error),
            }
        }
    }

    fn report(&mut self, now: Time, event: Event) {
        self.is_contested |= matches!(event, Event::LosingAdvert { .. });
        match &event {
            Event::Transition { to, reason, .. } => {
                self.since = now;
                self.counters.transitions_to_active += u64::from(*to == State::Active);
                if *reason == Reason::AddressFlapping {
                    self.sign(now, Alarm::AddressesRemoved);
                }
            }
            Event::NotHeard { .. } => self.sign(now, Alarm::NotHeard),
            Event::LosingAdvert { .. } if self.alarms.is_raised(Alarm::NotHeard) => self.sign(now, Alarm::NotHeard),
            Event::TwoOwners { .. } => self.sign(now, Alarm::TwoOwners),
            Event::AddressConflict { .. } => self.sign(now, Alarm::AddressConflict),
            Event::AddressRestored { count } if *count > 1 => self.sign(now, Alarm::AddressesRemoved),
            Event::Stalled { late } => {
                self.counters.stalls += 1;
                self.counters.longest_stall = self.counters.longest_stall.max(*late);
                self.sign(now, Alarm::Stalled);
                self.notice_expiry(now);
            }
            Event::LosingAdvert { .. }
            | Event::AddressRestored { .. }
            | Event::HandOverRefused
            | Event::AlarmRaised(_)
            | Event::AlarmCleared(_) => {}
        }
        let is_repeated =
            matches!(event, Event::LosingAdvert { .. } | Event::TwoOwners { .. } | Event::AddressConflict { .. });
        if !is_repeated || self.remarks.len() < REMARKS_MAX {
            self.remark(event);
        }
    }

    /// Whether an event of this kind was not logged a moment ago already.
    pub(super) fn is_worth_logging(&mut self, now: Time, event: &Event) -> bool {
        match event {
            Event::LosingAdvert { .. } => {}
            // Their alarm is logged, once and with a remedy.
            Event::TwoOwners { .. } | Event::AddressConflict { .. } | Event::NotHeard { .. } => return false,
            Event::Transition { .. }
            | Event::Stalled { .. }
            | Event::HandOverRefused
            | Event::AddressRestored { .. }
            | Event::AlarmRaised(_)
            | Event::AlarmCleared(_) => return true,
        }
        let is_due = self.quiet.losing_advert.is_none_or(|last| now.since(last) >= TROUBLE_PERIOD);
        if is_due {
            self.quiet.losing_advert = Some(now);
        }
        is_due
    }

    fn plan_announcements(&mut self) {
        let Survey { mac, is_forwarding, .. } = self.survey;
        self.frames.clear();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for network in held_addresses(&self.router) {
            let mut forms = announce::frames(mac, network.addr(), is_forwarding).into_iter();
            first.extend(forms.next());
            second.extend(forms);
        }
        self.frames.extend(first.into_iter().chain(second));
    }

    fn drop_datagram(&mut self, now: Time, refusal: Refusal) {
        self.counters.drops.count(&refusal);
        if let Some(alarm) = refusal.alarm() {
            self.sign(now, alarm);
        }
        let is_known = |last: Refusal| last.is_like(&refusal);
        if !self.quiet.dropped.is_some_and(is_known) && !matches!(refusal, Refusal::Bytes(DecodeError::Vrid { .. })) {
            self.quiet.dropped = Some(refusal);
            self.remarks.push_back(Remark::Dropped(refusal));
        }
    }

    /// Keeps an error for the log, unless the same operation failed a moment ago; then it is only counted.
    fn complain(&mut self, now: Time, error: LinkError) {
        let known = self.quiet.troubles.iter_mut().find(|trouble| trouble.operation == error.operation);
        let mut repeated = 0;
        match known {
            Some(trouble) if now.since(trouble.logged) < TROUBLE_PERIOD => return trouble.repeated += 1,
            Some(trouble) => {
                repeated = std::mem::take(&mut trouble.repeated);
                trouble.logged = now;
            }
            None => self.quiet.troubles.push(Trouble { operation: error.operation, logged: now, repeated: 0 }),
        }
        self.remarks.push_back(Remark::Trouble(error, repeated));
    }
}

/// What is put on the interface: the advertised addresses, then the others.
pub(super) fn held_addresses(router: &Router) -> Vec<IpNet> {
    router.addresses.iter().chain(&router.excluded).copied().collect()
}

/// None for the group.
pub(super) fn unicast_peers(speech: &Speech) -> Vec<IpAddr> {
    match &speech.dialect.peers {
        Peers::Multicast => Vec::new(),
        Peers::Unicast(peers) => peers.iter().map(|peer| peer.address).collect(),
    }
}

/// The group, or each peer.
fn destinations(router: &Router) -> Vec<SentAdvert> {
    let unsent = |destination| SentAdvert { destination, of: None, message: Vec::with_capacity(MESSAGE_BYTES) };
    match &router.speech.dialect.peers {
        Peers::Multicast => vec![unsent(router.settings.family.group())],
        Peers::Unicast(peers) => peers.iter().map(|peer| unsent(peer.address)).collect(),
    }
}

impl HeardAdvert {
    fn none(router: &Router) -> HeardAdvert {
        HeardAdvert {
            carrier: None,
            message: Vec::with_capacity(MESSAGE_BYTES),
            advert: router.settings.advert(Priority::RELEASE),
            is_interval_other: false,
            is_list_other: false,
            is_list_foreign: false,
        }
    }

    fn replace(&mut self, carrier: Carrier, bytes: &[u8], received: &Checked<'_>, ours: &Settings) {
        self.carrier = Some(carrier);
        self.message.clear();
        self.message.extend_from_slice(bytes);
        let Advert { vrid, priority, interval, addresses } = &mut self.advert;
        (*vrid, *priority, *interval) = (received.vrid, received.priority, received.interval);
        addresses.clear();
        addresses.extend(received.addresses());
        self.is_interval_other = *interval != ours.advert_interval;
        self.is_list_other = *addresses != ours.addresses;
        self.is_list_foreign = !addresses.iter().any(|address| ours.addresses.contains(address));
    }
}

impl Refusal {
    /// What an advert of our VRID that is refused like this is a sign of.
    fn alarm(&self) -> Option<Alarm> {
        match self {
            Refusal::Authentication(_) | Refusal::Bytes(DecodeError::Password | DecodeError::AuthType { .. }) => {
                Some(Alarm::DuplicateVrid)
            }
            Refusal::Bytes(DecodeError::Interval) => Some(Alarm::ZeroInterval),
            Refusal::Bytes(DecodeError::IntervalMismatch { .. }) => Some(Alarm::IntervalMismatch),
            Refusal::Bytes(_) => None,
        }
    }

    /// The same kind of refusal, whatever its details.
    fn is_like(&self, other: &Refusal) -> bool {
        match (self, other) {
            (Refusal::Bytes(one), Refusal::Bytes(other)) => discriminant(one) == discriminant(other),
            (Refusal::Authentication(one), Refusal::Authentication(other)) => discriminant(one) == discriminant(other),
            _ => false,
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::Bytes(error)
    }
}

impl From<AuthenticationError> for Refusal {
    fn from(error: AuthenticationError) -> Refusal {
        Refusal::Authentication(error)
    }
}

impl Counters {
    fn count(&mut self, heard: &HeardAdvert) {
        self.adverts_received += 1;
        self.releases_received += u64::from(heard.advert.priority == Priority::RELEASE);
        self.interval_mismatches += u64::from(heard.is_interval_other);
        self.address_list_mismatches += u64::from(heard.is_list_other);
    }
}

impl Drops {
    fn count(&mut self, refusal: &Refusal) {
        let Refusal::Bytes(error) = refusal else {
            self.authentication += 1;
            return;
        };
        let counter = match error {
            DecodeError::Vrid { .. } => &mut self.vrid,
            DecodeError::Truncated { .. } | DecodeError::Ipv4Header | DecodeError::Length { .. } => &mut self.length,
            DecodeError::Ttl { .. } => &mut self.ttl,
            // The speaker asks for version 3 only, where nothing of this kind can be reported.
            DecodeError::Version { .. } => &mut self.version,
            DecodeError::Type { .. } => &mut self.kind,
            DecodeError::Checksum => &mut self.checksum,
            DecodeError::Interval | DecodeError::IntervalMismatch { .. } => &mut self.interval,
            DecodeError::AuthType { .. } | DecodeError::Password => &mut self.authentication,
            DecodeError::Destination { .. } | DecodeError::Count => &mut self.address_list,
            DecodeError::Source { .. } => &mut self.source,
            DecodeError::Fragment | DecodeError::Protocol { .. } => &mut self.ip,
        };
        *counter += 1;
    }
}
