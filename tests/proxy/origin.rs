//! A scripted origin: one thread a connection, each runs the test's script over raw bytes.

use crate::edge::{PATIENCE, field, read};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<Request>>,
    is_over: AtomicBool,
}

/// A request as the origin got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub head: String,
    /// Without framing.
    pub body: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> &str {
        self.head.split("\r\n").next().unwrap()
    }

    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// An accepted connection in the hands of a script.
pub struct Peer {
    pub stream: TcpStream,
    /// From 0, in the order of accepts, health probes left out.
    pub number: usize,
    buffer: Vec<u8>,
    seen: Arc<Seen>,
}

pub const UP: &str = r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2"}"#;

impl Origin {
    /// `script` gets every connection that is not a health probe; probes hear that all is well.
    pub fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Origin {
        Origin::with_status(|| (200, UP.to_owned()), script)
    }

    /// Answers every request with `reply` on kept connections.
    pub fn answering(reply: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::start(move |mut peer| {
            while let Some(request) = peer.request() {
                peer.send(reply(&request));
            }
        })
    }

    pub fn with_status(
        status: impl Fn() -> (u16, String) + Send + Sync + 'static,
        script: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Origin {
        Origin::on(TcpListener::bind("127.0.0.1:0").unwrap(), status, script)
    }

    /// As `with_status`, at an address of the test's choice.
    pub fn on(
        listener: TcpListener,
        status: impl Fn() -> (u16, String) + Send + Sync + 'static,
        script: impl Fn(Peer) + Send + Sync + 'static,
    ) -> Origin {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (script, status) = (Arc::new(script), Arc::new(status));
        let all = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if all.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (seen, script, status) = (all.clone(), script.clone(), status.clone());
                std::thread::spawn(move || serve(stream, seen, &*script, &*status));
            }
        });
        Origin { address, seen }
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Numbers begin anew.
    pub fn forget_connections(&self) {
        self.seen.connections.store(0, Ordering::SeqCst);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// `[nextcloud]` for these origins, with more settings behind it.
    pub fn config(origins: &[&Origin], more: &str) -> String {
        let servers: Vec<String> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
        format!("[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [{}]\n{more}", servers.join(", "))
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
        // Wakes the accept loop.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, seen: Arc<Seen>, script: &dyn Fn(Peer), status: &dyn Fn() -> (u16, String)) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    let mut peer = Peer { stream, number: 0, buffer: Vec::new(), seen };
    let Some(head) = peer.peek_head() else { return };
    if head.contains("User-Agent: Lyre-check") {
        let (status, body) = status();
        peer.send(format!("HTTP/1.1 {status} S\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()));
        return;
    }
    peer.number = peer.seen.connections.fetch_add(1, Ordering::SeqCst);
    script(peer);
}

impl Peer {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The edge may have hung up; the test will see it in what it asserts.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    fn more(&mut self) -> usize {
        let mut chunk = vec![0; 64 * 1024];
        let count = read(&mut self.stream, &mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count
    }

    fn head_end(&self) -> Option<usize> {
        self.buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
    }

    fn peek_head(&mut self) -> Option<String> {
        while self.head_end().is_none() {
            if self.more() == 0 {
                return None;
            }
        }
        Some(String::from_utf8_lossy(&self.buffer[..self.head_end()?]).into_owned())
    }

    /// The next head, which stays to be read.
    pub fn peek(&mut self) -> String {
        self.peek_head().unwrap_or_default()
    }

    /// Connections so far, of all peers.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// The next head alone, recorded without a body.
    pub fn head(&mut self) -> Option<Request> {
        let head = self.peek_head()?;
        self.buffer.drain(..head.len());
        let request = Request { head, body: Vec::new() };
        self.seen.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The next request with its whole body.
    pub fn request(&mut self) -> Option<Request> {
        let head = self.peek_head()?;
        self.buffer.drain(..head.len());
        let mut body = Vec::new();
        if field(&head, "transfer-encoding").is_some() {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).unwrap();
                let chunk = self.exactly(size + 2)?;
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = field(&head, "content-length") {
            body = self.exactly(length.parse().unwrap())?;
        }
        let request = Request { head, body };
        self.seen.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// `count` raw bytes, or `None` if the connection ends before.
    pub fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if self.more() == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Received bytes that nothing has taken yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub fn forget(&mut self) {
        self.buffer.clear();
    }

    /// Reads and forgets until the end; answers how many bytes came.
    pub fn drain(&mut self) -> u64 {
        let mut total = self.buffer.len() as u64;
        let mut chunk = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = read(&mut self.stream, &mut chunk) {
            total += count as u64;
        }
        total
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.more() == 0 {
                return None;
            }
        }
    }
}

/// A 200 with this body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

/// What a count has come to once it stopped moving. That it will not move again can only be told by watching.
pub fn settled(count: &AtomicU64) -> u64 {
    let mut last = u64::MAX;
    let deadline = Instant::now() + PATIENCE;
    while last != count.load(Ordering::Relaxed) && Instant::now() < deadline {
        last = count.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
    }
    last
}
