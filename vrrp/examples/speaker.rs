//! A VRRP speaker for the command line; tests and measurements use it as a node.
//!
//! ```text
//! speaker --interface eth0 --vrid 51 --priority 254 --interval-ms 100 --address 10.0.0.100/24 \
//!         [--address …] [--name a] [--lease-s 3] [--preempt-after-ms 0] [--down-adverts 3] [--no-realtime] [--sync] \
//!         [--excluded 10.0.0.101/24 …] [--virtual-mac virtual|base [--virtual-mac-name vrrp.51]] \
//!         [--version 2 [--password text]] [--peer 10.0.0.2 … [--peer-ttl-min 255]] [--hmac-key text] [--checksum pseudo|rfc9568|auto]
//! ```
//!
//! All addresses of one family form one virtual router; both families give two. Prints one JSON object a line for each
//! event, with the CLOCK_MONOTONIC time in nanoseconds. Reads orders from standard input, one a line: `handover`,
//! `resume`, `able`, `degraded`, `unable`, `priority N`, `status`, `shutdown`. SIGTERM and SIGINT shut down, too.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use ipnet::IpNet;
use lyre_vrrp::authentication::{Freshness, Key, Mode};
use lyre_vrrp::link::linux::clock::now;
use lyre_vrrp::machine::{Event, Health, Preempt, Settings};
use lyre_vrrp::packet::{Checksum, ChecksumChoice, Dialect, Family, Password, Peer, Peers, Wire};
use lyre_vrrp::params::{Centis, Priority, Time, Version, Vrid};
use lyre_vrrp::runner::{
    Authentication, Command, Handle, Host, Options, Router, RouterStatus, Speaker, Speech, VirtualMac,
};
use nix::sys::signal::{SigSet, Signal};
use std::io::BufRead;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("speaker: {error}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speaker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?; // before any thread exists, so that all inherit it
    let health = Arc::new(AtomicU8::new(0));
    let (events, heard) = channel();
    let host = Owner { health: Arc::clone(&health), events };
    let options = if arguments.is_realtime { Options::default() } else { Options { realtime_priority: None } };
    let handle = Speaker::start(arguments.routers()?, Box::new(host), options)?;
    let name = arguments.name.clone();
    println!(r#"{{"node":"{name}","at":{},"event":"started"}}"#, now().0);
    thread::spawn({
        let handle = handle.clone();
        move || {
            if signals.wait().is_ok() {
                handle.command(Command::Shutdown);
            }
        }
    });
    thread::spawn({
        let handle = handle.clone();
        move || obey_lines(&mut arguments, &handle, &health)
    });
    print_events(&name, &handle, &heard);
    handle.join().map_err(|_| "the speaker panicked")?;
    for status in handle.status() {
        println!("{}", status_line(&name, &status));
    }
    println!(r#"{{"node":"{name}","at":{},"event":"ended"}}"#, now().0);
    Ok(())
}

/// Reports go through a channel, because printing may block and the caller must not.
struct Owner {
    health: Arc<AtomicU8>,
    events: Sender<(usize, Time, Event)>,
}

impl Host for Owner {
    fn watch(&self, _: &mut Vec<RawFd>) {}

    fn health(&mut self, _: Time) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Able,
            1 => Health::Degraded,
            _ => Health::Unable,
        }
    }

    fn report(&mut self, index: usize, event: &Event) {
        let _ = self.events.send((index, now(), event.clone()));
    }
}

