//! A server of plain sockets around the FRP core, on a thread of its own: everything the core asks for, nothing clever.

use super::wrap::Wrap;
use lyre::proto::frp::channel::{Channel, Entropy, Token, Version};
use lyre::proto::frp::identity::{Decision, Grant, Keys};
use lyre::proto::frp::message::{Login, LoginResp, Message, NewWorkConn, StartWorkConn, v1, v2};
use lyre::proto::frp::registry::{Registry, SessionId, Source};
use lyre::proto::frp::session::{Action, Failure, Input, Session, Terms, WaiterId, WorkId};
use lyre::proto::frp::yamux::{Event, Limits, Mux};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const SHARED_KEY: &str = "the shared key";

const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the server's own, so that a slow machine does not make a client that lives look dead.
const PROBE: Duration = Duration::from_secs(12);

/// How often the driver looks at its orders when no socket has anything.
const TURN_MS: u8 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Up(u16),
    Down(u16),
}

enum Order {
    Open { port: u16, request: Vec<u8>, is_stalled: bool, reply: Sender<Result<Vec<u8>, Failure>> },
    Release,
    Cut,
    RunIds(Sender<Vec<String>>),
    Stop,
}

/// Where the bytes of an answer will be.
pub struct Answer(Receiver<Result<Vec<u8>, Failure>>);

impl Answer {
    pub fn is_pending(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }

    pub fn wait(self) -> Result<Vec<u8>, Failure> {
        self.0.recv_timeout(PATIENCE).expect("an answer in time")
    }
}

pub struct Server {
    pub port: u16,
    orders: Sender<Order>,
    seen: Receiver<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(tokens: Vec<(String, Grant)>) -> Server {
        Server::with(tokens, 8)
    }

    /// One port a client, as HaRP has it.
    pub fn start_strict(tokens: Vec<(String, Grant)>) -> Server {
        Server::with(tokens, 1)
    }

    fn with(tokens: Vec<(String, Grant)>, ports_max: usize) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let apps = tokens.iter().map(|(token, grant)| (token.as_bytes(), grant.clone()));
        let keys = Keys::new(Some(SHARED_KEY.as_bytes()), apps);
        let (orders, from_test) = channel();
        let (to_test, seen) = channel();
        let thread = std::thread::spawn(move || Driver::new(listener, keys, ports_max, to_test).run(&from_test));
        Server { port, orders, seen, thread: Some(thread) }
    }

    /// Sends a request through whatever serves the port; its answer ends with the stream.
    pub fn open(&self, port: u16, request: Vec<u8>) -> Answer {
        let (reply, answer) = channel();
        self.orders.send(Order::Open { port, request, is_stalled: false, reply }).unwrap();
        Answer(answer)
    }

    /// The same, but what comes back is left lying until [`Server::release`].
    pub fn open_stalled(&self, port: u16, request: Vec<u8>) -> Answer {
        let (reply, answer) = channel();
        self.orders.send(Order::Open { port, request, is_stalled: true, reply }).unwrap();
        Answer(answer)
    }

    pub fn release(&self) {
        self.orders.send(Order::Release).unwrap();
    }

    /// Drops all connections, as a reset does.
    pub fn cut(&self) {
        self.orders.send(Order::Cut).unwrap();
    }

    pub fn run_ids(&self) -> Vec<String> {
        let (reply, answer) = channel();
        self.orders.send(Order::RunIds(reply)).unwrap();
        answer.recv_timeout(PATIENCE).unwrap()
    }

    pub fn sessions(&self) -> usize {
        self.run_ids().len()
    }

    /// The next that fits; what comes before it is forgotten.
    pub fn wait(&self, fits: impl Fn(&Seen) -> bool) -> Seen {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let seen = self.seen.recv_timeout(left).expect("what is waited for happens in time");
            if fits(&seen) {
                return seen;
            }
        }
    }

    /// All there was to see since the last look.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }

    pub fn wait_any_up(&self) -> u16 {
        match self.wait(|seen| matches!(seen, Seen::Up(_))) {
            Seen::Up(port) | Seen::Down(port) => port,
        }
    }

    /// Until the port is up, whatever came up before it. In the order of the client's choice.
    pub fn wait_up(&self, port: u16) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (reply, answer) = channel();
            self.orders
                .send(Order::Open { port, request: super::backend::request(0, 1), is_stalled: false, reply })
                .unwrap();
            match Answer(answer).wait() {
                Ok(_) => return,
                Err(Failure::NoProxy) => std::thread::yield_now(),
                Err(failure) => panic!("port {port}: {failure}"),
            }
            assert!(Instant::now() < end, "port {port} does not come up");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        let outcome = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(outcome, Some(Ok(()))), "the driver panicked");
    }
}

