//! Log lines from the real-time thread to `tracing`, by way of a thread that may block.

use super::station::Refusal;
use crate::link::LinkError;
use crate::machine::Event;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};
use tracing::{debug, error, info, warn};

/// Lines kept while the writer is slow; more are counted, not kept.
const LINES_MAX: usize = 256;

/// The real-time end.
pub(super) struct Journal {
    lines: VecDeque<Line>,
    lost: u64,
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

/// What can be said about a router.
#[derive(Debug)]
pub(super) enum Remark {
    Event(Event),
    /// The operating system refused something; `repeated` times unreported before.
    Trouble(LinkError, u64),
    /// The first datagram of its kind since the last valid one.
    Dropped(Refusal),
    /// A peer whose settings differ from ours, where they should be equal.
    Mismatch {
        source: IpAddr,
        interval: bool,
        addresses: bool,
    },
}

#[derive(Debug)]
enum Line {
    About(Arc<str>, Remark),
    Unprotected(String),
    Lost(u64),
}

#[derive(Default)]
struct Shared {
    lines: Mutex<VecDeque<Line>>,
    is_closed: AtomicBool,
}

impl Journal {
    pub(super) fn start() -> io::Result<Journal> {
        let shared = Arc::new(Shared { lines: Mutex::new(VecDeque::with_capacity(LINES_MAX)), ..Shared::default() });
        let source = Arc::clone(&shared);
        let writer = thread::Builder::new().name("vrrp-log".to_owned()).spawn(move || write_until_closed(&source))?;
        Ok(Journal { lines: VecDeque::with_capacity(LINES_MAX), lost: 0, shared, writer })
    }

    /// Keeps a line for the next flush. Never waits.
    pub(super) fn note(&mut self, router: &Arc<str>, remark: Remark) {
        self.push(Line::About(Arc::clone(router), remark));
    }

    pub(super) fn note_unprotected(&mut self, text: String) {
        self.push(Line::Unprotected(text));
    }

    fn push(&mut self, line: Line) {
        if self.lines.len() < LINES_MAX {
            self.lines.push_back(line);
        } else {
            self.lost += 1;
        }
    }

    /// Passes the lines on, unless the writer holds the lock at this moment; then the next flush does.
    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let Ok(mut queue) = self.shared.lines.try_lock() else { return };
        while queue.len() < LINES_MAX
            && let Some(line) = self.lines.pop_front()
        {
            queue.push_back(line);
        }
        if self.lost > 0 && queue.len() < LINES_MAX {
            queue.push_back(Line::Lost(mem::take(&mut self.lost)));
        }
        drop(queue);
        self.writer.thread().unpark();
    }

    /// Lets the writer write what is left; only at the very end of the speaker. A log that blocks delays it a little, not
    /// for ever.
    pub(super) fn close(mut self) {
        self.flush();
        self.shared.is_closed.store(true, Ordering::Release);
        self.writer.thread().unpark();
        for _ in 0..20 {
            if self.writer.is_finished() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn write_until_closed(shared: &Shared) {
    // Exchanged for the full one, so that the real-time end never has to make room.
    let mut lines = VecDeque::with_capacity(LINES_MAX);
    loop {
        let is_closed = shared.is_closed.load(Ordering::Acquire);
        mem::swap(&mut lines, &mut *shared.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let is_idle = lines.is_empty();
        lines.drain(..).for_each(write);
        if is_closed {
            return;
        }
        if is_idle {
            thread::park();
        }
    }
}

fn write(line: Line) {
    match line {
        Line::About(router, Remark::Event(event)) => write_event(&router, &event),
        Line::About(router, Remark::Trouble(error, 0)) => warn!(%router, "{error}"),
        Line::About(router, Remark::Trouble(error, repeated)) => warn!(%router, repeated, "{error}"),
        Line::About(router, Remark::Dropped(Refusal::Bytes(error))) => debug!(%router, "advert dropped: {error}"),
        Line::About(router, Remark::Dropped(Refusal::Authentication(error))) => {
            warn!(%router, ?error, "advert with wrong authentication dropped");
        }
        Line::About(router, Remark::Mismatch { source, interval, addresses }) => {
            warn!(%router, %source, interval, addresses, "the peer's settings differ from ours; make both nodes alike");
        }
        Line::Unprotected(text) => warn!("{text}"),
        Line::Lost(count) => error!(count, "VRRP log lines lost: the log is slower than the events"),
    }
}

fn write_event(router: &str, event: &Event) {
    match event {
        Event::Transition { from, to, reason } => info!(%router, ?from, ?to, ?reason, "VRRP state changed"),
        Event::LosingAdvert { source, priority } => {
            warn!(%router, %source, priority = priority.0, "another router is Active beside us");
        }
        Event::Stalled { late } => warn!(%router, late_ms = late.as_millis() as u64, "this node stood still"),
        Event::AlarmRaised(alarm) => warn!(%router, %alarm, "{}", alarm.remedy()),
        Event::AlarmCleared(alarm) => info!(%router, %alarm, "no sign of it any more"),
        other => warn!(%router, event = ?other, "VRRP event"),
    }
}
