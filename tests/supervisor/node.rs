//! A parent process under test: starts it with a directory of its own, talks to it, cleans up. Never asserts behaviour.

#[path = "../lab/port.rs"]
mod port;

use lyre::control::status::{Status, WorkerState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Default)]
pub struct Start<'a> {
    /// How the stand-in worker misbehaves.
    pub stub: &'a str,
    pub port: Option<u16>,
    pub uid: Option<u32>,
    /// In a user namespace that maps only this user, to 0.
    pub namespace: bool,
    /// From a copy of the binary with CAP_NET_BIND_SERVICE.
    pub file_capability: bool,
    /// Appended to the configuration.
    pub extra: &'a str,
    /// Parts of the configuration, and what is to stand there.
    pub edits: &'a [(&'a str, &'a str)],
    pub manager: Option<&'a Manager>,
    /// The program itself with its own worker, in front of this web server.
    pub server: Option<SocketAddr>,
}

pub struct Node {
    directory: PathBuf,
    port: u16,
    child: Child,
    binary: PathBuf,
}

/// `supervisor run FILE`: what `lyre run` does, without its command line.
pub fn parent(arguments: &[OsString]) -> ExitCode {
    let [path] = arguments else { return ExitCode::from(2) };
    lyre::telemetry::init_tracing(lyre::config::settings::LogFormat::Text, tracing::Level::INFO);
    let (settings, bundle) = match lyre::config::load(Path::new(path), None) {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(2);
        }
    };
    match lyre::control::supervisor::run(settings, bundle) {
        Ok(lyre::control::supervisor::ExitReason::Stopped) => ExitCode::SUCCESS,
        Ok(lyre::control::supervisor::ExitReason::Forced) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Node {
    /// Starts one and waits until it serves.
    pub fn start(start: Start<'_>) -> Node {
        let mut node = Node::launch(start);
        node.wait_ready();
        node
    }

    /// As `start`; `None` if the machine forbids the privileges asked for.
    pub fn try_start(start: Start<'_>) -> Option<Node> {
        if start.namespace && !Command::new("unshare").args(["-r", "true"]).status().is_ok_and(|s| s.success()) {
            return None;
        }
        let mut node = Node::prepare(start);
        if start.file_capability {
            let granted = Command::new("setcap").arg("cap_net_bind_service+ep").arg(&node.binary).status();
            if !granted.is_ok_and(|status| status.success()) {
                return None;
            }
        }
        node.exec(start);
        node.wait_ready();
        Some(node)
    }

    /// Starts one and does not wait.
    pub fn launch(start: Start<'_>) -> Node {
        let mut node = Node::prepare(start);
        node.exec(start);
        node
    }

    fn prepare(start: Start<'_>) -> Node {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lyre-supervisor-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(uid) = start.uid {
            std::os::unix::fs::chown(&directory, Some(uid), Some(uid)).unwrap();
        }
        let port = start.port.unwrap_or_else(|| if start.uid.is_some() { unreserved_port() } else { free_port() });
        let mut binary = match start.server {
            Some(_) => PathBuf::from(env!("CARGO_BIN_EXE_lyre")),
            None => std::env::current_exe().unwrap(),
        };
        let server = start.server.unwrap_or((Ipv4Addr::LOCALHOST, 9).into());
        if start.file_capability {
            let copy = directory.join("lyre");
            fs::copy(&binary, &copy).unwrap();
            binary = copy;
        }
        let mut text = format!(
            "# stub: {}\n[nextcloud]\nhosts = [\"cloud.example.com\"]\nservers = [\"{server}\"]\n\
             [[listener]]\naddress = \"127.0.0.1:{port}\"\nkind = \"http\"\n[worker]\ncores = 2\nhang_timeout = \"300ms\"\n\
             [timeouts]\ndrain = \"5s\"\n[admin]\nsocket = \"run/lyre.sock\"\n{}",
            start.stub, start.extra
        );
        for (old, new) in start.edits {
            assert!(text.contains(old), "no {old:?} in {text}");
            text = text.replace(old, new);
        }
        fs::write(directory.join("lyre.toml"), text).unwrap();
        let child = Command::new("true").spawn().unwrap();
        Node { directory, port, child, binary }
    }

    fn exec(&mut self, start: Start<'_>) {
        let mut command = if start.namespace {
            let mut command = Command::new("unshare");
            command.arg("-r").arg(&self.binary);
            command
        } else {
            Command::new(&self.binary)
        };
        command.arg("run").args(start.server.map(|_| "--config")).arg(self.directory.join("lyre.toml"));
        command.env("LYRE_TEST_SECRET", "x").env_remove("NOTIFY_SOCKET");
        command.stderr(fs::File::create(self.directory.join("log")).unwrap()).stdout(Stdio::null());
        if let Some(uid) = start.uid {
            command.uid(uid).gid(uid);
        }
        if let Some(manager) = start.manager {
            command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "400000");
        }
        let _ = self.child.wait();
        self.child = command.spawn().unwrap();
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.try_status().is_some_and(|status| status.worker.state == WorkerState::Ready) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended:\n{}", self.log());
            assert!(Instant::now() < deadline, "not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("no status:\n{}", self.log()))
    }

    pub fn try_status(&self) -> Option<Status> {
        let (code, body) = self.request("GET", "/v1/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    pub fn worker(&self) -> Pid {
        Pid::from_raw(self.status().worker.pid.unwrap())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path).unwrap()
    }

    pub fn post(&self, path: &str) -> (u16, String) {
        self.request("POST", path).unwrap()
    }

    fn request(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: lyre\r\nContent-Length: 0\r\n\r\n")?;
        let text = read_all(stream)?;
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        code.zip(body).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The process number of the worker that answers; `None` if the connection broke. Refusal panics.
    pub fn ask(&self) -> Option<i32> {
        ask(self.port).unwrap()
    }

    /// What the web server behind it says; `None` if the connection broke or there was an error. Refusal panics.
    pub fn fetch(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: cloud.example.com\r\nConnection: close\r\n\r\n").ok()?;
        let text = read_all(stream).ok()?;
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.filter(|_| text.starts_with("HTTP/1.1 200 "))
    }

    /// A connection that has sent `request` and got the first byte of its answer.
    pub fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut first = [0];
        stream.read_exact(&mut first).unwrap();
        stream
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("run/lyre.sock")
    }

    pub fn config(&self) -> String {
        fs::read_to_string(self.directory.join("lyre.toml")).unwrap()
    }

    pub fn write_config(&self, text: &str) {
        fs::write(self.directory.join("lyre.toml"), text).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    pub fn kill_parent(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Exit status and log of one that ends by itself.
    pub fn output(&mut self) -> (Option<i32>, String) {
        let code = self.wait().code();
        (code, self.log())
    }

    /// Another one with the same configuration.
    pub fn run_again(&self) -> (Option<i32>, String) {
        let output = Command::new(&self.binary).arg("run").arg(self.directory.join("lyre.toml")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A web server on a thread of this process: healthy, answers `hello`, and to `/slow` after 300 ms.
pub fn web_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve_one(stream));
        }
    });
    address
}

