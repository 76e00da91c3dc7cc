//! The VRRP daemons alone, without a proxy: `lyre run` with nothing but a `[[vip]]`, and keepalived.
//!
//! A client sends a datagram a millisecond to the virtual address; whoever has it answers. The gap is the longest time
//! between two answers around the fault. Meanwhile both nodes are asked every few milliseconds whether they hold the
//! address. And what a daemon costs: CPU time per 1,000 adverts and memory.

use lyre::demo::DemoError;
use lyre::demo::lab::{Host, Lab, VIRTUAL_V4};
use lyre::demo::measure::percentile;
use lyre::demo::sandbox;
use lyre::demo::view::print;
use lyre_vrrp::link::linux::netlink::Netlink;
use lyre_vrrp::packet::Family;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const VIRTUAL: SocketAddrV4 = SocketAddrV4::new(VIRTUAL_V4, 7777);

/// Before the fault, so that the machine's own noise is in the record, and after it, for what comes late.
const AROUND: Duration = Duration::from_millis(500);

/// A stopped daemon is watched for this long; keepalived leaves its address for ever.
const STOPPED: Duration = Duration::from_secs(10);

const COST_SECONDS: u64 = 10;

const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Lyre,
    Keepalived,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    /// SIGTERM: priority 0.
    End,
    Cable,
    /// SIGSTOP of the daemon only; its kernel goes on answering.
    Stop,
}

/// A row of the table, for both programs. The preferred node has priority 254.
struct Case {
    advert_ms: u64,
    second_priority: u8,
    event: Event,
}

const CASES: [Case; 7] = [
    Case { advert_ms: 100, second_priority: 253, event: Event::End },
    Case { advert_ms: 100, second_priority: 100, event: Event::End },
    Case { advert_ms: 100, second_priority: 253, event: Event::Cable },
    Case { advert_ms: 10, second_priority: 253, event: Event::Cable },
    Case { advert_ms: 1000, second_priority: 253, event: Event::End },
    Case { advert_ms: 1000, second_priority: 253, event: Event::Cable },
    Case { advert_ms: 100, second_priority: 253, event: Event::Stop },
];

struct Measured {
    program: Program,
    case: usize,
    gap: Duration,
    two_holders: Duration,
}

struct Cost {
    program: Program,
    /// Of all threads of the daemon, for 1,000 adverts sent and for 1,000 received.
    active: Duration,
    backup: Duration,
    resident_kib: u64,
    /// The part that no other process shares.
    own_kib: u64,
}

/// All rows `runs` times, taking turns, and the costs once. The part of the report.
pub(crate) fn bench(lab: &Arc<Lab>, runs: u64) -> Result<String, DemoError> {
    let mut measured = Vec::new();
    for run in 1..=runs {
        for (number, case) in CASES.iter().enumerate() {
            for program in [Program::Lyre, Program::Keepalived] {
                let (gap, two_holders) = suffer(lab, program, case, run)?;
                print(&format!(
                    "run {run:>2}  {:<38} {:<11} gap {:>7.1} ms  two holders {:>8.1} ms\n",
                    label(case),
                    name(program),
                    millis(gap),
                    millis(two_holders)
                ));
                measured.push(Measured { program, case: number, gap, two_holders });
            }
        }
    }
    let costs = [Program::Lyre, Program::Keepalived].map(|program| cost(lab, program));
    let costs = costs.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(report(&measured, &costs))
}

fn suffer(lab: &Arc<Lab>, program: Program, case: &Case, run: u64) -> Result<(Duration, Duration), DemoError> {
    let mut pair = Pair::start(lab, program, case.advert_ms, case.second_priority)?;
    let holder = pair.settle()?;
    let probe = Probe::start(lab)?;
    // Anywhere between two adverts.
    std::thread::sleep(AROUND + Duration::from_millis(run * 37 % case.advert_ms));
    let (at, other) = (Instant::now(), 1 - holder);
    match case.event {
        Event::End => pair.signal(holder, Signal::SIGTERM)?,
        Event::Cable => lab.nodes[holder].unplug()?,
        Event::Stop => pair.signal(holder, Signal::SIGSTOP)?,
    }
    pair.wait("the other node has the address", |held| held[other])?;
    std::thread::sleep(if case.event == Event::Stop { STOPPED } else { AROUND });
    let (gap, two_holders) = (probe.longest_gap(at - AROUND), pair.two_holders_since(at));
    drop(probe);
    if case.event == Event::Cable {
        lab.nodes[holder].plug()?;
    }
    pair.end()?;
    Ok((gap, two_holders))
}

