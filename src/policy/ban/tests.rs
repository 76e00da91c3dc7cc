use super::*;

const RULES: Rules = Rules {
    failures_max: 30,
    window: Duration::from_secs(600),
    ban: Duration::from_secs(600),
    ban_max: Duration::from_secs(3600),
};

fn network(text: &str) -> Network {
    Network::of(text.parse().unwrap())
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fails with another credential each time; the outcomes.
fn guess(ledger: &mut Ledger, who: Network, times: u64, now: Duration) -> Vec<Outcome> {
    (0..times).map(|n| ledger.failed(who, Some(now.as_nanos() as u64 + n), &RULES, now)).collect()
}

fn until(outcome: Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Banned(ban) => ban.until,
        _ => None,
    }
}

#[test]
fn an_ipv6_client_is_its_network_and_a_mapped_one_its_ipv4_address() {
    assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
    assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    assert_eq!(network("2001:db8::1").to_string(), "2001:db8::/64");
    assert_eq!(network("192.0.2.1").to_string(), "192.0.2.1");
}

#[test]
fn the_last_guess_of_a_window_bans_and_one_less_does_not() {
    for times in 1..=RULES.failures_max {
        let mut ledger = Ledger::new(100);
        let who = network("192.0.2.1");
        let outcomes = guess(&mut ledger, who, u64::from(times), at(5));
        let is_banned = times == RULES.failures_max;
        assert_eq!(outcomes.iter().filter_map(|outcome| until(*outcome)).count(), usize::from(is_banned));
        assert_eq!(ledger.banned(who, at(5)).is_some(), is_banned, "{times}");
        assert!(ledger.banned(network("192.0.2.2"), at(5)).is_none());
    }
}

#[test]
fn failures_without_a_credential_count_each() {
    let mut ledger = Ledger::new(100);
    let who = network("2001:db8::1");
    for n in 1..=30 {
        let outcome = ledger.failed(who, None, &RULES, at(n));
        assert_eq!(until(outcome).is_some(), n == 30, "{n}");
    }
    assert_eq!(ledger.banned(network("2001:db8::2"), at(31)).unwrap().reason, Reason::FailedLogins);
}

#[test]
fn failures_of_an_earlier_window_do_not_count() {
    let mut ledger = Ledger::new(100);
    let who = network("192.0.2.1");
    guess(&mut ledger, who, 29, at(0));
    guess(&mut ledger, who, 29, at(600));
    assert!(ledger.banned(who, at(600)).is_none());
    guess(&mut ledger, who, 1, at(1199));
    assert!(ledger.banned(who, at(1199)).is_some());
}

#[test]
fn a_device_that_repeats_itself_is_refused_and_its_office_is_not() {
    let mut ledger = Ledger::new(100);
    let office = network("192.0.2.1");
    for n in 1..=100 {
        let outcome = ledger.failed(office, Some(7), &RULES, at(n));
        assert_eq!(matches!(outcome, Outcome::CredentialRefused(_)), n >= 10, "{n}");
        assert!(until(outcome).is_none());
    }
    assert!(ledger.refused(office, 7, at(100)).is_some());
    assert!(ledger.refused(office, 8, at(100)).is_none());
    assert!(ledger.refused(network("192.0.2.2"), 7, at(100)).is_none());
    assert!(ledger.banned(office, at(100)).is_none());
    // And it is let through again when the time is over.
    assert_eq!(ledger.refused(office, 7, at(699)), Some(at(1)));
    assert!(ledger.refused(office, 7, at(700)).is_none());
    // Twenty-nine such devices are no attack yet.
    for device in 0..28 {
        (0..10).for_each(|_| assert!(until(ledger.failed(office, Some(100 + device), &RULES, at(120))).is_none()));
    }
    assert!(ledger.banned(office, at(120)).is_none());
}

#[test]
fn a_ban_ends_and_the_next_is_twice_as_long_up_to_the_limit() {
    let mut ledger = Ledger::new(100);
    let who = network("192.0.2.1");
    let mut now = at(0);
    for seconds in [600, 1200, 2400, 3600, 3600] {
        let end = until(*guess(&mut ledger, who, 30, now).last().unwrap()).unwrap();
        assert_eq!(end - now, at(seconds));
        assert!(ledger.banned(who, end - Duration::from_nanos(1)).is_some());
        assert!(ledger.banned(who, end).is_none());
        ledger.sweep(RULES.window, end);
        now = end + at(1000);
        ledger.sweep(RULES.window, now);
    }
    // A day later it is all forgotten.
    now += MEMORY;
    ledger.sweep(RULES.window, now);
    assert!(ledger.is_empty());
    assert_eq!(until(*guess(&mut ledger, who, 30, now).last().unwrap()), Some(now + at(600)));
}

