//! The local control socket: HTTP/1.1 over a unix socket of mode 0600, served inside the main thread's poll loop.
//!
//! One request a connection, then close: `curl --unix-socket` and `lyre status` need no more. Nothing here blocks;
//! connections, sizes and times are bounded, and whoever can open the socket is root or our own user.

use crate::serve::parent::BanChange;
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lyre_vrrp::params::Time;

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 16;
/// Head and body together; no request has a body that matters.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 32;
/// Of a refused request.
const DISCARDED_MAX: usize = 64 << 10;
/// Subscribers to events among the connections; the others stay free for orders.
const SUBSCRIBERS_MAX: usize = 8;
/// Events that wait for a slow subscriber; then it is dropped.
const BACKLOG_BYTES_MAX: usize = 256 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For a request to arrive, and again for its answer to leave.
const IO_TIME: Duration = Duration::from_secs(5);

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Status,
    Metrics,
    Config,
    Events,
    Failover,
    Resume,
    Reload,
    Drain,
    Undrain,
    Bans,
    ChangeBan(BanChange),
}

/// An answer, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

/// Names a connection that waits for its answer; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

pub struct Admin {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our socket file, so that a successor's is not removed at exit.
    file: Option<(u64, u64)>,
    connections: Vec<Connection>,
    next_ticket: u64,
    /// After a failed accept (out of descriptors) trying at once would only spin.
    accepts_again_at: Option<Time>,
}

struct Connection {
    ticket: Ticket,
    stream: UnixStream,
    phase: Phase,
    deadline: Option<Time>,
}

enum Phase {
    Reading(Vec<u8>),
    /// The owner works on it and bounds the time.
    Waiting,
    Writing {
        bytes: Vec<u8>,
        sent: usize,
    },
    /// Gets events until it leaves.
    Subscribed(Vec<u8>),
    Closed,
}

