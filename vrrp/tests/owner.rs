//! The border to the owner: watched descriptors, orders, reload, refusal to start.
#![allow(clippy::unwrap_used)]

mod wire;

use lyre_vrrp::machine::{Event, Health, Preempt, Settings, State};
use lyre_vrrp::packet::Family;
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use lyre_vrrp::runner::{Command, Handle, Host, Options, Router, Speaker, StartError};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wire::{Node, eventually, on_a_lan};

const SOON: Duration = Duration::from_secs(5);

/// An owner whose one descriptor is readable when it is unwell.
struct Owner {
    bell: Arc<EventFd>,
    asked: Arc<AtomicU32>,
    unwell_seen: Arc<Mutex<Option<Instant>>>,
}

impl Owner {
    fn new() -> Owner {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        Owner { bell: Arc::new(bell), asked: Arc::default(), unwell_seen: Arc::default() }
    }
}

impl Host for Owner {
    fn watch(&self, into: &mut Vec<RawFd>) {
        into.push(self.bell.as_fd().as_raw_fd());
    }

    fn health(&mut self, _: Time) -> Health {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut readable = [libc::pollfd { fd: self.bell.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        lyre_vrrp::link::linux::clock::wait(&mut readable, Some(Time(0))).unwrap();
        if readable[0].revents == 0 {
            return Health::Able;
        }
        self.unwell_seen.lock().unwrap().get_or_insert_with(Instant::now);
        Health::Unable
    }

    fn report(&mut self, _: usize, _: &Event) {}
}

fn router(name: &str, vrid: u8, priority: u8) -> Router {
    let address = format!("10.77.0.{}", 100 + vrid);
    let settings = Settings {
        vrid: Vrid::new(vrid).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority(priority),
        advert_interval: Centis::new(5).unwrap(),
        down_adverts: 3,
        preempt: Preempt::Never,
        addresses: vec![address.parse().unwrap()],
    };
    Router::new(
        name.to_owned(),
        "eth0".to_owned(),
        settings,
        vec![format!("{address}/24").parse().unwrap()],
        Duration::from_secs(3),
    )
}

fn start(node: &Node, routers: Vec<Router>, owner: Owner) -> Handle {
    node.enter(|| Speaker::start(routers, Box::new(owner), Options::default()).unwrap())
}

fn end(handle: &Handle) {
    handle.command(Command::Shutdown);
    handle.join().unwrap();
}

#[track_caller]
fn all_active(handle: &Handle) {
    eventually("all are Active", SOON, || handle.status().iter().all(|status| status.state == State::Active));
}

#[test]
fn a_watched_descriptor_is_heeded_at_once_and_does_not_make_the_thread_spin() {
    on_a_lan("a_watched_descriptor_is_heeded_at_once_and_does_not_make_the_thread_spin", |lan| {
        let node = lan.node(1);
        let mut delays: Vec<_> = (0..9u64)
            .map(|run| {
                let owner = Owner::new();
                let (bell, asked, seen) =
                    (Arc::clone(&owner.bell), Arc::clone(&owner.asked), Arc::clone(&owner.unwell_seen));
                let handle = start(&node, vec![router("one", 1, 254)], owner);
                all_active(&handle);
                std::thread::sleep(Duration::from_millis(run * 2)); // anywhere between two periodic looks
                let rung = Instant::now();
                bell.write(1).unwrap();
                eventually("the bell is heard", SOON, || seen.lock().unwrap().is_some());
                let before = asked.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(200));
                let looks = asked.load(Ordering::Relaxed) - before;
                assert!(looks < 60, "{looks} looks in 200 ms at a descriptor that stays readable");
                end(&handle);
                seen.lock().unwrap().unwrap() - rung
            })
            .collect();
        delays.sort();
        assert!(delays[4] < Duration::from_millis(8), "the periodic look comes after 10 ms on average: {delays:?}");
    });
}

#[test]
fn a_reload_moves_only_what_changed() {
    on_a_lan("a_reload_moves_only_what_changed", |lan| {
        let node = lan.node(1);
        let handle = start(&node, vec![router("goes", 1, 254), router("stays", 2, 254)], Owner::new());
        all_active(&handle);
        let since = handle.status()[1].since;
        eventually("both addresses", SOON, || node.has("10.77.0.101") && node.has("10.77.0.102"));
        handle.command(Command::Reload(vec![router("stays", 2, 200), router("comes", 3, 254)]));
        eventually("the new set", SOON, || {
            let names: Vec<_> = handle.status().into_iter().map(|status| status.name).collect();
            names == ["stays", "comes"]
        });
        all_active(&handle);
        let status = handle.status();
        assert_eq!((status[0].since, status[0].priority), (since, Priority(200)), "only the priority moved");
        eventually("the addresses follow", SOON, || {
            !node.has("10.77.0.101") && node.has("10.77.0.102") && node.has("10.77.0.103")
        });
        end(&handle);
        assert!(!node.has("10.77.0.102") && !node.has("10.77.0.103"));
        assert!(!handle.is_running());
    });
}

#[test]
fn a_reload_exchanges_addresses_without_leaving_the_state() {
    on_a_lan("a_reload_exchanges_addresses_without_leaving_the_state", |lan| {
        let node = lan.node(1);
        let handle = start(&node, vec![router("one", 1, 254)], Owner::new());
        all_active(&handle);
        eventually("the address", SOON, || node.has("10.77.0.101"));
        let since = handle.status()[0].since;
        let mut changed = router("one", 1, 254);
        changed.settings.addresses = vec!["10.77.0.199".parse().unwrap()];
        changed.addresses = vec!["10.77.0.199/32".parse().unwrap()];
        handle.command(Command::Reload(vec![changed]));
        eventually("the new address instead", SOON, || node.has("10.77.0.199") && !node.has("10.77.0.101"));
        std::thread::sleep(Duration::from_millis(1500)); // past a renewal of the lease, which must not bring it back
        assert!(node.has("10.77.0.199") && !node.has("10.77.0.101"));
        assert_eq!(handle.status()[0].since, since);
        end(&handle);
    });
}

#[test]
fn an_interface_that_comes_later_is_waited_for() {
    on_a_lan("an_interface_that_comes_later_is_waited_for", |lan| {
        let node = lan.node(1);
        node.unplug();
        let handle = start(&node, vec![router("one", 1, 254)], Owner::new());
        assert_eq!(handle.status()[0].state, State::Initialize);
        node.plug_in();
        all_active(&handle);
        end(&handle);
    });
}

/// Starts this test again as a process without capabilities and looks at what it says.
#[test]
fn without_privilege_it_says_which_capability_is_missing_for_what() {
    let test = "without_privilege_it_says_which_capability_is_missing_for_what";
    if !nix::unistd::geteuid().is_root() || std::env::var_os("LYRE_TEST_UNPRIVILEGED").is_some() {
        let refused = Speaker::start(vec![router("one", 1, 254)], Box::new(Owner::new()), Options::default());
        let Err(error @ StartError::MissingCapability { .. }) = refused else { panic!("started without privilege") };
        assert_eq!(error.to_string(), "VRRP needs CAP_NET_RAW to send and receive adverts");
        return;
    }
    let mut again = std::process::Command::new("setpriv");
    again.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(std::env::current_exe().unwrap());
    again.args(["--exact", test]).env("LYRE_TEST_UNPRIVILEGED", "1");
    assert!(again.status().unwrap().success());
}
