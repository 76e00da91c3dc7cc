//! A bad stretch of cable: delays, duplicates and so reorders what passes between a node and the switch.
//!
//! In user space, because not every kernel has netem. Where it runs late it only delays more.

use super::strain::be_urgent;
use super::tap::{keep_only, packet_socket};
use pnet::datalink::{self, Channel, Config, NetworkInterface};
use socket2::Socket;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_max: Duration,
    pub duplicate_percent: u64,
}

const MULTICAST: u32 = libc::PACKET_MULTICAST as u32;

/// Dropping it stops all traffic.
pub struct Relay {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Between two interfaces of the calling thread's namespace.
    pub(super) fn between(one: &str, other: &str, weather: Weather) -> Relay {
        let find = |name: &str| datalink::interfaces().into_iter().find(|interface| interface.name == name).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = [(one, other, 1), (other, one, 2)].map(|(from, to, seed)| {
            let (from, to, is_over) = (find(from), find(to), Arc::clone(&is_over));
            let socket = packet_socket();
            // Not what the relay itself sends there: that would go round for ever.
            keep_only(&socket, &[(libc::SKF_AD_IFINDEX, from.index), (libc::SKF_AD_PKTTYPE, MULTICAST)]);
            thread::spawn(move || carry(&to, &socket, weather, seed, &is_over))
        });
        Relay { is_over, threads: threads.into() }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// What the socket sees goes out of `to`. Multicast only: nothing else has to pass between the nodes.
fn carry(to: &NetworkInterface, socket: &Socket, weather: Weather, mut seed: u64, is_over: &AtomicBool) {
    be_urgent();
    let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(to, Config::default()) else {
        panic!("no packet socket for the relay")
    };
    socket.set_read_timeout(Some(Duration::from_micros(500))).unwrap();
    let (mut due, mut buffer) = (BinaryHeap::new(), vec![0; 2048]);
    while !is_over.load(Ordering::Acquire) {
        if let Ok(length) = (&mut &*socket).read(&mut buffer) {
            let copies = if random(&mut seed) % 100 < weather.duplicate_percent { 2 } else { 1 };
            for _ in 0..copies {
                let delay = weather.delay_max * (random(&mut seed) % 1000) as u32 / 1000;
                due.push(Reverse((Instant::now() + delay, buffer[..length].to_vec())));
            }
        }
        while due.peek().is_some_and(|Reverse((at, _))| *at <= Instant::now()) {
            if let Some(Reverse((_, frame))) = due.pop() {
                let _ = sender.send_to(&frame, None);
            }
        }
    }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
