//! One virtual router: RFC 9568 §6 as a value. `handle` one input, drain `poll`, sleep until `deadline`.
//!
//! The machine never calls out: no sockets, no clock, no logging. The runner obeys its actions in order.
//!
//! ```text
//!                   LinkUp, owner
//!        +-------------------------------------+
//!        |                                     v   advert, health, address events
//! +------------+  LinkUp  +--------+  down  +--------+ ---.
//! | Initialize | -------> | Backup | -----> | Active | <--'
//! +------------+          +--------+ <----- +--------+
//!    ^  ^                   |    ^  outranked |   ^  |
//!    |  '-------------------'    |   yielded  |   |  | own adverts missed for a whole down interval
//!    |     LinkDown, Shutdown    | a newer    |   |  v
//!    |                           | advert   +---------+
//!    '---------------------------+--------- | Stalled |   still "Active" to the outside: holds the addresses,
//!                                           +---------+   sends nothing, listens for one interval
//! ```
//!
//! Beyond the RFC, each with tests in `machine/tests.rs` whose names are the rules:
//! - healthy nodes do not take the address from each other ([`Preempt::Never`]), not even after a stall; a degraded
//!   Active is relieved by a healthy Backup after the skew time;
//! - a node that cannot serve, or hands over, advertises 0 and keeps the addresses until the successor is heard;
//! - the down timer counts from the kernel's receive time, and a node that slept listens for an interval before it
//!   believes in silence (RFC 9568 §2.5);
//! - priority 0 counts only from the Active we know (RFC 9568 §6.4.2 takes it from anybody);
//! - an answer to a losing advert does not move the advert schedule and is not repeated within a quarter interval
//!   (RFC 9568 §6.4.3 answers each), so that a flood cannot be amplified;
//! - a second owner that never yields is given way to (RFC 9568 §8.3.2 only logs), as keepalived does;
//! - addresses removed by somebody else are put back, five times a minute;
//! - a node that lost the address by its own fault too often preempts nobody for a while ([`Machine::may_preempt`]).

mod active;
mod announcing;
mod backup;
mod damping;
#[cfg(test)]
mod tests;

use crate::alarm::Alarm;
use crate::packet::{Advert, Family};
use crate::params::{Centis, Priority, Time, Version, Vrid, skew_time, skew_time_v2};
use active::{Active, Stalled};
pub use announcing::Announcing;
use backup::Backup;
use damping::Damping;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// A virtual router. Owned by one thread; every method returns at once.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    /// How long the kernel keeps the addresses without a refresh; zero if they are permanent.
    lease: Duration,
    announcing: Announcing,
    health: Health,
    hold: Hold,
    /// The sync group lets us take over; true without a group.
    has_consent: bool,
    /// Our addresses were on the interface before we became Active (a crash); never true while Active.
    leftover: bool,
    /// The link was up before, so the next start is a return.
    was_up: bool,
    /// Before this moment the link has not been up for long enough to take the address from anybody.
    preempts_from: Time,
    damping: Damping,
    phase: Phase,
    actions: VecDeque<Action>,
}

impl Machine {
    /// A machine in Initialize. `lease` is how long the kernel keeps installed addresses without a refresh; zero means
    /// they are permanent and [`Action::Refresh`] never comes.
    pub fn new(settings: Settings, lease: Duration) -> Machine {
        Machine {
            settings,
            lease,
            announcing: Announcing::default(),
            health: Health::Able,
            hold: Hold::None,
            has_consent: true,
            leftover: false,
            was_up: false,
            preempts_from: Time::default(),
            damping: Damping::default(),
            phase: Phase::Initialize,
            actions: VecDeque::with_capacity(ACTIONS),
        }
    }

    /// How addresses are announced from now on; a burst under way goes on.
    pub fn set_announcing(&mut self, announcing: Announcing) {
        self.announcing = announcing;
    }

