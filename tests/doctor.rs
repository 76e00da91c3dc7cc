//! `lyre doctor vrrp` in namespaces with something wrong in them, beside the real keepalived: it must name the cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LYRE: &str = env!("CARGO_BIN_EXE_lyre");

#[test]
fn a_sound_pair_fails_no_check() {
    if let Some(lan) = Lan::new("a_sound_pair_fails_no_check") {
        let _keepalived = lan.keepalived(51, "10.77.0.100/24");
        let report = lan.examine();
        assert_eq!(report.failed(), Vec::<String>::new(), "{}", report.0);
        assert_eq!(report.level("multicast"), "ok");
        assert_eq!(report.level("reception"), "ok");
        assert_eq!(report.level("sending"), "ok");
        assert!(report.message("actives").contains("10.77.0.2 is Active"), "{}", report.0);
    }
}

#[test]
fn multicast_filtered_on_the_way_is_silence_of_a_peer_that_lives() {
    if let Some(lan) = Lan::new("multicast_filtered_on_the_way_is_silence_of_a_peer_that_lives") {
        let _keepalived = lan.keepalived(51, "10.77.0.100/24");
        lan.switch.run("nft add table netdev f");
        lan.switch.run("nft add chain netdev f out '{ type filter hook egress device port1 priority 0; }'");
        lan.switch.run("nft add rule netdev f out ether daddr 01:00:5e:00:00:12 drop");
        let report = lan.examine();
        assert_eq!(report.failed(), ["multicast"], "{}", report.0);
    }
}

#[test]
fn a_firewall_that_drops_adverts_is_named_with_its_rule() {
    if let Some(lan) = Lan::new("a_firewall_that_drops_adverts_is_named_with_its_rule") {
        let _keepalived = lan.keepalived(51, "10.77.0.100/24");
        lan.node.run("nft add table inet guard");
        lan.node.run("nft add chain inet guard in '{ type filter hook input priority 0; }'");
        lan.node.run("nft add rule inet guard in ip protocol vrrp drop");
        let report = lan.examine();
        assert_eq!(report.failed(), ["reception"], "{}", report.0);
        assert!(report.message("reception").contains("vrrp drop (chain inet guard in)"), "{}", report.0);
    }
}

#[test]
fn a_firewall_that_keeps_our_adverts_in_is_felt() {
    if let Some(lan) = Lan::new("a_firewall_that_keeps_our_adverts_in_is_felt") {
        let _keepalived = lan.keepalived(51, "10.77.0.100/24");
        lan.node.run("nft add table inet guard");
        lan.node.run("nft add chain inet guard out '{ type filter hook output priority 0; }'");
        lan.node.run("nft add rule inet guard out oifname eth0 ip protocol vrrp drop");
        assert_eq!(lan.examine().failed(), ["sending"]);
    }
}

#[test]
fn somebody_elses_virtual_router_of_our_number_is_a_clash() {
    if let Some(lan) = Lan::new("somebody_elses_virtual_router_of_our_number_is_a_clash") {
        let _keepalived = lan.keepalived_from("10.77.0.9", 51, "10.77.0.200/24");
        let report = lan.examine();
        assert!(report.failed().contains(&"vrid".to_owned()), "{}", report.0);
        assert!(report.message("vrid").contains("10.77.0.9 uses VRID 51"), "{}", report.0);
    }
}

#[test]
fn rp_filter_is_named_when_the_sender_is_routed_elsewhere() {
    if let Some(lan) = Lan::new("rp_filter_is_named_when_the_sender_is_routed_elsewhere") {
        let _keepalived = lan.keepalived_from("10.99.0.2", 51, "10.77.0.100/24");
        lan.node.run("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1");
        lan.node.run("ip link add away type veth peer name gone && ip link set away up && ip link set gone up");
        lan.node.run("ip address add 10.98.0.1/24 dev away && ip route add 10.99.0.0/24 dev away");
        let report = lan.examine();
        assert!(report.failed().contains(&"reception".to_owned()), "{}", report.0);
        assert!(report.message("reception").contains("rp_filter"), "{}", report.0);
    }
}