#[derive(Debug)]
pub enum AdminError {
    /// Another process answers on the socket.
    InUse(PathBuf),
    /// Something that is not a socket has its name.
    NotASocket(PathBuf),
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

impl Admin {
    /// Makes the directory (0755) and the socket (0600). A socket file that nobody answers on is replaced. Call before
    /// other threads make files: the file mode comes from the process' umask.
    pub fn open(path: &Path) -> Result<Admin, AdminError> {
        let io = |error| AdminError::Io { path: path.to_owned(), error };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(io)?;
        }
        remove_stale(path)?;
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(mask);
        let listener = listener.map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        let file = fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()));
        Ok(Admin {
            listener,
            path: path.to_owned(),
            file,
            connections: Vec::new(),
            next_ticket: 0,
            accepts_again_at: None,
        })
    }

    /// What to poll for, in the order [`Admin::serve`] does not care about.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = (self.listener.as_fd(), PollFlags::POLLIN);
        let accepts = self.connections.len() < CONNECTIONS_MAX && self.accepts_again_at.is_none();
        let connections = self.connections.iter().filter_map(|connection| {
            let events = match &connection.phase {
                Phase::Reading(_) => PollFlags::POLLIN,
                Phase::Writing { .. } => PollFlags::POLLOUT,
                // It sends nothing more, so readable means gone.
                Phase::Subscribed(backlog) if backlog.is_empty() => PollFlags::POLLIN,
                Phase::Subscribed(_) => PollFlags::POLLIN | PollFlags::POLLOUT,
                // A client that left would be readable all the time; the answer finds out.
                Phase::Waiting | Phase::Closed => return None,
            };
            Some((connection.stream.as_fd(), events))
        });
        accepts.then_some(listener).into_iter().chain(connections)
    }

    /// The next time [`Admin::serve`] has something to give up.
    pub fn deadline(&self) -> Option<Time> {
        let deadlines = self.connections.iter().filter_map(|connection| connection.deadline);
        deadlines.chain(self.accepts_again_at).min()
    }

    /// Moves every connection as far as it goes without blocking. Answers new requests for the owner.
    pub fn serve(&mut self, now: Time) -> Vec<(Ticket, Request)> {
        self.accept(now);
        let mut requests = Vec::new();
        for connection in &mut self.connections {
            if connection.deadline.is_some_and(|deadline| now >= deadline) {
                connection.phase = Phase::Closed;
            }
            if let Some(request) = connection.read(now) {
                requests.push((connection.ticket, request));
            }
            connection.notice_end();
            connection.write();
        }
        self.connections.retain(|connection| !matches!(connection.phase, Phase::Closed));
        requests
    }

    /// Answers a request; a client that left meanwhile is no error.
    pub fn answer(&mut self, now: Time, ticket: Ticket, response: &Response) {
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.ticket == ticket) {
            connection.answer(now, response);
            connection.write();
        }
    }

    /// Makes an asker a subscriber whose first line is `first`; refuses when there are enough.
    pub fn subscribe(&mut self, now: Time, ticket: Ticket, first: &str) {
        let subscribers = self.connections.iter().filter(|known| matches!(known.phase, Phase::Subscribed(_))).count();
        if subscribers >= SUBSCRIBERS_MAX {
            return self.answer(now, ticket, &Response::error(503, "there are too many subscribers"));
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nCache-Control: no-store\r\n\
                    Connection: close\r\n\r\n";
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.ticket == ticket) {
            connection.phase = Phase::Subscribed(format!("{head}{first}\n").into_bytes());
            connection.deadline = None;
            connection.write();
        }
    }

    pub fn has_subscribers(&self) -> bool {
        self.connections.iter().any(|connection| matches!(connection.phase, Phase::Subscribed(_)))
    }

    /// One line for every subscriber. One that has too much unread gets `last` instead, and is dropped; how many were.
    pub fn publish(&mut self, now: Time, line: &str, last: &str) -> u64 {
        let mut dropped = 0;
        for connection in &mut self.connections {
            let Phase::Subscribed(backlog) = &mut connection.phase else { continue };
            if backlog.len() + line.len() < BACKLOG_BYTES_MAX {
                backlog.extend_from_slice(line.as_bytes());
                backlog.push(b'\n');
            } else {
                dropped += 1;
                backlog.extend_from_slice(last.as_bytes());
                backlog.push(b'\n');
                connection.phase = Phase::Writing { bytes: std::mem::take(backlog), sent: 0 };
                connection.deadline = Some(now.plus(IO_TIME));
            }
            connection.write();
        }
        dropped
    }

    fn accept(&mut self, now: Time) {
        if self.accepts_again_at.is_some_and(|at| now < at) {
            return;
        }
        self.accepts_again_at = None;
        while self.connections.len() < CONNECTIONS_MAX {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.accepts_again_at = Some(now.plus(ACCEPT_PAUSE));
                    return;
                }
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.next_ticket += 1;
            let ticket = Ticket(self.next_ticket);
            let phase = Phase::Reading(Vec::new());
            self.connections.push(Connection { ticket, stream, phase, deadline: Some(now.plus(IO_TIME)) });
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        let current = fs::symlink_metadata(&self.path).ok().map(|data| (data.dev(), data.ino()));
        if current.is_some() && current == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Connection {
    fn read(&mut self, now: Time) -> Option<Request> {
        let Phase::Reading(bytes) = &mut self.phase else { return None };
        let mut chunk = [0; 2048];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    self.phase = Phase::Closed;
                    return None;
                }
                Ok(length) => bytes.extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.phase = Phase::Closed;
                    return None;
                }
            }
            match parse(bytes) {
                Parsed::Incomplete => {}
                Parsed::Request(request) => {
                    self.phase = Phase::Waiting;
                    self.deadline = None;
                    return Some(request);
                }
                Parsed::Refused(status, message) => {
                    // Closing with unread bytes would destroy the answer on its way.
                    for _ in 0..DISCARDED_MAX / chunk.len() {
                        if !matches!(self.stream.read(&mut chunk), Ok(1..)) {
                            break;
                        }
                    }
                    self.answer(now, &Response::error(status, message));
                    return None;
                }
            }
        }
    }

    fn answer(&mut self, now: Time, response: &Response) {
        let Response { status, content_type, body } = response;
        let reason = reason(*status);
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.phase = Phase::Writing { bytes: (head + body).into_bytes(), sent: 0 };
        self.deadline = Some(now.plus(IO_TIME));
    }

    /// A subscriber that left, or that says something, which it has no business to.
    fn notice_end(&mut self) {
        if !matches!(self.phase, Phase::Subscribed(_)) {
            return;
        }
        let read = self.stream.read(&mut [0; 64]);
        let is_there =
            read.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted));
        if !is_there {
            self.phase = Phase::Closed;
        }
    }

    fn write_events(&mut self) {
        let Phase::Subscribed(backlog) = &mut self.phase else { return };
        let mut sent = 0;
        while let Some(rest) = backlog.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.phase = Phase::Closed;
                    return;
                }
            }
        }
        backlog.drain(..sent);
    }

    fn write(&mut self) {
        self.write_events();
        let Phase::Writing { bytes, sent } = &mut self.phase else { return };
        while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => *sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.phase = Phase::Closed;
    }
}

