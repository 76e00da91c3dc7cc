//! Lyre's speaker (the example program) as a node's process.

use super::{Node, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

pub struct Speaker {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Speaker {
    /// Starts it on `eth0` with further options, as in `--priority 254`.
    pub fn start(node: &Node, options: &str, addresses: &[&str]) -> Speaker {
        let mut command = Command::new(program());
        command.args(["--interface", "eth0", "--name", &node.number.to_string()]).args(options.split_whitespace());
        addresses.iter().for_each(|address| {
            command.args(["--address", address]);
        });
        let mut child = node.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, kept) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Speaker { child, lines }
    }

    /// Everything printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often all of `parts` stood in one line.
    pub fn count(&self, parts: &[&str]) -> usize {
        self.lines().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Waits for a line with all of `parts`.
    #[track_caller]
    pub fn expect(&self, parts: &[&str], limit: Duration) {
        eventually(&format!("a line with {parts:?}"), limit, || self.count(parts) > 0);
    }

    /// The last state of the router of this family suffix, as in `v4`.
    pub fn state(&self, family: &str) -> String {
        let lines = self.lines();
        let of_family = format!(r#""router":"vip-{family}""#);
        let last = lines.iter().rev().find(|line| line.contains(&of_family) && line.contains(r#""to":""#));
        let to = last.and_then(|line| line.split(r#""to":""#).nth(1)).and_then(|rest| rest.split('"').next());
        to.unwrap_or("Initialize").to_owned()
    }

    #[track_caller]
    pub fn becomes(&self, state: &str, family: &str, limit: Duration) {
        eventually(&format!("{family} becomes {state}"), limit, || self.state(family) == state);
    }

    /// Writes one order to its standard input.
    pub fn order(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The newest status line of one family.
    pub fn status(&mut self, family: &str) -> String {
        let parts = [r#""event":"status""#, &format!(r#""router":"vip-{family}""#)];
        let before = self.count(&parts);
        self.order("status");
        eventually("a status line", Duration::from_secs(5), || self.count(&parts) > before);
        self.lines().into_iter().rfind(|line| parts.iter().all(|part| line.contains(part))).unwrap()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of its thread of this name so far.
    pub fn cpu_of(&self, thread: &str) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten();
        let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        let named = stats.filter(|stat| stat.contains(&format!("({thread})")));
        let ticks: u64 = named
            .filter_map(|stat| {
                let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
                Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
            })
            .sum();
        Duration::from_millis(ticks * 10)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn ends(&mut self, limit: Duration) {
        eventually("the speaker ends", limit, || self.child.try_wait().unwrap().is_some());
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example program, built for the profile of this test.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let profile = this.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "lyre-vrrp", "--example", "speaker"]);
        match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => {}
            Some(name) => {
                build.args(["--profile", name]);
            }
        }
        assert!(build.status().unwrap().success(), "the example does not build");
        profile.join("examples/speaker")
    })
}
