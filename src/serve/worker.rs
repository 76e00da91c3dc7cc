//! The worker process: orders from the parent in, reports out, executors in between.

use crate::config::settings::Settings;
use crate::config::{self};
use crate::net::clock;
use crate::net::tls::ConfigError;
use crate::serve::abuse::orders;
use crate::serve::executor::{self, Seat, Socketed};
use crate::serve::health;
use crate::serve::page::{CORES_MAX, SharedPage};
use crate::serve::pairing::{Pairing, Reporter};
use crate::serve::parent::{Channel, ChannelError, ListenerSocket, Order, Receiver, Report, Sender};
use crate::serve::report;
use crate::serve::resolve;
use crate::serve::shared::{Phase, Shared, Snapshot};
use crate::serve::tcp;
use crate::telemetry;
use crate::telemetry::writer::Writer;
use glommio::{ExecutorJoinHandle, Placement};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Listening sockets of one message: cores times addresses.
const DESCRIPTORS_MAX: usize = 64 * 1024;

/// How often a drain or a stop looks whether it is finished.
const WATCH: Duration = Duration::from_millis(10);

/// A parent that reads nothing for this long is as good as dead.
const REPORT_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the worker until the parent tells it to stop or dies. `channel` is the seqpacket socket to the parent.
/// The process was already stripped of privileges.
pub fn main(channel: OwnedFd) -> Result<(), Box<dyn Error>> {
    let (sender, mut receiver) = Channel::from_fd(channel)?.split(DESCRIPTORS_MAX);
    let first = receiver.receive::<Order>()?;
    let Order::Start { bundle, listeners, has_link } = first.message else {
        return Err(Box::new(StartError::Protocol("the first order is not a start")));
    };
    let settings = config::from_bundle(&bundle)?;
    telemetry::init_tracing(settings.log.format, settings.log.level);
    let mut descriptors = first.descriptors.into_iter();
    let page = descriptors.next().ok_or(StartError::Protocol("no page came with the start"))?;
    let link = has_link.then(|| descriptors.next().zip(descriptors.next())).flatten();
    let sockets = pair(listeners, descriptors)?;
    let worker = Worker::start(settings, Arc::new(SharedPage::open(page)?), sockets)?;
    let mail = Mail::new()?;
    if let Some((table, listener)) = link {
        worker.join(table, listener, mail.reporter());
    }
    worker.shared.abuse.tell(mail.reporter());
    let mut office = Office { worker, sender, receiver, mail, watch: Watch::Nothing };
    office.report(&Report::Ready)?;
    let result = office.run();
    office.worker.end();
    result.map_err(Into::into)
}

/// The conversation with the parent.
struct Office {
    worker: Worker,
    sender: Sender,
    receiver: Receiver,
    mail: Mail,
    watch: Watch,
}

/// Reports of other threads, carried to the main one, which alone talks to the parent.
struct Mail {
    letters: mpsc::Receiver<Report>,
    slot: mpsc::Sender<Report>,
    bell: Arc<EventFd>,
}

impl Mail {
    fn new() -> Result<Mail, StartError> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| StartError::Thread(errno.to_string()))?;
        let (slot, letters) = mpsc::channel();
        Ok(Mail { letters, slot, bell: Arc::new(bell) })
    }

    fn reporter(&self) -> Reporter {
        // The lock is the price of a closure that several threads share; words are rare.
        let (slot, bell) = (Mutex::new(self.slot.clone()), self.bell.clone());
        Arc::new(move |report| {
            if slot.lock().is_ok_and(|slot| slot.send(report).is_ok()) {
                let _ = bell.write(1);
            }
        })
    }
}

/// What the main thread waits for besides orders.
#[derive(Clone, Copy)]
enum Watch {
    Nothing,
    /// Nothing in flight, to be reported once.
    Drained,
    /// Nothing open, or the deadline.
    Stopped {
        deadline: Instant,
    },
}

