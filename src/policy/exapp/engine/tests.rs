use super::*;
use crate::policy::exapp::control::{self, Verb};
use serde_json::json;

fn plan(verb: Verb, body: Value) -> Plan {
    planned(verb, body, &Policy::default()).unwrap()
}

fn planned(verb: Verb, body: Value, policy: &Policy) -> Result<Plan, Reply> {
    let (port, command) = control::docker(verb, Some(b"24000"), body.to_string().as_bytes()).unwrap();
    let file = |text: &[u8]| text.to_vec();
    let frp = FrpFiles { ca_cert: file(b"CA"), client_cert: file(b"CERT"), client_key: file(b"KEY") };
    Plan::new(port, command, policy, Some(frp))
}

fn foo() -> Value {
    json!({ "name": "foo" })
}

fn answer(status: u16, body: Value) -> Answer {
    Answer::Response { status, body: body.to_string().into_bytes() }
}

fn bare(status: u16) -> Answer {
    Answer::Response { status, body: Vec::new() }
}

/// Plays `script`: an expected call and its answer, one after the other, then the reply.
fn play(plan: &mut Plan, script: Vec<(&str, Answer)>) -> (Vec<Call>, u16, String) {
    let mut next = plan.begin();
    let mut calls = Vec::new();
    for (expected, answer) in script {
        match next {
            Next::Call(call) => {
                assert_eq!(format!("{} {}", call.method, call.path), expected);
                calls.push(call);
                next = plan.heard(answer);
            }
            other => panic!("{expected} expected, not {other:?}"),
        }
    }
    match next {
        Next::Done(reply) => (calls, reply.status, String::from_utf8(reply.body).unwrap()),
        other => panic!("not done: {other:?}"),
    }
}

