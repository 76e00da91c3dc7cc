use super::*;
use crate::policy::exapp::decide::Reason;
use crate::policy::exapp::failures::Rules;
use crate::policy::exapp::lookup;
use crate::policy::exapp::record::Record;
use std::sync::Arc;

const RECORD: &str = r#"{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":23000,"routes":[
    {"url":"^/public$","access_level":0},{"url":"^/user","access_level":1},
    {"url":"^/login$","access_level":0,"bruteforce_protection":[401]}]}"#;
const ALICE: &str = r#"{"user_id":"alice","access_level":1}"#;
const KEY: [(&str, &str); 1] = [("harp-shared-key", "K")];
const SIGNED: [(&str, &str); 6] = [
    ("harp-shared-key", "K"),
    ("ex-app-id", "foo"),
    ("ex-app-version", "1.0.0"),
    ("ex-app-host", "127.0.0.1"),
    ("ex-app-port", "23000"),
    ("authorization-app-api", "eA=="),
];

/// The gateway before a Nextcloud that answers at once.
struct World {
    gateway: Gateway,
    now: Duration,
    record: (u16, &'static str),
    user: (u16, &'static str),
    asked_records: u32,
    asked_users: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Forwarded(u16),
    Control,
    Refused(Reason),
}

impl World {
    fn new() -> World {
        World::with_lifetime(3)
    }

    fn with_lifetime(seconds: u64) -> World {
        let rules = Rules { failures_max: 10, window: Duration::from_secs(300), bans_policy: false };
        let gateway = Gateway {
            records: Records::new(16),
            sessions: Sessions::new(Duration::from_secs(seconds), 16),
            failures: Failures::new(rules, 16),
            tally: Tally::default(),
        };
        let (record, user) = ((200, RECORD), (200, ALICE));
        World { gateway, now: Duration::ZERO, record, user, asked_records: 0, asked_users: 0 }
    }

    fn client(last: u8, credentials: Option<u8>) -> Client {
        let network = Network::of([192, 0, 2, last].into());
        Client { network, is_exempt: false, credentials: credentials.map(|byte| [byte; 32]) }
    }

    fn get(&mut self, path: &str, fields: &[(&str, &str)], client: &Client) -> Outcome {
        let field = |name: &str| fields.iter().rev().find(|field| field.0 == name).map(|field| field.1.as_bytes());
        let facts = Facts::of(path.as_bytes(), client.credentials.is_some(), field, |key| key == b"K");
        let mut known = Known::default();
        for _ in 0..3 {
            let stepped = self.gateway.step(&facts, client, &mut known, self.now);
            if let Some(flight) = stepped.revalidate {
                self.asked_records += 1;
                self.gateway.land_record(flight, lookup::record(self.record.0, self.record.1.as_bytes()), self.now);
            }
            match stepped.step {
                Step::Done(Decision::Forward(forward)) => return Outcome::Forwarded(forward.record.port),
                Step::Done(Decision::Control(_)) => return Outcome::Control,
                Step::Done(Decision::Refuse(refused)) => return Outcome::Refused(refused.reason),
                Step::FetchRecord(flight) => {
                    self.asked_records += 1;
                    let fetched = lookup::record(self.record.0, self.record.1.as_bytes());
                    known.record = Some(self.gateway.land_record(flight, fetched, self.now));
                }
                Step::FetchUser(_, flight) => {
                    self.asked_users += 1;
                    let user = lookup::user(self.user.0, self.user.1.as_bytes());
                    self.gateway.land_user(flight, &user, self.now);
                    known.user = Some(user);
                }
                other => panic!("{path}: {other:?}"),
            }
        }
        panic!("{path}: no end");
    }

    fn anonymous(&mut self, path: &str) -> Outcome {
        self.get(path, &[], &World::client(1, None))
    }

    fn later(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }
}

#[test]
fn case_04_a_session_is_asked_about_once_in_its_lifetime() {
    let mut world = World::new();
    let alice = World::client(1, Some(7));
    for (later, asked) in [(0, 1), (2_900, 1), (200, 2)] {
        world.later(later);
        assert_eq!(world.get("/exapps/foo/user/x", &[], &alice), Outcome::Forwarded(23000));
        assert_eq!(world.asked_users, asked);
    }
    // Another login with the same browser is somebody else.
    world.get("/exapps/foo/user/x", &[], &World::client(1, Some(8)));
    assert_eq!(world.asked_users, 3);
}

#[test]
fn case_05_without_lifetime_each_request_asks() {
    let mut world = World::with_lifetime(0);
    for _ in 0..3 {
        world.get("/exapps/foo/user", &[], &World::client(1, Some(7)));
    }
    assert_eq!(world.asked_users, 3);
}

#[test]
fn case_10_public_routes_outlive_a_nextcloud_that_fails() {
    let mut world = World::new();
    world.user = (503, "");
    let alice = World::client(1, Some(7));
    assert_eq!(world.get("/exapps/foo/public", &[], &alice), Outcome::Forwarded(23000));
    assert_eq!(world.get("/exapps/foo/user", &[], &alice), Outcome::Refused(Reason::NoUser));
    assert!(world.gateway.failures.is_empty());
}

#[test]
fn a_path_without_route_asks_for_nobody() {
    let mut world = World::new();
    assert_eq!(world.get("/exapps/foo/nothing", &[], &World::client(1, Some(7))), Outcome::Refused(Reason::NoRoute));
    assert_eq!(world.asked_users, 0);
}

#[test]
fn case_22_an_unknown_app_costs_one_question_in_15_seconds() {
    let mut world = World::new();
    world.record = (401, "");
    for (later, asked) in [(0, 1), (14_000, 1), (1_000, 2)] {
        world.later(later);
        assert_eq!(world.anonymous("/exapps/unknown/x"), Outcome::Refused(Reason::UnknownApp));
        assert_eq!(world.asked_records, asked);
    }
}

#[test]
fn case_23_a_hundred_first_requests_ask_once() {
    let mut world = World::new();
    let client = World::client(1, None);
    let facts = Facts::of(b"/exapps/foo/public", false, |_| None, |_| false);
    let mut known: Vec<Known> = vec![Known::default(); 100];
    let mut flights = Vec::new();
    for known in &mut known {
        match world.gateway.step(&facts, &client, known, Duration::ZERO).step {
            Step::FetchRecord(flight) => flights.push(flight),
            Step::JoinRecord(number) => assert_eq!(number, flights[0].number()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(flights.len(), 1);
    let landed = world.gateway.land_record(flights.remove(0), lookup::record(200, RECORD.as_bytes()), Duration::ZERO);
    for known in &mut known {
        known.record = Some(landed.clone());
        let step = world.gateway.step(&facts, &client, known, Duration::ZERO).step;
        assert!(matches!(step, Step::Done(Decision::Forward(_))));
    }
}

#[test]
fn case_24_an_old_record_serves_while_nextcloud_fails_and_a_new_app_waits() {
    let mut world = World::new();
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
    world.record = (500, "");
    world.later(301_000);
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
    assert_eq!(world.anonymous("/exapps/bar/public"), Outcome::Refused(Reason::NoMetadata));
    assert_eq!(world.asked_records, 3);
    world.record = (200, RECORD);
    assert_eq!(world.anonymous("/exapps/bar/public"), Outcome::Forwarded(23000));
}

#[test]
fn case_28_the_tenth_failure_bans_for_whatever_comes_and_nobody_else() {
    let mut world = World::new();
    world.record = (404, "");
    for _ in 0..10 {
        assert_eq!(world.anonymous("/exapps/unknown/x"), Outcome::Refused(Reason::UnknownApp));
    }
    world.record = (200, RECORD);
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Refused(Reason::Banned));
    assert_eq!(world.get("/exapps/foo/public", &SIGNED, &World::client(1, None)), Outcome::Refused(Reason::Banned));
    assert_eq!(world.get("/exapps/foo/public", &[], &World::client(2, None)), Outcome::Forwarded(23000));
    world.later(300_000);
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
}

#[test]
fn nextcloud_and_trusted_proxies_are_never_banned() {
    let mut world = World::new();
    world.record = (404, "");
    let proxy = Client { is_exempt: true, ..World::client(1, None) };
    for _ in 0..30 {
        assert_eq!(world.get("/exapps/unknown/x", &[], &proxy), Outcome::Refused(Reason::UnknownApp));
    }
}

#[test]
fn case_33_ten_statuses_of_the_exapp_ban() {
    let mut world = World::new();
    let client = World::client(1, None);
    assert!((0..20).all(|_| !world.gateway.answered(&[401], &client, 500, Duration::ZERO)));
    assert_eq!(
        (0..10).map(|_| world.gateway.answered(&[401], &client, 401, Duration::ZERO)).filter(|is| *is).count(),
        1
    );
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Refused(Reason::Banned));
}

#[test]
fn case_43_a_pushed_app_is_served_without_a_question() {
    let mut world = World::new();
    world.gateway.records.push("foo", Arc::new(Record::parse(RECORD.as_bytes()).unwrap()), Duration::ZERO);
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
    assert_eq!(world.asked_records, 0);
}

#[test]
fn case_44_a_disabled_app_is_gone_for_clients_until_it_is_pushed() {
    let mut world = World::new();
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
    assert!(world.gateway.records.withdraw("foo", world.now));
    assert!(!world.gateway.records.withdraw("foo", world.now));
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Refused(Reason::Withdrawn));
    assert_eq!(world.get("/exapps/foo/enabled", &SIGNED, &World::client(1, None)), Outcome::Forwarded(23000));
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Refused(Reason::Withdrawn));
    assert!(world.gateway.failures.is_empty());
    world.gateway.records.push("foo", Arc::new(Record::parse(RECORD.as_bytes()).unwrap()), world.now);
    assert_eq!(world.anonymous("/exapps/foo/public"), Outcome::Forwarded(23000));
}

#[test]
fn an_app_withdrawn_while_it_is_looked_up_is_gone_for_who_waits() {
    let mut world = World::new();
    let client = World::client(1, None);
    let facts = Facts::of(b"/exapps/foo/public", false, |_| None, |_| false);
    let mut known = Known::default();
    let Step::FetchRecord(flight) = world.gateway.step(&facts, &client, &mut known, Duration::ZERO).step else {
        panic!()
    };
    world.gateway.records.withdraw("foo", Duration::ZERO);
    known.record = Some(world.gateway.land_record(flight, lookup::record(200, RECORD.as_bytes()), Duration::ZERO));
    match world.gateway.step(&facts, &client, &mut known, Duration::ZERO).step {
        Step::Done(Decision::Refuse(refused)) => assert_eq!(refused.reason, Reason::Withdrawn),
        other => panic!("{other:?}"),
    }
}

#[test]
fn control_calls_ask_nextcloud_nothing() {
    let mut world = World::new();
    assert_eq!(world.get("/exapps/app_api/heartbeat", &KEY, &World::client(1, None)), Outcome::Control);
    assert_eq!(world.asked_records, 0);
}