struct Driver {
    listener: TcpListener,
    started: Instant,
    keys: Keys,
    token: Token,
    ports_max: usize,
    seen: Sender<Seen>,
    registry: Registry,
    connections: BTreeMap<u64, Connection>,
    running: BTreeMap<SessionId, Running>,
    works: BTreeMap<WorkId, At>,
    waiters: BTreeMap<WaiterId, Waiter>,
    /// Who waits to hear about which holder.
    probes: Vec<(SessionId, SessionId)>,
    inputs: VecDeque<(SessionId, Input)>,
    next: u64,
}

/// A stream of a connection; without the multiplexer it is number 0.
type At = (u64, u32);

struct Running {
    session: Session,
    run_id: String,
    at: At,
    channel: Channel,
}

struct Waiter {
    request: Vec<u8>,
    is_stalled: bool,
    reply: Sender<Result<Vec<u8>, Failure>>,
}

struct Connection {
    socket: TcpStream,
    mux: Option<Mux>,
    is_sniffed: bool,
    is_dead: bool,
    out: Vec<u8>,
    streams: BTreeMap<u32, Stream>,
}

struct Stream {
    state: State,
    /// Data is not taken: how much that is.
    stalled: Option<usize>,
    queue: Vec<u8>,
    is_closing: bool,
}

enum State {
    Opening(Channel),
    Control(SessionId),
    Idle { work: WorkId, owner: SessionId, version: Version },
    Piping { wrap: Box<Wrap>, received: Vec<u8>, reply: Sender<Result<Vec<u8>, Failure>> },
    Done,
}

