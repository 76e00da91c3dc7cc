//! The web servers behind the pair: just enough Nextcloud for a proxy to find its way.
//!
//! | request                                   | answer                                                            |
//! |-------------------------------------------|-------------------------------------------------------------------|
//! | `GET /status.php`                         | Nextcloud's JSON, not in maintenance                              |
//! | `GET /remote.php/dav/…?size=N[&rate=B]`   | N bytes of [`Pattern`], at most B a second                        |
//! | `PUT /remote.php/dav/…`                   | 201 and `{"length":…,"fnv1a":"…"}` of what arrived                |
//! | `GET /push/ws`, Upgrade                   | WebSocket: echoes, and says `tick` every [`TICK`]                 |
//! | any other GET                             | a small page                                                      |
//!
//! Every answer names its server in `X-Web-Server`. One process per server, so that killing it is what it is in life;
//! one thread per connection, because only the proxies' few pooled connections arrive here.

use crate::demo::pattern::{Checksum, Pattern, SLICE_MAX};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// Pause between the ticks of a WebSocket.
pub const TICK: Duration = Duration::from_millis(50);
/// The small page; clients compare.
pub const PAGE: &str = "<!doctype html><title>Nextcloud</title><p>Files, one of two servers, behind one address.</p>\n";

const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A proxy's idle connection is kept longer than any proxy keeps it, so that it is never us who close.
const IDLE: Duration = Duration::from_secs(300);
/// Connections are many, their stacks small: the deepest call is the WebSocket codec.
const STACK_BYTES: usize = 256 * 1024;

/// Serves forever on `address` under `name`.
pub fn serve(name: &str, address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let shared = Arc::new(Server { name: name.to_owned(), pattern: Pattern::new() });
    loop {
        // A connection that died in the queue, or a lack of descriptors for a moment, is no reason to stop.
        let Ok((stream, _)) = listener.accept() else { continue };
        let server = Arc::clone(&shared);
        // A client that leaves in the middle is the lab's daily bread: nothing to report.
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(server.connection(stream)))?;
    }
}

struct Server {
    name: String,
    pattern: Pattern,
}

/// A request head, reduced to what this server looks at.
struct Request {
    method: String,
    target: String,
    /// `None`: chunked.
    length: Option<u64>,
    expects_continue: bool,
    websocket_key: Option<String>,
    close: bool,
}

impl Server {
    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        let mut input = Input { stream, buffer: Vec::new() };
        while let Some(request) = input.head()? {
            if let Some(key) = &request.websocket_key {
                return self.websocket(input, key);
            }
            match (request.method.as_str(), request.target.split_once('?').unwrap_or((&request.target, ""))) {
                ("PUT", _) => self.put(&mut input, &request)?,
                ("GET", (path, query)) if path.starts_with("/remote.php/dav/") => self.file(&mut input, query)?,
                (_, (path, _)) => {
                    input.discard_body(&request)?;
                    let (kind, body) = match path {
                        "/status.php" => ("application/json", STATUS),
                        _ => ("text/html; charset=utf-8", PAGE),
                    };
                    let body = if request.method == "HEAD" { "" } else { body };
                    self.answer(&mut input, "200 OK", kind, body)?;
                }
            }
            if request.close {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, input: &mut Input, status: &str, kind: &str, body: &str) -> io::Result<()> {
        let head = self.head(status, kind, body.len() as u64);
        input.stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())
    }

    fn head(&self, status: &str, kind: &str, length: u64) -> String {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nX-Web-Server: {}\r\n\r\n",
            self.name
        )
    }

    fn file(&self, input: &mut Input, query: &str) -> io::Result<()> {
        let number = |key: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(name, _)| *name == key)?
                .1
                .parse::<u64>()
                .ok()
        };
        let size = number("size").unwrap_or(1024 * 1024);
        let rate = number("rate").filter(|&rate| rate > 0);
        // A paced file comes in pieces of about a fortieth of a second, so that silence is noticed quickly.
        let piece = rate.map_or(SLICE_MAX as u64, |rate| (rate / 40).clamp(1, SLICE_MAX as u64));
        input.stream.write_all(self.head("200 OK", "application/octet-stream", size).as_bytes())?;
        let started = Instant::now();
        let mut sent = 0;
        while sent < size {
            let length = piece.min(size - sent);
            input.stream.write_all(self.pattern.at(sent, length as usize))?;
            sent += length;
            if let Some(rate) = rate {
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                thread::sleep(due.saturating_sub(started.elapsed()));
            }
        }
        Ok(())
    }

    fn put(&self, input: &mut Input, request: &Request) -> io::Result<()> {
        if request.expects_continue {
            input.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let (mut length, mut sum) = (0_u64, Checksum::new());
        input.body(request, |bytes| {
            length += bytes.len() as u64;
            sum.update(bytes);
        })?;
        let body = format!("{{\"length\":{length},\"fnv1a\":\"{:016x}\"}}\n", sum.0);
        self.answer(input, "201 Created", "application/json", &body)
    }

    fn websocket(&self, mut input: Input, key: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\nX-Web-Server: {}\r\n\r\n",
            derive_accept_key(key.as_bytes()),
            self.name
        );
        input.stream.write_all(head.as_bytes())?;
        input.stream.set_read_timeout(Some(TICK))?;
        let mut socket = WebSocket::from_partially_read(input.stream, input.buffer, Role::Server, None);
        let mut next_tick = Instant::now();
        loop {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    socket.send(message).map_err(io::Error::other)?
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            if Instant::now() >= next_tick {
                socket.send(Message::text("tick")).map_err(io::Error::other)?;
                next_tick += TICK;
            }
        }
    }
}

