//! The link's two threads. The sender keeps one connection to the peer and pushes our connections over it ten times a
//! second; the listener accepts the peer's and writes what it hears into the shared table.
//!
//! They run in the unprivileged worker and end when [`Link`] is dropped. A broken connection is tried again after a
//! second; what the peer had open when it fell silent stays in the table, because that is when it is needed.

use crate::pair::bulletin::Bulletin;
use crate::pair::connections::{Journal, Open};
use crate::pair::identity::Identity;
use crate::pair::table::Writer;
use crate::pair::wire::{Ban, Choice, ENTRIES_MAX, FRAME_MAX, Frame, Handover, VERSION};
use rustls::StreamOwned;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How old the peer's picture of our connections may be.
const BEAT: Duration = Duration::from_millis(100);
const PING_EVERY: Duration = Duration::from_secs(1);
/// A peer that sent nothing this long is gone (it pings every second).
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The same when it already knocks with another connection: it lost power and is back.
const SILENCE_BEFORE_NEXT: Duration = Duration::from_secs(2);
/// What we sent is unacknowledged this long: the peer lost power. Without this limit our end would wait for TCP's
/// retransmissions, minutes apart, while the peer is back and knows none of our connections.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_millis(1500);
const RETRY: Duration = Duration::from_secs(1);
/// Entries kept after the peer fell silent, for the take-over that may still come.
const KEEP_AFTER_SILENCE: Duration = Duration::from_secs(600);

/// What the link tells its owner. Called from the link's threads; must not block.
pub trait Owner: Send + Sync {
    fn handover(&self, words: Handover);
    fn connected(&self, is_connected: bool, peer: &str);
    /// Whom the peer writes to; `None` when it is not heard any more.
    fn writers(&self, writers: Option<Vec<Choice>>);
    fn bans(&self, bans: Vec<Ban>);
    /// Whom this node keeps out, for a peer that knows nothing yet.
    fn banned(&self) -> Vec<Ban>;
}

pub struct Settings {
    pub node: String,
    /// Where we dial from and to.
    pub source: IpAddr,
    pub peer: SocketAddr,
    pub identity: Identity,
}

/// A running link.
pub struct Link {
    words: mpsc::Sender<Handover>,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    is_stopped: AtomicBool,
    /// Our connection to the peer stands.
    is_sending: AtomicBool,
}

impl Link {
    /// `listener` is bound to our node address; only the peer's address may connect.
    pub fn start(
        settings: Settings,
        listener: TcpListener,
        journal: Arc<Journal>,
        bulletin: Arc<Bulletin>,
        table: Writer,
        owner: Arc<dyn Owner>,
    ) -> io::Result<Link> {
        listener.set_nonblocking(true)?;
        let (words, inbox) = mpsc::channel();
        let state = Arc::new(State::default());
        let settings = Arc::new(settings);
        let table = Arc::new(Mutex::new(table));
        let sender = {
            let (settings, state, owner) = (settings.clone(), state.clone(), owner.clone());
            std::thread::Builder::new()
                .name("pair-send".into())
                .spawn(move || send(&settings, &state, &*owner, &journal, &bulletin, &inbox))?
        };
        let receiver = {
            let state = state.clone();
            std::thread::Builder::new()
                .name("pair-recv".into())
                .spawn(move || listen(&settings, &state, &owner, &listener, &table))?
        };
        Ok(Link { words, state, threads: vec![sender, receiver] })
    }

    /// Queues words of a hand-over for the peer; `false` if there is no connection to it now.
    pub fn say(&self, words: Handover) -> bool {
        self.is_connected() && self.words.send(words).is_ok()
    }

    /// Ends it soon, without waiting; the peer sees that at once.
    pub fn stop(&self) {
        self.state.is_stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_connected(&self) -> bool {
        self.state.is_sending.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
        let this = std::thread::current().id();
        // The owner may have been let go of by one of them.
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != this) {
            let _ = thread.join();
        }
    }
}

