//! Applies the ruling of [`crate::group`] to the routers of each sync group.

use super::Ability;
use super::station::Station;
use crate::group::{Member, Ruling, rule};
use crate::link::Link;
use crate::machine::{Health, Input, State};
use crate::params::Time;

/// A ruling can move members, which can change the ruling; more turns than this cannot be needed for two families, and
/// what is left over waits for the next round.
const TURNS_MAX: usize = 4;

/// The sync groups of one set of routers.
#[derive(Default)]
pub(super) struct SyncGroups(Vec<SyncGroup>);

struct SyncGroup {
    name: String,
    /// Places in the list of stations.
    places: Vec<usize>,
    before: Vec<Member>,
    now: Vec<Member>,
    ruling: Ruling,
}

impl SyncGroups {
    /// Groups by name, and tells every router where it stands.
    pub(super) fn form<L: Link>(stations: &mut [Station<L>], abilities: &[Ability], now: Time) -> SyncGroups {
        let mut groups: Vec<SyncGroup> = Vec::new();
        for (place, station) in stations.iter_mut().enumerate() {
            let Some(name) = station.router().sync_group.clone() else {
                let ability = abilities.get(place).copied().unwrap_or_default();
                station.input(now, Input::Consent(true));
                station.input(now, Input::Health(ability.health));
                continue;
            };
            match groups.iter_mut().find(|group| group.name == name) {
                Some(group) => group.places.push(place),
                None => groups.push(SyncGroup::new(name, place)),
            }
        }
        for group in &mut groups {
            group.look(stations);
            group.before.clone_from(&group.now);
            group.ruling = rule(&group.before, &group.now);
            group.tell_consent(stations, now);
            group.tell_health(stations, abilities, now);
        }
        SyncGroups(groups)
    }

    /// After anything that was handed to the routers. `abilities` are what the owner says of each.
    pub(super) fn settle<L: Link>(&mut self, stations: &mut [Station<L>], abilities: &[Ability], now: Time) {
        for group in &mut self.0 {
            group.spread_contest(stations, now);
            for _ in 0..TURNS_MAX {
                if !group.turn(stations, abilities, now) {
                    break;
                }
            }
        }
    }

    /// What a router's health is, given the owner's: a group with a faulty member cannot serve.
    pub(super) fn health(&self, place: usize, of_owner: Health) -> Health {
        let is_faulty = self.0.iter().any(|group| group.ruling.is_faulty && group.places.contains(&place));
        if is_faulty { Health::Unable } else { of_owner }
    }
}

impl SyncGroup {
    fn new(name: String, place: usize) -> SyncGroup {
        let ruling = Ruling { consent: false, is_faulty: true, yields: false };
        SyncGroup { name, places: vec![place], before: Vec::new(), now: Vec::new(), ruling }
    }

    /// Whether anything had changed.
    fn turn<L: Link>(&mut self, stations: &mut [Station<L>], abilities: &[Ability], now: Time) -> bool {
        self.look(stations);
        if self.now == self.before {
            return false;
        }
        let ruling = rule(&self.before, &self.now);
        std::mem::swap(&mut self.before, &mut self.now);
        let last = std::mem::replace(&mut self.ruling, ruling);
        if ruling.is_faulty != last.is_faulty {
            self.tell_health(stations, abilities, now);
        }
        if ruling.consent != last.consent {
            self.tell_consent(stations, now);
        }
        if ruling.yields {
            self.each(stations, |member| {
                if member.state() == State::Active {
                    member.input(now, Input::Yield);
                }
            });
        }
        true
    }

    /// Members share hosts and switches: who believed the loser of one may believe it of all.
    fn spread_contest<L: Link>(&self, stations: &mut [Station<L>], now: Time) {
        let is_contested = |place: &usize| stations.get(*place).is_some_and(Station::is_contested);
        if !self.places.iter().any(is_contested) {
            return;
        }
        self.each(stations, |member| {
            if !member.take_contest() && member.state() == State::Active {
                member.input(now, Input::Contested);
            }
        });
    }

    fn look<L: Link>(&mut self, stations: &[Station<L>]) {
        self.now.clear();
        self.now.extend(self.places.iter().filter_map(|place| stations.get(*place)).map(Station::member));
    }

    fn tell_consent<L: Link>(&self, stations: &mut [Station<L>], now: Time) {
        self.each(stations, |member| member.input(now, Input::Consent(self.ruling.consent)));
    }

    fn tell_health<L: Link>(&self, stations: &mut [Station<L>], abilities: &[Ability], now: Time) {
        for place in &self.places {
            let of_owner = abilities.get(*place).copied().unwrap_or_default().health;
            let health = if self.ruling.is_faulty { Health::Unable } else { of_owner };
            if let Some(member) = stations.get_mut(*place) {
                member.input(now, Input::Health(health));
            }
        }
    }

    fn each<L: Link>(&self, stations: &mut [Station<L>], mut tell: impl FnMut(&mut Station<L>)) {
        for place in &self.places {
            if let Some(member) = stations.get_mut(*place) {
                tell(member);
            }
        }
    }
}
