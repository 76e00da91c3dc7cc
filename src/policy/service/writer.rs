//! The one server that all connections of a service go to: sticky, because switching writers of a Galera cluster costs
//! deadlocks, and the same on every core and after every restart that leaves the servers alone. Two nodes that hear of each
//! other write to the same one ([`agree`]).

use super::{Standing, is_usable};

/// The writer from now on: the current one while it can be used, else the first that can. Nobody is chosen before all
/// have been asked once, and nobody comes back for having been first.
pub fn choose(current: Option<usize>, servers: &[Standing]) -> Option<usize> {
    let is_usable = |index: &usize| servers.get(*index).is_some_and(|standing| is_usable(*standing, servers));
    if let Some(current) = current.filter(is_usable) {
        return Some(current);
    }
    if current.is_none() && servers.contains(&Standing::Unknown) {
        return None;
    }
    (0..servers.len()).find(is_usable)
}

/// What is known of the other node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Its word counts, see [`leads`].
    pub leads: bool,
    /// Whom it writes to; `None` also for a server that we do not have.
    pub writer: Option<usize>,
}

/// Whether the other node's word counts: clients come to it and not to us. Where that does not decide (both are Active
/// for different addresses, or nobody is), the first in the order of `[cluster]` leads.
pub fn leads(it_is_active: bool, we_are_active: bool, we_come_first: bool) -> bool {
    if it_is_active == we_are_active { !we_come_first } else { it_is_active }
}

