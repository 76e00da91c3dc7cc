//! The real frpc as a child, with a configuration of its own. Built by `tests/peers.sh`.

use super::backend::Backend;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What ExApps ship, and the newest.
pub const OLD: usize = 0;
pub const NEW: usize = 1;

const VERSIONS: [&str; 2] = ["0.61.1", "0.70.1"];

/// Generous: the machine may be slow, and a lost test is worse than a slow one.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn binaries(test: &str) -> Option<Vec<PathBuf>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let all: Vec<PathBuf> = VERSIONS.iter().map(|version| peers.join(format!("frpc-{version}"))).collect();
    if all.iter().all(|path| path.exists()) {
        return Some(all);
    }
    eprintln!("SKIPPED: {test}: target/peers/frpc-* are not built, they need Go");
    None
}

pub struct Proxy {
    name: String,
    port: u16,
    to: To,
    pub is_encrypted: bool,
    pub is_compressed: bool,
}

impl Proxy {
    pub fn new(name: &str, port: u16, backend: &Backend) -> Proxy {
        Proxy::to(name, port, To::Unix(backend.path().to_owned()))
    }

    pub fn to_address(name: &str, port: u16, address: SocketAddr) -> Proxy {
        Proxy::to(name, port, To::Tcp(address))
    }

    fn to(name: &str, port: u16, to: To) -> Proxy {
        Proxy { name: name.to_owned(), port, to, is_encrypted: false, is_compressed: false }
    }
}

/// Where the app is.
enum To {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub struct Options {
    /// Of the server.
    pub address: IpAddr,
    pub key: String,
    pub auth_token: String,
    pub is_muxed: bool,
    pub is_v2: bool,
    pub pool_count: u32,
    pub proxies: Vec<Proxy>,
    /// With the files of this directory.
    pub tls: Option<Tls>,
    /// It goes on trying when its first login fails.
    pub is_patient: bool,
}

pub struct Tls {
    pub directory: PathBuf,
    pub has_certificate: bool,
    /// What clients before 0.50 send in front of the handshake.
    pub has_marker: bool,
}

impl Tls {
    fn toml(&self) -> String {
        let file = |name: &str| self.directory.join(name).display().to_string();
        let mut text = format!(
            "transport.tls.enable = true\ntransport.tls.serverName = \"harp.nc\"\n\
             transport.tls.trustedCaFile = \"{}\"\ntransport.tls.disableCustomTLSFirstByte = {}\n",
            file("ca.pem"),
            !self.has_marker
        );
        if self.has_certificate {
            text.push_str(&format!(
                "transport.tls.certFile = \"{}\"\ntransport.tls.keyFile = \"{}\"\n",
                file("client.pem"),
                file("client.key")
            ));
        }
        text
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: Ipv4Addr::LOCALHOST.into(),
            key: super::driver::SHARED_KEY.to_owned(),
            auth_token: String::new(),
            is_muxed: true,
            is_v2: false,
            pool_count: 1,
            proxies: Vec::new(),
            tls: None,
            is_patient: false,
        }
    }
}

impl Options {
    fn toml(&self, port: u16) -> String {
        let Options { address, key, auth_token, is_muxed, pool_count, .. } = self;
        let mut text = format!(
            "serverAddr = \"{address}\"\nserverPort = {port}\nlog.level = \"debug\"\nlog.disablePrintColor = true\n\
             auth.token = \"{auth_token}\"\nmetadatas.token = \"{key}\"\n\
             transport.tcpMux = {is_muxed}\ntransport.poolCount = {pool_count}\n"
        );
        match &self.tls {
            Some(tls) => text.push_str(&tls.toml()),
            None => text.push_str("transport.tls.enable = false\n"),
        }
        if self.is_patient {
            text.push_str("loginFailExit = false\n");
        }
        if self.is_v2 {
            text.push_str("transport.wireProtocol = \"v2\"\n");
        }
        for Proxy { name, port, to, is_encrypted, is_compressed } in &self.proxies {
            text.push_str(&format!(
                "[[proxies]]\nname = \"{name}\"\ntype = \"tcp\"\nremotePort = {port}\n\
                 transport.useEncryption = {is_encrypted}\ntransport.useCompression = {is_compressed}\n"
            ));
            text.push_str(&match to {
                To::Tcp(to) => format!("localIP = \"{}\"\nlocalPort = {}\n", to.ip(), to.port()),
                To::Unix(path) => {
                    format!("[proxies.plugin]\ntype = \"unix_domain_socket\"\nunixPath = \"{}\"\n", path.display())
                }
            });
        }
        text
    }
}

/// A running client. It is killed when dropped, without a chance to say goodbye.
pub struct Frpc {
    child: Child,
    config: PathBuf,
    lines: Receiver<String>,
    said: String,
}

impl Frpc {
    pub fn start(binary: &Path, port: u16, options: &Options) -> Frpc {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let config = std::env::temp_dir().join(format!("lyre-frpc-{}-{number}.toml", std::process::id()));
        std::fs::write(&config, options.toml(port)).unwrap();
        let mut child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .env_remove("http_proxy")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Frpc { child, config, lines, said: String::new() }
    }

    /// Waits until its log has these words.
    pub fn wait_said(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said.contains(words) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push_str(&(line + "\n")),
                Err(_) => panic!("frpc did not say {words:?}:\n{}", self.said),
            }
        }
    }

    /// Waits until it gives up by itself; all it said.
    pub fn wait_exit(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Disconnected) => return self.said.clone(),
                Err(RecvTimeoutError::Timeout) => panic!("frpc did not exit:\n{}", self.said),
            }
        }
    }

    /// It keeps its connections and does nothing.
    pub fn pause(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }
}

impl Drop for Frpc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
        if std::thread::panicking() {
            self.said.extend(self.lines.try_iter().map(|line| line + "\n"));
            eprintln!("frpc said:\n{}", self.said);
        }
    }
}
