//! Asks the servers of TCP services how they are, and decides who writes. Runs on the control executor.
//!
//! A Galera node is asked over one connection that stays logged in: no login a second, and its end tells at once that
//! the node died.

use crate::config::settings::tcp::{CheckKind, CheckTls};
use crate::net::clock::{self, Timer};
use crate::net::driver::Driver;
use crate::net::stream::Stream;
use crate::net::target::{Order, Target};
use crate::net::tls::{Connector, Trust};
use crate::net::upstream;
use crate::policy::health::{Health, State, Verdict};
use crate::policy::service::{Standing, galera, writer};
use crate::proto::mysql::Login;
use crate::proto::mysql::conversation::{Conversation, QUIT, Row, Said};
use crate::serve::health;
use crate::serve::shared::{Phase, Shared};
use crate::serve::tcp::{Member, Service};
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often checks look whether something asks for an early one, or for their end.
const LOOK: Duration = Duration::from_millis(50);

/// A server that sessions fail at is asked at once, but not more often than this.
const EARLY_INTERVAL: Duration = Duration::from_millis(200);

/// Starts a checker for every server that has none, until the worker ends.
pub async fn supervise(shared: Arc<Shared>, driver: Driver) {
    let mut checked: Vec<Arc<Member>> = Vec::new();
    let (mut generation, mut news) = (0, 0);
    while shared.phase() != Phase::Ended {
        if generation != shared.generation() {
            generation = shared.generation();
            let snapshot = shared.snapshot();
            let members = || snapshot.services.iter().flat_map(|service| &service.members);
            for member in members() {
                if !checked.iter().any(|known| Arc::ptr_eq(known, member)) {
                    checked.push(member.clone());
                    let checker = Checker { shared: shared.clone(), driver: driver.clone(), member: member.clone() };
                    glommio::spawn_local(checker.run()).detach();
                }
            }
            checked.retain(|known| members().any(|member| Arc::ptr_eq(known, member)));
            // The list may have lost its writer, or the service its wish for one.
            snapshot.services.iter().for_each(|service| elect(&shared, service));
        }
        if news != shared.agreement.news() {
            news = shared.agreement.news();
            shared.snapshot().services.iter().for_each(|service| elect(&shared, service));
        }
        if let Some(pairing) = shared.pairing() {
            pairing.bulletin().post_writers(shared.agreement.choices(&shared.snapshot()));
        }
        clock::tick(LOOK).await;
    }
}

/// Decides who writes, from what is known now.
fn elect(shared: &Shared, service: &Service) {
    let current = service.writer_index();
    let other = shared.agreement.other(&shared.snapshot(), service);
    let chosen = if service.has_writer() { writer::agree(current, &service.standings(), other) } else { None };
    if chosen == current {
        return;
    }
    service.set_writer(chosen);
    shared.note_writer_change();
    service.desk.writer_changes.fetch_add(1, Relaxed);
    let name = service.settings.name.as_str();
    match (service.writer(), service.has_writer()) {
        (Some(writer), _) => {
            tracing::info!(service = name, server = writer.server.name, "all sessions go to this server")
        }
        (None, true) => tracing::error!(service = name, "no server can be used, sessions are refused"),
        (None, false) => {}
    }
}

struct Checker {
    shared: Arc<Shared>,
    driver: Driver,
    member: Arc<Member>,
}

/// A connection that is logged in.
struct Link {
    stream: Stream,
    conversation: Conversation,
    /// Whose it is: another account after a reload needs another login.
    kind: CheckKind,
    /// Of the server's addresses: it may have moved.
    generation: Option<u64>,
}

impl Checker {
    async fn run(self) {
        let mut health: Option<(u32, u32, Health)> = None;
        let mut link: Option<Link> = None;
        let mut failures = self.failures();
        // The current snapshot's service each time: a reload may have changed the check.
        while let Some(service) = self.service() {
            if !self.member.server.target.is_resolved() {
                clock::tick(LOOK).await;
                continue;
            }
            let check = service.settings.check.clone();
            let health = match &mut health {
                Some((rise, fall, health)) if (*rise, *fall) == (check.rise, check.fall) => health,
                slot => &mut slot.insert((check.rise, check.fall, Health::new(check.rise, check.fall))).2,
            };
            let timer = Timer::new();
            timer.arm(check.timeout);
            let found = match timer.bound(self.ask(&check.kind, check.timeout, &mut link)).await {
                Ok(found) => found,
                Err(_) => Err(Trouble::Broken("it does not answer in time".to_owned())),
            };
            if matches!(found, Err(Trouble::Broken(_))) {
                link = None;
            }
            let verdict = if found.is_ok() { Verdict::Up } else { Verdict::Down };
            let _ = health.verdict(verdict);
            self.publish(&service, health.state(), found);
            let is_settled = (health.state() == State::Up) == (verdict == Verdict::Up);
            self.pause(check.interval, is_settled, &mut failures, &mut link).await;
        }
        if let Some(link) = link {
            let _ = link.stream.send(QUIT.to_vec()).await;
            link.stream.shutdown_write().await;
        }
    }