/// As [`choose`], with one ear on the other node: who follows takes the leader's writer as long as it is usable from here
/// too; who leads keeps its own, and only where it has none goes where the other one is.
pub fn agree(current: Option<usize>, servers: &[Standing], other: Option<Other>) -> Option<usize> {
    let is_usable = |index: &usize| servers.get(*index).is_some_and(|standing| is_usable(*standing, servers));
    let theirs = other.and_then(|other| other.writer).filter(is_usable);
    let has_own = current.is_some_and(|current| is_usable(&current));
    match (other, theirs) {
        (Some(other), Some(theirs)) if other.leads || !has_own => Some(theirs),
        _ => choose(current, servers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Bad, Donor, Good, Unknown};

    /// Every combination of up to four servers and a current writer, also one that is no longer there.
    fn each_case(check: impl Fn(Option<usize>, &[Standing])) {
        for count in 0..=4u32 {
            for case in 0..4usize.pow(count) {
                let standing = |place: u32| [Unknown, Good, Donor, Bad][case / 4usize.pow(place) % 4];
                let servers: Vec<Standing> = (0..count).map(standing).collect();
                check(None, &servers);
                (0..5).for_each(|current| check(Some(current), &servers));
            }
        }
    }

    #[test]
    fn the_writer_is_always_usable() {
        each_case(|current, servers| {
            if let Some(writer) = choose(current, servers) {
                assert!(is_usable(servers[writer], servers), "{current:?} {servers:?}");
            }
        });
    }

    #[test]
    fn a_usable_writer_is_never_left() {
        each_case(|current, servers| {
            let is_good = current.and_then(|current| servers.get(current)).is_some_and(|s| is_usable(*s, servers));
            if is_good {
                assert_eq!(choose(current, servers), current, "{servers:?}");
            }
        });
    }

    #[test]
    fn choosing_again_changes_nothing() {
        each_case(|current, servers| {
            let writer = choose(current, servers);
            assert_eq!(choose(writer.or(current), servers), writer, "{current:?} {servers:?}");
        });
    }

    #[test]
    fn a_lost_writer_is_followed_by_the_first_usable_one() {
        each_case(|current, servers| {
            let is_lost = current.is_some_and(|current| servers.get(current).is_none_or(|s| !is_usable(*s, servers)));
            if is_lost {
                let first = servers.iter().position(|standing| is_usable(*standing, servers));
                assert_eq!(choose(current, servers), first, "{current:?} {servers:?}");
            }
        });
    }

    #[test]
    fn nobody_is_chosen_before_all_were_asked() {
        each_case(|_, servers| {
            if servers.contains(&Unknown) {
                assert_eq!(choose(None, servers), None, "{servers:?}");
            }
        });
        assert_eq!(choose(None, &[Bad, Good, Good]), Some(1));
    }

    #[test]
    fn a_donor_writes_only_when_nobody_is_in_step() {
        each_case(|current, servers| {
            if let Some(writer) = choose(current, servers).filter(|writer| servers[*writer] == Donor) {
                assert!(!servers.contains(&Good), "{writer} {servers:?}");
            }
        });
        assert_eq!(choose(None, &[Donor, Bad, Good]), Some(2));
        assert_eq!(choose(Some(0), &[Donor, Bad, Bad]), Some(0));
    }

    #[test]
    fn an_old_writer_that_comes_back_waits_for_its_turn() {
        let mut writer = choose(None, &[Good, Good, Good]);
        assert_eq!(writer, Some(0));
        writer = choose(writer, &[Bad, Good, Good]);
        assert_eq!(writer, Some(1));
        writer = choose(writer, &[Good, Good, Good]);
        assert_eq!(writer, Some(1));
        writer = choose(writer, &[Good, Bad, Good]);
        assert_eq!(writer, Some(0));
    }

    fn other(leads: bool, writer: Option<usize>) -> Option<Other> {
        Some(Other { leads, writer })
    }

    #[test]
    fn exactly_one_of_two_nodes_that_know_the_same_leads() {
        for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
            let (b_leads, a_leads) = (leads(b, a, true), leads(a, b, false));
            assert!(a_leads != b_leads, "{a} {b}");
            assert!(a == b || a_leads == a, "the Active leads: {a} {b}");
        }
    }

    #[test]
    fn alone_a_node_decides_as_if_there_were_no_other() {
        each_case(|current, servers| {
            let alone = choose(current, servers);
            assert_eq!(agree(current, servers, None), alone);
            assert_eq!(agree(current, servers, other(true, None)), alone);
            assert_eq!(agree(current, servers, other(false, None)), alone);
            assert_eq!(agree(current, servers, other(true, Some(9))), alone);
        });
    }

    #[test]
    fn whatever_the_other_says_the_writer_is_usable_and_a_leader_keeps_its_own() {
        each_case(|current, servers| {
            for writer in 0..5 {
                for leads in [false, true] {
                    let chosen = agree(current, servers, other(leads, Some(writer)));
                    assert!(chosen.is_none_or(|chosen| is_usable(servers[chosen], servers)));
                    let has_own = current.and_then(|at| servers.get(at)).is_some_and(|s| is_usable(*s, servers));
                    let has_theirs = servers.get(writer).is_some_and(|s| is_usable(*s, servers));
                    if has_own && !leads {
                        assert_eq!(chosen, current, "{servers:?}");
                    } else if has_theirs {
                        assert_eq!(chosen, Some(writer), "{current:?} {servers:?}");
                    }
                }
            }
        });
    }

    /// Two nodes, each with its own picture of the servers, that hear of each other late; then the pictures become the
    /// same, nothing changes any more, and what was said arrives.
    #[test]
    fn two_nodes_end_at_one_writer_and_stay_there() {
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let count = random.usize(1..4);
            let mut servers = [vec![Unknown; count], vec![Unknown; count]];
            let mut writers: [Option<usize>; 2] = [None, None];
            let mut active = [false, false];
            // What each knows of the other; `None`: it is not heard.
            let mut heard: [Option<(bool, Option<usize>)>; 2] = [None, None];
            let decide = |node: usize, servers: &[Standing], writer, active: &[bool; 2], heard: Option<(bool, _)>| {
                let other =
                    heard.map(|(is_active, writer)| Other { leads: leads(is_active, active[node], node == 0), writer });
                agree(writer, servers, other)
            };
            for _ in 0..random.usize(..30) {
                let node = random.usize(..2);
                match random.u8(..5) {
                    0 => servers[node][random.usize(..count)] = *random.choice(&[Good, Donor, Bad]).unwrap(),
                    1 => active[node] = random.bool(),
                    2 => heard[node] = Some((active[1 - node], writers[1 - node])),
                    3 => heard[node] = None,
                    _ => {}
                }
                writers[node] = decide(node, &servers[node], writers[node], &active, heard[node]);
            }
            let same: Vec<_> = (0..count).map(|_| *random.choice(&[Good, Donor, Bad]).unwrap()).collect();
            servers = [same.clone(), same];
            let mut before = writers;
            for round in 0..4 {
                for node in if random.bool() { [0, 1] } else { [1, 0] } {
                    heard[node] = Some((active[1 - node], writers[1 - node]));
                    writers[node] = decide(node, &servers[node], writers[node], &active, heard[node]);
                }
                assert!(round < 3 || before == writers, "seed {seed}: no rest");
                before = writers;
            }
            assert_eq!(writers[0], writers[1], "seed {seed}");
        }
    }
}
