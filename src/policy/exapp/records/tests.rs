use super::*;

const ZERO: Duration = Duration::ZERO;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn record(port: u16) -> Record {
    Record::of_headers(b"1.0.0", b"127.0.0.1", port.to_string().as_bytes()).unwrap()
}

fn signature(port: &'static str) -> Asker<'static> {
    let (id, version, host) = (&b"foo"[..], &b"1.0.0"[..], &b"127.0.0.1"[..]);
    Asker::AppApi(Signature { id, version, host, port: port.as_bytes(), authorization: b"x" })
}

fn fetch(ask: Ask) -> Flight {
    match ask {
        Ask::Fetch(flight) => flight,
        other => panic!("no fetch: {other:?}"),
    }
}

fn port(ask: &Ask) -> Option<u16> {
    match ask {
        Ask::Now(Lookup::Known(record)) | Ask::Revalidate(record, _) => Some(record.port),
        _ => None,
    }
}

fn known() -> Records {
    let mut records = Records::new(8);
    let flight = fetch(records.ask("foo", Asker::Client, ZERO));
    records.land(flight, Fetched::Found(record(23000)), ZERO);
    records
}

#[test]
fn case_22_an_unknown_app_is_asked_for_once_in_15_seconds() {
    let mut records = Records::new(8);
    let flight = fetch(records.ask("x", Asker::Client, ZERO));
    assert!(matches!(records.land(flight, Fetched::NotFound, ZERO), Lookup::NotFound));
    assert!(matches!(records.ask("x", Asker::Client, at(14)), Ask::Now(Lookup::NotFound)));
    fetch(records.ask("x", Asker::Client, at(15)));
}

#[test]
fn case_23_all_who_ask_at_once_share_one_lookup() {
    let mut records = Records::new(8);
    let flight = fetch(records.ask("foo", Asker::Client, ZERO));
    for _ in 0..99 {
        assert!(matches!(records.ask("foo", Asker::Client, ZERO), Ask::Join(number) if number == flight.number()));
    }
    assert!(matches!(records.land(flight, Fetched::Found(record(1)), ZERO), Lookup::Known(_)));
    assert_eq!(port(&records.ask("foo", Asker::Client, at(299))), Some(1));
}

#[test]
fn case_24_errors_are_not_remembered_and_an_old_record_outlives_them() {
    let mut records = Records::new(8);
    for fetched in [Fetched::Failed, Fetched::Invalid] {
        let flight = fetch(records.ask("foo", Asker::Client, ZERO));
        assert!(matches!(records.land(flight, fetched, ZERO), Lookup::Failed | Lookup::Invalid));
    }
    let mut records = known();
    for (now, fetched) in [(300, Fetched::Failed), (315, Fetched::Invalid)] {
        let Ask::Revalidate(old, flight) = records.ask("foo", Asker::Client, at(now)) else {
            panic!("not asked again")
        };
        assert_eq!(old.port, 23000);
        assert!(matches!(records.land(flight, fetched, at(now)), Lookup::Known(_)));
        assert_eq!(port(&records.ask("foo", Asker::Client, at(now + 14))), Some(23000));
    }
}

#[test]
fn a_record_is_asked_for_again_after_its_time_and_nobody_waits_for_it() {
    let mut records = known();
    let Ask::Revalidate(_, flight) = records.ask("foo", Asker::Client, at(300)) else { panic!("not asked again") };
    assert!(matches!(records.ask("foo", Asker::Client, at(301)), Ask::Now(Lookup::Known(_))));
    records.land(flight, Fetched::Found(record(23009)), at(302));
    assert_eq!(port(&records.ask("foo", Asker::Client, at(303))), Some(23009));
    let Ask::Revalidate(_, flight) = records.ask("foo", Asker::Client, at(602)) else { panic!("not asked again") };
    records.land(flight, Fetched::NotFound, at(602));
    assert!(matches!(records.ask("foo", Asker::Client, at(603)), Ask::Now(Lookup::NotFound)));
}

#[test]
fn case_43_a_push_is_used_at_once_and_ends_not_found() {
    let mut records = Records::new(8);
    let flight = fetch(records.ask("foo", Asker::Client, ZERO));
    records.land(flight, Fetched::NotFound, ZERO);
    records.push("foo", Arc::new(record(5)), at(1));
    assert_eq!(port(&records.ask("foo", Asker::Client, at(1))), Some(5));
}

#[test]
fn a_lookup_from_before_a_push_overwrites_nothing_and_answers_the_push() {
    for fetched in [Fetched::Found(record(1)), Fetched::NotFound, Fetched::Failed] {
        let mut records = Records::new(8);
        let flight = fetch(records.ask("foo", Asker::Client, ZERO));
        records.push("foo", Arc::new(record(2)), ZERO);
        match records.land(flight, fetched, ZERO) {
            Lookup::Known(record) => assert_eq!(record.port, 2),
            other => panic!("{other:?}"),
        }
        assert_eq!(port(&records.ask("foo", Asker::Client, ZERO)), Some(2));
    }
}

#[test]
fn case_44_a_withdrawn_app_is_gone_for_clients_and_there_for_appapi() {
    let mut records = known();
    assert!(records.withdraw("foo", at(1)));
    assert!(!records.withdraw("foo", at(1)));
    assert!(matches!(records.ask("foo", Asker::Client, at(2)), Ask::Now(Lookup::Withdrawn)));
    let flight = fetch(records.ask("foo", signature("23000"), at(2)));
    records.land(flight, Fetched::Found(record(23000)), at(2));
    assert!(matches!(records.ask("foo", Asker::Client, at(60)), Ask::Now(Lookup::Withdrawn)));
    assert_eq!(port(&records.ask("foo", signature("23000"), at(60))), Some(23000));
    records.push("foo", Arc::new(record(23000)), at(60));
    assert_eq!(port(&records.ask("foo", Asker::Client, at(60))), Some(23000));
    assert!(!records.withdraw("bar", at(60)));
    assert!(matches!(records.ask("bar", Asker::Client, at(119)), Ask::Now(Lookup::Withdrawn)));
    fetch(records.ask("bar", Asker::Client, at(120)));
}

#[test]
fn a_lookup_from_before_a_withdrawal_brings_nothing_back() {
    let mut records = Records::new(8);
    let flight = fetch(records.ask("foo", Asker::Client, ZERO));
    records.withdraw("foo", ZERO);
    let landed = records.land(flight, Fetched::Found(record(1)), ZERO);
    assert!(matches!(records.allow("foo", Asker::Client, landed.clone(), ZERO), Lookup::Withdrawn));
    assert!(matches!(records.allow("foo", signature("1"), landed, ZERO), Lookup::Known(_)));
    assert_eq!(records.known().count(), 0);
    fetch(records.ask("foo", Asker::Client, at(60)));
}

#[test]
fn what_appapi_says_differently_is_looked_up_once() {
    let mut records = known();
    let flight = fetch(records.ask("foo", signature("23005"), at(1)));
    // Clients go on with what there is.
    assert_eq!(port(&records.ask("foo", Asker::Client, at(1))), Some(23000));
    records.land(flight, Fetched::Found(record(23000)), at(1));
    assert_eq!(port(&records.ask("foo", signature("23005"), at(2))), Some(23000));
    let flight = fetch(records.ask("foo", signature("23006"), at(3)));
    records.land(flight, Fetched::Found(record(23006)), at(3));
    assert_eq!(port(&records.ask("foo", signature("23006"), at(3))), Some(23006));
    assert_eq!(port(&records.ask("foo", Asker::Client, at(3))), Some(23006));
}

#[test]
fn a_lookup_that_never_lands_is_made_again() {
    let mut records = Records::new(8);
    let lost = fetch(records.ask("foo", Asker::Client, ZERO));
    assert!(matches!(records.ask("foo", Asker::Client, at(59)), Ask::Join(_)));
    let next = fetch(records.ask("foo", Asker::Client, at(60)));
    assert!(next.number() > lost.number());
    records.land(lost, Fetched::Failed, at(61));
    assert!(matches!(records.ask("foo", Asker::Client, at(61)), Ask::Join(number) if number == next.number()));
}

#[test]
fn names_that_are_no_apps_do_not_push_out_those_that_are() {
    let mut records = known();
    for guess in 0..100 {
        let flight = fetch(records.ask(&format!("guess{guess}"), Asker::Client, ZERO));
        records.land(flight, Fetched::NotFound, ZERO);
        assert!(records.len() <= 8);
    }
    assert_eq!(port(&records.ask("foo", Asker::Client, ZERO)), Some(23000));
    // All places in the air: no further lookup, and nothing is forgotten.
    let flights: Vec<_> = (0..7).map(|n| fetch(records.ask(&format!("air{n}"), Asker::Client, ZERO))).collect();
    fetch(records.ask("foo", signature("9"), ZERO));
    assert!(matches!(records.ask("more", Asker::Client, ZERO), Ask::Now(Lookup::Failed)));
    assert_eq!(flights.len(), 7);
    // But AppAPI is always heard.
    records.withdraw("more", ZERO);
    assert!(matches!(records.ask("more", Asker::Client, ZERO), Ask::Now(Lookup::Withdrawn)));
    assert_eq!(records.len(), 8);
}

/// Random questions, landings and changes: never two lookups at once, never an old word over a newer one, never too many.
#[test]
fn any_order_of_events_keeps_the_rules() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) % below
    };
    let mut records = Records::new(3);
    let mut now = ZERO;
    let mut flights: Vec<(Flight, u16)> = Vec::new();
    // The port stands for when Nextcloud said it.
    let mut truth: HashMap<String, u16> = HashMap::new();
    for turn in 1..20_000u16 {
        now += Duration::from_millis(random(4_000));
        let id = format!("app{}", random(5));
        match random(6) {
            0..=2 => match records.ask(&id, Asker::Client, now) {
                Ask::Fetch(flight) | Ask::Revalidate(_, flight) => {
                    let old = truth.get(&id).copied().unwrap_or(0);
                    flights.push((flight, old.max(turn)));
                }
                Ask::Now(Lookup::Known(record)) => {
                    assert!(truth.get(&id).is_none_or(|pushed| record.port >= *pushed), "an older word");
                }
                Ask::Now(_) | Ask::Join(_) => {}
            },
            3 if !flights.is_empty() => {
                let (flight, port) = flights.swap_remove(random(flights.len() as u64) as usize);
                let fetched = [Fetched::Found(record(port)), Fetched::NotFound, Fetched::Failed];
                records.land(flight, fetched.into_iter().nth(random(3) as usize).unwrap(), now);
            }
            4 => {
                records.push(&id, Arc::new(record(turn)), now);
                if records.known().any(|(known, _)| known == id) {
                    truth.insert(id, turn);
                }
            }
            _ => {
                records.withdraw(&id, now);
                assert!(!matches!(records.ask(&id, Asker::Client, now), Ask::Now(Lookup::Known(_))));
            }
        }
        assert!(records.len() <= 3);
    }
}
