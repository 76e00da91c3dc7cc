//! The real program with what `[[vip]]` can say, beside the real keepalived and beside itself: version 2 with its
//! password, unicast, a sync group of both families, signed adverts, and a reload that moves nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

#[path = "../vrrp/tests/wire/mod.rs"]
mod wire;

use lyre::control::status::{Router, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wire::keepalived::Keepalived;
use wire::tap::{Frame, Tap};
use wire::{Lan, Node, eventually, is_installed, on_a_lan};

const LYRE: &str = env!("CARGO_BIN_EXE_lyre");
const LIMIT: Duration = Duration::from_secs(40);
const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";

/// `lyre run` on a node, with a directory of its own.
struct Lyre {
    child: Child,
    directory: PathBuf,
}

impl Lyre {
    /// `vip` are further lines of its `[[vip]]`.
    fn start(node: &Node, addresses: &str, vip: &str) -> Lyre {
        let lyre = Lyre::prepare(node);
        lyre.configure(addresses, vip);
        lyre.run(node)
    }

    /// Not in a cluster: the other node is keepalived.
    fn start_alone(node: &Node, vip: &str) -> Lyre {
        let lyre = Lyre::prepare(node);
        let text = format!(
            "admin.socket = \"lyre.sock\"\nworker.cores = 1\n[[vip]]\ninterface = \"eth0\"\nvrid = 51\n{vip}\n"
        );
        fs::write(lyre.directory.join("lyre.toml"), text).unwrap();
        lyre.run(node)
    }

    fn prepare(node: &Node) -> Lyre {
        let directory = std::env::temp_dir().join(format!("lyre-vrrp-{}-{}", std::process::id(), node.number));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let secret = |name: &str, content: &str| {
            let mut file =
                fs::File::options().create_new(true).write(true).mode(0o600).open(directory.join(name)).unwrap();
            std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        };
        secret("cluster.key", &"c".repeat(32));
        secret("one.key", &"1".repeat(32));
        secret("two.key", &"2".repeat(32));
        secret("password", "secret\n");
        Lyre { child: Command::new("true").spawn().unwrap(), directory }
    }

    fn configure(&self, addresses: &str, vip: &str) {
        let text = format!(
            "admin.socket = \"lyre.sock\"\nworker.cores = 1\nlog.level = \"debug\"\n\n[cluster]\nsecret_file = \"cluster.key\"\n\
             nodes = [{{ name = \"a\", address = \"10.77.0.1\" }}, {{ name = \"b\", address = \"10.77.0.2\" }}]\n\n\
             [[vip]]\naddresses = [{addresses}]\ninterface = \"eth0\"\nvrid = 51\n{vip}\n"
        );
        fs::write(self.directory.join("lyre.toml"), text).unwrap();
    }

    fn run(mut self, node: &Node) -> Lyre {
        let _ = self.child.wait();
        let mut command = Command::new(LYRE);
        command.arg("run").arg("--config").arg(self.directory.join("lyre.toml")).env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(self.directory.join("log")).unwrap());
        self.child = node.spawn(&mut command);
        eventually("it takes part", LIMIT, || {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{}", self.log());
            self.routers().first().is_some_and(|router| router.state != "initialize")
        });
        self
    }

    fn stop(&mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        eventually("it ends", LIMIT, || self.child.try_wait().unwrap().is_some());
    }

    fn order(&self, arguments: &[&str]) -> Output {
        Command::new(LYRE).args(arguments).arg("--config").arg(self.directory.join("lyre.toml")).output().unwrap()
    }

    fn status(&self) -> Option<Status> {
        serde_json::from_slice(&self.order(&["status", "--json"]).stdout).ok()
    }

    /// None before its first answer.
    fn routers(&self) -> Vec<Router> {
        self.status().map(|status| status.routers).unwrap_or_default()
    }

    fn is(&self, state: &str) -> bool {
        let routers = self.routers();
        !routers.is_empty() && routers.iter().all(|router| router.state == state)
    }

    #[track_caller]
    fn becomes(&self, state: &str) {
        eventually(&format!("all are {state}: {:?}\n{}", self.routers(), self.log()), LIMIT, || self.is(state));
    }

    fn hears_its_peer(&self) -> bool {
        self.routers().iter().all(|router| router.counters.adverts_received > 4 && router.peer.is_some())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Lyre {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Lyre first, then keepalived as its Backup; each ends in order once and the other takes over.
fn both_roles(lan: &Lan, addresses: &[&str], vip: &str, interval: Duration, keepalived: &str) {
    let (here, there) = (lan.node(1), lan.node(2));
    let bare: Vec<&str> = addresses.iter().map(|address| address.split('/').next().unwrap()).collect();
    let list = addresses.iter().map(|address| format!("{address:?}")).collect::<Vec<_>>().join(", ");
    let has_all = |node: &Node| bare.iter().all(|address| node.has(address));
    let has_none = |node: &Node| bare.iter().all(|address| !node.has(address));

    let mut lyre = Lyre::start(&here, &list, vip);
    lyre.becomes("active");
    let mut peer = Keepalived::start(&there, 200, interval, addresses, keepalived);
    let sent = |lyre: &Lyre| lyre.routers().iter().map(|router| router.counters.adverts_sent).min().unwrap_or_default();
    let before = sent(&lyre);
    eventually("five more adverts", LIMIT, || sent(&lyre) > before + 5);
    assert!(has_none(&there), "keepalived does not understand Lyre: {}", peer.log());

    lyre.stop();
    eventually("keepalived takes over", LIMIT, || has_all(&there) && has_none(&here));
    lyre = lyre.run(&here);
    eventually("Lyre understands keepalived", LIMIT, || lyre.hears_its_peer());
    assert!(lyre.is("backup"), "{:?}", lyre.routers());
    peer.stop();
    lyre.becomes("active");
    eventually("Lyre takes over", LIMIT, || has_all(&here) && has_none(&there));
}

#[test]
fn version_2_with_password_beside_keepalived() {
    let name = "version_2_with_password_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let vip = "version = 2\nauth = { password_file = \"password\" }";
            let extra = "version 2\n authentication {\n auth_type PASS\n auth_pass secret\n }";
            both_roles(lan, &["10.77.0.100/24"], vip, Duration::from_secs(1), extra);
        });
    }
}

#[test]
fn unicast_beside_keepalived() {
    let name = "unicast_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let extra = "unicast_src_ip 10.77.0.2\n unicast_peer {\n 10.77.0.1\n }";
            both_roles(lan, &["10.77.0.100/24"], "peers = \"unicast\"", Duration::from_millis(100), extra);
        });
    }
}

