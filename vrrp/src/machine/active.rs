//! Active: advertise on time, hold the addresses, and know when to let go (RFC 9568 §6.4.3).

use super::announcing::{Announcing, Pending};
use super::backup::Backup;
use super::{Action, Event, Health, Hold, LONELY_DOWN_INTERVALS, Machine, Phase, Reason, Settings, State, outranks};
use crate::packet::Advert;
use crate::params::{Centis, Priority, Time};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Active {
    /// Our own advert source address.
    pub(super) source: IpAddr,
    /// When our last advert went out, scheduled or not.
    pub(super) sent: Time,
    /// The schedule: take-over plus a whole number of intervals.
    pub(super) next_advert: Time,
    /// One more copy of a release shortly after the first: a single lost frame would cost three intervals.
    repeat: Option<Time>,
    /// We advertise 0 although we could serve, and wait for a taker.
    pub(super) offer: Option<Offer>,
    announcing: Pending,
    /// When the lease has to be extended; `None` without a lease.
    pub(super) refresh: Option<Time>,
    /// The loser we hear and answer.
    rival: Option<Rival>,
    /// When our addresses were removed by somebody else, oldest first; at most [`LOSSES_MAX`], none older than
    /// [`LOSS_WINDOW`].
    losses: Vec<Time>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    since: Time,
    /// Planned: we stay out afterwards.
    is_planned: bool,
}

/// Another Active whose adverts lose against ours, in an unbroken row.
#[derive(Debug, Clone, Copy)]
struct Rival {
    source: IpAddr,
    since: Time,
    last: Time,
    adverts: u32,
    is_reported: bool,
}

/// An Active that woke up after [`Machine::danger`]: it may have been replaced.
#[derive(Debug, Clone)]
pub(super) struct Stalled {
    pub(super) active: Active,
    /// End of the listen window; then it is still ours.
    pub(super) until: Time,
}

/// Between the two copies of a release; longer than a switch needs to recover from a dropped frame, shorter than the
/// skew time of most successors.
const RELEASE_REPEAT: Duration = Duration::from_millis(1);

/// The best priority a Backup may have, hence the shortest skew time we have to fear.
const FASTEST_BACKUP: Priority = Priority(254);

/// More removals of our addresses than this within [`LOSS_WINDOW`] and the peer gets them: somebody on this host
/// (a network configuration service, as a rule) will not let us keep them.
const LOSSES_MAX: usize = 5;
const LOSS_WINDOW: Duration = Duration::from_secs(60);

/// Removals this close together are one: a flush reports every address by itself.
const LOSS_BATCH: Duration = Duration::from_millis(100);

/// How long a node keeps out after its addresses were removed too often.
const FLAPPING_HOLD: Duration = Duration::from_secs(60);

/// A loser that advertises on for this many of its down intervals, and more than this many adverts, does not hear us.
const DEAF_DOWN_INTERVALS: u32 = 5;
const DEAF_ADVERTS: u32 = 5;

impl Active {
    /// Just after the advert, the addresses and the first announcement.
    pub(super) fn started(now: Time, source: IpAddr, interval: Centis, lease: Duration, plan: &Announcing) -> Active {
        Active {
            source,
            sent: now,
            next_advert: now.plus(interval.duration()),
            repeat: None,
            offer: None,
            rival: None,
            announcing: Pending::burst(plan, now),
            refresh: next_refresh(now, lease),
            losses: Vec::new(),
        }
    }

    /// An earlier offer stands; a planned one makes it planned.
    pub(super) fn make_offer(&mut self, now: Time, is_planned: bool) {
        let offer = self.offer.get_or_insert(Offer { since: now, is_planned });
        offer.is_planned |= is_planned;
    }

    /// With the timers of new settings, counted from the last advert.
    pub(super) fn rescheduled(mut self, settings: &Settings, lease: Duration) -> Active {
        self.next_advert = self.sent.plus(settings.advert_interval.duration());
        self.refresh = next_refresh(self.sent, lease);
        self
    }
}

impl Machine {
    /// What an Active puts into its adverts.
    pub(super) fn advertised(&self, active: &Active) -> Priority {
        if active.offer.is_some() { Priority::RELEASE } else { self.own_priority() }
    }

    pub(super) fn active_deadline(&self, active: &Active) -> Time {
        let give_up = active.offer.map(|offer| offer.since.plus(self.offer_window()));
        [active.announcing.deadline(), active.refresh, active.repeat, give_up]
            .into_iter()
            .flatten()
            .fold(active.next_advert, Time::min)
    }

