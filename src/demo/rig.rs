//! A pair with its web servers and clients, that can be broken, measured and healed.

use crate::demo::client::ledger::{Ledger, Moment};
use crate::demo::client::{ANSWER_TIMEOUT, Clients, STALL_TIMEOUT, Target};
use crate::demo::contender::Contender;
use crate::demo::error::DemoError;
use crate::demo::fault::Fault;
use crate::demo::identity::{self, Identity};
use crate::demo::lab::{Lab, VIRTUAL_V4, VIRTUAL_V6};
use crate::demo::measure::{self, Observation, Outcome};
use crate::demo::sandbox;
use crate::demo::watch::{Holder, Watch};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Ports of the virtual address.
pub const PLAIN_PORT: u16 = 8080;
pub const TLS_PORT: u16 = 443;

/// The load and the pace of the pair under test.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The probe's requests a second.
    pub rate: u32,
    pub advert_interval: Duration,
    /// How late the machine may be on top of what a fault costs.
    pub slack: Duration,
    /// Whether long-lived connections are part of the load.
    pub with_transfers: bool,
    /// Every fault is watched at least this long, so that a late effect is seen: longer than any detection in use
    /// that lets the service go on meanwhile.
    pub observe: Duration,
}

pub struct Rig {
    lab: Arc<Lab>,
    pub contender: Box<dyn Contender>,
    clients: Clients,
    watch: Arc<Watch>,
    web: [Child; 2],
    pace: Pace,
}

/// The service counts as back after this long without a loss among the requests started in it.
const STEADY: Duration = Duration::from_millis(500);
/// The pair counts as settled after this long with one holder.
const SETTLED: Duration = Duration::from_secs(1);
const RECOVERY_DEADLINE: Duration = Duration::from_secs(15);
const CONVERGENCE_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Looking at a node costs a process and a connection.
const ASK_EVERY: Duration = Duration::from_millis(100);

