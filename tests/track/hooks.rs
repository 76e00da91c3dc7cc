//! Scripts, FIFO and event stream: the same words as the real keepalived's for the same story.

use crate::lab::{Folder, Namespace, Node, Running, Segment, lines, on_a_segment, until};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program told its scripts and its FIFO, by file.
type Told = Vec<(&'static str, Vec<String>)>;

const TOLD: [&str; 6] = ["any", "active", "backup", "fault", "stop", "fifo"];

/// Scripts that write their arguments down, one file each, and a reader of the FIFO, which lives as long as this process.
fn scripts(folder: &Folder) {
    for name in TOLD {
        let file = folder.path(&format!("{name}.told"));
        folder.script(name, &format!("echo \"$# $*\" >> {file}"));
    }
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").args(["-m", "600", &pipe]).status().unwrap().success());
    // Open for writing too, so that it neither waits for a writer nor ends with one.
    let mut reader = File::options().read(true).write(true).open(&pipe).unwrap();
    let mut copy = File::create(folder.path("fifo.told")).unwrap();
    std::thread::spawn(move || std::io::copy(&mut reader, &mut copy));
}

fn told(folder: &Folder) -> Told {
    TOLD.map(|name| (name, lines(Path::new(&folder.path(&format!("{name}.told")))))).into()
}

/// Start, take over, fail while a peer is there, recover, stop: on a node of priority 200, then it ends.
fn story(folder: &Folder, peer: &Node, stop: impl FnOnce()) {
    let any = || lines(Path::new(&folder.path("any.told")));
    let says = |state: &str, count: usize| {
        until(&format!("{count} times {state}: {:?}", any()), || {
            any().iter().filter(|line| line.contains(state)).count() == count
        });
    };
    says("MASTER", 1);
    folder.write("bad", "1");
    says("FAULT", 1);
    peer.is_soon("active");
    fs::remove_file(folder.path("bad")).unwrap();
    says("BACKUP", 2);
    stop();
    says("STOP", 1);
    until("the FIFO's reader has it all", || lines(Path::new(&folder.path("fifo.told"))).len() >= 5);
}

fn by_keepalived(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    let text = format!(
        "global_defs {{\n vrrp_version 3\n script_user root\n vrrp_notify_fifo {pipe}\n}}\n\
         vrrp_track_file bad {{\n file {bad}\n weight 0\n}}\n\
         vrrp_instance vip1 {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority 200\n\
         advert_int 0.1\n virtual_ipaddress {{\n 10.88.0.100/24\n }}\n track_file {{\n bad weight 0\n }}\n\
         notify {any}\n notify_master {active}\n notify_backup {backup}\n notify_fault {fault}\n notify_stop {stop}\n}}\n",
        pipe = folder.path("pipe"),
        bad = folder.path("bad"),
        any = folder.path("any"),
        active = folder.path("active"),
        backup = folder.path("backup"),
        fault = folder.path("fault"),
        stop = folder.path("stop"),
    );
    folder.write("conf", &text);
    let peer_place = segment.place(12);
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file", &folder.path("conf")]);
    command.args(["--pid", &folder.path("pid"), "--vrrp_pid", &folder.path("vrrp.pid")]);
    command.stdin(Stdio::null()).stdout(File::create(folder.path("log")).unwrap()).stderr(Stdio::null());
    let mut keepalived = Running(place.enter(|| command.spawn()).unwrap());
    until("keepalived is Active", || folder.read("any.told").contains("MASTER"));
    let peer = Node::start(&peer_place, Folder::new(), 100, "");
    story(&folder, &peer, || keepalived.signal(Signal::SIGTERM));
    keepalived.ends();
    told(&folder)
}

fn by_lyre(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    let more = "[[track]]\nname = \"bad\"\nkind = \"file\"\npath = \"bad\"\n\
                [[notify]]\nany = \"./any\"\nactive = \"./active\"\nbackup = \"./backup\"\nfault = \"./fault\"\n\
                stop = \"./stop\"\nfifo = \"pipe\"\n";
    let peer_place = segment.place(14);
    let mut node = Node::start(place, folder, 200, more);
    node.is_soon("active");
    let peer = Node::start(&peer_place, Folder::new(), 100, "");
    story(&node.folder, &peer, || node.program.signal(Signal::SIGTERM));
    node.program.ends();
    told(&node.folder)
}

#[test]
fn scripts_and_fifo_are_told_what_keepalived_tells_them() {
    let test = "scripts_and_fifo_are_told_what_keepalived_tells_them";
    if Command::new("keepalived").arg("--version").output().is_err() {
        println!("SKIPPED: {test}: keepalived is not installed");
        return;
    }
    on_a_segment(test, |segment| {
        let place = segment.place(11);
        let keepaliveds = by_keepalived(segment, &place);
        assert_eq!(keepaliveds[0].1.first().map(String::as_str), Some("4 INSTANCE vip1 BACKUP 200"));
        drop(place);
        let place = segment.place(13);
        assert_eq!(by_lyre(segment, &place), keepaliveds);
    });
}

#[test]
fn a_fifo_is_made_for_its_owner_alone_and_nobody_waits_for_a_reader() {
    on_a_segment("a_fifo_is_made_for_its_owner_alone_and_nobody_waits_for_a_reader", |segment| {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let place = segment.place(11);
        let node = Node::start(&place, Folder::new(), 200, "[[notify]]\nfifo = \"pipe\"\n");
        node.is_soon("active");
        let made = fs::metadata(node.folder.path("pipe")).unwrap();
        assert!(made.file_type().is_fifo());
        assert_eq!(made.permissions().mode() & 0o777, 0o600);
        until("its lines are counted as lost", || node.status().hooks.lost_lines == 2);
    });
}

#[test]
fn events_are_streamed_as_they_happen() {
    on_a_segment("events_are_streamed_as_they_happen", |segment| {
        let place = segment.place(11);
        let file = "[[track]]\nname = \"file\"\nkind = \"file\"\npath = \"file\"\nweight = 1\n";
        let node = Node::start(&place, Folder::new(), 200, file);
        node.is_soon("active");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyre"));
        command.args(["events", "--json", "--socket", &node.folder.path("run/lyre.sock")]).stdout(Stdio::piped());
        let mut events = Running(command.spawn().unwrap());
        let mut heard = BufReader::new(events.0.stdout.take().unwrap()).lines();
        let mut next = || serde_json::from_str::<serde_json::Value>(&heard.next().unwrap().unwrap()).unwrap();
        assert_eq!(next()["event"], "subscribed");
        node.folder.write("file", "5");
        let (mut tracker, mut ability) = (None, None);
        while tracker.is_none() || ability.is_none() {
            let event = next();
            match event["event"].as_str().unwrap() {
                "tracker" if event["weight"] == 5 => tracker = Some(event),
                "ability" if event["weight"] == 5 => ability = Some(event),
                _ => {}
            }
        }
        let (tracker, ability) = (tracker.unwrap(), ability.unwrap());
        assert_eq!((&tracker["tracker"], &tracker["reason"]), (&"file".into(), &"it holds 5".into()));
        assert_eq!((&ability["router"], &ability["health"]), (&"vip1-v4".into(), &"able".into()));
        place.ip("link set eth0 down");
        let event = std::iter::repeat_with(next).find(|event| event["event"] == "transition").unwrap();
        assert_eq!((&event["from"], &event["to"]), (&"active".into(), &"initialize".into()));
        assert_eq!(event["reason"], "link_down");
    });
}
