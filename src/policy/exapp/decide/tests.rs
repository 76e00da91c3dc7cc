use super::*;
use crate::policy::exapp::edits;
use crate::policy::exapp::path::plain;

const RECORD: &str = r#"{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":23000,"routes":[
    {"url":"^/public$","access_level":0},{"url":"^/user","access_level":1},{"url":"^/admin$","access_level":2},
    {"url":"^/login$","access_level":0,"bruteforce_protection":[401]}]}"#;

const SIGNED: [(&str, &str); 6] = [
    ("harp-shared-key", "K"),
    ("ex-app-id", "foo"),
    ("ex-app-version", "2.0"),
    ("ex-app-host", "other"),
    ("ex-app-port", "23007"),
    ("authorization-app-api", "dXNlcjpzZWNyZXQ="),
];

fn record() -> Lookup {
    Lookup::Known(Arc::new(Record::parse(RECORD.as_bytes()).unwrap()))
}

fn user(id: &str, level: Level) -> Option<UserLookup> {
    Some(UserLookup::Known(Arc::new(User { id: id.into(), level })))
}

fn facts<'r>(path: &'r str, fields: &'r [(&'r str, &'r str)]) -> Facts<'r> {
    let field = |name: &str| fields.iter().rev().find(|field| field.0 == name).map(|field| field.1.as_bytes());
    let has_session = fields.contains(&("cookie", "alice"));
    Facts::of(path.as_bytes(), has_session, field, |key| key == b"K")
}

fn ask<'r>(path: &'r str, fields: &'r [(&'r str, &'r str)], user: Option<UserLookup>) -> Decision<'r> {
    decide(&facts(path, fields), &Known { record: Some(record()), user })
}

fn refused(decision: Decision<'_>) -> (Option<(u16, &'static str)>, Option<Kind>) {
    match decision {
        Decision::Refuse(refused) => (refused.answer.response(), refused.failure),
        other => panic!("not refused: {other:?}"),
    }
}

fn forwarded(decision: Decision<'_>) -> (String, Vec<(String, String)>) {
    match decision {
        Decision::Forward(forward) => {
            let mut fields = Vec::new();
            edits::set(&forward, None, None, "192.0.2.9".parse().unwrap(), |name, value| {
                fields.push((name.to_owned(), String::from_utf8(value.to_vec()).unwrap()));
            });
            (String::from_utf8(forward.target.to_vec()).unwrap(), fields)
        }
        other => panic!("not forwarded: {other:?}"),
    }
}

fn sent<'f>(fields: &'f [(String, String)], name: &str) -> &'f str {
    let of_name: Vec<_> = fields.iter().filter(|field| field.0 == name).collect();
    assert_eq!(of_name.len(), 1, "{name} in {fields:?}");
    &of_name[0].1
}

const FORBIDDEN: (Option<(u16, &str)>, Option<Kind>) = (Some((403, "403 Forbidden")), Some(Kind::Policy));
const NOT_FOUND: Option<(u16, &str)> = Some((404, "404 Not Found"));
const SESSION: [(&str, &str); 1] = [("cookie", "alice")];

#[test]
fn case_01_an_anonymous_request_to_a_public_route_carries_the_proxys_word() {
    let (target, fields) = forwarded(ask("/exapps/foo/public", &[], None));
    assert_eq!(target, "/public");
    assert_eq!(sent(&fields, "EX-APP-ID"), "foo");
    assert_eq!(sent(&fields, "EX-APP-VERSION"), "1.0.0");
    assert_eq!(sent(&fields, "AA-VERSION"), "32");
    assert_eq!(sent(&fields, "AUTHORIZATION-APP-API"), "OlQ="); // ":T"
    assert_eq!(sent(&fields, "X-Origin-IP"), "192.0.2.9");
}

#[test]
fn case_03_a_user_is_named_to_the_exapp() {
    assert!(matches!(ask("/exapps/foo/user/x", &SESSION, None), Decision::NeedUser(id) if id == "foo"));
    let (target, fields) = forwarded(ask("/exapps/foo/user/x", &SESSION, user("alice", Level::User)));
    assert_eq!(target, "/user/x");
    assert_eq!(sent(&fields, "AUTHORIZATION-APP-API"), "YWxpY2U6VA=="); // "alice:T"
}