#[test]
fn unicast_over_ipv6_beside_keepalived() {
    let name = "unicast_over_ipv6_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            // Itself among the peers: the same file would do on the other node.
            let vip = "peers = [\"fd77::1\", { address = \"fd77::2\", ttl = \"64..255\" }]";
            let extra = "unicast_src_ip fd77::2\n unicast_peer {\n fd77::1\n }";
            both_roles(lan, &["fd77::100/128"], vip, Duration::from_millis(100), extra);
        });
    }
}

#[test]
fn both_families_are_one_group_beside_keepalived() {
    let name = "both_families_are_one_group_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let addresses = ["10.77.0.100/24", "fd77::100/64"];
            both_roles(lan, &addresses, "", Duration::from_millis(100), "");
        });
    }
}

#[test]
fn a_family_that_breaks_takes_the_other_one_along() {
    let name = "a_family_that_breaks_takes_the_other_one_along";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let (here, there) = (lan.node(1), lan.node(2));
            let lyre = Lyre::start(&here, "\"10.77.0.100/24\", \"fd77::100/64\"", "");
            lyre.becomes("active");
            let addresses = ["10.77.0.100/24", "fd77::100/64"];
            // It would not take over by itself: it only answers to a release.
            let _peer = Keepalived::start(&there, 200, Duration::from_millis(100), &addresses, "nopreempt");
            here.ip("address del fe80::1/64 dev eth0"); // no source for IPv6 adverts any more
            eventually("both addresses moved", LIMIT, || {
                there.has(V4) && there.has(V6) && !here.has(V4) && !here.has(V6)
            });
        });
    }
}

