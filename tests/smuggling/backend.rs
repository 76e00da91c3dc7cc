//! A web server that believes nothing: it takes requests apart by the strictest reading there is and keeps every byte.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const UP: &str = r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2"}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A request as it arrived.
#[derive(Clone)]
pub struct Arrival {
    pub connection: usize,
    pub head: Vec<u8>,
    pub framing: Framing,
    /// Without framing.
    pub body: Vec<u8>,
    /// Its framing came to its end before the connection did.
    pub is_complete: bool,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head: String = String::from_utf8_lossy(&self.head).chars().take(600).collect();
        let body: String = String::from_utf8_lossy(&self.body).chars().take(80).collect();
        write!(f, "#{} {head:?} {:?} {body:?} complete={}", self.connection, self.framing, self.is_complete)
    }
}

impl Arrival {
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.head.len().saturating_sub(4);
        self.head[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }

    pub fn line(&self) -> String {
        String::from_utf8_lossy(self.lines().next().unwrap_or_default()).into_owned()
    }

    /// Whose request it is, as Lyre says: every client of these tests has an address of its own.
    fn client(&self) -> Option<Ipv4Addr> {
        self.fields("x-forwarded-for").concat().parse().ok()
    }

    pub fn method(&self) -> String {
        self.line().split(' ').next().unwrap_or_default().to_owned()
    }

    pub fn target(&self) -> String {
        self.line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines().skip(1).map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default();
            (std::str::from_utf8(&line[..colon]).unwrap_or("?"), value.strip_prefix(b" ").unwrap_or(value))
        })
    }

    /// Values of all fields of this name.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let of_name = self.pairs().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| std::str::from_utf8(value).unwrap_or("?")).collect()
    }

    /// What holds for everything that Lyre writes: lines end in CRLF and nowhere else is CR, LF or NUL, names have only
    /// letters that no server folds onto others, and there is one Host and one framing.
    pub fn check_form(&self) -> Result<(), String> {
        let text = &self.head;
        let is_bare = |at: usize| match text[at] {
            b'\r' => text.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || text[at - 1] != b'\r',
            byte => byte == 0,
        };
        if (0..text.len()).any(is_bare) {
            return Err(format!("bare CR, LF or NUL: {self:?}"));
        }
        let is_plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if let Some((name, _)) = self.pairs().find(|(name, _)| !is_plain(name)) {
            return Err(format!("a field named {name:?}: {self:?}"));
        }
        let framings = self.fields("content-length").len() + self.fields("transfer-encoding").len();
        if self.fields("host").len() != 1 || framings > 1 {
            return Err(format!("Host or framing not once: {self:?}"));
        }
        Ok(())
    }
}

pub fn authority(arrival: &Arrival) -> String {
    arrival.fields("host").concat()
}

/// What is answered to `/scripted`; everything else gets a 200 that repeats the request.
#[derive(Default, Clone)]
pub struct Script {
    pub answer: Option<Vec<u8>>,
    /// The backend's end of the connection follows.
    pub fin: bool,
}

#[derive(Default)]
struct State {
    arrivals: BTreeMap<Option<Ipv4Addr>, Vec<Arrival>>,
    script: Script,
    connections: usize,
    /// Requests whose head is there and whose end is not.
    open: usize,
    ended: BTreeSet<usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Backend {
    pub fn start() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let all = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = all.clone();
                std::thread::spawn(move || Connection { stream, buffer: Vec::new(), shared, number: None }.serve());
            }
        });
        Backend { address, shared }
    }

    pub fn forget(&self) {
        self.shared.state.lock().unwrap().arrivals.clear();
    }

    pub fn play(&self, script: Script) {
        self.shared.state.lock().unwrap().script = script;
    }

    pub fn arrivals(&self, client: Ipv4Addr) -> Vec<Arrival> {
        self.shared.state.lock().unwrap().arrivals.get(&Some(client)).cloned().unwrap_or_default()
    }

    /// Whatever arrived of which none of these is the sender.
    pub fn strangers(&self, clients: &BTreeSet<Ipv4Addr>) -> Vec<Arrival> {
        let state = self.shared.state.lock().unwrap();
        let others = state.arrivals.iter().filter(|(client, _)| client.is_none_or(|client| !clients.contains(&client)));
        others.flat_map(|(_, arrivals)| arrivals.clone()).collect()
    }

    /// Until `count` requests of this client are here as a whole and none of anybody in part, or patience ends.
    pub fn wait(&self, client: Ipv4Addr, count: usize) {
        let whole = |state: &State| {
            let arrivals = state.arrivals.get(&Some(client));
            arrivals.into_iter().flatten().filter(|arrival| arrival.is_complete).count()
        };
        self.until(|state| state.open == 0 && whole(state) >= count);
    }

    /// Until Lyre has closed the connection.
    pub fn wait_end(&self, connection: Option<usize>) {
        self.until(|state| connection.is_none_or(|number| state.ended.contains(&number)));
    }

    fn until(&self, is_so: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().unwrap();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
    /// Health probes have none.
    number: Option<usize>,
}