    /// Takes one input at the moment `now`, which never runs backwards. Drain [`Machine::poll`] before the next one.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.notice_stall(now);
        let phase = std::mem::replace(&mut self.phase, Phase::Initialize);
        self.phase = match (phase, input) {
            (Phase::Initialize, Input::LinkUp { source }) => self.start(now, source),
            (Phase::Initialize, Input::Health(health)) => {
                self.health = health;
                Phase::Initialize
            }
            (Phase::Initialize, Input::HandOver) => {
                self.hold = Hold::HandedOver;
                Phase::Initialize
            }
            (Phase::Initialize, Input::Resume) => {
                self.hold = Hold::None;
                Phase::Initialize
            }
            (Phase::Initialize, Input::AddressFound) => {
                self.leftover = true;
                Phase::Initialize
            }
            (Phase::Initialize, Input::Shutdown) => {
                self.drop_leftover();
                Phase::Initialize
            }
            (Phase::Initialize, Input::Consent(consent)) => {
                self.has_consent = consent;
                Phase::Initialize
            }
            (
                Phase::Initialize,
                Input::LinkDown
                | Input::Advert { .. }
                | Input::Tick
                | Input::AddressLost
                | Input::Yield
                | Input::Contested
                | Input::Slept { .. }
                | Input::Late { .. },
            ) => Phase::Initialize,

            (Phase::Backup(mut backup), Input::LinkUp { source }) => {
                backup.source = source;
                Phase::Backup(backup)
            }
            (Phase::Backup(_), Input::LinkDown) => self.leave_backup(Reason::LinkDown),
            (Phase::Backup(backup), Input::Advert { advert, source, received }) => {
                self.hear_as_backup(backup, now, advert, source, received.min(now))
            }
            (Phase::Backup(backup), Input::Tick) => self.tick_backup(backup, now),
            // Told again what it knows: the timers must not start over.
            (Phase::Backup(backup), Input::Health(health)) if health == self.health => Phase::Backup(backup),
            (Phase::Backup(backup), Input::Health(health)) => {
                self.health = health;
                self.reconsider(backup, now)
            }
            (Phase::Backup(backup), Input::HandOver) => {
                self.hold = Hold::HandedOver;
                self.reconsider(backup, now)
            }
            (Phase::Backup(backup), Input::Resume) if self.hold == Hold::None => Phase::Backup(backup),
            (Phase::Backup(backup), Input::Resume) => {
                self.hold = Hold::None;
                self.reconsider(backup, now)
            }
            (Phase::Backup(backup), Input::AddressFound) => {
                self.leftover = true;
                Phase::Backup(backup)
            }
            (Phase::Backup(backup), Input::Consent(consent)) => self.hear_consent(backup, now, consent),
            (Phase::Backup(backup), Input::Yield | Input::Contested) => Phase::Backup(backup),
            // Not ours to restore: the lease of a left-over address ran out, or we withdrew it ourselves.
            (Phase::Backup(backup), Input::AddressLost) => Phase::Backup(backup),
            (Phase::Backup(mut backup), Input::Slept { late }) => {
                backup.listen_on(now);
                self.push(Action::Report(Event::Stalled { late }));
                Phase::Backup(backup)
            }
            (Phase::Backup(backup), Input::Late { by }) => self.doubt_silence(backup, now, by),
            (Phase::Backup(_), Input::Shutdown) => self.leave_backup(Reason::Shutdown),

            (Phase::Active(active), Input::LinkUp { source }) => self.move_source(active, now, source),
            (Phase::Active(_), Input::LinkDown) => self.leave_active(now, Reason::LinkDown),
            (Phase::Active(active), Input::Advert { advert, source, received }) => {
                self.hear_as_active(active, now, advert, source, received.min(now))
            }
            (Phase::Active(active), Input::Tick) => self.tick_active(active, now),
            (Phase::Active(active), Input::Health(health)) => self.change_health(active, now, health),
            (Phase::Active(active), Input::HandOver) => self.offer(active, now, true),
            (Phase::Active(active), Input::Yield) => self.offer(active, now, false),
            (Phase::Active(active), Input::Contested) => self.announce_again(active, now),
            (Phase::Active(active), Input::Consent(consent)) => {
                self.has_consent = consent;
                Phase::Active(active)
            }
            (Phase::Active(active), Input::Resume) => self.cancel_offer(active, now),
            (Phase::Active(active), Input::AddressLost) => self.restore_addresses(active, now),
            // We hold them, so they are ours.
            (Phase::Active(active), Input::AddressFound) => Phase::Active(active),
            (Phase::Active(active), Input::Slept { late }) => self.stall(active, now, late),
            // Judged by our last advert, before anything else.
            (Phase::Active(active), Input::Late { .. }) => Phase::Active(active),
            (Phase::Active(_), Input::Shutdown) => self.leave_active(now, Reason::Shutdown),

            (Phase::Stalled(mut stalled), Input::LinkUp { source }) => {
                stalled.active.source = source;
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(_), Input::LinkDown) => self.leave_stalled(Reason::LinkDown),
            (Phase::Stalled(stalled), Input::Advert { advert, source, received }) => {
                self.hear_as_stalled(stalled, now, advert, source, received.min(now))
            }
            (Phase::Stalled(stalled), Input::Tick) => self.tick_stalled(stalled, now),
            (Phase::Stalled(stalled), Input::Health(health)) => {
                self.health = health;
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(mut stalled), Input::HandOver) => {
                stalled.active.make_offer(now, true);
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(mut stalled), Input::Yield) => {
                stalled.active.make_offer(now, false);
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(mut stalled), Input::Resume) => {
                stalled.active.offer = None;
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(stalled), Input::Consent(consent)) => {
                self.has_consent = consent;
                Phase::Stalled(stalled)
            }
            (Phase::Stalled(stalled), Input::Contested) => Phase::Stalled(stalled),
            // The kernel let the lease run out while we slept; only the end of listening may bring the address back.
            (Phase::Stalled(stalled), Input::AddressLost | Input::AddressFound) => Phase::Stalled(stalled),
            (Phase::Stalled(stalled), Input::Slept { late }) => self.stall(stalled.active, now, late),
            (Phase::Stalled(stalled), Input::Late { .. }) => Phase::Stalled(stalled),
            (Phase::Stalled(_), Input::Shutdown) => self.leave_stalled(Reason::Shutdown),
        };
        self.check();
    }

    /// The next action, in the order they must be done. Call until `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to hand in [`Input::Tick`], queued adverts first. Valid until the next `handle`; may lie in the past.
    pub fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Initialize => None,
            Phase::Backup(backup) => self.backup_deadline(backup),
            Phase::Active(active) => Some(self.active_deadline(active)),
            Phase::Stalled(stalled) => Some(stalled.until),
        }
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Initialize => State::Initialize,
            Phase::Backup(_) => State::Backup,
            Phase::Active(_) | Phase::Stalled(_) => State::Active,
        }
    }

    /// What this node advertises, or would advertise as Active: the configured priority, at most [`DEGRADED_MAX`]
    /// when degraded, 0 when it cannot serve or is handing over.
    pub fn effective_priority(&self) -> Priority {
        match &self.phase {
            Phase::Active(active) => self.advertised(active),
            Phase::Stalled(stalled) => self.advertised(&stalled.active),
            Phase::Initialize | Phase::Backup(_) => self.own_priority(),
        }
    }

    /// Source address and priority of the Active as last heard; `None` if nobody was heard or it is us.
    pub fn active_peer(&self) -> Option<(IpAddr, Priority)> {
        match &self.phase {
            Phase::Backup(backup) => backup.heard.map(|peer| (peer.source, peer.priority)),
            Phase::Initialize | Phase::Active(_) | Phase::Stalled(_) => None,
        }
    }

    pub fn health(&self) -> Health {
        self.health
    }

    /// Handed over as planned (or told to before it had the address) and not resumed: does not take the address while
    /// anybody else does.
    pub fn is_handed_over(&self) -> bool {
        matches!(self.hold, Hold::HandedOver)
    }

    /// Active, or a Backup that only lacks the consent of its sync group.
    pub fn wants_address(&self) -> bool {
        match &self.phase {
            Phase::Initialize => false,
            Phase::Backup(backup) => backup.awaits_consent,
            Phase::Active(_) | Phase::Stalled(_) => true,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes new settings without leaving the state: a changed priority causes no gap, an added address no second
    /// Active. Drain [`Machine::poll`] afterwards. VRID, family and version must be the same; the caller removes
    /// addresses that are no longer listed.
    pub fn reconfigure(&mut self, now: Time, settings: Settings, lease: Duration) {
        debug_assert!((settings.vrid, settings.family) == (self.settings.vrid, self.settings.family));
        if settings == self.settings && lease == self.lease {
            return;
        }
        self.notice_stall(now);
        let old = std::mem::replace(&mut self.settings, settings);
        let old_lease = std::mem::replace(&mut self.lease, lease);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Initialize) {
            Phase::Initialize => Phase::Initialize,
            Phase::Backup(mut backup) => {
                backup.interval =
                    if backup.heard.is_some() { self.learned(backup.interval) } else { self.settings.advert_interval };
                self.reconsider(backup, now)
            }
            Phase::Active(active) => self.refit(active, now, &old, old_lease),
            Phase::Stalled(mut stalled) => {
                stalled.active = stalled.active.rescheduled(&self.settings, lease);
                Phase::Stalled(stalled)
            }
        };
        self.check();
    }

    /// [`Machine::reconfigure`] with another priority.
    pub fn set_priority(&mut self, now: Time, priority: Priority) {
        self.reconfigure(now, Settings { priority, ..self.settings.clone() }, self.lease);
    }

    /// Leaves Initialize: the owner becomes Active at once, everybody else listens first (RFC 9568 §6.4.1).
    fn start(&mut self, now: Time, source: IpAddr) -> Phase {
        let reason = if self.was_up { Reason::LinkUp } else { Reason::Started };
        if self.was_up {
            self.preempts_from = now.plus(LINK_SETTLES);
        }
        self.was_up = true;
        if self.settings.priority == Priority::OWNER && self.is_ready(now) {
            return self.take_over(now, source, State::Initialize, reason);
        }
        self.report(State::Initialize, State::Backup, reason);
        Phase::Backup(Backup::listening(now, source, self.settings.advert_interval))
    }

    /// What our health lets us advertise, hand-over aside.
    fn own_priority(&self) -> Priority {
        match self.health {
            Health::Able => self.settings.priority,
            Health::Degraded => degraded(self.settings.priority),
            Health::Unable => Priority::RELEASE,
        }
    }

    /// May and wants to become Active by the ordinary rules.
    fn is_ready(&self, now: Time) -> bool {
        self.health != Health::Unable
            && match self.hold {
                Hold::None => true,
                Hold::HandedOver => false,
                Hold::Flapping { until } => now >= until,
            }
    }

    /// Whether this node would take the address from a living Active, if priorities or health call for it. False for
    /// a while after the link returned, and after the address was lost by our own fault several times.
    pub fn may_preempt(&self, now: Time) -> bool {
        self.is_ready(now) && now >= self.preempts_from && !self.damping.forbids_preemption(now)
    }

    /// Whether this node lost the address by its own fault so often that it takes it from nobody for a while.
    pub fn is_damped(&self, now: Time) -> bool {
        self.damping.forbids_preemption(now)
    }

    fn drop_leftover(&mut self) {
        if self.leftover {
            self.leftover = false;
            self.push(Action::Withdraw);
        }
    }

    fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn report(&mut self, from: State, to: State, reason: Reason) {
        self.push(Action::Report(Event::Transition { from, to, reason }));
    }

    fn check(&self) {
        debug_assert!(!self.settings.addresses.is_empty(), "a virtual router without addresses");
        match &self.phase {
            Phase::Initialize => {}
            Phase::Backup(backup) => {
                debug_assert!(backup.interval <= self.settings.advert_interval.times(LEARNED_FACTOR_MAX));
                debug_assert!(self.own_priority() != Priority::RELEASE || self.health == Health::Unable);
            }
            Phase::Active(active) | Phase::Stalled(Stalled { active, .. }) => {
                debug_assert!(!self.leftover, "an Active holds its addresses on purpose");
                debug_assert!(active.next_advert.since(active.sent) <= self.settings.advert_interval.duration());
                debug_assert!(active.refresh.is_some() != self.lease.is_zero());
            }
        }
    }
}

