//! AppAPI's calls through Lyre to a real Docker Engine. Named after the cases of the compatibility list with HaRP.

mod engine;
mod registry;
mod tunnel;

use crate::edge::{Client, Edge, Response};
use crate::origin::Origin;
use engine::{CHECKED, DEBIAN, Engine, LONG, PLAIN, encoded};
use lyre::config::settings::Secret;
use lyre::config::settings::docker::{Docker, FrpClient};
use registry::Registry;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

const EXAPPS: &str = "[exapps]\nshared_key_env = \"EXAPPS_KEY\"\n[exapps.docker]\n";

const PORT: &str = "docker-engine-port: 24000\r\n";

fn edge(nextcloud: &Origin, driver: &'static str, socket: &Path, mounts: &[&str]) -> Edge {
    let secret = |text: &str| Secret(text.as_bytes().into());
    let client = FrpClient { ca: secret("the CA"), certificate: secret("the client"), key: secret("its key") };
    let docker = Docker {
        socket: socket.into(),
        mounts: mounts.iter().map(|path| path.to_string()).collect(),
        devices: true,
        host_network: true,
        frp_client: Some(client),
    };
    Edge::start_with(&Origin::config(&[nextcloud], EXAPPS), driver, 1, |settings| {
        settings.exapps.as_mut().unwrap().docker = Some(docker);
    })
}

fn nextcloud() -> Origin {
    Origin::answering(|_| b"HTTP/1.1 401 S\r\nContent-Length: 0\r\n\r\n".to_vec())
}

fn send(edge: &Edge, line: &str, fields: &str, body: &str) -> Client {
    let mut client = edge.connect();
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let key = "harp-shared-key: K\r\nAuthorization: Basic YXBwX2FwaV9oYXByb3h5X3VzZXI6Sw==\r\n";
    client.send(format!("{line} HTTP/1.1\r\nHost: cloud.test\r\n{key}{fields}{length}\r\n{body}"));
    client
}

/// Status and body of one of the eight calls.
fn call(edge: &Edge, verb: &str, body: &Value) -> (u16, Value) {
    call_at(edge, PORT, verb, body)
}

fn call_at(edge: &Edge, port: &str, verb: &str, body: &Value) -> (u16, Value) {
    let line = format!("POST /exapps/app_api/docker/exapp/{verb}");
    of(&send(edge, &line, port, &body.to_string()).response("POST"))
}

/// A body that is no JSON is a text.
fn of(response: &Response) -> (u16, Value) {
    let text = response.text();
    (response.status, serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text)))
}

fn raw(edge: &Edge, method: &str, path: &str) -> Response {
    send(edge, &format!("{method} /exapps/app_api/{path}"), PORT, "").response(method)
}

fn done() -> (u16, Value) {
    (204, Value::from(""))
}

fn create(edge: &Edge, name: &str, image: &str, environment: &[&str]) {
    let body = json!({
        "name": name, "image_id": image, "network_mode": "host", "environment_variables": environment,
        "restart_policy": "no", "start_container": true, "resource_limits": [],
    });
    let (status, made) = call(edge, "create", &body);
    assert_eq!((status, &made["name"]), (201, &json!(format!("nc_app_{name}"))), "{made}");
    assert!(made["id"].as_str().is_some_and(|id| id.len() == 64), "{made}");
}

fn remove(edge: &Edge, name: &str) {
    assert_eq!(call(edge, "remove", &json!({ "name": name, "remove_data": true })), done());
}

#[test]
fn appapi_drives_a_real_docker_engine() {
    let Some(engine) = Engine::start("appapi_drives_a_real_docker_engine") else { return };
    engine.enter();
    let nextcloud = nextcloud();
    let shared = engine.path("shared");
    std::fs::create_dir(&shared).unwrap();
    for driver in ["epoll", "io_uring"] {
        let edge = edge(&nextcloud, driver, &engine.socket(), &[shared.to_str().unwrap()]);
        cases_49_50_53_a_life(&edge, &engine);
        case_47_progress_of_a_pull_is_streamed(&edge, driver);
        cases_45_46_48_raw_calls(&edge, &engine);
    }
    let edge = edge(&nextcloud, "io_uring", &engine.socket(), &[shared.to_str().unwrap()]);
    case_51_networks_and_mounts(&edge, &engine, &shared);
    case_54_waiting_for_a_start(&edge);
    case_55_data_in_use(&edge, &engine);
    case_57_certificates(&edge, &engine);
    // Last: it removes one.
    case_56_images(&edge);
}

