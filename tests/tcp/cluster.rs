//! Three MariaDB Galera nodes of Debian's packages, in a network namespace of the calling thread.

use crate::edge::PATIENCE;
use nix::sched::{CloneFlags, unshare};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIBRARY: &str = "/usr/lib/galera/libgalera_smm.so";

pub struct Cluster {
    nodes: [Option<Child>; 3],
    directory: PathBuf,
    /// Of every server.
    more: Vec<String>,
}

/// Why the cluster cannot be had here; the test is skipped then.
pub fn missing() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, for a network namespace");
    }
    let has = |path: &str| Path::new(path).exists();
    if !has(LIBRARY) || !has("/usr/sbin/mariadbd") || !has("/usr/bin/mariadb") {
        return Some("needs mariadb-server and galera-4");
    }
    None
}

/// Moves the calling thread, and what it starts from here on, into an empty network.
pub fn enter_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
}

pub fn address(node: usize) -> String {
    format!("127.0.0.{}", 11 + node)
}

impl Cluster {
    /// All three nodes in step.
    pub fn start() -> Cluster {
        let mut cluster = Cluster::first(|_| Vec::new());
        let seed = cluster.data(0);
        // The others begin as copies of a node that stopped in good order: they need no transfer of state.
        assert!(cluster.root(0, "SHUTDOWN").status.success());
        assert!(cluster.nodes[0].take().unwrap().wait().unwrap().success());
        for node in 1..3 {
            let copied = Command::new("cp").arg("-a").arg(&seed).arg(cluster.data(node)).status().unwrap();
            assert!(copied.success());
        }
        cluster.boot(0, true);
        cluster.wait_for(0, "it serves", |answer| answer.contains("Synced"));
        cluster.boot(1, false);
        cluster.boot(2, false);
        for node in 0..3 {
            cluster.wait_for(node, "all three are there", |answer| {
                answer.contains("Synced") && answer.contains("size\t3")
            });
        }
        cluster
    }

    /// The first node, alone and in step with itself, with the accounts `lyre_check` (no grants) and `app`, and an empty
    /// table `app.t`. `prepare` may put files into the directory, and answers more arguments.
    pub fn first(prepare: impl FnOnce(&Path) -> Vec<String>) -> Cluster {
        let directory =
            std::env::temp_dir().join(format!("lyre-galera-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir(&directory).unwrap();
        // Not as root: what carries the state from node to node would then be nobody, and see nothing.
        assert!(Command::new("chown").arg("mysql").arg(&directory).status().unwrap().success());
        let more = prepare(&directory);
        let mut cluster = Cluster { nodes: [None, None, None], directory, more };
        let seed = cluster.data(0);
        // Each server removes at its start what it takes for its own left-overs in the directory for temporary files.
        let install = Command::new("/usr/bin/mariadb-install-db")
            .env("TMPDIR", &cluster.directory)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--user=mysql", "--skip-test-db"])
            .arg(format!("--datadir={}", seed.display()))
            .output()
            .unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        cluster.boot(0, true);
        cluster.wait_for(0, "it serves", |answer| answer.contains("Synced"));
        let statements = "CREATE USER 'lyre_check'@'%' IDENTIFIED BY 'check-secret' WITH MAX_USER_CONNECTIONS 4; \
                          CREATE DATABASE app; CREATE TABLE app.t (id BIGINT PRIMARY KEY) ENGINE=InnoDB; \
                          CREATE USER 'app'@'%' IDENTIFIED BY 'app-secret'; GRANT ALL ON app.* TO 'app'@'%';";
        let made = cluster.root(0, statements);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node{node}"))
    }

    pub fn boot(&mut self, node: usize, is_first: bool) {
        let own = address(node);
        let data = self.data(node);
        let log = std::fs::File::create(self.directory.join(format!("node{node}.log"))).unwrap();
        let mut command = Command::new("/usr/sbin/mariadbd");
        command.env("TMPDIR", &data);
        command.args([
            "--no-defaults",
            "--user=mysql",
            "--skip-name-resolve",
            "--binlog-format=ROW",
            "--max-connections=100",
        ]);
        command.args(["--default-storage-engine=InnoDB", "--innodb-autoinc-lock-mode=2", "--performance-schema=OFF"]);
        command.args([
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
        ]);
        command.args([
            "--key-buffer-size=64K",
            "--aria-pagecache-buffer-size=1M",
            "--wsrep-on=ON",
            "--wsrep-sst-method=rsync",
        ]);
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--socket={}", self.socket(node).display()));
        command.arg(format!("--pid-file={}/pid", data.display()));
        command.arg(format!("--bind-address={own}"));
        command.arg(format!("--wsrep-provider={LIBRARY}"));
        command.arg(format!("--wsrep-node-address={own}"));
        command.arg(format!("--wsrep-node-name=node{node}"));
        let peers: Vec<String> = (0..3).map(address).collect();
        command.arg(format!("--wsrep-cluster-address=gcomm://{}", peers.join(",")));
        command.arg(format!(
            "--wsrep-provider-options=gmcast.listen_addr=tcp://{own}:4567;ist.recv_addr={own}:4568;gcache.size=16M"
        ));
        command.args(&self.more);
        if is_first {
            command.arg("--wsrep-new-cluster");
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.nodes[node] = Some(child);
    }

    fn socket(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node{node}.sock"))
    }

    /// Statements as the administrator, at the node itself.
    pub fn root(&self, node: usize, statements: &str) -> Output {
        Command::new("/usr/bin/mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root", "--connect-timeout=5"])
            .arg(format!("--socket={}", self.socket(node).display()))
            .arg("--execute")
            .arg(statements)
            .output()
            .unwrap()
    }

    pub fn ask(&self, node: usize, statements: &str) -> String {
        String::from_utf8_lossy(&self.root(node, statements).stdout).trim().to_owned()
    }

    /// Waits until the node's state in the cluster is `so`.
    pub fn wait_for(&mut self, node: usize, what: &str, so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let answer =
                self.ask(node, "SHOW STATUS LIKE 'wsrep_local_state_comment'; SHOW STATUS LIKE 'wsrep_cluster_size'");
            if so(&answer) {
                return;
            }
            let ended = self.nodes[node].as_mut().and_then(|child| child.try_wait().unwrap());
            let is_in_time = ended.is_none() && Instant::now() < deadline;
            assert!(is_in_time, "node {node}, not: {what}: {answer}\n{}", self.complaints());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the nodes' logs say of errors.
    fn complaints(&self) -> String {
        let log =
            |node: usize| std::fs::read_to_string(self.directory.join(format!("node{node}.log"))).unwrap_or_default();
        let is_bad = |line: &&str| line.contains("ERROR") || line.contains("rror:");
        let of = |node: usize| {
            log(node).lines().filter(is_bad).map(|line| format!("node {node}: {line}\n")).collect::<String>()
        };
        (0..3).map(of).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut child in self.nodes.iter_mut().filter_map(Option::take) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The command line client in one session, as an application holds one.
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        let mut child = Command::new("/usr/bin/mariadb")
            .args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect"])
            .args(["--host=127.0.0.1", "--protocol=tcp", "--user=app", "--password=app-secret", "--database=app"])
            .arg(format!("--port={port}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Client { child, input, output }
    }

    /// The last line that `statements` answer; none if the session is gone.
    pub fn ask(&mut self, statements: &str) -> Option<String> {
        writeln!(self.input, "{statements}").ok()?;
        let mut line = String::new();
        let count = self.output.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim().to_owned())
    }

    /// Blocks until the client gives up.
    pub fn wait_end(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
