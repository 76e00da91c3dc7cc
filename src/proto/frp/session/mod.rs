//! The control session of one client: from its accepted login to its end.
//!
//! ```text
//! login --granted--> admitted (registry) --> running --Lost, Close--> over
//!                                             | NewProxy   -> checked -> claimed -> Up    | conflict -> probe -> again
//!                                             | CloseProxy -> released -> Down
//!                                             | Open -> waits -> ReqWorkConn -> work connection -> Assign
//!                                             ' Ping -> Pong
//! ```
//!
//! One input, then all actions in order, then the next input. Names and ports are in the [`Registry`], which all
//! sessions of the node share.

mod pool;
mod proxies;

use super::identity::Identity;
use super::message::{Login, LoginResp, Message, NewVisitorConnResp, Pong, StartWorkConn};
use super::registry::{Admission, Registry, SessionId, Source};
use crate::proto::http2::meter::Budget;
use pool::{Pool, Waiter};
use proxies::Proxies;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Messages of a client in ten seconds. An honest one sends one a proxy, and heartbeats.
const MESSAGES_MAX: u32 = 500;

/// A client without the multiplexer says that it is there every 30 seconds.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(90);

/// Names a work connection; whoever drives the session says what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkId(pub u64);

/// Names somebody who wants a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// What differs between sessions and is no matter of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// With the multiplexer, whose own pings say whether the client is there.
    pub is_muxed: bool,
    /// Ports one client may hold.
    pub ports_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// From the control stream.
    Message(Message),
    /// A work connection that showed this session's run id.
    Work(WorkId),
    /// A work connection ended before it was assigned.
    WorkLost(WorkId),
    /// Somebody wants to talk to what is behind a port of this session: a client at `from` who connected to `to`.
    Open { waiter: WaiterId, port: u16, from: SocketAddr, to: SocketAddr },
    /// They do not any more.
    GiveUp(WaiterId),
    /// The holder a probe was for has answered, or is gone by now and has given everything back.
    Probed(SessionId),
    /// The deadline.
    Tick,
    /// The connection is gone, or another session of the same client replaces this one.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Over the control stream.
    Send(Message),
    /// This port can be opened from now on.
    Up {
        proxy_name: String,
        remote_port: u16,
    },
    Down {
        proxy_name: String,
        remote_port: u16,
    },
    /// Send `start` on the work connection; then it is the waiter's, its bytes wrapped like this.
    Assign {
        waiter: WaiterId,
        work: WorkId,
        start: StartWorkConn,
        wrapping: Wrapping,
    },
    Fail {
        waiter: WaiterId,
        failure: Failure,
    },
    /// Close a work connection nobody needs.
    Discard(WorkId),
    /// Find out within a second whether this other session's client is there. If it is not, abort that session
    /// (`Input::Lost` to it). Then `Input::Probed` to this one.
    Probe(SessionId),
    /// The last action: end the connection.
    Close(CloseReason),
}

/// What the bytes of a work connection are in, from the outside in: encryption, compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wrapping {
    pub is_encrypted: bool,
    pub is_compressed: bool,
}

/// Why somebody gets no tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is behind this port.
    NoProxy,
    /// The client did not open a work connection in time.
    Timeout,
    /// Too many wait already.
    Busy,
    /// The session, or the proxy, ended meanwhile.
    Lost,
}

/// Why a session ends by our will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// No heartbeat (without the multiplexer).
    Silent,
    /// More messages than an honest client sends.
    Flood,
    /// A message that has no place on a control stream.
    Unexpected,
}

#[derive(Debug)]
pub struct Session {
    admission: Admission,
    source: Source,
    terms: Terms,
    proxies: Proxies,
    pool: Pool,
    messages: Budget,
    heard_at: Duration,
    is_over: bool,
}