    pub(super) fn tick_active(&mut self, mut active: Active, now: Time) -> Phase {
        if active.offer.is_some_and(|offer| now >= offer.since.plus(self.offer_window())) {
            active.offer = None;
            self.push(Action::Report(Event::HandOverRefused));
            self.send(&mut active, now);
        }
        let interval = self.settings.advert_interval.duration();
        if now >= active.next_advert {
            self.send(&mut active, now);
            active.next_advert = next_on_grid(active.next_advert, interval, now);
        }
        if active.repeat.is_some_and(|at| now >= at) {
            self.send(&mut active, now);
            active.repeat = None;
        }
        if active.refresh.is_some_and(|at| now >= at) {
            self.push(Action::Refresh);
            active.refresh = next_refresh(now, self.lease);
        }
        // While releasing, our announcement could land after the successor's.
        if active.announcing.take_due(&self.announcing, now) && self.advertised(&active) != Priority::RELEASE {
            self.push(Action::Announce);
        }
        Phase::Active(active)
    }

    pub(super) fn hear_as_active(
        &mut self,
        mut active: Active,
        now: Time,
        advert: &Advert,
        source: IpAddr,
        received: Time,
    ) -> Phase {
        if source == active.source {
            self.push(Action::Report(Event::AddressConflict { source }));
            return Phase::Active(active);
        }
        let mine = self.advertised(&active);
        if advert.priority == Priority::RELEASE {
            if mine != Priority::RELEASE {
                self.answer(&mut active, now, received);
            }
            return Phase::Active(active);
        }
        if outranks(advert.priority, source, mine, active.source) {
            let reason = match (active.offer, self.health) {
                (Some(Offer { is_planned: true, .. }), _) => Reason::HandedOver,
                (Some(Offer { is_planned: false, .. }), _) | (None, Health::Unable) => Reason::Yielded,
                (None, Health::Able | Health::Degraded) => Reason::Outranked,
            };
            if advert.priority == Priority::OWNER && mine == Priority::OWNER {
                self.push(Action::Report(Event::TwoOwners { source }));
            }
            return Phase::Backup(self.step_down(active, now, advert, source, received, reason));
        }
        if advert.priority == Priority::OWNER {
            // We are the other owner, with the higher address.
            self.push(Action::Report(Event::TwoOwners { source }));
        }
        let rival = self.meet_rival(&mut active, advert, source, received);
        if self.is_stubborn_owner(rival, advert) {
            return Phase::Backup(self.step_down(active, now, advert, source, received, Reason::Outranked));
        }
        self.answer(&mut active, now, received);
        if active.announcing.contest(&self.announcing, now) {
            self.push(Action::Announce);
        }
        self.push(Action::Report(Event::LosingAdvert { source, priority: advert.priority }));
        self.report_deafness(&mut active, rival, advert);
        Phase::Active(active)
    }

    /// Takes a losing advert down; a row ends after three intervals of silence.
    fn meet_rival(&self, active: &mut Active, advert: &Advert, source: IpAddr, received: Time) -> Rival {
        let silence = self.longer_interval(advert) * 3;
        let known = active.rival.filter(|rival| rival.source == source && received.since(rival.last) <= silence);
        let first = Rival { source, since: received, last: received, adverts: 0, is_reported: false };
        let rival = known.unwrap_or(first);
        let rival = Rival { last: received.max(rival.last), adverts: rival.adverts.saturating_add(1), ..rival };
        active.rival = Some(rival);
        rival
    }

    /// Whether a second owner of lower address goes on after it had the time to hear two of our adverts, and 1.2 of the
    /// longer interval to yield: then it never will, and one of us has to be the wiser.
    fn is_stubborn_owner(&self, rival: Rival, advert: &Advert) -> bool {
        let patience = self.settings.advert_interval.duration() * 2 + self.longer_interval(advert) * 6 / 5;
        advert.priority == Priority::OWNER && rival.last.since(rival.since) >= patience
    }

    fn report_deafness(&mut self, active: &mut Active, rival: Rival, advert: &Advert) {
        let down = self.settings.active_down_interval(advert.priority, advert.interval);
        let is_deaf = rival.adverts > DEAF_ADVERTS && rival.last.since(rival.since) >= down * DEAF_DOWN_INTERVALS;
        if is_deaf && !rival.is_reported {
            active.rival = Some(Rival { is_reported: true, ..rival });
            self.push(Action::Report(Event::NotHeard { by: rival.source }));
        }
    }

    fn longer_interval(&self, advert: &Advert) -> Duration {
        self.settings.advert_interval.max(advert.interval).duration()
    }

