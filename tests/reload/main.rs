//! What may change under a running node, and what its clients notice of it: nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, unreachable_pub)]

#[path = "../smuggling/backend.rs"]
#[allow(dead_code)]
mod backend;
#[path = "../smuggling/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../supervisor/node.rs"]
#[allow(dead_code)]
mod node;

use backend::Backend;
use client::Client;
use node::{Node, Start, eventually};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Edit = (&'static str, &'static str);
const HTTPS: Edit = ("kind = \"http\"", "kind = \"https\"");
const ANY_HOST: Edit = ("hosts = [\"cloud.example.com\"]", "hosts = [\"*\"]");
/// Several nodes share this machine; what hangs here is another suite's business.
const PATIENT: Edit = ("hang_timeout = \"300ms\"", "hang_timeout = \"15s\"");
const ONE_CORE: Edit = ("cores = 2", "cores = 1");

/// As many as `LYRE_RELOADS` says, or a thousand, which take seconds.
fn reloads() -> u64 {
    std::env::var("LYRE_RELOADS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

/// Ends the clients also when a test fails; it would wait for them for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn reloads_under_load_fail_no_request_and_close_no_connection() {
    let backend = Backend::start();
    let extra = "[log]\naccess = \"off\"\n[limits]\nmax_keepalive_requests = 100000000\n";
    let edits = [ANY_HOST, PATIENT];
    let node = Node::start(Start { server: Some(backend.address), edits: &edits, extra, ..Start::default() });
    let worker = node.worker();
    let first = node.config();
    // Another route, another pool, other limits and other times.
    let other = format!("{first}\n[[pool]]\nname = \"more\"\nservers = [\"{}\"]\n", backend.address)
        + "[[route]]\nhosts = [\"*\"]\npath = \"/more\"\npool = \"more\"\n";
    let other = other
        .replace("drain = \"5s\"", "drain = \"6s\"\nkeepalive = \"50s\"")
        .replace("[limits]", "[limits]\nmax_body = \"9GiB\"");
    let (is_over, served, reloaded) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&is_over);
        // One upload lasts from before the first reload to after the last: a piece for each.
        let upload = scope.spawn(|| {
            const PIECE_BYTES: u64 = 4096;
            let mut client = Client::connect(node.port());
            let length = (reloads() + 1) * PIECE_BYTES;
            client.send(format!("PUT /long HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            for number in 0..=reloads() {
                while reloaded.load(Ordering::Relaxed) < number && !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                client.send(&[b'x'; PIECE_BYTES as usize]);
            }
            let answers = client.until_final("PUT").expect("an answer");
            let arrivals = backend.arrivals(client.address);
            (answers.last().map(|answer| answer.status), arrivals.last().map(|last| last.body.len() as u64), length)
        });
        for number in 0..4 {
            let (is_over, served, port) = (&is_over, &served, node.port());
            scope.spawn(move || {
                let path = if number % 2 == 0 { "/x" } else { "/more/x" };
                // Two keep one connection for the whole time, two make one for each request.
                let mut client = Client::connect(port);
                let close = if number < 2 { "" } else { "Connection: close\r\n" };
                while !is_over.load(Ordering::Relaxed) {
                    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes());
                    let answers = client.until_final("GET").expect("an answer");
                    let answer = answers.last().expect("an answer");
                    assert_eq!((answer.status, answer.is_complete), (200, true), "{answer:?}");
                    assert_eq!(answer.field("connection"), (number >= 2).then_some("close"));
                    served.fetch_add(1, Ordering::Relaxed);
                    if number >= 2 {
                        client = Client::connect(port);
                    }
                }
            });
        }
        for number in 0..reloads() {
            // The configuration changes only when requests have been served with the last one.
            let before = served.load(Ordering::Relaxed);
            node.write_config(if number % 2 == 0 { &other } else { &first });
            let (code, body) = node.post("/v1/reload");
            assert_eq!(code, 200, "{body}");
            eventually("requests are served", || {
                served.load(Ordering::Relaxed) > before + 4 || is_over.load(Ordering::Relaxed)
            });
            backend.forget();
            reloaded.fetch_add(1, Ordering::Relaxed);
        }
        let (status, arrived, length) = upload.join().unwrap();
        assert_eq!((status, arrived), (Some(200), Some(length)));
    });
    let status = node.status();
    assert_eq!((status.config.reloads, status.config.failed_reloads), (reloads(), 0));
    assert_eq!((status.worker.starts, node.worker()), (1, worker));
    assert_eq!(status.detail["failures"], serde_json::json!({}));
}

/// When a worker was killed, and when it was seen to be gone.
type Death = (Instant, Instant);

/// What happened to one client: how many answers it got, and when each connection that broke had begun and ended.
#[derive(Default)]
struct Fate {
    served: u64,
    broken: Vec<(Instant, Instant)>,
}

