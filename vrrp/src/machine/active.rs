//! Active: advertise on time, hold the addresses, and know when to let go (RFC 9568 §6.4.3).

use super::announcing::Announcing;
use super::backup::Backup;
use super::{Action, Event, Health, Hold, LONELY_DOWN_INTERVALS, Machine, Phase, Reason, State, outranks};
use crate::packet::Advert;
use crate::params::{Centis, Priority, Time, active_down_interval};
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
    /// Since when a planned hand-over waits for its taker.
    pub(super) handing_over: Option<Time>,
    announcing: Announcing,
    /// When the lease has to be extended; `None` without a lease.
    pub(super) refresh: Option<Time>,
    /// When our addresses were removed by somebody else, oldest first; at most [`LOSSES_MAX`], none older than
    /// [`LOSS_WINDOW`].
    losses: Vec<Time>,
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

impl Active {
    /// Just after the advert, the addresses and the first announcement.
    pub(super) fn started(now: Time, source: IpAddr, interval: Centis, lease: Duration) -> Active {
        Active {
            source,
            sent: now,
            next_advert: now.plus(interval.duration()),
            repeat: None,
            handing_over: None,
            announcing: Announcing::burst(now),
            refresh: next_refresh(now, lease),
            losses: Vec::new(),
        }
    }
}

impl Machine {
    /// What an Active puts into its adverts.
    pub(super) fn advertised(&self, active: &Active) -> Priority {
        if active.handing_over.is_some() { Priority::RELEASE } else { self.own_priority() }
    }

    pub(super) fn active_deadline(&self, active: &Active) -> Time {
        let give_up = active.handing_over.map(|since| since.plus(self.offer_window()));
        [Some(active.announcing.deadline()), active.refresh, active.repeat, give_up]
            .into_iter()
            .flatten()
            .fold(active.next_advert, Time::min)
    }

    pub(super) fn tick_active(&mut self, mut active: Active, now: Time) -> Phase {
        if active.handing_over.is_some_and(|since| now >= since.plus(self.offer_window())) {
            active.handing_over = None;
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
        if active.announcing.take_due(now) && self.advertised(&active) != Priority::RELEASE {
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
            let reason = match (active.handing_over, self.health) {
                (Some(_), _) => Reason::HandedOver,
                (None, Health::Unable) => Reason::Yielded,
                (None, Health::Able | Health::Degraded) => Reason::Outranked,
            };
            return Phase::Backup(self.step_down(active, advert, source, received, reason));
        }
        self.answer(&mut active, now, received);
        if active.announcing.contest(now) {
            self.push(Action::Announce);
        }
        self.push(Action::Report(Event::LosingAdvert { source, priority: advert.priority }));
        Phase::Active(active)
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
    fn step_down(&mut self, active: Active, advert: &Advert, from: IpAddr, received: Time, reason: Reason) -> Backup {
        if active.handing_over.is_some() {
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

    pub(super) fn change_priority(&mut self, mut active: Active, now: Time, priority: Priority) -> Phase {
        let before = self.advertised(&active);
        self.settings.priority = priority;
        self.readvertise(&mut active, now, before);
        Phase::Active(active)
    }

    pub(super) fn hand_over(&mut self, mut active: Active, now: Time) -> Phase {
        let before = self.advertised(&active);
        active.handing_over.get_or_insert(now);
        self.readvertise(&mut active, now, before);
        Phase::Active(active)
    }

    pub(super) fn cancel_hand_over(&mut self, mut active: Active, now: Time) -> Phase {
        let before = self.advertised(&active);
        active.handing_over = None;
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

    pub(super) fn leave_active(&mut self, reason: Reason) -> Phase {
        self.push(Action::Send { priority: Priority::RELEASE });
        self.leave_stalled(reason)
    }

    /// Silence after which another node may have become Active: the down interval of the fastest possible Backup.
    fn danger(&self) -> Duration {
        active_down_interval(FASTEST_BACKUP, self.settings.advert_interval, self.settings.down_adverts)
    }

    /// How long a planned hand-over waits for somebody to take the address.
    fn offer_window(&self) -> Duration {
        let Machine { settings, .. } = self;
        active_down_interval(settings.priority, settings.advert_interval, settings.down_adverts) * LONELY_DOWN_INTERVALS
    }

    /// Before any input is looked at: an Active that was silent for too long does nothing before it has listened.
    pub(super) fn notice_stall(&mut self, now: Time) {
        let danger = self.danger();
        let Phase::Active(active) = &self.phase else { return };
        let late = now.since(active.sent);
        if late < danger {
            return;
        }
        let until = now.plus(self.settings.advert_interval.duration());
        self.phase = Phase::Stalled(Stalled { active: active.clone(), until });
        self.push(Action::Report(Event::Stalled { late }));
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
            let reason = if active.handing_over.is_some() { Reason::HandedOver } else { Reason::Stalled };
            let mut backup = self.step_down(stalled.active, advert, source, received, reason);
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
        let interval = self.settings.advert_interval.duration();
        self.send(&mut active, now);
        active.next_advert = next_on_grid(active.next_advert, interval, now);
        active.repeat = None;
        self.push(Action::Install);
        active.refresh = next_refresh(now, self.lease);
        active.announcing = Announcing::refresh(now);
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
