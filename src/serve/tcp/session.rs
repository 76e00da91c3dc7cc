//! One connection of a service: find a server, connect, tell it who the client is, and pass bytes on both ways until
//! both ends closed, one broke, or the server is no longer the one to use.

use crate::config::settings::tcp::{Mode, ProxyVersion};
use crate::net::clock::{Now, now};
use crate::net::driver::Socket;
use crate::net::relay::{self, Side, relay_until};
use crate::net::stream::Stream;
use crate::net::target::Order;
use crate::net::upstream;
use crate::policy::service::spread::{Candidate, Pick, Spread};
use crate::policy::service::{Standing, spread};
use crate::proto::proxy_header::{self, Version};
use crate::serve::core::{Core, elapsed_ns, spawn_guarded};
use crate::serve::pairing::Noted;
use crate::serve::shared::Server;
use crate::serve::tcp::{Desk, Member, Service};
use crate::telemetry::access::session::Line;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Between looks for a server while there is none to connect to.
const LOOK: Duration = Duration::from_millis(20);

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides closed.
    Finished,
    ClientBroke,
    ServerBroke,
    Idle,
    /// The server may not be used any more, or another one is the writer now.
    Lost,
    /// No server could be connected to in time.
    Unreachable,
    NoServer,
    /// Every server has all the connections it may have.
    Full,
    /// The client is on no list of those who may connect.
    NotAllowed,
    /// The core or the client has all the connections it may have.
    Overloaded,
}

impl End {
    pub const ALL: [End; 10] = [
        End::Finished,
        End::ClientBroke,
        End::ServerBroke,
        End::Idle,
        End::Lost,
        End::Unreachable,
        End::NoServer,
        End::Full,
        End::NotAllowed,
        End::Overloaded,
    ];

    /// Side and reason, for log and metrics; nothing for a good end.
    pub fn cause(self) -> Option<(&'static str, &'static str)> {
        match self {
            End::Finished => None,
            End::ClientBroke => Some(("downstream", "broken")),
            End::ServerBroke => Some(("upstream", "broken")),
            End::Idle => Some(("internal", "idle")),
            End::Lost => Some(("upstream", "lost")),
            End::Unreachable => Some(("upstream", "connect")),
            End::NoServer => Some(("internal", "no_server")),
            End::Full => Some(("internal", "full")),
            End::NotAllowed => Some(("downstream", "not_allowed")),
            End::Overloaded => Some(("internal", "overloaded")),
        }
    }
}

/// This core's sessions at servers, to be ended when their server is lost.
#[derive(Default)]
pub struct Sessions {
    next: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<Lifeline>>>,
    /// [`crate::serve::shared::Shared::writers`] when it was last looked.
    seen: Cell<u64>,
}

