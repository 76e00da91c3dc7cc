use super::*;

const S: Duration = Duration::from_secs(1);

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

fn found(list: &[&str], ttl: u64) -> Found {
    Found::Addresses(addresses(list), S * ttl as u32)
}

fn lookup(names: &[&str], servers: usize, first: usize) -> Lookup {
    Lookup::new(names.iter().map(|name| (*name).to_owned()).collect(), servers, first)
}

#[test]
fn a_silent_server_is_followed_by_the_next_one_each_twice() {
    let mut lookup = lookup(&["web"], 3, 1);
    for server in [1, 2, 0, 1, 2] {
        assert_eq!(lookup.question(), Some(("web", server)));
        assert_eq!(lookup.heard(Heard::Nothing), None);
    }
    assert_eq!(lookup.question(), Some(("web", 0)));
    assert_eq!(lookup.heard(Heard::Nothing), Some(Found::Unknown));
    assert_eq!(lookup.question(), None);
}

#[test]
fn names_are_tried_in_order_at_the_server_that_answers() {
    let mut lookup = lookup(&["web.a", "web.b", "web"], 2, 0);
    assert_eq!(lookup.heard(Heard::Nothing), None);
    assert_eq!(lookup.heard(Heard::NoName), None);
    assert_eq!(lookup.question(), Some(("web.b", 1)));
    let answer = Heard::Addresses { addresses: addresses(&["10.0.0.1"]), ttl: 60 };
    assert_eq!(lookup.heard(answer), Some(found(&["10.0.0.1"], 60)));
}

#[test]
fn a_name_that_is_there_without_an_address_ends_the_search() {
    let mut lookup = lookup(&["web.a", "web.b"], 1, 0);
    assert_eq!(lookup.heard(Heard::NoData), Some(Found::Absent));
}

#[test]
fn only_when_no_name_is_there_the_name_is_absent() {
    let mut lookup = lookup(&["web.a", "web.b"], 1, 0);
    assert_eq!(lookup.heard(Heard::NoName), None);
    assert_eq!(lookup.heard(Heard::NoName), Some(Found::Absent));
    assert_eq!(lookup.question(), None);
}

#[test]
fn every_lookup_ends_whatever_is_heard() {
    let kinds = [
        Heard::Nothing,
        Heard::NoName,
        Heard::NoData,
        Heard::Addresses { addresses: Vec::new(), ttl: 0 },
        Heard::Addresses { addresses: addresses(&["10.0.0.1"]), ttl: u32::MAX },
    ];
    for names in 0..3 {
        for servers in 0..3 {
            // Every sequence of five things heard, as the digits of a number.
            for sequence in 0..kinds.len().pow(5) {
                let mut lookup = lookup(&["a", "b", "c"][..names], servers, 7);
                let (mut asked, mut end, mut rest) = (0, None, sequence);
                while let Some((_, server)) = lookup.question() {
                    assert!(server < servers);
                    end = lookup.heard(kinds[rest % kinds.len()].clone());
                    rest /= kinds.len();
                    asked += 1;
                    assert!(asked <= names * servers * ROUNDS);
                    if end.is_some() {
                        break;
                    }
                }
                assert!(end.is_some() || asked == 0, "{names} {servers} {sequence}");
            }
        }
    }
}

#[test]
fn the_ttl_stays_within_its_bounds() {
    for (ttl, wait) in [(0, 1), (1, 1), (60, 60), (3600, 3600), (u32::MAX, 3600)] {
        let heard = Heard::Addresses { addresses: addresses(&["10.0.0.1"]), ttl };
        let found = lookup(&["web"], 1, 0).heard(heard).unwrap();
        let mut memory = Memory::default();
        memory.take(Family::V4, found, S * 100);
        assert_eq!(memory.due(Family::V4), S * (100 + wait), "{ttl}");
    }
}

#[test]
fn both_families_are_due_at_once_and_both_count() {
    let mut memory = Memory::default();
    assert_eq!(Family::ALL.map(|family| memory.due(family)), [Duration::ZERO; 2]);
    assert_eq!(memory.standing(), Standing::Unresolved);
    memory.take(Family::V6, found(&["2001:db8::1"], 60), S);
    assert_eq!((memory.addresses(), memory.standing()), (addresses(&["2001:db8::1"]), Standing::Fresh));
    memory.take(Family::V4, found(&["10.0.0.2", "10.0.0.1"], 60), S);
    assert_eq!(memory.addresses(), addresses(&["10.0.0.1", "10.0.0.2", "2001:db8::1"]));
}