/// Asks without a pause, on a kept connection or on one for each request. Being refused is a panic.
fn ask_on(port: u16, is_kept: bool, is_over: &AtomicBool, served: &AtomicU64) -> Fate {
    let mut fate = Fate::default();
    let close = if is_kept { "" } else { "Connection: close\r\n" };
    let mut kept: Option<(Client, Instant)> = None;
    while !is_over.load(Ordering::Relaxed) {
        let (mut client, since) = kept.take().unwrap_or_else(|| {
            let since = Instant::now();
            (Client::connect(port), since)
        });
        client.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{close}\r\n").as_bytes());
        match client.until_final("GET").map(|mut answers| answers.pop()) {
            Ok(Some(answer)) if answer.is_complete => {
                assert_eq!(answer.status, 200, "{answer:?}");
                fate.served += 1;
                served.fetch_add(1, Ordering::Relaxed);
                kept = is_kept.then_some((client, since));
            }
            Ok(_) => fate.broken.push((since, Instant::now())),
            Err(error) if error.starts_with("half a head") => fate.broken.push((since, Instant::now())),
            // Silence for longer than anybody should wait.
            Err(error) => panic!("{error}"),
        }
    }
    fate
}

#[test]
fn a_worker_killed_under_load_refuses_nobody_and_breaks_only_what_it_had() {
    let backend = Backend::start();
    let extra = "[log]\naccess = \"off\"\n[limits]\nmax_keepalive_requests = 100000000\n";
    let edits = [ANY_HOST, PATIENT];
    let node = Node::start(Start { server: Some(backend.address), edits: &edits, extra, ..Start::default() });
    let (is_over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let more_are_served = || {
        let before = served.load(Ordering::Relaxed);
        eventually("requests are served", || served.load(Ordering::Relaxed) > before + 40);
        backend.forget();
    };
    let (fates, deaths) = std::thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (is_over, served, port) = (&is_over, &served, node.port());
                scope.spawn(move || ask_on(port, number < 2, is_over, served))
            })
            .collect();
        let mut deaths: Vec<Death> = Vec::new();
        for _ in 0..3 {
            more_are_served();
            let worker = node.worker();
            let killed = Instant::now();
            nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
            eventually("it is gone", || !node::alive(worker));
            deaths.push((killed, Instant::now()));
            more_are_served();
        }
        drop(end);
        (clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<Fate>>(), deaths)
    });
    for fate in &fates {
        assert!(fate.served > 0);
        // One connection at a time: at most one for each death.
        assert!(fate.broken.len() <= deaths.len(), "{:?}", fate.broken);
        for (since, until) in &fate.broken {
            let is_its = |(killed, gone): &Death| since <= gone && until >= killed;
            assert!(deaths.iter().any(is_its), "{since:?} to {until:?}, deaths {deaths:?}");
        }
    }
    let status = node.status();
    assert_eq!((status.worker.crashes, status.worker.hangs), (deaths.len() as u64, 0));
}

