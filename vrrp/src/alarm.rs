//! What an operator should look at: conditions that last, with their likely cause and remedy.
//!
//! Pure and of fixed size, so that the real-time thread can keep it. An alarm is raised by its first sign, stays while
//! signs keep coming, and clears itself after a quiet time; the runner reports both moments once.

use crate::params::Time;
use std::fmt;
use std::time::Duration;

/// A condition. [`Alarm::remedy`] says what to do about it; docs/operations.md has the same as a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alarm {
    /// Adverts of our VRID with other authentication or with none of our addresses.
    DuplicateVrid,
    /// Adverts from our own source address.
    AddressConflict,
    /// A peer that loses against us goes on being Active: it does not hear us.
    NotHeard,
    /// A peer with another advert interval.
    IntervalMismatch,
    /// A peer with other virtual addresses.
    AddressListMismatch,
    /// A peer that sends advert interval 0.
    ZeroInterval,
    /// A second router of priority 255.
    TwoOwners,
    /// We lost the address by our own fault so often that we take it from nobody for a while.
    Damped,
    /// This thread did not run for so long that a peer may have taken over.
    Stalled,
    /// Our adverts leave more than half an interval late.
    LateAdverts,
    /// The kernel removed our addresses because nobody renewed their lease in time.
    LeaseExpired,
    /// Adverts reach the interface but not our socket.
    Filtered,
    /// Somebody on this host keeps removing our addresses.
    AddressesRemoved,
    /// The kernel refuses to send our adverts.
    SendRefused,
}

impl Alarm {
    pub const ALL: [Alarm; 14] = [
        Alarm::DuplicateVrid,
        Alarm::AddressConflict,
        Alarm::NotHeard,
        Alarm::IntervalMismatch,
        Alarm::AddressListMismatch,
        Alarm::ZeroInterval,
        Alarm::TwoOwners,
        Alarm::Damped,
        Alarm::Stalled,
        Alarm::LateAdverts,
        Alarm::LeaseExpired,
        Alarm::Filtered,
        Alarm::AddressesRemoved,
        Alarm::SendRefused,
    ];