#[test]
fn case_06_anonymous_is_forbidden_what_is_for_users() {
    assert_eq!(refused(ask("/exapps/foo/user", &[], None)), FORBIDDEN);
}

#[test]
fn case_07_what_is_for_administrators_is_for_them_only() {
    assert_eq!(refused(ask("/exapps/foo/admin", &SESSION, user("alice", Level::User))), FORBIDDEN);
    forwarded(ask("/exapps/foo/admin", &SESSION, user("root", Level::Admin)));
}

#[test]
fn case_08_an_authorization_alone_is_a_credential() {
    let basic = [("authorization", "Basic YTpi")];
    assert!(matches!(ask("/exapps/foo/user", &basic, None), Decision::NeedUser(_)));
    assert!(matches!(ask("/exapps/foo/public", &basic, None), Decision::NeedUser(_)));
    forwarded(ask("/exapps/foo/user", &basic, user("a", Level::User)));
}

#[test]
fn case_09_credentials_that_nextcloud_refuses_are_nobodys() {
    let (_, fields) = forwarded(ask("/exapps/foo/public", &SESSION, Some(UserLookup::Unknown)));
    assert_eq!(sent(&fields, "AUTHORIZATION-APP-API"), "OlQ=");
    assert_eq!(refused(ask("/exapps/foo/user", &SESSION, Some(UserLookup::Unknown))), FORBIDDEN);
    // Nextcloud says the same of a session without a user.
    assert_eq!(refused(ask("/exapps/foo/user", &SESSION, user("", Level::Public))), FORBIDDEN);
}

#[test]
fn case_10_a_nextcloud_that_does_not_answer_closes_no_public_route() {
    forwarded(ask("/exapps/foo/public", &SESSION, Some(UserLookup::Failed)));
    let (answer, failure) = refused(ask("/exapps/foo/user", &SESSION, Some(UserLookup::Failed)));
    assert_eq!((answer.unwrap().0, failure), (503, None));
}

#[test]
fn case_11_a_path_without_a_route_is_not_found_and_counts() {
    assert_eq!(refused(ask("/exapps/foo/nothing", &[], None)), (NOT_FOUND, Some(Kind::Policy)));
    assert_eq!(refused(ask("/exapps/foo/nothing", &SESSION, None)), (NOT_FOUND, Some(Kind::Policy)));
}

#[test]
fn case_16_life_cycle_calls_without_signature_get_no_answer() {
    for path in ["/exapps/foo/heartbeat", "/exapps/foo/init", "/exapps/foo/enabled", "/exapps/foo/init/"] {
        assert_eq!(refused(ask(path, &SESSION, user("root", Level::Admin))), (None, Some(Kind::Policy)), "{path}");
    }
}

