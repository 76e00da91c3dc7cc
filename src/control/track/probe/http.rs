//! A GET, and the status it is answered with. HTTP or HTTPS to an address; a connection a check.

use super::tls::{Client, Session};
use super::{Finding, Pace, Probe};
use crate::config::settings::track::HttpCheck;
use lyre_vrrp::params::Time;
use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The status line is at the very beginning.
const ANSWER_BYTES_MAX: usize = 4096;

pub struct Http {
    check: HttpCheck,
    pace: Pace,
    timeout: Duration,
    /// Of https, as long as it can be had.
    client: Option<Result<Client, String>>,
    exchange: Option<Exchange>,
}

struct Exchange {
    wire: Wire,
    deadline: Time,
    phase: Phase,
}

struct Wire {
    socket: Socket,
    tls: Option<Session>,
}

enum Phase {
    /// The connection is not complete, or not all of the request is sent.
    Sending {
        sent: usize,
        is_connected: bool,
    },
    Reading(Vec<u8>),
}

impl Http {
    pub fn new(check: HttpCheck, pace: Pace, timeout: Duration) -> Http {
        let client = check.tls.as_ref().map(Client::new);
        Http { check, pace, timeout, client, exchange: None }
    }

    fn begin(&self, now: Time) -> io::Result<Exchange> {
        let tls = match &self.client {
            None => None,
            Some(Ok(client)) => Some(client.session().map_err(io::Error::other)?),
            Some(Err(missing)) => return Err(io::Error::other(missing.clone())),
        };
        let socket = Socket::new(Domain::for_address(self.check.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let is_connected = match socket.connect(&self.check.address.into()) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => false,
            Err(error) => return Err(error),
        };
        let phase = Phase::Sending { sent: 0, is_connected };
        Ok(Exchange { wire: Wire { socket, tls }, deadline: now.plus(self.timeout), phase })
    }

    fn request(&self) -> String {
        let HttpCheck { path, host, .. } = &self.check;
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lyre-track\r\nConnection: close\r\n\r\n")
    }

    fn judge(&self, status: Option<u16>) -> Option<Finding> {
        match status {
            Some(status) => Finding::of(self.check.status.contains(&status), format!("status {status}")),
            None => Finding::bad("the answer is no HTTP"),
        }
    }
}

impl Exchange {
    /// The status once it is there; `None` inside: no HTTP.
    fn go_on(&mut self, request: &[u8]) -> io::Result<Option<Option<u16>>> {
        if let Phase::Sending { sent, is_connected } = &mut self.phase {
            if !*is_connected {
                if let Some(error) = self.wire.socket.take_error()? {
                    return Err(error);
                }
                // Still under way as long as there is no peer.
                if self.wire.socket.peer_addr().is_err() {
                    return Ok(None);
                }
                *is_connected = true;
            }
            while let Some(rest) = request.get(*sent..).filter(|rest| !rest.is_empty()) {
                *sent += self.wire.write(rest)?;
            }
            self.phase = Phase::Reading(Vec::new());
        }
        let Phase::Reading(answer) = &mut self.phase else { return Ok(None) };
        let mut chunk = [0; 512];
        loop {
            let length = self.wire.read(&mut chunk)?;
            answer.extend_from_slice(chunk.get(..length).unwrap_or_default());
            if answer.contains(&b'\n') || length == 0 || answer.len() >= ANSWER_BYTES_MAX {
                return Ok(Some(status(answer)));
            }
        }
    }
}

impl Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.write(&mut self.socket, bytes),
            None => self.socket.write(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read(&mut self.socket, buffer),
            None => self.socket.read(buffer),
        }
    }
}

impl Probe for Http {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        into.extend(self.exchange.iter().map(|exchange| {
            let events = match (&exchange.phase, &exchange.wire.tls) {
                (Phase::Sending { is_connected: false, .. }, _) | (Phase::Sending { .. }, None) => PollFlags::POLLOUT,
                (_, Some(tls)) if tls.wants_write() => PollFlags::POLLOUT,
                (Phase::Sending { .. }, Some(_)) | (Phase::Reading(_), _) => PollFlags::POLLIN,
            };
            PollFd::new(exchange.wire.socket.as_fd(), events)
        }));
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.exchange.as_ref().map_or(self.pace.next(), |exchange| exchange.deadline))
    }

    fn advance(&mut self, now: Time) -> Option<Finding> {
        if self.exchange.is_none() {
            if !self.pace.is_due(now) {
                return None;
            }
            match self.begin(now) {
                Ok(exchange) => self.exchange = Some(exchange),
                Err(error) => return Finding::bad(error.to_string()),
            }
        }
        let request = self.request();
        let exchange = self.exchange.as_mut()?;
        let finding = match exchange.go_on(request.as_bytes()) {
            Ok(Some(status)) => self.judge(status),
            Err(error) if !is_patience(&error) => Finding::bad(error.to_string()),
            Ok(None) | Err(_) if now >= exchange.deadline => {
                Finding::bad(format!("no answer within {:?}", self.timeout))
            }
            Ok(None) | Err(_) => return None,
        };
        self.exchange = None;
        finding
    }
}

fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Of `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\n').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.trim().split(' ').next()?;
    (version.starts_with("HTTP/1.") && code.len() == 3).then(|| code.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_line_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 500\r\n"), Some(500));
        for other in
            [&b"SSH-2.0-x\r\n"[..], b"HTTP/1.1\r\n", b"HTTP/1.1 2000 x\r\n", b"", b"HTTP/1.1 abc\r\n", b"\xff\n"]
        {
            assert_eq!(status(other), None);
        }
    }
}
