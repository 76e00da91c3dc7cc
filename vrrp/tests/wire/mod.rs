//! A LAN of network namespaces for black-box tests: one switch, nodes on it, a tap that sees what all nodes see.
//!
//! Namespaces are anonymous: they live as long as the descriptors here, so a dead test leaves nothing behind. Sets up
//! and observes; never asserts about the protocol.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod keepalived;
pub mod speaker;
pub mod tap;

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the process that a test starts inside a user namespace.
const INSIDE: &str = "LYRE_TEST_INSIDE";

/// Runs a test body where it may create network namespaces: as root, else in a user namespace, else not at all.
///
/// One test at a time, because several at once on a small machine only measure each other.
pub fn on_a_lan(test: &str, body: impl FnOnce(&Lan)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if nix::unistd::geteuid().is_root() {
        return body(&Lan::new());
    }
    assert!(std::env::var_os(INSIDE).is_none(), "not root inside the user namespace");
    let unshare = ["--user", "--map-root-user", "--net", "--mount", "--"];
    let may = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped {test}: needs root or a kernel that lets ordinary users make user namespaces");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.args(unshare).arg(this).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(again.status().unwrap().success(), "{test} failed inside a user namespace");
}

/// Whether a program is installed; says so if not.
pub fn is_installed(program: &str, test: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped {test}: {program} is not installed");
    }
    found
}

/// Waits until `condition` holds; panics with `what` after the time limit.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A switch and what belongs to the whole LAN. Subnet 10.77.0.0/24; node N is 10.77.0.N, fd77::N and fe80::N.
pub struct Lan {
    switch: Arc<Namespace>,
}

impl Lan {
    fn new() -> Lan {
        let switch = Arc::new(Namespace::new());
        switch.ip("link add br0 type bridge mcast_snooping 0 forward_delay 0 stp_state 0");
        switch.ip("link set br0 up");
        Lan { switch }
    }

    /// A namespace with `eth0` on the switch.
    pub fn node(&self, number: u8) -> Node {
        let node = Node { number, place: Namespace::new(), switch: Arc::clone(&self.switch) };
        node.place.ip("link set lo up");
        node.plug_in();
        node
    }
}

/// A machine on the LAN.
pub struct Node {
    pub number: u8,
    place: Namespace,
    switch: Arc<Namespace>,
}

impl Node {
    /// Creates `eth0` with its addresses and its port on the switch.
    pub fn plug_in(&self) {
        let (number, port) = (self.number, self.port());
        self.switch.ip(&format!("link add {port} type veth peer name eth0 netns {}", self.place.path()));
        self.switch.ip(&format!("link set {port} master br0 up"));
        self.place.ip("link set eth0 addrgenmode none");
        self.place.ip(&format!("address add 10.77.0.{number}/24 dev eth0"));
        self.place.ip("link set eth0 up");
        self.place.ip(&format!("address add fe80::{number}/64 dev eth0 nodad"));
        self.place.ip(&format!("address add fd77::{number}/64 dev eth0 nodad"));
    }

    /// Deletes `eth0`, like a network card that is taken out.
    pub fn unplug(&self) {
        self.place.ip("link delete eth0");
    }

    /// Carrier loss on both sides, like a pulled cable.
    pub fn cut_cable(&self) {
        self.switch.ip(&format!("link set {} down", self.port()));
    }

    pub fn mend_cable(&self) {
        self.switch.ip(&format!("link set {} up", self.port()));
    }

    /// No frame passes, yet the node keeps its carrier, like a switch further away that died.
    pub fn isolate(&self) {
        self.switch.ip(&format!("link set {} nomaster", self.port()));
    }

    pub fn rejoin(&self) {
        self.switch.ip(&format!("link set {} master br0", self.port()));
    }

    pub fn ip(&self, arguments: &str) -> String {
        self.place.ip(arguments)
    }

    pub fn address_v4(&self) -> IpAddr {
        IpAddr::from([10, 77, 0, self.number])
    }

    pub fn address_v6(&self) -> IpAddr {
        IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(self.number)])
    }

    /// Whether `eth0` has the address.
    pub fn has(&self, address: &str) -> bool {
        self.has_on("eth0", address)
    }

    /// Whether this interface has the address; false without the interface.
    pub fn has_on(&self, interface: &str, address: &str) -> bool {
        let list = self.place.try_ip(&format!("-o address show dev {interface}")).unwrap_or_default();
        list.split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    /// The hardware address and number of an interface, if there is one.
    pub fn interface(&self, name: &str) -> Option<(String, u32)> {
        let line = self.place.try_ip(&format!("-o link show dev {name}")).ok()?;
        let mac = line.split("link/ether ").nth(1)?.split_whitespace().next()?.to_owned();
        Some((mac, line.split(':').next()?.parse().ok()?))
    }

    /// The hardware address this node has for another's address.
    pub fn neighbour(&self, address: &str) -> Option<String> {
        let line = self.place.try_ip(&format!("neighbour show {address} dev eth0")).ok()?;
        Some(line.split("lladdr ").nth(1)?.split_whitespace().next()?.to_owned())
    }

    /// A setting of the network namespace, as in `ipv4/conf/eth0/arp_ignore`.
    pub fn setting(&self, name: &str) -> String {
        let path = format!("/proc/sys/net/{name}");
        self.enter(|| std::fs::read_to_string(path)).map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    pub fn set(&self, name: &str, value: &str) {
        self.enter(|| std::fs::write(format!("/proc/sys/net/{name}"), value)).unwrap();
    }

    pub fn spawn(&self, command: &mut Command) -> Child {
        self.place.enter(|| command.spawn()).unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
    }

    /// Runs `body` on a thread inside this node.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.place.enter(body)
    }

    fn port(&self) -> String {
        format!("port{}", self.number)
    }
}

/// An anonymous network namespace.
struct Namespace(File);

impl Namespace {
    fn new() -> Namespace {
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("its descriptor")
        };
        Namespace(thread::scope(|scope| scope.spawn(create).join().expect("the creating thread")))
    }

    /// How ip(8) finds it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("entering a network namespace");
            body()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("the thread inside"))
    }

    fn ip(&self, arguments: &str) -> String {
        self.try_ip(arguments).unwrap_or_else(|error| panic!("ip {arguments}: {error}"))
    }

    fn try_ip(&self, arguments: &str) -> Result<String, String> {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        let output = self.enter(|| command.output()).map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}