impl Response {
    pub fn json(status: u16, value: &impl serde::Serialize) -> Response {
        // Only maps with non-text keys fail, and there are none in `control::status`.
        let mut body = serde_json::to_string(value).unwrap_or_default();
        body.push('\n');
        Response { status, content_type: "application/json", body }
    }

    pub fn error(status: u16, message: &str) -> Response {
        let answer = crate::control::status::Answer { message: message.to_owned(), errors: Vec::new() };
        Response::json(status, &answer)
    }

    pub fn metrics(body: String) -> Response {
        Response { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body }
    }
}

enum Parsed {
    Incomplete,
    Request(Request),
    Refused(u16, &'static str),
}

/// One whole request, its body (if any) awaited and ignored.
fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let head_length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => return Parsed::Incomplete,
        Ok(httparse::Status::Partial) => return Parsed::Refused(431, "request too large"),
        Err(_) => return Parsed::Refused(400, "not an HTTP/1.1 request"),
    };
    let value_of = |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if value_of("transfer-encoding").is_some() {
        return Parsed::Refused(411, "send a Content-Length");
    }
    let body_length = match value_of("content-length").map(|header| std::str::from_utf8(header.value)) {
        None => 0,
        Some(text) => match text.ok().and_then(|text| text.parse::<usize>().ok()) {
            Some(length) => length,
            None => return Parsed::Refused(400, "malformed Content-Length"),
        },
    };
    if body_length > REQUEST_BYTES_MAX {
        return Parsed::Refused(413, "request too large");
    }
    if bytes.len() < head_length + body_length {
        return Parsed::Incomplete;
    }
    let method = head.method.unwrap_or_default();
    let path = head.path.unwrap_or_default();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (expected, request) = match path {
        "/v1/status" => ("GET", Request::Status),
        "/v1/config" => ("GET", Request::Config),
        "/v1/events" => ("GET", Request::Events),
        "/metrics" => ("GET", Request::Metrics),
        "/v1/failover" => ("POST", Request::Failover),
        "/v1/resume" => ("POST", Request::Resume),
        "/v1/reload" => ("POST", Request::Reload),
        "/v1/drain" => ("POST", Request::Drain),
        "/v1/undrain" => ("POST", Request::Undrain),
        "/v1/bans" => ("GET", Request::Bans),
        "/v1/ban" | "/v1/unban" => match ban_change(path, query) {
            Some(change) => ("POST", Request::ChangeBan(change)),
            None => {
                return Parsed::Refused(
                    400,
                    "name the client: ?address=192.0.2.7, and for_ms=MILLISECONDS if you like",
                );
            }
        },
        _ => {
            return Parsed::Refused(
                404,
                "there is GET /v1/status, GET /v1/config, GET /v1/events, GET /v1/bans, GET /metrics and POST /v1/{failover,resume,reload,drain,undrain,ban,unban}",
            );
        }
    };
    match (method == expected, expected) {
        (true, _) => Parsed::Request(request),
        (false, "GET") => Parsed::Refused(405, "use GET"),
        (false, _) => Parsed::Refused(405, "use POST"),
    }
}

/// From `address=…` and `for_ms=…`.
fn ban_change(path: &str, query: &str) -> Option<BanChange> {
    let (mut address, mut length_ms) = (None, None);
    for pair in query.split('&') {
        match pair.split_once('=')? {
            ("address", text) => address = Some(text.replace("%3A", ":").parse().ok()?),
            ("for_ms", text) => length_ms = Some(text.parse().ok()?),
            _ => return None,
        }
    }
    let address = address?;
    match path {
        "/v1/ban" => Some(BanChange::Ban { address, length_ms }),
        _ => length_ms.is_none().then_some(BanChange::Unban { address }),
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

fn remove_stale(path: &Path) -> Result<(), AdminError> {
    let io = |error| AdminError::Io { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(data) if !data.file_type().is_socket() => return Err(AdminError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) => fs::remove_file(path).map_err(io),
        Err(error) => Err(io(error)),
        Ok(_) => Err(AdminError::InUse(path.to_owned())),
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::InUse(path) => {
                write!(f, "another lyre runs already: it answers on its admin socket {}", path.display())
            }
            AdminError::NotASocket(path) => {
                write!(f, "admin.socket: {} exists and is not a socket", path.display())
            }
            AdminError::Io { path, error } => write!(f, "admin.socket: {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AdminError::Io { error, .. } => Some(error),
            AdminError::InUse(_) | AdminError::NotASocket(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