fn cases_49_50_53_a_life(edge: &Edge, engine: &Engine) {
    let name = json!({ "name": "life" });
    assert_eq!(call(edge, "exists", &name), (200, json!({ "exists": false })));
    create(edge, "life", PLAIN, &["APP_ID=life", "APP_PORT=23001", "HP_SHARED_KEY=K", "APP_SECRET=s"]);
    let expected = json!("Container with name 'nc_app_life' already exists.");
    assert_eq!(call(edge, "create", &json!({ "name": "life", "image_id": PLAIN })), (409, expected));
    assert_eq!(call(edge, "exists", &name), (200, json!({ "exists": true, "image_ref": PLAIN })));

    let made = engine.show("/containers/nc_app_life/json");
    let environment: Vec<&str> = made["Config"]["Env"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    assert!(environment.contains(&"APP_SECRET=s"));
    // Case 52: a token of its own in place of the key.
    let keys: Vec<_> = environment.iter().filter_map(|variable| variable.strip_prefix("HP_SHARED_KEY=")).collect();
    assert!(keys.len() == 1 && keys[0].starts_with("lyre1.23001.") && keys[0].ends_with(".life"), "{keys:?}");
    let mount = &made["Mounts"][0];
    assert_eq!((&mount["Name"], &mount["Destination"]), (&json!("nc_app_life_data"), &json!("/nc_app_life_data")));

    // Case 57: into a container that was never started, of an image that has nothing.
    let certificates = json!({ "name": "life", "system_certs_bundle": null, "install_frp_certs": true });
    assert_eq!(call(edge, "install_certificates", &certificates), done());
    for (file, content) in [("ca.crt", "the CA"), ("client.crt", "the client"), ("client.key", "its key")] {
        let found = engine.file("nc_app_life", &format!("/certs/frp/{file}"));
        assert_eq!(found.as_deref(), Some(content.as_bytes()), "{file}");
    }
    assert_eq!(engine.show("/containers/nc_app_life/json")["State"]["Status"], "created");

    assert_eq!(call(edge, "start", &name), done());
    assert_eq!(call(edge, "start", &name), (200, json!("Container already started")));
    let started = json!({ "started": true, "status": "running", "health": null });
    assert_eq!(call(edge, "wait_for_start", &name), (200, started));
    logs(edge);
    assert_eq!(call(edge, "stop", &name), done());
    assert_eq!(call(edge, "stop", &name), (200, json!("Container already stopped")));
    let reason = "non-recoverable state: exited";
    let stopped = json!({ "started": false, "status": "exited", "health": null, "reason": reason });
    assert_eq!(call(edge, "wait_for_start", &name), (200, stopped));

    assert_eq!(call(edge, "remove", &name), done());
    assert_eq!(engine.ask("GET", "/containers/nc_app_life/json", "").0, 404);
    assert_eq!(engine.ask("GET", "/volumes/nc_app_life_data", "").0, 200);
    remove(edge, "life");
    assert_eq!(engine.ask("GET", "/volumes/nc_app_life_data", "").0, 404);

    let missing = (404, json!("Container 'nc_app_life' not found."));
    for verb in ["start", "stop", "install_certificates"] {
        assert_eq!(call(edge, verb, &name), missing, "{verb}");
    }
    let missing = json!({ "started": false, "status": "not_found", "reason": "container not found" });
    assert_eq!(call(edge, "wait_for_start", &name), (200, missing));
}

/// Case 48: as the engine multiplexes them.
fn logs(edge: &Edge) {
    let deadline = Instant::now() + LONG;
    loop {
        let path = "v1.44/containers/nc_app_life/logs?stdout=true&stderr=true&tail=all";
        let response = raw(edge, "GET", path);
        assert_eq!(response.status, 200, "{}", response.text());
        if !response.body.is_empty() {
            assert_eq!(response.body, b"\x01\0\0\0\0\0\0\x03up\n");
            return;
        }
        assert!(Instant::now() < deadline, "nothing in the log");
    }
}

fn case_47_progress_of_a_pull_is_streamed(edge: &Edge, tag: &str) {
    let registry = Registry::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let image = format!("{}/app:{tag}", registry.address);
    let line = format!("POST /exapps/app_api/v1.44/images/create?fromImage={}", encoded(&image));
    let mut client = send(edge, &line, PORT, "");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut received = String::new();
    while !received.contains("Pulling from app") {
        received.push_str(&chunk(&mut client));
    }
    // Until here the engine cannot have been done.
    registry.release();
    while !received.contains("Downloaded newer image") && !received.contains("errorDetail") {
        received.push_str(&chunk(&mut client));
    }
    assert!(received.contains("Downloaded newer image"), "{received}");
    let path = format!("v1.44/images/{}/json", encoded(&image));
    let shown = raw(edge, "GET", &path);
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert_eq!(call(edge, "image_remove", &json!({ "image_ref": image })).1["deleted"], true);
}

/// Of a body without a length.
fn chunk(client: &mut Client) -> String {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        size.extend(client.exactly(1));
    }
    let size = usize::from_str_radix(String::from_utf8(size).unwrap().trim_end(), 16).unwrap();
    assert!(size > 0, "it ended");
    let mut chunk = client.exactly(size + 2);
    chunk.truncate(size);
    String::from_utf8(chunk).unwrap()
}

