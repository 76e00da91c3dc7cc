use super::*;

const S: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Time {
    Time(ms * 1_000_000)
}

fn rules() -> Rules {
    Rules {
        effect: Effect::Fault,
        is_inverted: false,
        rise: 1,
        fall: 1,
        up_delay: Duration::ZERO,
        down_delay: Duration::ZERO,
        starts_bad: true,
    }
}

/// Results one second apart, `g` and `b`; the standings after each.
fn walk(judge: &mut Judge, results: &str) -> String {
    let standing = |(second, result): (usize, char)| {
        let outcome = if result == 'g' { Outcome::Good } else { Outcome::Bad };
        judge.handle(at(second as u64 * 1000), Input::Found(outcome));
        match judge.standing() {
            Standing::Good => 'G',
            Standing::Bad => 'B',
            Standing::Unknown => '?',
        }
    };
    results.chars().enumerate().map(standing).collect()
}

#[test]
fn rows_of_results_turn_the_standing_as_the_table_says() {
    #[rustfmt::skip]
    let rows = [
        // rise, fall, inverted, results, standings
        (1, 1, false, "gbgb",       "GBGB"),
        (1, 1, false, "bgbg",       "BGBG"),
        (2, 3, false, "gbbbggb",    "GGGBBGG"),
        (2, 3, false, "gbbgbbgbbb", "GGGGGGGGGB"),
        (3, 1, false, "bggbggg",    "BBBBBBG"),
        // The first result decides, however many would be needed later.
        (9, 9, false, "b",          "B"),
        (9, 9, false, "g",          "G"),
        (1, 1, true,  "gbgb",       "BGBG"),
        (2, 1, true,  "gbb",        "BBG"),
    ];
    for (rise, fall, is_inverted, results, standings) in rows {
        let mut judge = Judge::new(Rules { rise, fall, is_inverted, ..rules() });
        assert_eq!(walk(&mut judge, results), standings, "rise {rise} fall {fall} inverted {is_inverted}: {results}");
    }
}

#[test]
fn every_short_sequence_agrees_with_the_definition_of_rise_and_fall() {
    // The definition, by looking back: the standing turns when the last `needed` results all say so.
    for (rise, fall) in (1..4).flat_map(|rise| (1..4).map(move |fall| (rise, fall))) {
        for bits in 0..1u32 << 10 {
            let results: Vec<bool> = (0..10).map(|bit| bits >> bit & 1 == 1).collect();
            let mut judge = Judge::new(Rules { rise, fall, ..rules() });
            let mut expected = results[0];
            let mut turned = 0;
            for (index, result) in results.iter().enumerate() {
                let outcome = if *result { Outcome::Good } else { Outcome::Bad };
                judge.handle(at(index as u64), Input::Found(outcome));
                let needed = if expected { fall } else { rise } as usize;
                let row = &results[turned.max((index + 1).saturating_sub(needed))..=index];
                if row.len() == needed && row.iter().all(|result| *result != expected) {
                    expected = !expected;
                    turned = index + 1;
                }
                let wanted = if expected { Standing::Good } else { Standing::Bad };
                assert_eq!(judge.standing(), wanted, "rise {rise} fall {fall} {results:?} at {index}");
            }
        }
    }
}

#[test]
fn a_delay_must_pass_without_a_contradiction() {
    let mut judge = Judge::new(Rules { down_delay: S, up_delay: 2 * S, ..rules() });
    assert!(judge.handle(at(0), Input::Found(Outcome::Good)));
    assert!(!judge.handle(at(100), Input::Found(Outcome::Bad)));
    assert_eq!(judge.deadline(), Some(at(1100)));
    // Seen again, still bad: the delay runs on.
    assert!(!judge.handle(at(600), Input::Found(Outcome::Bad)));
    assert_eq!(judge.deadline(), Some(at(1100)));
    assert!(!judge.handle(at(1099), Input::Tick));
    assert!(!judge.handle(at(1099), Input::Found(Outcome::Good)));
    assert_eq!(judge.deadline(), None);
    assert!(!judge.handle(at(5000), Input::Tick));
    judge.handle(at(6000), Input::Found(Outcome::Bad));
    assert!(judge.handle(at(7000), Input::Tick));
    assert_eq!(judge.standing(), Standing::Bad);
    judge.handle(at(7500), Input::Found(Outcome::Good));
    assert_eq!(judge.deadline(), Some(at(9500)));
    assert!(judge.handle(at(9500), Input::Tick));
    assert_eq!((judge.standing(), judge.deadline()), (Standing::Good, None));
}

