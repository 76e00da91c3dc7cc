//! The real keepalived as a node's process.

use super::{Node, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub struct Keepalived {
    child: Child,
    folder: PathBuf,
}

impl Keepalived {
    /// VRRP version 3 on `eth0`, VRID 51: one instance a family that has addresses.
    pub fn start(node: &Node, priority: u8, interval: Duration, addresses: &[&str], extra: &str) -> Keepalived {
        Keepalived::with(node, &configuration(priority, interval, addresses, extra))
    }

    /// With instances (and groups) written out, below this file's `global_defs`.
    pub fn with(node: &Node, instances: &str) -> Keepalived {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let serial = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("lyre-keepalived-{}-{serial}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("conf"), format!("{GLOBAL}{instances}")).unwrap();
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--use-file"]).arg(folder.join("conf"));
        command.arg("--pid").arg(folder.join("pid")).arg("--vrrp_pid").arg(folder.join("vrrp.pid"));
        let log = fs::File::create(folder.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = node.spawn(&mut command);
        let keepalived = Keepalived { child, folder };
        eventually("keepalived starts", Duration::from_secs(20), || keepalived.worker().is_some());
        keepalived
    }

    /// Makes it follow other instances, as `systemctl reload` does.
    pub fn reload(&self, instances: &str) {
        fs::write(self.folder.join("conf"), format!("{GLOBAL}{instances}")).unwrap();
        kill(self.parent(), Signal::SIGHUP).unwrap();
    }

    /// To the process that speaks VRRP.
    pub fn signal(&self, signal: Signal) {
        kill(self.worker().unwrap(), signal).unwrap();
    }

    /// Ends it in order: priority 0, addresses removed.
    pub fn stop(&mut self) {
        let _ = kill(self.parent(), Signal::SIGTERM);
        eventually("keepalived ends", Duration::from_secs(20), || self.child.try_wait().unwrap().is_some());
    }

    /// Ends it at once; its addresses stay.
    pub fn crash(&mut self) {
        let worker = self.worker();
        // The parent first, or it would start another worker.
        let _ = kill(self.parent(), Signal::SIGKILL);
        worker.into_iter().for_each(|worker| {
            let _ = kill(worker, Signal::SIGKILL);
        });
        let _ = self.child.wait();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn parent(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The process that speaks VRRP.
    fn worker(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.folder.join("vrrp.pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.crash();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Real-time, and with more time for one turn than the 10 ms after which it would be killed.
const GLOBAL: &str =
    "global_defs {\n vrrp_version 3\n vrrp_rt_priority 50\n vrrp_rlimit_rttime 500000\n vrrp_no_swap\n}\n";

/// One instance a family that has addresses, named `v4` and `v6`, with `extra` lines in each.
pub fn configuration(priority: u8, interval: Duration, addresses: &[&str], extra: &str) -> String {
    let of = |is_v4| addresses.iter().filter(move |a| a.contains('.') == is_v4).copied().collect::<Vec<_>>();
    let used = [("v4", of(true)), ("v6", of(false))].into_iter().filter(|(_, list)| !list.is_empty());
    used.map(|(name, list)| instance(name, 51, priority, interval, &list, extra)).collect()
}

pub fn instance(name: &str, vrid: u8, priority: u8, interval: Duration, addresses: &[&str], extra: &str) -> String {
    let (seconds, list) = (interval.as_secs_f64(), addresses.join("\n  "));
    let state = if priority == 255 { "MASTER" } else { "BACKUP" };
    format!(
        "vrrp_instance {name} {{\n state {state}\n interface eth0\n virtual_router_id {vrid}\n priority {priority}\n \
         advert_int {seconds}\n {extra}\n virtual_ipaddress {{\n  {list}\n }}\n}}\n"
    )
}
