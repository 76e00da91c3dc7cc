//! A real worker with real clients: listener, TLS, sessions, and tunnels opened from outside of its cores.

use super::backend::{Backend, pattern, request};
use super::peer::{self, Frpc, NEW, OLD, Options, Proxy, Tls};
use super::worker;
use lyre::proto::frp::session::Failure;
use lyre::serve::frp::{Call, Tunnel};
use lyre::serve::shared::{Phase, Shared};
use lyre::serve::worker::Worker;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

const KEY: &str = "the shared key of all apps";
const PORT: u16 = 23_000;

const PATIENCE: Duration = Duration::from_secs(60);

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// On this thread, which is no core.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let (mut future, end) = (pin!(future), Instant::now() + PATIENCE);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        assert!(Instant::now() < end, "nothing happens");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

/// A worker of two cores behind a directory with its files.
struct Lab {
    directory: PathBuf,
    worker: Worker,
    port: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Plain,
    /// With certificates of ours only.
    Checked,
    /// Without any.
    Unchecked,
}

impl Lab {
    fn new(door: Door) -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lyre-live-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        write_pki(&directory);
        std::fs::write(directory.join("shared.key"), KEY).unwrap();
        let tls = match door {
            Door::Plain => "\"off\"",
            Door::Checked => "{ cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\" }",
            Door::Unchecked => "{ cert = \"server.pem\", key = \"server.key\" }",
        };
        let text = format!(
            "[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"127.0.0.1:1\"]\n\
             [[listener]]\naddress = \"127.0.0.2:80\"\nkind = \"http\"\n\
             [exapps]\nfrp_listen = \"127.0.0.1:8782\"\nfrp_tls = {tls}\nshared_key_file = \"shared.key\"\n\
             [worker]\ncores = 2\n[log]\naccess = \"off\"\n"
        );
        let path = directory.join("lyre.toml");
        std::fs::write(&path, text).unwrap();
        let (mut settings, _) = lyre::config::load(&path, None).unwrap();
        settings.listeners[0].address.set_port(0);
        settings.exapps.as_mut().unwrap().frp.as_mut().unwrap().listen.set_port(0);
        let (worker, bound) = worker::start_all(settings);
        let frp = bound.iter().find(|address| address.ip() == Ipv4Addr::LOCALHOST).unwrap();
        Lab { directory, worker, port: frp.port() }
    }

    /// As an app's container has it.
    fn options(&self, backend: &Backend) -> Options {
        Options { key: KEY.to_owned(), proxies: vec![Proxy::new("app", PORT, backend)], ..Options::default() }
    }

    fn tls(&self, has_certificate: bool, has_marker: bool) -> Option<Tls> {
        Some(Tls { directory: self.directory.clone(), has_certificate, has_marker })
    }

    fn sessions(&self) -> usize {
        self.worker.shared.tunnels.sessions()
    }

    /// Until the worker knows that a killed client is gone: before that it would still open tunnels to it.
    fn wait_gone(&self) {
        worker::wait(PATIENCE, || self.sessions() == 0, || format!("{} sessions stay", self.sessions()));
    }

    fn call(&self, first_byte: Duration) -> Result<Tunnel, Failure> {
        call(&self.worker.shared, first_byte)
    }

    fn open(&self) -> Tunnel {
        open(&self.worker.shared)
    }

    fn exchange(&self, up: usize, down: usize) {
        exchange(&self.worker.shared, up, down);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn call(shared: &Shared, first_byte: Duration) -> Result<Tunnel, Failure> {
    let (from, to) = (([203, 0, 113, 7], 40_000).into(), ([192, 0, 2, 1], PORT).into());
    wait(shared.tunnels.open(Call { port: PORT, from, to, first_byte }))
}

/// Once there is a tunnel.
fn open(shared: &Shared) -> Tunnel {
    let end = Instant::now() + PATIENCE;
    loop {
        match call(shared, PATIENCE) {
            Ok(tunnel) => return tunnel,
            Err(failure) => assert!(Instant::now() < end, "no tunnel: {failure}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn exchange(shared: &Shared, up: usize, down: usize) {
    let tunnel = open(shared);
    let request = request(up, down);
    let answer = wait(async {
        for piece in request.chunks(50_000) {
            tunnel.send(piece.to_vec()).await?;
        }
        read_all(&tunnel).await
    });
    check(&answer.unwrap(), up, down);
}

async fn read_all(tunnel: &Tunnel) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = tunnel.recv().await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend(piece);
    }
}

fn check(answer: &[u8], up: usize, down: usize) {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
    assert!(text.contains(&format!("x-received: {up}\r\n")), "{text}");
    assert!(answer[head..] == pattern(down)[..], "{} bytes of {down}", answer.len() - head);
}

/// As HaRP makes it: the server's certificate has the name of its CA, and neither leaf says what it is for.
fn write_pki(directory: &Path) {
    let params = |name: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut root = params("harp.nc", &[]);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let put = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
    put("ca.pem", root.self_signed(&root_key).unwrap().pem());
    let issuer = Issuer::new(root, root_key);
    for (file, name) in [("server", "harp.nc"), ("client", "harp.client.nc")] {
        let key = KeyPair::generate().unwrap();
        put(&format!("{file}.pem"), params(name, &[name]).signed_by(&key, &issuer).unwrap().pem());
        put(&format!("{file}.key"), key.serialize_pem());
    }
}

#[test]
fn requests_go_through_a_workers_tunnels_plain_and_with_tls() {
    let Some(binaries) = peer::binaries("requests_go_through_a_workers_tunnels") else { return };
    let backend = Backend::start();
    for (door, tls) in [
        (Door::Plain, None),
        (Door::Checked, Some((true, false))),
        (Door::Checked, Some((true, true))),
        (Door::Unchecked, Some((false, false))),
    ] {
        let lab = Lab::new(door);
        for (binary, is_v2) in [(&binaries[OLD], false), (&binaries[NEW], true)] {
            let tls = tls.and_then(|(has_certificate, has_marker)| lab.tls(has_certificate, has_marker));
            let frpc = Frpc::start(binary, lab.port, &Options { tls, is_v2, ..lab.options(&backend) });
            lab.exchange(0, 10);
            lab.exchange(700_000, 1_000_000);
            drop(frpc);
            lab.wait_gone();
        }
    }
}

#[test]
fn tunnels_of_one_client_carry_their_own_bytes_in_every_wrapping() {
    let Some(binaries) = peer::binaries("tunnels_of_one_client_carry_their_own_bytes") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Plain));
    for (is_encrypted, is_compressed) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut options = lab.options(&backend);
        options.proxies[0].is_encrypted = is_encrypted;
        options.proxies[0].is_compressed = is_compressed;
        let frpc = Frpc::start(&binaries[OLD], lab.port, &options);
        drop(lab.open());
        std::thread::scope(|scope| {
            for size in 1..=8 {
                let shared = &lab.worker.shared;
                scope.spawn(move || exchange(shared, size * 40_000, size * 60_001));
            }
        });
        drop(frpc);
        lab.wait_gone();
    }
}