    /// Tells a loser who is Active: at once, unless our last advert already did or went out within a quarter of an
    /// interval. Leaves the schedule alone.
    fn answer(&mut self, active: &mut Active, now: Time, received: Time) {
        let quarter = self.settings.advert_interval.duration() / 4;
        if received > active.sent && now.since(active.sent) >= quarter {
            self.send(active, now);
        }
    }

    /// The loser's side: the addresses go before anything else, and nothing is announced.
    fn step_down(
        &mut self,
        active: Active,
        now: Time,
        advert: &Advert,
        from: IpAddr,
        received: Time,
        reason: Reason,
    ) -> Backup {
        if self.health == Health::Unable {
            self.damping.penalise(now);
        }
        if active.offer.is_some_and(|offer| offer.is_planned) {
            self.hold = Hold::HandedOver;
        }
        self.push(Action::Withdraw);
        self.report(State::Active, State::Backup, reason);
        self.back_up(active.source, advert, from, received)
    }

    pub(super) fn change_health(&mut self, mut active: Active, now: Time, health: Health) -> Phase {
        let before = self.advertised(&active);
        self.health = health;
        self.readvertise(&mut active, now, before);
        Phase::Active(active)
    }

    pub(super) fn offer(&mut self, mut active: Active, now: Time, is_planned: bool) -> Phase {
        let before = self.advertised(&active);
        active.make_offer(now, is_planned);
        self.readvertise(&mut active, now, before);
        Phase::Active(active)
    }

    pub(super) fn cancel_offer(&mut self, mut active: Active, now: Time) -> Phase {
        let before = self.advertised(&active);
        active.offer = None;
        self.readvertise(&mut active, now, before);
        Phase::Active(active)
    }

    /// Sends at once if what we advertise is no longer `before`; a release twice.
    fn readvertise(&mut self, active: &mut Active, now: Time, before: Priority) {
        let after = self.advertised(active);
        if after == before {
            return;
        }
        self.send(active, now);
        active.repeat = (after == Priority::RELEASE).then(|| now.plus(RELEASE_REPEAT));
    }

    /// New settings (see [`Machine::reconfigure`]): what peers can see is told to them at once, so that they wait for
    /// the new interval; the interface is touched only for new addresses or a new lease.
    pub(super) fn refit(&mut self, mut active: Active, now: Time, old: &Settings, old_lease: Duration) -> Phase {
        let new = self.settings.clone();
        if old.advert(old.priority) != new.advert(new.priority) {
            self.send(&mut active, now);
            active = active.rescheduled(&new, self.lease);
        }
        let adds_addresses = old.addresses != new.addresses;
        if adds_addresses || old_lease != self.lease {
            self.push(Action::Install);
            active.refresh = next_refresh(now, self.lease);
        }
        if adds_addresses && self.advertised(&active) != Priority::RELEASE {
            self.push(Action::Announce);
            active.announcing = Pending::burst(&self.announcing, now);
        }
        Phase::Active(active)
    }

    /// As after a losing advert of our own: coalesced, and never while releasing.
    pub(super) fn announce_again(&mut self, mut active: Active, now: Time) -> Phase {
        if self.advertised(&active) != Priority::RELEASE && active.announcing.contest(&self.announcing, now) {
            self.push(Action::Announce);
        }
        Phase::Active(active)
    }

    /// Peers know us by our source address: the new one is advertised at once.
    pub(super) fn move_source(&mut self, mut active: Active, now: Time, source: IpAddr) -> Phase {
        if source != active.source {
            active.source = source;
            self.send(&mut active, now);
        }
        Phase::Active(active)
    }

    pub(super) fn restore_addresses(&mut self, mut active: Active, now: Time) -> Phase {
        let is_same_batch = active.losses.last().is_some_and(|last| now.since(*last) < LOSS_BATCH);
        if is_same_batch {
            self.push(Action::Install);
            return Phase::Active(active);
        }
        active.losses.retain(|at| now.since(*at) < LOSS_WINDOW);
        if active.losses.len() >= LOSSES_MAX {
            self.hold = Hold::Flapping { until: now.plus(FLAPPING_HOLD) };
            self.damping.penalise(now);
            self.push(Action::Send { priority: Priority::RELEASE });
            self.push(Action::Withdraw);
            self.report(State::Active, State::Backup, Reason::AddressFlapping);
            return Phase::Backup(Backup::listening(now, active.source, self.settings.advert_interval));
        }
        active.losses.push(now);
        self.push(Action::Install);
        self.push(Action::Announce);
        self.push(Action::Report(Event::AddressRestored { count: active.losses.len() }));
        Phase::Active(active)
    }

