//! A whole deployment: an app in a container that opens its tunnel with a real frpc, and an engine behind a tunnel.

use super::engine::{EXAPP, Engine, LONG};
use super::{EXAPPS, call, call_at, done, remove, send};
use crate::edge::Edge;
use crate::origin::{Origin, ok};
use lyre::config::settings::docker::{Docker, FrpClient};
use lyre::config::settings::frp::{Frp, Tls};
use lyre::config::settings::{Certificate, ExApps, Secret};
use lyre::control::{clock, frp_files};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the images of ExApps have.
const FRPC: &str = "target/peers/frpc-0.61.1";

#[test]
fn an_app_that_appapi_deploys_is_reached_through_its_tunnel_and_so_is_an_engine() {
    let test = "an_app_that_appapi_deploys_is_reached_through_its_tunnel_and_so_is_an_engine";
    let frpc = Path::new(env!("CARGO_MANIFEST_DIR")).join(FRPC);
    if !frpc.exists() {
        println!("SKIPPED: {test}: {FRPC} is not built, it needs Go");
        return;
    }
    let Some(engine) = Engine::start(test) else { return };
    engine.make_exapp(&frpc);
    engine.enter();
    let files = engine.path("frp");
    frp_files::prepare(&files, 100, Duration::from_millis(clock::unix_ms())).unwrap();
    let nextcloud = Origin::answering(|request| match request.path() {
        "/index.php/apps/app_api/harp/exapp-meta?appId=tunnelled" => {
            ok(r#"{"exapp_token":"T","exapp_version":"1.0.0","host":"127.0.0.1","port":23001,
                "routes":[{"url":"^/public$","access_level":0}]}"#)
        }
        _ => b"HTTP/1.1 401 S\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start_with(&Origin::config(&[&nextcloud], EXAPPS), driver, 2, |settings| {
            equip(settings.exapps.as_mut().unwrap(), &engine, &files);
        });
        let port = edge.others[0].port();
        an_app(&edge, port);
        an_engine(&edge, &engine, &files, &frpc, port);
    }
}

fn equip(exapps: &mut ExApps, engine: &Engine, files: &Path) {
    let read = |name: &str| std::fs::read(files.join(name)).unwrap();
    let client = FrpClient {
        ca: Secret(read("ca.crt").into()),
        certificate: Secret(read("client.crt").into()),
        key: Secret(read("client.key").into()),
    };
    let (socket, frp_client) = (engine.socket().as_path().into(), Some(client));
    exapps.docker = Some(Docker { socket, mounts: Vec::new(), devices: true, host_network: true, frp_client });
    let certificate = Certificate {
        cert_path: files.join("server.crt"),
        key_path: files.join("server.key"),
        chain_pem: read("server.crt").into(),
        key_pem: read("server.key").into(),
    };
    let tls = Tls { certificate, client_ca: Some(read("ca.crt").into()) };
    exapps.frp = Some(Frp { listen: "127.0.0.2:0".parse().unwrap(), tls: Some(tls) });
}

fn an_app(edge: &Edge, port: u16) {
    let name = json!({ "name": "tunnelled" });
    let environment = [
        "APP_ID=tunnelled",
        "APP_PORT=23001",
        "HP_SHARED_KEY=K",
        "HP_FRP_ADDRESS=127.0.0.2",
        &format!("HP_FRP_PORT={port}"),
    ];
    let body = json!({
        "name": "tunnelled", "image_id": EXAPP, "network_mode": "host", "environment_variables": environment,
    });
    assert_eq!(call(edge, "create", &body).0, 201);
    let certificates = json!({ "name": "tunnelled", "system_certs_bundle": null, "install_frp_certs": true });
    assert_eq!(call(edge, "install_certificates", &certificates), done());
    assert_eq!(call(edge, "start", &name), done());
    assert_eq!(call(edge, "wait_for_start", &name).1["started"], true);
    let deadline = Instant::now() + LONG;
    loop {
        let mut client = edge.connect();
        client.stream.set_read_timeout(Some(LONG)).unwrap();
        client.send("GET /exapps/tunnelled/public HTTP/1.1\r\nHost: cloud.test\r\n\r\n");
        let response = client.response("GET");
        if response.status == 200 {
            assert_eq!(response.body, b"hello\n");
            break;
        }
        assert!(Instant::now() < deadline, "{}", response.text());
    }
    assert_eq!(call(edge, "stop", &name), done());
    remove(edge, "tunnelled");
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With the files that the host of an engine is given.
fn an_engine(edge: &Edge, engine: &Engine, files: &Path, frpc: &Path, port: u16) {
    let host: PathBuf = engine.path("host");
    let cert = Command::new(env!("CARGO_BIN_EXE_lyre"))
        .args(["exapp", "cert", "--engine", "24001", "--server", &format!("127.0.0.2:{port}"), "--out"])
        .args([&host, files])
        .output()
        .unwrap();
    assert!(cert.status.success(), "{}", String::from_utf8_lossy(&cert.stderr));
    let config = host.join("frpc.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("/var/run/docker.sock", engine.socket().to_str().unwrap());
    std::fs::write(&config, text).unwrap();
    let at = "docker-engine-port: 24001\r\n";
    let ping = || send(edge, "GET /exapps/app_api/v1.44/_ping", at, "").response("GET").status;
    assert_eq!(ping(), 503);
    let frpc = Command::new(frpc)
        .args(["-c", "frpc.toml"])
        .current_dir(&host)
        .env("HP_SHARED_KEY", "K")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _frpc = Process(frpc);
    let deadline = Instant::now() + LONG;
    while ping() != 200 {
        assert!(Instant::now() < deadline, "no engine behind the tunnel");
        std::thread::sleep(Duration::from_millis(50));
    }
    let name = json!({ "name": "far" });
    assert_eq!(call_at(edge, at, "exists", &name), (200, json!({ "exists": false })));
    let body = json!({ "name": "far", "image_id": EXAPP, "network_mode": "none" });
    assert_eq!(call_at(edge, at, "create", &body).0, 201);
    // It is the same one.
    assert_eq!(call(edge, "exists", &name).1["exists"], true);
    assert_eq!(call_at(edge, at, "remove", &json!({ "name": "far", "remove_data": true })), done());
}
