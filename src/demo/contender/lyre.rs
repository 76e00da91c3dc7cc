//! The real binary on both nodes, with one configuration file.

use crate::control::status::{Router, Status, WorkerState};
use crate::demo::contender::Contender;
use crate::demo::contender::process::{Process, signal, tail};
use crate::demo::error::DemoError;
use crate::demo::identity::{self, Identity};
use crate::demo::lab::{Host, Lab, VIRTUAL_V4, VIRTUAL_V6};
use crate::demo::sandbox;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub struct Lyre {
    binary: PathBuf,
    nodes: [Node; 2],
}

struct Node {
    host: Host,
    directory: PathBuf,
    process: Option<Process>,
    frozen: Option<Pid>,
}

impl Lyre {
    /// `binary`: what is run as `lyre run`.
    pub fn new(lab: &Lab, identity: &Identity, binary: &Path, advert_interval: Duration) -> Result<Lyre, DemoError> {
        let node = |host: &Host| -> Result<Node, DemoError> {
            let directory = sandbox::run_dir().join(format!("lyre-{}", host.name));
            std::fs::create_dir_all(&directory).map_err(DemoError::lab("making a node's directory"))?;
            let node = Node { host: host.clone(), directory, process: None, frozen: None };
            std::fs::write(node.config(), configuration(lab, identity, &node, advert_interval))
                .map_err(DemoError::lab("writing lyre.toml"))?;
            Ok(node)
        };
        std::fs::write(secret(), "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n")
            .map_err(DemoError::lab("writing the cluster secret"))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(secret(), private).map_err(DemoError::lab("protecting the cluster secret"))?;
        let [a, b] = &lab.nodes;
        Ok(Lyre { binary: binary.to_owned(), nodes: [node(a)?, node(b)?] })
    }

    fn node(&mut self, node: usize) -> &mut Node {
        let [a, b] = &mut self.nodes;
        if node == 0 { a } else { b }
    }

    /// Runs `lyre` with `arguments` on a node and gives back what it printed, if it succeeded.
    fn ask(&mut self, node: usize, arguments: &[&str]) -> Result<String, DemoError> {
        let binary = self.binary.clone();
        let node = self.node(node);
        let mut command = sandbox::outsider(&binary);
        command.args(arguments).arg("--socket").arg(node.socket());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = node
            .host
            .spawn(&mut command)?
            .wait_with_output()
            .map_err(DemoError::lab(format!("waiting for lyre {}", arguments.join(" "))))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(DemoError::Command {
            command: format!("lyre {}", arguments.join(" ")),
            said: [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned()).join(" "),
        })
    }
}

impl Contender for Lyre {
    fn name(&self) -> &str {
        "Lyre"
    }

    fn start(&mut self, node: usize) -> Result<(), DemoError> {
        let mut command = sandbox::outsider(&self.binary);
        let node = self.node(node);
        command.args(["run", "--config"]).arg(node.config());
        node.process = Some(Process::start(&node.host, &mut command, &node.directory.join("log"))?);
        Ok(())
    }

    fn kill(&mut self, node: usize) -> Result<(), DemoError> {
        match self.node(node).process.take() {
            Some(mut process) => process.kill_tree(),
            None => Ok(()),
        }
    }

    fn kill_proxy(&mut self, node: usize) -> Result<(), DemoError> {
        signal(self.node(node).worker()?, Signal::SIGKILL)
    }

    fn freeze_proxy(&mut self, node: usize) -> Result<(), DemoError> {
        let node = self.node(node);
        let worker = node.worker()?;
        node.frozen = Some(worker);
        signal(worker, Signal::SIGSTOP)
    }

    fn hand_over(&mut self, node: usize) -> Result<(), DemoError> {
        self.ask(node, &["failover"]).map(drop)
    }

    fn repair(&mut self, node: usize) -> Result<(), DemoError> {
        if let Some(worker) = self.node(node).frozen.take() {
            signal(worker, Signal::SIGCONT)?;
        }
        if !self.node(node).process.as_mut().is_some_and(Process::is_running) {
            return self.start(node);
        }
        self.ask(node, &["failover", "--resume"]).map(drop)
    }

    fn is_ready(&mut self, node: usize) -> Result<bool, DemoError> {
        let Node { process: Some(process), host, .. } = self.node(node) else { return Ok(false) };
        process.must_run(&format!("lyre run on {}", host.name))?;
        let answer = self.ask(node, &["status", "--json"]).ok();
        let status = answer.and_then(|text| serde_json::from_str::<Status>(&text).ok());
        Ok(status.is_some_and(|status| {
            let takes_part = |router: &Router| matches!(router.state.as_str(), "active" | "backup");
            status.worker.state == WorkerState::Ready
                && status.pair.is_some_and(|link| link.is_up)
                && !status.routers.is_empty()
                && status.routers.iter().all(takes_part)
        }))
    }

    fn log_tail(&self, node: usize) -> String {
        let [a, b] = &self.nodes;
        tail(&if node == 0 { a } else { b }.directory.join("log"))
    }
}

impl Node {
    fn config(&self) -> PathBuf {
        self.directory.join("lyre.toml")
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("lyre.sock")
    }

    /// The worker is the parent's only child.
    fn worker(&self) -> Result<Pid, DemoError> {
        let children = self.process.as_ref().map(Process::children).unwrap_or_default();
        children.last().copied().ok_or_else(|| DemoError::Command {
            command: format!("looking for the worker of {}", self.host.name),
            said: "it has none".to_owned(),
        })
    }
}

fn secret() -> PathBuf {
    sandbox::run_dir().join("cluster.key")
}

/// The same on both nodes but for the admin socket, because both share one file system here.
fn configuration(lab: &Lab, identity: &Identity, node: &Node, advert_interval: Duration) -> String {
    let [a, b] = &lab.nodes;
    let [one, two] = &lab.web;
    let name = identity::NAME;
    format!(
        r#"[cluster]
secret_file = "{secret}"
nodes = [
  {{ name = "{a_name}", address = "{a_v4}" }},
  {{ name = "{b_name}", address = "{b_v4}" }},
]

[[vip]]
addresses = ["{VIRTUAL_V4}/24", "{VIRTUAL_V6}/64"]
interface = "eth0"
vrid = 51
advert_interval = "{advert_ms}ms"

[tls]
certificates = [{{ cert = "{cert}", key = "{key}" }}]

[nextcloud]
hosts = ["{name}"]
servers = ["{one}:80", "{two}:80"]

[[listener]]
address = "0.0.0.0:443"
kind = "https"

[[listener]]
address = "[::]:443"
kind = "https"

[[listener]]
address = "0.0.0.0:8080"
kind = "http"

[admin]
socket = "{admin}"

[log]
access = "off"
"#,
        secret = secret().display(),
        a_name = a.name,
        a_v4 = a.v4,
        b_name = b.name,
        b_v4 = b.v4,
        advert_ms = advert_interval.as_millis(),
        cert = identity.certificate.display(),
        key = identity.key.display(),
        one = one.v4,
        two = two.v4,
        admin = node.socket().display(),
    )
}
