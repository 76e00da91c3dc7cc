//! The tunnels of the worker: who holds which name and port, and how to get through to him from any core.

use super::inbox::{Inbox, Letter};
use super::pipe::{End, Pipe, Tunnel};
use crate::net::clock::{Now, now};
use crate::proto::frp::channel::Token;
use crate::proto::frp::identity::{APP_PORTS, ENGINE_PORTS};
use crate::proto::frp::registry::{Registry, SessionId};
use crate::proto::frp::session::Failure;
use crate::serve::waiting::Waiting;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One per worker process. Locks are held for a lookup or one step of a session, and never both.
pub struct Tunnels {
    registry: Mutex<Registry>,
    posts: Mutex<HashMap<SessionId, Post>>,
    pipes: AtomicU64,
    token: Token,
    /// Clients can come.
    is_served: AtomicBool,
    /// For one to come.
    waiting: Waiting,
    /// By their ports.
    up: Mutex<BTreeMap<u16, Up>>,
}

/// Where a session's letters go.
struct Post {
    inbox: Arc<Inbox>,
    client: IpAddr,
}

struct Up {
    name: String,
    client: SocketAddr,
    since: Now,
    session: SessionId,
}

/// A tunnel that is up, for those who look after it.
pub struct Listed {
    pub name: String,
    pub port: u16,
    pub client: SocketAddr,
    pub age: Duration,
}

/// What is wanted of a tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub port: u16,
    /// The client it is for, and where that one connected to: the app's side may be told.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// The app's first byte is expected so long after the last one it was sent.
    pub first_byte: Duration,
}

impl Default for Tunnels {
    fn default() -> Tunnels {
        Tunnels {
            registry: Mutex::default(),
            posts: Mutex::default(),
            pipes: AtomicU64::new(1),
            // HaRP's clients have none: what they know travels in the login's metas.
            token: Token::new(b""),
            is_served: AtomicBool::new(false),
            waiting: Waiting::default(),
            up: Mutex::default(),
        }
    }
}

impl Tunnels {
    /// A way to what is behind a port, from any core. At most ten seconds: the session has a deadline for it.
    pub async fn open(&self, call: Call) -> Result<Tunnel, Failure> {
        let Call { port, from, to, first_byte } = call;
        let holder = self.registry().holder(port).ok_or(Failure::NoProxy)?;
        let inbox = self.posts().get(&holder).map(|post| post.inbox.clone()).ok_or(Failure::Lost)?;
        let id = self.pipes.fetch_add(1, Ordering::Relaxed);
        let pipe = Arc::new(Pipe::new(id, first_byte, inbox.clone()));
        let tunnel = Tunnel::new(pipe.clone());
        inbox.post(Letter::Open { pipe, port, from, to }).map_err(|_| Failure::Lost)?;
        tunnel.wait_open().await?;
        Ok(tunnel)
    }

    /// Whether somebody serves this port.
    pub fn is_up(&self, port: u16) -> bool {
        self.registry().holder(port).is_some()
    }

    /// Waits until somebody does.
    pub async fn wait_up(&self, port: u16) {
        self.waiting.until(|| self.is_up(port).then_some(())).await;
    }

    /// A tunnel came up.
    pub(super) fn came_up(&self, session: SessionId, name: &str, port: u16, client: SocketAddr) {
        self.lock_up().insert(port, Up { name: name.to_owned(), client, since: now(), session });
        self.waiting.tell();
    }

    /// A tunnel went down. Somebody else may have the port already.
    pub(super) fn went_down(&self, session: SessionId, port: u16) {
        let mut up = self.lock_up();
        if up.get(&port).is_some_and(|up| up.session == session) {
            up.remove(&port);
        }
    }

    pub fn list(&self) -> Vec<Listed> {
        let listed = |(port, up): (&u16, &Up)| Listed {
            name: up.name.clone(),
            port: *port,
            client: up.client,
            age: now().since(up.since),
        };
        self.lock_up().iter().map(listed).collect()
    }

    fn lock_up(&self) -> MutexGuard<'_, BTreeMap<u16, Up>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a tunnel that is not there may come.
    pub fn may_come(&self, port: u16) -> bool {
        let is_for_tunnels = APP_PORTS.contains(&port) || ENGINE_PORTS.contains(&port);
        is_for_tunnels && self.is_served.load(Ordering::Relaxed)
    }

    pub fn set_served(&self, is_served: bool) {
        self.is_served.store(is_served, Ordering::Relaxed);
    }

    pub fn sessions(&self) -> usize {
        self.registry().sessions()
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, session: SessionId, inbox: Arc<Inbox>, client: IpAddr) {
        self.posts().insert(session, Post { inbox, client });
    }

    pub(super) fn leave(&self, session: SessionId) {
        self.posts().remove(&session);
    }

    /// A client that is logged in already is at this address: others behind it may have the wrong key, but it does not
    /// lose its way back for them.
    pub(super) fn has_client_at(&self, address: IpAddr) -> bool {
        self.posts().values().any(|post| post.client == address)
    }

    /// `false`: there is no such session, not any more.
    pub(super) fn post(&self, to: SessionId, letter: Letter) -> bool {
        let inbox = self.posts().get(&to).map(|post| post.inbox.clone());
        inbox.is_some_and(|inbox| inbox.post(letter).is_ok())
    }

    /// What comes for a session that is over.
    pub(super) fn return_letter(&self, from: Option<SessionId>, letter: Letter) {
        match letter {
            Letter::Open { pipe, .. } => pipe.end(End::Failed(Failure::Lost)),
            Letter::Probe { asker } => {
                if let Some(holder) = from {
                    self.post(asker, Letter::Probed { holder });
                }
            }
            Letter::Touched(_) | Letter::Probed { .. } | Letter::Abort => {}
        }
    }

    fn posts(&self) -> MutexGuard<'_, HashMap<SessionId, Post>> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