impl Office {
    fn run(&mut self) -> Result<(), ChannelError> {
        loop {
            let timeout = match self.watch {
                Watch::Nothing => PollTimeout::NONE,
                Watch::Drained | Watch::Stopped { .. } => PollTimeout::try_from(WATCH).unwrap_or(PollTimeout::ZERO),
            };
            // An error (EINTR) is a turn without news.
            let wanted = [self.receiver.as_fd(), self.mail.bell.as_fd()];
            let _ = poll(&mut wanted.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), timeout);
            let _ = self.mail.bell.read();
            while let Ok(report) = self.mail.letters.try_recv() {
                self.report(&report)?;
            }
            loop {
                match self.receiver.try_receive::<Order>() {
                    Ok(Some(received)) => self.obey(received.message, received.descriptors)?,
                    Ok(None) => break,
                    // Without a parent nobody supervises us or holds the address.
                    Err(ChannelError::Closed) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            if self.is_over()? {
                return Ok(());
            }
        }
    }

    fn obey(&mut self, order: Order, descriptors: Vec<OwnedFd>) -> Result<(), ChannelError> {
        match order {
            Order::Start { .. } => {
                tracing::error!("a second start was ordered");
                Ok(())
            }
            Order::Reload { bundle, added } => {
                let error = match config::from_bundle(&bundle) {
                    Ok(settings) => {
                        let sockets = pair(added, descriptors.into_iter());
                        sockets.and_then(|sockets| self.worker.reload(settings, sockets)).err().map(|e| e.to_string())
                    }
                    Err(errors) => Some(errors.to_string()),
                };
                self.report(&Report::Reloaded { error })
            }
            Order::Stop { deadline_ms } => {
                self.worker.shared.set_phase(Phase::Stopping);
                self.watch = Watch::Stopped { deadline: Instant::now() + Duration::from_millis(deadline_ms) };
                Ok(())
            }
            Order::Drain { on } => {
                self.worker.shared.set_phase(if on { Phase::Draining } else { Phase::Serving });
                if !matches!(self.watch, Watch::Stopped { .. }) {
                    self.watch = if on { Watch::Drained } else { Watch::Nothing };
                }
                Ok(())
            }
            Order::Pair(words) => {
                if let Some(pairing) = self.worker.shared.pairing() {
                    pairing.say(words);
                }
                Ok(())
            }
            Order::Held { addresses } => {
                if !addresses.is_empty() {
                    for pool in &self.worker.shared.snapshot().pools {
                        pool.crowd.brace(&pool.upgrade_rate(), clock::now().0);
                    }
                }
                self.worker.shared.agreement.hold(addresses);
                Ok(())
            }
            Order::Status { id } => {
                let json = report::status(&self.worker.shared).to_string();
                self.report(&Report::Status { id, json })
            }
            Order::Metrics { id } => {
                let text = report::metrics(&self.worker.shared);
                self.report(&Report::Metrics { id, text })
            }
            Order::Bans { id, change } => {
                let answer = orders::bans(&self.worker.shared, change);
                self.report(&Report::Bans { id, answer })
            }
            Order::Restore { bans } => {
                orders::restore(&self.worker.shared, &bans);
                Ok(())
            }
        }
    }

    /// Looks after a drain or a stop; answers whether the worker is done.
    fn is_over(&mut self) -> Result<bool, ChannelError> {
        let (requests, tunnels) = self.worker.shared.load();
        match self.watch {
            Watch::Nothing => Ok(false),
            Watch::Drained => {
                if requests == 0 {
                    self.watch = Watch::Nothing;
                    self.report(&Report::Drained { tunnels })?;
                }
                Ok(false)
            }
            Watch::Stopped { deadline } => {
                let connections: u64 = self.worker.shared.counters.iter().map(|core| core.connections.read()).sum();
                Ok(connections == 0 || Instant::now() >= deadline)
            }
        }
    }

    fn report(&mut self, report: &Report) -> Result<(), ChannelError> {
        self.sender.send(report, &[], REPORT_PATIENCE)
    }
}

/// Sockets and what they are, in the order of the message.
fn pair(
    listeners: Vec<ListenerSocket>,
    mut descriptors: impl Iterator<Item = OwnedFd>,
) -> Result<Vec<(ListenerSocket, OwnedFd)>, StartError> {
    let pair = |listener| {
        let socket = descriptors.next().ok_or(StartError::Protocol("fewer sockets than listeners"))?;
        Ok((listener, socket))
    };
    listeners.into_iter().map(pair).collect()
}

/// The executors and what they share. [`main`] drives one over the channel; tests drive one directly.
pub struct Worker {
    pub shared: Arc<Shared>,
    cores: Vec<ExecutorJoinHandle<()>>,
    control: Option<ExecutorJoinHandle<()>>,
    inboxes: Vec<mpsc::Sender<Vec<Socketed>>>,
    /// Last field: it ends after the executors handed over their last lines.
    log: Writer,
}

impl Worker {
    /// Returns once all cores accept.
    pub fn start(
        settings: Settings,
        page: Arc<SharedPage>,
        sockets: Vec<(ListenerSocket, OwnedFd)>,
    ) -> Result<Worker, StartError> {
        preflight()?;
        let cores = settings.worker.cores.clamp(1, CORES_MAX - 1);
        let access = settings.log.access.clone();
        let snapshot = Arc::new(Snapshot::build(settings, cores, None).map_err(StartError::Tls)?);
        let shared = Arc::new(Shared::new(page, cores, snapshot));
        let log = Writer::start(access.clone()).map_err(|error| StartError::Thread(error.to_string()))?;
        let mut worker = Worker { shared, cores: Vec::new(), control: None, inboxes: Vec::new(), log };
        let (started, all_started) = mpsc::channel();
        let cpus = cpus();
        let mut by_core = by_core(sockets, cores);
        for index in 0..cores {
            let (inbox_in, inbox) = mpsc::channel();
            // The receiver is in scope, so there is somebody to take it.
            let _ = inbox_in.send(by_core.remove(&index).unwrap_or_default());
            worker.inboxes.push(inbox_in);
            let placement = match cpus.get(index) {
                Some(cpu) if cores <= cpus.len() => Placement::Fixed(*cpu),
                _ => Placement::Unbound,
            };
            let outlet = worker.log.outlet();
            let seat =
                Seat { index, placement, shared: worker.shared.clone(), outlet, inbox, started: started.clone() };
            let handle = executor::spawn(seat).map_err(|error| StartError::Thread(error.to_string()))?;
            worker.cores.push(handle);
        }
        drop(started);
        worker.control = Some(spawn_control(worker.shared.clone())?);
        for _ in 0..cores {
            match all_started.recv() {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(StartError::Core(reason)),
                Err(_) => return Err(StartError::Core("an executor ended while it started".to_owned())),
            }
        }
        worker.shared.page.summary.cores.store(cores as u32, Relaxed);
        worker.shared.page.summary.ready.store(1, Release);
        Ok(worker)
    }

