//! A worker that answers every request with its process number, and misbehaves when the configuration says so:
//! `# stub: die | nonsense | refuse | never-stop`.

use lyre::config::bundle::Bundle;
use lyre::serve::page::SharedPage;
use lyre::serve::parent::{Channel, Order, Report};
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static OPEN: AtomicUsize = AtomicUsize::new(0);

pub fn worker(arguments: &[OsString]) -> ExitCode {
    let at_entry = descriptors();
    let channel = match lyre::control::entry::enter(arguments) {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("worker: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (mut sender, mut receiver) = Channel::from_fd(channel).unwrap().split(1024);
    let start = receiver.receive::<Order>().unwrap();
    let mut sockets = start.descriptors.into_iter();
    let page = SharedPage::open(sockets.next().unwrap()).unwrap();
    let Order::Start { bundle, listeners, has_link } = start.message else { return ExitCode::FAILURE };
    if has_link {
        sockets.by_ref().take(2).for_each(drop); // the peers' table and the link: no stub needs them
    }
    match wish(&bundle) {
        "die" => return ExitCode::from(7),
        "nonsense" => sender.send(&"what?", &[], Duration::ZERO).unwrap(),
        _ => {}
    }
    let cores = listeners.iter().map(|listener| listener.core).max().unwrap_or(0) + 1;
    let mut serving: Vec<_> = listeners.iter().map(|listener| listener.address).zip(sockets.map(serve)).collect();
    page.summary.cores.store(cores as u32, Ordering::Relaxed);
    page.summary.ready.store(1, Ordering::Release);
    std::thread::spawn(move || {
        loop {
            for line in page.lines() {
                line.beat.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    sender.send(&Report::Ready, &[], Duration::ZERO).unwrap();

    // Like the real one, it ends when its channel does.
    while let Ok(received) = receiver.receive::<Order>() {
        let report = match received.message {
            Order::Status { id } => Report::Status { id, json: status(&at_entry) },
            Order::Metrics { id } => Report::Metrics { id, text: "lyre_stub 1\n".to_owned() },
            Order::Reload { bundle, .. } if wish(&bundle) == "refuse" => {
                Report::Reloaded { error: Some("the stub does not like it".to_owned()) }
            }
            Order::Reload { bundle, added } => {
                let settings = lyre::config::from_bundle(&bundle).unwrap();
                serving.retain(|(address, _)| settings.listeners.iter().any(|listener| listener.address == *address));
                let sockets = received.descriptors.into_iter().map(serve);
                serving.extend(added.iter().map(|listener| listener.address).zip(sockets));
                Report::Reloaded { error: None }
            }
            Order::Drain { on: true } => Report::Drained { tunnels: 0 },
            Order::Stop { .. } if wish(&bundle) == "never-stop" => continue,
            Order::Stop { .. } => {
                while OPEN.load(Ordering::SeqCst) > 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                return ExitCode::SUCCESS;
            }
            Order::Bans { id, .. } => Report::Bans { id, answer: Err("the stub bans nobody".to_owned()) },
            Order::Drain { on: false } | Order::Held { .. } | Order::Start { .. } => continue,
            Order::Pair(_) | Order::Restore { .. } => continue,
        };
        sender.send(&report, &[], Duration::ZERO).unwrap();
    }
    ExitCode::SUCCESS
}

fn wish(bundle: &Bundle) -> &str {
    bundle.text.lines().find_map(|line| line.strip_prefix("# stub: ")).unwrap_or("")
}

/// Answers on a thread until the guard goes.
struct Serving(std::sync::Arc<TcpListener>);

impl Drop for Serving {
    fn drop(&mut self) {
        // Wakes the thread's accept; the parent's descriptor keeps the socket itself open, as it should.
        let _ = nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&*self.0), nix::sys::socket::Shutdown::Both);
    }
}

fn serve(socket: OwnedFd) -> Serving {
    let listener = std::sync::Arc::new(TcpListener::from(socket));
    listener.set_nonblocking(false).unwrap();
    let accepting = std::sync::Arc::clone(&listener);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            OPEN.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let _ = answer(stream);
                OPEN.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    Serving(listener)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut request = [0; 1024];
    let length = stream.read(&mut request)?;
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    if request[..length].starts_with(b"GET /slow") {
        stream.write_all(b"slow ")?;
        std::thread::sleep(Duration::from_millis(300));
        return stream.write_all(b"done");
    }
    write!(stream, "{}", std::process::id())
}

/// What this process can do, for the parent's tests.
fn status(at_entry: &[i32]) -> String {
    let proc = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = proc.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        line.to_owned()
    };
    let groups: Vec<u32> = field("Groups:").split_whitespace().filter_map(|group| group.parse().ok()).collect();
    let uid: u32 = field("Uid:").split_whitespace().next().and_then(|uid| uid.parse().ok()).unwrap_or(u32::MAX);
    let death_signal = nix::sys::prctl::get_pdeathsig().ok().flatten().map(|signal| signal as i32);
    let probe = std::env::temp_dir().join(format!("lyre-stub-{}", std::process::id()));
    let may_write_files = fs::write(&probe, "x").is_ok();
    let _ = fs::remove_file(&probe);
    serde_json::json!({
        "pools": [],
        "descriptors_at_entry": at_entry,
        "uid": uid,
        "groups": groups,
        "capabilities": field("CapPrm:"),
        "memory_lock": nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK).unwrap().0,
        "bounding": field("CapBnd:"),
        "no_new_privileges": field("NoNewPrivs:"),
        "death_signal": death_signal,
        "secret_in_environment": std::env::var_os("LYRE_TEST_SECRET").is_some(),
        "may_write_files": may_write_files,
        "may_execute": std::process::Command::new("/bin/true").status().is_ok(),
    })
    .to_string()
}

/// Open descriptors, without the one that reads the directory.
fn descriptors() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let mut open: Vec<i32> =
        numbers.into_iter().filter(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok()).collect();
    open.sort_unstable();
    open
}
