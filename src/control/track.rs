//! Trackers: one ordinary thread that looks at whatever the operator wants looked at, and a [`board`] of atomics on
//! which the real-time thread reads the result.
//!
//! ```text
//! probe --finding--> judge --verdict--> board --ability--> machine
//! ```
//!
//! [`judge`] (pure: counts, delays, weights), [`probe`] (one file a kind), [`watch`] (one tracker as it runs), [`board`].
//! The tracker thread never waits for one thing: probes say what they wait for, and it waits for all of them.

pub mod board;
pub mod judge;
pub mod probe;
pub mod watch;

use crate::config::settings::Settings;
use crate::config::settings::track::{Tracker, TrackerKind};
use crate::control::clock;
use crate::control::view::View;
use board::Board;
use judge::Verdict;
use lyre_vrrp::params::Time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use probe::Surroundings;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use watch::{Report, Watch};

/// Changes that may wait for the main thread; more are lost, status still has them.
const QUEUE: usize = 256;

/// The trackers, as the main thread holds them. They end when this is dropped.
pub struct Tracks {
    board: Arc<Board>,
    view: Arc<View>,
    orders: Sender<Order>,
    /// Makes the tracker thread read its orders.
    bell: Arc<EventFd>,
    changes: Receiver<Report>,
    /// Readable when there are changes.
    news: Arc<EventFd>,
    reports: Arc<Mutex<Vec<Report>>>,
    /// Names of the routers that have rows.
    routers: Vec<String>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Follow { trackers: Vec<Tracker>, around: Surroundings, routers: Vec<String> },
    End,
}

impl Tracks {
    /// The board says what holds before the first result, before this returns.
    pub fn start(settings: &Settings, view: Arc<View>) -> io::Result<Tracks> {
        let board = Arc::new(Board::new()?);
        board.configure(settings, &[]);
        let event = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new);
        let (bell, news) = (event()?, event()?);
        let (orders, inbox) = channel();
        let (queue, changes) = sync_channel(QUEUE);
        let now = clock::now();
        let around = surroundings(settings, &view);
        let begin = |tracker: &Tracker| Watch::new(tracker.clone(), &around, now, true);
        let reports = Arc::new(Mutex::new(Vec::new()));
        let keeper = Keeper {
            watches: settings.trackers.iter().filter_map(begin).collect(),
            routers: names(settings),
            board: Arc::clone(&board),
            inbox,
            bell: Arc::clone(&bell),
            queue,
            news: Arc::clone(&news),
            reports: Arc::clone(&reports),
        };
        keeper.settle();
        keeper.publish();
        let run = move || keeper.run();
        let thread = std::thread::Builder::new().name("tracker".to_owned()).spawn(run)?;
        let routers = names(settings);
        Ok(Tracks { board, view, orders, bell, changes, news, reports, routers, thread: Some(thread) })
    }

    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Before the speaker gets the new routers.
    pub fn reload(&mut self, settings: &Settings) {
        self.board.configure(settings, &self.routers);
        self.routers = names(settings);
        let around = surroundings(settings, &self.view);
        let order = Order::Follow { trackers: settings.trackers.clone(), around, routers: names(settings) };
        let _ = self.orders.send(order);
        let _ = self.bell.write(1);
    }

    /// Trackers that changed since the last call, oldest first.
    pub fn changes(&self) -> Vec<Report> {
        let _ = self.news.read();
        self.changes.try_iter().collect()
    }

    /// All trackers but those of the worker.
    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsFd for Tracks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

/// Scripts that run are ended.
impl Drop for Tracks {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::End);
        let _ = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn names(settings: &Settings) -> Vec<String> {
    settings.routers.iter().map(|router| router.name.clone()).collect()
}

fn surroundings(settings: &Settings, view: &Arc<View>) -> Surroundings {
    let addresses = settings.routers.iter().flat_map(|router| router.held());
    Surroundings { view: Arc::clone(view), virtual_addresses: addresses.map(|network| network.addr()).collect() }
}

/// The tracker thread.
struct Keeper {
    watches: Vec<Watch>,
    routers: Vec<String>,
    board: Arc<Board>,
    inbox: Receiver<Order>,
    bell: Arc<EventFd>,
    queue: SyncSender<Report>,
    news: Arc<EventFd>,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Keeper {
    fn run(mut self) {
        loop {
            let _ = self.bell.read();
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::End => return,
                    Order::Follow { trackers, around, routers } => self.follow(trackers, &around, routers),
                }
            }
            let now = clock::now();
            let changed: Vec<usize> = self
                .watches
                .iter_mut()
                .enumerate()
                .filter_map(|(at, watch)| watch.advance(now).then_some(at))
                .collect();
            if !changed.is_empty() {
                self.settle();
            }
            self.publish();
            self.tell(&changed);
            self.wait(now);
        }
    }

    /// By name: those that look at the same thing go on with what they know.
    fn follow(&mut self, trackers: Vec<Tracker>, around: &Surroundings, routers: Vec<String>) {
        let now = clock::now();
        let mut before = std::mem::take(&mut self.watches);
        for tracker in trackers.into_iter().filter(|tracker| tracker.kind != TrackerKind::Proxy) {
            match before.iter().position(|watch| watch.can_become(&tracker)) {
                Some(at) => {
                    let mut watch = before.swap_remove(at);
                    watch.follow(tracker);
                    self.watches.push(watch);
                }
                None => self.watches.extend(Watch::new(tracker, around, now, false)),
            }
        }
        self.routers = routers;
        self.settle();
    }

    /// Adds up what all trackers say of each router.
    fn settle(&self) {
        for router in &self.routers {
            let about = self.watches.iter().filter(|watch| watch.speaks_about(router));
            self.board.set(router, total(about.map(Watch::verdict)));
        }
    }

    fn publish(&self) {
        let reports = self.watches.iter().map(Watch::report).collect();
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = reports;
    }

    fn tell(&self, changed: &[usize]) {
        for watch in changed.iter().filter_map(|at| self.watches.get(*at)) {
            let report = watch.report();
            tracing::info!(
                target: "lyre::track", tracker = watch.name(), standing = ?report.standing, fault = report.verdict.is_fault,
                weight = report.verdict.weight, "{}", report.reason
            );
            let _ = self.queue.try_send(report);
            let _ = self.news.write(1);
        }
    }

    fn wait(&self, now: Time) {
        let mut interests = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        self.watches.iter().for_each(|watch| watch.interests(&mut interests));
        let timeout = match self.watches.iter().filter_map(Watch::deadline).min() {
            None => PollTimeout::NONE,
            // Rounded up: waking a moment early would only spin until the deadline.
            Some(at) => PollTimeout::try_from(at.since(now) + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut interests, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing that could be waited for: go on by the clock, but never spin.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// One fault is a fault; weights add up.
fn total(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    verdicts.fold(Verdict::default(), |all, one| Verdict {
        is_fault: all.is_fault || one.is_fault,
        weight: all.weight.saturating_add(one.weight),
    })
}
