//! The parent process as its operator meets it: crashes, hangs, signals, reloads, privileges.
//!
//! This binary is its own subject: `supervisor run FILE` is a parent and `supervisor worker …` a stand-in for the real
//! worker that misbehaves on request (`# stub: …` in the configuration), so that most here is about supervision only.
//! The last tests supervise the real one.

// Clippy knows tests by #[test], which a binary without libtest does not have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub)]

mod supervisor {
    pub mod harness;
    pub mod node;
    pub mod stub;
}

use lyre::control::status::{Answer, NodeState, WorkerState};
use nix::sys::signal::Signal;
use std::io::Write;
use std::time::{Duration, Instant};
use supervisor::harness::{self, Outcome, Test, skip};
use supervisor::node::{Node, Start, alive, eventually, is_root, web_server};

const TESTS: &[Test] = &[
    ("a_worker_has_nothing_but_its_sockets", a_worker_has_nothing_but_its_sockets),
    ("a_killed_worker_is_replaced_and_no_connection_is_refused", a_killed_worker_is_replaced),
    ("a_hung_worker_is_replaced_within_the_timeout", a_hung_worker_is_replaced),
    ("a_worker_that_keeps_dying_is_started_ever_more_slowly", a_dying_worker_backs_off),
    ("a_worker_that_talks_nonsense_is_replaced", a_worker_that_talks_nonsense_is_replaced),
    ("the_worker_dies_with_its_parent", the_worker_dies_with_its_parent),
    ("told_to_stop_it_finishes_open_work_and_leaves_nothing", told_to_stop_it_finishes),
    ("told_twice_it_ends_at_once", told_twice_it_ends_at_once),
    ("an_invalid_configuration_changes_nothing", an_invalid_configuration_changes_nothing),
    ("a_reload_moves_the_listeners", a_reload_moves_the_listeners),
    ("a_reload_that_the_worker_refuses_changes_nothing", a_refused_reload_changes_nothing),
    ("orders_without_virtual_routers_say_so", orders_without_virtual_routers_say_so),
    ("a_second_lyre_on_the_same_socket_is_refused", a_second_lyre_is_refused),
    ("a_port_in_use_is_named", a_port_in_use_is_named),
    ("an_ordinary_user_can_serve_high_ports", an_ordinary_user_can_serve_high_ports),
    ("missing_capabilities_are_named", missing_capabilities_are_named),
    ("file_capabilities_are_enough_and_end_at_the_worker", file_capabilities_are_enough),
    ("it_works_in_a_user_namespace", it_works_in_a_user_namespace),
    ("a_service_manager_is_told", a_service_manager_is_told),
    ("the_real_worker_survives_a_crash_and_a_hang", the_real_worker_survives),
    ("the_real_worker_finishes_requests_and_stops", the_real_worker_finishes_requests),
    ("the_real_worker_needs_no_privilege", the_real_worker_needs_no_privilege),
    ("the_real_worker_can_write_to_its_spool", the_real_worker_can_write_to_its_spool),
    ("the_real_worker_may_use_the_container_engine", the_real_worker_may_use_the_container_engine),
    ("the_real_worker_takes_a_reload", the_real_worker_takes_a_reload),
    ("bans_outlive_the_worker_that_made_them", bans_outlive_the_worker),
];

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "worker" => supervisor::stub::worker(rest),
        Some((command, rest)) if command == "run" => supervisor::node::parent(rest),
        _ => harness::main(TESTS),
    }
}

fn a_worker_has_nothing_but_its_sockets() -> Outcome {
    let node = Node::start(Start::default());
    let status = node.status();
    assert_eq!((status.state, status.worker.state), (NodeState::Serving, WorkerState::Ready));
    assert_eq!((status.worker.starts, status.cores.len(), status.listeners.len()), (1, 2, 1));
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    let seen = &status.detail;
    // Standard streams, the channel, /proc itself; the page's and the listeners' come by message and are taken off.
    assert_eq!(seen["descriptors_at_entry"], serde_json::json!([0, 1, 2, 3]));
    // Only where locked memory is scarce and root: CAP_IPC_LOCK.
    let is_scarce = seen["memory_lock"].as_u64() < Some(512 << 20) && is_root();
    assert_eq!(seen["capabilities"], if is_scarce { "0000000000004000" } else { "0000000000000000" });
    assert_eq!(seen["bounding"].as_str().map(|set| set == "0000000000000000"), Some(is_root()));
    assert_eq!(seen["no_new_privileges"], "1");
    assert_eq!(seen["death_signal"], 9);
    assert_eq!(seen["secret_in_environment"], false);
    if is_root() {
        assert_eq!(seen["uid"], lyre_uid());
        assert_eq!(seen["groups"], serde_json::json!([lyre_gid()]));
    }
    assert_eq!(seen["may_write_files"], false);
    assert_eq!(seen["may_execute"], false);
    let metrics = node.get("/metrics").1;
    assert!(metrics.contains("\nlyre_worker_up 1\n") && metrics.contains("\nlyre_stub 1\n"), "{metrics}");
    Outcome::Passed
}