#[test]
fn two_lyres_sign_and_a_reload_on_both_moves_nothing() {
    on_a_lan("two_lyres_sign_and_a_reload_on_both_moves_nothing", |lan| {
        let (here, there) = (lan.node(1), lan.node(2));
        let both = "\"10.77.0.100/24\", \"fd77::100/64\"";
        let signed = |keys: &str| format!("auth = {{ keys = [{keys}] }}");
        let one = signed("{ id = 1, file = \"one.key\" }");
        let (first, second) = (Lyre::start(&here, both, &one), Lyre::start(&there, both, &one));
        first.becomes("active");
        eventually("the second hears the first", LIMIT, || second.is("backup") && second.hears_its_peer());

        let rotated = signed("{ id = 2, file = \"two.key\" }, { id = 1, file = \"one.key\" }");
        let more = "\"10.77.0.100/24\", \"10.77.0.111/24\", \"fd77::100/64\"";
        let prepared = signed("{ id = 1, file = \"one.key\" }, { id = 2, file = \"two.key\" }");
        for (addresses, auth) in [(both, &prepared), (both, &rotated), (more, &rotated), (both, &rotated)] {
            for lyre in [&first, &second] {
                lyre.configure(addresses, auth);
                let output = lyre.order(&["reload"]);
                assert!(output.status.success(), "{output:?}");
            }
            eventually("the addresses follow", LIMIT, || here.has("10.77.0.111") == (addresses == more));
        }

        first.configure(both, "auth = { keys = [{ id = 1, file = \"password\" }] }");
        let output = first.order(&["reload"]);
        assert!(!output.status.success());
        let why = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(why.contains("vip[0].auth.keys[0].file: the key has 6 bytes, not 32 to 64"), "{why}");

        for router in first.routers() {
            assert_eq!((router.state.as_str(), router.counters.transitions_to_active), ("active", 1), "{router:?}");
            assert_eq!(router.counters.releases_sent, 0, "{router:?}");
        }
        for router in second.routers() {
            assert_eq!((router.state.as_str(), router.counters.transitions_to_active), ("backup", 0), "{router:?}");
        }
        assert!(!there.has(V4) && !there.has(V6));
        // And the keys do matter.
        second.configure(both, &signed("{ id = 3, file = \"one.key\" }"));
        assert!(second.order(&["reload"]).status.success());
        let dropped = |lyre: &Lyre| lyre.routers().iter().map(|r| r.counters.drops["authentication"]).min();
        eventually("unknown keys are refused", LIMIT, || dropped(&second).is_some_and(|count| count > 0));
    });
}

#[test]
fn an_owner_lends_its_own_address_and_never_loses_it() {
    let name = "an_owner_lends_its_own_address_and_never_loses_it";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let (here, there) = (lan.node(1), lan.node(2));
            let own = "10.77.0.1";
            // Adverts come from the owner's only address, which keepalived has while it stands in for it.
            there.set("ipv4/conf/eth0/accept_local", "1");
            let is_untouched = || here.ip(&format!("-o address show to {own}")).contains("valid_lft forever");
            let mut peer = Keepalived::start(&there, 200, Duration::from_millis(100), &["10.77.0.1/24"], "");
            eventually("keepalived stands in for the owner", LIMIT, || there.has(own));

            let mut lyre = Lyre::start_alone(&here, "addresses = [\"10.77.0.1/24\"]\npriority = 255");
            lyre.becomes("active");
            eventually("keepalived yields to the owner", LIMIT, || !there.has(own));
            let sent = |lyre: &Lyre| lyre.routers().iter().map(|router| router.counters.adverts_sent).sum::<u64>();
            // Longer than a lease, which is 2 s: 25 adverts.
            eventually("it stays Active", LIMIT, || sent(&lyre) > 30);
            assert!(is_untouched(), "{}", here.ip("address show dev eth0"));

            // It cannot give away what is not Lyre's to give.
            let _ = lyre.order(&["failover"]);
            assert!(lyre.is("active") && !there.has(own) && is_untouched(), "{:?}", lyre.routers());

            here.cut_cable();
            eventually("keepalived takes over", LIMIT, || there.has(own));
            here.mend_cable();
            eventually("the owner has it back", LIMIT, || lyre.is("active") && !there.has(own));
            assert!(is_untouched(), "{}", here.ip("address show dev eth0"));

            lyre.stop();
            assert!(is_untouched(), "{}", here.ip("address show dev eth0"));
            eventually("keepalived was told", LIMIT, || there.has(own));
            peer.stop();
        });
    }
}

