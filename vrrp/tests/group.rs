//! Two nodes whose IPv4 and IPv6 router form a sync group, on a simulated LAN in virtual time.

use lyre_vrrp::group::{Member, Ruling, rule};
use lyre_vrrp::machine::{Action, Health, Input, Machine, Preempt, Settings, State};
use lyre_vrrp::packet::Family;
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn both_members_start_on_the_better_node() {
    let pair = Pair::settled();
    assert_eq!(pair.states(), [[State::Active; 2], [State::Backup; 2]]);
}

#[test]
fn a_cable_pulled_from_one_member_moves_both() {
    let mut pair = Pair::settled();
    pair.give(0, V4, Input::LinkDown);
    pair.run(500);
    assert_eq!(pair.states(), [[State::Initialize, State::Backup], [State::Active; 2]]);
}

#[test]
fn the_healthy_member_keeps_its_address_when_the_whole_peer_is_gone() {
    let mut pair = Pair::settled();
    pair.give(1, V4, Input::LinkDown);
    pair.give(1, V6, Input::LinkDown);
    pair.run(500);
    pair.give(0, V4, Input::LinkDown);
    pair.run(5_000);
    assert_eq!(pair.states()[0], [State::Initialize, State::Active]);
}

#[test]
fn silence_on_one_member_only_does_not_split_the_group() {
    let mut pair = Pair::settled();
    pair.deaf = Some((1, V4));
    pair.run(5_000);
    assert_eq!(pair.states(), [[State::Active; 2], [State::Backup; 2]]);
    assert_eq!(Member::of(&pair.nodes[1].members[V4]), Member::Wants);
}

#[test]
fn silence_on_both_members_moves_both_at_once() {
    let mut pair = Pair::settled();
    pair.nodes[0].is_dead = true;
    pair.run(310);
    assert_eq!(pair.states()[1], [State::Active; 2]);
}

#[test]
fn a_member_that_is_outranked_takes_the_other_one_with_it() {
    let mut pair = Pair::settled();
    let advert = settings(V4, 254).advert(Priority(254));
    let received = Time(pair.now_ms * 1_000_000);
    let stranger = IpAddr::from([10, 0, 0, 9]);
    pair.give(0, V4, Input::Advert { advert: &advert, source: stranger, received });
    pair.run(1);
    assert_eq!(pair.states()[0], [State::Backup, State::Active]);
    assert_eq!(pair.nodes[0].members[V6].effective_priority(), Priority(0));
}

const V4: usize = 0;
const V6: usize = 1;

struct Pair {
    now_ms: u64,
    nodes: [Node; 2],
    /// This member of this node hears nothing.
    deaf: Option<(usize, usize)>,
    /// On the wire: from which node, for which member, with what priority.
    wire: Vec<(usize, usize, Priority)>,
}

struct Node {
    members: [Machine; 2],
    seen: [Member; 2],
    ruling: Ruling,
    is_dead: bool,
}

impl Pair {
    fn settled() -> Pair {
        let node = |priority| Node {
            members: [V4, V6].map(|member| Machine::new(settings(member, priority), Duration::from_secs(3))),
            seen: [Member::Faulty; 2],
            ruling: Ruling { consent: true, is_faulty: false, yields: false },
            is_dead: false,
        };
        let mut pair = Pair { now_ms: 1_000, nodes: [node(254), node(253)], deaf: None, wire: Vec::new() };
        for node in 0..2 {
            for member in [V4, V6] {
                pair.give(node, member, Input::LinkUp { source: source(node, member) });
            }
        }
        pair.run(1_000);
        pair
    }

    fn run(&mut self, for_ms: u64) {
        for _ in 0..for_ms {
            self.now_ms += 1;
            for (from, member, priority) in std::mem::take(&mut self.wire) {
                let (to, received) = (1 - from, Time(self.now_ms * 1_000_000));
                let advert = settings(member, 254).advert(priority);
                if self.deaf != Some((to, member)) {
                    self.give(to, member, Input::Advert { advert: &advert, source: source(from, member), received });
                }
            }
            for (node, member) in [(0, V4), (0, V6), (1, V4), (1, V6)] {
                let due = self.nodes[node].members[member].deadline();
                if due.is_some_and(|due| due.0 <= self.now_ms * 1_000_000) {
                    self.give(node, member, Input::Tick);
                }
            }
        }
    }

    fn give(&mut self, node: usize, member: usize, input: Input<'_>) {
        if self.nodes[node].is_dead {
            return;
        }
        self.handle(node, member, input);
        // To a fixed point: a ruling can move members, which can change the ruling.
        for _ in 0..4 {
            let now = [V4, V6].map(|member| Member::of(&self.nodes[node].members[member]));
            let ruling = rule(&self.nodes[node].seen, &now);
            self.nodes[node].seen = now;
            let last = std::mem::replace(&mut self.nodes[node].ruling, ruling);
            for member in [V4, V6] {
                if ruling.is_faulty != last.is_faulty {
                    let health = if ruling.is_faulty { Health::Unable } else { Health::Able };
                    self.handle(node, member, Input::Health(health));
                }
                if ruling.consent != last.consent {
                    self.handle(node, member, Input::Consent(ruling.consent));
                }
                if ruling.yields {
                    self.handle(node, member, Input::Yield);
                }
            }
        }
    }

    fn handle(&mut self, node: usize, member: usize, input: Input<'_>) {
        let machine = &mut self.nodes[node].members[member];
        machine.handle(Time(self.now_ms * 1_000_000), input);
        while let Some(action) = machine.poll() {
            if let Action::Send { priority } = action {
                self.wire.push((node, member, priority));
            }
        }
    }

    fn states(&self) -> [[State; 2]; 2] {
        [0, 1].map(|node| [V4, V6].map(|member| self.nodes[node].members[member].state()))
    }
}

fn source(node: usize, member: usize) -> IpAddr {
    let host = if node == 0 { 2 } else { 1 };
    if member == V4 {
        IpAddr::from([10, 0, 0, host])
    } else {
        IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host)])
    }
}

fn settings(member: usize, priority: u8) -> Settings {
    let (family, address) = match member {
        V4 => (Family::V4, IpAddr::from([10, 0, 0, 100])),
        _ => (Family::V6, IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 100])),
    };
    Settings {
        vrid: const { Vrid::new(51).unwrap() },
        family,
        version: Version::V3,
        priority: Priority(priority),
        advert_interval: const { Centis::new(10).unwrap() },
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: vec![address],
    }
}