#[test]
fn a_fight_for_the_address_is_seen() {
    if let Some(lan) = Lan::new("a_fight_for_the_address_is_seen") {
        let lyre = lan.lyre();
        lan.until_it_holds_the_address();
        // Slowly enough that Lyre keeps on putting it back.
        let script = "while sleep 1; do ip address delete 10.77.0.100/24 dev eth0; done";
        let _vandal = Guard(lan.node.command("sh").args(["-c", script]).stderr(Stdio::null()).spawn().unwrap());
        let report = lan.examine();
        assert!(report.failed().contains(&"address".to_owned()), "{}", report.0);
        assert!(report.message("address").contains("removed a virtual address"), "{}", report.0);
        drop(lyre);
    }
}

#[test]
fn another_machine_with_the_virtual_address_is_found() {
    if let Some(lan) = Lan::new("another_machine_with_the_virtual_address_is_found") {
        let _keepalived = lan.keepalived(51, "10.77.0.100/24");
        lan.stranger.run("ip address add 10.77.0.100/24 dev eth0");
        let ping = "while :; do arping -q -c 1 -U -I eth0 10.77.0.100; sleep 0.3; done";
        let _claims = Guard(lan.stranger.command("sh").args(["-c", ping]).spawn().unwrap());
        let report = lan.examine();
        assert_eq!(report.failed(), ["address"], "{}", report.0);
    }
}

#[test]
fn without_a_link_or_privilege_it_says_so_and_still_ends_well() {
    if let Some(lan) = Lan::new("without_a_link_or_privilege_it_says_so_and_still_ends_well") {
        lan.node.run("ip link set eth0 down");
        assert!(lan.examine().failed().contains(&"link".to_owned()));
        lan.node.run("ip link set eth0 up");
        let mut command = lan.node.command("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all", LYRE]);
        let report = lan.ask(command);
        assert!(report.failed().contains(&"privileges".to_owned()), "{}", report.0);
    }
}

/// The findings as JSON.
struct Report(Value);

impl Report {
    /// What fails of the namespaces' making. What the hypervisor takes meanwhile, `clock`, is this machine's matter.
    fn failed(&self) -> Vec<String> {
        self.all_failed().into_iter().filter(|check| check != "clock").collect()
    }

    fn all_failed(&self) -> Vec<String> {
        let list = self.0["findings"].as_array().unwrap().iter();
        list.filter(|f| f["level"] == "fail").map(|f| f["check"].as_str().unwrap().to_owned()).collect()
    }

    fn of(&self, check: &str) -> &Value {
        self.0["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap()
    }

    fn level(&self, check: &str) -> &str {
        self.of(check)["level"].as_str().unwrap()
    }

    fn message(&self, check: &str) -> &str {
        self.of(check)["message"].as_str().unwrap()
    }
}

/// `node` (10.77.0.1, where the doctor comes), `peer` (10.77.0.2) and `stranger` (10.77.0.3) on a switch.
struct Lan {
    switch: Namespace,
    node: Namespace,
    peer: Namespace,
    stranger: Namespace,
    folder: PathBuf,
}

impl Lan {
    fn new(test: &str) -> Option<Lan> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: {test}: needs root");
            return None;
        }
        if !["keepalived", "nft", "arping"].iter().all(|program| is_installed(program)) {
            println!("SKIPPED: {test}: keepalived, nft or arping is not installed");
            return None;
        }
        static MADE: AtomicU32 = AtomicU32::new(0);
        let serial = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("lyre-doctor-{}-{serial}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [switch, node, peer, stranger] = [(); 4].map(|()| Namespace::new());
        switch.run("ip link add br0 type bridge mcast_snooping 0 forward_delay 0 && ip link set br0 up");
        for (place, number) in [(&node, 1), (&peer, 2), (&stranger, 3)] {
            let pid = place.0.0.id();
            switch.run(&format!("ip link add port{number} type veth peer name eth0 netns {pid}"));
            switch.run(&format!("ip link set port{number} master br0 up"));
            place.run(&format!("ip link set lo up; ip address add 10.77.0.{number}/24 dev eth0; ip link set eth0 up"));
        }
        let lan = Lan { switch, node, peer, stranger, folder };
        fs::write(lan.folder.join("key"), "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n")
            .unwrap();
        lan.node.run(&format!("chmod 600 {}", lan.folder.join("key").display()));
        fs::write(lan.config(), configuration(&lan.folder)).unwrap();
        Some(lan)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("lyre.toml")
    }