fn cases_45_46_48_raw_calls(edge: &Edge, engine: &Engine) {
    let ping = raw(edge, "GET", "v1.44/_ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "OK"));
    assert_eq!(raw(edge, "HEAD", "v1.44/_ping").status, 200);
    assert_eq!(raw(edge, "GET", "_ping").status, 200);
    assert_eq!(send(edge, "GET /exapps/app_api/v1.44/_ping", "", "").response("GET").status, 404);
    let elsewhere = "docker-engine-port: 24050\r\n";
    assert_eq!(send(edge, "GET /exapps/app_api/v1.44/_ping", elsewhere, "").response("GET").status, 503);
    for (method, path) in [
        ("GET", "v1.44/containers/json"),
        ("POST", "v1.44/containers/create"),
        ("DELETE", "v1.44/containers/nc_app_x"),
        ("GET", "v1.44/containers/other/json"),
        ("GET", "v1.44/version"),
    ] {
        assert_eq!(raw(edge, method, path).status, 403, "{method} {path}");
    }
    assert_eq!(raw(edge, "GET", "v1.44/containers/nc_app_none/json").status, 404);
    let image = raw(edge, "GET", &format!("v1.44/images/{PLAIN}/json"));
    let image: Value = serde_json::from_slice(&image.body).unwrap();
    assert_eq!(image["Id"], engine.show(&format!("/images/{PLAIN}/json"))["Id"]);
}

fn case_51_networks_and_mounts(edge: &Edge, engine: &Engine, shared: &Path) {
    let (status, network) = engine.ask("POST", "/networks/create", r#"{"Name":"nextcloud"}"#);
    assert_eq!(status, 201, "{network}");
    let mount = |source: &str| json!([{ "source": source, "target": "/mnt", "mode": "ro" }]);
    let body = |mounts: Value| json!({ "name": "net", "image_id": PLAIN, "network_mode": "nextcloud", "mount_points": mounts });
    for source in ["/", "/etc", "/var/run/docker.sock"] {
        let text = format!("Mount of '{source}' is not allowed; the gateway's mounts do not list it.");
        assert_eq!(call(edge, "create", &body(mount(source))), (403, json!(text)));
    }
    assert_eq!(call(edge, "exists", &json!({ "name": "net" })), (200, json!({ "exists": false })));
    let (status, made) = call(edge, "create", &body(mount(shared.to_str().unwrap())));
    assert_eq!(status, 201, "{made}");
    let made = engine.show("/containers/nc_app_net/json");
    let aliases = made["NetworkSettings"]["Networks"]["nextcloud"]["Aliases"].as_array().unwrap().clone();
    assert!(aliases.contains(&json!("net")), "{aliases:?}");
    let bind = made["Mounts"].as_array().unwrap().iter().find(|mount| mount["Type"] == "bind").unwrap();
    assert_eq!((&bind["Destination"], &bind["RW"]), (&json!("/mnt"), &json!(false)));
    remove(edge, "net");
    let image = json!({ "name": "net", "image_id": "lyre-test/none:1", "network_mode": "host" });
    let text = "Error creating container 'nc_app_net': Status 404";
    assert_eq!(call(edge, "create", &image), (503, json!(text)));
    remove(edge, "net");
}

fn case_54_waiting_for_a_start(edge: &Edge) {
    for (name, image, environment, expected) in [
        ("well", CHECKED, &[][..], json!({ "started": true, "status": "running", "health": "healthy" })),
        (
            "ill",
            CHECKED,
            &["ILL=1"],
            json!({ "started": true, "status": "running", "health": "unhealthy", "reason": "unhealthy" }),
        ),
        (
            "fails",
            PLAIN,
            &["FAILS=1"],
            json!({ "started": false, "status": "exited", "health": null, "reason": "non-recoverable state: exited" }),
        ),
    ] {
        create(edge, name, image, environment);
        assert_eq!(call(edge, "start", &json!({ "name": name })), done());
        assert_eq!(wait_for_end(edge, name), (200, expected), "{name}");
        remove(edge, name);
    }
}

/// One that is to fail may still run when it is looked at first.
fn wait_for_end(edge: &Edge, name: &str) -> (u16, Value) {
    let deadline = Instant::now() + LONG;
    loop {
        let answer = call(edge, "wait_for_start", &json!({ "name": name }));
        if name != "fails" || answer.1["status"] != "running" || Instant::now() > deadline {
            return answer;
        }
    }
}

fn case_55_data_in_use(edge: &Edge, engine: &Engine) {
    create(edge, "data", PLAIN, &[]);
    let other = json!({ "Image": PLAIN, "HostConfig": { "NetworkMode": "none", "Binds": ["nc_app_data_data:/data"] } });
    let (status, made) = engine.ask("POST", "/containers/create?name=other", &other.to_string());
    assert_eq!(status, 201, "{made}");
    let text = "Volume 'nc_app_data_data' is in use and could not be removed.";
    assert_eq!(call(edge, "remove", &json!({ "name": "data", "remove_data": true })), (409, json!(text)));
    assert_eq!(engine.ask("DELETE", "/containers/other", "").0, 204);
    remove(edge, "data");
}

const BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n\n\
                      -----BEGIN CERTIFICATE-----\nQg==\n-----END CERTIFICATE-----\n";

fn case_57_certificates(edge: &Edge, engine: &Engine) {
    for (image, is_running) in [(DEBIAN, false), (DEBIAN, true), (PLAIN, false)] {
        create(edge, "certs", image, &[]);
        if is_running {
            assert_eq!(call(edge, "start", &json!({ "name": "certs" })), done());
        }
        let body = json!({ "name": "certs", "system_certs_bundle": BUNDLE, "install_frp_certs": false });
        assert_eq!(call(edge, "install_certificates", &body), done());
        let state = &engine.show("/containers/nc_app_certs/json")["State"];
        assert_eq!(state["Running"], is_running, "{image}");
        // A container without a system's list of authorities is not even started for it.
        assert_eq!(state["Status"] == "created", image == PLAIN);
        let file = |at: usize| format!("/usr/local/share/ca-certificates/custom_ca_cert_{at}.crt");
        let found = engine.file("nc_app_certs", &file(1));
        let expected = "-----BEGIN CERTIFICATE-----\nQg==\n-----END CERTIFICATE-----\n";
        assert_eq!(found.as_deref(), (image == DEBIAN).then_some(expected.as_bytes()));
        assert_eq!(engine.file("nc_app_certs", &file(2)), None);
        assert_eq!(engine.file("nc_app_certs", "/etc/updated").is_some(), image == DEBIAN);
        assert_eq!(engine.file("nc_app_certs", "/certs/frp/ca.crt"), None);
        remove(edge, "certs");
    }
}

fn case_56_images(edge: &Edge) {
    let remove_image = |image: &str| call(edge, "image_remove", &json!({ "image_ref": image }));
    create(edge, "image", CHECKED, &[]);
    assert_eq!(remove_image(CHECKED), (200, json!({ "deleted": false, "reason": "in_use" })));
    remove(edge, "image");
    let (status, removed) = remove_image(CHECKED);
    assert_eq!((status, &removed["deleted"]), (200, &json!(true)));
    assert!(removed["bytes_freed"].as_u64().is_some_and(|bytes| bytes > 100_000), "{removed}");
    let gone = json!({ "deleted": true, "bytes_freed": 0, "reason": "not_found" });
    assert_eq!(remove_image(CHECKED), (200, gone));
    assert_eq!(remove_image("").0, 400);
}

#[test]
fn case_58_an_engine_that_is_not_there_and_calls_that_are_none() {
    let nextcloud = nextcloud();
    let nowhere = std::env::temp_dir().join(format!("lyre-no-engine-{:08x}", fastrand::u32(..)));
    for driver in ["epoll", "io_uring"] {
        let edge = edge(&nextcloud, driver, &nowhere, &[]);
        let text = json!("Could not connect to Docker Engine on port 24000");
        let names = json!({ "name": "foo" });
        let verbs = ["exists", "start", "stop", "wait_for_start", "remove", "install_certificates"];
        for verb in verbs {
            assert_eq!(call(&edge, verb, &names), (503, text.clone()), "{verb}");
        }
        assert_eq!(call(&edge, "create", &json!({ "name": "foo", "image_id": PLAIN })), (503, text.clone()));
        assert_eq!(call(&edge, "image_remove", &json!({ "image_ref": PLAIN })), (503, text.clone()));
        assert_eq!(of(&raw(&edge, "GET", "v1.44/_ping")), (503, text));
        let post = |fields: &str, body: &str| {
            of(&send(&edge, "POST /exapps/app_api/docker/exapp/exists", fields, body).response("POST"))
        };
        assert_eq!(post("", r#"{"name":"foo"}"#), (400, json!("Missing 'docker-engine-port' header.")));
        let text = "Invalid 'docker-engine-port' header value: x";
        assert_eq!(post("docker-engine-port: x\r\n", "{}"), (400, json!(text)));
        assert_eq!(post(PORT, "{"), (400, json!("Invalid JSON body")));
        assert_eq!(post(PORT, "{}"), (400, json!("Payload validation error: name is missing")));
    }
}