/// The state with what is only known in it.
#[derive(Debug, Clone)]
enum Phase {
    Initialize,
    Backup(Backup),
    Active(Active),
    /// Holds the addresses, but was silent for so long that a peer may have taken over.
    Stalled(Stalled),
}

/// Why a Backup that is able to serve keeps out of the election. It still returns when nobody has been Active for
/// [`LONELY_DOWN_INTERVALS`]: an address somewhere is better than nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    None,
    /// By order, until [`Input::Resume`].
    HandedOver,
    /// Somebody on this host keeps removing our addresses.
    Flapping {
        until: Time,
    },
}

/// More than one input ever causes.
const ACTIONS: usize = 16;

/// Down intervals without any Active after which a held Backup takes the address all the same.
const LONELY_DOWN_INTERVALS: u32 = 3;

/// A Backup believes an advert interval of up to this many times its own: an unauthenticated advert must not be able
/// to put it to sleep. The floor is the wire's own 10 ms.
const LEARNED_FACTOR_MAX: u16 = 10;

/// A link that returned is often about to go again, and switches need a while to forward.
const LINK_SETTLES: Duration = Duration::from_secs(5);

/// Maps base priorities 254, 253, … to 9, 8, … 1, so that degraded nodes keep their order. Nodes further apart than
/// eight share the 1 and are ordered by address.
fn degraded(base: Priority) -> Priority {
    let order = Priority::OWNER.0.saturating_sub(1).saturating_sub(base.0);
    Priority(DEGRADED_MAX.0.saturating_sub(order).max(1).min(base.0))
}

