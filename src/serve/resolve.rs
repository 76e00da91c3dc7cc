//! Names of servers: looked up on the control executor, published to all cores. What to ask when, and what to keep, is
//! `policy::resolve`'s.
//!
//! `/etc/resolv.conf` and `/etc/hosts` are the only files the worker opens by itself: every user may read them, and a host
//! that changes its network changes them without telling us.

use crate::net::clock::{self, Now, now};
use crate::net::dns;
use crate::net::driver::Driver;
use crate::net::target::Name;
use crate::policy::resolve::{Found, Heard, Lookup, Memory, Standing};
use crate::proto::dns::files::{self, ResolvConf};
use crate::proto::dns::{Answer, DATAGRAM_BYTES_MAX, Family, Question};
use crate::serve::health;
use crate::serve::shared::{Phase, Server, Shared, Snapshot};
use crate::telemetry::counters::Counter;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked whether a name is due.
const LOOK: Duration = Duration::from_millis(50);

/// How often the host's files are read again; what they say of a name holds as long.
const REREAD: Duration = Duration::from_secs(5);

const FILE_BYTES_MAX: u64 = 1 << 20;

/// A server that does not answer by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lookups at the same time.
const LOOKUPS_MAX: usize = 32;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Counted by the control executor alone.
#[derive(Default)]
pub struct Dns {
    pub questions: Counter,
    /// By `RESULTS`.
    pub lookups: [Counter; 3],
    pub changes: Counter,
}

/// Ways a lookup ends, as metrics name them.
pub const RESULTS: [&str; 3] = ["found", "absent", "unknown"];

/// Servers with a name in place of an address.
pub fn named(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Server>> {
    let members = snapshot.services.iter().flat_map(|service| &service.members).map(|member| &member.server);
    let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers).chain(members);
    servers.filter(|server| server.target.name().is_some())
}

/// Looks up the names of the current snapshot until the worker ends.
pub async fn supervise(shared: Arc<Shared>, driver: Driver) {
    let resolver = Rc::new(Resolver { shared: shared.clone(), driver, book: RefCell::default() });
    let (mut generation, mut exapps) = (0, 0);
    while shared.phase() != Phase::Ended {
        if generation != shared.generation() {
            generation = shared.generation();
            resolver.adopt(&shared.snapshot());
        } else if exapps != shared.exapps.named() {
            exapps = shared.exapps.named();
            resolver.adopt(&shared.snapshot());
        }
        resolver.reread();
        resolver.start_due();
        clock::tick(LOOK).await;
    }
}

struct Resolver {
    shared: Arc<Shared>,
    driver: Driver,
    book: RefCell<Book>,
}

#[derive(Default)]
struct Book {
    hosts: BTreeMap<String, Entry>,
    /// Lookups that run.
    running: usize,
    /// The server that answered last.
    server: usize,
    files: Rc<Files>,
    reread: Option<Now>,
}

/// Whom to ask, and what the host knows by itself.
#[derive(Default, PartialEq)]
struct Files {
    resolv_conf: String,
    hosts: String,
    /// Of the settings; empty: those of `resolv_conf`.
    servers: Vec<SocketAddr>,
}

#[derive(Default)]
struct Entry {
    memory: Memory,
    is_asked: [bool; 2],
    /// Of all servers with this name, each with its port.
    names: Vec<Arc<Name>>,
    told: Option<Standing>,
}

impl Resolver {
    /// Follows the settings. Servers that are new by a name that is known can be used at once.
    fn adopt(&self, snapshot: &Snapshot) {
        let mut book = self.book.borrow_mut();
        let mut old = std::mem::take(&mut book.hosts);
        let exapps = self.shared.exapps.servers();
        for name in named(snapshot).chain(&exapps).filter_map(|server| server.target.name()) {
            let known = old.remove(&name.host).map(|known| Entry { names: Vec::new(), ..known });
            let entry = book.hosts.entry(name.host.clone()).or_insert_with(|| known.unwrap_or_default());
            entry.names.push(name.clone());
        }
        book.hosts.values().for_each(|entry| {
            entry.publish();
        });
        // Other servers may say other things.
        book.reread = None;
    }

    fn reread(&self) {
        let mut book = self.book.borrow_mut();
        if book.hosts.is_empty() || book.reread.is_some_and(|at| now().since(at) < REREAD) {
            return;
        }
        book.reread = Some(now());
        let servers = self.shared.snapshot().settings.dns.servers.clone();
        let files = Files { resolv_conf: text(Path::new(RESOLV_CONF)), hosts: text(Path::new(HOSTS)), servers };
        if *book.files != files {
            book.files = Rc::new(files);
            book.server = 0;
            book.hosts.values_mut().for_each(|entry| entry.memory.hurry());
        }
    }

    fn start_due(self: &Rc<Resolver>) {
        let mut book = self.book.borrow_mut();
        let now = Duration::from_nanos(now().0);
        let mut due = Vec::new();
        for (host, entry) in &book.hosts {
            for family in Family::ALL.into_iter().filter(|family| !entry.is_asked[*family as usize]) {
                let at = entry.memory.due(family);
                if at <= now {
                    due.push((at, host.clone(), family));
                }
            }
        }
        // Who has waited longest first, so that nobody waits for ever.
        due.sort_unstable();
        due.truncate(LOOKUPS_MAX.saturating_sub(book.running));
        for (_, host, family) in &due {
            if let Some(entry) = book.hosts.get_mut(host) {
                entry.is_asked[*family as usize] = true;
            }
            book.running += 1;
        }
        // A task that is spawned begins at once, and opens the book.
        drop(book);
        for (_, host, family) in due {
            glommio::spawn_local(self.clone().look_up(host, family)).detach();
        }
    }