    pub(super) fn leave_active(&mut self, now: Time, reason: Reason) -> Phase {
        if reason == Reason::LinkDown {
            self.damping.penalise(now);
        }
        self.push(Action::Send { priority: Priority::RELEASE });
        self.leave_stalled(reason)
    }

    /// Silence after which another node may have become Active: the down interval of the fastest possible Backup.
    fn danger(&self) -> Duration {
        self.settings.active_down_interval(FASTEST_BACKUP, self.settings.advert_interval)
    }

    /// How long a planned hand-over waits for somebody to take the address.
    fn offer_window(&self) -> Duration {
        let Machine { settings, .. } = self;
        settings.active_down_interval(settings.priority, settings.advert_interval) * LONELY_DOWN_INTERVALS
    }

    /// Before any input is looked at: an Active that was silent for too long does nothing before it has listened.
    pub(super) fn notice_stall(&mut self, now: Time) {
        let danger = self.danger();
        self.phase = match std::mem::replace(&mut self.phase, Phase::Initialize) {
            Phase::Active(active) if now.since(active.sent) >= danger => {
                let late = now.since(active.sent);
                self.stall(active, now, late)
            }
            phase => phase,
        };
    }

    /// Listens for an interval before anything else is sent.
    pub(super) fn stall(&mut self, active: Active, now: Time, late: Duration) -> Phase {
        self.push(Action::Report(Event::Stalled { late }));
        Phase::Stalled(Stalled { active, until: now.plus(self.settings.advert_interval.duration()) })
    }

    pub(super) fn hear_as_stalled(
        &mut self,
        stalled: Stalled,
        now: Time,
        advert: &Advert,
        source: IpAddr,
        received: Time,
    ) -> Phase {
        let active = &stalled.active;
        if source == active.source {
            self.push(Action::Report(Event::AddressConflict { source }));
            return Phase::Stalled(stalled);
        }
        if advert.priority == Priority::RELEASE {
            return Phase::Stalled(stalled);
        }
        // Whoever advertises since our last advert took over while we slept. Its priority does not matter: coming
        // back would break every connection a second time. With preemption on, the ordinary rules of a Backup follow.
        let is_newer = received > active.sent;
        if is_newer || outranks(advert.priority, source, self.advertised(active), active.source) {
            let is_planned = active.offer.is_some_and(|offer| offer.is_planned);
            let reason = if is_planned { Reason::HandedOver } else { Reason::Stalled };
            let mut backup = self.step_down(stalled.active, now, advert, source, received, reason);
            backup.listen_on(now);
            return Phase::Backup(backup);
        }
        Phase::Stalled(stalled)
    }

    /// The listen window passed in silence: the address is still ours. The lease may have run out, hence Install.
    pub(super) fn tick_stalled(&mut self, stalled: Stalled, now: Time) -> Phase {
        if now < stalled.until {
            return Phase::Stalled(stalled);
        }
        let mut active = stalled.active;
        if let Some(offer) = &mut active.offer {
            // While we stood still nobody was told of it.
            offer.since = now;
        }
        let interval = self.settings.advert_interval.duration();
        self.send(&mut active, now);
        active.next_advert = next_on_grid(active.next_advert, interval, now);
        active.repeat = None;
        self.push(Action::Install);
        active.refresh = next_refresh(now, self.lease);
        active.announcing = Pending::refresh(&self.announcing, now);
        if self.advertised(&active) != Priority::RELEASE {
            self.push(Action::Announce);
        }
        Phase::Active(active)
    }

    /// Without a word on the wire: after a stall the address may be somebody else's.
    pub(super) fn leave_stalled(&mut self, reason: Reason) -> Phase {
        self.push(Action::Withdraw);
        self.report(State::Active, State::Initialize, reason);
        Phase::Initialize
    }

    /// One advert. Within one `handle` at most one of the same priority.
    fn send(&mut self, active: &mut Active, now: Time) {
        let action = Action::Send { priority: self.advertised(active) };
        if !self.actions.contains(&action) {
            self.push(action);
        }
        active.sent = now;
    }
}

/// The first moment `at + n * interval` after `now`: late adverts are skipped, not made up for.
fn next_on_grid(at: Time, interval: Duration, now: Time) -> Time {
    if at > now {
        return at;
    }
    let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    let missed = (now.0 - at.0) / interval + 1;
    Time(at.0.saturating_add(missed.saturating_mul(interval)))
}

fn next_refresh(now: Time, lease: Duration) -> Option<Time> {
    (!lease.is_zero()).then(|| now.plus(lease / 3))
}