fn a_killed_worker_is_replaced() -> Outcome {
    let node = Node::start(Start::default());
    let first = node.worker();
    let mut pids = std::collections::BTreeSet::new();
    nix::sys::signal::kill(first, Signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        // Refusal is an error here and fails the test; a connection that was taken by the dead one may break.
        pids.extend(node.ask());
    }
    assert!(pids.iter().any(|pid| *pid != first.as_raw()), "nobody answers");
    let status = node.status();
    assert_eq!((status.worker.starts, status.worker.crashes, status.worker.hangs), (2, 1, 0));
    assert_eq!(status.worker.last_exit.as_deref(), Some("killed by SIGKILL"));
    Outcome::Passed
}

fn a_hung_worker_is_replaced() -> Outcome {
    let node = Node::start(Start::default());
    let first = node.worker();
    nix::sys::signal::kill(first, Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    eventually("a connection is answered again", || node.ask().is_some_and(|pid| pid != first.as_raw()));
    let gap = stopped.elapsed();
    assert!(gap < Duration::from_millis(300 + 500), "took {gap:?} with a timeout of 300 ms");
    let status = node.status();
    assert_eq!((status.worker.crashes, status.worker.hangs), (1, 1));
    assert!(status.worker.last_exit.unwrap().starts_with("hung: core 0 "));
    Outcome::Passed
}

fn a_dying_worker_backs_off() -> Outcome {
    let launched = Instant::now();
    let node = Node::launch(Start { stub: "die", ..Start::default() });
    eventually("five starts", || node.try_status().is_some_and(|status| status.worker.starts >= 5));
    // 0 + 100 + 200 + 400 ms between them.
    assert!(launched.elapsed() >= Duration::from_millis(700), "no waits between the starts");
    let status = node.status();
    assert_eq!(status.worker.last_exit.as_deref(), Some("exited with status 7"));
    assert_eq!(status.state, NodeState::Starting);
    Outcome::Passed
}

fn a_worker_that_talks_nonsense_is_replaced() -> Outcome {
    let node = Node::launch(Start { stub: "nonsense", ..Start::default() });
    eventually("the second start", || node.try_status().is_some_and(|status| status.worker.starts >= 2));
    let exit = node.status().worker.last_exit.unwrap();
    assert!(exit.starts_with("broke the protocol: "), "{exit}");
    Outcome::Passed
}

fn the_worker_dies_with_its_parent() -> Outcome {
    let mut node = Node::start(Start::default());
    let worker = node.worker();
    node.kill_parent();
    eventually("the worker is gone", || !alive(worker));
    Outcome::Passed
}

fn told_to_stop_it_finishes() -> Outcome {
    let mut node = Node::start(Start::default());
    let slow = node.open("GET /slow HTTP/1.1\r\n\r\n");
    node.signal(Signal::SIGTERM);
    let answer = supervisor::node::read_all(slow);
    assert!(answer.is_ok_and(|text| text.ends_with("slow done")), "the open request was cut");
    assert_eq!(node.wait().code(), Some(0));
    assert!(!node.socket().exists(), "the admin socket is left behind");
    Outcome::Passed
}

fn told_twice_it_ends_at_once() -> Outcome {
    let mut node = Node::start(Start { stub: "never-stop", ..Start::default() });
    let worker = node.worker();
    node.signal(Signal::SIGTERM);
    eventually("it is stopping", || node.try_status().is_some_and(|status| status.state == NodeState::Stopping));
    let second = Instant::now();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.wait().code(), Some(1));
    assert!(second.elapsed() < Duration::from_secs(2));
    eventually("the worker is gone", || !alive(worker));
    Outcome::Passed
}

fn an_invalid_configuration_changes_nothing() -> Outcome {
    let node = Node::start(Start::default());
    let worker = node.worker();
    node.write_config(&node.config().replace("[worker]", "[wroker]"));
    let (code, body) = node.post("/v1/reload");
    let answer: Answer = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 422);
    assert!(answer.errors.iter().any(|error| error.contains("wroker") && error.contains("lyre.toml:")), "{answer:?}");
    node.signal(Signal::SIGHUP);
    eventually("the second failure is counted", || node.status().config.failed_reloads == 2);
    let status = node.status();
    assert_eq!((status.config.reloads, status.state), (0, NodeState::Serving));
    assert!(status.config.last_error.is_some_and(|error| error.contains("wroker")));
    assert_eq!(node.ask(), Some(worker.as_raw()));
    Outcome::Passed
}

