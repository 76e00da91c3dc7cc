//! keepalived and HAProxy, set up as their documentation and distributions do it: the side of the comparison that
//! people run today.

use crate::demo::contender::Contender;
use crate::demo::contender::process::{Process, signal, tail};
use crate::demo::error::DemoError;
use crate::demo::identity::Identity;
use crate::demo::lab::{Host, Lab, VIRTUAL_V4, VIRTUAL_V6};
use crate::demo::sandbox;
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::time::Duration;

pub struct Settings {
    pub advert_interval: Duration,
    /// Whether a service manager starts a dead HAProxy again at once. With Debian's units it does (after 100 ms).
    pub restarts_proxy: bool,
}

pub struct KeepalivedHaproxy {
    settings: Settings,
    name: String,
    nodes: [Node; 2],
}

struct Node {
    host: Host,
    directory: PathBuf,
    keepalived: Option<Process>,
    haproxy: Option<Process>,
}

impl KeepalivedHaproxy {
    pub fn new(lab: &Lab, identity: &Identity, settings: Settings) -> Result<KeepalivedHaproxy, DemoError> {
        let [a, b] = &lab.nodes;
        let node = |host: &Host, priority| Node::prepare(host, priority, lab, identity, &settings);
        Ok(KeepalivedHaproxy {
            nodes: [node(a, 254)?, node(b, 253)?],
            name: "keepalived + HAProxy".to_owned(),
            settings,
        })
    }

    fn node(&mut self, node: usize) -> &mut Node {
        let [a, b] = &mut self.nodes;
        if node == 0 { a } else { b }
    }
}

impl Contender for KeepalivedHaproxy {
    fn name(&self) -> &str {
        &self.name
    }

    fn start(&mut self, node: usize) -> Result<(), DemoError> {
        self.node(node).start_haproxy()?;
        self.node(node).start_keepalived()
    }

    fn kill(&mut self, node: usize) -> Result<(), DemoError> {
        let node = self.node(node);
        for process in [node.keepalived.take(), node.haproxy.take()].iter_mut().flatten() {
            process.kill_tree()?;
        }
        Ok(())
    }

    fn kill_proxy(&mut self, node: usize) -> Result<(), DemoError> {
        let restarts = self.settings.restarts_proxy;
        let node = self.node(node);
        if let Some(mut haproxy) = node.haproxy.take() {
            haproxy.kill_tree()?;
        }
        if restarts {
            std::thread::sleep(SYSTEMD_RESTART);
            node.start_haproxy()?;
        }
        Ok(())
    }

    fn freeze_proxy(&mut self, node: usize) -> Result<(), DemoError> {
        match &self.node(node).haproxy {
            Some(haproxy) => signal(haproxy.pid(), Signal::SIGSTOP),
            None => Ok(()),
        }
    }

    /// `systemctl stop keepalived`: priority 0, then the address is removed.
    fn hand_over(&mut self, node: usize) -> Result<(), DemoError> {
        match &self.node(node).keepalived {
            Some(keepalived) => signal(keepalived.pid(), Signal::SIGTERM),
            None => Ok(()),
        }
    }

    fn repair(&mut self, node: usize) -> Result<(), DemoError> {
        let node = self.node(node);
        if let Some(haproxy) = &mut node.haproxy {
            signal(haproxy.pid(), Signal::SIGCONT)?;
        }
        if !node.haproxy.as_mut().is_some_and(Process::is_running) {
            node.start_haproxy()?;
        }
        // A keepalived that was told to stop takes about a second to end.
        if node.state() == "STOP" {
            node.keepalived.as_mut().map_or(Ok(()), Process::wait)?;
        }
        if !node.keepalived.as_mut().is_some_and(Process::is_running) {
            node.start_keepalived()?;
        }
        Ok(())
    }

    fn is_ready(&mut self, node: usize) -> Result<bool, DemoError> {
        let node = self.node(node);
        let (Some(haproxy), Some(keepalived)) = (&mut node.haproxy, &mut node.keepalived) else { return Ok(false) };
        haproxy.must_run("haproxy")?;
        keepalived.must_run("keepalived")?;
        Ok(matches!(node.state().as_str(), "MASTER" | "BACKUP"))
    }

    fn log_tail(&self, node: usize) -> String {
        let [a, b] = &self.nodes;
        tail(&if node == 0 { a } else { b }.directory.join("log"))
    }
}

/// `RestartSec` of the units Debian ships.
const SYSTEMD_RESTART: Duration = Duration::from_millis(100);

