//! A service before a real Galera cluster: the writer leaves its cluster, comes back, is killed; the last node is alone.

use crate::cluster::{Client, Cluster, address, enter_namespace, missing};
use crate::edge::{Edge, PATIENCE};
use lyre::config::settings::tcp::{CheckKind, CheckTls};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Applications that write one row after the other, each in a session of its own, and remember what was committed.
#[derive(Default)]
struct Writers {
    next: AtomicU64,
    committed: Mutex<BTreeSet<u64>>,
    is_over: AtomicBool,
    /// Sessions that were lost.
    lost: AtomicU64,
}

impl Writers {
    fn run(&self, port: u16) {
        while !self.is_over.load(Ordering::SeqCst) {
            let mut client = Client::connect(port);
            while !self.is_over.load(Ordering::SeqCst) {
                let id = self.next.fetch_add(1, Ordering::SeqCst);
                let answer = client.ask(&format!("INSERT INTO t VALUES ({id}); SELECT {id};"));
                if answer.as_deref() == Some(id.to_string().as_str()) {
                    self.committed.lock().unwrap().insert(id);
                } else {
                    self.lost.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
    }

    fn count(&self) -> usize {
        self.committed.lock().unwrap().len()
    }

    /// Waits until more was committed than now.
    fn wait_progress(&self) {
        let (before, deadline) = (self.count() + 20, Instant::now() + PATIENCE);
        while self.count() < before {
            assert!(Instant::now() < deadline, "nothing is committed any more");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends the writers also when an assertion fails, so that the failure is seen.
struct EndsWriters<'a>(&'a Writers);

impl Drop for EndsWriters<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

fn server(node: usize) -> String {
    format!("{}:3306", address(node))
}

/// The addresses that a session's server runs at, as that says itself.
fn node_of(port: u16) -> Option<String> {
    Client::connect(port).ask("SELECT @@wsrep_node_name;")
}

#[test]
fn a_galera_cluster_has_one_writer_that_moves_when_it_must_and_never_back() {
    if let Some(why) = missing() {
        println!("SKIPPED: a_galera_cluster_has_one_writer_that_moves_when_it_must_and_never_back: {why}");
        return;
    }
    enter_namespace();
    let mut cluster = Cluster::start();
    let servers: Vec<String> = (0..3).map(|node| format!("\"{}\"", server(node))).collect();
    let keys = format!(
        "servers = [{}]\ncheck = {{ kind = \"galera\", user = \"lyre_check\", password_env = \"CHECK\" }}\n",
        servers.join(", ")
    );
    let edge = Edge::start(&keys, "io_uring", 2);
    let port = edge.address.port();
    edge.wait("the first one writes", |edge| edge.writer() == Some(server(0)));
    edge.wait("all are in step", |edge| (0..3).all(|node| edge.state(node) == "up"));
    assert_eq!(node_of(port).as_deref(), Some("node0"));

    let writers = Writers::default();
    std::thread::scope(|scope| {
        let _end = EndsWriters(&writers);
        (0..3).for_each(|_| drop(scope.spawn(|| writers.run(port))));
        writers.wait_progress();

        // Out of its cluster a node lives on, and answers; its sessions are ended by us.
        let mut idle = Client::connect(port);
        assert_eq!(idle.ask("SELECT @@wsrep_node_name;").as_deref(), Some("node0"));
        let mut sleeper = Client::connect(port);
        assert_eq!(sleeper.ask("SELECT 1;").as_deref(), Some("1"));
        cluster.root(0, "SET GLOBAL wsrep_provider_options='gmcast.isolate=1'");
        edge.wait("another one writes", |edge| edge.writer() == Some(server(1)));
        assert_eq!(sleeper.ask("SELECT SLEEP(600);"), None);
        sleeper.wait_end();
        assert_eq!(idle.ask("SELECT 1;"), None);
        assert_eq!(edge.state(0), "down");
        assert!(edge.metric("lyre_tcp_failed_total{service=\"db\",side=\"upstream\",reason=\"lost\"}") >= 2);
        assert_eq!(node_of(port).as_deref(), Some("node1"));
        writers.wait_progress();

        // Back in step, it is not gone back to.
        cluster.root(0, "SET GLOBAL wsrep_provider_options='gmcast.isolate=0'");
        edge.wait("it is back", |edge| edge.state(0) == "up");
        assert_eq!(node_of(port).as_deref(), Some("node1"));
        assert_eq!(edge.metric("lyre_tcp_writer_changes_total"), 2);

        // Killed while it writes.
        cluster.kill(1);
        edge.wait("the next one writes", |edge| edge.writer() == Some(server(0)));
        assert_eq!(node_of(port).as_deref(), Some("node0"));
        writers.wait_progress();
    });
    assert!(writers.lost.load(Ordering::SeqCst) >= 3, "writes were not under way");
    println!("{} rows committed", writers.count());

    // What a client was told is committed is there, on every node that lives.
    let committed = writers.committed.lock().unwrap().clone();
    for node in [0, 2] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let rows = cluster.ask(node, "SELECT id FROM app.t");
            let found: BTreeSet<u64> = rows.lines().filter_map(|line| line.parse().ok()).collect();
            if found.is_superset(&committed) {
                break;
            }
            let lost: Vec<_> = committed.difference(&found).collect();
            assert!(Instant::now() < deadline, "node {node} lacks {lost:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        // Checks log in and stay: each server has one connection.
        let checks = cluster.ask(node, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'lyre_check'");
        assert_eq!(checks, "1");
    }

    // To no server do checks look like attempts to break in. This one never was the writer: where sessions are ended, one of
    // them may just be logging in.
    assert_eq!(cluster.ask(2, "SHOW GLOBAL STATUS LIKE 'Aborted_connects'"), "Aborted_connects\t0");

    // One of three is no majority: it answers, and must not be used.
    cluster.kill(0);
    edge.wait("nobody can be used", |edge| edge.writer().is_none() && edge.state(2) == "down");
    assert_eq!(edge.first_line(), Err(ErrorKind::ConnectionReset));
    assert_eq!(cluster.ask(2, "SELECT COUNT(*) FROM app.t"), "", "queries fail on a node without majority");
}

/// A server that wants TLS of everybody: asked in clear it refuses, and says so; over TLS it is asked as any other, by a
/// check that knows whose certificate to believe, or was told not to care.
#[test]
fn a_server_that_wants_tls_is_asked_over_tls() {
    if let Some(why) = missing() {
        println!("SKIPPED: a_server_that_wants_tls_is_asked_over_tls: {why}");
        return;
    }
    enter_namespace();
    let own = rcgen::generate_simple_self_signed([address(0), "db.test".to_owned()]).unwrap();
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());
    let _cluster = Cluster::first(|directory| {
        let (certificate_path, key_path) = (directory.join("server.pem"), directory.join("server.key"));
        std::fs::write(&certificate_path, &certificate).unwrap();
        std::fs::write(&key_path, &key).unwrap();
        vec![
            format!("--ssl-cert={}", certificate_path.display()),
            format!("--ssl-key={}", key_path.display()),
            "--require-secure-transport=ON".to_owned(),
        ]
    });
    let keys = format!(
        "servers = [\"{}\"]\ncheck = {{ kind = \"galera\", user = \"lyre_check\", password_env = \"CHECK\" }}\n",
        server(0)
    );
    let edge = |tls: Option<CheckTls>| {
        Edge::start_with(&keys, "io_uring", 1, |settings| {
            if let CheckKind::Galera { tls: slot, .. } = &mut settings.services[0].check.kind {
                *slot = tls;
            }
        })
    };
    let reason = |edge: &Edge| edge.service()["servers"][0]["reason"].as_str().unwrap_or_default().to_owned();
    let clear = edge(None);
    clear.wait("refused in clear", |edge| reason(edge).contains("set check.tls"));
    assert_eq!(clear.state(0), "down");

    let roots = |pem: &str| Some(pem.as_bytes().into());
    let named = |name: &str| Some(name.to_owned().try_into().unwrap());
    for tls in [
        CheckTls { roots: roots(&certificate), name: None },
        CheckTls { roots: roots(&certificate), name: named("db.test") },
        CheckTls { roots: None, name: None },
    ] {
        let edge = edge(Some(tls.clone()));
        edge.wait("it writes", |edge| edge.writer() == Some(server(0)));
    }
    let other = rcgen::generate_simple_self_signed([address(0)]).unwrap().cert.pem();
    for tls in [
        CheckTls { roots: roots(&other), name: None },
        CheckTls { roots: roots(&certificate), name: named("other.test") },
    ] {
        let edge = edge(Some(tls));
        edge.wait("not believed", |edge| reason(edge).contains("TLS: "));
        assert_eq!((edge.state(0).as_str(), edge.writer()), ("down", None));
    }
}