/// Whether `(priority, source)` beats `(own_priority, own_source)`: the priority, then the address as an unsigned
/// number in network order (RFC 9568 §6.4.3).
fn outranks(priority: Priority, source: IpAddr, own_priority: Priority, own_source: IpAddr) -> bool {
    (priority, source) > (own_priority, own_source)
}

/// Whether a Backup takes the address from a living Active. The owner (255) always does (RFC 9568 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preempt {
    /// Only from an Active that says it is degraded (priority at most [`DEGRADED_MAX`]). Lyre's default: healthy
    /// nodes never take the address from each other.
    Never,
    /// From any lower priority, after it was heard for this long (RFC 9568 §6.1 with keepalived's delay).
    After(Duration),
}

/// Highest advert priority that means "I serve, but badly; take over if you are well".
pub const DEGRADED_MAX: Priority = Priority(9);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub vrid: Vrid,
    pub family: Family,
    /// Decides the skew time here, and what the codec speaks.
    pub version: Version,
    /// 1..=254, or 255 for the owner of the addresses. Values up to [`DEGRADED_MAX`] read as degraded to a Lyre peer.
    pub priority: Priority,
    pub advert_interval: Centis,
    /// Adverts that may be missed before the Active counts as down; 3 in the RFC and in keepalived.
    pub down_adverts: u8,
    pub preempt: Preempt,
    /// The addresses carried in adverts, in order. Never empty.
    pub addresses: Vec<IpAddr>,
}