/// Its window fills and stays full; everything else goes on.
#[test]
fn a_tunnel_nobody_reads_stalls_alone_and_loses_nothing() {
    let Some(binaries) = peer::binaries("a_tunnel_nobody_reads_stalls_alone") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Plain));
    let _frpc = Frpc::start(&binaries[OLD], lab.port, &lab.options(&backend));
    let slow = lab.open();
    wait(slow.send(request(0, 2_000_000))).unwrap();
    for _ in 0..3 {
        lab.exchange(300_000, 600_000);
    }
    check(&wait(read_all(&slow)).unwrap(), 0, 2_000_000);
}

#[test]
fn without_tls_or_a_certificate_nobody_gets_in_where_they_are_demanded() {
    let Some(binaries) = peer::binaries("without_tls_or_a_certificate_nobody_gets_in") else { return };
    let backend = Backend::start();
    for (door, tls) in [(Door::Checked, None), (Door::Checked, Some(false)), (Door::Plain, Some(true))] {
        let lab = Lab::new(door);
        let tls = tls.and_then(|has_certificate| lab.tls(has_certificate, false));
        let mut frpc = Frpc::start(&binaries[OLD], lab.port, &Options { tls, ..lab.options(&backend) });
        // The first failed login ends it.
        let said = frpc.wait_exit();
        assert!(!said.contains("login to server success"), "{said}");
        assert_eq!(lab.sessions(), 0);
        assert_eq!(lab.call(PATIENCE).err(), Some(Failure::NoProxy));
    }
}

