//! One new connection per request at a fixed rate, whatever became of the earlier ones (an open loop): the gap between
//! two answers then shows an outage to the millisecond, and slow answers do not thin out the load.

use crate::demo::client::answer::{self, judge};
use crate::demo::client::ledger::{Answer, Ledger, Loss, Moment, Source};
use crate::demo::client::{ANSWER_TIMEOUT, Target};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The probe's number in the ledger.
const CLIENT: usize = 0;
/// Key of the timer among the connections, which count from 1.
const TIMER: u64 = 0;
/// When this process itself was not scheduled for so long, the requests it missed are not sent afterwards in one burst.
const CATCH_UP_MAX: Duration = Duration::from_millis(50);

pub(super) fn run(target: &Target, rate: u32, ledger: &Ledger, stop: &AtomicBool) {
    let interval = Duration::from_secs(1) / rate.max(1);
    // Without epoll or a timer there is no probe, no answer is ever recorded, and the demo says that it saw none.
    if let Ok(mut probe) = Probe::new(target, interval, ledger) {
        while !stop.load(Ordering::Relaxed) && probe.turn().is_ok() {}
    }
}

struct Probe<'a> {
    target: &'a Target,
    request: Vec<u8>,
    ledger: &'a Ledger,
    epoll: Epoll,
    timer: TimerFd,
    interval: Duration,
    next_start: Moment,
    /// In order of their start, because keys only grow.
    open: BTreeMap<u64, Connection>,
    last_key: u64,
}

struct Connection {
    stream: TcpStream,
    started: Moment,
    is_sent: bool,
    received: Vec<u8>,
}

impl<'a> Probe<'a> {
    fn new(target: &'a Target, interval: Duration, ledger: &'a Ledger) -> nix::Result<Probe<'a>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        timer.set(Expiration::Interval(TimeSpec::from_duration(interval)), TimerSetTimeFlags::empty())?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Probe {
            target,
            request: format!("GET /apps/files HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.name)
                .into_bytes(),
            ledger,
            epoll,
            timer,
            interval,
            next_start: ledger.now(),
            open: BTreeMap::new(),
            last_key: TIMER,
        })
    }

    /// Waits for the timer or any connection and serves all that is ready.
    fn turn(&mut self) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::from(100_u8)) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error),
        };
        for event in events.iter().take(count) {
            match event.data() {
                TIMER => drop(self.timer.wait()),
                key => self.serve(key),
            }
        }
        self.start_due();
        self.expire();
        self.ledger.set_open(CLIENT, self.open.values().next().map(|connection| connection.started));
        Ok(())
    }

    fn start_due(&mut self) {
        let now = self.ledger.now();
        if now.saturating_sub(self.next_start) > CATCH_UP_MAX {
            self.next_start = now;
        }
        while self.next_start <= now {
            self.next_start += self.interval;
            let started = self.ledger.now();
            if self.start(started).is_err() {
                self.finish(started, Err(Loss::Connect));
            }
        }
    }

    fn start(&mut self, started: Moment) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.target.plain), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.target.plain.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        self.last_key += 1;
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, self.last_key))?;
        let connection = Connection { stream, started, is_sent: false, received: Vec::new() };
        self.open.insert(self.last_key, connection);
        Ok(())
    }

    fn serve(&mut self, key: u64) {
        let Some(connection) = self.open.get_mut(&key) else { return };
        let outcome = if connection.is_sent { connection.receive() } else { connection.send(&self.request) };
        match outcome {
            None if connection.is_sent => {
                // Cannot fail for a registered socket; if it did, the request would run into its timeout.
                let _ = self.epoll.modify(&connection.stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, key));
            }
            None => {}
            Some(outcome) => {
                let started = connection.started;
                self.open.remove(&key);
                self.finish(started, outcome);
            }
        }
    }

    fn expire(&mut self) {
        let now = self.ledger.now();
        while let Some(oldest) = self.open.first_entry() {
            let started = oldest.get().started;
            if now.saturating_sub(started) < ANSWER_TIMEOUT {
                break;
            }
            oldest.remove();
            self.finish(started, Err(Loss::Timeout));
        }
    }

    fn finish(&self, started: Moment, outcome: Result<(), Loss>) {
        self.ledger.record(Answer { source: Source::Probe, started, finished: self.ledger.now(), outcome });
    }
}

impl Connection {
    /// The socket is writable: connected, or refused. `Some` is the end.
    fn send(&mut self, request: &[u8]) -> Option<Result<(), Loss>> {
        if !matches!(self.stream.take_error(), Ok(None)) {
            return Some(Err(Loss::Connect));
        }
        // An empty send buffer takes a request of a hundred bytes whole.
        match self.stream.write(request) {
            Ok(count) if count == request.len() => {
                self.is_sent = true;
                None
            }
            _ => Some(Err(Loss::Cut)),
        }
    }

    fn receive(&mut self) -> Option<Result<(), Loss>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Some(Err(Loss::Cut)),
            Ok(count) => {
                self.received.extend_from_slice(bytes.get(..count).unwrap_or_default());
                match judge(&self.received) {
                    answer::Answer::Incomplete => None,
                    answer::Answer::Page { .. } => Some(Ok(())),
                    answer::Answer::Wrong(loss) => Some(Err(loss)),
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(_) => Some(Err(Loss::Cut)),
        }
    }
}