#[test]
fn a_delay_starts_when_the_row_is_complete() {
    let mut judge = Judge::new(Rules { fall: 3, down_delay: S, ..rules() });
    assert_eq!(walk(&mut judge, "gbb"), "GGG");
    assert_eq!(judge.deadline(), None);
    judge.handle(at(3000), Input::Found(Outcome::Bad));
    assert_eq!((judge.standing(), judge.deadline()), (Standing::Good, Some(at(4000))));
}

#[test]
fn effects_follow_the_standing_as_keepalived_adds_weights() {
    let verdict = |is_fault, weight| Verdict { is_fault, weight };
    #[rustfmt::skip]
    let rows = [
        // effect, results, verdict
        (Effect::Fault,       "",  verdict(true, 0)),
        (Effect::Fault,       "g", verdict(false, 0)),
        (Effect::Fault,       "b", verdict(true, 0)),
        (Effect::Weight(20),  "",  verdict(false, 0)),
        (Effect::Weight(20),  "g", verdict(false, 20)),
        (Effect::Weight(20),  "b", verdict(false, 0)),
        (Effect::Weight(-20), "",  verdict(false, 0)),
        (Effect::Weight(-20), "g", verdict(false, 0)),
        (Effect::Weight(-20), "b", verdict(false, -20)),
    ];
    for (effect, results, expected) in rows {
        let mut judge = Judge::new(Rules { effect, ..rules() });
        walk(&mut judge, results);
        assert_eq!(judge.verdict(), expected, "{effect:?} after {results:?}");
    }
    let gentle = Judge::new(Rules { starts_bad: false, ..rules() });
    assert_eq!(gentle.verdict(), Verdict::default());
}

#[test]
fn numbers_are_multiplied_bounded_and_below_all_a_fault() {
    #[rustfmt::skip]
    let rows = [
        // weight, inverted, number, is_fault, weight
        (1,    false, 0,        false, 0),
        (1,    false, 10,       false, 10),
        (-5,   false, 10,       false, -50),
        (5,    true,  10,       false, -50),
        (1,    false, -253,     false, -253),
        (1,    false, -254,     true,  -253),
        (1,    false, 400,      false, 253),
        (-100, false, 3,        true,  -253),
        (253,  false, i64::MIN, true,  -253),
        (253,  false, i64::MAX, false, 253),
    ];
    for (weight, is_inverted, number, is_fault, moved) in rows {
        let mut judge = Judge::new(Rules { effect: Effect::Weight(weight), is_inverted, ..rules() });
        judge.handle(at(0), Input::Found(Outcome::Number(number)));
        let expected = Verdict { is_fault, weight: moved };
        assert_eq!(judge.verdict(), expected, "{weight} times {number}, inverted {is_inverted}");
        assert_eq!(judge.standing(), if is_fault { Standing::Bad } else { Standing::Good });
    }
}

#[test]
fn without_a_weight_any_number_but_0_is_a_fault() {
    for (number, is_fault) in [(0, false), (1, true), (-1, true)] {
        let mut judge = Judge::new(rules());
        judge.handle(at(0), Input::Found(Outcome::Number(number)));
        assert_eq!(judge.verdict(), Verdict { is_fault, weight: 0 });
    }
}

#[test]
fn a_number_that_changes_without_a_turn_is_a_change() {
    let mut judge = Judge::new(Rules { effect: Effect::Weight(1), ..rules() });
    assert!(judge.handle(at(0), Input::Found(Outcome::Number(5))));
    assert!(!judge.handle(at(1), Input::Found(Outcome::Number(5))));
    assert!(judge.handle(at(2), Input::Found(Outcome::Number(6))));
    assert!(judge.handle(at(3), Input::Found(Outcome::Number(0))));
    assert_eq!(judge.verdict(), Verdict::default());
}

#[test]
fn other_rules_keep_what_is_known() {
    let mut judge = Judge::new(rules());
    walk(&mut judge, "b");
    judge.follow(Rules { effect: Effect::Weight(-30), starts_bad: false, ..rules() });
    assert_eq!(judge.verdict(), Verdict { is_fault: false, weight: -30 });
    judge.follow(Rules { is_inverted: true, ..rules() });
    assert_eq!((judge.standing(), judge.verdict()), (Standing::Good, Verdict::default()));
}
