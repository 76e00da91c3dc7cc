//! One virtual router on its link: feeds the machine what the link says, does on the link what the machine says.

#[cfg(test)]
mod tests;

use super::journal::Remark;
use super::{Counters, Drops, Router, RouterStatus};
use crate::announce;
use crate::authentication::{AuthenticationError, Authenticator, Signed};
use crate::error::DecodeError;
use crate::group::Member;
use crate::link::linux::clock::utc;
use crate::link::{Change, Datagram, Link, LinkError, Survey};
use crate::machine::{Action, Event, Input, Machine, Settings, State};
use crate::packet::{self, Advert, Carrier, Checksum, ChecksumChoice, Peers};
use crate::params::{Priority, Time};
use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// Datagrams read in one go. More than a receive buffer of the kernel's default size holds, so that a queue is always
/// emptied, yet a flood cannot keep the thread here.
const DRAIN_MAX: usize = 1024;

/// The same refusal of the operating system is logged this often.
const TROUBLE_PERIOD: Duration = Duration::from_secs(10);

/// A peer with other settings is logged this often.
const MISMATCH_PERIOD: Duration = Duration::from_secs(3600);

pub(super) struct Station<L> {
    router: Router,
    name: Arc<str>,
    /// What the owner adds to the configured priority.
    weight: i16,
    machine: Machine,
    link: L,
    survey: Survey,
    holds_addresses: bool,
    since: Time,
    /// One a destination.
    sent: Vec<SentAdvert>,
    destinations: Vec<IpAddr>,
    checksum: ChecksumChoice,
    authenticator: Option<Authenticator>,
    heard: Option<HeardAdvert>,
    /// Announcements of all virtual addresses for the surveyed hardware address.
    frames: Vec<Vec<u8>>,
    counters: Counters,
    remarks: VecDeque<Remark>,
    quiet: Quiet,
}

/// The last encoded advert; nearly always the next one is the same.
struct SentAdvert {
    priority: Priority,
    source: IpAddr,
    destination: IpAddr,
    form: Checksum,
    /// Without trailer, whose stamp is always another.
    message: Vec<u8>,
}

