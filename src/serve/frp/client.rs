//! One client: what its bytes and other cores' letters mean to its session, and what the session wants done about it.

use super::Gate;
use super::inbox::{Inbox, Letter};
use super::line::{Line, Piping, State};
use super::pipe::{End, Pipe};
use super::wrap::Wrap;
use crate::policy::ban::Network;
use crate::policy::exapp::failures::Kind;
use crate::policy::exapp::gateway;
use crate::proto::frp::channel::{Channel, ChannelError, Entropy, Version};
use crate::proto::frp::identity::{Decision, Identity, Refusal};
use crate::proto::frp::message::{Login, LoginResp, Message, StartWorkConn, v1, v2};
use crate::proto::frp::registry::{SessionId, Source};
use crate::proto::frp::session::{Action, Failure, Input, Session, Terms, WaiterId, WorkId, Wrapping};
use crate::proto::frp::yamux::{Event, Limits, Mux};
use crate::serve::core::Core;
use crate::serve::exapps;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// A stream begins with a message, and a connection with a login, within this time.
pub(super) const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// A client that another one is in conflict with has this long to say that it is there.
const PROBE: Duration = Duration::from_secs(1);

/// Streams of a connection that has not logged in.
const EARLY_STREAMS_MAX: usize = 8;

/// Sent at once; pings come between.
const BATCH_BYTES: usize = 128 << 10;

/// Ports one client may hold. As many as HaRP's clients have.
const PORTS_MAX: usize = 1;