#[test]
fn check_diff_says_what_a_reload_would_change() {
    let node = Node::start(Start { server: Some(node::web_server()), ..Start::default() });
    let diff = || {
        let config = node.socket().parent().unwrap().parent().unwrap().join("lyre.toml");
        let output =
            Command::new(env!("CARGO_BIN_EXE_lyre")).args(["check", "--diff", "--config"]).arg(config).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(diff(), (Some(0), "nothing would change\n".to_owned()));
    let first = node.config();
    node.write_config(&first.replace("drain = \"5s\"", "drain = \"7s\""));
    assert_eq!(diff(), (Some(0), "~ timeouts.drain: 5s -> 7s\n".to_owned()));
    node.write_config(&first.replace("cores = 2", "cores = 3"));
    let (code, text) = diff();
    assert_eq!((code, text.contains("~ worker.cores: 2 -> 3  needs a restart")), (Some(1), true), "{text}");
    node.write_config(&first.replace("cores", "coers"));
    let (code, text) = diff();
    assert_eq!((code, text.contains("coers")), (Some(1), true), "{text}");
}

/// A certificate and its key in a directory of their own.
struct Tls(PathBuf);

impl Tls {
    fn new() -> Tls {
        let directory =
            std::env::temp_dir().join(format!("lyre-reload-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir(&directory).unwrap();
        let tls = Tls(directory);
        tls.renew();
        tls
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A new one in place of the old, as renewals do it: file by file. Answers its base64 lines.
    fn renew(&self) -> String {
        let made = rcgen::generate_simple_self_signed(["cloud.example.com".to_owned()]).unwrap();
        self.replace("key", &made.signing_key.serialize_pem());
        self.replace("cert", &made.cert.pem());
        made.cert.pem().replace("\r\n", "\n")
    }

    fn replace(&self, name: &str, content: &str) {
        std::fs::write(self.path("new"), content).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn config(&self) -> String {
        let (cert, key) = (self.path("cert"), self.path("key"));
        format!("[tls]\ncertificates = [{{ cert = \"{}\", key = \"{}\" }}]\n", cert.display(), key.display())
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What `openssl s_client` prints about a connection.
fn openssl(port: u16, arguments: &[&str]) -> String {
    let address = format!("127.0.0.1:{port}");
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-servername", "cloud.example.com", "-ign_eof"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The answer ends the connection; by then every ticket has come.
    let request = b"GET / HTTP/1.1\r\nHost: cloud.example.com\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), request).unwrap();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn a_renewed_certificate_is_served_without_any_order() {
    let tls = Tls::new();
    let first = tls.renew();
    let extra = tls.config();
    let node = Node::start(Start {
        server: Some(node::web_server()),
        extra: &extra,
        edits: &[HTTPS, PATIENT, ONE_CORE],
        ..Start::default()
    });
    let worker = node.worker();
    assert!(openssl(node.port(), &[]).contains(&first), "the first one is not served");
    // What else is on disk is none of a renewal's business.
    let config = node.config();
    node.write_config("not even TOML");
    let second = tls.renew();
    eventually("the second one is served", || openssl(node.port(), &[]).contains(&second));
    assert_eq!((node.status().config.reloads, node.worker()), (1, worker));
    // A certificate without its key changes nothing, and is said once.
    tls.replace("cert", &first);
    eventually("the mismatch is seen", || node.status().config.failed_reloads == 1);
    assert!(openssl(node.port(), &[]).contains(&second));
    let third = tls.renew();
    eventually("the third one is served", || openssl(node.port(), &[]).contains(&third));
    node.write_config(&config);
    let status = node.status();
    let [certificate] = status.certificates.as_slice() else { panic!("{:?}", status.certificates) };
    assert_eq!(certificate.path, tls.path("cert"));
    assert!(certificate.expires_in.is_some_and(|seconds| seconds > 0) && certificate.not_after > Some(1_700_000_000));
    let line = format!(
        "lyre_tls_certificate_not_after_seconds{{certificate=\"{}\"}} {}\n",
        certificate.path.display(),
        certificate.not_after.unwrap()
    );
    assert!(node.get("/metrics").1.contains(&line));
}

fn pair_member(tls: &Tls, secret: &Path) -> Node {
    let nodes = "nodes = [{ name = \"a\", address = \"127.0.0.1\" }, { name = \"b\", address = \"192.0.2.254\" }]";
    let port = node::free_port();
    let cluster = format!("[cluster]\n{nodes}\nlink_port = {port}\nsecret_file = \"{}\"\n", secret.display());
    let extra = tls.config() + &cluster;
    Node::start(Start {
        server: Some(node::web_server()),
        extra: &extra,
        edits: &[HTTPS, PATIENT, ONE_CORE],
        ..Start::default()
    })
}

#[test]
fn a_session_of_one_node_resumes_on_the_other_and_across_a_restart() {
    let tls = Tls::new();
    for (name, secret) in [("ours", "0123456789abcdef0123456789abcdef"), ("theirs", "fedcba9876543210fedcba9876543210")]
    {
        tls.replace(name, secret);
    }
    let (one, two) = (pair_member(&tls, &tls.path("ours")), pair_member(&tls, &tls.path("ours")));
    let stranger = pair_member(&tls, &tls.path("theirs"));
    let store = tls.path("session");
    let store = store.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let printed = openssl(one.port(), &[version, "-sess_out", store]);
        assert!(printed.contains("\nNew, TLSv1."), "{version}: {printed}");
        for (node, kind) in [(&two, "Reused"), (&one, "Reused"), (&stranger, "New")] {
            let printed = openssl(node.port(), &[version, "-sess_in", store]);
            assert!(printed.contains(&format!("\n{kind}, TLSv1.")), "{version} {kind}: {printed}");
        }
        let worker = two.worker();
        nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("another worker", || {
            let status = two.try_status();
            status.is_some_and(|status| {
                status.worker.pid.is_some_and(|pid| pid != worker.as_raw())
                    && status.worker.state == lyre::control::status::WorkerState::Ready
            })
        });
        let printed = openssl(two.port(), &[version, "-sess_in", store]);
        assert!(printed.contains("\nReused, TLSv1."), "{version} after a restart: {printed}");
    }
}

#[test]
fn the_offered_protocols_and_suites_are_mozillas_intermediate_ones() {
    if Command::new("sslscan").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: the_offered_protocols_and_suites_are_mozillas_intermediate_ones: needs sslscan");
        return;
    }
    let tls = Tls::new();
    let extra = tls.config();
    let node = Node::start(Start {
        server: Some(node::web_server()),
        extra: &extra,
        edits: &[HTTPS, PATIENT, ONE_CORE],
        ..Start::default()
    });
    let address = format!("127.0.0.1:{}", node.port());
    let output =
        Command::new("sslscan").args(["--no-colour", "--sni-name=cloud.example.com", &address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let state = |protocol: &str| {
        let line = text.lines().find(|line| line.starts_with(protocol) && line.ends_with("abled"));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or("?").to_owned()
    };
    let states = ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"].map(state);
    assert_eq!(states.join(" "), "disabled disabled disabled disabled enabled enabled", "{text}");
    let suites: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted"))
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    // https://wiki.mozilla.org/Security/Server_Side_TLS, without the finite-field ones, which no client needs.
    const INTERMEDIATE: [&str; 9] = [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ];
    assert!(suites.len() >= 6 && suites.iter().all(|suite| INTERMEDIATE.contains(suite)), "{suites:?}\n{text}");
    assert!(text.contains("Session renegotiation not supported"), "{text}");
}