impl Node {
    fn prepare(
        host: &Host,
        priority: u8,
        lab: &Lab,
        identity: &Identity,
        settings: &Settings,
    ) -> Result<Node, DemoError> {
        let directory = sandbox::run_dir().join(format!("keepalived-{}", host.name));
        let step = || DemoError::lab(format!("writing the configuration of {}", host.name));
        std::fs::create_dir_all(&directory).map_err(step())?;
        let node = Node { host: host.clone(), directory, keepalived: None, haproxy: None };
        std::fs::write(node.path("keepalived.conf"), node.keepalived_conf(priority, settings)).map_err(step())?;
        std::fs::write(node.path("haproxy.cfg"), node.haproxy_cfg(lab, identity)).map_err(step())?;
        // keepalived calls it as: notify INSTANCE|GROUP name state priority.
        std::fs::write(node.path("notify"), format!("#!/bin/sh\necho $3 > {}\n", node.path("state"))).map_err(step())?;
        std::fs::write(node.path("check"), format!("#!/bin/sh\nexec kill -0 $(cat {})\n", node.path("haproxy.pid")))
            .map_err(step())?;
        for script in ["notify", "check"] {
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(node.path(script), executable).map_err(step())?;
        }
        Ok(node)
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// What the notify script heard last.
    fn state(&self) -> String {
        std::fs::read_to_string(self.path("state")).unwrap_or_default().trim().to_owned()
    }

    fn start_haproxy(&mut self) -> Result<(), DemoError> {
        let mut command = sandbox::outsider("/usr/sbin/haproxy");
        command.args(["-db", "-f", &self.path("haproxy.cfg")]);
        let process = Process::start(&self.host, &mut command, &self.directory.join("log"))?;
        std::fs::write(self.path("haproxy.pid"), process.pid().to_string())
            .map_err(DemoError::lab("writing a pid file"))?;
        self.haproxy = Some(process);
        Ok(())
    }

    fn start_keepalived(&mut self) -> Result<(), DemoError> {
        // Files of an earlier life would stop it from starting, or speak for it.
        for stale in ["state", "keepalived.pid", "vrrp.pid"] {
            drop(std::fs::remove_file(self.path(stale)));
        }
        let mut command = sandbox::outsider("/usr/sbin/keepalived");
        command.args(["-n", "-l", "-D", "-G", "-P"]);
        command.args(["-f", &self.path("keepalived.conf"), "-p", &self.path("keepalived.pid")]);
        command.args(["-r", &self.path("vrrp.pid")]);
        self.keepalived = Some(Process::start(&self.host, &mut command, &self.directory.join("log"))?);
        Ok(())
    }

    fn keepalived_conf(&self, priority: u8, settings: &Settings) -> String {
        let Host { name, .. } = self.host;
        let (notify, check) = (self.path("notify"), self.path("check"));
        let interval = settings.advert_interval.as_secs_f64();
        let instance = |family: &str, vrid: u8, addresses: &str| {
            format!(
                "vrrp_instance {family} {{\n  state BACKUP\n  nopreempt\n  interface eth0\n  virtual_router_id {vrid}\n  \
                 priority {priority}\n  advert_int {interval}\n  version 3\n  virtual_ipaddress {{\n{addresses}  }}\n  \
                 track_script {{ haproxy }}\n{}}}\n",
                if family == "v4" { format!("  notify {notify}\n") } else { String::new() }
            )
        };
        format!(
            "global_defs {{\n  router_id {name}\n  script_user root\n  max_auto_priority 99\n}}\n\
             vrrp_script haproxy {{\n  script {check}\n  interval 2\n}}\n{}{}",
            instance("v4", 51, &format!("    {VIRTUAL_V4}/24 dev eth0\n")),
            instance("v6", 52, &format!("    fe80::77:10/64 dev eth0\n    {VIRTUAL_V6}/64 dev eth0\n")),
        )
    }

    fn haproxy_cfg(&self, lab: &Lab, identity: &Identity) -> String {
        let [one, two] = &lab.web;
        format!(
            "global\n  nbthread 2\n  maxconn 4000\n\
             defaults\n  mode http\n  option redispatch\n  retries 3\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  timeout tunnel 1h\n  timeout http-keep-alive 60s\n\
             frontend web\n  bind :::8080 v4v6\n  bind :::443 v4v6 ssl crt {}\n  default_backend nextcloud\n\
             backend nextcloud\n  balance leastconn\n  option httpchk GET /status.php\n  \
             server web-1 {}:80 check inter 1s\n  server web-2 {}:80 check inter 1s\n",
            identity.bundle.display(),
            one.v4,
            two.v4,
        )
    }
}