#[test]
fn a_reload_that_the_virtual_routers_cannot_follow_fails_with_the_reason() {
    on_a_lan("a_reload_that_the_virtual_routers_cannot_follow_fails_with_the_reason", |lan| {
        let here = lan.node(1);
        let lyre = Lyre::start_alone(&here, "addresses = [\"10.77.0.100/24\"]\npriority = 254");
        lyre.becomes("active");
        let process = lyre.child.id();
        // The limit is on numbers, of which some are free.
        let room_for = |free: u64| {
            let list = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
            let used: Vec<u64> = list.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect();
            (1..).find(|limit| limit - used.iter().filter(|used| *used < limit).count() as u64 == free).unwrap()
        };
        let limit = |number: &str| {
            let status =
                Command::new("prlimit").arg(format!("--pid={process}")).arg(format!("--nofile={number}:")).status();
            assert!(status.unwrap().success());
        };
        let path = lyre.directory.join("lyre.toml");
        let mut text = fs::read_to_string(&path).unwrap();
        for number in 1..=12 {
            let vrid = 60 + number;
            text += &format!(
                "[[vip]]\ninterface = \"eth0\"\nvrid = {vrid}\naddresses = [\"10.77.0.{}/24\"]\npriority = 254\n",
                100 + number
            );
        }
        fs::write(&path, text).unwrap();
        // Enough to read the file, too few for 12 more routers.
        limit(&room_for(10).to_string());
        let output = lyre.order(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("the virtual routers go on as before the reload"), "{said}");
        assert!(lyre.is("active") && lyre.routers().len() == 1, "{:?}", lyre.routers());
        let shown = lyre.order(&["status"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("go on as before the reload"), "{shown:?}");

        limit("4096");
        let output = lyre.order(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        eventually("all 13 are Active", LIMIT, || lyre.routers().len() == 13 && lyre.is("active"));
    });
}

/// A web server of a node: `/slow` says half of its answer and waits for the flag, everything else says who answers.
fn origin(node: &Node, name: &'static str, may_finish: &Arc<AtomicBool>) -> u16 {
    let listener = node.enter(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let may_finish = Arc::clone(may_finish);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let may_finish = Arc::clone(&may_finish);
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or(0);
                if !request[..length].starts_with(b"GET /slow") {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}");
                    return;
                }
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
                let started = Instant::now();
                while !may_finish.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let _ = stream.write_all(b"67890");
            });
        }
    });
    port
}

fn get(client: &Node, path: &str) -> TcpStream {
    let address = SocketAddr::from(([10, 77, 0, 100], 8080));
    let mut stream = client.enter(|| TcpStream::connect_timeout(&address, LIMIT)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: cloud.example\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

/// What an answer says up to and with this text.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).ends_with(text) {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&said)));
        said.extend_from_slice(&byte);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// A download that began on one node ends there, although the address is at the other one meanwhile.
fn a_hand_over_cuts_nothing(lan: &Lan, vip: &str) {
    let (here, there, client) = (lan.node(1), lan.node(2), lan.node(3));
    let may_finish = Arc::new(AtomicBool::new(false));
    let more = |port: u16| {
        format!(
            "{vip}\n[[pool]]\nname = \"wiki\"\nservers = [\"127.0.0.1:{port}\"]\n\
             check = {{ kind = \"tcp\", interval = \"100ms\" }}\n[[route]]\npool = \"wiki\"\n\
             [[listener]]\naddress = \"0.0.0.0:8080\"\nkind = \"http\"\n"
        )
    };
    let first = Lyre::start(&here, "\"10.77.0.100/24\"", &more(origin(&here, "a", &may_finish)));
    first.becomes("active");
    let second = Lyre::start(&there, "\"10.77.0.100/24\"", &more(origin(&there, "b", &may_finish)));
    let is_linked = |lyre: &Lyre| lyre.status().and_then(|status| status.pair).is_some_and(|pair| pair.is_up);
    eventually("they are linked", LIMIT, || is_linked(&first) && is_linked(&second) && second.is("backup"));

    read_until(&mut get(&client, "/"), "\r\n\r\na");
    let mut download = get(&client, "/slow");
    read_until(&mut download, "12345");
    let output = first.order(&["failover"]);
    assert!(output.status.success(), "{output:?}");
    second.becomes("active");
    read_until(&mut get(&client, "/"), "\r\n\r\nb");
    may_finish.store(true, Ordering::Relaxed);
    read_until(&mut download, "67890");
    eventually("the old node has nothing left to finish", LIMIT, || first.log().contains("hand-over finished"));
    assert!(!here.has_anywhere(V4) && there.has_anywhere(V4));
}

#[test]
fn a_planned_hand_over_cuts_nothing() {
    on_a_lan("a_planned_hand_over_cuts_nothing", |lan| a_hand_over_cuts_nothing(lan, ""));
}

#[test]
fn a_planned_hand_over_of_a_virtual_mac_cuts_nothing() {
    on_a_lan("a_planned_hand_over_of_a_virtual_mac_cuts_nothing", |lan| {
        a_hand_over_cuts_nothing(lan, "virtual_mac = true");
    });
}

/// Each form of `[[vip]]` that changes what is on the wire beside the addresses themselves.
#[test]
fn excluded_addresses_beside_keepalived() {
    let name = "excluded_addresses_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let extra = "virtual_ipaddress_excluded {\n 10.77.0.150/24\n fd77::150/64\n }";
            let vip = "excluded_addresses = [\"10.77.0.150/24\", \"fd77::150/64\"]";
            let addresses = ["10.77.0.100/24"];
            both_roles(lan, &addresses, vip, Duration::from_millis(100), extra);
            // And they go where the others go.
            let (here, there) = (lan.node(3), lan.node(4));
            let has = |node: &Node| ["10.77.0.100", "10.77.0.150", "fd77::150"].map(|address| node.has(address));
            let mut lyre =
                Lyre::start_alone(&here, &format!("addresses = [\"10.77.0.100/24\"]\npriority = 254\n{vip}"));
            lyre.becomes("active");
            let _peer = Keepalived::start(&there, 200, Duration::from_millis(100), &addresses, extra);
            eventually("Lyre holds all", LIMIT, || has(&here) == [true; 3] && has(&there) == [false; 3]);
            let sent = |lyre: &Lyre| lyre.routers().iter().map(|router| router.counters.adverts_sent).sum::<u64>();
            let before = sent(&lyre);
            eventually("keepalived accepts its adverts", LIMIT, || sent(&lyre) > before + 5);
            assert_eq!((has(&here), has(&there)), ([true; 3], [false; 3]));
            lyre.stop();
            eventually("keepalived holds all", LIMIT, || has(&here) == [false; 3] && has(&there) == [true; 3]);
        });
    }
}