/// The last accepted datagram; an equal one needs no second look, and no memory.
struct HeardAdvert {
    carrier: Carrier,
    message: Vec<u8>,
    advert: Advert,
    is_interval_other: bool,
    is_list_other: bool,
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
        Station {
            name: router.name.as_str().into(),
            weight: 0,
            machine: Machine::new(router.settings.clone(), router.lease),
            link,
            survey: Survey::default(),
            holds_addresses: false,
            since: Time::default(),
            sent: Vec::new(),
            destinations: destinations(&router),
            checksum: router.speech.checksum,
            authenticator: router.speech.authentication.as_ref().map(|a| a.fresh.clone()),
            heard: None,
            frames: Vec::new(),
            counters: Counters::default(),
            remarks: VecDeque::with_capacity(8),
            quiet: Quiet::default(),
            router,
        }
    }

    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// Whether `router` is this one with other settings, so that it can follow without leaving its state.
    pub(super) fn can_become(&self, router: &Router) -> bool {
        let identity = |router: &Router| {
            let settings = &router.settings;
            (settings.vrid, settings.family, settings.version, settings.priority == Priority::OWNER)
        };
        self.router.name == router.name
            && self.router.interface == router.interface
            && self.router.speech == router.speech
            && identity(&self.router) == identity(router)
    }

    /// Follows a reload. Nothing moves that did not change.
    pub(super) fn follow(&mut self, now: Time, router: Router) {
        if router == self.router {
            return;
        }
        let is_moved = (&router.addresses, router.lease) != (&self.router.addresses, self.router.lease);
        if is_moved && let Err(error) = self.link.reassign(&router.addresses, router.lease) {
            self.complain(now, error);
        }
        self.router = router;
        self.sent.clear();
        self.heard = None;
        self.plan_announcements();
        self.weigh(now, self.weight);
        if is_moved && self.holds_addresses {
            self.hold_addresses(now);
        }
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

    pub(super) fn holds_addresses(&self) -> bool {
        self.holds_addresses
    }

    pub(super) fn descriptor(&self) -> Option<RawFd> {
        self.link.descriptor()
    }

    pub(super) fn is_concerned(&self, change: &Change) -> bool {
        self.link.is_concerned(change)
    }

    /// When `tick` wants to be called, at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.machine.deadline()
    }

    /// What is to be logged and reported, oldest first.
    pub(super) fn next_remark(&mut self) -> Option<Remark> {
        self.remarks.pop_front()
    }

    /// Looks at the interface and tells the machine what is new. False if the look failed, which counts as no link.
    pub(super) fn survey(&mut self, now: Time) -> bool {
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
        let (present, all) = (self.survey.virtual_present, self.router.addresses.len());
        if present > 0 && !self.holds_addresses && self.machine.state() == State::Initialize {
            self.input(now, Input::AddressFound);
        }
        match (before.source, self.survey.source) {
            (old, Some(source)) if old != Some(source) => self.input(now, Input::LinkUp { source }),
            (Some(_), None) => self.input(now, Input::LinkDown),
            _ => {}
        }
        if self.holds_addresses && present < all {
            self.input(now, Input::AddressLost);
        }
        has_worked
    }

    /// Hands all queued adverts to the machine.
    pub(super) fn hear(&mut self, clock: impl Fn() -> Time, buffer: &mut [u8]) {
        for _ in 0..DRAIN_MAX {
            match self.link.receive(buffer) {
                Ok(Some(datagram)) => match self.hear_datagram(clock(), &datagram) {
                    Ok(()) => self.quiet.dropped = None,
                    Err(error) => self.drop_datagram(error),
                },
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
            }
            self.input(now, Input::Tick);
        }
    }

    /// One input, then everything that follows from it.
    pub(super) fn input(&mut self, now: Time, input: Input<'_>) {
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
        status.counters.clone_from(&self.counters);
    }

    fn hear_datagram(&mut self, now: Time, datagram: &Datagram<'_>) -> Result<(), Refusal> {
        let (carrier, message) = match datagram.carrier {
            Some(carrier) => (carrier, datagram.bytes),
            None => packet::ipv4(datagram.bytes)?,
        };
        let is_same = |heard: &HeardAdvert| heard.carrier == carrier && heard.message == message;
        // A signed message is never the same twice, unless somebody replays it.
        if self.authenticator.is_some() || !self.heard.as_ref().is_some_and(is_same) {
            self.heard = Some(self.read_advert(carrier, message)?);
        }
        let Some(heard) = &self.heard else { return Ok(()) };
        self.counters.count(heard);
        if (heard.is_interval_other || heard.is_list_other)
            && self.quiet.mismatch.is_none_or(|last| now.since(last) >= MISMATCH_PERIOD)
        {
            self.quiet.mismatch = Some(now);
            let (interval, addresses) = (heard.is_interval_other, heard.is_list_other);
            self.remarks.push_back(Remark::Mismatch { source: carrier.source, interval, addresses });
        }
        let input = Input::Advert { advert: &heard.advert, source: carrier.source, received: datagram.received };
        self.machine.handle(now, input);
        self.act(now);
        Ok(())
    }

    fn read_advert(&mut self, carrier: Carrier, bytes: &[u8]) -> Result<HeardAdvert, Refusal> {
        let vrid = packet::vrid(bytes)?;
        let settings = &self.router.settings;
        if vrid != settings.vrid {
            return Err(DecodeError::Vrid { got: vrid.get() }.into());
        }
        let received = self.router.speech.dialect.decode(bytes, &carrier)?;
        if let Some(authenticator) = &mut self.authenticator {
            let message = bytes.get(..bytes.len() - received.trailer.map_or(0, |t| t.len())).unwrap_or_default();
            let signed = Signed { source: carrier.source, message };
            authenticator.verify(utc(), signed, received.trailer.as_ref())?;
        }
        self.checksum.hear(received.checksum);
        let advert = received.advert;
        Ok(HeardAdvert {
            carrier,
            message: bytes.to_vec(),
            is_interval_other: advert.interval != settings.advert_interval,
            is_list_other: advert.addresses != settings.addresses,
            advert,
        })
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
        let is_current = |sent: &SentAdvert| (sent.priority, sent.source, sent.form) == (priority, source, form);
        if self.sent.is_empty() || !self.sent.iter().all(is_current) {
            self.encode(priority, source, form);
        }
        for at in 0..self.sent.len() {
            if let Err(error) = self.send_one(at, source) {
                self.counters.send_errors += 1;
                self.complain(now, error);
                continue;
            }
            self.counters.adverts_sent += 1;
            self.counters.releases_sent += u64::from(priority == Priority::RELEASE);
        }
    }

    /// The same advert for every destination, which the checksum covers.
    fn encode(&mut self, priority: Priority, source: IpAddr, form: Checksum) {
        let advert = self.machine.settings().advert(priority);
        let dialect = &self.router.speech.dialect;
        let encoded = self.destinations.iter().map(|&destination| {
            let message = dialect.encode(&advert, source, destination, form);
            SentAdvert { priority, source, destination, form, message }
        });
        self.sent = encoded.collect();
    }

    fn send_one(&mut self, at: usize, source: IpAddr) -> Result<(), LinkError> {
        let Some(SentAdvert { destination, message, .. }) = self.sent.get(at) else { return Ok(()) };
        let Some(authenticator) = &mut self.authenticator else { return self.link.send(*destination, message) };
        match authenticator.sign(utc(), Signed { source, message }) {
            Some(trailer) => self.link.send(*destination, &[message.as_slice(), &trailer].concat()),
            None => self.link.send(*destination, message),
        }
    }

    fn hold_addresses(&mut self, now: Time) {
        if let Err(error) = self.link.hold_addresses() {
            self.counters.address_errors += 1;
            self.complain(now, error);
        }
    }

    fn renew_addresses(&mut self, now: Time) {
        self.counters.lease_refreshes += 1;
        if let Err(error) = self.link.renew_addresses() {
            self.counters.address_errors += 1;
            self.complain(now, error);
        }
    }

    fn drop_addresses(&mut self, now: Time) {
        self.holds_addresses = false;
        if let Err(error) = self.link.drop_addresses() {
            self.counters.address_errors += 1;
            self.complain(now, error);
        }
    }

    fn announce(&mut self, now: Time) {
        for frame in &self.frames {
            match self.link.announce(frame) {
                Ok(()) => self.counters.announcements_sent += 1,
                Err(error) => return self.complain(now, error),
            }
        }
    }

    fn report(&mut self, now: Time, event: Event) {
        if let Event::Transition { to, .. } = event {
            self.since = now;
            if to == State::Active {
                self.counters.transitions_to_active += 1;
            }
        }
        self.remarks.push_back(Remark::Event(event));
    }

    /// Whether an event of this kind was not logged a moment ago already.
    pub(super) fn is_worth_logging(&mut self, now: Time, event: &Event) -> bool {
        let Event::LosingAdvert { .. } = event else { return true };
        let is_due = self.quiet.losing_advert.is_none_or(|last| now.since(last) >= TROUBLE_PERIOD);
        if is_due {
            self.quiet.losing_advert = Some(now);
        }
        is_due
    }

    fn plan_announcements(&mut self) {
        let Survey { mac, is_forwarding, .. } = self.survey;
        self.frames.clear();
        for network in &self.router.addresses {
            self.frames.extend(announce::frames(mac, network.addr(), is_forwarding));
        }
    }

    fn drop_datagram(&mut self, refusal: Refusal) {
        self.counters.drops.count(&refusal);
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

/// The group, or each peer.
fn destinations(router: &Router) -> Vec<IpAddr> {
    match &router.speech.dialect.peers {
        Peers::Multicast => vec![router.settings.family.group()],
        Peers::Unicast(peers) => peers.iter().map(|peer| peer.address).collect(),
    }
}

impl Refusal {
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
