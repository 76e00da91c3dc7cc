//! Backup: listen, and decide when the Active is gone, has released, or should be relieved (RFC 9568 §6.4.2).

use super::active::Active;
use super::{
    Action, DEGRADED_MAX, Event, Health, Hold, LEARNED_FACTOR_MAX, LONELY_DOWN_INTERVALS, Machine, Phase, Preempt,
    Reason, State,
};
use crate::packet::Advert;
use crate::params::{Centis, Priority, Time};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct Backup {
    /// Our own advert source address.
    pub(super) source: IpAddr,
    /// Kernel receive time of the Active's last advert, or when listening began.
    pub(super) heard_at: Time,
    /// Active_Adver_Interval: the Active's, or our own until it is heard.
    pub(super) interval: Centis,
    /// The Active as last accepted.
    pub(super) heard: Option<Peer>,
    /// The Active wants to be relieved: only the skew time from here on.
    relief: Option<Relief>,
    /// When the first of an unbroken row of lower-priority adverts was heard ([`Preempt::After`] only).
    lower_since: Option<Time>,
    /// The last advert of a living Active was discarded because we want its place.
    preempts: bool,
    /// Set when we woke up late: no take-over before this moment, however long the timer has expired.
    not_before: Time,
    /// Woke up late in this silence and granted it two more intervals already.
    has_listened: bool,
    /// The timer expired, but the sync group does not consent.
    pub(super) awaits_consent: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) source: IpAddr,
    pub(super) priority: Priority,
}

#[derive(Debug, Clone, Copy)]
struct Relief {
    since: Time,
    reason: Reason,
}

/// What an advert with a priority above 0 does to the down timer.
enum Verdict {
    /// A legitimate Active: restart the timer.
    Accept,
    /// A degraded Active and we are well: take over after the skew time.
    Relieve,
    /// We want its place, or it is not the Active we know: the timer runs on.
    Discard,
}

impl Backup {
    pub(super) fn listening(now: Time, source: IpAddr, interval: Centis) -> Backup {
        Backup {
            source,
            heard_at: now,
            interval,
            heard: None,
            relief: None,
            lower_since: None,
            preempts: false,
            not_before: Time::default(),
            has_listened: false,
            awaits_consent: false,
        }
    }

    /// Restarts the down timer from `received`, never backwards.
    fn accept(&mut self, received: Time, interval: Centis, peer: Peer) {
        self.heard_at = self.heard_at.max(received);
        self.interval = interval;
        self.heard = Some(peer);
        self.relief = None;
        self.preempts = false;
        self.has_listened = false;
        self.awaits_consent = false;
    }

    /// After a sleep: silence counts only from `now` on. The receive queue may have overflowed and kept the oldest
    /// adverts only. For two intervals, because an Active that slept with us (one paused machine under both) listens for
    /// one before it speaks: it must be heard, or both of us would race for the address.
    pub(super) fn listen_on(&mut self, now: Time) {
        self.not_before = now.plus(self.interval.duration() * 2);
        self.has_listened = true;
    }

    /// Whether a sleep of this length spoils the silence it ended in. Once in a silence: a node that stutters all the time
    /// must still be able to replace a dead Active.
    fn proves_nothing(&self, now: Time, late: Duration) -> bool {
        let interval = self.interval.duration();
        late >= interval && now.since(self.heard_at) >= interval && !self.has_listened
    }

    fn knows(&self, source: IpAddr) -> bool {
        self.heard.is_some_and(|peer| peer.source == source)
    }
}

impl Machine {
    /// Backup under the advert that made us step down.
    pub(super) fn back_up(&self, source: IpAddr, advert: &Advert, from: IpAddr, received: Time) -> Backup {
        let mut backup = Backup::listening(received, source, self.settings.advert_interval);
        backup.accept(received, self.learned(advert.interval), Peer { source: from, priority: advert.priority });
        backup
    }

    pub(super) fn hear_as_backup(
        &mut self,
        mut backup: Backup,
        now: Time,
        advert: &Advert,
        source: IpAddr,
        received: Time,
    ) -> Phase {
        if source == backup.source {
            self.push(Action::Report(Event::AddressConflict { source }));
            return Phase::Backup(backup);
        }
        if advert.priority == Priority::RELEASE {
            if backup.knows(source) {
                backup.relief.get_or_insert(Relief { since: received, reason: Reason::Released });
            }
            return Phase::Backup(backup);
        }
        self.drop_leftover();
        let peer = Peer { source, priority: advert.priority };
        match self.judge(&mut backup, now, peer, received) {
            Verdict::Accept => {
                backup.accept(received, self.learned(advert.interval), peer);
                if now.since(received) >= backup.interval.duration() {
                    backup.listen_on(now);
                }
            }
            Verdict::Relieve => {
                backup.heard = Some(peer);
                backup.heard_at = backup.heard_at.max(received);
                backup.interval = self.learned(advert.interval);
                backup.relief.get_or_insert(Relief { since: received, reason: Reason::Preempted });
            }
            Verdict::Discard => {
                backup.heard.get_or_insert(peer);
            }
        }
        Phase::Backup(backup)
    }

    fn judge(&self, backup: &mut Backup, now: Time, peer: Peer, received: Time) -> Verdict {
        let mine = self.own_priority();
        if !self.may_preempt(now) {
            return Verdict::Accept;
        }
        if peer.priority <= DEGRADED_MAX && mine > DEGRADED_MAX {
            // With another Active known and well, this one is a straggler that has to yield to it, not to us.
            let known = backup.heard.is_none() || backup.knows(peer.source);
            return if known { Verdict::Relieve } else { Verdict::Discard };
        }
        let preempt = if mine == Priority::OWNER { Preempt::After(Duration::ZERO) } else { self.settings.preempt };
        match preempt {
            Preempt::Never => Verdict::Accept,
            Preempt::After(_) if peer.priority >= mine => {
                backup.lower_since = None;
                Verdict::Accept
            }
            Preempt::After(delay) => {
                let since = *backup.lower_since.get_or_insert(received);
                if received.since(since) < delay {
                    return Verdict::Accept;
                }
                backup.preempts = true;
                Verdict::Discard
            }
        }
    }