/// Until the speaker ends and drops its side of the channel.
fn print_events(name: &str, handle: &Handle, heard: &Receiver<(usize, Time, Event)>) {
    for (index, Time(at), event) in heard {
        let router = handle.status().get(index).map(|status| status.name.clone()).unwrap_or_default();
        let detail = match event {
            Event::Transition { from, to, reason } => {
                format!(r#""event":"transition","from":"{from:?}","to":"{to:?}","reason":"{reason:?}""#)
            }
            Event::LosingAdvert { source, priority } => {
                format!(r#""event":"losing_advert","source":"{source}","priority":{}"#, priority.0)
            }
            other => format!(r#""event":"other","detail":"{other:?}""#),
        };
        println!(r#"{{"node":"{name}","at":{at},"router":"{router}",{detail}}}"#);
    }
}

fn obey_lines(arguments: &mut Arguments, handle: &Handle, health: &AtomicU8) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("handover"), None) => handle.command(Command::HandOver),
            (Some("resume"), None) => handle.command(Command::Resume),
            (Some("able"), None) => health.store(0, Ordering::Relaxed),
            (Some("degraded"), None) => health.store(1, Ordering::Relaxed),
            (Some("unable"), None) => health.store(2, Ordering::Relaxed),
            (Some("shutdown"), None) => handle.command(Command::Shutdown),
            (Some("priority"), Some(value)) => {
                arguments.priority = value.parse().unwrap_or(arguments.priority);
                if let Ok(routers) = arguments.routers() {
                    handle.command(Command::Reload(routers));
                }
            }
            (Some("status"), None) => {
                handle.status().iter().for_each(|status| println!("{}", status_line(&arguments.name, status)));
            }
            _ => eprintln!("speaker: unknown order: {line}"),
        }
    }
}

fn status_line(name: &str, status: &RouterStatus) -> String {
    let counters = &status.counters;
    let alarms: Vec<_> = status.alarms.raised().map(|(alarm, _)| alarm.name()).collect();
    format!(
        concat!(
            r#"{{"node":"{}","at":{},"event":"status","router":"{}","state":"{:?}","priority":{},"holds":{},"#,
            r#""sent":{},"received":{},"late":{},"to_active":{},"announced":{},"refreshed":{},"stalls":{},"alarms":"{}","dropped":"{:?}"}}"#
        ),
        name,
        now().0,
        status.name,
        status.state,
        status.priority.0,
        status.holds_addresses,
        counters.adverts_sent,
        counters.adverts_received,
        counters.late_own_adverts,
        counters.transitions_to_active,
        counters.announcements_sent,
        counters.lease_refreshes,
        counters.stalls,
        alarms.join(" "),
        counters.drops,
    )
}

struct Arguments {
    name: String,
    interface: String,
    vrid: u8,
    priority: u8,
    interval_ms: u16,
    down_adverts: u8,
    lease: Duration,
    preempt: Preempt,
    addresses: Vec<IpNet>,
    excluded: Vec<IpNet>,
    virtual_mac: Option<VirtualMac>,
    is_realtime: bool,
    is_version_2: bool,
    is_synchronised: bool,
    password: Option<String>,
    peers: Vec<IpAddr>,
    peer_ttl_min: u8,
    hmac_key: Option<String>,
    checksum: ChecksumChoice,
}

impl Arguments {
    fn read() -> Result<Arguments, String> {
        let mut read = Arguments {
            name: "speaker".to_owned(),
            interface: String::new(),
            vrid: 51,
            priority: 100,
            interval_ms: 100,
            down_adverts: 3,
            lease: Duration::from_secs(3),
            preempt: Preempt::Never,
            addresses: Vec::new(),
            excluded: Vec::new(),
            virtual_mac: None,
            is_realtime: true,
            is_version_2: false,
            is_synchronised: false,
            password: None,
            peers: Vec::new(),
            peer_ttl_min: 255,
            hmac_key: None,
            checksum: ChecksumChoice::Always(Checksum::Pseudo),
        };
        let mut words = std::env::args().skip(1);
        while let Some(option) = words.next() {
            if option == "--sync" {
                read.is_synchronised = true;
                continue;
            }
            if option == "--no-realtime" {
                read.is_realtime = false;
                continue;
            }
            let value = words.next().ok_or(format!("{option} needs a value"))?;
            let wrong = |_| format!("{option}: {value} is out of range");
            match option.as_str() {
                "--vrid" => read.vrid = value.parse().map_err(wrong)?,
                "--priority" => read.priority = value.parse().map_err(wrong)?,
                "--interval-ms" => read.interval_ms = value.parse().map_err(wrong)?,
                "--down-adverts" => read.down_adverts = value.parse().map_err(wrong)?,
                "--lease-s" => read.lease = Duration::from_secs(value.parse().map_err(wrong)?),
                "--preempt-after-ms" => {
                    read.preempt = Preempt::After(Duration::from_millis(value.parse().map_err(wrong)?));
                }
                "--address" => {
                    read.addresses.push(value.parse().map_err(|_| format!("{value} is no address/prefix"))?);
                }
                "--excluded" => {
                    read.excluded.push(value.parse().map_err(|_| format!("{value} is no address/prefix"))?);
                }
                // Whose hardware address the adverts come from.
                "--virtual-mac" => read.virtual_mac.get_or_insert_default().adverts_from_base = value == "base",
                "--virtual-mac-name" => read.virtual_mac.get_or_insert_default().interface = Some(value),
                "--version" => read.is_version_2 = value == "2",
                "--password" => read.password = Some(value),
                "--peer" => read.peers.push(value.parse().map_err(|_| format!("{value} is no address"))?),
                "--peer-ttl-min" => read.peer_ttl_min = value.parse().map_err(wrong)?,
                "--hmac-key" => read.hmac_key = Some(value),
                "--checksum" => {
                    read.checksum = match value.as_str() {
                        "auto" => ChecksumChoice::AUTO,
                        "rfc9568" => ChecksumChoice::Always(Checksum::Message),
                        _ => ChecksumChoice::Always(Checksum::Pseudo),
                    };
                }
                "--name" => read.name = value,
                "--interface" => read.interface = value,
                _ => return Err(format!("unknown option {option}")),
            }
        }
        if read.interface.is_empty() || read.addresses.is_empty() {
            return Err("--interface and at least one --address are needed".to_owned());
        }
        Ok(read)
    }

