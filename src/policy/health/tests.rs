use super::*;

#[test]
fn status_php_verdicts() {
    let status = |body: &str| status_verdict(200, body.as_bytes());
    let full = r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2",
        "versionstring":"32.0.3","edition":"","productname":"Nextcloud","extendedSupport":false}"#;
    assert_eq!(status(full), Verdict::Up);
    assert_eq!(status(&full.replace(r#""maintenance":false"#, r#""maintenance":true"#)), Verdict::Maintenance);
    assert_eq!(status(&full.replace(r#""needsDbUpgrade":false"#, r#""needsDbUpgrade":true"#)), Verdict::Maintenance);
    assert_eq!(status(&full.replace(r#""installed":true"#, r#""installed":false"#)), Verdict::Down);
    assert_eq!(status(r#"{"installed":true}"#), Verdict::Up);
    for broken in ["", "{}", "null", "[]", "<html>", r#"{"installed":"yes"}"#, r#"{"installed":true"#] {
        assert_eq!(status(broken), Verdict::Down, "{broken}");
    }
    for code in [204, 302, 404, 500, 503] {
        assert_eq!(status_verdict(code, full.as_bytes()), Verdict::Down, "{code}");
    }
}

/// Every state, every verdict: how many in a row it takes (rise 2, fall 3), and where that leads.
#[test]
fn every_transition() {
    use {State as S, Verdict as V};
    const NEVER: usize = 0;
    for (state, verdict, needed, target) in [
        (S::Unknown, V::Up, 1, S::Up),
        (S::Unknown, V::Maintenance, 1, S::Maintenance),
        (S::Unknown, V::Down, 1, S::Down),
        (S::Up, V::Up, NEVER, S::Up),
        (S::Up, V::Maintenance, 1, S::Maintenance),
        (S::Up, V::Down, 3, S::Down),
        (S::Maintenance, V::Up, 1, S::Up),
        (S::Maintenance, V::Maintenance, NEVER, S::Maintenance),
        (S::Maintenance, V::Down, 3, S::Down),
        (S::Down, V::Up, 2, S::Up),
        (S::Down, V::Maintenance, 2, S::Maintenance),
        (S::Down, V::Down, NEVER, S::Down),
    ] {
        let mut health = in_state(state);
        for count in 1..=5 {
            let expected = (count == needed).then_some(target);
            assert_eq!(health.verdict(verdict), expected, "{state:?} and {verdict:?} for the {count}th time");
        }
        assert_eq!(health.state(), target);
    }
}

#[test]
fn a_verdict_for_the_present_state_starts_the_count_again() {
    let mut health = in_state(State::Up);
    for verdict in [Verdict::Down, Verdict::Down, Verdict::Up, Verdict::Down, Verdict::Down] {
        assert_eq!(health.verdict(verdict), None);
    }
    assert_eq!(health.verdict(Verdict::Down), Some(State::Down));
}

#[test]
fn draining_hides_the_checked_state_until_it_ends() {
    let mut health = in_state(State::Up);
    health.set_draining(true);
    assert_eq!(health.state(), State::Draining);
    for _ in 0..3 {
        assert_eq!(health.verdict(Verdict::Down), None);
    }
    health.set_draining(false);
    assert_eq!(health.state(), State::Down);
}

#[test]
fn counts_of_zero_mean_one() {
    let mut health = Health::new(0, 0);
    health.verdict(Verdict::Up);
    assert_eq!(health.verdict(Verdict::Down), Some(State::Down));
}

#[test]
fn a_pool_all_in_maintenance_is_still_asked_and_one_healthy_server_ends_that() {
    use State::*;
    for (states, pool, usable) in [
        (vec![Up, Maintenance, Down], PoolState::Serving, vec![true, false, false]),
        (vec![Unknown, Maintenance], PoolState::Serving, vec![true, false]),
        (vec![Maintenance, Maintenance, Down], PoolState::Maintenance, vec![true, true, false]),
        (vec![Draining, Maintenance], PoolState::Maintenance, vec![false, true]),
        (vec![Down, Draining], PoolState::Down, vec![false, false]),
        (vec![], PoolState::Down, vec![]),
    ] {
        assert_eq!(pool_state(states.iter().copied()), pool, "{states:?}");
        let found: Vec<bool> = states.iter().map(|state| is_usable(*state, pool)).collect();
        assert_eq!(found, usable, "{states:?}");
    }
}

fn in_state(state: State) -> Health {
    let mut health = Health::new(2, 3);
    match state {
        State::Up => health.verdict(Verdict::Up),
        State::Maintenance => health.verdict(Verdict::Maintenance),
        State::Down => health.verdict(Verdict::Down),
        State::Unknown | State::Draining => None,
    };
    assert_eq!(health.state(), state);
    health
}

const SECOND: Duration = Duration::from_secs(1);

/// Fails until the server is ejected; how many failures it took and for how long it is out.
fn eject(ejection: &mut Ejection, now: Instant, servers: usize, ejected: usize) -> Option<(u32, Duration)> {
    (1..=20).find_map(|count| Some((count, ejection.outcome(Outcome::Failed, now, servers, ejected)?)))
}

#[test]
fn five_failures_in_a_row_eject_and_an_answer_starts_the_count_again() {
    let now = Instant::now();
    let mut ejection = Ejection::default();
    for _ in 0..4 {
        assert_eq!(ejection.outcome(Outcome::Failed, now, 2, 0), None);
    }
    ejection.outcome(Outcome::Answered, now, 2, 0);
    assert_eq!(eject(&mut ejection, now, 2, 0), Some((EJECT_AFTER, EJECT_FIRST)));
    assert!(ejection.is_ejected(now));
    assert!(ejection.is_ejected(now + EJECT_FIRST - Duration::from_nanos(1)));
    assert!(!ejection.is_ejected(now + EJECT_FIRST));
}

#[test]
fn each_ejection_doubles_up_to_five_minutes_until_the_server_proves_itself() {
    let mut now = Instant::now();
    let mut ejection = Ejection::default();
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        let length = Duration::from_secs(seconds);
        assert_eq!(eject(&mut ejection, now, 3, 0), Some((EJECT_AFTER, length)));
        now += length;
        // One answer right after coming back proves nothing.
        ejection.outcome(Outcome::Answered, now, 3, 0);
    }
    now += EJECT_MAX + SECOND;
    ejection.outcome(Outcome::Answered, now, 3, 0);
    assert_eq!(eject(&mut ejection, now, 3, 0), Some((EJECT_AFTER, EJECT_FIRST)));
}

#[test]
fn half_of_the_pool_and_the_last_server_always_stay() {
    let now = Instant::now();
    for (servers, ejected, may) in [
        (1, 0, false),
        (2, 0, true),
        (2, 1, false),
        (3, 0, true),
        (3, 1, false),
        (4, 1, true),
        (4, 2, false),
        (0, 0, false),
    ] {
        let found = eject(&mut Ejection::default(), now, servers, ejected);
        assert_eq!(found.is_some(), may, "{ejected} of {servers}");
    }
}

#[test]
fn failures_of_requests_still_running_do_not_prolong_an_ejection() {
    let now = Instant::now();
    let mut ejection = Ejection::default();
    eject(&mut ejection, now, 2, 0);
    assert_eq!(eject(&mut ejection, now + SECOND, 2, 0), None);
    assert!(!ejection.is_ejected(now + EJECT_FIRST));
}