fn cost(lab: &Arc<Lab>, program: Program) -> Result<Cost, DemoError> {
    let mut pair = Pair::start(lab, program, 10, 253)?;
    let holder = pair.settle()?;
    let used = |node: usize| pair.processes(node).into_iter().map(processor_time).sum::<Duration>();
    let before = [0, 1].map(used);
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(COST_SECONDS));
    let adverts = start.elapsed().as_secs_f64() * 100.0;
    let after = [0, 1].map(used);
    let per_1000 = |node: usize| (after[node].saturating_sub(before[node])).mul_f64(1000.0 / adverts);
    let memory = |key: &str| pair.processes(holder).into_iter().map(|pid| memory_kib(pid, key)).sum();
    let cost = Cost {
        program,
        active: per_1000(holder),
        backup: per_1000(1 - holder),
        resident_kib: memory("Rss:"),
        own_kib: memory("Private_Clean:") + memory("Private_Dirty:"),
    };
    pair.end()?;
    Ok(cost)
}

/// Two daemons and who holds the address.
struct Pair {
    lab: Arc<Lab>,
    children: [Child; 2],
    log: Arc<Mutex<Vec<Look>>>,
    is_over: Arc<AtomicBool>,
}

/// At that moment the nodes held the address or not.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    held: [bool; 2],
}

impl Pair {
    fn start(lab: &Arc<Lab>, program: Program, advert_ms: u64, second_priority: u8) -> Result<Pair, DemoError> {
        let start = |node: usize, priority| match program {
            Program::Lyre => start_lyre(lab, node, advert_ms, second_priority),
            Program::Keepalived => start_keepalived(lab, node, advert_ms, priority),
        };
        let children = [start(0, 254)?, start(1, second_priority)?];
        let (log, is_over) = (Arc::default(), Arc::default());
        let pair = Pair { lab: Arc::clone(lab), children, log, is_over };
        pair.look_on()?;
        Ok(pair)
    }