    /// We slept, so the silence proves nothing yet (RFC 9568 §2.5).
    pub(super) fn doubt_silence(&mut self, mut backup: Backup, now: Time, late: Duration) -> Phase {
        if backup.proves_nothing(now, late) {
            backup.listen_on(now);
            self.push(Action::Report(Event::Stalled { late }));
        }
        Phase::Backup(backup)
    }

    pub(super) fn tick_backup(&mut self, mut backup: Backup, now: Time) -> Phase {
        let Some(deadline) = self.backup_deadline(&backup).filter(|deadline| *deadline <= now) else {
            return Phase::Backup(backup);
        };
        if self.health == Health::Unable {
            // Nobody came for the addresses a former life left behind, and we cannot serve them.
            self.drop_leftover();
            return Phase::Backup(backup);
        }
        let late = now.since(deadline);
        if backup.proves_nothing(now, late) {
            return self.doubt_silence(backup, now, late);
        }
        if !self.has_consent {
            backup.awaits_consent = true;
            return Phase::Backup(backup);
        }
        self.succeed(backup, now)
    }

    /// The sync group's word. Given while we wait for it, it is the moment to take over.
    pub(super) fn hear_consent(&mut self, mut backup: Backup, now: Time, consent: bool) -> Phase {
        self.has_consent = consent;
        if consent && std::mem::take(&mut backup.awaits_consent) && self.is_due(&backup, now) {
            return self.succeed(backup, now);
        }
        Phase::Backup(backup)
    }

    fn is_due(&self, backup: &Backup, now: Time) -> bool {
        self.health != Health::Unable && self.backup_deadline(backup).is_some_and(|deadline| deadline <= now)
    }

    fn succeed(&mut self, backup: Backup, now: Time) -> Phase {
        let reason = match backup.relief {
            Some(relief) => relief.reason,
            None if backup.preempts => Reason::Preempted,
            None => Reason::ActiveDown,
        };
        self.take_over(now, backup.source, State::Backup, reason)
    }

    /// After a change of health or hold. A timer that expired while we could not act fires after the skew time, so that
    /// nodes that recover together keep their order.
    pub(super) fn reconsider(&self, mut backup: Backup, now: Time) -> Phase {
        backup.awaits_consent = false;
        let is_degraded = backup.heard.is_some_and(|peer| peer.priority <= DEGRADED_MAX);
        let relieves = self.may_preempt(now) && is_degraded && self.own_priority() > DEGRADED_MAX;
        match backup.relief {
            None if relieves => backup.relief = Some(Relief { since: now, reason: Reason::Preempted }),
            Some(Relief { reason: Reason::Preempted, .. }) if !relieves => backup.relief = None,
            None | Some(_) => {}
        }
        if self.backup_deadline(&backup).is_some_and(|deadline| deadline <= now) {
            let reason = backup.relief.map_or(Reason::ActiveDown, |relief| relief.reason);
            backup.relief = Some(Relief { since: now, reason });
        }
        Phase::Backup(backup)
    }

    /// When the Active counts as gone, if we then take over at all.
    pub(super) fn backup_deadline(&self, backup: &Backup) -> Option<Time> {
        if backup.awaits_consent {
            return None;
        }
        let priority = self.own_priority();
        let down = self.settings.active_down_interval(priority, backup.interval);
        let ordinary = match backup.relief {
            Some(relief) => relief.since.plus(self.settings.skew_time(priority, backup.interval)),
            None => backup.heard_at.plus(down),
        };
        let lonely = backup.heard_at.plus(down * LONELY_DOWN_INTERVALS);
        let due = match (self.health, self.hold) {
            (Health::Unable, _) => self.leftover.then(|| backup.heard_at.plus(down)),
            (Health::Able | Health::Degraded, Hold::None) => Some(ordinary),
            (Health::Able | Health::Degraded, Hold::HandedOver) => Some(match backup.relief {
                // An offer is meant for us too, but those not held come first.
                Some(Relief { since, reason: Reason::Released }) => lonely.min(since.plus(down)),
                Some(_) | None => lonely,
            }),
            (Health::Able | Health::Degraded, Hold::Flapping { until }) => Some(ordinary.max(until).min(lonely)),
        };
        due.map(|due| due.max(backup.not_before))
    }

    pub(super) fn leave_backup(&mut self, reason: Reason) -> Phase {
        self.drop_leftover();
        self.report(State::Backup, State::Initialize, reason);
        Phase::Initialize
    }

    /// The advert goes out before the addresses come up, so that an old Active drops them before our announcement
    /// (RFC 9568 §6.4.2; keepalived does the same).
    pub(super) fn take_over(&mut self, now: Time, source: IpAddr, from: State, reason: Reason) -> Phase {
        self.leftover = false;
        self.hold = Hold::None;
        self.push(Action::Send { priority: self.own_priority() });
        self.push(Action::Install);
        self.push(Action::Announce);
        self.report(from, State::Active, reason);
        let interval = self.settings.advert_interval;
        Phase::Active(Active::started(now, source, interval, self.lease, &self.announcing))
    }

    pub(super) fn learned(&self, interval: Centis) -> Centis {
        interval.min(self.settings.advert_interval.times(LEARNED_FACTOR_MAX))
    }
}