impl Session {
    /// A login that was granted and admitted. Its answer goes out first; then these actions.
    pub fn start(
        now: Duration,
        login: &Login,
        (identity, source, admission): (Identity, Source, Admission),
        terms: Terms,
        actions: &mut Vec<Action>,
    ) -> Session {
        let mut session = Session {
            admission,
            source,
            terms,
            proxies: Proxies::new(identity, terms.ports_max),
            pool: Pool::new(now, login.pool_count),
            messages: Budget::default(),
            heard_at: now,
            is_over: false,
        };
        session.dispatch(now, actions);
        session
    }

    /// The answer to the login.
    pub fn answer(&self) -> LoginResp {
        let run_id = super::message::Hidden(self.admission.run_id.clone());
        LoginResp { version: super::VERSION.to_owned(), run_id, error: String::new() }
    }

    pub fn id(&self) -> SessionId {
        self.admission.session
    }

    pub fn identity(&self) -> &Identity {
        self.proxies.identity()
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether a work connection that shows this run id is this session's.
    pub fn is_mine(&self, run_id: &str) -> bool {
        let ours = self.admission.run_id.as_bytes();
        aws_lc_rs::constant_time::verify_slices_are_equal(ours, run_id.as_bytes()).is_ok()
    }

    /// Work connections that wait for somebody.
    pub fn idle(&self) -> usize {
        self.pool.idle()
    }

    /// Names and ports it serves.
    pub fn proxies(&self) -> impl Iterator<Item = (&str, u16)> {
        self.proxies.live()
    }

    pub fn handle(&mut self, now: Duration, input: Input, registry: &mut Registry, actions: &mut Vec<Action>) {
        if self.is_over {
            return refuse(input, actions);
        }
        match input {
            Input::Message(message) => self.message(now, message, registry, actions),
            Input::Work(work) => {
                if !self.pool.arrive(work) {
                    actions.push(Action::Discard(work));
                }
            }
            Input::WorkLost(work) => self.pool.lose(work),
            Input::Open { waiter, port, from, to } => self.open(now, waiter, port, (from, to), actions),
            Input::GiveUp(waiter) => self.pool.give_up(waiter),
            Input::Probed(holder) => self.proxies.probed(now, holder, &self.admission, &self.source, registry, actions),
            Input::Tick if self.is_silent(now) => self.close(now, CloseReason::Silent, registry, actions),
            Input::Tick => {}
            Input::Lost => self.end(now, registry, actions),
        }
        if !self.is_over {
            while let Some(waiter) = self.pool.expire(now) {
                actions.push(Action::Fail { waiter, failure: Failure::Timeout });
            }
            self.dispatch(now, actions);
        }
    }

    /// When `Input::Tick` has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let heartbeat = (!self.terms.is_muxed).then_some(self.heard_at + HEARTBEAT_TIMEOUT);
        [heartbeat, self.pool.deadline()].into_iter().flatten().min().filter(|_| !self.is_over)
    }

    fn message(&mut self, now: Duration, message: Message, registry: &mut Registry, actions: &mut Vec<Action>) {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        if !self.messages.spend(now_ns, MESSAGES_MAX) {
            return self.close(now, CloseReason::Flood, registry, actions);
        }
        match message {
            Message::NewProxy(proxy) => {
                self.proxies.register(now, *proxy, &self.admission, &self.source, registry, actions);
            }
            Message::CloseProxy(close) => {
                if let Some(port) =
                    self.proxies.close(now, &close.proxy_name, (&self.admission, &self.source), registry)
                {
                    fail(self.pool.dismiss(Some(port)), actions);
                    actions.push(Action::Down { proxy_name: close.proxy_name, remote_port: port });
                }
            }
            Message::Ping(_) => {
                self.heard_at = now;
                actions.push(Action::Send(Message::Pong(Pong::default())));
            }
            Message::NewVisitorConn(visitor) => {
                let error = "visitors are not served".to_owned();
                let refusal = NewVisitorConnResp { proxy_name: visitor.proxy_name, error };
                actions.push(Action::Send(Message::NewVisitorConnResp(refusal)));
            }
            // About types of proxies that are not served: no answer is due.
            Message::Other(_) => {}
            Message::Login(_)
            | Message::LoginResp(_)
            | Message::NewProxyResp(_)
            | Message::NewWorkConn(_)
            | Message::ReqWorkConn
            | Message::StartWorkConn(_)
            | Message::Pong(_)
            | Message::NewVisitorConnResp(_) => self.close(now, CloseReason::Unexpected, registry, actions),
        }
    }