impl Driver {
    fn new(listener: TcpListener, keys: Keys, ports_max: usize, seen: Sender<Seen>) -> Driver {
        Driver {
            listener,
            started: Instant::now(),
            keys,
            token: Token::new(b""),
            ports_max,
            seen,
            registry: Registry::default(),
            connections: BTreeMap::new(),
            running: BTreeMap::new(),
            works: BTreeMap::new(),
            waiters: BTreeMap::new(),
            probes: Vec::new(),
            inputs: VecDeque::new(),
            next: 0,
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            while let Ok(order) = orders.try_recv() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.order(order);
            }
            self.wait();
            self.accept();
            let ids: Vec<u64> = self.connections.keys().copied().collect();
            ids.into_iter().for_each(|id| self.read(id));
            self.tick();
            self.settle();
            self.write();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Open { port, request, is_stalled, reply } => {
                self.next += 1;
                let waiter = WaiterId(self.next);
                let Some(session) = self.registry.holder(port) else {
                    let _ = reply.send(Err(Failure::NoProxy));
                    return;
                };
                self.waiters.insert(waiter, Waiter { request, is_stalled, reply });
                let (from, to) =
                    (SocketAddr::from(([203, 0, 113, 7], 40_000)), SocketAddr::from(([192, 0, 2, 1], port)));
                self.inputs.push_back((session, Input::Open { waiter, port, from, to }));
            }
            Order::Release => {
                for connection in self.connections.values_mut() {
                    for (id, stream) in &mut connection.streams {
                        if let (Some(stalled), Some(mux)) = (stream.stalled.take(), &mut connection.mux) {
                            mux.take(*id, stalled);
                        }
                    }
                }
            }
            Order::Cut => self.connections.values_mut().for_each(|connection| connection.is_dead = true),
            Order::RunIds(reply) => {
                let _ = reply.send(self.running.values().map(|running| running.run_id.clone()).collect());
            }
            Order::Stop => {}
        }
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        for connection in self.connections.values() {
            let wants =
                if connection.out.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
            fds.push(PollFd::new(connection.socket.as_fd(), wants));
        }
        let _ = poll(&mut fds, PollTimeout::from(TURN_MS));
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true).unwrap();
            self.next += 1;
            let connection = Connection {
                socket,
                mux: None,
                is_sniffed: false,
                is_dead: false,
                out: Vec::new(),
                streams: BTreeMap::new(),
            };
            self.connections.insert(self.next, connection);
        }
    }

    fn read(&mut self, id: u64) {
        let now = self.now();
        let mut bytes = vec![0; 64 << 10];
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.is_dead) else { return };
        let have = match connection.socket.read(&mut bytes) {
            Ok(have) if have > 0 => have,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => {
                connection.is_dead = true;
                return;
            }
        };
        bytes.truncate(have);
        if !connection.is_sniffed {
            connection.is_sniffed = true;
            if bytes[0] == 0 {
                connection.mux = Some(Mux::new(now, Limits::default()));
            } else {
                connection.streams.insert(0, Stream::new());
            }
        }
        let Some(mux) = &mut connection.mux else { return self.data((id, 0), &bytes) };
        let mut events = Vec::new();
        connection.is_dead |= mux.receive(now, &bytes, &mut events).is_err();
        for event in events {
            match event {
                Event::Opened { stream } => {
                    self.connections.get_mut(&id).unwrap().streams.insert(stream, Stream::new());
                }
                Event::Data { stream, at } => {
                    let length = at.len();
                    self.data((id, stream), &bytes[at]);
                    let stalled = self.stream((id, stream)).and_then(|stream| stream.stalled.as_mut());
                    match stalled {
                        Some(stalled) => *stalled += length,
                        None => self.connections.get_mut(&id).unwrap().mux.as_mut().unwrap().take(stream, length),
                    }
                }
                Event::Finished { stream } | Event::Reset { stream } => self.finished((id, stream)),
                Event::Alive { .. } => self.heard_of(id),
                Event::Writable { .. } => {}
            }
        }
    }

    fn stream(&mut self, (connection, stream): At) -> Option<&mut Stream> {
        self.connections.get_mut(&connection)?.streams.get_mut(&stream)
    }

    fn data(&mut self, at: At, bytes: &[u8]) {
        let Some(stream) = self.stream(at) else { return };
        match &mut stream.state {
            State::Opening(channel) => {
                let outcome = channel.push(bytes).and_then(|()| channel.next());
                match outcome {
                    Ok(None) => {}
                    Ok(Some(message)) => self.opened(at, message),
                    Err(_) => stream.is_closing = true,
                }
            }
            State::Control(session) => {
                let session = *session;
                let running = self.running.get_mut(&session).unwrap();
                let mut outcome = running.channel.push(bytes);
                while outcome.is_ok() {
                    match running.channel.next() {
                        Ok(Some(message)) => self.inputs.push_back((session, Input::Message(message))),
                        Ok(None) => break,
                        Err(error) => outcome = Err(error),
                    }
                }
                if let Err(error) = outcome {
                    panic!("the control stream of a real client broke: {error}");
                }
            }
            State::Piping { wrap, received, .. } => wrap.unwrap(bytes, received),
            State::Idle { .. } | State::Done => {}
        }
    }

    /// The first message of a stream.
    fn opened(&mut self, at: At, message: Message) {
        if let Some(mux) = self.connections.get_mut(&at.0).and_then(|connection| connection.mux.as_mut()) {
            mux.settle(at.1);
        }
        let state = std::mem::replace(&mut self.stream(at).unwrap().state, State::Done);
        let State::Opening(channel) = state else { return };
        match message {
            Message::Login(login) => self.login(at, channel, &login),
            Message::NewWorkConn(work) => self.work(at, &channel, &work),
            other => panic!("a stream of a real client began with {other:?}"),
        }
    }

    fn login(&mut self, at: At, mut channel: Channel, login: &Login) {
        self.next += 1;
        let entropy = Entropy { nonce: [7; 24], random: [9; 32] };
        let mut out = Vec::new();
        let identity = match self.keys.judge(login, self.token.bytes()) {
            Decision::Granted(identity) => identity,
            Decision::Refused(refusal) => {
                let answer = LoginResp { error: refusal.to_string(), ..LoginResp::default() };
                channel.refuse(answer, &entropy, &mut out).unwrap();
                let stream = self.stream(at).unwrap();
                stream.queue.append(&mut out);
                stream.is_closing = true;
                return;
            }
        };
        let source = source();
        let fresh = u128::from(self.next).to_be_bytes();
        let admission = self.registry.admit(&login.run_id.0, source.clone(), fresh).unwrap();
        if let Some(old) = admission.replaces {
            self.end(old);
        }
        let run_id = admission.run_id.clone();
        let is_muxed = self.connections[&at.0].mux.is_some();
        let terms = Terms { is_muxed, ports_max: self.ports_max };
        let mut actions = Vec::new();
        let session = Session::start(self.now(), login, (identity, source, admission), terms, &mut actions);
        channel.accept(session.answer(), &self.token, &entropy, &mut out).unwrap();
        let stream = self.stream(at).unwrap();
        stream.queue.append(&mut out);
        stream.state = State::Control(session.id());
        let id = session.id();
        self.running.insert(id, Running { session, run_id, at, channel });
        self.perform(id, actions);
    }

    fn work(&mut self, at: At, channel: &Channel, work: &NewWorkConn) {
        let owner = if self.connections[&at.0].mux.is_some() {
            let mut here = self.running.iter().filter(|(_, running)| running.at.0 == at.0);
            here.find(|(_, running)| running.session.is_mine(&work.run_id.0)).map(|(id, _)| *id)
        } else {
            self.registry.session(&work.run_id.0, &source())
        };
        let owner = owner.expect("a real client shows its run id");
        self.next += 1;
        let id = WorkId(self.next);
        self.works.insert(id, at);
        let version = channel.version().unwrap();
        self.stream(at).unwrap().state = State::Idle { work: id, owner, version };
        self.inputs.push_back((owner, Input::Work(id)));
    }

    /// The client is done with a stream.
    fn finished(&mut self, at: At) {
        let Some(stream) = self.stream(at) else { return };
        stream.is_closing = true;
        match std::mem::replace(&mut stream.state, State::Done) {
            State::Control(session) => {
                // Closing it is all a client does before it drops the connection.
                self.end(session);
            }
            State::Idle { work, owner, .. } => {
                self.works.remove(&work);
                self.inputs.push_back((owner, Input::WorkLost(work)));
            }
            State::Piping { received, reply, .. } => {
                let _ = reply.send(Ok(received));
            }
            State::Opening(_) | State::Done => {}
        }
    }

    /// A session is over, with its connection.
    fn end(&mut self, id: SessionId) {
        let Some(mut running) = self.running.remove(&id) else { return };
        let mut actions = Vec::new();
        let now = self.now();
        running.session.handle(now, Input::Lost, &mut self.registry, &mut actions);
        if let Some(connection) = self.connections.get_mut(&running.at.0) {
            connection.is_dead = true;
        }
        self.perform(id, actions);
        let (about, rest) = std::mem::take(&mut self.probes).into_iter().partition(|(holder, _)| *holder == id);
        self.probes = rest;
        let about: Vec<(SessionId, SessionId)> = about;
        self.inputs.extend(about.into_iter().map(|(holder, asker)| (asker, Input::Probed(holder))));
    }

    /// The connection's client answered a ping.
    fn heard_of(&mut self, connection: u64) {
        let here: Vec<SessionId> =
            self.running.iter().filter(|(_, running)| running.at.0 == connection).map(|(id, _)| *id).collect();
        let (about, rest) = std::mem::take(&mut self.probes).into_iter().partition(|(holder, _)| here.contains(holder));
        self.probes = rest;
        let about: Vec<(SessionId, SessionId)> = about;
        self.inputs.extend(about.into_iter().map(|(holder, asker)| (asker, Input::Probed(holder))));
    }

    fn tick(&mut self) {
        let now = self.now();
        for connection in self.connections.values_mut() {
            if let Some(mux) = connection.mux.as_mut().filter(|mux| now >= mux.deadline()) {
                connection.is_dead |= mux.tick(now).is_err();
            }
        }
        let due = |running: &Running| running.session.deadline().is_some_and(|deadline| now >= deadline);
        let due: Vec<SessionId> = self.running.iter().filter(|(_, running)| due(running)).map(|(id, _)| *id).collect();
        self.inputs.extend(due.into_iter().map(|id| (id, Input::Tick)));
        let dead: Vec<u64> =
            self.connections.iter().filter(|(_, connection)| connection.is_dead).map(|(id, _)| *id).collect();
        for id in dead {
            let streams: Vec<u32> = self.connections[&id].streams.keys().copied().collect();
            streams.into_iter().for_each(|stream| self.finished((id, stream)));
            self.connections.remove(&id);
        }
    }

    /// Feeds the sessions until there is nothing to feed.
    fn settle(&mut self) {
        while let Some((id, input)) = self.inputs.pop_front() {
            let now = self.now();
            let mut actions = Vec::new();
            match self.running.get_mut(&id) {
                Some(running) => running.session.handle(now, input, &mut self.registry, &mut actions),
                None => {
                    if let Input::Open { waiter, .. } = input {
                        actions.push(Action::Fail { waiter, failure: Failure::Lost });
                    }
                }
            }
            self.perform(id, actions);
        }
    }

    fn perform(&mut self, id: SessionId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(message) => {
                    let Some(running) = self.running.get_mut(&id) else { continue };
                    let mut out = Vec::new();
                    running.channel.write(&message, &mut out).unwrap();
                    let at = running.at;
                    if let Some(stream) = self.stream(at) {
                        stream.queue.append(&mut out);
                    }
                }
                Action::Up { remote_port, .. } => _ = self.seen.send(Seen::Up(remote_port)),
                Action::Down { remote_port, .. } => _ = self.seen.send(Seen::Down(remote_port)),
                Action::Assign { waiter, work, start, wrapping } => {
                    let wrap = Wrap::new(wrapping, &self.token);
                    self.assign(waiter, work, start, wrap);
                }
                Action::Fail { waiter, failure } => {
                    if let Some(waiter) = self.waiters.remove(&waiter) {
                        let _ = waiter.reply.send(Err(failure));
                    }
                }
                Action::Discard(work) => {
                    if let Some(stream) = self.works.remove(&work).and_then(|at| self.stream(at)) {
                        stream.state = State::Done;
                        stream.is_closing = true;
                    }
                }
                Action::Probe(holder) => {
                    let now = self.now();
                    let at = self.running.get(&holder).map(|running| running.at.0);
                    let connection = at.and_then(|at| self.connections.get_mut(&at));
                    match connection.and_then(|connection| connection.mux.as_mut()) {
                        Some(mux) => {
                            mux.probe(now, PROBE);
                            self.probes.push((holder, id));
                        }
                        None => self.inputs.push_back((id, Input::Probed(holder))),
                    }
                }
                Action::Close(reason) => panic!("a real client's session was closed: {reason}"),
            }
        }
    }

    fn assign(&mut self, waiter: WaiterId, work: WorkId, start: StartWorkConn, mut wrap: Wrap) {
        let Some(Waiter { request, is_stalled, reply }) = self.waiters.remove(&waiter) else { return };
        let stream = self.works.remove(&work).and_then(|at| self.stream(at));
        let Some(stream) = stream.filter(|stream| !stream.is_closing) else {
            let _ = reply.send(Err(Failure::Lost));
            return;
        };
        let State::Idle { version, .. } = stream.state else { panic!("an idle stream") };
        match version {
            Version::V1 => v1::encode(&Message::StartWorkConn(start), &mut stream.queue),
            Version::V2 => v2::encode(&Message::StartWorkConn(start), &mut stream.queue),
        }
        stream.queue.extend(wrap.wrap(request));
        stream.stalled = is_stalled.then_some(0);
        stream.state = State::Piping { wrap: Box::new(wrap), received: Vec::new(), reply };
    }

    fn write(&mut self) {
        let now = self.now();
        for connection in self.connections.values_mut() {
            connection.pump(now);
        }
    }
}

impl Stream {
    fn new() -> Stream {
        Stream { state: State::Opening(Channel::default()), stalled: None, queue: Vec::new(), is_closing: false }
    }
}

impl Connection {
    fn pump(&mut self, now: Duration) {
        let mut is_over = false;
        match &mut self.mux {
            Some(mux) => {
                mux.transmit(&mut self.out);
                for (id, stream) in &mut self.streams {
                    while let Some((header, bytes)) = mux.data(*id, stream.queue.len()) {
                        self.out.extend_from_slice(&header);
                        self.out.extend(stream.queue.drain(..bytes));
                    }
                    if stream.is_closing {
                        mux.close(now, *id);
                    }
                }
                self.streams.retain(|_, stream| !stream.is_closing);
                mux.transmit(&mut self.out);
            }
            None => {
                for stream in self.streams.values_mut() {
                    self.out.append(&mut stream.queue);
                    is_over |= stream.is_closing;
                }
            }
        }
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(written) => _ = self.out.drain(..written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_dead = true;
                    break;
                }
            }
        }
        self.is_dead |= is_over && self.out.is_empty();
    }
}

fn source() -> Source {
    Source { address: Ipv4Addr::LOCALHOST.into(), certificate: None }
}