    /// For status, metrics and hooks.
    pub const fn name(self) -> &'static str {
        match self {
            Alarm::DuplicateVrid => "duplicate_vrid",
            Alarm::AddressConflict => "address_conflict",
            Alarm::NotHeard => "not_heard",
            Alarm::IntervalMismatch => "interval_mismatch",
            Alarm::AddressListMismatch => "address_list_mismatch",
            Alarm::ZeroInterval => "zero_interval",
            Alarm::TwoOwners => "two_owners",
            Alarm::Damped => "damped",
            Alarm::Stalled => "stalled",
            Alarm::LateAdverts => "late_adverts",
            Alarm::LeaseExpired => "lease_expired",
            Alarm::Filtered => "filtered",
            Alarm::AddressesRemoved => "addresses_removed",
            Alarm::SendRefused => "send_refused",
        }
    }

    /// The likely cause, and what to do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Alarm::DuplicateVrid => {
                "another pair on this network uses our VRID, or the peer has another password or key; \
                 choose a free VRID or make the secrets of both nodes equal"
            }
            Alarm::AddressConflict => {
                "another host has this node's address, or a switch returns our own frames; \
                 look for the duplicate address and for a loop"
            }
            Alarm::NotHeard => {
                "the path from this node to the peer is filtered in one direction; let IP protocol 112 and the group \
                 224.0.0.18 or ff02::12 through the peer's firewall and the switches (IGMP snooping needs a querier), \
                 or use unicast peers"
            }
            Alarm::IntervalMismatch => {
                "the peer has another advert interval; make both nodes equal (with version 2 both become Active)"
            }
            Alarm::AddressListMismatch => {
                "the peer has other virtual addresses under this VRID; make both nodes equal, \
                 or choose another VRID if it is not our peer"
            }
            Alarm::ZeroInterval => {
                "the peer sends advert interval 0, which nobody can wait for, so its adverts are dropped; correct its \
                 interval (keepalived: version 2 with advert_int below 1)"
            }
            Alarm::TwoOwners => "two routers say priority 255; only the node whose own addresses these are may",
            Alarm::Damped => {
                "this node lost the address three times in a few minutes by its own fault (link, health, removed \
                 addresses); it takes over only if nobody else is there until the penalty has decayed"
            }
            Alarm::Stalled => {
                "this process was not scheduled: a paused or migrated virtual machine, a debugger, or a starved \
                 processor; reserve processor time, or choose a longer advert interval"
            }
            Alarm::LateAdverts => {
                "the processor or the kernel is busy; allow real-time scheduling (CAP_SYS_NICE), or choose a longer \
                 advert interval"
            }
            Alarm::LeaseExpired => "this process could not renew the lease in time; see the alarm stalled",
            Alarm::Filtered => {
                "a firewall on this node drops incoming adverts; accept IP protocol 112 (nftables: ip protocol 112 \
                 accept, ip6 nexthdr 112 accept)"
            }
            Alarm::AddressesRemoved => {
                "a network service on this host removes addresses it did not set; tell it to leave them \
                 (systemd-networkd: KeepConfiguration=yes; NetworkManager: make the interface unmanaged)"
            }
            Alarm::SendRefused => {
                "a firewall on this node forbids outgoing adverts, or the interface cannot send; \
                 allow IP protocol 112 in the output chain"
            }
        }
    }

    /// How long without a sign until it is over.
    const fn quiet_time(self) -> Duration {
        match self {
            // One sign each, so they have to stay visible for a while.
            Alarm::Stalled | Alarm::LeaseExpired | Alarm::AddressesRemoved => Duration::from_secs(300),
            Alarm::Damped => Duration::from_secs(2),
            Alarm::NotHeard | Alarm::Filtered => Duration::from_secs(30),
            Alarm::DuplicateVrid
            | Alarm::AddressConflict
            | Alarm::IntervalMismatch
            | Alarm::AddressListMismatch
            | Alarm::ZeroInterval
            | Alarm::TwoOwners
            | Alarm::LateAdverts
            | Alarm::SendRefused => Duration::from_secs(60),
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All alarms of one router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarms([Entry; Alarm::ALL.len()]);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Entry {
    /// The last sign, while raised.
    last: Option<Time>,
    since: Time,
    /// How often it was raised.
    raised: u64,
    signs: u64,
}

impl Alarms {
    /// Takes a sign. True if it raises the alarm.
    pub fn sign(&mut self, now: Time, alarm: Alarm) -> bool {
        let Some(entry) = self.0.get_mut(alarm as usize) else { return false };
        entry.signs += 1;
        let is_new = entry.last.is_none();
        if is_new {
            entry.since = now;
            entry.raised += 1;
        }
        entry.last = Some(entry.last.map_or(now, |last| last.max(now)));
        is_new
    }

    /// The next alarm whose quiet time has passed, which ends it. Call until none.
    pub fn expire(&mut self, now: Time) -> Option<Alarm> {
        let is_over = |alarm: Alarm, entry: &Entry| entry.last.is_some_and(|at| now.since(at) >= alarm.quiet_time());
        let (alarm, entry) = Alarm::ALL.into_iter().zip(&mut self.0).find(|(alarm, entry)| is_over(*alarm, entry))?;
        entry.last = None;
        Some(alarm)
    }

    pub fn is_raised(&self, alarm: Alarm) -> bool {
        self.0.get(alarm as usize).is_some_and(|entry| entry.last.is_some())
    }

    /// Those that are raised, with when that was.
    pub fn raised(&self) -> impl Iterator<Item = (Alarm, Time)> + '_ {
        let entries = Alarm::ALL.into_iter().zip(&self.0);
        entries.filter(|(_, entry)| entry.last.is_some()).map(|(alarm, entry)| (alarm, entry.since))
    }

    /// How often it was raised, and how many signs there were.
    pub fn counts(&self, alarm: Alarm) -> (u64, u64) {
        self.0.get(alarm as usize).map_or((0, 0), |entry| (entry.raised, entry.signs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn every_alarm_has_its_own_place_name_and_remedy() {
        for (place, alarm) in Alarm::ALL.into_iter().enumerate() {
            assert_eq!(alarm as usize, place);
            assert!(Alarm::ALL.iter().all(|other| *other == alarm || other.name() != alarm.name()));
            assert!(alarm.remedy().len() > 40, "{alarm}");
        }
    }

    #[test]
    fn an_alarm_is_raised_once_and_cleared_once_after_its_quiet_time() {
        let mut alarms = Alarms::default();
        assert!(alarms.sign(at(0), Alarm::ZeroInterval));
        assert!((1..50).all(|second| !alarms.sign(at(second), Alarm::ZeroInterval)));
        assert_eq!(alarms.expire(at(49 + 59)), None);
        assert_eq!(alarms.raised().collect::<Vec<_>>(), [(Alarm::ZeroInterval, at(0))]);
        assert_eq!(alarms.expire(at(49 + 60)), Some(Alarm::ZeroInterval));
        assert_eq!(alarms.expire(at(49 + 60)), None);
        assert!(!alarms.is_raised(Alarm::ZeroInterval));
        assert_eq!(alarms.counts(Alarm::ZeroInterval), (1, 50));
        assert!(alarms.sign(at(500), Alarm::ZeroInterval), "and can be raised again");
    }

    #[test]
    fn several_alarms_end_each_at_its_own_time() {
        let mut alarms = Alarms::default();
        for alarm in Alarm::ALL {
            assert!(alarms.sign(at(1), alarm));
        }
        let over: Vec<_> = std::iter::from_fn(|| alarms.expire(at(100))).collect();
        assert_eq!(over.len(), Alarm::ALL.len() - 3);
        let rest: Vec<_> = alarms.raised().map(|(alarm, _)| alarm).collect();
        assert_eq!(rest, [Alarm::Stalled, Alarm::LeaseExpired, Alarm::AddressesRemoved]);
    }
}
