//! A segment of anonymous network namespaces and nodes on it. Sets up and observes; never asserts what Lyre does.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use lyre::control::status::{Router, Status, Tracker};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Wide: the machine may be busy with something else altogether.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Runs a test where it may make network namespaces and be several users.
pub fn on_a_segment(test: &str, body: impl FnOnce(&Segment)) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: {test}: needs root");
        return;
    }
    body(&Segment::new());
}

#[track_caller]
pub fn until(awaited: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for: {awaited}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An anonymous network namespace: gone with its last process and this descriptor.
pub struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("its descriptor")
        };
        Namespace(thread::scope(|scope| scope.spawn(create).join().expect("the creating thread")))
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("entering a network namespace");
            body()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("the thread inside"))
    }

    #[track_caller]
    pub fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        let output = self.enter(|| command.output()).unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A switch with a gateway on it, 10.88.0.1 and fd88::1.
pub struct Segment {
    switch: Namespace,
}

impl Segment {
    fn new() -> Segment {
        let segment = Segment { switch: Namespace::new() };
        segment.switch.ip("link add br0 type bridge mcast_snooping 0 forward_delay 0 stp_state 0");
        segment.switch.ip("link set br0 up");
        segment.answer(true);
        segment
    }

    /// Whether the gateway answers ARP and neighbour discovery.
    pub fn answer(&self, on: bool) {
        let verb = if on { "add" } else { "del" };
        self.switch.ip(&format!("address {verb} 10.88.0.1/24 dev br0"));
        self.switch.ip(&format!("address {verb} fd88::1/64 dev br0 {}", if on { "nodad" } else { "" }));
    }

    /// A namespace with `eth0` on the segment, and `up0` to nowhere with carrier.
    pub fn place(&self, number: u8) -> Namespace {
        let place = Namespace::new();
        place.ip("link set lo up");
        self.switch.ip(&format!("link add p{number} type veth peer name eth0 netns {}", place.path()));
        self.switch.ip(&format!("link set p{number} master br0 up"));
        place.ip(&format!("address add 10.88.0.{number}/24 dev eth0"));
        place.ip("link set eth0 up");
        place.ip(&format!("address add fd88::{number}/64 dev eth0 nodad"));
        place.ip("link add up0 type veth peer name far0");
        place.ip("link set far0 up");
        place.ip("link set up0 up");
        place
    }
}

/// A folder that every user may use, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lyre-track-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// A shell script that anybody may run.
    pub fn script(&self, name: &str, text: &str) -> String {
        self.write(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program that is ended with this.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    #[track_caller]
    pub fn ends(&mut self) {
        until("the program ends", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A node with the virtual address 10.88.0.100.
pub struct Node {
    pub folder: Folder,
    pub program: Running,
}

impl Node {
    pub fn start(place: &Namespace, folder: Folder, priority: u8, more: &str) -> Node {
        configure(&folder, priority, more);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyre"));
        command.args(["run", "--config"]).arg(folder.0.join("lyre.toml")).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(folder.0.join("log")).unwrap());
        let program = Running(place.enter(|| command.spawn()).unwrap());
        let node = Node { folder, program };
        until("lyre answers and takes part", || {
            node.try_status().is_some_and(|status| status.routers.iter().all(|router| router.state != "initialize"))
                && node.try_status().is_some_and(|status| !status.routers.is_empty())
        });
        node
    }

    /// With another configuration.
    pub fn reload(&self, priority: u8, more: &str) {
        configure(&self.folder, priority, more);
        let answer = self.ask("POST", "/v1/reload").unwrap();
        assert!(answer.contains("reloaded"), "{answer}");
    }

    fn try_status(&self) -> Option<Status> {
        serde_json::from_str(&self.ask("GET", "/v1/status")?).ok()
    }

    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("no status:\n{}", self.folder.read("log")))
    }

    pub fn router(&self) -> Router {
        self.status().routers[0].clone()
    }

    pub fn tracker(&self, name: &str) -> Tracker {
        let status = self.status();
        let found = status.trackers.iter().find(|tracker| tracker.name == name);
        found.unwrap_or_else(|| panic!("no tracker {name} in {:?}", status.trackers)).clone()
    }

    /// Waits until the router is this healthy, and this much is added to its priority.
    #[track_caller]
    pub fn becomes(&self, health: &str, weight: i16, why: &str) {
        until(&format!("{health} {weight:+}: {why}\nlast: {:?}", self.status().trackers), || {
            let router = self.router();
            (router.health.as_str(), router.weight) == (health, weight)
        });
    }

    #[track_caller]
    pub fn is_soon(&self, state: &str) {
        until(&format!("the node is {state}"), || self.router().state == state);
    }

    pub fn ask(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.folder.0.join("run/lyre.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: lyre\r\nContent-Length: 0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.folder.read("log"));
        }
        if self.program.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.program.signal(Signal::SIGTERM);
            let started = Instant::now();
            while started.elapsed() < PATIENCE && self.program.0.try_wait().is_ok_and(|ended| ended.is_none()) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn configure(folder: &Folder, priority: u8, more: &str) {
    let text = format!(
        "[worker]\ncores = 1\nhang_timeout = \"20s\"\n[admin]\nsocket = \"run/lyre.sock\"\n[timeouts]\ndrain = \"1s\"\n\
         [[vip]]\naddresses = [\"10.88.0.100/24\"]\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\n{more}"
    );
    folder.write("lyre.toml", &text);
}

pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