/// What a session hangs on.
struct Lifeline {
    desk: Arc<Desk>,
    member: Arc<Member>,
    is_cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Lifeline {
    fn cut(&self) {
        self.is_cut.set(true);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn wait_cut(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|cx| {
            if self.is_cut.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
    }
}

impl Sessions {
    /// Once a tick: ends the sessions whose service has another writer by now. Nearly free when nothing changed.
    pub fn tend(&self, writers: u64, services: &[Arc<Service>]) {
        if self.seen.replace(writers) == writers {
            return;
        }
        for lifeline in self.open.borrow().values() {
            let service = services.iter().find(|service| Arc::ptr_eq(&service.desk, &lifeline.desk));
            if service.is_some_and(|service| !is_right(service, &lifeline.member)) {
                lifeline.cut();
            }
        }
    }

    fn enter(&self, lifeline: Rc<Lifeline>) -> u64 {
        let key = self.next.get();
        self.next.set(key.wrapping_add(1));
        self.open.borrow_mut().insert(key, lifeline);
        key
    }

    fn leave(&self, key: u64) {
        self.open.borrow_mut().remove(&key);
    }
}

/// Whether a session may be at `member`.
fn is_right(service: &Service, member: &Arc<Member>) -> bool {
    !service.has_writer() || service.writer().is_some_and(|writer| Arc::ptr_eq(writer, member))
}

/// Starts a session for an admitted client. A panic ends the session and nothing else.
pub(super) fn spawn(core: Rc<Core>, service: Arc<Service>, socket: Socket, peer: SocketAddr) {
    let guard = Guard::new(core.clone(), &service, peer, &socket);
    spawn_guarded(core, peer, "a session's task panicked, the session is closed", walk(guard, service, socket, peer));
}

/// Everything a session counts in, left however it ends.
struct Guard {
    core: Rc<Core>,
    desk: Arc<Desk>,
    client: IpAddr,
    /// For the other node, which resets this client if we die.
    _noted: Option<Box<Noted>>,
}

impl Guard {
    fn new(core: Rc<Core>, service: &Service, peer: SocketAddr, socket: &Socket) -> Guard {
        let local = core.shared.pairing().and_then(|pairing| Some((pairing, socket.local_addr().ok()?)));
        let noted = local.and_then(|(pairing, local)| pairing.note(core.index, peer, local)).map(Box::new);
        core.counters().connections.up();
        core.counters().tunnels.up();
        if let Some(cell) = service.desk.cell(core.index) {
            cell.accepted.bump();
            cell.open.up();
        }
        Guard { core, desk: service.desk.clone(), client: peer.ip().to_canonical(), _noted: noted }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.core.counters().connections.down();
        self.core.counters().tunnels.down();
        if let Some(cell) = self.desk.cell(self.core.index) {
            cell.open.down();
        }
        self.core.dismiss(self.client);
    }
}

/// A session's place at a server.
struct Seat {
    core: Rc<Core>,
    server: Arc<Server>,
    lifeline: Rc<Lifeline>,
    key: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.server.leave(self.core.index);
        self.core.sessions.leave(self.key);
    }
}

/// What a session amounted to, for the log.
struct Story {
    begun: Now,
    connect_ns: Option<u64>,
    tries: u8,
    forth: u64,
    back: u64,
}

async fn walk(guard: Guard, service: Arc<Service>, socket: Socket, peer: SocketAddr) {
    let core = guard.core.clone();
    let local = socket.local_addr().ok();
    // Both ends may be silent for hours; one that is gone must not stay for ever.
    let _ = socket.keep_alive();
    let client = Stream::Plain(socket);
    let mut story = Story { begun: now(), connect_ns: None, tries: 0, forth: 0, back: 0 };
    let (end, server) = match open(&core, &service, peer, local, &mut story).await {
        Ok((upstream, seat)) => {
            let end = carry(&core, &service, &client, &upstream, &seat, &mut story).await;
            if end != End::Finished {
                upstream.abort();
            }
            (end, Some(seat.server.clone()))
        }
        Err((end, server)) => (end, server),
    };
    if end != End::Finished {
        // Nobody may take what came for the whole.
        client.abort();
    }
    if let Some(cell) = service.desk.cell(core.index) {
        cell.end(end);
    }
    let name = server.as_ref().map_or("", |server| server.name.as_str());
    if matches!(end, End::Unreachable | End::NoServer | End::Full) {
        let reason = end.cause().map_or("", |(_, reason)| reason);
        core.warn_seldom(|others| {
            let service = service.settings.name.as_str();
            tracing::warn!(service, reason, server = name, client = %guard.client, others, "session failed");
        });
    }
    if core.is_logging() {
        let id = core.request_id();
        let line = Line {
            client: guard.client,
            service: &service.settings.name,
            server: name,
            session_id: id.as_str(),
            bytes_in: story.forth,
            bytes_out: story.back,
            connect: story.connect_ns,
            total: elapsed_ns(story.begun),
            tries: story.tries,
            end: end.cause(),
        };
        core.log(|log, wall| log.write_session(wall, &line));
    }
}

async fn carry(
    core: &Core,
    service: &Service,
    client: &Stream,
    upstream: &Stream,
    seat: &Seat,
    story: &mut Story,
) -> End {
    let desk = service.desk.cell(core.index);
    let seen = |side: Side, count: usize| {
        let Some(cell) = desk else { return };
        match side {
            Side::First => cell.bytes_in.add(count as u64),
            Side::Second => cell.bytes_out.add(count as u64),
        }
    };
    let relayed = relay_until(client, upstream, service.settings.idle_timeout, seat.lifeline.wait_cut(), seen).await;
    (story.forth, story.back) = (relayed.forth, relayed.back);
    match relayed.end {
        relay::End::Finished => End::Finished,
        relay::End::Idle => End::Idle,
        relay::End::Stopped => End::Lost,
        relay::End::Failed(Side::First, _) => End::ClientBroke,
        relay::End::Failed(Side::Second, _) => {
            // A check may find out sooner what happened to it.
            count_failure(core, &seat.server);
            End::ServerBroke
        }
    }
}

type Refusal = (End, Option<Arc<Server>>);

/// A connection to a server, tried at others or again until the time for it is up: nothing was sent yet.
async fn open(
    core: &Rc<Core>,
    service: &Arc<Service>,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    story: &mut Story,
) -> Result<(Stream, Seat), Refusal> {
    let patience = service.settings.connect_timeout;
    let begun = story.begun;
    let mut tried: Vec<Arc<Member>> = Vec::new();
    loop {
        let service = current(core, service);
        let left = patience.saturating_sub(now().since(begun));
        let last = tried.last().map(|member| member.server.clone());
        let member = match find(core, &service, peer.ip(), &tried) {
            Found::Member(member) => member,
            // All were tried, or nobody knows anything yet.
            Found::Wait if !left.is_zero() => {
                tried.clear();
                glommio::timer::sleep(LOOK).await;
                continue;
            }
            Found::Wait => return Err((End::Unreachable, last)),
            Found::Nobody => return Err((End::NoServer, last)),
            Found::Full => return Err((End::Full, last)),
        };
        if left.is_zero() {
            return Err((End::Unreachable, last));
        }
        // The place was taken by the search; from here on it is left by the seat.
        let lifeline = Rc::new(Lifeline {
            desk: service.desk.clone(),
            member: member.clone(),
            is_cut: Cell::new(false),
            waker: RefCell::default(),
        });
        let key = core.sessions.enter(lifeline.clone());
        let seat = Seat { core: core.clone(), server: member.server.clone(), lifeline, key };
        story.tries = story.tries.saturating_add(1);
        let since = now();
        match greet(core, &service, &seat, peer, local, left).await {
            Ok(stream) => {
                story.connect_ns = Some(elapsed_ns(since));
                if let Some(cell) = seat.server.cell(core.index) {
                    cell.requests.bump();
                }
                return Ok((stream, seat));
            }
            Err(error) => {
                tracing::debug!(server = seat.server.name, %error, "no connection");
                // One that is no longer the right one did not fail.
                if !seat.lifeline.is_cut.get() {
                    count_failure(core, &seat.server);
                }
                tried.push(member);
            }
        }
    }
}

fn count_failure(core: &Core, server: &Server) {
    if let Some(cell) = server.cell(core.index) {
        cell.failures.bump();
    }
}

/// Connects, and says who the client is where that is wanted.
async fn greet(
    core: &Core,
    service: &Service,
    seat: &Seat,
    peer: SocketAddr,
    local: Option<SocketAddr>,
    left: Duration,
) -> io::Result<Stream> {
    let source = core.view().snapshot.source;
    let stream = upstream::connect(&core.driver, &seat.server.target, source, left, Order::Proven).await?;
    core.counters().upstream_connects.bump();
    let _ = stream.socket().map(|socket| socket.keep_alive());
    if let Some(version) = service.settings.proxy_protocol {
        let version = match version {
            ProxyVersion::V1 => Version::V1,
            ProxyVersion::V2 => Version::V2,
        };
        let mut header = Vec::new();
        proxy_header::write(&mut header, version, local.map(|local| (peer, local)));
        // It fits into the buffer of a new connection.
        stream.send(header).await.0?;
    }
    if seat.lifeline.is_cut.get() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(stream)
}

/// The service as the settings have it by now; the one the session began with if they have it no more.
fn current(core: &Core, service: &Arc<Service>) -> Arc<Service> {
    let view = core.view();
    let same = view.snapshot.services.iter().find(|other| Arc::ptr_eq(&other.desk, &service.desk));
    same.unwrap_or(service).clone()
}

enum Found {
    /// With a place taken at it.
    Member(Arc<Member>),
    Wait,
    Nobody,
    Full,
}

fn find(core: &Core, service: &Service, client: IpAddr, tried: &[Arc<Member>]) -> Found {
    let standings = service.standings();
    let is_tried = |member: &Arc<Member>| tried.iter().any(|tried| Arc::ptr_eq(tried, member));
    let max = service.settings.max_connections_per_server;
    let spread = match service.settings.mode {
        Mode::SingleWriter => {
            return match service.writer() {
                Some(writer) if is_tried(writer) => Found::Wait,
                Some(writer) if writer.server.enter(core.index, max) => Found::Member(writer.clone()),
                Some(_) => Found::Full,
                None if standings.contains(&Standing::Unknown) => Found::Wait,
                None => Found::Nobody,
            };
        }
        Mode::LeastConnections => Spread::LeastConnections,
        Mode::Source => Spread::Source,
        Mode::First => Spread::First,
    };
    // Another core may take the last place between the look and the step; then look again, a few times.
    for _ in 0..4 {
        let candidates: Vec<Candidate> = service
            .members
            .iter()
            .zip(&standings)
            .map(|(member, standing)| Candidate {
                is_usable: service.may_serve(*standing, &standings),
                is_excluded: is_tried(member),
                connections: member.server.outstanding(),
                capacity: max,
                mark: member.mark,
            })
            .collect();
        match spread::pick(spread, &candidates, client, fastrand::u64(..)) {
            Pick::Full => return Found::Full,
            Pick::None if candidates.iter().any(|candidate| candidate.is_usable) => return Found::Wait,
            Pick::None if standings.contains(&Standing::Unknown) => return Found::Wait,
            Pick::None => return Found::Nobody,
            Pick::Server(index) => {
                let Some(member) = service.members.get(index) else { return Found::Nobody };
                if member.server.enter(core.index, max) {
                    return Found::Member(member.clone());
                }
            }
        }
    }
    Found::Full
}