#[test]
fn case_17_a_signed_request_passes_without_routes() {
    let (target, fields) = forwarded(ask("/exapps/foo/heartbeat", &SIGNED, None));
    assert_eq!(target, "/heartbeat");
    assert_eq!(sent(&fields, "AUTHORIZATION-APP-API"), "dXNlcjpzZWNyZXQ=");
    // The record decides where to, the signature what the ExApp is told.
    assert_eq!(sent(&fields, "EX-APP-VERSION"), "2.0");
    match ask("/exapps/foo/nothing", &SIGNED, None) {
        Decision::Forward(forward) => assert_eq!(forward.record.port, 23000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_18_a_signed_request_reaches_an_app_that_nextcloud_does_not_tell_about() {
    let facts = facts("/exapps/foo/init", &SIGNED);
    assert!(matches!(decide(&facts, &Known::default()), Decision::NeedRecord(id, Asker::AppApi(_)) if id == "foo"));
    for lookup in [Lookup::NotFound, Lookup::Withdrawn, Lookup::Invalid, Lookup::Failed] {
        match decide(&facts, &Known { record: Some(lookup), user: None }) {
            Decision::Forward(forward) => {
                assert_eq!((forward.record.host.as_str(), forward.record.port), ("other", 23007));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut bad = SIGNED;
    bad[4] = ("ex-app-port", "x");
    let known = Known { record: Some(Lookup::NotFound), user: None };
    let (answer, failure) = refused(decide(&super::tests::facts("/exapps/foo/init", &bad), &known));
    assert_eq!((answer.unwrap().0, failure), (503, None));
}

#[test]
fn case_19_a_signature_with_a_wrong_key_gets_no_answer_and_counts() {
    let mut wrong = SIGNED;
    wrong[0].1 = "k";
    assert_eq!(refused(ask("/exapps/foo/public", &wrong, None)), (None, Some(Kind::Key)));
}

#[test]
fn case_20_five_of_six_headers_are_no_signature() {
    for missing in 0..6 {
        let fields: Vec<_> =
            SIGNED.iter().copied().enumerate().filter(|(at, _)| *at != missing).map(|(_, f)| f).collect();
        assert_eq!(refused(ask("/exapps/foo/heartbeat", &fields, None)), (None, Some(Kind::Policy)), "{missing}");
        let (_, sent_on) = forwarded(ask("/exapps/foo/public", &fields, None));
        assert_eq!(sent(&sent_on, "AUTHORIZATION-APP-API"), "OlQ=");
    }
}

fn with_record<'r>(path: &'r str, fields: &'r [(&'r str, &'r str)], lookup: Lookup) -> Decision<'r> {
    decide(&facts(path, fields), &Known { record: Some(lookup), user: None })
}

#[test]
fn case_22_an_unknown_app_is_not_found_and_counts_unless_the_key_is_right() {
    assert_eq!(refused(with_record("/exapps/unknown/x", &[], Lookup::NotFound)), (NOT_FOUND, Some(Kind::Scan)));
    let key = [("harp-shared-key", "K")];
    assert_eq!(refused(with_record("/exapps/unknown/x", &key, Lookup::NotFound)), (NOT_FOUND, None));
}

#[test]
fn case_24_metadata_that_cannot_be_had_is_never_a_404() {
    let (answer, failure) = refused(with_record("/exapps/foo/public", &[], Lookup::Failed));
    assert_eq!((answer.unwrap(), failure), ((503, "503 Service Unavailable (HaRP)"), None));
}

#[test]
fn case_25_invalid_metadata_counts_against_nobody() {
    assert_eq!(refused(with_record("/exapps/foo/public", &[], Lookup::Invalid)), (NOT_FOUND, None));
}

#[test]
fn case_26_dot_dot_gets_no_answer() {
    for path in ["/exapps/foo/../bar", "/exapps/foo/%2e%2E/bar", "/exapps/foo%2f..%2fbar", "/exapps/foo/.."] {
        assert_eq!(refused(ask(path, &[], None)), (None, Some(Kind::Scan)), "{path}");
        assert_eq!(refused(ask(path, &[("harp-shared-key", "K")], None)), (None, None), "{path}");
    }
    for path in ["/exapps/foo/a..b", "/exapps/foo/..."] {
        assert_eq!(refused(ask(path, &[], None)), (NOT_FOUND, Some(Kind::Policy)), "{path}");
    }
}

#[test]
fn case_27_a_path_without_app_is_not_found_and_counts_unless_the_key_is_right() {
    assert_eq!(refused(ask("/other/path", &[], None)), (NOT_FOUND, Some(Kind::Scan)));
    assert_eq!(refused(ask("/other/path", &[("harp-shared-key", "K")], None)), (NOT_FOUND, None));
    assert_eq!(refused(ask("/x/exapps/foo/public", &[], None)).0, NOT_FOUND);
}

#[test]
fn case_28_a_banned_client_gets_no_answer_and_no_further_failure_whatever_it_sends() {
    for fields in [&[][..], &SIGNED] {
        let facts = Facts { is_banned: true, ..facts("/exapps/foo/public", fields) };
        assert_eq!(refused(decide(&facts, &Known::default())), (None, None));
    }
}

#[test]
fn case_33_statuses_of_a_route_are_failures_of_clients_only() {
    let is_failure = |path, fields, status| match ask(path, fields, None) {
        Decision::Forward(forward) => forward.statuses.contains(&status),
        other => panic!("{other:?}"),
    };
    assert!(is_failure("/exapps/foo/login", &[], 401));
    assert!(!is_failure("/exapps/foo/login", &[], 500));
    assert!(!is_failure("/exapps/foo/public", &[], 401));
    assert!(!is_failure("/exapps/foo/login", &SIGNED, 401));
}

#[test]
fn case_41_control_calls_need_the_key() {
    let key = [("harp-shared-key", "K")];
    assert!(matches!(ask("/exapps/app_api/heartbeat", &key, None), Decision::Control(b"/heartbeat")));
    let unauthorized = (Some((401, "401 Unauthorized")), Some(Kind::Key));
    assert_eq!(refused(ask("/exapps/app_api/heartbeat", &[], None)), unauthorized);
    assert_eq!(refused(ask("/exapps/app_api/heartbeat", &[("harp-shared-key", "k")], None)), unauthorized);
    // Six headers make no control call of it, and another case another app.
    assert!(matches!(ask("/exapps/app_api/info", &SIGNED, None), Decision::Control(b"/info")));
    assert!(matches!(
        decide(&facts("/exapps/App_Api/info", &key), &Known::default()),
        Decision::NeedRecord(id, Asker::Client) if id == "app_api"
    ));
}

#[test]
fn case_45_an_engine_port_makes_an_engine_call() {
    let of = |path, port| ask(path, Vec::leak(vec![("harp-shared-key", "K"), ("docker-engine-port", port)]), None);
    assert!(matches!(of("/exapps/app_api/v1.44/_ping", "24000"), Decision::Engine(24000, b"/v1.44/_ping")));
    assert!(matches!(of("/exapps/app_api/docker/exapp/create", "24000"), Decision::Control(b"/docker/exapp/create")));
    assert!(matches!(of("/exapps/app_api/v1.44/_ping", ""), Decision::Control(b"/v1.44/_ping")));
    for port in ["x", "0", "65536", "-1"] {
        assert_eq!(refused(of("/exapps/app_api/v1.44/_ping", port)).0.unwrap().0, 503, "{port}");
    }
}

#[test]
fn ids_are_looked_up_and_told_in_lower_case() {
    match ask("/exapps/Foo/public", &[], None) {
        Decision::Forward(forward) => assert_eq!(forward.id, "foo"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_reason_has_its_own_name() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}

/// Paths made of what paths are attacked with: nobody without a signature reaches a life-cycle call, a way up, or what is
/// for users, however it is written.
#[test]
fn no_path_of_a_client_leads_where_it_may_not() {
    const PIECES: [&str; 22] = [
        "/",
        "foo",
        "exapps",
        ".",
        "..",
        "%2e",
        "%2F",
        "init",
        "/user",
        "user",
        "heartbeat",
        "%69nit",
        "%75ser",
        "//",
        "app_api",
        "%",
        "%00",
        "/exapps/foo/",
        "enabled",
        "I",
        ";",
        "%2525",
    ];
    const OPEN: &str = r#"{"exapp_token":"T","exapp_version":"1","host":"h","port":1,"routes":[
        {"url":"^/user","access_level":1},{"url":".*","access_level":0}]}"#;
    let record = Lookup::Known(Arc::new(Record::parse(OPEN.as_bytes()).unwrap()));
    let known = Known { record: Some(record), user: Some(UserLookup::Unknown) };
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut forwarded = 0;
    for _ in 0..10_000 {
        let mut path = "/exapps/foo".to_owned();
        for _ in 0..4 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            path.push_str(PIECES[(seed >> 33) as usize % PIECES.len()]);
        }
        match decide(&facts(&path, &SESSION), &known) {
            Decision::Forward(forward) => {
                forwarded += 1;
                assert!(!has_parent_segment(path.as_bytes()), "{path}");
                let read = plain(forward.target).unwrap_or_else(|| forward.target.to_vec());
                let read = String::from_utf8_lossy(&read).to_ascii_lowercase();
                assert!(!read.starts_with("/user"), "{path}");
                assert!(!["/init", "/enabled", "/heartbeat"].contains(&read.trim_end_matches('/')), "{path}");
            }
            Decision::Refuse(_) => {}
            other => panic!("{path}: {other:?}"),
        }
    }
    assert!(forwarded > 500, "only {forwarded} went on");
}