    /// One router a family that has addresses.
    fn routers(&self) -> Result<Vec<Router>, String> {
        let families = [(Family::V4, "v4"), (Family::V6, "v6")];
        let of = |family| self.addresses.iter().copied().filter(move |a| Family::of(a.addr()) == family);
        let used = families.into_iter().filter(|(family, _)| of(*family).next().is_some());
        used.map(|(family, suffix)| self.router(family, suffix, of(family).collect())).collect()
    }

    fn router(&self, family: Family, suffix: &str, addresses: Vec<IpNet>) -> Result<Router, String> {
        let settings = Settings {
            vrid: Vrid::new(self.vrid).ok_or("--vrid must be 1..=255")?,
            family,
            version: if self.is_version_2 { Version::V2 } else { Version::V3 },
            priority: Priority(self.priority),
            advert_interval: Centis::new(self.interval_ms / 10).ok_or("--interval-ms must be 10..=40950")?,
            down_adverts: self.down_adverts,
            preempt: self.preempt,
            addresses: addresses.iter().map(IpNet::addr).collect(),
        };
        let name = format!("vip-{suffix}");
        let speech = self.speech(&settings)?;
        let sync_group = self.is_synchronised.then(|| "all".to_owned());
        let router = Router::new(name, self.interface.clone(), settings, addresses, self.lease);
        // With the router of their family, or with the only one there is.
        let is_only = |a: &IpNet| !self.addresses.iter().any(|other| Family::of(other.addr()) == Family::of(a.addr()));
        let is_here = |a: &IpNet| Family::of(a.addr()) == family || is_only(a);
        let excluded = self.excluded.iter().copied().filter(is_here).collect();
        Ok(Router { speech, sync_group, excluded, virtual_mac: self.virtual_mac.clone(), ..router })
    }

    fn speech(&self, settings: &Settings) -> Result<Speech, String> {
        let password = self.password.as_ref().map(|text| Password::new(text.as_bytes()));
        let wire = match settings.version {
            Version::V2 => Wire::V2 { interval: settings.advert_interval, password },
            Version::V3 => Wire::V3,
        };
        let of_family = self.peers.iter().filter(|peer| Family::of(**peer) == settings.family);
        let peers: Vec<_> = of_family.map(|address| Peer { address: *address, ttl: self.peer_ttl_min..=255 }).collect();
        let peers = if peers.is_empty() { Peers::Multicast } else { Peers::Unicast(peers) };
        let authentication = match &self.hmac_key {
            Some(text) => {
                let key = Key::new(1, text.clone().into_bytes()).ok_or("--hmac-key must have 32..=64 bytes")?;
                Authentication::new(vec![key], Mode::Enforce, Freshness::Growth)
            }
            None => None,
        };
        let dialect = Dialect { wire, peers, has_trailer: authentication.is_some() };
        Ok(Speech { dialect, checksum: self.checksum, source: None, authentication })
    }
}
