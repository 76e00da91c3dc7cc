//! A real Chromium in front of the worker, in a network of its own without a way out: a page whose script fetches,
//! uploads and talks over a WebSocket, and reports what it saw. Skipped, saying so, without Chromium or without root.

use crate::edge::{Edge, PATIENCE};
use crate::origin::{Origin, Peer, Request, ok};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use lyre::config::settings::{Certificate, ListenerKind};
use nix::sched::{CloneFlags, unshare};
use rcgen::PublicKeyData as _;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket, handshake::derive_accept_key, protocol::Role};

const CHROMIUM: &str = "/usr/bin/chromium";
const PAGE: &str = include_str!("browser.html");
/// For a browser on a machine that has much else to do.
const LONG_PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn chromium_uploads_and_talks_over_one_http2_connection() {
    in_a_network_of_its_own("chromium_uploads_and_talks_over_one_http2_connection", || {
        for driver in ["epoll", "io_uring"] {
            visit(driver, true);
        }
    });
}

#[test]
fn chromium_uploads_and_talks_over_http1_1_where_http2_is_off() {
    in_a_network_of_its_own("chromium_uploads_and_talks_over_http1_1_where_http2_is_off", || {
        for driver in ["epoll", "io_uring"] {
            visit(driver, false);
        }
    });
}

/// One browser, one page; all that it and we saw is as it should be.
fn visit(driver: &'static str, http2: bool) {
    let site = Site::start();
    let scratch = Scratch::new();
    let log = scratch.0.join("access.log");
    let (certificate, public_key_digest) = certificate();
    let config =
        Origin::config(&[&site.origin], "") + &format!("[log]\nformat = \"json\"\naccess = \"{}\"\n", log.display());
    let edge = Edge::start_with(&config, driver, 1, |settings| {
        settings.certificates = vec![certificate];
        settings.listeners[0].kind = ListenerKind::Https;
        settings.http2 = http2;
    });
    let host = format!("cloud.test:{}", edge.address.port());
    let mut browser = Browser::open(&scratch, &public_key_digest, &format!("https://{host}/"));
    let report = browser.wait(&site);

    let complaint = format!("{driver}: {report}");
    assert_eq!(report["error"], Value::Null, "{complaint}");
    let many: Vec<String> = (0..40).map(|number| format!("/many/{number}")).collect();
    assert_eq!(report["many"], Value::from(many), "{complaint}");
    let (upload, sha256) = (&report["upload"], report["sha256"].as_str().unwrap());
    assert_eq!((&upload["status"], &upload["progress"]), (&200.into(), &(64 << 20).into()), "{complaint}");
    assert_eq!(upload["answer"], format!("{} {sha256}", 64 << 20), "{complaint}");
    assert_eq!(report["download"], sha256, "{complaint}");
    let socket = &report["socket"];
    assert_eq!(socket["seen"], Value::from(vec!["hello \u{1d11e}".into(), report["messageSha256"].clone()]));
    assert_eq!((&socket["code"], &socket["reason"]), (&1000.into(), &"enough".into()), "{complaint}");
    assert_eq!((&socket["wasClean"], &report["after"]), (&true.into(), &"/many/after".into()), "{complaint}");
    let talked = site.origin.requests().into_iter().find(|request| request.path() == "/echo").unwrap();
    assert_eq!(talked.line(), "GET /echo HTTP/1.1");
    assert_eq!(talked.field("origin"), Some(&*format!("https://{host}")));
    assert_eq!(talked.field("host"), Some(&*host));

    // What it was spoken over: as the browser says, and as our log says of each request, the WebSocket among them.
    let (its, ours) = if http2 { ("h2", "2.0") } else { ("http/1.1", "1.1") };
    let protocols = report["protocols"].as_array().unwrap();
    assert!(!protocols.is_empty() && protocols.iter().all(|protocol| protocol == its), "{complaint}");
    edge.wait("the WebSocket and the report are in the log", |_| {
        let paths: Vec<Value> = lines(&log).into_iter().map(|line| line["url.path"].clone()).collect();
        paths.contains(&"/echo".into()) && paths.contains(&"/report".into())
    });
    for line in lines(&log) {
        assert_eq!(line["network.protocol.version"], ours, "{line}");
        // Over HTTP/1.1 Chromium leaves a WebSocket without TLS's goodbye, which may be called broken.
        assert!(line["lyre.end"] == "ok" || (line["url.path"] == "/echo" && !http2), "{line}");
    }
    assert_eq!(edge.metric("lyre_h2_connections_total") > 0, http2);
    drop(browser);
    edge.wait("its connections are gone", |edge| edge.metric("lyre_frontend_connections{") == 0);
    assert_eq!(edge.metric("lyre_frontend_requests_in_flight") + edge.metric("lyre_frontend_tunnels"), 0);
}

fn lines(log: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    // The last line may be half written yet.
    text.split_inclusive('\n').filter_map(|line| serde_json::from_str(line.strip_suffix('\n')?).ok()).collect()
}