const STATUS: &str = concat!(
    r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.0.0","versionstring":"32.0.0","#,
    r#""edition":"","productname":"Nextcloud","extendedSupport":false}"#
);

/// The receiving side of a connection: bytes that were read too far wait in `buffer`.
struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Input {
    /// The next request head; `None` when the client left between requests.
    fn head(&mut self) -> io::Result<Option<Request>> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Request::new(&mut headers);
            if let httparse::Status::Complete(length) = parsed.parse(&self.buffer).map_err(io::Error::other)? {
                let request = Request::from_parsed(&parsed);
                self.buffer.drain(..length);
                return Ok(Some(request));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let before = self.buffer.len();
            if self.fill()? == 0 {
                return if before == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn discard_body(&mut self, request: &Request) -> io::Result<()> {
        self.body(request, |_| ())
    }

    fn body(&mut self, request: &Request, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        match request.length {
            Some(length) => self.exactly(length, &mut take),
            None => self.chunks(&mut take),
        }
    }

    fn exactly(&mut self, length: u64, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = length;
        let buffered = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        take(self.buffer.get(..buffered).unwrap_or_default());
        self.buffer.drain(..buffered);
        left -= buffered as u64;
        let mut bytes = vec![0; if left == 0 { 0 } else { SLICE_MAX }];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let count = self.stream.read(bytes.get_mut(..want).unwrap_or_default())?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(bytes.get(..count).unwrap_or_default());
            left -= count as u64;
        }
        Ok(())
    }

    /// Chunked coding without trailers, as proxies send it.
    fn chunks(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.exactly(size, take)?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if self.buffer.len() > HEAD_BYTES_MAX || self.fill()? == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

impl Request {
    fn from_parsed(parsed: &httparse::Request<'_, '_>) -> Request {
        let header = |name: &str| {
            let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let has = |name: &str, word: &str| header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word));
        Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            length: if has("transfer-encoding", "chunked") {
                None
            } else {
                Some(header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0))
            },
            expects_continue: has("expect", "100-continue"),
            websocket_key: header("sec-websocket-key").filter(|_| has("upgrade", "websocket")).map(str::to_owned),
            close: has("connection", "close"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(request: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server { name: "web-1".to_owned(), pattern: Pattern::new() };
        let serving = thread::spawn(move || server.connection(listener.accept().unwrap().0));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        serving.join().unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn an_upload_is_answered_with_its_length_and_checksum_in_both_framings() {
        let plain = exchange(b"PUT /remote.php/dav/f HTTP/1.1\r\nContent-Length: 6\r\nConnection: close\r\n\r\nfoobar");
        let chunked = exchange(
            b"PUT /remote.php/dav/f HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nfoo\r\n3\r\nbar\r\n0\r\n\r\n",
        );
        for answer in [plain, chunked] {
            assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
            assert!(answer.contains(r#"{"length":6,"fnv1a":"85944171f73967e8"}"#), "{answer}");
        }
    }

    #[test]
    fn requests_on_one_connection_are_answered_in_order_by_a_named_server() {
        let answer = exchange(
            b"GET /status.php HTTP/1.1\r\n\r\nGET /remote.php/dav/x?size=10 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3);
        assert_eq!(answer.matches("X-Web-Server: web-1").count(), 3);
        assert!(answer.find("productname").unwrap() < answer.find("Content-Length: 10\r").unwrap());
        assert!(answer.ends_with(PAGE));
    }
}