fn send(
    settings: &Settings,
    state: &State,
    owner: &dyn Owner,
    journal: &Journal,
    bulletin: &Bulletin,
    inbox: &mpsc::Receiver<Handover>,
) {
    let mut open = Open::default();
    while !state.is_stopped.load(Ordering::Relaxed) {
        open.absorb(journal);
        if let Ok(mut stream) = dial(settings) {
            state.is_sending.store(true, Ordering::Relaxed);
            owner.connected(true, &settings.peer.to_string());
            bulletin.forget_bans();
            let mut greeting = Vec::new();
            Frame::Hello { version: VERSION, node: settings.node.clone() }.encode(&mut greeting);
            Frame::Reset.encode(&mut greeting);
            Frame::Opened(open.snapshot()).encode(&mut greeting);
            Frame::Bans(owner.banned()).encode(&mut greeting);
            let ended = push(state, &mut stream, greeting, journal, &mut open, bulletin, inbox);
            state.is_sending.store(false, Ordering::Relaxed);
            owner.connected(false, &settings.peer.to_string());
            if let Err(error) = ended {
                tracing::debug!(peer = %settings.peer, %error, "pair link lost");
            }
        }
        while inbox.try_recv().is_ok() {} // words for a lost connection are stale
        let next = Instant::now() + RETRY;
        while Instant::now() < next && !state.is_stopped.load(Ordering::Relaxed) {
            std::thread::sleep(BEAT);
            open.absorb(journal);
        }
    }
}

type Tls = StreamOwned<rustls::ClientConnection, TcpStream>;

fn dial(settings: &Settings) -> io::Result<Tls> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(settings.peer), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(settings.source, 0).into())?;
    socket.connect_timeout(&settings.peer.into(), RETRY)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_write_timeout(Some(SILENCE_MAX))?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    let connection = rustls::ClientConnection::new(settings.identity.client.clone(), Identity::server_name())
        .map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, socket.into()))
}

/// Sends `bytes`, and then what is news on each beat.
fn push(
    state: &State,
    stream: &mut Tls,
    mut bytes: Vec<u8>,
    journal: &Journal,
    open: &mut Open,
    bulletin: &Bulletin,
    inbox: &mpsc::Receiver<Handover>,
) -> io::Result<()> {
    let mut told: Option<Vec<Choice>> = None;
    let mut last = Instant::now();
    while !state.is_stopped.load(Ordering::Relaxed) {
        if last.elapsed() >= PING_EVERY {
            Frame::Ping.encode(&mut bytes);
        }
        if !bytes.is_empty() {
            stream.write_all(&bytes)?;
            stream.flush()?;
            bytes.clear();
            last = Instant::now();
        }
        // Words of a hand-over go at once, the rest on the beat.
        if let Ok(words) = inbox.recv_timeout(BEAT) {
            Frame::Handover(words).encode(&mut bytes);
        }
        let delta = open.absorb(journal);
        Frame::Closed(delta.closed).encode(&mut bytes);
        Frame::Opened(delta.opened).encode(&mut bytes);
        Frame::Bans(bulletin.take_bans(ENTRIES_MAX)).encode(&mut bytes);
        let writers = bulletin.writers();
        if told.as_ref() != Some(&writers) {
            Frame::Writers(writers.clone()).encode(&mut bytes);
            told = Some(writers);
        }
    }
    Ok(())
}

fn listen(
    settings: &Settings,
    state: &Arc<State>,
    owner: &Arc<dyn Owner>,
    listener: &TcpListener,
    table: &Arc<Mutex<Writer>>,
) {
    let mut last_heard = Instant::now();
    while !state.is_stopped.load(Ordering::Relaxed) {
        match listener.accept() {
            // Only the peer, and one connection at a time: anything else is closed before a byte is read.
            Ok((stream, from)) if from.ip() == settings.peer.ip() => {
                let mut current = Some(stream);
                while let Some(stream) = current.take() {
                    match hear(settings, state, owner, stream, listener, table) {
                        Ok(next) => current = next,
                        Err(error) => tracing::debug!(peer = %from, %error, "pair link: the peer's connection ended"),
                    }
                    owner.writers(None);
                }
                last_heard = Instant::now();
            }
            Ok((_, from)) => tracing::debug!(peer = %from, "pair link: refused a stranger"),
            Err(_) => std::thread::sleep(BEAT),
        }
        if last_heard.elapsed() > KEEP_AFTER_SILENCE {
            last_heard = Instant::now();
            if let Ok(mut table) = table.lock() {
                table.clear();
            }
        }
    }
}

