//! The one server that all connections of a service go to: sticky, because switching writers of a Galera cluster costs
//! deadlocks, and the same on every core and after every restart that leaves the servers alone.

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
}