fn a_reload_moves_the_listeners() -> Outcome {
    let node = Node::start(Start::default());
    let worker = node.worker();
    let old = node.port();
    let new = supervisor::node::free_port();
    node.write_config(&node.config().replace(&old.to_string(), &new.to_string()));
    let (code, body) = node.post("/v1/reload");
    assert_eq!((code, body.contains("reloaded")), (200, true), "{body}");
    assert_eq!(supervisor::node::ask(new), Ok(Some(worker.as_raw())));
    assert_eq!(supervisor::node::ask(old), Err(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(node.status().config.reloads, 1);
    Outcome::Passed
}

fn a_refused_reload_changes_nothing() -> Outcome {
    let node = Node::start(Start::default());
    let old = node.port();
    let new = supervisor::node::free_port();
    let text = node.config().replace(&old.to_string(), &new.to_string());
    node.write_config(&format!("# stub: refuse\n{text}"));
    let (code, body) = node.post("/v1/reload");
    assert_eq!((code, body.contains("the stub does not like it")), (422, true), "{body}");
    assert_eq!(supervisor::node::ask(new), Err(std::io::ErrorKind::ConnectionRefused));
    assert!(node.ask().is_some());
    Outcome::Passed
}

fn orders_without_virtual_routers_say_so() -> Outcome {
    let node = Node::start(Start::default());
    for order in ["/v1/failover", "/v1/resume"] {
        let (code, body) = node.post(order);
        assert_eq!((code, body.contains("[[vip]]")), (409, true), "{body}");
    }
    assert_eq!(node.post("/v1/drain").0, 200);
    assert_eq!(node.status().state, NodeState::Draining);
    assert_eq!(node.post("/v1/undrain").0, 200);
    assert_eq!(node.status().state, NodeState::Serving);
    Outcome::Passed
}

fn a_second_lyre_is_refused() -> Outcome {
    let node = Node::start(Start::default());
    let (code, errors) = node.run_again();
    assert_eq!((code, errors.contains("another lyre runs already")), (Some(1), true), "{errors}");
    assert!(node.ask().is_some());
    Outcome::Passed
}

fn a_port_in_use_is_named() -> Outcome {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut node = Node::launch(Start { port: Some(port), ..Start::default() });
    let (code, errors) = node.output();
    let message = format!("cannot listen on 127.0.0.1:{port}");
    assert_eq!((code, errors.contains(&message)), (Some(1), true), "{errors}");
    Outcome::Passed
}

fn an_ordinary_user_can_serve_high_ports() -> Outcome {
    if !is_root() {
        return skip("only root can become another user");
    }
    let node = Node::start(Start { uid: Some(65534), ..Start::default() });
    let status = node.status();
    assert_eq!(status.detail["uid"], 65534);
    assert!(node.ask().is_some());
    Outcome::Passed
}

fn missing_capabilities_are_named() -> Outcome {
    if !is_root() {
        return skip("only root can become another user");
    }
    let mut node = Node::launch(Start { uid: Some(65534), port: Some(443), ..Start::default() });
    let (code, errors) = node.output();
    assert_eq!(code, Some(1), "{errors}");
    for part in ["CAP_NET_BIND_SERVICE", "to listen on 127.0.0.1:443", "setcap cap_net_bind_service+ep /"] {
        assert!(errors.contains(part), "{part} is missing in:\n{errors}");
    }
    Outcome::Passed
}

fn file_capabilities_are_enough() -> Outcome {
    if !is_root() {
        return skip("only root can give a file capabilities");
    }
    let port = supervisor::node::free_low_port();
    let start = Start { uid: Some(65534), port: Some(port), file_capability: true, ..Start::default() };
    let Some(mut node) = Node::try_start(start) else { return skip("setcap is not possible here") };
    let seen = node.status().detail;
    assert_eq!((&seen["capabilities"], &seen["death_signal"]), (&"0000000000000000".into(), &9.into()));
    let worker = node.worker();
    nix::sys::signal::kill(worker, Signal::SIGKILL).unwrap();
    eventually("another answers", || node.ask().is_some_and(|pid| pid != worker.as_raw()));
    let worker = node.worker();
    node.kill_parent();
    eventually("the worker is gone", || !alive(worker));
    Outcome::Passed
}

fn it_works_in_a_user_namespace() -> Outcome {
    let start = Start { namespace: true, ..Start::default() };
    let Some(node) = Node::try_start(start) else { return skip("user namespaces are not allowed here") };
    let seen = node.status().detail;
    assert_eq!(seen["uid"], 0);
    assert!(["0000000000000000", "0000000000004000"].contains(&seen["capabilities"].as_str().unwrap()));
    let worker = node.worker();
    nix::sys::signal::kill(worker, Signal::SIGKILL).unwrap();
    eventually("another answers", || node.ask().is_some_and(|pid| pid != worker.as_raw()));
    Outcome::Passed
}

fn a_service_manager_is_told() -> Outcome {
    let manager = supervisor::node::Manager::new();
    let mut node = Node::start(Start { manager: Some(&manager), ..Start::default() });
    manager.expect("READY=1");
    manager.expect("WATCHDOG=1");
    assert_eq!(node.post("/v1/reload").0, 200);
    manager.expect("RELOADING=1\nMONOTONIC_USEC=");
    manager.expect("READY=1");
    node.signal(Signal::SIGTERM);
    manager.expect("STOPPING=1");
    assert_eq!(node.wait().code(), Some(0));
    let _ = std::io::stdout().flush();
    Outcome::Passed
}

fn the_real_worker_survives() -> Outcome {
    let mut node = Node::start(Start { server: Some(web_server()), ..Start::default() });
    eventually("the first answer", || node.fetch("/").as_deref() == Some("hello"));
    for (signal, patience_ms) in [(Signal::SIGKILL, 1000), (Signal::SIGSTOP, 1800)] {
        let worker = node.worker();
        nix::sys::signal::kill(worker, signal).unwrap();
        let broken = Instant::now();
        eventually("answers again", || node.fetch("/").is_some());
        assert!(broken.elapsed() < Duration::from_millis(patience_ms), "{signal}: took {:?}", broken.elapsed());
        eventually("the old one is gone", || !alive(worker));
    }
    let status = node.status();
    assert_eq!((status.worker.crashes, status.worker.hangs), (2, 1));
    let worker = node.worker();
    node.kill_parent();
    eventually("the worker is gone", || !alive(worker));
    Outcome::Passed
}

fn the_real_worker_finishes_requests() -> Outcome {
    let mut node = Node::start(Start { server: Some(web_server()), ..Start::default() });
    eventually("the first answer", || node.fetch("/").is_some());
    let requests = || node.status().cores.iter().map(|core| core.requests).sum::<u64>();
    // Its client had the answer a little before it was over.
    eventually("the first one is over", || requests() == 0);
    let answer = std::thread::scope(|scope| {
        let slow = scope.spawn(|| node.fetch("/slow"));
        eventually("it is in flight", || requests() > 0);
        node.signal(Signal::SIGTERM);
        slow.join().unwrap()
    });
    assert_eq!(answer.as_deref(), Some("hello"));
    assert_eq!(node.wait().code(), Some(0));
    Outcome::Passed
}

fn the_real_worker_needs_no_privilege() -> Outcome {
    let server = Some(web_server());
    let ordinary = is_root().then_some(65534);
    let node = Node::start(Start { server, uid: ordinary, ..Start::default() });
    eventually("an answer", || node.fetch("/").is_some());
    let Some(node) = Node::try_start(Start { server, namespace: true, ..Start::default() }) else {
        return skip("user namespaces are not allowed here");
    };
    eventually("an answer", || node.fetch("/").is_some());
    Outcome::Passed
}

/// Behind landlock, and as another user than the parent where that is root.
fn the_real_worker_can_write_to_its_spool() -> Outcome {
    let extra = "[spool]\ndirectory = \"spool\"\n";
    let node = Node::start(Start { server: Some(supervisor::node::counting_server()), extra, ..Start::default() });
    eventually("an answer", || node.fetch("/").is_some());
    let mut upload = std::net::TcpStream::connect(("127.0.0.1", node.port())).unwrap();
    upload.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = "PUT /a HTTP/1.1\r\nHost: cloud.example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    upload.write_all(head.as_bytes()).unwrap();
    for _ in 0..10 {
        upload.write_all(b"8000\r\n").unwrap();
        upload.write_all(&[b'x'; 0x8000]).unwrap();
        upload.write_all(b"\r\n").unwrap();
    }
    upload.write_all(b"0\r\n\r\n").unwrap();
    let answer = supervisor::node::read_all(upload).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n327680 bytes"), "{answer}");
    let config = node.socket();
    let spool = config.parent().unwrap().parent().unwrap().join("spool");
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&spool).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    // Fixed for the life of the worker, which may write nowhere else.
    node.write_config(&node.config().replace("\"spool\"", "\"other\""));
    let (code, body) = node.post("/v1/reload");
    assert!(code >= 400 && body.contains("spool.directory"), "{code} {body}");
    Outcome::Passed
}

/// A group of nobody here.
const ENGINE_GROUP: u32 = 54_321;

fn the_real_worker_may_use_the_container_engine() -> Outcome {
    if !is_root() {
        return skip("needs root, to give a socket to another group");
    }
    let socket = std::env::temp_dir().join(format!("lyre-engine-{:016x}", fastrand::u64(..)));
    let engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::chown(&socket, None, Some(ENGINE_GROUP)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(&socket, mode).unwrap();
    std::thread::spawn(move || {
        for mut stream in engine.incoming().flatten() {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let body = r#"{"ApiVersion":"1.41"}"#;
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    let socket_text = socket.display();
    let extra =
        format!("[exapps]\nshared_key_env = \"LYRE_TEST_SECRET\"\n[exapps.docker]\nsocket = \"{socket_text}\"\n");
    let node = Node::start(Start { server: Some(web_server()), extra: &extra, ..Start::default() });
    eventually("an answer", || node.fetch("/").is_some());
    let ping = "GET /exapps/app_api/v1.44/_ping HTTP/1.1\r\nHost: cloud.example.com\r\nharp-shared-key: x\r\n\
                docker-engine-port: 24000\r\nConnection: close\r\n\r\n";
    let answer = supervisor::node::read_all(node.open(ping)).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.worker())).unwrap();
    let _ = std::fs::remove_file(&socket);
    // Its first byte is what `open` waited for.
    assert!(answer.starts_with("TTP/1.1 200 "), "{answer}");
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let groups: Vec<u32> = groups.split_whitespace().map(|group| group.parse().unwrap()).collect();
    assert!(groups.len() == 2 && groups.contains(&ENGINE_GROUP), "{groups:?}");
    Outcome::Passed
}

fn the_real_worker_takes_a_reload() -> Outcome {
    let node = Node::start(Start { server: Some(web_server()), ..Start::default() });
    eventually("the first answer", || node.fetch("/").is_some());
    let new = supervisor::node::free_port();
    let added = format!("[[listener]]\naddress = \"127.0.0.1:{new}\"\nkind = \"http\"\n");
    node.write_config(&format!("{}{added}", node.config()));
    let (code, body) = node.post("/v1/reload");
    assert_eq!(code, 200, "{body}");
    assert!(supervisor::node::ask(new).is_ok());
    assert!(node.fetch("/").is_some());
    assert_eq!(node.status().worker.starts, 1);
    Outcome::Passed
}

fn bans_outlive_the_worker() -> Outcome {
    let node = Node::start(Start { server: Some(web_server()), ..Start::default() });
    eventually("the first answer", || node.fetch("/").is_some());
    let (code, body) = node.post("/v1/ban?address=192.0.2.7");
    assert!(code == 200 && body.contains("192.0.2.7 is banned until it is lifted"), "{body}");
    assert_eq!(node.post("/v1/ban?address=2001:db8::7&for_ms=3600000").0, 200);
    assert_eq!(node.post("/v1/ban?address=192.0.2.8&for_ms=1").0, 200);
    // This host's own connections are everybody's who comes through a proxy here.
    let (code, body) = node.post("/v1/ban?address=127.0.0.1");
    assert!(code == 409 && body.contains("never banned"), "{body}");
    let worker = node.worker();
    nix::sys::signal::kill(worker, Signal::SIGKILL).unwrap();
    eventually("another worker", || node.try_status().is_some_and(|status| status.worker.starts == 2));
    eventually("the bans are back", || node.get("/v1/bans").1.matches("client").count() == 2);
    let (_, body) = node.get("/v1/bans");
    assert!(body.contains("192.0.2.7") && body.contains("2001:db8::/64"), "{body}");
    let (code, _) = node.post("/v1/unban?address=2001:db8::1");
    assert_eq!(code, 200);
    assert_eq!(node.post("/v1/unban?address=2001:db8::1").0, 409);
    assert_eq!(node.get("/v1/bans").1.matches("client").count(), 1);
    Outcome::Passed
}

fn lyre_uid() -> u32 {
    nix::unistd::User::from_name("lyre").unwrap().map_or(65534, |user| user.uid.as_raw())
}

fn lyre_gid() -> u32 {
    nix::unistd::User::from_name("lyre").unwrap().map_or(65534, |user| user.gid.as_raw())
}
