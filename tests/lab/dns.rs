//! DNS servers for tests: Debian's dnsmasq, and one that says what it is told.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use crate::port;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A real server with a hosts file of its own. Answers have a TTL of one second.
pub struct Dnsmasq {
    process: Child,
    directory: PathBuf,
    pub address: SocketAddr,
}

impl Dnsmasq {
    /// Knows `lines` of a hosts file; every other name below `test` does not exist. `None` where there is no dnsmasq.
    pub fn start(test: &str, lines: &[&str]) -> Option<Dnsmasq> {
        let Some(binary) = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].into_iter().find(|path| Path::new(path).exists())
        else {
            println!("SKIPPED: {test}: needs dnsmasq");
            return None;
        };
        let directory =
            std::env::temp_dir().join(format!("lyre-dns-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        let address = port::quiet();
        write(&directory, lines);
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        let process = Command::new(binary)
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--listen-address=127.0.0.1", "--pid-file=", "--local=/test/", "--local-ttl=1", "--cache-size=0"])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--user={user}"))
            .arg(format!("--addn-hosts={}", directory.join("hosts").display()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dnsmasq = Dnsmasq { process, directory, address };
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "dnsmasq does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(dnsmasq)
    }

    /// From now on these lines.
    pub fn change(&self, lines: &[&str]) {
        write(&self.directory, lines);
        self.signal(nix::sys::signal::SIGHUP);
    }

    pub fn kill(&mut self) {
        self.signal(nix::sys::signal::SIGKILL);
        let _ = self.process.wait();
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.process.id() as i32), signal);
    }
}

/// In one step: it may read at any time.
fn write(directory: &Path, lines: &[&str]) {
    let new = directory.join("new");
    std::fs::write(&new, lines.join("\n") + "\n").unwrap();
    std::fs::rename(new, directory.join("hosts")).unwrap();
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What the scripted server says of a name.
#[derive(Clone, PartialEq, Eq)]
pub enum Say {
    Nothing,
    NoName,
    /// With a TTL in seconds. Those of the asked family are told.
    Addresses(u32, Vec<IpAddr>),
    /// As `Addresses`, but over TCP alone.
    OverTcp(Vec<IpAddr>),
}

pub struct Scripted {
    pub address: SocketAddr,
    say: Arc<Mutex<Say>>,
    is_over: Arc<AtomicBool>,
}

impl Scripted {
    pub fn start(say: Say) -> Scripted {
        let (socket, listener) = loop {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            // The port may be somebody's in TCP.
            if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
                break (socket, listener);
            }
        };
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let server = Scripted { address, say: Arc::new(Mutex::new(say)), is_over: Arc::default() };
        let (say, is_over) = (server.say.clone(), server.is_over.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !is_over.load(Ordering::SeqCst) {
                let Ok((count, asker)) = socket.recv_from(&mut buffer) else { continue };
                let said = say.lock().unwrap().clone();
                if let Some(answer) = answer(&buffer[..count], &said, false) {
                    let _ = socket.send_to(&answer, asker);
                }
            }
        });
        let (say, is_over) = (server.say.clone(), server.is_over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(mut stream), mut length) = (stream, [0; 2]) else { continue };
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let Ok(()) = stream.read_exact(&mut length) else { continue };
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                let Ok(()) = stream.read_exact(&mut question) else { continue };
                let said = say.lock().unwrap().clone();
                if let Some(answer) = answer(&question, &said, true) {
                    let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes(), &answer[..]].concat());
                }
            }
        });
        server
    }

    pub fn say(&self, say: Say) {
        *self.say.lock().unwrap() = say;
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

/// The question with an answer behind it: header words, then records that point back to its name.
fn answer(question: &[u8], say: &Say, is_tcp: bool) -> Option<Vec<u8>> {
    let is_sixth = question.ends_with(b"\0\x1c\0\x01");
    let none: &[IpAddr] = &[];
    let (flags, ttl, addresses) = match say {
        Say::Nothing => return None,
        Say::NoName => (0x8183u16, 0, none),
        Say::Addresses(ttl, addresses) => (0x8180, *ttl, &addresses[..]),
        Say::OverTcp(_) if !is_tcp => (0x8380, 0, none),
        Say::OverTcp(addresses) => (0x8180, 1, &addresses[..]),
    };
    let addresses: Vec<&IpAddr> = addresses.iter().filter(|address| address.is_ipv6() == is_sixth).collect();
    let mut out = question.to_vec();
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
    for address in addresses {
        out.extend_from_slice(b"\xc0\x0c");
        out.extend_from_slice(if is_sixth { b"\0\x1c\0\x01" } else { b"\0\x01\0\x01" });
        out.extend_from_slice(&ttl.to_be_bytes());
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        out.extend_from_slice(&(octets.len() as u16).to_be_bytes());
        out.extend_from_slice(&octets);
    }
    Some(out)
}

/// `[dns]` that asks these servers.
pub fn config(servers: &[SocketAddr]) -> String {
    let mut text = String::from("[dns]\nservers = [");
    for server in servers {
        write!(text, "\"{server}\", ").unwrap();
    }
    text + "]\n"
}
