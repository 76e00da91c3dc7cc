//! A speaker that has found its place takes no memory, not even to change its state: a counting allocator watches its
//! thread, and says where a violation came from.
#![allow(unsafe_code)] // an allocator cannot be written without
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod wire;

use lyre_vrrp::link::linux::clock::now;
use lyre_vrrp::machine::{Event, Health, Preempt, Settings, State};
use lyre_vrrp::packet::Family;
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use lyre_vrrp::runner::{Command, Handle, Host, Options, Router, Speaker};
use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::{Node, eventually, on_a_lan};

/// By all speakers' threads together, once they have said that they are one.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Where from, since the test began to look.
static CULPRITS: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());
static IS_LOOKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// On a watched thread, whose own allocations for this must not count.
fn note_allocation() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    if IS_LOOKING.load(Ordering::Relaxed) {
        IS_WATCHED.set(false);
        let backtrace = Backtrace::force_capture();
        CULPRITS.lock().unwrap_or_else(PoisonError::into_inner).push(backtrace);
        IS_WATCHED.set(true);
    }
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_WATCHED.try_with(Cell::get).unwrap_or(false) {
            note_allocation();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract, which is System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How long the next look at a speaker's health takes.
static PAUSE_MS: AtomicU64 = AtomicU64::new(0);

/// Asked on the speaker's thread, which makes that thread known.
struct Watching;

impl Host for Watching {
    fn watch(&self, _: &mut Vec<RawFd>) {}

    fn health(&mut self, _: Time) -> Health {
        IS_WATCHED.set(true);
        match PAUSE_MS.swap(0, Ordering::Relaxed) {
            0 => {}
            pause => std::thread::sleep(Duration::from_millis(pause)),
        }
        Health::Able
    }

    fn report(&mut self, _: usize, _: &Event) {}
}

fn start(node: &Node, priority: u8) -> Handle {
    let settings = Settings {
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(priority),
        advert_interval: Centis::new(1).unwrap(),
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: vec!["10.77.0.100".parse().unwrap()],
    };
    let router = Router::new(
        "vip".to_owned(),
        "eth0".to_owned(),
        settings,
        vec!["10.77.0.100/24".parse().unwrap()],
        Duration::from_secs(2),
    );
    node.enter(|| Speaker::start(vec![router], Box::new(Watching), Options::default()).unwrap())
}

#[track_caller]
fn assert_none_since(before: u64, what: &str) {
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let culprits = CULPRITS.lock().unwrap_or_else(PoisonError::into_inner);
    culprits.iter().for_each(|backtrace| eprintln!("allocated at\n{backtrace}\n"));
    assert_eq!(allocations, 0, "by {what}");
}

#[test]
fn neither_a_steady_speaker_nor_a_change_of_state_allocates() {
    on_a_lan("neither_a_steady_speaker_nor_a_change_of_state_allocates", |lan| {
        let (a, b) = (lan.node(1), lan.node(2));
        let handles = [start(&a, 254), start(&b, 253)];
        let state = |handle: &Handle| handle.status()[0].state;
        let limit = Duration::from_secs(10);
        eventually("one Active, one Backup", limit, || {
            let states = [state(&handles[0]), state(&handles[1])];
            states.contains(&State::Active) && states.contains(&State::Backup)
        });
        // Past the burst of announcements, a few renewals of the lease included.
        let heard = |handle: &Handle| handle.status()[0].counters.adverts_received;
        let settled = now().plus(Duration::from_secs(9));
        eventually("the announcements end", limit, || now() > settled);
        IS_LOOKING.store(true, Ordering::Relaxed);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let all_heard = || heard(&handles[0]) + heard(&handles[1]);
        let heard_before = all_heard();
        eventually("300 adverts", limit, || all_heard() > heard_before + 300);
        assert_none_since(before, "a steady speaker");
        // One of them stands still for so long that the other takes over: what a busy machine can do at any time.
        let active = || handles.iter().position(|handle| state(handle) == State::Active);
        for _ in 0..4 {
            let stalls = || handles.iter().map(|handle| handle.status()[0].counters.stalls).sum::<u64>();
            let stalls_before = stalls();
            // Whoever asks first pauses; if that was the Backup, once more.
            eventually("a stall", limit, || {
                let _ = PAUSE_MS.compare_exchange(0, 60, Ordering::Relaxed, Ordering::Relaxed);
                stalls() > stalls_before
            });
            PAUSE_MS.store(0, Ordering::Relaxed);
            eventually("one Active", limit, || active().is_some());
            let heard_before = all_heard();
            eventually("100 adverts", limit, || all_heard() > heard_before + 100);
        }
        assert_none_since(before, "a change of state");
        handles.iter().for_each(|handle| handle.command(Command::Shutdown));
        handles.iter().for_each(|handle| handle.join().unwrap());
    });
}