#[test]
fn a_virtual_mac_beside_keepalived() {
    let name = "a_virtual_mac_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let (here, there, client) = (lan.node(1), lan.node(2), lan.node(3));
            let reaches = || {
                let ping = client.spawn(Command::new("ping").args(["-c1", "-W1", V4]).stdout(Stdio::null()));
                ping.wait_with_output().is_ok_and(|output| output.status.success())
            };
            let is_virtual = || reaches() && client.neighbour(V4).as_deref() == Some("00:00:5e:00:01:33");
            let mut lyre = Lyre::start(&here, "\"10.77.0.100/24\"", "virtual_mac = true");
            lyre.becomes("active");
            eventually("Lyre answers from the virtual MAC", LIMIT, is_virtual);
            let mut peer = Keepalived::start(&there, 200, Duration::from_millis(100), &["10.77.0.100/24"], "use_vmac");
            lyre.stop();
            eventually("keepalived has it", LIMIT, || there.has_anywhere(V4) && !here.has_anywhere(V4));
            eventually("keepalived answers from the same", LIMIT, is_virtual);
            lyre = lyre.run(&here);
            eventually("Lyre hears it", LIMIT, || lyre.hears_its_peer());
            peer.stop();
            lyre.becomes("active");
            eventually("Lyre answers again", LIMIT, is_virtual);
            assert!(here.has_anywhere(V4) && !there.has_anywhere(V4));
        });
    }
}

#[test]
fn announcements_follow_the_schedule_of_the_file_beside_keepalived() {
    let name = "announcements_follow_the_schedule_of_the_file_beside_keepalived";
    if is_installed("keepalived", name) {
        on_a_lan(name, |lan| {
            let (here, there) = (lan.node(1), lan.node(2));
            let tap = Tap::on(lan);
            let announced = |since: Duration| {
                let arp = |frame: &Frame| {
                    frame.bytes.get(12..14) == Some(&[8, 6]) && frame.bytes.get(28..32) == Some(&[10, 77, 0, 100])
                };
                tap.frames().iter().filter(|frame| frame.at >= since && arp(frame)).count()
            };
            let mut peer = Keepalived::start(&there, 200, Duration::from_millis(100), &["10.77.0.100/24"], "");
            eventually("keepalived is Active", LIMIT, || there.has(V4));
            let announce = "announce = { after_take_over = [\"0ms\", \"300ms\", \"600ms\"], refresh = false }";
            let lyre = Lyre::start(&here, "\"10.77.0.100/24\"", announce);
            eventually("it hears keepalived", LIMIT, || lyre.hears_its_peer());
            let since = tap.now();
            peer.stop();
            lyre.becomes("active");
            // Three moments, each in both forms of ARP.
            eventually("all were sent", LIMIT, || {
                lyre.routers().iter().all(|router| router.counters.announcements_sent == 6)
            });
            let sent = |lyre: &Lyre| lyre.routers().iter().map(|router| router.counters.adverts_sent).sum::<u64>();
            let before = sent(&lyre);
            eventually("a second passes", LIMIT, || sent(&lyre) > before + 10);
            assert_eq!(lyre.routers().iter().map(|router| router.counters.announcements_sent).sum::<u64>(), 6);
            assert!(announced(since) >= 6, "{}", announced(since));
        });
    }
}