impl Connection {
    fn serve(mut self) {
        self.stream.set_nodelay(true).unwrap();
        self.stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        while self.request() {}
        if let Some(number) = self.number {
            self.shared.state.lock().unwrap().ended.insert(number);
            self.shared.changed.notify_all();
        }
    }

    /// One request and its answer; false once there will be none.
    fn request(&mut self) -> bool {
        let Some(head) = self.head() else { return false };
        if is_probe(&head) {
            let length = UP.len();
            self.send(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{UP}").as_bytes(),
            );
            return false;
        }
        let number = *self.number.get_or_insert_with(|| {
            let mut state = self.shared.state.lock().unwrap();
            state.connections += 1;
            state.connections
        });
        let mut arrival =
            Arrival { connection: number, head, framing: Framing::None, body: Vec::new(), is_complete: false };
        arrival.framing = framing(&arrival);
        self.shared.state.lock().unwrap().open += 1;
        arrival.is_complete = self.body(arrival.framing, &mut arrival.body);
        let is_complete = arrival.is_complete;
        let (method, target) = (arrival.method(), arrival.target());
        let script = {
            let mut state = self.shared.state.lock().unwrap();
            state.open -= 1;
            state.arrivals.entry(arrival.client()).or_default().push(arrival);
            state.script.clone()
        };
        self.shared.changed.notify_all();
        if !is_complete {
            return false;
        }
        match script.answer.filter(|_| target == "/scripted") {
            Some(answer) => {
                self.send(&answer);
                if script.fin {
                    let _ = self.stream.shutdown(Shutdown::Write);
                }
            }
            None => {
                let body = format!("seen {method} {target}");
                let shown = if method == "HEAD" { "" } else { &body };
                self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{shown}", body.len()).as_bytes());
            }
        }
        true
    }

    fn send(&mut self, bytes: &[u8]) {
        // Lyre may have hung up; what the client got shows it.
        let _ = self.stream.write_all(bytes);
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk).unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count > 0
    }

    fn head(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Some(self.buffer.drain(..at + 4).collect());
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn take(&mut self, count: u64, into: &mut Vec<u8>) -> bool {
        let mut left = count;
        loop {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            into.extend(self.buffer.drain(..now));
            left -= now as u64;
            if left == 0 {
                return true;
            }
            if !self.more() {
                return false;
            }
        }
    }

    /// Whether it came to its end.
    fn body(&mut self, framing: Framing, into: &mut Vec<u8>) -> bool {
        match framing {
            Framing::None => true,
            Framing::Length(length) => self.take(length, into),
            Framing::Chunked => loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    if !self.take(1, &mut line) {
                        return false;
                    }
                }
                let digits = std::str::from_utf8(&line[..line.len() - 2]).expect("a chunk size");
                assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "chunk size {digits:?}");
                let size = u64::from_str_radix(digits, 16).expect("a chunk size");
                let mut end = Vec::new();
                if !self.take(size, into) || !self.take(2, &mut end) {
                    return false;
                }
                assert_eq!(end, b"\r\n", "behind a chunk; or a trailer");
                if size == 0 {
                    return true;
                }
            },
        }
    }
}

fn is_probe(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).contains("User-Agent: Lyre-check")
}

fn framing(arrival: &Arrival) -> Framing {
    if let [length] = arrival.fields("content-length").as_slice() {
        return Framing::Length(length.parse().expect("a canonical length"));
    }
    match arrival.fields("transfer-encoding").as_slice() {
        [] => Framing::None,
        ["chunked"] => Framing::Chunked,
        other => panic!("Transfer-Encoding {other:?}"),
    }
}