/// Reads the peer's frames until its connection ends; answers the connection that replaces a silent one.
fn hear(
    settings: &Settings,
    state: &State,
    owner: &Arc<dyn Owner>,
    stream: TcpStream,
    listener: &TcpListener,
    table: &Mutex<Writer>,
) -> Result<Option<TcpStream>, Box<dyn std::error::Error>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(BEAT))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let connection = rustls::ServerConnection::new(settings.identity.server.clone())?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut bytes = Vec::with_capacity(FRAME_MAX);
    let mut piece = [0; 16 * 1024];
    let mut is_greeted = false;
    let mut last = Instant::now();
    while !state.is_stopped.load(Ordering::Relaxed) {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => {
                bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
                last = Instant::now();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if last.elapsed() > SILENCE_MAX {
                    return Err("silent".into());
                }
                if last.elapsed() > SILENCE_BEFORE_NEXT
                    && let Ok((next, from)) = listener.accept()
                    && from.ip() == settings.peer.ip()
                {
                    return Ok(Some(next));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        let mut used = 0;
        while let Some((frame, length)) = Frame::decode(bytes.get(used..).unwrap_or_default())? {
            used += length;
            match frame {
                Frame::Hello { version, node } if version != VERSION => {
                    tracing::warn!(%node, version, ours = VERSION, "pair link: the peer speaks another version; update both nodes");
                    return Err("version".into());
                }
                Frame::Hello { .. } => is_greeted = true,
                _ if !is_greeted => return Err("no greeting".into()),
                Frame::Handover(words) => owner.handover(words),
                Frame::Writers(writers) => owner.writers(Some(writers)),
                Frame::Bans(bans) => owner.bans(bans),
                Frame::Ping => {}
                frame => apply(table, frame),
            }
        }
        bytes.drain(..used);
    }
    Ok(None)
}

fn apply(table: &Mutex<Writer>, frame: Frame) {
    let Ok(mut table) = table.lock() else { return };
    match frame {
        Frame::Reset => table.clear(),
        Frame::Opened(list) => list.into_iter().for_each(|connection| table.insert(connection)),
        Frame::Closed(list) => list.iter().for_each(|connection| table.remove(connection)),
        Frame::Hello { .. } | Frame::Ping | Frame::Handover(_) | Frame::Writers(_) | Frame::Bans(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::table::SharedTable;
    use crate::pair::wire::{Connection, Move, Term};

    #[derive(Default)]
    struct Heard {
        words: Mutex<Vec<Handover>>,
        writers: Mutex<Option<Vec<Choice>>>,
        bans: Mutex<Vec<Ban>>,
        /// Of this node.
        banned: Vec<Ban>,
    }

    impl Owner for Heard {
        fn handover(&self, words: Handover) {
            self.words.lock().unwrap().push(words);
        }

        fn connected(&self, _is_connected: bool, _peer: &str) {}

        fn writers(&self, writers: Option<Vec<Choice>>) {
            *self.writers.lock().unwrap() = writers;
        }

        fn bans(&self, bans: Vec<Ban>) {
            self.bans.lock().unwrap().extend(bans);
        }

        fn banned(&self) -> Vec<Ban> {
            self.banned.clone()
        }
    }

    struct Node {
        link: Link,
        journal: Arc<Journal>,
        bulletin: Arc<Bulletin>,
        table: SharedTable,
        heard: Arc<Heard>,
    }

    fn node(name: &str, ip: &str, listener: TcpListener, peer: SocketAddr, secret: &[u8]) -> Node {
        let (table, memfd) = SharedTable::create(c"test").unwrap();
        let (journal, bulletin) = (Arc::new(Journal::new(1)), Arc::new(Bulletin::default()));
        let heard = Arc::new(Heard { banned: vec![ban(name, Term::Open)], ..Heard::default() });
        let settings = Settings {
            node: name.into(),
            source: ip.parse().unwrap(),
            peer,
            identity: Identity::derive(secret).unwrap(),
        };
        let writer = Writer::new(SharedTable::open(memfd).unwrap());
        let link = Link::start(settings, listener, journal.clone(), bulletin.clone(), writer, heard.clone()).unwrap();
        Node { link, journal, bulletin, table, heard }
    }

    /// Of an address that tells who says so.
    fn ban(node: &str, term: Term) -> Ban {
        Ban { address: [198, 51, 100, node.as_bytes()[0]].into(), term, is_order: false }
    }

    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn listeners() -> (TcpListener, TcpListener) {
        (TcpListener::bind("127.0.0.2:0").unwrap(), TcpListener::bind("127.0.0.3:0").unwrap())
    }

    #[test]
    fn each_node_learns_the_others_connections_and_words() {
        let (la, lb) = listeners();
        let (aa, ab) = (la.local_addr().unwrap(), lb.local_addr().unwrap());
        let a = node("a", "127.0.0.2", la, ab, b"secret");
        let connection =
            Connection { client: "203.0.113.9:40001".parse().unwrap(), local: "10.0.0.10:443".parse().unwrap() };
        a.journal.opened(0, connection); // before there is a peer: part of the snapshot
        let b = node("b", "127.0.0.3", lb, aa, b"secret");
        eventually("the snapshot arrives", || b.table.connections().collect::<Vec<_>>() == [connection]);
        let later = Connection { client: "203.0.113.9:40002".parse().unwrap(), ..connection };
        a.journal.opened(0, later);
        a.journal.closed(0, connection);
        eventually("a change arrives", || b.table.connections().collect::<Vec<_>>() == [later]);

        let words =
            Handover::Prepare { id: 1, moves: vec![Move { address: "10.0.0.10".parse().unwrap(), mac: [1; 6] }] };
        eventually("the link back stands", || a.link.is_connected());
        assert!(a.link.say(words.clone()));
        eventually("words arrive", || *b.heard.words.lock().unwrap() == [words.clone()]);

        drop(a);
        eventually("the loss is seen", || !b.link.is_connected());
        assert_eq!(b.table.connections().collect::<Vec<_>>(), [later], "what a lost peer had open stays known");
    }

    #[test]
    fn writers_and_bans_are_told_to_a_new_peer_and_when_they_change() {
        let (la, lb) = listeners();
        let (aa, ab) = (la.local_addr().unwrap(), lb.local_addr().unwrap());
        let choice = |writer| vec![Choice { service: 1, writer, is_active: true }];
        let a = node("a", "127.0.0.2", la, ab, b"secret");
        a.bulletin.post_writers(choice(None));
        let b = node("b", "127.0.0.3", lb, aa, b"secret");
        eventually("the choice arrives", || *b.heard.writers.lock().unwrap() == Some(choice(None)));
        eventually("bans arrive", || *b.heard.bans.lock().unwrap() == [ban("a", Term::Open)]);
        a.bulletin.post_writers(choice(Some(7)));
        a.bulletin.post_ban(ban("y", Term::Ms(60_000)));
        a.bulletin.post_ban(ban("y", Term::Lifted));
        eventually("another one arrives", || *b.heard.writers.lock().unwrap() == Some(choice(Some(7))));
        let all = [ban("a", Term::Open), ban("y", Term::Ms(60_000)), ban("y", Term::Lifted)];
        eventually("more bans arrive", || *b.heard.bans.lock().unwrap() == all);
        drop(a);
        eventually("a lost peer has no choice", || b.heard.writers.lock().unwrap().is_none());
    }

    #[test]
    fn another_secret_is_refused_and_nothing_is_believed() {
        let (la, lb) = listeners();
        let (aa, ab) = (la.local_addr().unwrap(), lb.local_addr().unwrap());
        let a = node("a", "127.0.0.2", la, ab, b"secret");
        let b = node("b", "127.0.0.3", lb, aa, b"another");
        let connection =
            Connection { client: "203.0.113.9:40001".parse().unwrap(), local: "10.0.0.10:443".parse().unwrap() };
        a.journal.opened(0, connection);
        b.journal.opened(0, connection);
        let until = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < until {
            assert_eq!(a.table.connections().count() + b.table.connections().count(), 0);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
