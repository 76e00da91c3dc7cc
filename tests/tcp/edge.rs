//! A worker of this test's own with one TCP service, and scripted servers for it.

use lyre::config::bundle::Bundle;
use lyre::config::{self, settings::Settings};
use lyre::control::listeners::Listeners;
use lyre::serve::page::SharedPage;
use lyre::serve::worker::Worker;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Edge {
    pub worker: Worker,
    pub address: SocketAddr,
    driver: &'static str,
}

/// `keys` are of the one service, named `db`.
pub fn settings(keys: &str, driver: &str, cores: usize) -> Settings {
    let text = format!(
        "[[tcp]]\nname = \"db\"\nlisten = \"127.0.0.1:3306\"\n{keys}\n[worker]\ncores = {cores}\ndriver = \"{driver}\"\n"
    );
    let environment = [("CHECK".to_owned(), "check-secret".to_owned())].into();
    let bundle = Bundle { path: "test.toml".into(), text, cpus: cores, environment, ..Bundle::default() };
    let mut settings = config::from_bundle(&bundle).unwrap_or_else(|errors| panic!("{errors}"));
    // A port the kernel chooses is a test's need, not an operator's.
    settings.services[0].listen[0].set_port(0);
    settings
}

impl Edge {
    pub fn start(keys: &str, driver: &'static str, cores: usize) -> Edge {
        Edge::start_with(keys, driver, cores, |_| {})
    }

    pub fn start_with(keys: &str, driver: &'static str, cores: usize, change: impl FnOnce(&mut Settings)) -> Edge {
        let mut settings = settings(keys, driver, cores);
        change(&mut settings);
        let listeners = Listeners::default().bind_missing(&settings, cores).unwrap_or_else(|_| panic!("bind"));
        let address = listeners.bound()[0];
        let (names, descriptors) = listeners.handout();
        let sockets = names.into_iter().zip(descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap())).collect();
        let (page, _memfd) = SharedPage::create(c"lyre-page").unwrap();
        let worker = Worker::start(settings, Arc::new(page), sockets).unwrap();
        Edge { worker, address, driver }
    }

    pub fn reload(&mut self, keys: &str) {
        let cores = self.worker.shared.counters.len();
        self.worker.reload(settings(keys, self.driver, cores), Vec::new()).unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        client(self.address)
    }

    /// What a session sees that says nothing: the server's first line, or how it was turned away.
    pub fn first_line(&self) -> Result<String, ErrorKind> {
        let mut stream = TcpStream::connect(self.address).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        line(&mut stream)
    }

    pub fn service(&self) -> Value {
        lyre::serve::report::status(&self.worker.shared)["services"][0].clone()
    }

    pub fn writer(&self) -> Option<String> {
        self.service()["writer"].as_str().map(str::to_owned)
    }

    pub fn state(&self, server: usize) -> String {
        self.service()["servers"][server]["state"].as_str().unwrap().to_owned()
    }

    pub fn metric(&self, name: &str) -> u64 {
        let metrics = lyre::serve::report::metrics(&self.worker.shared);
        let lines = metrics.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    pub fn wait(&self, what: &str, is_so: impl Fn(&Edge) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "{}: still not: {what}\n{:#}", self.driver, self.service());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// As `Read::read`, whatever signals arrive.
pub fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(|error| error.kind()),
        }
    }
}

/// Up to a line feed or the end.
pub fn line(stream: &mut TcpStream) -> Result<String, ErrorKind> {
    let mut text = Vec::new();
    let mut byte = [0];
    while read(stream, &mut byte)? == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    Ok(String::from_utf8(text).unwrap())
}

/// A server that greets with its name and then echoes, until its client has said all. Told to stop, it closes its
/// listener; what it accepted lives on.
pub struct Echo {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Echo {
    pub fn start(name: &'static str) -> Echo {
        Echo::on(TcpListener::bind("127.0.0.1:0").unwrap(), name)
    }

    /// At an address of the test's choice.
    pub fn on(listener: TcpListener, name: &'static str) -> Echo {
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                std::thread::spawn(move || echo(stream, name));
            }
        });
        Echo { address, is_over }
    }

    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the one who waits for a connection; the listener is gone when this one ends.
        let _ = TcpStream::connect(self.address).map(|mut stream| stream.read(&mut [0]));
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop();
    }
}

fn echo(mut stream: TcpStream, name: &str) {
    if stream.write_all(format!("{name}\n").as_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    // Only now that all was heard.
    let _ = stream.write_all(b"bye");
}
