//! How long a client goes without an answer when the Active's cable is cut: Lyre and keepalived on the same wires.
//!
//! A client sends one UDP datagram a millisecond to the virtual address; whichever node has it answers. The gap is the
//! longest time between two answers around the cut. `cargo bench -p lyre-vrrp --bench takeover -- [RUNS]`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/wire/mod.rs"]
mod wire;

use std::net::{SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use wire::keepalived::Keepalived;
use wire::speaker::Speaker;
use wire::{Lan, Node, eventually, on_a_lan};

const ADDRESS: &str = "10.77.0.100/24";
const VIRTUAL: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 77, 0, 100), 7777);
const SOON: Duration = Duration::from_secs(20);

/// Kept running while measured; the content only matters by being dropped at the end.
enum Program {
    Lyre(#[allow(dead_code)] Speaker),
    Keepalived(#[allow(dead_code)] Keepalived),
}

fn main() {
    let runs = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(20);
    println!("program     interval   runs   gap p50 / p95 / max (ms)");
    for interval_ms in [10, 100] {
        for program in ["lyre", "keepalived"] {
            on_a_lan("takeover", |lan| {
                let mut gaps = measure(lan, program, interval_ms, runs);
                gaps.sort();
                let at = |percent: usize| gaps[(gaps.len() - 1) * percent / 100].as_secs_f64() * 1e3;
                let (p50, p95, most) = (at(50), at(95), at(100));
                println!("{program:<11} {interval_ms:>5} ms {runs:>6}   {p50:.1} / {p95:.1} / {most:.1}");
            });
        }
    }
}

fn measure(lan: &Lan, program: &str, interval_ms: u64, runs: usize) -> Vec<Duration> {
    let (one, two, client) = (lan.node(1), lan.node(2), lan.node(3));
    let _programs = [start(&one, program, 254, interval_ms), start(&two, program, 253, interval_ms)];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for node in [&one, &two] {
            let socket = answering_socket(node);
            let is_over = &is_over;
            scope.spawn(move || answer(&socket, is_over));
        }
        let gaps = (0..runs).map(|run| cut_once(&one, &two, &client, interval_ms, run)).collect();
        is_over.store(true, Ordering::Release);
        gaps
    })
}

fn start(node: &Node, program: &str, priority: u8, interval_ms: u64) -> Program {
    match program {
        "lyre" => Program::Lyre(Speaker::start(
            node,
            &format!("--priority {priority} --interval-ms {interval_ms}"),
            &[ADDRESS],
        )),
        _ => {
            let interval = Duration::from_millis(interval_ms);
            Program::Keepalived(Keepalived::start(node, priority, interval, &[ADDRESS], "nopreempt"))
        }
    }
}

/// Cuts whoever is Active, and mends when the other has taken over.
fn cut_once(one: &Node, two: &Node, client: &Node, interval_ms: u64, run: usize) -> Duration {
    let has = |node: &Node| node.has("10.77.0.100");
    eventually("exactly one node has the address", SOON, || has(one) != has(two));
    let (active, backup) = if has(one) { (one, two) } else { (two, one) };
    // Nobody's first adverts after a mended cable may count, and the cut falls anywhere between two adverts.
    let settled = Duration::from_millis(700 + interval_ms * 4 + (run as u64 * 37) % interval_ms.max(10));
    let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect(VIRTUAL).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let is_over = AtomicBool::new(false);
    let gap = thread::scope(|scope| {
        scope.spawn(|| ask(&socket, &is_over));
        let longest = scope.spawn(|| longest_silence(&socket, &is_over));
        thread::sleep(settled);
        active.cut_cable();
        eventually("the other node has the address", SOON, || has(backup));
        thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Release);
        longest.join().unwrap()
    });
    active.mend_cable();
    gap
}

fn ask(socket: &UdpSocket, is_over: &AtomicBool) {
    let start = Instant::now();
    for number in 0u32.. {
        if is_over.load(Ordering::Acquire) {
            return;
        }
        let _ = socket.send(&number.to_be_bytes());
        thread::sleep((start + Duration::from_millis(1) * number).saturating_duration_since(Instant::now()));
    }
}

fn longest_silence(socket: &UdpSocket, is_over: &AtomicBool) -> Duration {
    let mut last = None;
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Acquire) {
        if socket.recv(&mut [0; 16]).is_ok() {
            let now = Instant::now();
            longest = last.map_or(longest, |last| longest.max(now - last));
            last = Some(now);
        }
    }
    longest
}

/// Bound to the virtual address before the node has it, so that answers come from it.
fn answering_socket(node: &Node) -> UdpSocket {
    node.enter(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_freebind_v4(true).unwrap();
        socket.bind(&VIRTUAL.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket.into()
    })
}

fn answer(socket: &UdpSocket, is_over: &AtomicBool) {
    let mut buffer = [0; 16];
    while !is_over.load(Ordering::Acquire) {
        if let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], client);
        }
    }
}