#[test]
fn a_wrong_key_is_refused_in_harps_words_and_gets_no_port() {
    let Some(binaries) = peer::binaries("a_wrong_key_is_refused_in_harps_words") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Plain));
    for (binary, is_v2) in [(&binaries[OLD], false), (&binaries[NEW], true)] {
        let options = Options { key: "the key of nobody at all".to_owned(), is_v2, ..lab.options(&backend) };
        let said = Frpc::start(binary, lab.port, &options).wait_exit();
        assert!(said.contains("send Login request to plugin error"), "{said}");
    }
    assert_eq!(lab.sessions(), 0);
    assert_eq!(lab.call(PATIENCE).err(), Some(Failure::NoProxy));
    assert_eq!(worker::metric(&lab.worker, "lyre_exapps_failures_total{kind=\"token\"}"), 2);
}

#[test]
fn a_killed_clients_tunnels_end_with_an_error_and_its_successor_serves() {
    let Some(binaries) = peer::binaries("a_killed_clients_tunnels_end_with_an_error") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Checked));
    for _ in 0..2 {
        let options = || Options { tls: lab.tls(true, false), ..lab.options(&backend) };
        let first = Frpc::start(&binaries[OLD], lab.port, &options());
        let tunnel = lab.open();
        // The app waits for the rest of it.
        wait(tunnel.send(b"POST /10 HTTP/1.1\r\n".to_vec())).unwrap();
        drop(first);
        assert!(wait(read_all(&tunnel)).is_err());
        lab.wait_gone();
        let second = Frpc::start(&binaries[OLD], lab.port, &options());
        lab.exchange(10, 100_000);
        drop(second);
        lab.wait_gone();
    }
}

#[test]
fn an_app_that_says_nothing_is_given_up() {
    let Some(binaries) = peer::binaries("an_app_that_says_nothing_is_given_up") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Plain));
    let _frpc = Frpc::start(&binaries[OLD], lab.port, &lab.options(&backend));
    drop(lab.open());
    let tunnel = lab.call(Duration::from_secs(1)).unwrap();
    wait(tunnel.send(b"POST /10 HTTP/1.1\r\n".to_vec())).unwrap();
    assert_eq!(wait(read_all(&tunnel)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    lab.exchange(0, 10);
}

#[test]
fn a_worker_that_stops_does_not_wait_for_idle_clients() {
    let Some(binaries) = peer::binaries("a_worker_that_stops_does_not_wait") else { return };
    let (backend, lab) = (Backend::start(), Lab::new(Door::Plain));
    let _frpc = Frpc::start(&binaries[OLD], lab.port, &lab.options(&backend));
    drop(lab.open());
    lab.worker.shared.set_phase(Phase::Stopping);
    let open = || lab.worker.shared.counters.iter().map(|core| core.connections.read()).sum::<u64>();
    worker::wait(PATIENCE, || open() == 0, || format!("{} connections are open", open()));
    assert_eq!(lab.sessions(), 0);
}