pub(super) struct Client {
    core: Rc<Core>,
    gate: Arc<Gate>,
    peer: SocketAddr,
    mux: Mux,
    lines: HashMap<u32, Line>,
    /// Where the last batch ended: the next one begins behind it.
    turn: u32,
    inbox: Arc<Inbox>,
    login: LoginState,
    session: Option<Session>,
    control: u32,
    inputs: VecDeque<Input>,
    works: HashMap<WorkId, u32>,
    last_work: u64,
    waiting: HashMap<WaiterId, Arc<Pipe>>,
    /// Streams by their pipes.
    piping: HashMap<u64, u32>,
    /// Who wants to know whether this client is there.
    askers: Vec<SessionId>,
    is_over: bool,
    is_replaced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LoginState {
    Due(Duration),
    /// It has an answer, and the time to read it.
    Refused(Duration),
    Done,
}

impl Client {
    pub(super) fn new(now: Duration, core: Rc<Core>, gate: Arc<Gate>, peer: SocketAddr) -> Client {
        let limits = Limits { streams_max: EARLY_STREAMS_MAX, ..Limits::default() };
        Client {
            core,
            gate,
            peer,
            mux: Mux::new(now, limits),
            lines: HashMap::new(),
            turn: 0,
            inbox: Arc::default(),
            login: LoginState::Due(now + FIRST_MESSAGE),
            session: None,
            control: 0,
            inputs: VecDeque::new(),
            works: HashMap::new(),
            last_work: 0,
            waiting: HashMap::new(),
            piping: HashMap::new(),
            askers: Vec::new(),
            is_over: false,
            is_replaced: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    /// Nothing goes through it just now.
    pub(super) fn is_unused(&self) -> bool {
        self.piping.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn letters(&self, cx: &mut Context<'_>) -> Vec<Letter> {
        self.inbox.poll_take(cx)
    }

    pub(super) fn receive(&mut self, now: Duration, bytes: &[u8]) {
        let mut events = Vec::new();
        if let Err(end) = self.mux.receive(now, bytes, &mut events) {
            tracing::debug!(client = %self.peer, ?end, "a tunnel client's connection is over");
            self.is_over = true;
        }
        for event in events {
            match event {
                Event::Opened { stream } => drop(self.lines.insert(stream, Line::new(now + FIRST_MESSAGE))),
                Event::Data { stream, at } => self.data(now, stream, bytes, at),
                Event::Finished { stream } | Event::Reset { stream } => self.finished(stream, event),
                Event::Alive { .. } => self.answer_askers(),
                // Everything is looked at before the next wait.
                Event::Writable { .. } => {}
            }
        }
        self.settle(now);
    }

    pub(super) fn deliver(&mut self, now: Duration, letter: Letter) {
        match letter {
            Letter::Open { pipe, port, from, to } => {
                let waiter = WaiterId(pipe.id);
                self.waiting.insert(waiter, pipe);
                self.inputs.push_back(Input::Open { waiter, port, from, to });
            }
            Letter::Touched(pipe) => self.touched(pipe),
            Letter::Probe { asker } => {
                self.mux.probe(now, PROBE);
                self.askers.push(asker);
            }
            Letter::Probed { holder } => self.inputs.push_back(Input::Probed(holder)),
            Letter::Abort => {
                self.is_replaced = true;
                self.is_over = true;
            }
        }
        self.settle(now);
    }

    pub(super) fn tick(&mut self, now: Duration) {
        if now >= self.mux.deadline() && self.mux.tick(now).is_err() {
            self.is_over = true;
        }
        if self.session.as_ref().and_then(Session::deadline).is_some_and(|deadline| now >= deadline) {
            self.inputs.push_back(Input::Tick);
        }
        if let LoginState::Due(until) | LoginState::Refused(until) = self.login
            && now >= until
        {
            self.is_over = true;
        }
        let late = self.lines.values_mut().filter(|line| line.deadline().is_some_and(|deadline| now >= deadline));
        for line in late {
            if let State::Piping(Piping { pipe, .. }) = line.cut() {
                pipe.end(End::Silent);
                self.piping.remove(&pipe.id);
            }
        }
        self.settle(now);
    }

    /// When [`Client::tick`] has something to do.
    pub(super) fn deadline(&self) -> Duration {
        let login = match self.login {
            LoginState::Due(until) | LoginState::Refused(until) => Some(until),
            LoginState::Done => None,
        };
        let lines = self.lines.values().filter_map(Line::deadline);
        let session = self.session.as_ref().and_then(Session::deadline);
        lines.chain(session).chain(login).fold(self.mux.deadline(), Duration::min)
    }

    /// Appends what is to be sent now: what keeps the connection alive, the session's own words, then a fair share of
    /// everything else.
    pub(super) fn pump(&mut self, now: Duration, out: &mut Vec<u8>) {
        self.mux.transmit(out);
        self.send_line(now, self.control, out);
        let mut order: Vec<u32> = self.lines.keys().copied().collect();
        order.sort_unstable_by_key(|stream| (*stream <= self.turn, *stream));
        while out.len() < BATCH_BYTES {
            let before = out.len();
            for stream in &order {
                self.send_line(now, *stream, out);
                self.turn = *stream;
                if out.len() >= BATCH_BYTES {
                    break;
                }
            }
            if out.len() == before {
                break;
            }
        }
        let closing = self.lines.extract_if(|_, line| line.is_closing && line.queue.is_empty());
        closing.for_each(|(stream, _)| self.mux.close(now, stream));
        self.mux.transmit(out);
    }

    /// One frame.
    fn send_line(&mut self, now: Duration, stream: u32, out: &mut Vec<u8>) {
        let Some(line) = self.lines.get_mut(&stream) else { return };
        line.refill(now);
        let Some((header, count)) = self.mux.data(stream, line.queue.len()) else { return };
        out.extend_from_slice(&header);
        out.extend(line.queue.drain(..count.min(line.queue.len())));
    }

    fn data(&mut self, now: Duration, stream: u32, bytes: &[u8], at: Range<usize>) {
        let (Some(line), Some(bytes)) = (self.lines.get_mut(&stream), bytes.get(at)) else { return };
        match &mut line.state {
            State::Opening { channel, .. } => {
                let first = channel.push(bytes).and_then(|()| channel.next());
                self.mux.take(stream, bytes.len());
                match first {
                    Ok(None) => {}
                    Ok(Some(message)) => self.opened(now, stream, message),
                    Err(error) => {
                        tracing::debug!(client = %self.peer, %error, "a tunnel client's stream begins with nonsense");
                        drop(line.cut());
                    }
                }
            }
            State::Control(channel) => {
                let outcome = read_all(channel, bytes, &mut self.inputs);
                self.mux.take(stream, bytes.len());
                if let Err(error) = outcome {
                    tracing::info!(client = %self.peer, %error, "a tunnel client's session cannot be read on");
                    self.is_over = true;
                }
            }
            State::Piping(piping) => {
                piping.first_by = None;
                match piping.wrap.unwrap(bytes) {
                    // Half a chunk, or an IV: empty would read as the end.
                    Ok(clear) if clear.is_empty() => self.mux.take(stream, bytes.len()),
                    Ok(clear) => piping.pipe.push(clear, bytes.len()),
                    Err(error) => {
                        tracing::debug!(client = %self.peer, %error, "a tunnel is unreadable");
                        piping.pipe.end(End::Lost);
                        self.piping.remove(&piping.pipe.id);
                        drop(line.cut());
                    }
                }
            }
            // Nobody was told to send here: its window is all it gets.
            State::Idle { .. } => {}
            State::Done => self.mux.take(stream, bytes.len()),
        }
    }

    /// The first message of a stream.
    fn opened(&mut self, now: Duration, stream: u32, message: Message) {
        self.mux.settle(stream);
        let Some(line) = self.lines.get_mut(&stream) else { return };
        let State::Opening { channel, .. } = std::mem::replace(&mut line.state, State::Done) else { return };
        match message {
            Message::Login(login) if matches!(self.login, LoginState::Due(_)) => {
                self.log_in(now, stream, channel, &login);
            }
            Message::NewWorkConn(work) => {
                let is_mine = self.session.as_ref().is_some_and(|session| session.is_mine(&work.run_id.0));
                match channel.version().filter(|_| is_mine) {
                    Some(version) => {
                        self.last_work += 1;
                        let work = WorkId(self.last_work);
                        line.state = State::Idle { work, version };
                        self.works.insert(work, stream);
                        self.inputs.push_back(Input::Work(work));
                    }
                    None => drop(line.cut()),
                }
            }
            _ => drop(line.cut()),
        }
    }

    fn log_in(&mut self, now: Duration, stream: u32, mut channel: Box<Channel>, login: &Login) {
        let Some((entropy, fresh)) = entropy() else {
            self.is_over = true;
            return;
        };
        let source = Source { address: self.peer.ip().to_canonical(), certificate: None };
        let tunnels = &self.core.shared.tunnels;
        let granted = self.judge(login).and_then(|identity| {
            let admission = tunnels.registry().admit(&login.run_id.0, source.clone(), fresh).ok_or(Refusal::Full)?;
            Ok((identity, source.clone(), admission))
        });
        let mut out = Vec::new();
        let outcome = match granted {
            Ok(admitted) => {
                let replaced = admitted.2.replaces;
                let terms = Terms { is_muxed: true, ports_max: PORTS_MAX };
                let mut actions = Vec::new();
                let session = Session::start(now, login, admitted, terms, &mut actions);
                tunnels.enter(session.id(), self.inbox.clone(), source.address);
                if let Some(old) = replaced {
                    tunnels.post(old, Letter::Abort);
                }
                let outcome = channel.accept(session.answer(), tunnels.token(), &entropy, &mut out);
                tracing::info!(client = %self.peer, version = %shown(&login.version), "a tunnel's client logged in");
                self.session = Some(session);
                self.login = LoginState::Done;
                self.control = stream;
                self.mux.set_streams_max(Limits::default().streams_max);
                if let Some(line) = self.lines.get_mut(&stream) {
                    line.queue.append(&mut out);
                    line.state = State::Control(channel);
                }
                self.perform(now, actions);
                outcome
            }
            Err(refusal) => {
                self.login = LoginState::Refused(now + FIRST_MESSAGE);
                let answer = LoginResp { error: refusal.to_string(), ..LoginResp::default() };
                let outcome = channel.refuse(answer, &entropy, &mut out);
                if let Some(line) = self.lines.get_mut(&stream) {
                    line.queue.append(&mut out);
                    drop(line.finish());
                }
                outcome
            }
        };
        if let Err(error) = outcome {
            tracing::info!(client = %self.peer, %error, "a tunnel client's login cannot be answered");
            self.is_over = true;
        }
    }

    /// By its keys, unless its address has tried too many: the gateway's bans hold here, and the other way round.
    fn judge(&self, login: &Login) -> Result<Identity, Refusal> {
        let address = self.peer.ip().to_canonical();
        let view = self.core.view();
        let settings = &view.snapshot.settings;
        let is_exempt = settings.abuse.is_exempt(address);
        let client = gateway::Client { network: Network::of(address), is_exempt, credentials: None };
        let shared = &self.core.shared;
        let now = exapps::memory::time();
        let is_banned = !is_exempt && shared.exapps.lock().gateway.failures.banned(client.network, now).is_some();
        // By an operator, or for failed logins at Nextcloud.
        if is_banned || shared.abuse.check(settings, address, b"").is_some() {
            return Err(Refusal::Key);
        }
        match self.gate.keys.judge(login, shared.tunnels.token().bytes()) {
            Decision::Granted(identity) => Ok(identity),
            Decision::Refused(refusal) => {
                self.core.warn_seldom(|others| {
                    tracing::warn!(client = %self.peer, reason = %refusal, others, "a tunnel client's login is refused");
                });
                let counts = !shared.tunnels.has_client_at(address);
                if counts && shared.exapps.lock().gateway.fail(&client, Kind::Token, now) {
                    tracing::warn!(client = %client.network.address(), "banned from ExApps");
                }
                Err(refusal)
            }
        }
    }

    /// The client is done with a stream.
    fn finished(&mut self, stream: u32, how: Event) {
        let Some(line) = self.lines.get_mut(&stream) else { return };
        match line.cut() {
            // Closing it is all a client does before it drops the connection.
            State::Control(_) => self.is_over = true,
            State::Idle { work, .. } => {
                self.works.remove(&work);
                self.inputs.push_back(Input::WorkLost(work));
            }
            State::Piping(Piping { pipe, .. }) => {
                self.piping.remove(&pipe.id);
                pipe.end(if matches!(how, Event::Finished { .. }) { End::Finished } else { End::Lost });
            }
            State::Opening { .. } | State::Done => {}
        }
    }

    /// Something happened at the user's end of a pipe.
    fn touched(&mut self, id: u64) {
        if let Some(stream) = self.piping.get(&id).copied() {
            let Some(line) = self.lines.get_mut(&stream) else { return };
            let State::Piping(Piping { pipe, .. }) = &line.state else { return };
            let look = pipe.look();
            self.mux.take(stream, look.credit);
            if look.is_left {
                self.piping.remove(&id);
                drop(line.cut());
            }
        } else if self.waiting.get(&WaiterId(id)).is_some_and(|pipe| pipe.look().is_left) {
            self.waiting.remove(&WaiterId(id));
            self.inputs.push_back(Input::GiveUp(WaiterId(id)));
        }
    }

    /// Feeds the session until there is nothing to feed.
    fn settle(&mut self, now: Duration) {
        while let Some(input) = self.inputs.pop_front() {
            let mut actions = Vec::new();
            match &mut self.session {
                Some(session) => {
                    session.handle(now, input, &mut self.core.shared.tunnels.registry(), &mut actions);
                }
                None => return,
            }
            self.perform(now, actions);
        }
    }

    fn perform(&mut self, now: Duration, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(message) => self.say(&message),
                Action::Up { proxy_name, remote_port } => {
                    let name = shown(&proxy_name);
                    tracing::info!(client = %self.peer, %name, port = remote_port, "tunnel up");
                    if let Some(session) = self.session.as_ref().map(Session::id) {
                        self.core.shared.tunnels.came_up(session, &name, remote_port, self.peer);
                    }
                }
                Action::Down { proxy_name, remote_port } => {
                    let name = shown(&proxy_name);
                    tracing::info!(client = %self.peer, %name, port = remote_port, "tunnel down");
                    if let Some(session) = self.session.as_ref().map(Session::id) {
                        self.core.shared.tunnels.went_down(session, remote_port);
                    }
                }
                Action::Assign { waiter, work, start, wrapping } => self.assign(now, waiter, work, start, wrapping),
                Action::Fail { waiter, failure } => {
                    if let Some(pipe) = self.waiting.remove(&waiter) {
                        pipe.end(End::Failed(failure));
                    }
                }
                Action::Discard(work) => {
                    if let Some(line) = self.works.remove(&work).and_then(|stream| self.lines.get_mut(&stream)) {
                        drop(line.cut());
                    }
                }
                Action::Probe(holder) => {
                    let asker = self.session.as_ref().map(Session::id);
                    let is_asked =
                        asker.is_some_and(|asker| self.core.shared.tunnels.post(holder, Letter::Probe { asker }));
                    if !is_asked {
                        self.inputs.push_back(Input::Probed(holder));
                    }
                }
                Action::Close(reason) => {
                    tracing::warn!(client = %self.peer, %reason, "a tunnel client's session is closed");
                    self.is_over = true;
                }
            }
        }
    }

    /// On the control stream.
    fn say(&mut self, message: &Message) {
        let Some(line) = self.lines.get_mut(&self.control) else { return };
        if let State::Control(channel) = &mut line.state
            && channel.write(message, &mut line.queue).is_err()
        {
            self.is_over = true;
        }
    }

    /// A work connection is a user's from here on.
    fn assign(&mut self, now: Duration, waiter: WaiterId, work: WorkId, start: StartWorkConn, wrapping: Wrapping) {
        let stream = self.works.remove(&work);
        let line = stream.and_then(|stream| Some((stream, self.lines.get_mut(&stream)?)));
        let (pipe, line) = match (self.waiting.remove(&waiter), line) {
            (Some(pipe), Some(line)) => (pipe, line),
            // Its user is gone.
            (None, Some((_, line))) => return drop(line.cut()),
            (Some(pipe), None) => return pipe.end(End::Failed(Failure::Lost)),
            (None, None) => return,
        };
        let (stream, line) = line;
        let (State::Idle { version, .. }, Ok(wrap)) =
            (&line.state, Wrap::new(wrapping, self.core.shared.tunnels.token()))
        else {
            pipe.end(End::Failed(Failure::Lost));
            return drop(line.cut());
        };
        let start = Message::StartWorkConn(start);
        match version {
            Version::V1 => v1::encode(&start, &mut line.queue),
            Version::V2 => v2::encode(&start, &mut line.queue),
        }
        let first_by = Some(now + pipe.first_byte);
        self.piping.insert(pipe.id, stream);
        pipe.open();
        line.state = State::Piping(Piping { pipe, wrap: Box::new(wrap), first_by });
    }

    fn answer_askers(&mut self) {
        let Some(holder) = self.session.as_ref().map(Session::id) else { return };
        for asker in self.askers.drain(..) {
            self.core.shared.tunnels.post(asker, Letter::Probed { holder });
        }
    }
}

/// However the connection ended: names and ports first, then everybody who counts on it.
impl Drop for Client {
    fn drop(&mut self) {
        let tunnels = &self.core.shared.tunnels;
        let id = self.session.as_ref().map(Session::id);
        let now = Duration::from_nanos(crate::net::clock::now().0);
        if let Some(mut session) = self.session.take() {
            let mut actions = Vec::new();
            session.handle(now, Input::Lost, &mut tunnels.registry(), &mut actions);
            tunnels.leave(session.id());
            for action in actions {
                if let Action::Down { proxy_name, remote_port } = action {
                    let name = shown(&proxy_name);
                    tracing::info!(client = %self.peer, %name, port = remote_port, "tunnel down");
                    tunnels.went_down(session.id(), remote_port);
                }
            }
        }
        for pipe in self.waiting.values() {
            pipe.end(End::Failed(Failure::Lost));
        }
        for line in self.lines.values() {
            if let State::Piping(piping) = &line.state {
                piping.pipe.end(End::Lost);
            }
        }
        let letters = self.inbox.close();
        let askers = self.askers.drain(..).map(|asker| Letter::Probe { asker });
        letters.into_iter().chain(askers).for_each(|letter| tunnels.return_letter(id, letter));
    }
}

/// All complete messages.
fn read_all(channel: &mut Channel, bytes: &[u8], inputs: &mut VecDeque<Input>) -> Result<(), ChannelError> {
    channel.push(bytes)?;
    while let Some(message) = channel.next()? {
        inputs.push_back(Input::Message(message));
    }
    Ok(())
}

fn entropy() -> Option<(Entropy, [u8; 16])> {
    let mut entropy = Entropy { nonce: [0; 24], random: [0; 32] };
    let mut fresh = [0; 16];
    for bytes in [&mut entropy.nonce[..], &mut entropy.random[..], &mut fresh[..]] {
        aws_lc_rs::rand::fill(bytes).ok()?;
    }
    Some((entropy, fresh))
}

/// A client's word, for the log.
fn shown(word: &str) -> String {
    word.chars().take(64).flat_map(char::escape_default).collect()
}