impl Settings {
    /// The advert that [`Action::Send`] with this priority asks for.
    pub fn advert(&self, priority: Priority) -> Advert {
        Advert { vrid: self.vrid, priority, interval: self.advert_interval, addresses: self.addresses.clone() }
    }

    /// What a Backup of this priority waits beyond the last missed advert.
    pub fn skew_time(&self, priority: Priority, interval: Centis) -> Duration {
        match self.version {
            Version::V2 => skew_time_v2(priority),
            Version::V3 => skew_time(priority, interval),
        }
    }

    /// What a Backup of this priority waits in all.
    pub fn active_down_interval(&self, priority: Priority, interval: Centis) -> Duration {
        interval.duration() * u32::from(self.down_adverts) + self.skew_time(priority, interval)
    }
}

#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// The link is usable and this is our advert source address (start, link back, address changed).
    LinkUp { source: IpAddr },
    /// No carrier, no interface, or no source address.
    LinkDown,
    /// A checked advert of our VRID from another sender; `received` is the kernel's receive time.
    Advert { advert: &'a Advert, source: IpAddr, received: Time },
    /// The deadline passed. All queued adverts were handed in before.
    Tick,
    /// What this node is able to do changed.
    Health(Health),
    /// Planned: hand the address to a peer, keep it until the peer is heard, then stay Backup until `Resume`.
    HandOver,
    /// Take part again after `HandOver`.
    Resume,
    /// Sync group: another member lost its address. Like `HandOver`, but without staying out afterwards.
    Yield,
    /// Sync group: whether all members want their address. While not, a Backup whose timer expires waits.
    Consent(bool),
    /// Sync group: another member heard a losing advert. Whoever sent it may have announced our addresses, too.
    Contested,
    /// Somebody else removed one of our virtual addresses from the interface.
    AddressLost,
    /// At start: our virtual addresses are already on the interface (we crashed while Active).
    AddressFound,
    /// The machine stood still for longer than `now` shows: CLOCK_MONOTONIC does not count a suspend.
    Slept { late: Duration },
    /// Our thread ran this much later than it had asked for: what was silent meanwhile may have stood still with us.
    Late { by: Duration },
    /// Process end: release the address.
    Shutdown,
}

