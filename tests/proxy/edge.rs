//! A worker of this test's own, on both drivers in turn, and raw clients for it.

use crate::worker;
use lyre::config::bundle::Bundle;
use lyre::config::{self, settings::Settings};
use lyre::serve::worker::Worker;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Edge {
    pub worker: Worker,
    pub address: SocketAddr,
    /// Where it listens for something else.
    pub others: Vec<SocketAddr>,
    driver: &'static str,
}

/// Runs `test` once per driver. `config` is everything but listener and worker.
pub fn on_each_driver(config: &str, test: impl Fn(&mut Edge)) {
    for driver in ["epoll", "io_uring"] {
        let mut edge = Edge::start(config, driver, 1);
        test(&mut edge);
    }
}

pub fn settings(config: &str, driver: &str, cores: usize) -> Settings {
    let text = format!(
        "{config}\n[[listener]]\naddress = \"127.0.0.1:80\"\nkind = \"http\"\n\
         [worker]\ncores = {cores}\ndriver = \"{driver}\"\n"
    );
    let environment = [("EXAPPS_KEY".to_owned(), "K".to_owned())].into();
    let bundle = Bundle { path: "test.toml".into(), text, environment, cpus: cores, ..Bundle::default() };
    let mut settings = config::from_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    // A port the kernel chooses is a test's need, not an operator's.
    settings.listeners[0].address.set_port(0);
    settings
}

impl Edge {
    pub fn start(config: &str, driver: &'static str, cores: usize) -> Edge {
        Edge::start_with(config, driver, cores, |_| {})
    }

    pub fn start_with(config: &str, driver: &'static str, cores: usize, change: impl FnOnce(&mut Settings)) -> Edge {
        let mut settings = settings(config, driver, cores);
        change(&mut settings);
        let ip = settings.listeners[0].address.ip();
        let (worker, bound) = worker::start_all(settings);
        let (own, others): (Vec<_>, Vec<_>) = bound.into_iter().partition(|address| address.ip() == ip);
        Edge { worker, address: own[0], others, driver }
    }

    /// The same listener, another rest of the configuration.
    pub fn reload(&mut self, config: &str) {
        let cores = self.worker.shared.counters.len();
        self.worker.reload(settings(config, self.driver, cores), Vec::new()).unwrap();
    }

    pub fn connect(&self) -> Client {
        Client::over(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own.
    pub fn get(&self, path: &str) -> Response {
        let mut client = self.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: cloud.test\r\n\r\n"));
        client.response("GET")
    }

    pub fn metric(&self, name: &str) -> u64 {
        worker::metric(&self.worker, name)
    }

    /// Waits until `is_so`.
    pub fn wait(&self, what: &str, is_so: impl Fn(&Edge) -> bool) {
        worker::wait(PATIENCE, || is_so(self), || format!("{}: still not: {what}", self.driver));
    }
}

/// As `Read::read`. The kernel does not take up a read with a time limit again after a signal or a standstill.
pub fn read(from: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A client connection that reads responses off a byte stream.
pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended where its framing says.
    pub is_complete: bool,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

impl Client {
    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Received bytes that nothing has taken yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads more; 0 at the end. A reset is an end too.
    fn more(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        match read(&mut self.stream, &mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("client read: {error}, have {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// `count` raw bytes.
    pub fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more() > 0, "end after {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..count).collect()
    }

    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.more() > 0, "no head in {:?}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// The next response, whatever its status.
    pub fn response(&mut self, method: &str) -> Response {
        let head = self.head();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let (mut body, mut is_complete) = (Vec::new(), true);
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Response { status, head, body, is_complete };
        }
        if field(&head, "transfer-encoding").is_some() {
            is_complete = self.chunks(&mut body);
        } else if let Some(length) = field(&head, "content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.more() > 0 {}
            is_complete = self.buffer.len() >= length;
            body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else {
            body = self.rest();
        }
        Response { status, head, body, is_complete }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(size) = self.line() else { return false };
            let size = usize::from_str_radix(&size, 16).unwrap();
            while self.buffer.len() < size + 2 {
                if self.more() == 0 {
                    body.append(&mut self.buffer);
                    return false;
                }
            }
            let mut chunk: Vec<u8> = self.buffer.drain(..size + 2).collect();
            assert_eq!(chunk.split_off(size), b"\r\n");
            if size == 0 {
                return true;
            }
            body.append(&mut chunk);
        }
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
