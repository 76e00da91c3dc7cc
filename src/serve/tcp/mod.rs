//! TCP services: connections passed on as they are, on the cores that accepted them.
//!
//! [`session`] is one connection's life, [`check`] asks the servers (control executor), and what both share is here: the
//! servers of a service with their standing, and the one that all sessions go to where there is to be only one.
//! [`agreement`] is what the nodes of a pair tell each other about that one.

pub mod agreement;
pub mod check;
pub mod session;

use crate::config::settings::tcp::{self as settings, CheckKind, Mode};
use crate::net::driver::Socket;
use crate::policy::service::{Standing, is_usable, spread};
use crate::serve::core::Core;
use crate::serve::shared::{Server, Snapshot};
use crate::telemetry::counters::{Counter, Gauge};
pub use session::{End, Sessions};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A service of the current settings.
pub struct Service {
    pub settings: settings::Service,
    /// In the order of the settings.
    pub members: Vec<Arc<Member>>,
    /// One more than the index of the writer; 0 is nobody. The control executor alone writes it.
    writer: AtomicUsize,
    pub desk: Arc<Desk>,
}

/// A server of a service. Survives reloads that keep its name, address and service.
pub struct Member {
    pub server: Arc<Server>,
    standing: AtomicU8,
    /// For choices by the client's address.
    mark: u64,
    /// Why it cannot be used.
    reason: Mutex<String>,
}

/// What is counted of a service. Survives reloads that keep the name.
pub struct Desk {
    pub writer_changes: AtomicU64,
    cells: Box<[DeskCell]>,
}

/// One core's part. Padded: cores never write to a shared line.
#[repr(align(128))]
#[derive(Default)]
pub struct DeskCell {
    pub open: Gauge,
    pub accepted: Counter,
    pub ends: [Counter; End::ALL.len()],
    /// From clients.
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl Desk {
    pub fn cell(&self, core: usize) -> Option<&DeskCell> {
        self.cells.get(core)
    }

    pub fn sum(&self, read: impl Fn(&DeskCell) -> u64) -> u64 {
        self.cells.iter().map(read).sum()
    }
}

impl Service {
    /// Takes over what `old` knew: counters, servers that stayed, and the writer among them.
    pub fn build(settings: &settings::Service, cores: usize, old: Option<&Service>) -> Service {
        let known = |server: &crate::config::settings::Server| {
            let member = |old: &&Arc<Member>| old.server.place == server.place && old.server.name == server.name;
            old?.members.iter().find(member).cloned()
        };
        let new = |server| Arc::new(Member::new(&settings.name, server, cores));
        let members: Vec<_> =
            settings.servers.iter().map(|server| known(server).unwrap_or_else(|| new(server))).collect();
        let writer = old.and_then(Service::writer);
        let writer = writer.and_then(|writer| members.iter().position(|member| Arc::ptr_eq(member, writer)));
        let desk = old.map(|old| old.desk.clone()).unwrap_or_else(|| {
            let cells = (0..cores).map(|_| DeskCell::default()).collect();
            Arc::new(Desk { writer_changes: AtomicU64::new(0), cells })
        });
        let writer = AtomicUsize::new(writer.map_or(0, |index| index + 1));
        Service { settings: settings.clone(), members, writer, desk }
    }

    pub fn has_writer(&self) -> bool {
        self.settings.mode == Mode::SingleWriter
    }

    pub fn writer_index(&self) -> Option<usize> {
        self.writer.load(Ordering::Acquire).checked_sub(1)
    }

    /// The server that all sessions go to, where there is to be only one.
    pub fn writer(&self) -> Option<&Arc<Member>> {
        self.members.get(self.writer_index()?)
    }

    fn set_writer(&self, index: Option<usize>) {
        self.writer.store(index.map_or(0, |index| index + 1), Ordering::Release);
    }

    pub fn standings(&self) -> Vec<Standing> {
        self.members.iter().map(|member| member.standing()).collect()
    }

    /// Servers that may be given sessions.
    pub fn usable(&self) -> usize {
        let standings = self.standings();
        standings.iter().filter(|standing| self.may_serve(**standing, &standings)).count()
    }

    /// Where a connection is all that is checked, a server may be tried before it was.
    fn may_serve(&self, standing: Standing, all: &[Standing]) -> bool {
        is_usable(standing, all) || standing == Standing::Unknown && self.settings.check.kind == CheckKind::Connect
    }
}

impl Member {
    fn new(service: &str, server: &crate::config::settings::Server, cores: usize) -> Member {
        Member {
            server: Arc::new(Server::new(service, server, cores)),
            standing: AtomicU8::new(0),
            mark: spread::mark(&server.name),
            reason: Mutex::default(),
        }
    }

    pub fn standing(&self) -> Standing {
        if !self.server.target.is_resolved() {
            return Standing::Bad;
        }
        match self.standing.load(Ordering::Acquire) {
            1 => Standing::Good,
            2 => Standing::Donor,
            3 => Standing::Bad,
            _ => Standing::Unknown,
        }
    }

    fn set_standing(&self, standing: Standing, reason: &str) {
        let word = match standing {
            Standing::Unknown => 0,
            Standing::Good => 1,
            Standing::Donor => 2,
            Standing::Bad => 3,
        };
        self.standing.store(word, Ordering::Release);
        reason.clone_into(&mut self.reason.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Why it cannot be used; empty when it can, or when nobody knows.
    pub fn reason(&self) -> String {
        if let Some(trouble) = self.server.target.trouble() {
            return trouble;
        }
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The service that listens on `address`.
pub fn service_at(snapshot: &Snapshot, address: SocketAddr) -> Option<Arc<Service>> {
    snapshot.services.iter().find(|service| service.settings.listen.contains(&address)).cloned()
}

/// Takes an accepted connection in, or resets it.
pub fn welcome(core: &Rc<Core>, service: Arc<Service>, socket: Socket, peer: SocketAddr) {
    let client = peer.ip().to_canonical();
    core.counters().accepted.bump();
    let is_allowed =
        service.settings.allow.is_empty() || service.settings.allow.iter().any(|net| net.contains(&client));
    let refusal = match () {
        () if !is_allowed => Some(End::NotAllowed),
        () if core.admit(client).is_err() => Some(End::Overloaded),
        () => None,
    };
    if let Some(end) = refusal {
        core.counters().refused.bump();
        if let Some(cell) = service.desk.cell(core.index) {
            cell.accepted.bump();
            cell.end(end);
        }
        socket.abort();
        return;
    }
    session::spawn(core.clone(), service, socket, peer);
}

impl DeskCell {
    fn end(&self, end: End) {
        if let Some(counter) = self.ends.get(end as usize) {
            counter.bump();
        }
    }
}