    /// Asks both kernels every two milliseconds, on a thread.
    fn look_on(&self) -> Result<(), DemoError> {
        let mut kernels = Vec::new();
        for node in &self.lab.nodes {
            let step = DemoError::lab("asking for addresses");
            kernels.push(
                node.on(|| {
                    let mut netlink = Netlink::open()?;
                    let index = netlink.interface("eth0")?.map_or(0, |interface| interface.index);
                    Ok::<_, std::io::Error>((netlink, index))
                })?
                .map_err(step)?,
            );
        }
        let (log, is_over) = (Arc::clone(&self.log), Arc::clone(&self.is_over));
        std::thread::spawn(move || {
            let mut assigned = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                let mut held = [false; 2];
                for (held, (netlink, index)) in held.iter_mut().zip(&mut kernels) {
                    assigned.clear();
                    let _ = netlink.addresses(*index, Family::V4, &mut assigned);
                    *held = assigned.iter().any(|a| a.network.addr() == VIRTUAL_V4);
                }
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Look { at: Instant::now(), held });
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Ok(())
    }

    fn looks(&self) -> Vec<Look> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait(&self, awaited: &str, holds: impl Fn([bool; 2]) -> bool) -> Result<(), DemoError> {
        let start = Instant::now();
        while !self.looks().last().is_some_and(|look| holds(look.held)) {
            if start.elapsed() > SETTLE_DEADLINE {
                return Err(DemoError::Deadline { awaited: awaited.to_owned(), waited: SETTLE_DEADLINE });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until one node has held the address alone for a second.
    fn settle(&mut self) -> Result<usize, DemoError> {
        let start = Instant::now();
        loop {
            let looks = self.looks();
            let last: Vec<_> =
                looks.iter().rev().take_while(|look| look.at.elapsed() < Duration::from_secs(1)).collect();
            let is_old = looks.first().is_some_and(|look| look.at.elapsed() > Duration::from_secs(2));
            for holder in [0, 1] {
                if is_old && last.iter().all(|look| look.held[holder] && !look.held[1 - holder]) {
                    return Ok(holder);
                }
            }
            if start.elapsed() > SETTLE_DEADLINE {
                let awaited = "one holder of the address".to_owned();
                return Err(DemoError::Deadline { awaited, waited: SETTLE_DEADLINE });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn two_holders_since(&self, at: Instant) -> Duration {
        let looks = self.looks();
        let recent = looks.iter().zip(looks.iter().skip(1)).filter(|(look, _)| look.at >= at);
        recent.filter(|(look, _)| look.held == [true; 2]).map(|(look, next)| next.at - look.at).sum()
    }

    /// A node's daemon with everything below it.
    fn processes(&self, node: usize) -> Vec<Pid> {
        let mut found = vec![Pid::from_raw(self.children[node].id() as i32)];
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw));
            next += 1;
        }
        found
    }

    /// SIGTERM to the daemon; SIGSTOP to all of it.
    fn signal(&self, node: usize, signal: Signal) -> Result<(), DemoError> {
        let all = self.processes(node);
        let count = if signal == Signal::SIGSTOP { all.len() } else { 1 };
        for pid in all.into_iter().take(count) {
            kill(pid, signal).map_err(|error| DemoError::lab("signalling a daemon")(error.into()))?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), DemoError> {
        for node in [0, 1] {
            for pid in self.processes(node) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            let _ = self.children[node].wait();
            self.lab.nodes[node].reset_addresses()?;
        }
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

fn start_lyre(lab: &Lab, node: usize, advert_ms: u64, second: u8) -> Result<Child, DemoError> {
    let [a, b] = &lab.nodes;
    let (directory, key) = (directory("lyre", node)?, "secret");
    write(&directory.join(key), &"0123456789abcdef".repeat(4))?;
    let text = format!(
        "[cluster]\nsecret_file = \"secret\"\nnodes = [\n  {{ name = \"a\", address = \"{}\", priority = 254 }},\n  \
         {{ name = \"b\", address = \"{}\", priority = {second} }},\n]\n\n[[vip]]\naddresses = [\"{VIRTUAL_V4}/24\"]\n\
         interface = \"eth0\"\nvrid = 51\nadvert_interval = \"{advert_ms}ms\"\n\n[admin]\nsocket = \"{}\"\n",
        a.v4,
        b.v4,
        directory.join("socket").display()
    );
    write(&directory.join("lyre.toml"), &text)?;
    let mut command = sandbox::outsider(crate::shipped::lyre().map_err(DemoError::lab("finding lyre"))?);
    command.args(["run", "--node", ["a", "b"][node], "--config"]).arg(directory.join("lyre.toml"));
    spawn(&lab.nodes[node], &mut command, &directory)
}

fn start_keepalived(lab: &Lab, node: usize, advert_ms: u64, priority: u8) -> Result<Child, DemoError> {
    let directory = directory("keepalived", node)?;
    let text = format!(
        "global_defs {{\n  vrrp_version 3\n  vrrp_rt_priority 50\n  vrrp_rlimit_rttime 500000\n  vrrp_no_swap\n}}\n\
         vrrp_instance v {{\n  state BACKUP\n  nopreempt\n  interface eth0\n  virtual_router_id 51\n  priority {priority}\n  \
         advert_int {}\n  virtual_ipaddress {{\n    {VIRTUAL_V4}/24\n  }}\n}}\n",
        advert_ms as f64 / 1000.0
    );
    let file = |name: &str| directory.join(name);
    write(&file("conf"), &text)?;
    let mut command = sandbox::outsider("/usr/sbin/keepalived");
    command.args(["-n", "-l", "-G", "-P", "-f"]).arg(file("conf"));
    command.arg("-p").arg(file("pid")).arg("-r").arg(file("vrrp.pid"));
    spawn(&lab.nodes[node], &mut command, &directory)
}

/// Empty.
fn directory(program: &str, node: usize) -> Result<PathBuf, DemoError> {
    let directory = sandbox::run_dir().join(format!("daemon-{program}-{node}"));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).map_err(DemoError::lab("making a directory"))?;
    Ok(directory)
}

fn write(path: &std::path::Path, text: &str) -> Result<(), DemoError> {
    let private = std::fs::Permissions::from_mode(0o600);
    let written = std::fs::write(path, text).and_then(|()| std::fs::set_permissions(path, private));
    written.map_err(DemoError::lab(format!("writing {}", path.display())))
}

fn spawn(node: &Host, command: &mut std::process::Command, directory: &std::path::Path) -> Result<Child, DemoError> {
    let log = std::fs::File::create(directory.join("log")).map_err(DemoError::lab("making a log"))?;
    node.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))
}

/// One datagram a millisecond, and when the answers came.
struct Probe {
    answers: Arc<Mutex<Vec<Instant>>>,
    is_over: Arc<AtomicBool>,
}

impl Probe {
    fn start(lab: &Lab) -> Result<Probe, DemoError> {
        let is_over = Arc::new(AtomicBool::new(false));
        let failed = || DemoError::lab("opening the probe's sockets");
        for node in &lab.nodes {
            let socket = node.on(answering_socket)?.map_err(failed())?;
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while !is_over.load(Ordering::Acquire) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
                    }
                }
            });
        }
        let socket = lab.client.on(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.map_err(failed())?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(failed())?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let listening = socket.try_clone().map_err(failed())?;
        std::thread::spawn({
            let (answers, is_over) = (Arc::clone(&answers), Arc::clone(&is_over));
            move || {
                let mut buffer = [0; 64];
                while !is_over.load(Ordering::Acquire) {
                    if listening.recv(&mut buffer).is_ok() {
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                    }
                }
            }
        });
        std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let (start, mut sent) = (Instant::now(), 0u32);
                while !is_over.load(Ordering::Acquire) {
                    let _ = socket.send_to(&sent.to_be_bytes(), VIRTUAL);
                    sent += 1;
                    let due = start + Duration::from_millis(1) * sent;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        });
        Ok(Probe { answers, is_over })
    }

