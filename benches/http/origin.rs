//! A minimal origin: one epoll loop, fixed answers of `/N` bytes, `/status.php`, bodies that are read and forgotten, and
//! `/ws`, which becomes a silent WebSocket. Heads fit one read. It only has to be faster than any proxy.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// The key every client of this benchmark sends; the answer to it is a constant.
pub(crate) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCHED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const STATE: &str = r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2","versionstring":"32.0.3","edition":"","productname":"Nextcloud","extendedSupport":false}"#;

struct Answers {
    bodies: BTreeMap<String, &'static [u8]>,
    state: &'static [u8],
}

struct Connection {
    stream: TcpStream,
    /// Of the request's body, still to come.
    body: u64,
    answer: &'static [u8],
    sent: usize,
}

pub(crate) fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    unsafe {
        libc::listen(listener.as_raw_fd(), 4096);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let epoll = unsafe { libc::epoll_create1(0) };
    let watch = |fd: i32, events: i32| {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
    };
    watch(listener.as_raw_fd(), libc::EPOLLIN);
    let answers = Answers::new();
    let mut connections: BTreeMap<i32, Connection> = BTreeMap::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    loop {
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 512, -1) };
        for event in events.iter().take(ready.max(0) as usize) {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.set_nodelay(true);
                    let fd = stream.as_raw_fd();
                    watch(fd, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
                    connections.insert(fd, Connection { stream, body: 0, answer: &[], sent: 0 });
                }
            } else if let Some(connection) = connections.get_mut(&fd)
                && !connection.go_on(&answers, &mut buffer)
            {
                connections.remove(&fd);
            }
        }
    }
}

impl Answers {
    fn new() -> Answers {
        let answer = |kind: &str, body: &[u8]| -> &'static [u8] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            Vec::leak([head.as_bytes(), body].concat())
        };
        let sized = |size: usize| (format!("/{size}"), answer("application/octet-stream", &vec![b'x'; size]));
        Answers {
            bodies: [100, 10_240, 1 << 20, 16 << 20].map(sized).into(),
            state: answer("application/json", STATE.as_bytes()),
        }
    }

    fn to(&self, head: &[u8]) -> &'static [u8] {
        let target = head.split(|b| *b == b' ').nth(1).and_then(|t| std::str::from_utf8(t).ok()).unwrap_or_default();
        if target == "/ws" {
            return SWITCHED;
        }
        self.bodies.get(target).copied().unwrap_or(self.state)
    }
}

impl Connection {
    /// Reads and writes what is possible; false when the connection is over.
    fn go_on(&mut self, answers: &Answers, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => self.take(&buffer[..n], answers),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        // The answer waits for the whole body.
        while self.body == 0 && self.sent < self.answer.len() {
            match self.stream.write(&self.answer[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8], answers: &Answers) {
        if self.body > 0 {
            self.body = self.body.saturating_sub(bytes.len() as u64);
            return;
        }
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let (head, rest) = bytes.split_at(end);
        self.answer = answers.to(head);
        self.sent = 0;
        // Only uploads have a length, and they are few: the others are spared the search.
        if !head.starts_with(b"GET ") {
            self.body = content_length(head).unwrap_or(0).saturating_sub(rest.len() as u64);
        }
    }
}

/// The length a head announces.
pub(crate) fn content_length(head: &[u8]) -> Option<u64> {
    std::str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}
