//! Long-lived connections: a download, an upload and a WebSocket that would run for days. Each notes when it learned
//! that it was broken and opens a new one.

use crate::demo::client::ledger::Ledger;
use crate::demo::client::tls::{self, Tls};
use crate::demo::client::{STALL_TIMEOUT, Target};
use crate::demo::pattern::Pattern;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::{Message, WebSocket};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Download,
    Upload,
    WebSocket,
}

/// Larger than anything the demo can move: a transfer never ends by itself.
const SIZE_BYTES: u64 = 1 << 40;
const RATE_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// An upload is sent in pieces this often, and so learns of a reset this fast.
const PIECE: Duration = Duration::from_millis(5);
/// Between a break and the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Download, Kind::Upload, Kind::WebSocket];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Download => "download",
            Kind::Upload => "upload",
            Kind::WebSocket => "websocket",
        }
    }
}

pub(super) fn run(target: &Target, kind: Kind, ledger: &Ledger, stop: &AtomicBool) {
    let pattern = Pattern::new();
    while !stop.load(Ordering::Relaxed) {
        let mut session = Session { target, kind, ledger, stop, is_alive: false };
        let end = match kind {
            Kind::Download => session.download(&pattern),
            Kind::Upload => session.upload(&pattern),
            Kind::WebSocket => session.websocket(),
        };
        // How it ended does not matter here: by an error, an end of stream or silence, it is now known to be broken.
        drop(end);
        if session.is_alive && !stop.load(Ordering::Relaxed) {
            ledger.broke(kind);
        }
        thread::sleep(PAUSE);
    }
}

struct Session<'a> {
    target: &'a Target,
    kind: Kind,
    ledger: &'a Ledger,
    stop: &'a AtomicBool,
    /// It carried data at least once: only such a connection can break.
    is_alive: bool,
}

impl Session<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn progress(&mut self) {
        self.is_alive = true;
        self.ledger.alive(self.kind);
    }

    fn connect(&self) -> io::Result<Tls> {
        let [v4, v6] = self.target.tls;
        // The upload goes over IPv6, so that both families have something to lose.
        let tls = tls::connect(self.target, if self.kind == Kind::Upload { v6 } else { v4 })?;
        tls.sock.set_read_timeout(Some(STALL_TIMEOUT))?;
        tls.sock.set_write_timeout(Some(STALL_TIMEOUT))?;
        Ok(tls)
    }

    fn download(&mut self, pattern: &Pattern) -> io::Result<()> {
        let mut tls = self.connect()?;
        let name = &self.target.name;
        write!(
            tls,
            "GET /remote.php/dav/files/demo/big.bin?size={SIZE_BYTES}&rate={RATE_BYTES_PER_SECOND} HTTP/1.1\r\nHost: {name}\r\n\r\n"
        )?;
        let mut offset = 0;
        let head = read_head(&mut tls)?;
        let mut body = expect_status(&head, 200)?.to_vec();
        let mut bytes = vec![0; 64 * 1024];
        while self.goes_on() {
            if !pattern.matches(offset, &body) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            offset += body.len() as u64;
            self.progress();
            let count = tls.read(&mut bytes)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body.clear();
            body.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    fn upload(&mut self, pattern: &Pattern) -> io::Result<()> {
        let mut tls = self.connect()?;
        let name = &self.target.name;
        write!(
            tls,
            "PUT /remote.php/dav/files/demo/up.bin HTTP/1.1\r\nHost: {name}\r\nContent-Length: {SIZE_BYTES}\r\n\r\n"
        )?;
        let piece = RATE_BYTES_PER_SECOND * PIECE.as_millis() as u64 / 1000;
        let started = Instant::now();
        let mut sent = 0;
        while self.goes_on() {
            tls.write_all(pattern.at(sent, piece as usize))?;
            tls.flush()?;
            sent += piece;
            self.progress();
            expect_silence(&mut tls)?;
            let due = Duration::from_secs_f64(sent as f64 / RATE_BYTES_PER_SECOND as f64);
            thread::sleep(due.saturating_sub(started.elapsed()));
        }
        Ok(())
    }

    fn websocket(&mut self) -> io::Result<()> {
        let tls = self.connect()?;
        let url = format!("wss://{}/push/ws", self.target.name);
        let (mut socket, _) = tungstenite::client(url, tls).map_err(io::Error::other)?;
        socket.get_ref().sock.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut heard = Instant::now();
        while self.goes_on() {
            match read_message(&mut socket)? {
                Some(_) => {
                    heard = Instant::now();
                    self.progress();
                }
                None if heard.elapsed() > STALL_TIMEOUT => return Err(io::ErrorKind::TimedOut.into()),
                None => {}
            }
        }
        Ok(())
    }
}

/// An answer before the upload is complete, or an end of stream, means that nobody wants the rest.
fn expect_silence(tls: &mut Tls) -> io::Result<()> {
    tls.sock.set_nonblocking(true)?;
    let heard = tls.read(&mut [0]);
    tls.sock.set_nonblocking(false)?;
    match heard {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// The next message, or nothing yet.
fn read_message(socket: &mut WebSocket<Tls>) -> io::Result<Option<Message>> {
    match socket.read() {
        Ok(Message::Close(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(message) => Ok(Some(message)),
        Err(tungstenite::Error::Io(error))
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
        {
            Ok(None)
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Bytes up to the end of the response head, and perhaps more.
fn read_head(tls: &mut Tls) -> io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut bytes = [0; 4096];
    while !received.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = tls.read(&mut bytes)?;
        if count == 0 || received.len() > 64 * 1024 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
    Ok(received)
}

/// The bytes after a head with this status.
fn expect_status(received: &[u8], status: u16) -> io::Result<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(received) {
        Ok(httparse::Status::Complete(length)) if parsed.code == Some(status) => {
            Ok(received.get(length..).unwrap_or_default())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