fn reply(plan: &mut Plan, script: Vec<(&str, Answer)>) -> (u16, String) {
    let (_, status, body) = play(plan, script);
    (status, body)
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

const INSPECT: &str = "GET /containers/nc_app_foo/json";

#[test]
fn case_49_exists_tells_the_image() {
    let of = |answer| reply(&mut plan(Verb::Exists, foo()), vec![(INSPECT, answer)]);
    assert_eq!(of(bare(404)), (200, r#"{"exists":false}"#.into()));
    let config = json!({ "Config": { "Image": "x:1" }, "Image": "sha256:1" });
    assert_eq!(of(answer(200, config)), (200, r#"{"exists":true,"image_ref":"x:1"}"#.into()));
    let bare_image = json!({ "Image": "sha256:1" });
    assert_eq!(of(answer(200, bare_image)), (200, r#"{"exists":true,"image_ref":"sha256:1"}"#.into()));
    assert_eq!(of(answer(200, json!({}))), (200, r#"{"exists":true,"image_ref":""}"#.into()));
    assert_eq!(of(bare(500)), (503, "Error communicating with Docker Engine: Status 500".into()));
    assert_eq!(of(Answer::Unreachable), (503, "Could not connect to Docker Engine on port 24000".into()));
    assert_eq!(of(Answer::TimedOut), (504, "Timeout communicating with Docker Engine on port 24000".into()));
}

fn create(extra: Value) -> Value {
    let mut create =
        json!({ "name": "foo", "image_id": "x:1", "network_mode": "host", "environment_variables": ["A=b"] });
    create.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    create
}

const VOLUME: &str = "GET /volumes/nc_app_foo_data";
const CREATE: &str = "POST /containers/create?name=nc_app_foo";

#[test]
fn case_50_create_makes_the_volume_and_the_container() {
    let script = vec![
        (VOLUME, bare(404)),
        ("POST /volumes/create", bare(201)),
        (CREATE, answer(201, json!({ "Id": "c0ffee" }))),
    ];
    let (calls, status, text) = play(&mut plan(Verb::Create, create(json!({}))), script);
    assert_eq!((status, text.as_str()), (201, r#"{"id":"c0ffee","name":"nc_app_foo"}"#));
    assert_eq!(body(&calls[1]), json!({ "Name": "nc_app_foo_data" }));
    let volume =
        json!({ "Type": "volume", "Source": "nc_app_foo_data", "Target": "/nc_app_foo_data", "ReadOnly": false });
    let expected = json!({
        "Image": "x:1", "Hostname": "foo", "Env": ["A=b"],
        "HostConfig": { "NetworkMode": "host", "RestartPolicy": { "Name": "unless-stopped" }, "Mounts": [volume] },
    });
    assert_eq!(body(&calls[2]), expected);
    let again = reply(&mut plan(Verb::Create, create(json!({}))), vec![(VOLUME, bare(200)), (CREATE, bare(409))]);
    assert_eq!(again, (409, "Container with name 'nc_app_foo' already exists.".into()));
}

#[test]
fn create_says_what_the_engine_refused() {
    let of = |script| reply(&mut plan(Verb::Create, create(json!({}))), script);
    assert_eq!(of(vec![(VOLUME, bare(500))]).1, "Error inspecting volume 'nc_app_foo_data': Status 500");
    let volume = vec![(VOLUME, bare(404)), ("POST /volumes/create", bare(500))];
    assert_eq!(of(volume), (503, "Failed to create volume 'nc_app_foo_data': Status 500".into()));
    let container = vec![(VOLUME, bare(200)), (CREATE, bare(404))];
    assert_eq!(of(container), (503, "Error creating container 'nc_app_foo': Status 404".into()));
    let late = vec![(VOLUME, bare(200)), (CREATE, Answer::TimedOut)];
    assert_eq!(of(late), (504, "Timeout communicating with Docker Engine for container creation".into()));
    let nonsense = vec![(VOLUME, bare(200)), (CREATE, bare(201))];
    assert_eq!(of(nonsense).0, 500);
}

fn created(extra: Value) -> Value {
    let script = vec![(VOLUME, bare(200)), (CREATE, answer(201, json!({ "Id": "1" })))];
    body(&play(&mut plan(Verb::Create, create(extra)), script).0[1])
}

#[test]
fn case_51_networks_and_devices_are_asked_for_as_harp_does() {
    let networking = &created(json!({ "network_mode": "nextcloud" }))["NetworkingConfig"];
    assert_eq!(*networking, json!({ "EndpointsConfig": { "nextcloud": { "Aliases": ["foo"] } } }));
    assert!(created(json!({}))["NetworkingConfig"].is_null());
    assert!(created(json!({ "network_mode": "bridge" }))["NetworkingConfig"].is_null());
    let cuda = &created(json!({ "compute_device": "cuda" }))["HostConfig"]["DeviceRequests"];
    assert_eq!(*cuda, json!([{ "Driver": "nvidia", "Count": -1, "Capabilities": [["compute", "utility"]] }]));
    let rocm = &created(json!({ "compute_device": "rocm" }))["HostConfig"]["Devices"];
    let paths: Vec<_> = rocm.as_array().unwrap().iter().map(|device| device["PathOnHost"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/dev/kfd", "/dev/dri"]);
    let limits = &created(json!({ "resource_limits": { "memory": 1024, "nanoCPUs": 5 } }))["HostConfig"];
    assert_eq!((limits["Memory"].as_i64(), limits["NanoCPUs"].as_i64()), (Some(1024), Some(5)));
}

#[test]
fn case_52_the_container_gets_a_token_instead_of_the_key() {
    let environment = json!(["APP_ID=foo", "HP_SHARED_KEY=K", "APP_PORT=23000", "XHP_SHARED_KEY=y"]);
    let body = create(json!({ "environment_variables": environment })).to_string();
    let (_, command) = control::docker(Verb::Create, Some(b"24000"), body.as_bytes()).unwrap();
    let control::Command::Create(mut create) = command else { panic!() };
    assert_eq!(create.tunnel(), Some(("foo", 23000)));
    create.set_tunnel_token("token");
    assert_eq!(create.environment, ["APP_ID=foo", "HP_SHARED_KEY=token", "APP_PORT=23000", "XHP_SHARED_KEY=y"]);
    create.environment.remove(1);
    assert_eq!(create.tunnel(), None);
}

#[test]
fn a_container_gets_of_its_host_what_the_policy_lists() {
    let policy = Policy { mounts: vec!["/srv/models/".into()], devices: false, host_network: false };
    let mount = |source: &str, target: &str| {
        let mounts = json!([{ "source": source, "target": target, "mode": "ro" }]);
        planned(Verb::Create, create(json!({ "network_mode": "x", "mount_points": mounts })), &policy).err()
    };
    assert_eq!(mount("/srv/models", "/m"), None);
    assert_eq!(mount("/srv/models/a", "/m"), None);
    for source in ["/", "/srv", "/srv/modelsx", "/srv/models/../x", "srv/models", "", "/var/run/docker.sock"] {
        assert_eq!(mount(source, "/m").unwrap().status, 403, "{source}");
    }
    assert_eq!(mount("/srv/models", "m").unwrap().status, 403);
    for extra in [json!({ "compute_device": "cuda", "network_mode": "x" }), json!({})] {
        assert_eq!(planned(Verb::Create, create(extra), &policy).err().unwrap().status, 403);
    }
    let refused = planned(
        Verb::Create,
        create(json!({ "mount_points": [{ "source": "/", "target": "/h" }] })),
        &Policy::default(),
    );
    assert!(String::from_utf8(refused.err().unwrap().body).unwrap().starts_with("Mount of '/' is not allowed"));
}

#[test]
fn allowed_mounts_stand_behind_the_apps_own_volume() {
    let policy = Policy { mounts: vec!["/srv".into()], ..Policy::default() };
    let extra = json!({ "mount_points": [{ "source": "/srv/a", "target": "/a", "mode": "ro" }] });
    let mut plan = planned(Verb::Create, create(extra), &policy).unwrap();
    let script = vec![(VOLUME, bare(200)), (CREATE, answer(201, json!({ "Id": "1" })))];
    let (calls, ..) = play(&mut plan, script);
    let mounts = body(&calls[1])["HostConfig"]["Mounts"].clone();
    assert_eq!(mounts[1], json!({ "Type": "bind", "Source": "/srv/a", "Target": "/a", "ReadOnly": true }));
    assert_eq!(mounts.as_array().unwrap().len(), 2);
}

#[test]
fn case_53_start_and_stop_say_when_there_was_nothing_to_do() {
    for (verb, path, already, activity) in [
        (Verb::Start, "POST /containers/nc_app_foo/start", "Container already started", "container start"),
        (Verb::Stop, "POST /containers/nc_app_foo/stop", "Container already stopped", "container stop"),
    ] {
        let of = |answer| reply(&mut plan(verb, foo()), vec![(path, answer)]);
        assert_eq!(of(bare(204)), (204, String::new()));
        assert_eq!(of(bare(304)), (200, already.into()));
        assert_eq!(of(bare(404)), (404, "Container 'nc_app_foo' not found.".into()));
        assert_eq!(of(bare(500)).0, 503);
        let late = format!("Timeout communicating with Docker Engine for {activity}");
        assert_eq!(of(Answer::TimedOut), (504, late));
    }
}

fn state(status: &str, health: Option<&str>) -> Answer {
    let health = health.map(|health| json!({ "Status": health }));
    answer(200, json!({ "State": { "Status": status, "Health": health } }))
}

fn watched(answer: Answer) -> Value {
    let (status, body) = reply(&mut plan(Verb::WaitForStart, foo()), vec![(INSPECT, answer)]);
    assert_eq!(status, 200);
    serde_json::from_str(&body).unwrap()
}

#[test]
fn case_54_waiting_ends_in_one_of_its_answers() {
    let up = json!({ "started": true, "status": "running", "health": null });
    assert_eq!(watched(state("running", None)), up);
    assert_eq!(watched(state("running", Some("none"))), up);
    assert_eq!(watched(state("running", Some("healthy")))["health"], "healthy");
    let unhealthy = json!({ "started": true, "status": "running", "health": "unhealthy", "reason": "unhealthy" });
    assert_eq!(watched(state("running", Some("unhealthy"))), unhealthy);
    for dead in ["paused", "exited", "dead"] {
        let reason = format!("non-recoverable state: {dead}");
        assert_eq!(
            watched(state(dead, None)),
            json!({ "started": false, "status": dead, "health": null, "reason": reason })
        );
    }
    let gone = json!({ "started": false, "status": "not_found", "reason": "container not found" });
    assert_eq!(watched(bare(404)), gone);
    let (status, text) = reply(&mut plan(Verb::WaitForStart, foo()), vec![(INSPECT, bare(500))]);
    assert_eq!((status, text.as_str()), (503, "Error inspecting container 'nc_app_foo': Status 500"));
}

#[test]
fn case_54_waiting_gives_up_before_appapi_does() {
    let mut plan = plan(Verb::WaitForStart, foo());
    let mut waited = Duration::ZERO;
    let mut next = plan.begin();
    let end = loop {
        next = match next {
            Next::Call(_) if waited < Duration::from_secs(5) => plan.heard(state("created", None)),
            Next::Call(_) => plan.heard(state("running", Some("starting"))),
            Next::Wait(time) => {
                waited += time;
                plan.waited()
            }
            Next::Done(reply) => break reply,
        };
    };
    assert_eq!(waited, Duration::from_millis(89_500));
    let end: Value = serde_json::from_slice(&end.body).unwrap();
    let expected =
        json!({ "started": false, "status": "running", "health": "starting", "reason": "timeout after max tries" });
    assert_eq!(end, expected);
    assert!(plan.time_max < Duration::from_secs(150));
    let late: Value = serde_json::from_slice(&plan.timed_out().body).unwrap();
    assert_eq!(late["reason"], "overall timeout");
}

#[test]
fn case_55_removing_is_content_with_what_is_gone() {
    let container = "DELETE /containers/nc_app_foo?force=true";
    let of = |with_data: bool, script| {
        reply(&mut plan(Verb::Remove, json!({ "name": "foo", "remove_data": with_data })), script)
    };
    for status in [204, 404, 409] {
        assert_eq!(of(false, vec![(container, bare(status))]), (204, String::new()));
    }
    let volume = "DELETE /volumes/nc_app_foo_data";
    assert_eq!(of(true, vec![(container, bare(404)), (volume, bare(204))]).0, 204);
    assert_eq!(of(true, vec![(container, bare(204)), (volume, bare(404))]).0, 204);
    let in_use = of(true, vec![(container, bare(204)), (volume, bare(409))]);
    assert_eq!(in_use, (409, "Volume 'nc_app_foo_data' is in use and could not be removed.".into()));
    assert_eq!(of(true, vec![(container, bare(500))]).0, 503);
    assert_eq!(of(true, vec![(container, bare(204)), (volume, bare(500))]).0, 503);
}

#[test]
fn case_56_removing_an_image_says_what_became_of_it() {
    let path = "/images/ghcr.io%2Fx%2Ffoo%3A1";
    let (look, delete) = (format!("GET {path}/json"), format!("DELETE {path}"));
    let of = |script: Vec<(&str, Answer)>| {
        let (status, body) = reply(&mut plan(Verb::ImageRemove, json!({ "image_ref": "ghcr.io/x/foo:1" })), script);
        (status, serde_json::from_str::<Value>(&body).unwrap_or_default())
    };
    let gone = json!({ "deleted": true, "bytes_freed": 0, "reason": "not_found" });
    assert_eq!(of(vec![(&look, bare(404))]), (200, gone.clone()));
    let size = || answer(200, json!({ "Size": 77 }));
    let deleted = answer(200, json!([{ "Untagged": "x" }, { "Deleted": "sha256:1" }]));
    assert_eq!(of(vec![(&look, size()), (&delete, deleted)]), (200, json!({ "deleted": true, "bytes_freed": 77 })));
    let untagged = answer(200, json!([{ "Untagged": "x" }]));
    assert_eq!(of(vec![(&look, size()), (&delete, untagged)]), (200, json!({ "deleted": true, "bytes_freed": 0 })));
    let in_use = json!({ "deleted": false, "reason": "in_use" });
    assert_eq!(of(vec![(&look, bare(500)), (&delete, bare(409))]), (200, in_use));
    assert_eq!(of(vec![(&look, size()), (&delete, bare(404))]), (200, gone));
    assert_eq!(of(vec![(&look, size()), (&delete, bare(500))]).0, 503);
}

const PUT: &str = "PUT /containers/nc_app_foo/archive?path=/";
const OS: &str = "GET /containers/nc_app_foo/archive?path=/etc/os-release";
const VENDOR: &str = "GET /containers/nc_app_foo/archive?path=/usr/lib/os-release";

fn running(is_running: bool) -> Answer {
    answer(200, json!({ "State": { "Running": is_running } }))
}

fn os_release(text: &str) -> Answer {
    Answer::Response { status: 200, body: tar::write([("os-release", text.as_bytes())]) }
}

fn link() -> Answer {
    let mut body = tar::write([("os-release", &b""[..])]);
    body[156] = b'2';
    Answer::Response { status: 200, body }
}

fn install(bundle: Option<&str>, with_frp: bool) -> Plan {
    let body = json!({ "name": "foo", "system_certs_bundle": bundle, "install_frp_certs": with_frp });
    plan(Verb::InstallCertificates, body)
}

const BUNDLE: &str = "# a\n-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n# b\n-----BEGIN CERTIFICATE-----\nBB\n-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nbroken";

#[test]
fn case_57_the_tunnels_files_come_into_a_stopped_container_without_a_shell() {
    let script = vec![(INSPECT, running(false)), (PUT, bare(200))];
    let (calls, status, _) = play(&mut install(None, true), script);
    assert_eq!(status, 204);
    let archive = String::from_utf8_lossy(&calls[1].body).into_owned();
    for part in ["certs/frp/ca.crt", "certs/frp/client.crt", "certs/frp/client.key", "CERT", "KEY"] {
        assert!(archive.contains(part), "{part}");
    }
    // With a bundle too, where nobody knows what the image is.
    let script = vec![(INSPECT, running(false)), (PUT, bare(200)), (OS, bare(404)), (VENDOR, bare(404))];
    let mut plan = install(Some(BUNDLE), true);
    assert_eq!(reply(&mut plan, script).0, 204);
    assert_eq!(plan.notes().len(), 1);
    assert_eq!(reply(&mut install(None, false), vec![(INSPECT, running(false))]).0, 204);
}

#[test]
fn authorities_are_installed_as_the_distribution_does() {
    let script = vec![
        (INSPECT, running(false)),
        (OS, link()),
        (VENDOR, os_release("PRETTY_NAME=\"Debian GNU/Linux 12\"")),
        (PUT, bare(200)),
        ("POST /containers/nc_app_foo/start", bare(204)),
        ("POST /containers/nc_app_foo/exec", answer(201, json!({ "Id": "e1" }))),
        ("POST /exec/e1/start", bare(200)),
        ("GET /exec/e1/json", answer(200, json!({ "ExitCode": 0 }))),
        ("POST /containers/nc_app_foo/stop", bare(204)),
    ];
    let mut plan = install(Some(BUNDLE), false);
    let (calls, status, _) = play(&mut plan, script);
    assert_eq!((status, plan.notes()), (204, &[][..]));
    let archive = String::from_utf8_lossy(&calls[3].body).into_owned();
    assert!(archive.contains("usr/local/share/ca-certificates/custom_ca_cert_1.crt") && archive.contains("BB"));
    assert!(!archive.contains("custom_ca_cert_2") && !archive.contains("broken"));
    assert_eq!(body(&calls[5])["Cmd"], json!(["update-ca-certificates"]));
}

#[test]
fn a_running_container_stays_running_and_a_failed_update_is_a_note() {
    let script = vec![
        (INSPECT, running(true)),
        (OS, os_release("ID=fedora")),
        (PUT, bare(200)),
        ("POST /containers/nc_app_foo/exec", answer(201, json!({ "Id": "e1" }))),
        ("POST /exec/e1/start", bare(200)),
        ("GET /exec/e1/json", answer(200, json!({ "ExitCode": 127 }))),
    ];
    let mut plan = install(Some(BUNDLE), false);
    let (calls, status, _) = play(&mut plan, script);
    assert_eq!((status, plan.notes().len()), (204, 1));
    assert_eq!(body(&calls[3])["Cmd"], json!(["update-ca-trust", "extract"]));
}

#[test]
fn an_installation_that_the_engine_refuses_says_so() {
    let of = |script| reply(&mut install(Some(BUNDLE), true), script);
    assert_eq!(of(vec![(INSPECT, bare(404))]), (404, "Container 'nc_app_foo' not found.".into()));
    assert_eq!(of(vec![(INSPECT, bare(500))]), (503, "Failed to inspect container: Status 500".into()));
    let upload = vec![(INSPECT, running(true)), (PUT, bare(403))];
    assert_eq!(of(upload), (503, "Failed to upload archive: Status 403".into()));
    let start = vec![
        (INSPECT, running(false)),
        (PUT, bare(200)),
        (OS, os_release("ID=alpine")),
        (PUT, bare(200)),
        ("POST /containers/nc_app_foo/start", bare(500)),
    ];
    assert_eq!(of(start), (503, "Failed to start container: Status 500".into()));
}
