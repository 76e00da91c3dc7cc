//! Asks the lyre that runs on this machine: one HTTP/1.1 request a connection over its admin socket.

use super::{NOT_RUNNING, output};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use std::fmt;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Status of a large node is some 100 KiB, metrics a few MiB at most.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

pub(super) struct Client {
    socket: PathBuf,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody listens there.
    NotRunning {
        socket: PathBuf,
    },
    Forbidden {
        socket: PathBuf,
    },
    /// It ended before it answered.
    Gone {
        socket: PathBuf,
    },
    /// It listens, but does not answer in time.
    Silent {
        socket: PathBuf,
        waited: Duration,
    },
    Io {
        socket: PathBuf,
        error: io::Error,
    },
    /// Whatever listens there does not speak HTTP.
    Garbled {
        socket: PathBuf,
    },
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn get(&self, path: &str, wait: Duration) -> Result<Answer, ClientError> {
        self.ask("GET", path, wait)
    }

    pub(super) fn post(&self, path: &str, wait: Duration) -> Result<Answer, ClientError> {
        self.ask("POST", path, wait)
    }

    /// Hands every line of an endless answer to `take` until that says enough.
    pub(super) fn lines(&self, path: &str, mut take: impl FnMut(&str) -> bool) -> Result<(), ClientError> {
        let patience = Duration::from_secs(10);
        let request = format!("GET {path} HTTP/1.1\r\nHost: lyre\r\n\r\n");
        let stream = UnixStream::connect(&self.socket)
            .and_then(|mut stream| {
                check_owner(&stream)?;
                stream.write_all(request.as_bytes())?;
                Ok(stream)
            })
            .map_err(|error| self.explain(error, patience))?;
        let mut lines = io::BufReader::new(stream).lines();
        let is_ok = matches!(lines.next(), Some(Ok(status)) if status.starts_with("HTTP/1.1 200 "));
        let body = lines.by_ref().skip_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).skip(1);
        for line in body {
            let line = line.map_err(|error| self.explain(error, patience))?;
            if !is_ok {
                return Err(ClientError::Io { socket: self.socket.clone(), error: io::Error::other(line) });
            }
            if !take(&line) {
                return Ok(());
            }
        }
        Err(ClientError::Gone { socket: self.socket.clone() })
    }

    fn ask(&self, method: &str, path: &str, wait: Duration) -> Result<Answer, ClientError> {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: lyre\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut bytes = Vec::new();
        UnixStream::connect(&self.socket)
            .and_then(|mut stream| {
                check_owner(&stream)?;
                stream.set_read_timeout(Some(wait))?;
                stream.set_write_timeout(Some(wait))?;
                stream.write_all(request.as_bytes())?;
                stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)
            })
            .map_err(|error| self.explain(error, wait))?;
        if bytes.is_empty() {
            return Err(ClientError::Gone { socket: self.socket.clone() });
        }
        parse(&bytes).ok_or_else(|| ClientError::Garbled { socket: self.socket.clone() })
    }

    fn explain(&self, error: io::Error, waited: Duration) -> ClientError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Gone { socket },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { socket },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent { socket, waited },
            _ => ClientError::Io { socket, error },
        }
    }
}

impl ClientError {
    /// Tells it and answers the exit status that says so.
    pub(super) fn fail(&self) -> ExitCode {
        let code = output::fail(self);
        if matches!(self, ClientError::NotRunning { .. }) { ExitCode::from(NOT_RUNNING) } else { code }
    }
}

/// Only root or ourselves may answer: a default path may be in a directory where anybody can make files.
fn check_owner(stream: &UnixStream) -> io::Result<()> {
    let peer = getsockopt(stream, PeerCredentials)?;
    let own = nix::unistd::geteuid().as_raw();
    if own == 0 || peer.uid() == 0 || peer.uid() == own {
        return Ok(());
    }
    Err(io::Error::other(format!("it belongs to uid {}, who is neither root nor you", peer.uid())))
}

/// Status and body; the connection's end is the body's end, and a stated length must have come.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(head_length)) = head.parse(bytes) else { return None };
    let body = bytes.get(head_length..)?;
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        return None;
    }
    Some(Answer { status: head.code?, body: String::from_utf8_lossy(body).into_owned() })
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NotRunning { socket } => write!(
                f,
                "no lyre runs here: {} does not answer. Start it with systemctl start lyre or lyre run; if it uses \
                 another socket, name it with --socket or --config",
                socket.display()
            ),
            ClientError::Forbidden { socket } => {
                write!(f, "{} is for its owner only. Ask as root, or as the user that lyre runs as", socket.display())
            }
            ClientError::Gone { socket } => write!(f, "lyre ended before it answered on {}", socket.display()),
            ClientError::Silent { socket, waited } => {
                write!(f, "lyre did not answer on {} within {} s", socket.display(), waited.as_secs())
            }
            ClientError::Io { socket, .. } => write!(f, "cannot talk to {}", socket.display()),
            ClientError::Garbled { socket } => write!(f, "{} did not give a whole HTTP answer", socket.display()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientError::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_no_answer() {
        let answer = parse(b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\n\r\nno\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (409, "no\n"));
        for cut in
            [&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nno"[..], b"HTTP/1.1 200 OK\r\n", b"", b"SSH-2.0\r\n\r\n"]
        {
            assert!(parse(cut).is_none());
        }
    }
}
