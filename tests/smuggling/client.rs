//! A client that sends what it is told, in pieces, and takes apart what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended where its framing says.
    pub is_complete: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
        write!(f, "{:?} {body:?} complete={}", self.head, self.is_complete)
    }
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

pub struct Client {
    /// No other client has it.
    pub address: Ipv4Addr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        static NEXT: AtomicU32 = AtomicU32::new(u32::from_be_bytes([127, 1, 0, 1]));
        let address = Ipv4Addr::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { address, stream, buffer: Vec::new() }
    }

    /// Whoever was refused may find the connection closed.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// False at the end. A reset is an end too; silence is an error.
    fn more(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 16 * 1024];
        // A read that has a time limit is not taken up again by the kernel.
        let received = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(false),
            Err(error) => Err(format!("{error}, after {:?}", String::from_utf8_lossy(&self.buffer))),
        }
    }

    /// All answers up to the end of the connection; `methods` are those of the requests that reach the backend.
    pub fn answers(&mut self, methods: &[&str]) -> Result<Vec<Answer>, String> {
        let mut answers: Vec<Answer> = Vec::new();
        while let Some(answer) = self.answer(methods.get(answers.len()).copied().unwrap_or("GET"))? {
            // Nobody here waits for it.
            if answer.status != 100 {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    /// Interim responses and the final one; 101 is final.
    pub fn until_final(&mut self, method: &str) -> Result<Vec<Answer>, String> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer(method)? {
            let is_final = answer.status >= 200 || answer.status == 101;
            answers.push(answer);
            if is_final {
                break;
            }
        }
        Ok(answers)
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() == Ok(true) {}
        std::mem::take(&mut self.buffer)
    }

    fn answer(&mut self, method: &str) -> Result<Option<Answer>, String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more()? {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(format!("half a head: {:?}", String::from_utf8_lossy(&self.buffer))),
                };
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let status =
            head.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no status: {head}"))?;
        let mut answer = Answer { status, head, body: Vec::new(), is_complete: true };
        if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
            self.body(&mut answer)?;
        }
        Ok(Some(answer))
    }

    fn body(&mut self, answer: &mut Answer) -> Result<(), String> {
        if answer.field("transfer-encoding").is_some() {
            return self.chunks(answer);
        }
        match answer.field("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => answer.is_complete = self.take(length, &mut answer.body)?,
            Some(Err(error)) => return Err(format!("Content-Length: {error}")),
            None => answer.body = self.rest(),
        }
        Ok(())
    }

    fn chunks(&mut self, answer: &mut Answer) -> Result<(), String> {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                if !self.take(1, &mut line)? {
                    answer.is_complete = false;
                    return Ok(());
                }
            }
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(|error| format!("{size:?}: {error}"))?;
            let is_whole = self.take(size, &mut answer.body)? && self.take(2, &mut Vec::new())?;
            if !is_whole || size == 0 {
                answer.is_complete = is_whole;
                return Ok(());
            }
        }
    }

    fn take(&mut self, count: usize, into: &mut Vec<u8>) -> Result<bool, String> {
        while self.buffer.len() < count {
            if !self.more()? {
                into.append(&mut self.buffer);
                return Ok(false);
            }
        }
        into.extend(self.buffer.drain(..count));
        Ok(true)
    }
}