#[test]
fn what_a_banned_client_still_does_makes_its_ban_no_longer() {
    let mut ledger = Ledger::new(100);
    let who = network("192.0.2.1");
    guess(&mut ledger, who, 30, at(0));
    assert!(guess(&mut ledger, who, 100, at(1)).iter().all(|outcome| *outcome == Outcome::Counted));
    assert_eq!(ledger.banned(who, at(2)).unwrap().until, Some(at(600)));
}

#[test]
fn an_operators_ban_lasts_as_long_as_was_said_and_is_lifted() {
    let mut ledger = Ledger::new(100);
    let (who, other) = (network("192.0.2.1"), network("192.0.2.2"));
    ledger.ban(Ban { network: who, until: None, reason: Reason::Order, is_learnt: false }, at(0));
    ledger.ban(Ban { network: other, until: Some(at(10)), reason: Reason::Order, is_learnt: false }, at(0));
    assert_eq!((ledger.bans(at(9)).count(), ledger.standing(at(9))), (2, 2));
    ledger.sweep(RULES.window, at(1_000_000));
    assert_eq!(ledger.bans(at(1_000_000)).map(|ban| ban.network).collect::<Vec<_>>(), [who]);
    assert!(ledger.unban(who) && !ledger.unban(who) && !ledger.unban(other));
    assert_eq!(ledger.standing(at(1_000_000)), 0);
}

#[test]
fn lifting_a_ban_forgets_counts_and_credentials_too() {
    let mut ledger = Ledger::new(100);
    let who = network("192.0.2.1");
    (0..10).for_each(|_| assert!(until(ledger.failed(who, Some(7), &RULES, at(0))).is_none()));
    guess(&mut ledger, who, 29, at(0));
    assert!(ledger.unban(who));
    assert!(ledger.refused(who, 7, at(0)).is_none());
    assert!(guess(&mut ledger, who, 29, at(0)).iter().all(|outcome| *outcome == Outcome::Counted));
}

#[test]
fn it_is_bounded_and_bans_outlive_mere_counts() {
    let mut ledger = Ledger::new(10);
    let banned = network("192.0.2.1");
    let forever = network("192.0.2.2");
    guess(&mut ledger, banned, 30, at(0));
    ledger.ban(Ban { network: forever, until: None, reason: Reason::Order, is_learnt: false }, at(0));
    for n in 0..10_000u32 {
        let stranger = Network::of(IpAddr::from(n.to_be_bytes()));
        ledger.failed(stranger, Some(u64::from(n)), &RULES, at(1));
        assert!(ledger.len() <= 10);
    }
    assert!(ledger.banned(banned, at(2)).is_some() && ledger.banned(forever, at(2)).is_some());
    // Where everybody is banned, who would be let in soonest makes room.
    for n in 0..20u32 {
        let ban = Ban {
            network: Network::of(IpAddr::from(n.to_be_bytes())),
            until: None,
            reason: Reason::Order,
            is_learnt: false,
        };
        ledger.ban(ban, at(2));
    }
    assert!(ledger.len() <= 10 && ledger.banned(banned, at(3)).is_none());
}

#[test]
fn what_the_other_node_says_never_shortens_a_ban() {
    let mut ledger = Ledger::new(10);
    let who = network("192.0.2.1");
    let learnt =
        |until: Option<u64>| Ban { network: who, until: until.map(at), reason: Reason::FailedLogins, is_learnt: true };
    assert!(ledger.learn(learnt(Some(10)), at(0)) && !ledger.learn(learnt(Some(10)), at(1)));
    assert!(ledger.banned(who, at(9)).unwrap().is_learnt && ledger.banned(who, at(10)).is_none());
    guess(&mut ledger, who, 30, at(20));
    let own = ledger.banned(who, at(21)).unwrap();
    assert!(!ledger.learn(learnt(Some(30)), at(21)) && ledger.banned(who, at(21)) == Some(own) && !own.is_learnt);
    assert!(ledger.learn(learnt(None), at(22)) && !ledger.learn(learnt(Some(1_000_000)), at(23)));
    assert_eq!(ledger.banned(who, at(24)), Some(learnt(None)));
}