    async fn look_up(self: Rc<Resolver>, host: String, family: Family) {
        let (files, first) = {
            let book = self.book.borrow();
            (book.files.clone(), book.server)
        };
        let (found, last) = match files::hosts(&files.hosts, &host) {
            known if known.is_empty() => self.ask_around(&files, first, &host, family).await,
            known => {
                let known: Vec<IpAddr> = known.into_iter().filter(|address| Family::of(*address) == family).collect();
                (if known.is_empty() { Found::Absent } else { Found::Addresses(known, REREAD) }, first)
            }
        };
        let result = match found {
            Found::Addresses(..) => 0,
            Found::Absent => 1,
            Found::Unknown => 2,
        };
        self.shared.dns.lookups[result].bump();
        let mut book = self.book.borrow_mut();
        book.running -= 1;
        let is_current = Rc::ptr_eq(&files, &book.files);
        if is_current {
            book.server = last;
        }
        let Some(entry) = book.hosts.get_mut(&host) else { return };
        entry.is_asked[family as usize] = false;
        if !is_current {
            // Others are to be asked now, and it is due for them.
            return;
        }
        let was_resolved = entry.memory.standing() != Standing::Unresolved;
        entry.memory.take(family, found, Duration::from_nanos(now().0));
        if entry.publish() {
            self.shared.dns.changes.bump();
            let addresses = entry.memory.addresses();
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            tracing::info!(name = host, addresses = addresses.join(", "), "name has new addresses");
        }
        entry.tell(&host);
        let is_first = !was_resolved && entry.memory.standing() != Standing::Unresolved;
        drop(book);
        if is_first {
            health::summarize(&self.shared);
        }
    }

    /// Asks the servers in turn; what was found, and who said so.
    async fn ask_around(&self, files: &Files, first: usize, host: &str, family: Family) -> (Found, usize) {
        let conf = ResolvConf::read(&files.resolv_conf);
        let servers = if files.servers.is_empty() { &conf.servers } else { &files.servers };
        let mut lookup = Lookup::new(conf.candidates(host), servers.len(), first);
        while let Some((name, server)) = lookup.question() {
            let Some(address) = servers.get(server) else { break };
            let heard = self.ask(*address, name, family).await;
            if let Some(found) = lookup.heard(heard) {
                return (found, lookup.server);
            }
        }
        (Found::Unknown, lookup.server)
    }

    async fn ask(&self, server: SocketAddr, name: &str, family: Family) -> Heard {
        let mut id = [0; 2];
        if aws_lc_rs::rand::fill(&mut id).is_err() {
            return Heard::Nothing;
        }
        let question = Question { id: u16::from_be_bytes(id), name, family };
        // Too long with its search domain: nobody has it.
        let Some(bytes) = question.to_bytes() else { return Heard::NoName };
        self.shared.dns.questions.bump();
        let mut answer = Ok(Answer::Refused);
        let asked = dns::ask(server, &bytes, DATAGRAM_BYTES_MAX, PATIENCE, |datagram| {
            answer = question.answer(datagram);
            answer.is_ok()
        });
        let mut asked = asked.await;
        if asked.is_ok() && answer == Ok(Answer::Truncated) {
            let told = dns::ask_tcp(&self.driver, server, &bytes, PATIENCE).await;
            asked = told.map(|bytes| answer = question.answer(&bytes));
        }
        match (asked, answer) {
            (Ok(()), Ok(Answer::Addresses { addresses, ttl })) => Heard::Addresses { addresses, ttl },
            (Ok(()), Ok(Answer::NoData)) => Heard::NoData,
            (Ok(()), Ok(Answer::NoName)) => Heard::NoName,
            (asked, answer) => {
                tracing::debug!(%server, name, ?asked, ?answer, "a DNS server says nothing of use");
                Heard::Nothing
            }
        }
    }
}

impl Entry {
    /// Hands the addresses to everybody with this name; answers whether that changed any.
    fn publish(&self) -> bool {
        let addresses = self.memory.addresses();
        let mut has_changed = false;
        for name in &self.names {
            name.set_trouble(self.memory.trouble());
            if !addresses.is_empty() {
                let list = addresses.iter().map(|address| SocketAddr::new(*address, name.port));
                has_changed |= name.publish(list.collect());
            }
        }
        has_changed
    }

    /// Says what became of the name, once.
    fn tell(&mut self, host: &str) {
        let (standing, reason) = (self.memory.standing(), self.memory.trouble().unwrap_or_default());
        if self.told == Some(standing) || standing == Standing::Unresolved && reason.is_empty() {
            return;
        }
        match standing {
            Standing::Unresolved => {
                tracing::warn!(name = host, reason, "name of servers not resolved yet, they are down")
            }
            Standing::Kept => tracing::warn!(name = host, reason, "name cannot be looked up, its last addresses stay"),
            Standing::Fresh if self.told == Some(Standing::Kept) => {
                tracing::info!(name = host, "name is looked up again")
            }
            Standing::Fresh => {}
        }
        self.told = Some(standing);
    }
}

/// What is in the file; nothing if it cannot be read, as the C library has it.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), %error, "cannot be read");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
