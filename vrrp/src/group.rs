//! Sync groups: virtual routers that move together, as a rule the IPv4 and the IPv6 address of one service.
//!
//! The rule is a function of what the members are; it keeps no state. The runner asks after every input to a member
//! and hands the answer to the machines: `consent` as [`Input::Consent`](crate::machine::Input::Consent) to all when
//! it changed, `is_faulty` as [`Health::Unable`](crate::machine::Health::Unable) for all while it lasts, `yields` as
//! [`Input::Yield`](crate::machine::Input::Yield) to those that are Active.

use crate::machine::{Machine, State};

/// What a member is, as far as the group is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// No link: it cannot hold its address.
    Faulty,
    /// Another node is Active, as far as it can hear.
    Backup,
    /// Its Active is gone, released or to be relieved; only the consent of the group is missing.
    Wants,
    Active,
}

/// What the group tells its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Nobody hears another Active: those that want their address may take it.
    pub consent: bool,
    /// A member is faulty: the others yield as if they could not serve, and keep their addresses while nobody comes.
    pub is_faulty: bool,
    /// A member lost its address: the others offer theirs to whoever took it.
    pub yields: bool,
}

impl Member {
    pub fn of(machine: &Machine) -> Member {
        match (machine.state(), machine.wants_address()) {
            (State::Initialize, _) => Member::Faulty,
            (State::Backup, false) => Member::Backup,
            (State::Backup, true) => Member::Wants,
            (State::Active, _) => Member::Active,
        }
    }
}

/// The group's ruling after its members went from `before` to `now` (same order, same length).
pub fn rule(before: &[Member], now: &[Member]) -> Ruling {
    let lost = |(before, now): (&Member, &Member)| *before == Member::Active && *now == Member::Backup;
    Ruling {
        consent: now.iter().all(|member| matches!(member, Member::Wants | Member::Active)),
        is_faulty: now.contains(&Member::Faulty),
        yields: now.contains(&Member::Active) && before.iter().zip(now).any(lost),
    }
}

#[cfg(test)]
mod tests {
    use super::Member::*;
    use super::*;

    #[test]
    fn a_pair_of_members_is_ruled_as_the_table_says() {
        // before, now, (consent, is_faulty, yields)
        #[rustfmt::skip]
        let rows = [
            ([Faulty, Faulty], [Faulty, Backup], (false, true,  false)),
            ([Faulty, Backup], [Backup, Backup], (false, false, false)),
            ([Backup, Backup], [Wants,  Backup], (false, false, false)),
            ([Wants,  Backup], [Wants,  Wants],  (true,  false, false)),
            ([Wants,  Wants],  [Active, Wants],  (true,  false, false)),
            ([Active, Wants],  [Active, Active], (true,  false, false)),
            ([Active, Active], [Backup, Active], (false, false, true)),
            ([Backup, Active], [Backup, Active], (false, false, false)),
            ([Active, Active], [Backup, Backup], (false, false, false)),
            ([Active, Active], [Faulty, Active], (false, true,  false)),
            ([Wants,  Wants],  [Faulty, Wants],  (false, true,  false)),
        ];
        for (before, now, (consent, is_faulty, yields)) in rows {
            assert_eq!(rule(&before, &now), Ruling { consent, is_faulty, yields }, "{before:?} to {now:?}");
        }
    }
}
