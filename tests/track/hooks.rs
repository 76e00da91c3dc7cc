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

/// Only the FIFO has an order: keepalived starts its scripts side by side, and on a busy machine the later ends first.
fn told(folder: &Folder) -> Told {
    let told = TOLD.map(|name| {
        let mut lines = lines(Path::new(&folder.path(&format!("{name}.told"))));
        if name != "fifo" {
            lines.sort();
        }
        (name, lines)
    });
    told.into()
}

/// Start, take over, fail while a peer is there, recover, stop: on a node of priority 200, then it ends.
fn story(folder: &Folder, peer: &Node, fifo_lines: usize, stop: impl FnOnce()) {
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
    until("the FIFO's reader has it all", || lines(Path::new(&folder.path("fifo.told"))).len() >= fifo_lines);
}

fn keepalived(place: &Namespace, folder: &Folder, text: &str) -> Running {
    folder.write("conf", text);
    let mut command = Command::new("keepalived");
    command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file", &folder.path("conf")]);
    command.args(["--pid", &folder.path("pid"), "--vrrp_pid", &folder.path("vrrp.pid")]);
    command.stdin(Stdio::null()).stdout(File::create(folder.path("log")).unwrap()).stderr(Stdio::null());
    let keepalived = Running(place.enter(|| command.spawn()).unwrap());
    until("keepalived is Active", || folder.read("any.told").contains("MASTER"));
    keepalived
}

/// keepalived's lines for the scripts of [`TOLD`].
fn notify_lines(folder: &Folder) -> String {
    let [any, active, backup, fault, stop] = ["any", "active", "backup", "fault", "stop"].map(|name| folder.path(name));
    format!(
        "notify {any}\n notify_master {active}\n notify_backup {backup}\n notify_fault {fault}\n notify_stop {stop}\n"
    )
}

/// Lyre's.
const NOTIFY: &str = "any = \"./any\"\nactive = \"./active\"\nbackup = \"./backup\"\nfault = \"./fault\"\n\
                      stop = \"./stop\"\n";

/// Both write down when a weight has moved the priority.
fn weigh(folder: &Folder) {
    folder.write("prio", "5");
    until("the FIFO is told of the priority", || folder.read("fifo.told").contains("PRIORITY 205"));
}

fn by_keepalived(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    folder.write("prio", "0");
    let text = format!(
        "global_defs {{\n vrrp_version 3\n script_user root\n vrrp_notify_fifo {pipe}\n vrrp_notify_priority_changes on\n}}\n\
         vrrp_track_file bad {{\n file {bad}\n weight 0\n}}\n\
         vrrp_track_file prio {{\n file {prio}\n weight 1\n}}\n\
         vrrp_instance vip1 {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority 200\n\
         advert_int 0.1\n virtual_ipaddress {{\n 10.88.0.100/24\n }}\n track_file {{\n bad weight 0\n prio weight 1\n }}\n\
         {notify}}}\n",
        pipe = folder.path("pipe"),
        bad = folder.path("bad"),
        prio = folder.path("prio"),
        notify = notify_lines(&folder),
    );
    let peer_place = segment.place(12);
    let mut keepalived = keepalived(place, &folder, &text);
    weigh(&folder);
    let peer = Node::start(&peer_place, Folder::new(), 100, "");
    story(&folder, &peer, 6, || keepalived.signal(Signal::SIGTERM));
    keepalived.ends();
    told(&folder)
}

