//! One data executor: driver, listeners, ticks. Lives as long as the worker; reloads swap what it reads, never itself.

mod begin;

use crate::config::settings::{DriverChoice, ListenerKind};
use crate::net::clock::{self, Timer};
use crate::net::driver::{Driver, Kind, Listener, Socket};
use crate::net::stream::Stream;
use crate::net::tls::TlsInfo;
use crate::serve::connection::{Door, Life, Newcomer};
use crate::serve::core::Core;
use crate::serve::frp;
use crate::serve::introduction;
use crate::serve::reply::{self, About, Own, body::Audience};
use crate::serve::shared::{Phase, Shared};
use crate::serve::tcp;
use crate::telemetry::access::Log;
use crate::telemetry::writer::Outlet;
use begin::{PATIENCE, begin};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use socket2::SockRef;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

/// Heartbeat, and the longest an order waits for a core to see it.
const TICK: Duration = Duration::from_millis(10);

/// Out of descriptors or memory: nothing gets better by trying at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A listening socket of one core.
pub struct Socketed {
    /// As configured: its key in the settings.
    pub address: SocketAddr,
    pub socket: OwnedFd,
}

/// What an executor is made from.
pub struct Seat {
    pub index: usize,
    pub placement: Placement,
    pub shared: Arc<Shared>,
    pub outlet: Outlet,
    /// Sockets to listen on, at the start and after reloads.
    pub inbox: Receiver<Vec<Socketed>>,
    /// Gets one message when this core accepts, or why it cannot.
    pub started: Sender<Result<(), String>>,
}

/// Starts a data executor.
pub fn spawn(seat: Seat) -> Result<ExecutorJoinHandle<()>, GlommioError<()>> {
    let (placement, name) = (seat.placement.clone(), core_name(seat.index));
    begin(PATIENCE, move || builder(placement.clone(), &name), move || run(seat))
}

/// Starts the executor for what is beside the traffic.
pub fn spawn_control<F, W>(work: W) -> Result<ExecutorJoinHandle<()>, GlommioError<()>>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    begin(PATIENCE, || builder(Placement::Unbound, "control"), work)
}

/// Of a data executor. glommio puts a dash and a number of its own behind it to name the thread.
pub fn core_name(index: usize) -> String {
    format!("core-{index}")
}

/// An executor for sockets only: the smallest rings and no DMA memory to speak of.
pub fn builder(placement: Placement, name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .ring_depth(256)
        .io_memory(64 << 10)
        .preempt_timer(Duration::from_millis(10))
        .name(name)
}

/// The driver the settings ask for, on the calling executor.
pub fn start_driver(shared: &Shared) -> io::Result<Driver> {
    match shared.snapshot().settings.worker.driver {
        DriverChoice::Ring => Driver::start(Kind::Ring),
        DriverChoice::Epoll => Driver::start(Kind::Epoll),
        DriverChoice::Auto => Driver::start(Kind::Ring).or_else(|error| {
            shared.warn_once(|| tracing::warn!(%error, "io_uring is not usable for sockets, using epoll"));
            Driver::start(Kind::Epoll)
        }),
    }
}

async fn run(seat: Seat) {
    // The first sleep of a thread costs milliseconds of registration; better now than under traffic.
    clock::tick(Duration::from_millis(1)).await;
    let driver = match start_driver(&seat.shared) {
        Ok(driver) => driver,
        Err(error) => {
            let _ = seat.started.send(Err(format!("core {}: event loop: {error}", seat.index)));
            return;
        }
    };
    let log = Log::new(seat.outlet, &seat.shared.snapshot().settings.log);
    let core = Core::new(seat.index, driver, seat.shared, log);
    let listeners = Listeners::default();
    let opened = seat.inbox.recv().map_or(Ok(()), |sockets| listeners.open(&core, sockets));
    let is_open = opened.is_ok();
    let _ = seat.started.send(opened.map_err(|error| format!("core {}: listener: {error}", core.index)));
    if !is_open {
        return;
    }
    let mut turn = 1;
    while !core.tick(turn) {
        turn += 1;
        while let Ok(sockets) = seat.inbox.try_recv() {
            if let Err(error) = listeners.open(&core, sockets) {
                tracing::error!(core = core.index, %error, "cannot listen on an added socket");
            }
        }
        listeners.tend(&core);
        clock::tick(TICK).await;
    }
}

/// This core's open listeners.
#[derive(Default)]
struct Listeners(RefCell<Vec<(SocketAddr, Rc<Listener>)>>);

impl Listeners {
    fn open(&self, core: &Rc<Core>, sockets: Vec<Socketed>) -> io::Result<()> {
        for Socketed { address, socket } in sockets {
            // Differs from the address where the settings let the kernel choose.
            let port = SockRef::from(&socket).local_addr()?.as_socket().map_or(address.port(), |bound| bound.port());
            let listener = Rc::new(core.driver.listen(socket)?);
            glommio::spawn_local(accept(core.clone(), listener.clone(), address, port)).detach();
            self.0.borrow_mut().push((address, listener));
        }
        Ok(())
    }