    /// At the peer's own address.
    fn keepalived(&self, vrid: u8, address: &str) -> Guard {
        self.keepalived_from("10.77.0.2", vrid, address)
    }

    /// Returns when it is Active.
    fn keepalived_from(&self, source: &str, vrid: u8, address: &str) -> Guard {
        if source != "10.77.0.2" {
            self.peer.run(&format!("ip address flush dev eth0; ip address add {source}/24 dev eth0"));
        }
        let text = format!(
            "global_defs {{\n vrrp_version 3\n vrrp_rt_priority 50\n vrrp_rlimit_rttime 500000\n}}\nvrrp_instance v {{\n state BACKUP\n \
             interface eth0\n virtual_router_id {vrid}\n priority 200\n advert_int 0.1\n virtual_ipaddress {{\n {address}\n }}\n}}\n"
        );
        let file = |name: &str| self.folder.join(name);
        fs::write(file("keepalived.conf"), text).unwrap();
        let mut command = self.peer.command("keepalived");
        command
            .args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file"])
            .arg(file("keepalived.conf"));
        command.arg("--pid").arg(file("ka.pid")).arg("--vrrp_pid").arg(file("ka.vrrp.pid"));
        let keepalived = Guard(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let address = address.split('/').next().unwrap();
        self.eventually("keepalived is Active", || self.peer.run("ip -o address").contains(address));
        keepalived
    }

    /// `lyre run` on the node.
    fn lyre(&self) -> Guard {
        let mut command = self.node.command(LYRE);
        command.arg("run").arg("--config").arg(self.config());
        Guard(command.stdout(Stdio::null()).stderr(fs::File::create(self.folder.join("log")).unwrap()).spawn().unwrap())
    }

    fn until_it_holds_the_address(&self) {
        self.eventually("lyre holds the address", || self.node.run("ip -o address").contains("10.77.0.100"));
    }

    fn examine(&self) -> Report {
        self.ask(self.node.command(LYRE))
    }

    /// A port nobody listens on answers for the peer by refusing.
    fn ask(&self, mut command: Command) -> Report {
        command.args(["doctor", "vrrp", "--json", "--wait", "3s", "--node", "a", "--config"]).arg(self.config());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text);
        let report =
            Report(report.unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr))));
        assert_eq!(output.status.code(), Some(if report.all_failed().is_empty() { 0 } else { 1 }), "{}", report.0);
        report
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[cluster]\nsecret_file = \"{folder}/key\"\n\
         nodes = [{{ name = \"a\", address = \"10.77.0.1\" }}, {{ name = \"b\", address = \"10.77.0.2\" }}]\n\n\
         [[vip]]\naddresses = [\"10.77.0.100/24\"]\ninterface = \"eth0\"\nvrid = 51\n\n\
         [admin]\nsocket = \"{folder}/lyre.sock\"\n"
    )
}

fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|place| Path::new(place).join(program).exists())
}

/// A network namespace that a sleeping process keeps open.
struct Namespace(Guard);

impl Namespace {
    fn new() -> Namespace {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let child = Command::new("unshare").args(["--net", "sleep", "3600"]).spawn().unwrap();
        let place = Namespace(Guard(child));
        let path = format!("/proc/{}/ns/net", place.0.0.id());
        while fs::read_link(&path).is_ok_and(|net| net == own) {
            thread::sleep(Duration::from_millis(1));
        }
        place
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.0.id())).arg(program);
        command
    }

    fn run(&self, script: &str) -> String {
        let output =
            self.command("sh").args(["-ec", &format!("PATH=$PATH:/usr/sbin:/sbin; {script}")]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A process that ends with the test. keepalived's and the shell's children end with it or soon after.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(5) {
                let _ = self.0.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
