//! A client with a timetable: every request is due at its moment and goes on whichever connection is free. Its time
//! counts from when it was due, so that a proxy that stands still does not hide the requests it kept from being sent.

use crate::gauge::pin;
use crate::origin::content_length;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The first requests open connections and are not counted.
const SETTLING: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) body: usize,
    pub(crate) connections: usize,
    pub(crate) per_second: f64,
    pub(crate) seconds: u64,
}

/// Microseconds from due to answered, sorted. Runs on CPU 0.
pub(crate) fn run(plan: Plan) -> Vec<u64> {
    let client = std::thread::spawn(move || {
        pin(0);
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        Client::new(plan).run()
    });
    let mut times = client.join().unwrap();
    times.sort_unstable();
    times
}

/// The value below which `share` of the sorted `times` are.
pub(crate) fn quantile(times: &[u64], share: f64) -> f64 {
    times.get((times.len().saturating_sub(1) as f64 * share) as usize).map_or(f64::NAN, |t| *t as f64)
}

struct Connection {
    stream: TcpStream,
    due: Instant,
    head: Vec<u8>,
    /// Of the body, once the head is there.
    missing: Option<u64>,
}

struct Client {
    plan: Plan,
    request: Vec<u8>,
    epoll: i32,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    buffer: Vec<u8>,
    times: Vec<u64>,
    counted_from: Instant,
}

impl Client {
    fn new(plan: Plan) -> Client {
        let epoll = unsafe { libc::epoll_create1(0) };
        let connection = |index: usize| {
            let stream = TcpStream::connect(plan.address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), &mut event) };
            Connection { stream, due: Instant::now(), head: Vec::new(), missing: None }
        };
        Client {
            plan,
            request: format!("GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", plan.body).into_bytes(),
            epoll,
            connections: (0..plan.connections).map(connection).collect(),
            idle: (0..plan.connections).collect(),
            buffer: vec![0; 16 * 1024],
            times: Vec::new(),
            counted_from: Instant::now(),
        }
    }

    fn run(mut self) -> Vec<u64> {
        let start = Instant::now();
        self.counted_from = start + SETTLING;
        let end = self.counted_from + Duration::from_secs(self.plan.seconds);
        let per_second = self.plan.per_second;
        let due = |sent: u64| start + Duration::from_secs_f64(sent as f64 / per_second);
        let mut sent = 0_u64;
        let mut next = start;
        while next < end || self.idle.len() < self.connections.len() {
            assert!(Instant::now() < end + Duration::from_secs(20), "{} answers are missing", self.plan.address);
            while next < end && next <= Instant::now() {
                let Some(free) = self.idle.pop() else { break };
                self.connections[free].due = next;
                self.connections[free].stream.write_all(&self.request).unwrap();
                sent += 1;
                next = due(sent);
            }
            let pause = match self.idle.is_empty() || next >= end {
                true => Duration::from_millis(100),
                false => next.saturating_duration_since(Instant::now()),
            };
            self.receive(pause);
        }
        unsafe { libc::close(self.epoll) };
        self.times
    }

    /// Takes what has arrived, after waiting for it for `pause` at most. ppoll(2) because epoll counts milliseconds; not for
    /// pauses that are hardly longer than the call, the processor is the origin's too.
    fn receive(&mut self, pause: Duration) {
        let mut watched = libc::pollfd { fd: self.epoll, events: libc::POLLIN, revents: 0 };
        let pause = libc::timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let ready = unsafe {
            if pause.tv_nsec > 10_000 {
                libc::ppoll(&raw mut watched, 1, &raw const pause, std::ptr::null());
            }
            libc::epoll_wait(self.epoll, events.as_mut_ptr(), 64, 0)
        };
        for event in events.iter().take(ready.max(0) as usize) {
            let index = event.u64 as usize;
            if self.connections[index].answered(&mut self.buffer) {
                let due = self.connections[index].due;
                if due >= self.counted_from {
                    self.times.push(due.elapsed().as_micros() as u64);
                }
                self.idle.push(index);
            }
        }
    }
}

impl Connection {
    /// Reads what is there; true with the last byte of an answer.
    fn answered(&mut self, buffer: &mut [u8]) -> bool {
        let got = match self.stream.read(buffer) {
            Ok(0) => panic!("the proxy closed a connection"),
            Ok(n) => &buffer[..n],
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            Err(e) => panic!("the proxy reset a connection: {e}"),
        };
        let left = match self.missing {
            Some(missing) => missing.saturating_sub(got.len() as u64),
            None => {
                self.head.extend_from_slice(got);
                let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4) else {
                    return false;
                };
                assert!(self.head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.head[..end]));
                let body = content_length(&self.head[..end]).expect("a length");
                body.saturating_sub((self.head.len() - end) as u64)
            }
        };
        self.missing = Some(left);
        if left == 0 {
            self.missing = None;
            self.head.clear();
        }
        left == 0
    }
}