    fn longest_gap(&self, since: Instant) -> Duration {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let recent: Vec<_> = answers.iter().filter(|at| **at >= since).collect();
        recent.windows(2).map(|pair| *pair[1] - *pair[0]).max().unwrap_or_default()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
    }
}

/// Answers from the virtual address, whether the node has it yet or not.
fn answering_socket() -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_freebind_v4(true)?;
    socket.bind(&VIRTUAL.into())?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(socket.into())
}

/// To the nanosecond, of all threads.
fn processor_time(pid: Pid) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum())
}

fn memory_kib(pid: Pid, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn report(measured: &[Measured], costs: &[Cost]) -> String {
    let mut text = String::from(
        "\n## The VRRP daemons alone\n\n\
         `lyre run` with nothing but a `[[vip]]`, and keepalived with `nopreempt`, both real-time, version 3, one IPv4 \
         address. A client sends a datagram a millisecond to it; two holders: for how long both nodes had the address \
         after the fault (a stopped daemon was watched for 10 s).\n\n\
         | priorities, interval, fault | daemon | gap p50 ms | max | two holders p50 ms | max | runs |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    for (number, case) in CASES.iter().enumerate() {
        for program in [Program::Lyre, Program::Keepalived] {
            let of = || measured.iter().filter(|run| run.case == number && run.program == program);
            let gaps: Vec<_> = of().map(|run| run.gap).collect();
            let holders: Vec<_> = of().map(|run| run.two_holders).collect();
            if gaps.is_empty() {
                continue;
            }
            let at = |values: &[Duration], percent| millis(percentile(values, percent));
            let _ = writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
                label(case),
                name(program),
                at(&gaps, 50),
                at(&gaps, 100),
                at(&holders, 50),
                at(&holders, 100),
                gaps.len()
            );
        }
    }
    text.push_str(
        "\n| daemon | CPU ms per 1,000 adverts sent (Active) | received (Backup) | resident KiB | of that its own KiB |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for cost in costs {
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {} | {} |",
            name(cost.program),
            millis(cost.active),
            millis(cost.backup),
            cost.resident_kib,
            cost.own_kib
        );
    }
    text
}

fn name(program: Program) -> &'static str {
    match program {
        Program::Lyre => "Lyre",
        Program::Keepalived => "keepalived",
    }
}

fn label(case: &Case) -> String {
    let event = match case.event {
        Event::End => "SIGTERM",
        Event::Cable => "cable pulled",
        Event::Stop => "SIGSTOP of the daemon",
    };
    format!("254/{}, {} ms, {event}", case.second_priority, case.advert_ms)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