    fn open(
        &mut self,
        now: Duration,
        id: WaiterId,
        port: u16,
        (from, to): (SocketAddr, SocketAddr),
        actions: &mut Vec<Action>,
    ) {
        let Some(live_at) = self.proxies.live_at(port) else {
            actions.push(Action::Fail { waiter: id, failure: Failure::NoProxy });
            return;
        };
        if !self.pool.wait(now, Waiter { id, port, from, to, ready_at: live_at.max(now) }) {
            actions.push(Action::Fail { waiter: id, failure: Failure::Busy });
        }
    }

    /// Brings waiters and work connections together, and asks for more of these.
    fn dispatch(&mut self, now: Duration, actions: &mut Vec<Action>) {
        while let Some((waiter, work)) = self.pool.pair(now) {
            let Some((proxy_name, wrapping)) = self.proxies.serving(waiter.port) else {
                actions.push(Action::Fail { waiter: waiter.id, failure: Failure::Lost });
                continue;
            };
            let start = StartWorkConn {
                proxy_name: proxy_name.to_owned(),
                src_addr: waiter.from.ip().to_string(),
                dst_addr: waiter.to.ip().to_string(),
                src_port: waiter.from.port(),
                dst_port: waiter.to.port(),
                error: String::new(),
            };
            actions.push(Action::Assign { waiter: waiter.id, work, start, wrapping });
        }
        let asked = self.pool.ask(now);
        actions.extend(std::iter::repeat_n(Action::Send(Message::ReqWorkConn), asked));
    }

    fn is_silent(&self, now: Duration) -> bool {
        !self.terms.is_muxed && now >= self.heard_at + HEARTBEAT_TIMEOUT
    }

    fn close(&mut self, now: Duration, reason: CloseReason, registry: &mut Registry, actions: &mut Vec<Action>) {
        self.end(now, registry, actions);
        actions.push(Action::Close(reason));
    }

    /// Gives everything back, names first: from here on nobody is sent here any more.
    fn end(&mut self, now: Duration, registry: &mut Registry, actions: &mut Vec<Action>) {
        self.is_over = true;
        self.proxies.end(now, &self.admission, &self.source, registry, actions);
        registry.leave(self.admission.session);
        fail(self.pool.dismiss(None), actions);
        actions.extend(self.pool.empty().map(Action::Discard));
    }
}

fn fail(waiters: Vec<WaiterId>, actions: &mut Vec<Action>) {
    actions.extend(waiters.into_iter().map(|waiter| Action::Fail { waiter, failure: Failure::Lost }));
}

/// What comes for a session that is over.
fn refuse(input: Input, actions: &mut Vec<Action>) {
    match input {
        Input::Work(work) => actions.push(Action::Discard(work)),
        Input::Open { waiter, .. } => actions.push(Action::Fail { waiter, failure: Failure::Lost }),
        Input::Message(_) | Input::WorkLost(_) | Input::GiveUp(_) | Input::Probed(_) | Input::Tick | Input::Lost => {}
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::NoProxy => "no tunnel on this port",
            Failure::Timeout => "the tunnel's client opened no work connection in time",
            Failure::Busy => "too many wait for this tunnel already",
            Failure::Lost => "the tunnel ended",
        })
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::Silent => "no heartbeat for 90 seconds",
            CloseReason::Flood => "more messages than a client has reason to send",
            CloseReason::Unexpected => "a message that has no place on a control stream",
        })
    }
}

#[cfg(test)]
mod tests;
