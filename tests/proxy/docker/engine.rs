//! A Docker Engine of this test's own: in namespaces of its own, with its socket and all its data in one directory.

use crate::edge::PATIENCE;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// To start an engine or a container on a machine that does a dozen other things.
pub const LONG: Duration = PATIENCE.saturating_mul(9);

const PROGRAM: &str = include_str!("app.c");
const EXAPP_PROGRAM: &str = include_str!("exapp.c");

/// Runs the program, and has nothing else.
pub const PLAIN: &str = "lyre-test/plain:1";
/// With a health check.
pub const CHECKED: &str = "lyre-test/checked:1";
/// An ExApp with a real frpc. Made by [`Engine::make_exapp`].
pub const EXAPP: &str = "lyre-test/exapp:1";
/// With what Debian has of certificates.
pub const DEBIAN: &str = "lyre-test/debian:1";

pub struct Engine {
    process: Child,
    directory: PathBuf,
}

impl Engine {
    /// With its images. `None`, and it is said why, where there can be none.
    #[allow(clippy::print_stdout)] // how a test says that it was skipped
    pub fn start(test: &str) -> Option<Engine> {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIPPED: {test}: needs root");
            return None;
        }
        if !["/usr/sbin/dockerd", "/usr/bin/dockerd"].iter().any(|path| Path::new(path).exists()) {
            println!("SKIPPED: {test}: Debian's docker.io is not installed");
            return None;
        }
        let directory =
            std::env::temp_dir().join(format!("lyre-docker-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("daemon.json"), "{}").unwrap();
        let log = File::create(directory.join("log")).unwrap();
        let at = directory.display();
        let dockerd = format!(
            "ip link set lo up; exec dockerd --host unix://{at}/socket --data-root {at}/data --exec-root {at}/exec \
             --pidfile {at}/pid --config-file {at}/daemon.json --iptables=false --ip6tables=false --bridge=none"
        );
        // What is in its process namespace ends with it, and its mounts with its mount namespace.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"])
            .args(["--kill-child=KILL", "sh", "-c", &dockerd])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut engine = Engine { process, directory };
        engine.wait();
        engine.make_images();
        Some(engine)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + LONG;
        while self.ask("GET", "/_ping", "").0 != 200 {
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(self.process.try_wait().unwrap().is_none(), "dockerd ended: {}", log());
            assert!(Instant::now() < deadline, "dockerd does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Status and body of a call past Lyre; the body that is sent is JSON.
    pub fn ask(&self, method: &str, path: &str, json: &str) -> (u16, String) {
        let (status, body) = self.ask_bytes(method, path, "application/json", json.as_bytes());
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub fn ask_bytes(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let file = self.directory.join("body");
        std::fs::write(&file, body).unwrap();
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", &LONG.as_secs().to_string(), "--request", method]);
        command.args(["--header", &format!("Content-Type: {content_type}"), "--write-out", "\n%{http_code}"]);
        if !body.is_empty() {
            command.arg("--data-binary").arg(format!("@{}", file.display()));
        }
        command.arg("--unix-socket").arg(self.socket()).arg(format!("http://docker{path}"));
        let Output { stdout, .. } = command.output().unwrap();
        let end = stdout.iter().rposition(|byte| *byte == b'\n').unwrap();
        (String::from_utf8_lossy(&stdout[end + 1..]).parse().unwrap(), stdout[..end].to_vec())
    }

    /// Asked past Lyre, as JSON.
    pub fn show(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The content of a file of a container.
    pub fn file(&self, container: &str, path: &str) -> Option<Vec<u8>> {
        use lyre::policy::exapp::engine::tar::{Entry, first};
        let path = format!("/containers/{container}/archive?path={path}");
        let (status, archive) = self.ask_bytes("GET", &path, "", b"");
        match first(&archive).filter(|_| status == 200)? {
            Entry::File(content) => Some(content.to_vec()),
            Entry::Other => None,
        }
    }

    /// From now on this thread, and what it starts, is in the engine's network, where containers with the host's network
    /// are. Every test has a thread of its own.
    pub fn enter(&self) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process.id())).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    }

    pub fn make_exapp(&self, frpc: &Path) {
        let root = self.path("exapp");
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        self.compile("exapp.c", EXAPP_PROGRAM, &root);
        std::fs::copy(frpc, root.join("frpc")).unwrap();
        self.import(&root, EXAPP, &[]);
    }

    fn compile(&self, name: &str, program: &str, root: &Path) {
        let source = self.path(name);
        std::fs::write(&source, program).unwrap();
        run(Command::new("cc").args(["-static", "-Os", "-o"]).arg(root.join("app")).arg(&source));
    }

    fn make_images(&self) {
        let root = self.path("root");
        std::fs::create_dir_all(&root).unwrap();
        self.compile("app.c", PROGRAM, &root);
        let health = "HEALTHCHECK --interval=100ms --timeout=60s --retries=1 CMD [\"/app\", \"check\"]";
        self.import(&root, PLAIN, &[]);
        self.import(&root, CHECKED, &[health]);
        for directory in ["etc", "usr/sbin", "usr/lib"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        std::fs::copy(root.join("app"), root.join("usr/sbin/update-ca-certificates")).unwrap();
        std::fs::write(root.join("usr/lib/os-release"), "ID=debian\n").unwrap();
        // As it is there.
        std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
        self.import(&root, DEBIAN, &[]);
    }

    fn import(&self, root: &Path, image: &str, changes: &[&str]) {
        let archive = self.directory.join("image.tar");
        run(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg("."));
        let (name, tag) = image.split_once(':').unwrap();
        let changes = ["ENTRYPOINT [\"/app\"]"].iter().chain(changes);
        let changes: String = changes.map(|change| format!("&changes={}", encoded(change))).collect();
        let path = format!("/images/create?fromSrc=-&repo={}&tag={tag}{changes}", encoded(name));
        let archive = std::fs::read(&archive).unwrap();
        let (status, body) = self.ask_bytes("POST", &path, "application/x-tar", &archive);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What runs in its namespaces ends a little later.
        let deadline = Instant::now() + PATIENCE;
        while std::fs::remove_dir_all(&self.directory).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// As it stands in a query.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
