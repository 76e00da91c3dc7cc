//! A router's state in keepalived's words, from what the speaker reports, in the order it reports it. Pure.
//!
//! | machine | able | told |
//! |---|---|---|
//! | Active | yes or no | MASTER: it holds the addresses, whatever it would rather do |
//! | Backup | yes | BACKUP |
//! | Backup | no | FAULT |
//! | Initialize | | FAULT; at the end STOP; removed by a reload DELETED |
//!
//! A fault of one member of a sync group is one of all: a Backup whose group has one tells FAULT, too.

use super::moved;
use crate::config::settings::{Settings, VirtualRouter};
use lyre_vrrp::machine::{Health, Reason, State};
use lyre_vrrp::runner::Ability;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    Master,
    Backup,
    Fault,
    Stop,
    /// A reload removed it; who does not ask for this hears of a stop.
    Deleted,
    /// Another router is Active beside us, and loses.
    Contested,
}

/// A change worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub state: Announced,
    pub priority: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Of the virtual router: `vip1-v4`.
    pub router: String,
    /// For scripts: `vip1`, with the family only where there are two.
    pub name: String,
    /// Routers of a sync group are told of together, too.
    pub group: Option<String>,
    base: u8,
    ability: Ability,
    state: State,
    has_started: bool,
    has_faulty_group: bool,
    told: Option<Announced>,
}

/// The routers of `settings`, with the states of those that were there `before`.
pub fn routers(settings: &Settings, before: Vec<Router>) -> Vec<Router> {
    let named = |router: &VirtualRouter| {
        let fresh = Router {
            router: router.name.clone(),
            name: name(router, &settings.routers),
            group: router.sync_group.clone(),
            base: router.priority,
            ability: Ability::default(),
            state: State::Initialize,
            has_started: false,
            has_faulty_group: false,
            told: None,
        };
        match before.iter().find(|known| known.router == router.name) {
            Some(known) => Router { name: fresh.name, group: fresh.group, base: fresh.base, ..known.clone() },
            None => fresh,
        }
    };
    settings.routers.iter().map(named).collect()
}

/// The `[[vip]]`'s, as long as it means one router only.
fn name(router: &VirtualRouter, all: &[VirtualRouter]) -> String {
    let stem = |name: &str| name.strip_suffix("-v4").or_else(|| name.strip_suffix("-v6")).unwrap_or(name).to_owned();
    let own = stem(&router.name);
    let is_alone = all.iter().filter(|other| stem(&other.name) == own).count() == 1;
    if is_alone { own } else { router.name.clone() }
}

impl Router {
    pub fn moved(&mut self, to: State, reason: Reason) -> Option<Told> {
        self.has_started = true;
        self.state = to;
        if reason == Reason::Shutdown {
            return self.stop();
        }
        self.news()
    }

    /// What the owner lets it do. Before the machine has a state of its own there is nothing to tell.
    pub fn may(&mut self, ability: Ability) -> Option<Told> {
        self.ability = ability;
        if self.has_started { self.news() } else { None }
    }

    pub fn stop(&mut self) -> Option<Told> {
        self.tell(Announced::Stop)
    }

    /// It is not there after a reload.
    pub fn delete(&mut self) -> Option<Told> {
        self.tell(Announced::Deleted)
    }

    /// As it would be without a fault, which is what keepalived gives to scripts.
    pub fn priority(&self) -> u8 {
        moved(self.base, self.ability.weight)
    }

    /// The line of keepalived's `notify_priority_changes`; none before there is a state, and in fault.
    pub fn priority_words(&self) -> Option<[String; 4]> {
        let word = match self.told {
            Some(Announced::Master) => "MASTER_PRIORITY",
            Some(Announced::Backup) => "BACKUP_PRIORITY",
            Some(Announced::Fault | Announced::Stop | Announced::Deleted | Announced::Contested) | None => return None,
        };
        Some([INSTANCE.to_owned(), self.name.clone(), word.to_owned(), self.priority().to_string()])
    }

    fn is_faulty(&self) -> bool {
        self.has_started && (self.state == State::Initialize || self.ability.health == Health::Unable)
    }

    /// The four arguments.
    pub fn words(&self, told: Told) -> [String; 4] {
        [INSTANCE.to_owned(), self.name.clone(), word(told.state).to_owned(), told.priority.to_string()]
    }

    /// What was last told of it.
    pub fn told(&self) -> Option<Announced> {
        self.told
    }

    fn news(&mut self) -> Option<Told> {
        self.tell(match self.state {
            State::Active => Announced::Master,
            State::Backup if !self.is_faulty() && !self.has_faulty_group => Announced::Backup,
            State::Backup | State::Initialize => Announced::Fault,
        })
    }

    fn tell(&mut self, state: Announced) -> Option<Told> {
        if self.told.replace(state) == Some(state) {
            return None;
        }
        Some(Told { state, priority: self.priority() })
    }
}

pub const INSTANCE: &str = "INSTANCE";

/// A group has no priority; keepalived says 0.
pub fn group_words(group: &str, state: Announced) -> [String; 4] {
    ["GROUP".to_owned(), group.to_owned(), word(state).to_owned(), "0".to_owned()]
}

fn word(state: Announced) -> &'static str {
    match state {
        Announced::Master => "MASTER",
        Announced::Backup => "BACKUP",
        Announced::Fault => "FAULT",
        Announced::Stop => "STOP",
        Announced::Deleted => "DELETED",
        Announced::Contested => "MASTER_RX_LOWER_PRI",
    }
}