#[test]
fn the_last_addresses_stay_whatever_comes_after_them() {
    for bad in [Found::Absent, Found::Unknown] {
        let mut memory = Memory::default();
        memory.take(Family::V4, found(&["10.0.0.1"], 60), S);
        memory.take(Family::V6, Found::Absent, S);
        for _ in 0..100 {
            memory.take(Family::V4, bad.clone(), S * 61);
            memory.take(Family::V6, Found::Unknown, S * 61);
            assert_eq!((memory.addresses(), memory.standing()), (addresses(&["10.0.0.1"]), Standing::Kept));
            assert!(memory.trouble().is_some());
        }
        memory.take(Family::V4, found(&["10.0.0.9"], 60), S * 99);
        assert_eq!((memory.addresses(), memory.standing()), (addresses(&["10.0.0.9"]), Standing::Fresh));
        assert_eq!(memory.trouble(), None);
    }
}

#[test]
fn a_family_that_is_gone_goes_while_the_other_one_is_there() {
    let mut memory = Memory::default();
    memory.take(Family::V4, found(&["10.0.0.1"], 60), S);
    memory.take(Family::V6, found(&["2001:db8::1"], 60), S);
    memory.take(Family::V6, Found::Absent, S * 2);
    assert_eq!((memory.addresses(), memory.standing()), (addresses(&["10.0.0.1"]), Standing::Fresh));
    assert_eq!(memory.due(Family::V6), S * 62);
}

#[test]
fn a_family_nobody_speaks_of_stays_beside_the_other_one() {
    let mut memory = Memory::default();
    memory.take(Family::V4, found(&["10.0.0.1"], 60), S);
    memory.take(Family::V6, found(&["2001:db8::1"], 60), S);
    memory.take(Family::V6, Found::Unknown, S * 2);
    assert_eq!((memory.addresses(), memory.standing()), (addresses(&["10.0.0.1", "2001:db8::1"]), Standing::Kept));
}

#[test]
fn a_name_that_moves_to_the_other_family_is_followed_at_once() {
    let mut memory = Memory::default();
    memory.take(Family::V4, found(&["10.0.0.1"], 60), S);
    memory.take(Family::V6, Found::Absent, S);
    memory.take(Family::V4, Found::Absent, S * 3);
    assert_eq!((memory.addresses(), memory.due(Family::V6)), (addresses(&["10.0.0.1"]), S * 3));
    memory.take(Family::V6, found(&["2001:db8::1"], 60), S * 3);
    assert_eq!((memory.addresses(), memory.standing()), (addresses(&["2001:db8::1"]), Standing::Fresh));
}

#[test]
fn failures_are_tried_again_ever_later_until_something_is_found() {
    let mut memory = Memory::default();
    let mut now = S;
    for wait in [1, 2, 4, 8, 16, 30, 30] {
        memory.take(Family::V4, Found::Unknown, now);
        assert_eq!(memory.due(Family::V4), now + S * wait);
        now = memory.due(Family::V4);
    }
    memory.take(Family::V4, found(&["10.0.0.1"], 60), now);
    memory.take(Family::V4, Found::Unknown, now);
    assert_eq!(memory.due(Family::V4), now + S);
}

#[test]
fn why_a_name_has_no_address_is_told() {
    let mut memory = Memory::default();
    assert_eq!(memory.trouble(), None);
    memory.take(Family::V4, Found::Absent, S);
    assert_eq!((memory.trouble(), memory.is_asked()), (None, false));
    memory.take(Family::V6, Found::Absent, S);
    assert_eq!((memory.trouble(), memory.is_asked()), (Some("the name has no address"), true));
    memory.take(Family::V6, Found::Unknown, S);
    assert_eq!(memory.trouble(), Some("no DNS server answers"));
}

/// All sequences of four outcomes over both families: once there are addresses there always are, and what was found last
/// for a family that is not absent is among them.
#[test]
fn no_sequence_of_outcomes_loses_all_addresses() {
    let outcomes = |family| {
        let address = if family == Family::V4 { "10.0.0.1" } else { "2001:db8::1" };
        [found(&[address], 60), Found::Absent, Found::Unknown]
    };
    let steps: Vec<(Family, Found)> =
        Family::ALL.into_iter().flat_map(|family| outcomes(family).map(|outcome| (family, outcome))).collect();
    for sequence in 0..steps.len().pow(4) {
        let (mut memory, mut rest, mut has_had) = (Memory::default(), sequence, false);
        for at in 1..=4u32 {
            let (family, outcome) = steps[rest % steps.len()].clone();
            rest /= steps.len();
            memory.take(family, outcome.clone(), S * at);
            if let Found::Addresses(addresses, _) = &outcome {
                has_had = true;
                assert!(addresses.iter().all(|address| memory.addresses().contains(address)), "{sequence}");
            }
            assert_eq!(!memory.addresses().is_empty(), has_had, "{sequence}");
            assert_eq!(memory.standing() == Standing::Unresolved, !has_had, "{sequence}");
            assert!(memory.due(family) >= S * at + RETRY_MIN, "{sequence}");
        }
    }
}