impl Rig {
    /// Starts everything; [`Rig::converge`] tells when it serves.
    pub fn start(
        lab: &Arc<Lab>,
        identity: &Identity,
        mut contender: Box<dyn Contender>,
        pace: Pace,
    ) -> Result<Rig, DemoError> {
        let [one, two] = [0, 1].map(|index| start_web(lab, index));
        for node in [0, 1] {
            contender.start(node)?;
        }
        let socket = |address: IpAddr, port| SocketAddr::new(address, port);
        let target = Target {
            name: identity::NAME.to_owned(),
            plain: socket(VIRTUAL_V4.into(), PLAIN_PORT),
            tls: [socket(VIRTUAL_V4.into(), TLS_PORT), socket(VIRTUAL_V6.into(), TLS_PORT)],
            trust: Arc::clone(&identity.trust),
        };
        Ok(Rig {
            contender,
            clients: Clients::start(&lab.client, &target, pace.rate, pace.with_transfers),
            watch: Arc::new(Watch::start(&lab.nodes)),
            web: [one?, two?],
            lab: Arc::clone(lab),
            pace,
        })
    }

    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.clients.ledger
    }

    pub fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Waits until both nodes take part, one holds the address, and every client is served.
    pub fn converge(&mut self) -> Result<usize, DemoError> {
        let started = Instant::now();
        let mut settled_since = None;
        loop {
            let missing = self.missing().map_err(|error| self.with_last_words(error))?;
            match (missing, self.watch.holder()) {
                (None, Holder::Node(holder)) => {
                    let (since, taken) = *settled_since.get_or_insert((Instant::now(), self.watch.taken()));
                    if taken != self.watch.taken() {
                        settled_since = None;
                    } else if since.elapsed() >= SETTLED {
                        return Ok(holder);
                    }
                }
                (missing, holder) => {
                    settled_since = None;
                    if started.elapsed() > CONVERGENCE_DEADLINE {
                        let missing = missing.unwrap_or_else(|| format!("one holder of the address, not {holder:?}"));
                        return Err(DemoError::Deadline {
                            awaited: format!("{}: {missing}{}", self.contender.name(), self.last_words()),
                            waited: CONVERGENCE_DEADLINE,
                        });
                    }
                }
            }
            thread::sleep(ASK_EVERY);
        }
    }

    /// Breaks the node that holds the address (or a web server), watches what becomes of it, and judges.
    pub fn suffer(&mut self, fault: Fault, holder: usize) -> Result<Outcome, DemoError> {
        let ledger = Arc::clone(self.ledger());
        let fault_at = ledger.now();
        let refusal = self.inject(fault, holder).err().map(|error| error.to_string());
        let came_back = self.await_recovery(fault, fault_at, holder);
        let end = ledger.now();
        self.await_condition(ANSWER_TIMEOUT * 2, || ledger.is_settled(end));
        if self.pace.with_transfers {
            self.await_condition(STALL_TIMEOUT * 2, || ledger.all_alive_after(end));
        }
        let breaks: Vec<Moment> = ledger.breaks_since(fault_at).into_iter().map(|(_, at)| at).collect();
        // A planned move drains first; the connections that outlast that break when the address goes.
        let taken_at = self.watch.last_taken().map(|at| ledger.moment(at)).filter(|at| *at > fault_at);
        let seen = Observation {
            fault_at,
            broken_at: taken_at.filter(|_| fault == Fault::Planned).unwrap_or(fault_at),
            end,
            answers: &ledger.answers_since(fault_at.saturating_sub(STEADY)),
            breaks: &breaks,
            probe_interval: Duration::from_secs(1) / self.pace.rate,
            complaint: refusal.or(came_back.err()),
        };
        ledger.forget_before(fault_at);
        Ok(measure::outcome(fault, fault.bound(self.pace.advert_interval, self.pace.rate, self.pace.slack), &seen))
    }

    /// Undoes a fault.
    pub fn heal(&mut self, fault: Fault, broken: usize) -> Result<(), DemoError> {
        let lab = Arc::clone(&self.lab);
        let node = pick(&lab.nodes, broken);
        match fault {
            Fault::Cable => node.plug(),
            Fault::Node => {
                node.reset_addresses()?;
                node.plug()?;
                self.contender.repair(broken)
            }
            Fault::WorkerCrash | Fault::WorkerHang | Fault::Planned => self.contender.repair(broken),
            Fault::Web => {
                let [web, _] = &mut self.web;
                *web = start_web(&lab, 0)?;
                Ok(())
            }
        }
    }

    /// Stops the pair and the web servers; the clients stop on drop.
    pub fn stop(mut self) -> Result<(), DemoError> {
        for node in [0, 1] {
            self.contender.kill(node)?;
            pick(&self.lab.nodes, node).reset_addresses()?;
        }
        for web in &mut self.web {
            kill_child(web)?;
        }
        Ok(())
    }

    fn inject(&mut self, fault: Fault, holder: usize) -> Result<(), DemoError> {
        let node = pick(&self.lab.nodes, holder);
        match fault {
            Fault::Cable => node.unplug(),
            Fault::Node => {
                // A node without power says nothing, so it must not hear of its death before its cable does.
                node.unplug()?;
                self.contender.kill(holder)
            }
            Fault::WorkerCrash => self.contender.kill_proxy(holder),
            Fault::WorkerHang => self.contender.freeze_proxy(holder),
            Fault::Planned => self.contender.hand_over(holder),
            Fault::Web => {
                let [web, _] = &mut self.web;
                kill_child(web)
            }
        }
    }

    fn await_recovery(&self, fault: Fault, fault_at: Moment, was: usize) -> Result<(), String> {
        let ledger = self.ledger();
        let complaint = || match self.watch.holder() {
            Holder::Node(now) if fault.moves_address() && now == was => Some("the address did not move".to_owned()),
            // The broken node may keep its copy as long as nobody hears of it.
            Holder::Both if fault.moves_address() => None,
            Holder::Node(_) => None,
            Holder::Nobody => Some("nobody holds the address".to_owned()),
            Holder::Both => Some("both nodes hold the address".to_owned()),
        };
        let is_back = || {
            let now = ledger.now();
            now > fault_at + self.pace.observe && serves_steadily(ledger, now) && complaint().is_none()
        };
        if self.await_condition(RECOVERY_DEADLINE, is_back) {
            return Ok(());
        }
        Err(complaint().unwrap_or_else(|| format!("no steady service within {} s", RECOVERY_DEADLINE.as_secs())))
    }

    fn await_condition(&self, deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
        let started = Instant::now();
        while !holds() {
            if started.elapsed() > deadline {
                return false;
            }
            thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// What convergence waits for.
    fn missing(&mut self) -> Result<Option<String>, DemoError> {
        let lab = Arc::clone(&self.lab);
        for (index, node) in lab.nodes.iter().enumerate() {
            if !self.contender.is_ready(index)? {
                return Ok(Some(format!("{} to be ready", node.name)));
            }
            let address = SocketAddr::new(node.v4.into(), PLAIN_PORT);
            if !matches!(lab.client.on(|| is_served(address)), Ok(true)) {
                return Ok(Some(format!("{} to serve at {address}", node.name)));
            }
        }
        let now = self.ledger().now();
        if !serves_steadily(self.ledger(), now) {
            return Ok(Some(format!("answers at the virtual address, so far {}", recent(self.ledger(), now))));
        }
        if self.pace.with_transfers && !self.ledger().all_alive_after(now.saturating_sub(STEADY)) {
            return Ok(Some("transfers through the virtual address".to_owned()));
        }
        Ok(None)
    }

    fn with_last_words(&self, error: DemoError) -> DemoError {
        match error {
            DemoError::Command { command, said } => {
                DemoError::Command { command, said: format!("{said}{}", self.last_words()) }
            }
            other => other,
        }
    }

    /// The latest lines of both nodes' logs.
    pub fn last_words(&self) -> String {
        pick_names(&self.lab)
            .into_iter()
            .enumerate()
            .map(|(index, name)| format!("\n--- last lines of {name}:\n{}", self.contender.log_tail(index)))
            .collect()
    }
}

/// Enough answers, and no loss, among the requests started in the last moments.
fn serves_steadily(ledger: &Ledger, now: Moment) -> bool {
    let from = now.saturating_sub(STEADY);
    let answers = ledger.answers_since(from);
    let mut recent = answers.iter().filter(|answer| answer.started >= from).peekable();
    recent.peek().is_some() && recent.clone().count() >= 3 && recent.all(|answer| answer.outcome.is_ok())
}

/// What became of the latest requests, for people.
fn recent(ledger: &Ledger, now: Moment) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for answer in ledger.answers_since(now.saturating_sub(STEADY)) {
        *counts.entry(format!("{:?} {:?}", answer.source, answer.outcome)).or_default() += 1;
    }
    format!("{counts:?}")
}

/// One request to one node, past the virtual address.
fn is_served(address: SocketAddr) -> bool {
    let fetch = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /apps/files HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", identity::NAME)?;
        let mut answer = vec![0; 64];
        let count = stream.read(&mut answer)?;
        answer.truncate(count);
        Ok(answer)
    };
    fetch().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}

fn start_web(lab: &Lab, index: usize) -> Result<Child, DemoError> {
    let host = pick(&lab.web, index);
    host.spawn(&mut sandbox::web_command(&[host.name, &format!("{}:80", host.v4)]))
}

fn kill_child(child: &mut Child) -> Result<(), DemoError> {
    child.kill().and_then(|()| child.wait()).map(drop).map_err(DemoError::lab("killing a web server"))
}

fn pick<T>(pair: &[T; 2], index: usize) -> &T {
    let [first, second] = pair;
    if index == 0 { first } else { second }
}

fn pick_names(lab: &Lab) -> [&'static str; 2] {
    let [a, b] = &lab.nodes;
    [a.name, b.name]
}