    /// Makes what was found the member's standing once it counts, and says so.
    fn publish(&self, service: &Service, state: State, found: Result<Standing, Trouble>) {
        let before = self.member.standing();
        let (standing, reason) = match (state, found) {
            (State::Up, Ok(standing)) => (standing, String::new()),
            // Not for good yet.
            (State::Up, Err(trouble)) => (before, trouble.reason()),
            (State::Down, Ok(_)) => (Standing::Bad, "it is back, but not for long enough".to_owned()),
            (State::Down, Err(trouble)) => (Standing::Bad, trouble.reason()),
            (State::Unknown | State::Maintenance | State::Draining, _) => return,
        };
        self.member.set_standing(standing, &reason);
        if standing == before {
            return;
        }
        health::summarize(&self.shared);
        let (name, server) = (service.settings.name.as_str(), self.member.server.name.as_str());
        match standing {
            Standing::Good => tracing::info!(service = name, server, "server is up"),
            Standing::Donor => tracing::warn!(service = name, server, "server feeds another node (donor)"),
            Standing::Bad => tracing::warn!(service = name, server, reason, "server is down"),
            Standing::Unknown => {}
        }
        // A reload may have come while the server was asked.
        if let Some(service) = self.service() {
            elect(&self.shared, &service);
        }
    }

    /// Waits for the next question: the interval and up to a tenth more; much less while the standing is about to change,
    /// when sessions begin to fail, or when the connection to the server ends.
    async fn pause(&self, interval: Duration, is_settled: bool, failures: &mut u64, link: &mut Option<Link>) {
        let interval = if is_settled { interval } else { interval / 4 };
        let mut left = interval.mul_f64(1.0 + fastrand::f64() / 10.0);
        let mut waited = Duration::ZERO;
        let generation = self.member.server.target.generation();
        while !left.is_zero() && self.shared.phase() != Phase::Ended {
            let step = left.min(LOOK);
            if self.has_ended(link, step).await {
                *link = None;
                return;
            }
            left -= step;
            waited += step;
            if self.member.server.target.generation() != generation {
                // It has moved.
                break;
            }
            let now_failed = self.failures();
            let is_early = now_failed > *failures && waited >= EARLY_INTERVAL.min(interval);
            if is_early && self.member.standing() != Standing::Bad {
                *failures = now_failed;
                return;
            }
        }
        *failures = self.failures();
    }

    /// Sleeps for `step` with an ear on the connection; answers whether it came to an end.
    async fn has_ended(&self, link: &Option<Link>, step: Duration) -> bool {
        let Some(link) = link else {
            glommio::timer::sleep(step).await;
            return false;
        };
        let timer = Timer::new();
        timer.arm(step);
        // Whatever comes while nothing was asked is a farewell.
        timer.bound(link.stream.recv()).await.is_ok()
    }

    fn failures(&self) -> u64 {
        self.member.server.cells().map(|cell| cell.failures.read()).sum()
    }

    /// This server's service, while it is configured and the worker lives.
    fn service(&self) -> Option<Arc<Service>> {
        if self.shared.phase() == Phase::Ended {
            return None;
        }
        let snapshot = self.shared.snapshot();
        let is_mine = |service: &&Arc<Service>| service.members.iter().any(|member| Arc::ptr_eq(member, &self.member));
        snapshot.services.iter().find(is_mine).cloned()
    }