fn by_lyre(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    folder.write("prio", "0");
    let more = format!(
        "[[track]]\nname = \"bad\"\nkind = \"file\"\npath = \"bad\"\n\
         [[track]]\nname = \"prio\"\nkind = \"file\"\npath = \"prio\"\nweight = 1\n\
         [[notify]]\n{NOTIFY}fifo = \"pipe\"\npriority_changes = true\n"
    );
    let peer_place = segment.place(14);
    let mut node = Node::start(place, folder, 200, &more);
    node.is_soon("active");
    weigh(&node.folder);
    let peer = Node::start(&peer_place, Folder::new(), 100, "");
    story(&node.folder, &peer, 6, || node.program.signal(Signal::SIGTERM));
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

/// A second router, in a group with the first.
fn second(priority: u8) -> String {
    format!(
        "sync_group = \"G1\"\n[[vip]]\naddresses = [\"10.88.0.101/24\"]\ninterface = \"eth0\"\nvrid = 52\n\
         priority = {priority}\nsync_group = \"G1\"\n"
    )
}

fn group_by_keepalived(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    let instance = |number: u8| {
        format!(
            "vrrp_instance vip{number} {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id {}\n\
             priority 200\n advert_int 0.1\n virtual_ipaddress {{\n 10.88.0.{}/24\n }}\n}}\n",
            50 + number,
            99 + number
        )
    };
    let text = format!(
        "global_defs {{\n vrrp_version 3\n script_user root\n vrrp_notify_fifo {pipe}\n}}\n\
         vrrp_track_file bad {{\n file {bad}\n weight 0\n}}\n\
         vrrp_sync_group G1 {{\n group {{\n vip1\n vip2\n }}\n track_file {{\n bad weight 0\n }}\n{notify}}}\n{}{}",
        instance(1),
        instance(2),
        pipe = folder.path("pipe"),
        bad = folder.path("bad"),
        notify = notify_lines(&folder),
    );
    let peer_place = segment.place(12);
    let mut keepalived = keepalived(place, &folder, &text);
    let peer = Node::start(&peer_place, Folder::new(), 100, &second(100));
    story(&folder, &peer, 15, || keepalived.signal(Signal::SIGTERM));
    keepalived.ends();
    told(&folder)
}

fn group_by_lyre(segment: &Segment, place: &Namespace) -> Told {
    let folder = Folder::new();
    scripts(&folder);
    let more = format!(
        "{}[[track]]\nname = \"bad\"\nkind = \"file\"\npath = \"bad\"\n\
         [[notify]]\nfifo = \"pipe\"\n[[notify]]\nsync_groups = [\"G1\"]\n{NOTIFY}",
        second(200)
    );
    let peer_place = segment.place(14);
    let mut node = Node::start(place, folder, 200, &more);
    node.is_soon("active");
    let peer = Node::start(&peer_place, Folder::new(), 100, &second(100));
    story(&node.folder, &peer, 15, || node.program.signal(Signal::SIGTERM));
    node.program.ends();
    told(&node.folder)
}

/// Which of two members moves first is chance; that both do before their group is told of is not.
fn whichever_comes_first(mut told: Told) -> Told {
    for (_, lines) in &mut told {
        let count = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
        assert_eq!(count("vip1"), count("vip2"), "{lines:?}");
        lines.iter_mut().for_each(|line| *line = line.replace("vip2", "vip1"));
    }
    told
}

#[test]
fn a_sync_group_is_told_of_as_keepalived_tells_of_it() {
    let test = "a_sync_group_is_told_of_as_keepalived_tells_of_it";
    if Command::new("keepalived").arg("--version").output().is_err() {
        println!("SKIPPED: {test}: keepalived is not installed");
        return;
    }
    on_a_segment(test, |segment| {
        let place = segment.place(11);
        let keepaliveds = whichever_comes_first(group_by_keepalived(segment, &place));
        assert_eq!(keepaliveds[0].1.first().map(String::as_str), Some("4 GROUP G1 BACKUP 0"));
        drop(place);
        let place = segment.place(13);
        assert_eq!(whichever_comes_first(group_by_lyre(segment, &place)), keepaliveds);
    });
}

/// Reads the FIFO that its last argument names, to the end of it. keepalived asks it to end before the last lines.
fn reader(folder: &Folder) -> String {
    let told = folder.path("reader.told");
    folder.script(
        "reader",
        &format!("trap '' TERM\necho \"args $# $1\" >> {told}\nwhile read -r line; do echo \"$line\" >> {told}; done < \"$2\""),
    )
}

/// What the reader was told of each router, and with which arguments it was started.
fn read_of_each(folder: &Folder) -> [Vec<String>; 3] {
    let all = lines(Path::new(&folder.path("reader.told")));
    let with = |word: &str| all.iter().filter(|line| line.contains(word)).cloned().collect::<Vec<_>>();
    let mut starts = with("args ");
    starts.dedup();
    [starts, with("\"vip1\""), with("\"second\"")]
}

/// Two routers run; a reload removes the second, then the program ends.
fn removal(folder: &Folder, reload: impl FnOnce(), stop: impl FnOnce()) -> [Vec<String>; 3] {
    let says = |what: &str| until(what, || folder.read("reader.told").contains(what));
    says("\"vip1\" MASTER");
    says("\"second\" MASTER");
    reload();
    says("\"second\" DELETED");
    until("the script for it has run", || folder.read("gone.told") == "0 \n");
    stop();
    says("\"vip1\" STOP");
    read_of_each(folder)
}

fn removal_by_keepalived(place: &Namespace) -> [Vec<String>; 3] {
    let folder = Folder::new();
    scripts(&folder);
    folder.script("gone", &format!("echo \"$# $*\" >> {}", folder.path("gone.told")));
    let instance = |name: &str, vrid: u8, more: &str| {
        format!(
            "vrrp_instance {name} {{\n state BACKUP\n interface eth0\n virtual_router_id {vrid}\n priority 200\n\
             advert_int 0.1\n virtual_ipaddress {{\n 10.88.0.{}/24\n }}\n notify {}\n {more}\n}}\n",
            vrid + 49,
            folder.path("any"),
        )
    };
    let global = format!(
        "global_defs {{\n vrrp_version 3\n script_user root\n vrrp_notify_fifo {}\n vrrp_notify_fifo_script \"{} word\"\n}}\n",
        folder.path("events"),
        reader(&folder),
    );
    let first = instance("vip1", 51, "");
    let second = instance("second", 52, &format!("notify_deleted {}", folder.path("gone")));
    let mut keepalived = keepalived(place, &folder, &format!("{global}{first}{second}"));
    let reload = || {
        folder.write("conf", &format!("{global}{first}"));
        keepalived.signal(Signal::SIGHUP);
    };
    let told = removal(&folder, reload, || keepalived.signal(Signal::SIGTERM));
    keepalived.ends();
    told
}

fn removal_by_lyre(place: &Namespace) -> [Vec<String>; 3] {
    let folder = Folder::new();
    folder.script("gone", &format!("echo \"$# $*\" >> {}", folder.path("gone.told")));
    reader(&folder);
    let second = "[[vip]]\nname = \"second\"\naddresses = [\"10.88.0.101/24\"]\ninterface = \"eth0\"\nvrid = 52\npriority = 200\n";
    let notify = "[[notify]]\nfifo = \"events\"\nfifo_script = [\"./reader\", \"word\"]\ndeleted = \"./gone\"\n";
    let mut node = Node::start(place, folder, 200, &format!("{second}{notify}"));
    let before = node.status().hooks.runs;
    let told = removal(&node.folder, || node.reload(200, notify), || node.program.signal(Signal::SIGTERM));
    assert_eq!(before, 1, "the reader is the first program that is run");
    node.program.ends();
    told
}

#[test]
fn a_fifo_script_reads_what_keepalived_s_reads_of_a_router_that_is_removed_too() {
    let test = "a_fifo_script_reads_what_keepalived_s_reads_of_a_router_that_is_removed_too";
    if Command::new("keepalived").arg("--version").output().is_err() {
        println!("SKIPPED: {test}: keepalived is not installed");
        return;
    }
    on_a_segment(test, |segment| {
        let place = segment.place(11);
        let keepaliveds = removal_by_keepalived(&place);
        assert_eq!(keepaliveds[0], ["args 2 word"]);
        assert_eq!(keepaliveds[2].last().map(String::as_str), Some("INSTANCE \"second\" DELETED 200"));
        drop(place);
        let place = segment.place(13);
        assert_eq!(removal_by_lyre(&place), keepaliveds);
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