fn serve_one(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    let line = String::from_utf8_lossy(request.get(..length).unwrap_or_default()).into_owned();
    let body = if line.contains("/status.php") {
        r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false}"#
    } else {
        "hello"
    };
    if line.contains("/slow") {
        std::thread::sleep(Duration::from_millis(300));
    }
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// As [`web_server`], but reads the body that is announced and says how long it was.
pub fn counting_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || count_one(stream));
        }
    });
    address
}

fn count_one(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    let count = io::copy(&mut (&mut stream).take(length.unwrap_or(0)), &mut io::sink())?;
    let body = match head.contains("/status.php") {
        true => r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false}"#.to_owned(),
        false => format!("{count} bytes"),
    };
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Stands in for systemd.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    pub fn new() -> Manager {
        let path = std::env::temp_dir().join(format!("lyre-manager-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket, path }
    }

    /// Waits for a message that begins like this.
    pub fn expect(&self, message: &str) {
        let mut buffer = [0; 512];
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {message:?}: {error}"));
            if buffer[..length].starts_with(message.as_bytes()) {
                return;
            }
        }
        panic!("no {message:?}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The process number that a worker on this port answers with; `Ok(None)` if the connection broke.
pub fn ask(port: u16) -> Result<Option<i32>, io::ErrorKind> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.kind())?;
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let text = read_all(stream).unwrap_or_default();
    Ok(text.split_once("\r\n\r\n").and_then(|(_, body)| body.parse().ok()))
}

pub fn read_all(mut stream: impl Read) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A port that stays ours: bound but not listening, shared by SO_REUSEPORT with nodes of the same user.
pub fn free_port() -> u16 {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReusePort, &true).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    std::mem::forget(socket); // held until this process ends
    port
}

/// For a node of another user, with whom a port cannot be shared.
fn unreserved_port() -> u16 {
    port::quiet().port()
}

/// One below 1024 that nobody listens on.
pub fn free_low_port() -> u16 {
    (600..1024).find(|port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Exists and is not a zombie.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