    async fn ask(&self, kind: &CheckKind, timeout: Duration, link: &mut Option<Link>) -> Result<Standing, Trouble> {
        let CheckKind::Galera { user, password, tls } = kind else {
            *link = None;
            return self.connect(timeout).await.map(|_| Standing::Good).map_err(Trouble::broken);
        };
        let login = Login { user, password: &password.0, tls: tls.is_some() };
        // Read before the connect: addresses that change meanwhile cost another login, no more.
        let generation = self.member.server.target.generation();
        link.take_if(|link| link.kind != *kind || link.generation != generation);
        let link = match link {
            Some(link) => link,
            slot => {
                let stream = self.connect(timeout).await.map_err(Trouble::broken)?;
                let mut new = Link { stream, conversation: Conversation::default(), kind: kind.clone(), generation };
                if let Some(tls) = tls {
                    new = new.secure(&login, tls, &self.member.server.target).await?;
                }
                new.log_in(&login).await?;
                slot.insert(new)
            }
        };
        let status = link.rows(&login, galera::STATUS).await?;
        let variables = link.rows(&login, galera::VARIABLES).await?;
        galera::standing(&status, &variables).map_err(Trouble::Unusable)
    }

    async fn connect(&self, timeout: Duration) -> io::Result<Stream> {
        let target = &self.member.server.target;
        upstream::connect(&self.driver, target, self.shared.snapshot().source, timeout, Order::Plain).await
    }
}

/// What a server's certificate is expected to be for.
fn name_of(target: &Target) -> Option<ServerName<'static>> {
    match target {
        Target::Ip(address) => Some(ServerName::from(address.ip())),
        Target::Name(name) => ServerName::try_from(name.host.trim_end_matches('.').to_owned()).ok(),
        Target::Unix(_) | Target::Far(..) => None,
    }
}

/// Why a server is not good.
enum Trouble {
    /// It answered, and said so itself.
    Unusable(&'static str),
    Broken(String),
}

impl Trouble {
    fn broken(error: impl ToString) -> Trouble {
        Trouble::Broken(error.to_string())
    }

    fn reason(self) -> String {
        match self {
            Trouble::Unusable(reason) => reason.to_owned(),
            Trouble::Broken(reason) => reason,
        }
    }
}

impl Link {
    /// The greeting in clear, everything else over TLS.
    async fn secure(mut self, login: &Login<'_>, tls: &CheckTls, target: &Target) -> Result<Link, Trouble> {
        let trust = tls.roots.as_ref().map_or(Trust::Anybody, |roots| Trust::Roots(roots.to_vec()));
        let connector = Connector::new(trust, &[]).map_err(Trouble::broken)?;
        let name =
            tls.name.clone().or_else(|| name_of(target)).ok_or(Trouble::broken("it has no name: set tls_name"))?;
        let Said::Secure(request) = self.hear(login).await? else {
            return Err(Trouble::broken("a login in clear"));
        };
        self.stream.send(request).await.0.map_err(Trouble::broken)?;
        let Stream::Plain(socket) = self.stream else { return Err(Trouble::broken("TLS within TLS")) };
        let secured = connector.connect(socket, name).await;
        let (stream, _) = secured.map_err(|error| Trouble::Broken(format!("TLS: {error}")))?;
        let bytes = self.conversation.secured(login).map_err(Trouble::broken)?;
        stream.send(bytes).await.0.map_err(Trouble::broken)?;
        Ok(Link { stream, ..self })
    }

    async fn log_in(&mut self, login: &Login<'_>) -> Result<(), Trouble> {
        match self.hear(login).await? {
            Said::LoggedIn => Ok(()),
            Said::Send(_) | Said::Secure(_) | Said::Rows(_) => Err(Trouble::broken("rows without a question")),
        }
    }

    async fn rows(&mut self, login: &Login<'_>, statement: &str) -> Result<Vec<Row>, Trouble> {
        let question = self.conversation.ask(statement).map_err(Trouble::broken)?;
        self.stream.send(question).await.0.map_err(Trouble::broken)?;
        match self.hear(login).await? {
            Said::Rows(rows) => Ok(rows),
            Said::Send(_) | Said::Secure(_) | Said::LoggedIn => Err(Trouble::broken("a login within a login")),
        }
    }

    /// The next thing that is not ours to answer.
    async fn hear(&mut self, login: &Login<'_>) -> Result<Said, Trouble> {
        loop {
            match self.conversation.next(login).map_err(Trouble::broken)? {
                Some(Said::Send(bytes)) => self.stream.send(bytes).await.0.map_err(Trouble::broken)?,
                Some(said) => return Ok(said),
                None => {
                    let bytes = self.stream.recv().await.map_err(Trouble::broken)?;
                    if bytes.is_empty() {
                        return Err(Trouble::broken("it closed the connection"));
                    }
                    self.conversation.push(&bytes);
                }
            }
        }
    }
}