/// What the node is able to do; decided outside, followed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Serves well: base priority.
    Able,
    /// Serves, but badly (no healthy web server): advertises at most [`DEGRADED_MAX`], keeps the node order.
    Degraded,
    /// Cannot serve (worker dead or hung): yields the address to whoever is there, keeps it while nobody is.
    Unable,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send one advert with this priority now.
    Send { priority: Priority },
    /// Put all virtual addresses on the interface, with the lease. Those already there stay.
    Install,
    /// Extend the lease of installed addresses.
    Refresh,
    /// Take all virtual addresses off the interface.
    Withdraw,
    /// Send one gratuitous ARP (both forms) or unsolicited NA per virtual address.
    Announce,
    /// Tell the owner of the speaker.
    Report(Event),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not participating: no link, or not started (RFC 9568 "Initialize").
    Initialize,
    Backup,
    Active,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Transition {
        from: State,
        to: State,
        reason: Reason,
    },
    /// We are Active and heard an advert that loses against ours (split brain, or the other has not yielded yet).
    LosingAdvert {
        source: IpAddr,
        priority: Priority,
    },
    /// The loser does not yield: it was answered for five of its down intervals and goes on. As a rule it does not hear
    /// us (multicast filtered, a firewall, a broken path in one direction). Once per duel.
    NotHeard {
        by: IpAddr,
    },
    /// We woke up this late: as Active since our last advert, as Backup after the down timer.
    Stalled {
        late: Duration,
    },
    /// Two routers claim to own the addresses; the one with the higher source address stays, as long as the other
    /// gives way at all.
    TwoOwners {
        source: IpAddr,
    },
    /// Nobody took the address we offered by [`Input::HandOver`] or [`Input::Yield`]; we stay Active.
    HandOverRefused,
    /// An advert came from our own address: a duplicate node address, or our own frame looped back.
    AddressConflict {
        source: IpAddr,
    },
    /// Somebody removed our addresses and we put them back; `count` times within the last minute.
    AddressRestored {
        count: usize,
    },
    /// First sign of a condition that somebody should look at.
    AlarmRaised(Alarm),
    /// No sign of it for its quiet time.
    AlarmCleared(Alarm),
}

/// Why the state changed; one word for logs, status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Started,
    LinkUp,
    LinkDown,
    /// The Active fell silent.
    ActiveDown,
    /// The Active released the address (priority 0).
    Released,
    /// A better advert was heard.
    Outranked,
    /// We outranked a living Active.
    Preempted,
    /// We handed over as planned.
    HandedOver,
    /// We could not serve and somebody took over.
    Yielded,
    /// We woke from a stall and somebody else is Active.
    Stalled,
    AddressFlapping,
    Shutdown,
}