    /// Links up with the other node. Without the link the pair is two VRRP routers, so a failure is a warning.
    pub fn join(&self, table: OwnedFd, listener: OwnedFd, reporter: Reporter) {
        let settings = &self.shared.snapshot().settings;
        match Pairing::start(&self.shared, settings, self.cores.len(), table, listener, reporter) {
            Ok(pairing) => self.shared.join(pairing),
            Err(error) => tracing::warn!(%error, "no pair link"),
        }
    }

    /// All or nothing: the new settings serve requests that begin from now on.
    pub fn reload(&mut self, settings: Settings, added: Vec<(ListenerSocket, OwnedFd)>) -> Result<(), StartError> {
        let cores = self.cores.len();
        let access = settings.log.access.clone();
        let snapshot = Snapshot::build(settings, cores, Some(&self.shared.snapshot())).map_err(StartError::Tls)?;
        // Settings first: a core closes listeners that its settings do not name.
        self.shared.publish(Arc::new(snapshot));
        for (core, sockets) in by_core(added, cores) {
            if let Some(inbox) = self.inboxes.get(core) {
                let _ = inbox.send(sockets);
            }
        }
        self.log.reopen(access);
        Ok(())
    }

    /// Ends the executors with whatever is still open, and writes the log out.
    pub fn end(&mut self) {
        self.shared.set_phase(Phase::Ended);
        if let Some(pairing) = self.shared.pairing() {
            pairing.stop();
        }
        for handle in self.cores.drain(..).chain(self.control.take()) {
            if let Err(error) = handle.join() {
                tracing::error!(%error, "an executor ended with an error");
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn_control(shared: Arc<Shared>) -> Result<ExecutorJoinHandle<()>, StartError> {
    let run = move || async move {
        match executor::start_driver(&shared) {
            Ok(driver) => {
                glommio::spawn_local(resolve::supervise(shared.clone(), driver.clone())).detach();
                glommio::spawn_local(tcp::check::supervise(shared.clone(), driver.clone())).detach();
                health::supervise(shared, driver).await;
            }
            Err(error) => tracing::error!(%error, "no event loop for health checks, servers count as up"),
        }
    };
    executor::spawn_control(run).map_err(|error| StartError::Thread(error.to_string()))
}

fn by_core(sockets: Vec<(ListenerSocket, OwnedFd)>, cores: usize) -> HashMap<usize, Vec<Socketed>> {
    let mut by_core: HashMap<usize, Vec<Socketed>> = HashMap::new();
    for (ListenerSocket { address, core }, socket) in sockets {
        by_core.entry(core % cores).or_default().push(Socketed { address, socket });
    }
    by_core
}

/// CPUs this process may run on, in order.
fn cpus() -> Vec<usize> {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) else { return Vec::new() };
    (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// glommio's reactor is io_uring whatever our driver is, and it does not return when it is missing: look first.
fn preflight() -> Result<(), StartError> {
    io_uring::IoUring::new(8).map(drop).map_err(StartError::NoIoUring)?;
    let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK)
        .map_err(|errno| StartError::Thread(errno.to_string()))?;
    if soft < MEMLOCK_BYTES_MIN { Err(StartError::MemoryLock { bytes: soft }) } else { Ok(()) }
}

/// glommio refuses to start below it.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Why the worker cannot start or reload.
#[derive(Debug)]
pub enum StartError {
    /// The parent broke the protocol.
    Protocol(&'static str),
    NoIoUring(std::io::Error),
    MemoryLock {
        bytes: u64,
    },
    Thread(String),
    Core(String),
    Tls(ConfigError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Protocol(what) => write!(f, "parent: {what}"),
            StartError::NoIoUring(error) => write!(
                f,
                "io_uring is not available ({error}); allow it in the container's seccomp profile and set \
                 kernel.io_uring_disabled to 0"
            ),
            StartError::MemoryLock { bytes } => {
                write!(f, "the memlock limit is {bytes} bytes, at least {MEMLOCK_BYTES_MIN} are needed")
            }
            StartError::Thread(why) => write!(f, "cannot start a thread: {why}"),
            StartError::Core(why) => f.write_str(why),
            StartError::Tls(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::NoIoUring(error) => Some(error),
            StartError::Tls(error) => Some(error),
            StartError::Protocol(_) | StartError::MemoryLock { .. } | StartError::Thread(_) | StartError::Core(_) => {
                None
            }
        }
    }
}
