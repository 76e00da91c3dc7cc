//! The laboratory: hosts on one switch, each in its own network namespace.
//!
//! ```text
//!   client        web-1        web-2
//!     │             │            │
//!  ═══╧═════════════╧════════════╧═══  switch: a Linux bridge in the director's namespace
//!         │                  │
//!       node-a             node-b      10.77.0.0/24 and fd77::/64, virtual address .10
//! ```
//!
//! A host is a namespace held open by a descriptor. Work "on a host" is a thread that joined the namespace; a process
//! started from such a thread lives there.

use crate::demo::error::DemoError;
use crate::demo::sandbox;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The virtual address of the pair.
pub const VIRTUAL_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
pub const VIRTUAL_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10);

/// Everything on the switch.
pub struct Lab {
    pub client: Host,
    /// `node-a` and `node-b`.
    pub nodes: [Host; 2],
    /// `web-1` and `web-2`.
    pub web: [Host; 2],
}

/// One machine of the laboratory. Its interface is `eth0`; its port on the switch has its name.
#[derive(Clone)]
pub struct Host {
    pub name: &'static str,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    network: Arc<File>,
}

impl Lab {
    /// Builds all hosts and plugs them in. Must run inside the sandbox.
    pub fn build() -> Result<Lab, DemoError> {
        ip_batch(
            "link set lo up\n\
             link add switch type bridge mcast_snooping 0 forward_delay 0\n\
             link set switch up\n",
        )?;
        let host = |name, last| Host::build(name, last);
        Ok(Lab {
            client: host("client", 100)?,
            nodes: [host("node-a", 11)?, host("node-b", 12)?],
            web: [host("web-1", 21)?, host("web-2", 22)?],
        })
    }

    pub fn virtual_addresses() -> [IpAddr; 2] {
        [VIRTUAL_V4.into(), VIRTUAL_V6.into()]
    }
}

impl Host {
    fn build(name: &'static str, last: u8) -> Result<Host, DemoError> {
        let network = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        .map_err(DemoError::lab(format!("making the network namespace of {name}")))?;
        let host = Host {
            name,
            v4: Ipv4Addr::new(10, 77, 0, last),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(last)),
            network: Arc::new(network),
        };
        host.on(|| settle_network(name))??;
        ip_batch(&format!(
            "link add {name} type veth peer name eth0 netns {}\n\
             link set {name} master switch up\n",
            host.namespace_path(std::process::id()),
        ))?;
        host.on(|| ip_batch(&format!("link set lo up\nlink set eth0 up\n{}", host.address_commands())))??;
        Ok(host)
    }

    /// Path of the namespace as process `pid` (this one, numbered by the reader's PID namespace) holds it.
    pub fn namespace_path(&self, pid: u32) -> String {
        format!("/proc/{pid}/fd/{}", self.network.as_raw_fd())
    }

    /// Runs `work` on this host and waits for it.
    pub fn on<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, DemoError> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&*self.network, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
        .map_err(DemoError::lab(format!("working on {}", self.name)))
    }

    /// A thread that lives on this host.
    pub fn thread(&self, work: impl FnOnce() + Send + 'static) -> JoinHandle<io::Result<()>> {
        let network = Arc::clone(&self.network);
        thread::spawn(move || {
            setns(&*network, CloneFlags::CLONE_NEWNET)?;
            work();
            Ok(())
        })
    }

    /// Starts a process on this host.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, DemoError> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.on(|| command.spawn())?.map_err(DemoError::lab(format!("starting {program} on {}", self.name)))
    }

    /// Pulls the cable at the switch. The host sees its carrier go.
    pub fn unplug(&self) -> Result<(), DemoError> {
        ip_batch(&format!("link set {} down\n", self.name))
    }

    pub fn plug(&self) -> Result<(), DemoError> {
        ip_batch(&format!("link set {} up\n", self.name))
    }

    /// As after a power cycle: only the host's own addresses are left, and it answers ARP for all it has.
    pub fn reset_addresses(&self) -> Result<(), DemoError> {
        let commands = format!(
            "address flush dev lo scope global\naddress flush dev eth0 scope global\n{}",
            self.address_commands()
        );
        self.on(|| {
            set_sysctls(self.name, &[("ipv4/conf/eth0/arp_ignore", "0"), ("ipv4/conf/eth0/arp_announce", "0")])?;
            ip_batch(&commands)
        })?
    }

    fn address_commands(&self) -> String {
        format!("address add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\n", self.v4, self.v6)
    }
}

/// Addresses are usable at once, and a client that connects a thousand times a second does not run out of ports.
fn settle_network(name: &str) -> Result<(), DemoError> {
    let mut settings = vec![
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv4/ip_local_port_range", "1024 65000"),
        ("ipv4/tcp_tw_reuse", "1"),
    ];
    if name.starts_with("web") {
        settings.push(("core/somaxconn", "4096"));
    }
    set_sysctls(name, &settings)
}

/// In the namespace of the calling thread. A setting this kernel does not have is not needed.
fn set_sysctls(name: &str, settings: &[(&str, &str)]) -> Result<(), DemoError> {
    for (key, value) in settings {
        match std::fs::write(format!("/proc/sys/net/{key}"), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DemoError::Lab { step: format!("setting net/{key} on {name}"), source: error });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Runs `ip -batch` in the namespace of the calling thread.
fn ip_batch(commands: &str) -> Result<(), DemoError> {
    let started = sandbox::outsider("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DemoError::Command {
                command: "ip".to_owned(),
                said: "not installed; the demo builds its switch with it (package iproute2)".to_owned(),
            });
        }
        other => other.map_err(DemoError::lab("starting ip"))?,
    };
    if let Some(mut input) = child.stdin.take() {
        input.write_all(commands.as_bytes()).map_err(DemoError::lab("writing to ip"))?;
    }
    let output = child.wait_with_output().map_err(DemoError::lab("waiting for ip"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(DemoError::Command {
        command: format!("ip -batch <<< \"{}\"", commands.trim_end().replace('\n', "; ")),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