    /// Closes what the settings no longer name, and everything when the worker stops.
    fn tend(&self, core: &Core) {
        let view = core.view();
        let is_stopping = core.phase() >= Phase::Stopping;
        self.0.borrow_mut().retain(|(address, listener)| {
            let stays = !is_stopping && view.snapshot.settings.addresses().any(|named| named == *address);
            if !stays {
                listener.stop();
            }
            stays
        });
    }
}

/// Accepts until the listener is stopped; what was accepted by then is served.
async fn accept(core: Rc<Core>, listener: Rc<Listener>, address: SocketAddr, port: u16) {
    let mut kind = ListenerKind::Http;
    // What a socket was for it stays for: a client that was accepted while a reload took it away gets what it came for.
    let (mut last_service, mut last_gate) = (None, None);
    loop {
        match listener.accept().await {
            Ok(Some((socket, peer))) => {
                let view = core.view();
                let named = view.snapshot.settings.listeners.iter().find(|named| named.address == address);
                let service = tcp::service_at(&view.snapshot, address);
                let gate = frp::gate_at(&view.snapshot, address);
                if service.is_some() || named.is_some() || gate.is_some() {
                    (last_service, last_gate) = (service, gate);
                }
                if let Some(gate) = &last_gate {
                    frp::welcome(&core, gate.clone(), socket, peer);
                    continue;
                }
                if let Some(service) = &last_service {
                    tcp::welcome(&core, service.clone(), socket, peer);
                    continue;
                }
                kind = named.map_or(kind, |named| named.kind);
                let door = Door { port, kind };
                match named.filter(|named| !named.proxy_protocol.is_empty()) {
                    None => welcome(&core, socket, peer, peer, door),
                    Some(named) if introduction::is_expected(&core, named, peer) => {
                        glommio::spawn_local(introduce(core.clone(), socket, peer, door)).detach();
                    }
                    Some(_) => {}
                }
            }
            Ok(None) => return,
            Err(error) => {
                core.warn_seldom(|others| tracing::error!(%address, %error, others, "cannot accept connections"));
                glommio::timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection of a balancer: who the client is comes first.
async fn introduce(core: Rc<Core>, socket: Socket, peer: SocketAddr, mut door: Door) {
    if let Some((client, port)) = introduction::read(&core, &socket, peer).await {
        door.port = port.unwrap_or(door.port);
        welcome(&core, socket, peer, client, door);
    }
}

/// `peer` is at the other end of the socket; `client` is who counts.
fn welcome(core: &Rc<Core>, socket: Socket, peer: SocketAddr, client: SocketAddr, door: Door) {
    let (counters, kind) = (core.counters(), door.kind);
    counters.accepted.bump();
    if let Err(own) = core.admit(client.ip()) {
        counters.refused.bump();
        counters.failure(reply::Failure::from(own).index());
        if kind != ListenerKind::Https && own != Own::Banned {
            glommio::spawn_local(turn_away(core.clone(), socket, own)).detach();
        }
        return;
    }
    // For the other node, which resets this client if we die.
    let local = core.shared.pairing().and_then(|pairing| Some((pairing, socket.local_addr().ok()?)));
    let noted = local.and_then(|(pairing, local)| pairing.note(core.index, peer, local)).map(Box::new);
    let newcomer = Newcomer { client, door, noted };
    if kind == ListenerKind::Https {
        glommio::spawn_local(secure(core.clone(), socket, newcomer)).detach();
    } else {
        glommio::spawn_local(Life::new(core.clone(), Stream::Plain(socket), None, newcomer)).detach();
    }
}

/// The handshake; the connection is a task of its own, so that it does not keep the handshake's frame.
async fn secure(core: Rc<Core>, socket: Socket, newcomer: Newcomer) {
    match shake_hands(&core, socket).await {
        Some((stream, info)) => {
            glommio::spawn_local(Life::new(core, stream, Some(info), newcomer)).detach();
        }
        None => {
            core.counters().handshakes_failed.bump();
            core.dismiss(newcomer.client.ip());
        }
    }
}

async fn shake_hands(core: &Core, socket: Socket) -> Option<(Stream, TlsInfo)> {
    let counters = core.counters();
    let (limit, patience) = {
        let settings = &core.view().snapshot.settings;
        (settings.limits.handshakes_max as u64, settings.timeouts.handshake)
    };
    let acceptor = core.acceptor()?;
    if counters.handshaking.read() >= limit {
        return None;
    }
    counters.handshaking.up();
    let timer = Timer::new();
    timer.arm(patience);
    let result = timer.bound(acceptor.accept(socket)).await;
    counters.handshaking.down();
    let (stream, info) = match result {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    counters.handshakes.bump();
    if info.resumed {
        counters.handshakes_resumed.bump();
    }
    Some((stream, info))
}

/// Says why before the connection closes. Costs one send: the response fits any socket's buffer.
async fn turn_away(core: Rc<Core>, socket: Socket, own: Own) {
    let answer = reply::Failure::from(own).answer();
    let date = core.date.bytes();
    let about = About { request_id: "", date: &date, head_only: false, closes: true };
    let mut out = Vec::new();
    reply::write(&mut out, &answer, answer.status.unwrap_or(503), Audience::Json, &about);
    let _ = socket.send(out).await;
    socket.shutdown_write();
}