/// A certificate, and the digest of its key by which Chromium is told to trust it.
fn certificate() -> (Certificate, String) {
    let made = rcgen::generate_simple_self_signed(["cloud.test".to_owned()]).unwrap();
    let public_key = digest(&SHA256, &made.signing_key.subject_public_key_info());
    let certificate = Certificate {
        cert_path: "cloud.pem".into(),
        key_path: "cloud.key".into(),
        chain_pem: made.cert.pem().into_bytes().into(),
        key_pem: made.signing_key.serialize_pem().into_bytes().into(),
    };
    (certificate, base64::engine::general_purpose::STANDARD.encode(public_key))
}

/// Runs `test` where loopback is all there is: the worker, the origin and the browser, but no other test.
#[allow(clippy::print_stderr)] // the suite counts such lines
fn in_a_network_of_its_own(name: &str, test: impl FnOnce() + Send) {
    let missing = if !std::path::Path::new(CHROMIUM).exists() {
        "needs Chromium"
    } else if !nix::unistd::Uid::effective().is_root() {
        "needs root for a network of its own"
    } else {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            test();
        };
        // The test's own thread may be one that others run on later.
        if let Err(panic) = std::thread::scope(|scope| scope.spawn(run).join()) {
            std::panic::resume_unwind(panic);
        }
        return;
    };
    eprintln!("SKIPPED: {name}: {missing}");
}

/// Serves the page and what it asks for, and keeps what it reports.
struct Site {
    origin: Origin,
    report: Arc<Mutex<Option<Value>>>,
}

impl Site {
    fn start() -> Site {
        let report = Arc::new(Mutex::new(None));
        let (reported, uploaded) = (report.clone(), Mutex::new(Vec::new()));
        let origin = Origin::start(move |mut peer| {
            while let Some(request) = peer.head() {
                let answer = match request.path() {
                    "/echo" => return echo(peer, &request),
                    "/upload" if request.line().starts_with("PUT ") => {
                        let Some(body) = body(&mut peer, &request) else { return };
                        let sha256: String =
                            digest(&SHA256, &body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                        let answer = ok(format!("{} {sha256}", body.len()));
                        *uploaded.lock().unwrap() = body;
                        answer
                    }
                    "/upload" => ok(&*uploaded.lock().unwrap()),
                    "/report" => {
                        let Some(body) = body(&mut peer, &request) else { return };
                        *reported.lock().unwrap() = Some(serde_json::from_slice(&body).unwrap());
                        ok("")
                    }
                    "/" => {
                        let length = PAGE.len();
                        format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n{PAGE}")
                            .into_bytes()
                    }
                    path => ok(path),
                };
                peer.send(answer);
            }
        });
        Site { origin, report }
    }
}

fn body(peer: &mut Peer, request: &Request) -> Option<Vec<u8>> {
    peer.exactly(request.field("content-length")?.parse().ok()?)
}

/// Sends back each message until the client closes.
fn echo(mut peer: Peer, request: &Request) {
    let accept = derive_accept_key(request.field("sec-websocket-key").unwrap().as_bytes());
    peer.send(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    let mut socket = WebSocket::from_raw_socket(peer.stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).is_err() {
            return;
        }
    }
}

/// A directory that is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!("lyre-browser-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The browser's processes are killed, but the last of them may still be at a file.
        let deadline = Instant::now() + PATIENCE;
        while self.0.exists() && std::fs::remove_dir_all(&self.0).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// All processes of one Chromium, in a process namespace that ends with this.
struct Browser {
    process: Child,
    complaints: PathBuf,
}

impl Browser {
    fn open(scratch: &Scratch, public_key_digest: &str, url: &str) -> Browser {
        let complaints = scratch.0.join("stderr");
        let process = Command::new("unshare")
            .args(["--pid", "--mount-proc", "--fork", "--kill-child", CHROMIUM])
            // As root it has no sandbox; a container's /dev/shm can be too small for it.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-extensions", "--host-resolver-rules=MAP cloud.test 127.0.0.1, MAP * ~NOTFOUND"])
            .arg(format!("--ignore-certificate-errors-spki-list={public_key_digest}"))
            .arg(format!("--user-data-dir={}", scratch.0.join("profile").display()))
            .arg(url)
            .env("HOME", &scratch.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&complaints).unwrap())
            .spawn()
            .unwrap();
        Browser { process, complaints }
    }

    fn wait(&mut self, site: &Site) -> Value {
        let deadline = Instant::now() + LONG_PATIENCE;
        loop {
            if let Some(report) = site.report.lock().unwrap().take() {
                return report;
            }
            let ended = self.process.try_wait().unwrap();
            let complaints = || std::fs::read_to_string(&self.complaints).unwrap_or_default();
            assert!(ended.is_none(), "Chromium ended by itself, {ended:?}: {}", complaints());
            assert!(Instant::now() < deadline, "no report; {:#?}, {}", site.origin.requests(), complaints());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