/// Tells the members of a group whether one of them is at fault: what they have to say to that, with their places.
pub fn spread_fault(routers: &mut [Router], group: &str) -> Vec<(usize, Told)> {
    let is_member = |router: &Router| router.group.as_deref() == Some(group);
    let is_faulty = routers.iter().any(|router| is_member(router) && router.is_faulty());
    let mut news = Vec::new();
    for (index, router) in routers.iter_mut().enumerate().filter(|(_, router)| is_member(router)) {
        router.has_faulty_group = is_faulty;
        let is_over = matches!(router.told, Some(Announced::Stop | Announced::Deleted));
        if router.has_started && !is_over {
            news.extend(router.news().map(|told| (index, told)));
        }
    }
    news
}

/// Of what was last told of each member: one in fault is a fault of all, and the group is Master or has stopped when
/// all have. `None` on the way: while a member has told nothing, and while only some are Master or have stopped.
pub fn of_group(members: impl Iterator<Item = Option<Announced>>) -> Option<Announced> {
    let over = |state| if state == Announced::Deleted { Announced::Stop } else { state };
    let members: Vec<Announced> = members.map(|member| member.map(over)).collect::<Option<_>>()?;
    let all = |state| members.iter().all(|member| *member == state);
    match () {
        () if members.is_empty() => None,
        () if all(Announced::Stop) => Some(Announced::Stop),
        () if members.contains(&Announced::Stop) => None,
        () if all(Announced::Master) => Some(Announced::Master),
        () if members.contains(&Announced::Master) => None,
        () if members.contains(&Announced::Fault) => Some(Announced::Fault),
        () => Some(Announced::Backup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        Router {
            router: "vip1-v4".to_owned(),
            name: "vip1".to_owned(),
            group: None,
            base: 200,
            ability: Ability::default(),
            state: State::Initialize,
            has_started: false,
            has_faulty_group: false,
            told: None,
        }
    }

    fn able(health: Health, weight: i16) -> Ability {
        Ability { health, weight }
    }

    #[test]
    fn every_pair_of_state_and_health_has_its_word() {
        #[rustfmt::skip]
        let rows = [
            (State::Active,     Health::Able,     Announced::Master),
            (State::Active,     Health::Degraded, Announced::Master),
            (State::Active,     Health::Unable,   Announced::Master),
            (State::Backup,     Health::Able,     Announced::Backup),
            (State::Backup,     Health::Degraded, Announced::Backup),
            (State::Backup,     Health::Unable,   Announced::Fault),
            (State::Initialize, Health::Able,     Announced::Fault),
            (State::Initialize, Health::Unable,   Announced::Fault),
        ];
        for (state, health, told) in rows {
            let mut router = router();
            assert_eq!(router.may(able(health, 0)), None, "nothing to tell yet");
            let said = router.moved(state, Reason::Started);
            assert_eq!(said, Some(Told { state: told, priority: 200 }), "{state:?} {health:?}");
        }
    }

    #[test]
    fn a_fault_of_the_active_is_told_when_it_has_let_go_and_its_end_at_once() {
        let mut router = router();
        router.moved(State::Backup, Reason::Started);
        router.moved(State::Active, Reason::ActiveDown);
        assert_eq!(router.may(able(Health::Unable, -20)), None);
        let fault = Some(Told { state: Announced::Fault, priority: 180 });
        assert_eq!(router.moved(State::Backup, Reason::Yielded), fault);
        assert_eq!(router.may(able(Health::Unable, 0)), None, "a weight alone is no change of state");
        let backup = Some(Told { state: Announced::Backup, priority: 200 });
        assert_eq!(router.may(able(Health::Able, 0)), backup);
    }

    #[test]
    fn stop_is_told_once() {
        let mut router = router();
        router.moved(State::Active, Reason::Started);
        let stop = router.moved(State::Initialize, Reason::Shutdown);
        assert_eq!(stop.map(|told| told.state), Some(Announced::Stop));
        assert_eq!(router.stop(), None);
    }

    #[test]
    fn words_are_keepaliveds() {
        let told = Told { state: Announced::Contested, priority: 7 };
        assert_eq!(router().words(told), ["INSTANCE", "vip1", "MASTER_RX_LOWER_PRI", "7"]);
    }

    #[test]
    fn a_group_is_what_its_members_are_together() {
        use Announced::{Backup, Deleted, Fault, Master, Stop};
        #[rustfmt::skip]
        let rows = [
            ([Some(Backup), None],         None),
            ([Some(Backup), Some(Backup)], Some(Backup)),
            ([Some(Master), Some(Backup)], None),
            ([Some(Master), Some(Master)], Some(Master)),
            ([Some(Fault),  Some(Master)], None),
            ([Some(Fault),  Some(Backup)], Some(Fault)),
            ([Some(Stop),   Some(Backup)], None),
            ([Some(Stop),   Some(Fault)],  None),
            ([Some(Stop),   Some(Stop)],   Some(Stop)),
            ([Some(Stop),   Some(Deleted)], Some(Stop)),
            ([Some(Backup), Some(Deleted)], None),
        ];
        for (members, group) in rows {
            assert_eq!(of_group(members.into_iter()), group, "{members:?}");
            assert_eq!(of_group(members.into_iter().rev()), group, "{members:?}");
        }
        assert_eq!(group_words("G1", Master), ["GROUP", "G1", "MASTER", "0"]);
    }
}
