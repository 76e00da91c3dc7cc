//! The three proxies with one task, and the origin behind them.

use crate::gauge::{Metric, Seen, cpu_nanos};
use crate::{CONTENDERS, shipped};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends its process when dropped.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM first: HAProxy's and nginx's workers follow their master.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where everything runs.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Name of the server's key: `ec` or `rsa`.
    pub(crate) key: &'static str,
    pub(crate) workers: usize,
    /// As taskset takes them.
    pub(crate) proxy_cpus: &'static str,
    pub(crate) origin_cpus: &'static str,
}

/// The proxy alone on CPU 1, origin and load generator on CPU 0.
pub(crate) const ALONE: Setup = Setup { key: "ec", workers: 1, proxy_cpus: "1", origin_cpus: "0" };
/// Proxy and origin share CPU 1.
pub(crate) const SHARING: Setup = Setup { key: "ec", workers: 1, proxy_cpus: "1", origin_cpus: "1" };

pub(crate) struct Bench {
    pub(crate) dir: PathBuf,
    lyre: PathBuf,
    pub(crate) seconds: u64,
    pub(crate) rounds: u64,
    pub(crate) only: Option<String>,
    /// Descriptors a process may have here.
    pub(crate) descriptors: u64,
}

/// One contender in front of an origin.
pub(crate) struct Proxy {
    running: Running,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Proxy {
    pub(crate) fn pid(&self) -> u32 {
        self.running.0.id()
    }

    /// Nanoseconds of CPU the proxy takes while `work` runs, and what that returns.
    pub(crate) fn cost<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let before = cpu_nanos(self.pid());
        let result = work();
        ((cpu_nanos(self.pid()) - before) as f64, result)
    }
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let dir = std::env::temp_dir().join(format!("lyre-bench-http-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        certificate(&dir, "ec", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        certificate(&dir, "rsa", &["rsa:2048"]);
        let number = |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let descriptors = hard.min(32_768); // more is not needed, and nginx's tables are as large as it may become
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard).unwrap();
        Bench {
            dir,
            lyre: shipped::lyre().unwrap(),
            seconds: number("LYRE_BENCH_SECONDS", 2),
            rounds: number("LYRE_BENCH_ROUNDS", 3),
            only: std::env::var("LYRE_BENCH_ONLY").ok(),
            descriptors,
        }
    }

    pub(crate) fn wanted(&self, case: &str) -> bool {
        self.only.as_deref().is_none_or(|only| case.contains(only))
    }

    /// Every contender once a round, in turn, so that a slow minute of the machine is everybody's.
    pub(crate) fn measure(&self, setup: &Setup, mut one: impl FnMut(&Proxy) -> Vec<(Metric, f64)>) -> Seen {
        let (_origin, origin) = self.origin(setup.origin_cpus);
        let mut seen = Seen::default();
        for _ in 0..self.rounds {
            for contender in CONTENDERS {
                seen.add(contender, &self.attempt(contender, origin, setup, &mut one));
            }
        }
        seen
    }

    /// A busy machine can stand still for a whole window. Two more tries before that ends a run of ten minutes.
    fn attempt<T>(&self, contender: &str, origin: SocketAddr, setup: &Setup, one: &mut impl FnMut(&Proxy) -> T) -> T {
        for _ in 0..2 {
            let measured = catch_unwind(AssertUnwindSafe(|| one(&self.start(contender, origin, setup))));
            match measured {
                Ok(values) => return values,
                Err(_) => println!("{contender}: once more"),
            }
        }
        one(&self.start(contender, origin, setup))
    }

    pub(crate) fn origin(&self, cpus: &str) -> (Running, SocketAddr) {
        let address = free_address();
        let child = Command::new("taskset")
            .args(["-c", cpus])
            .arg(std::env::current_exe().unwrap())
            .args(["origin", &address.port().to_string()])
            .spawn()
            .unwrap();
        let running = Running(child);
        wait_for(address);
        (running, address)
    }

    pub(crate) fn start(&self, contender: &str, origin: SocketAddr, setup: &Setup) -> Proxy {
        let (plain, tls) = (free_address(), free_address());
        let ends = Ends { dir: &self.dir, plain, tls, origin, descriptors: self.descriptors };
        let config = self.dir.join(format!("{contender}.conf"));
        let mut command = Command::new("taskset");
        command.args(["-c", setup.proxy_cpus]);
        match contender {
            "haproxy" => {
                std::fs::write(&config, ends.haproxy(setup)).unwrap();
                command.args(["haproxy", "-db", "-q", "-f"]).arg(&config);
            }
            "nginx" => {
                std::fs::write(&config, ends.nginx(setup)).unwrap();
                command.args(["nginx", "-p"]).arg(&self.dir).arg("-c").arg(&config);
            }
            _ => {
                std::fs::write(&config, ends.lyre(setup)).unwrap();
                command.arg(&self.lyre).args(["run", "--config"]).arg(&config);
            }
        }
        let log = self.dir.join(format!("{contender}.log"));
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let running = Running(command.spawn().unwrap());
        wait_for(plain);
        wait_for(tls);
        wait_for_answer(plain, &log);
        Proxy { running, plain, tls }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn certificate(dir: &Path, name: &str, kind: &[&str]) {
    let (key, cert) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.crt")));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=bench.test"]);
    command.args(["-addext", "subjectAltName=DNS:bench.test", "-newkey"]).args(kind);
    command.arg("-keyout").arg(&key).arg("-out").arg(&cert).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "openssl req");
    let joined = [std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap()].concat();
    std::fs::write(dir.join(format!("{name}.pem")), joined).unwrap();
}

/// What the configurations have in common.
struct Ends<'a> {
    dir: &'a Path,
    plain: SocketAddr,
    tls: SocketAddr,
    origin: SocketAddr,
    descriptors: u64,
}

impl Ends<'_> {
    fn haproxy(&self, setup: &Setup) -> String {
        let Ends { dir, plain, tls, origin, .. } = self;
        // Without strict limits it does not insist on two descriptors for each connection; an idle one has one.
        let (key, connections) = (setup.key, self.descriptors.saturating_sub(500));
        format!(
            "global\n nbthread {}\n no strict-limits\n maxconn {connections}\n\
             ssl-default-bind-options ssl-min-ver TLSv1.2\n\
             defaults\n mode http\n option http-keep-alive\n option forwardfor\n http-reuse always\n\
             timeout client 60s\n timeout server 60s\n timeout connect 5s\n timeout http-keep-alive 300s\n\
             timeout tunnel 1h\n\
             frontend f\n bind {plain}\n bind {tls} ssl crt {}/{key}.pem alpn h2,http/1.1\n default_backend b\n\
             backend b\n server s {origin}\n",
            setup.workers,
            dir.display()
        )
    }

    fn nginx(&self, setup: &Setup) -> String {
        let Ends { plain, tls, origin, descriptors, .. } = self;
        let (dir, key, connections) = (self.dir.display(), setup.key, descriptors.saturating_sub(100));
        let processes = match setup.workers {
            1 => "master_process off; worker_processes 1;".to_owned(),
            n => format!("user root; worker_processes {n};"),
        };
        format!(
            "daemon off; {processes} worker_rlimit_nofile {descriptors}; pid {dir}/nginx.pid;\n\
             error_log {dir}/nginx.error;\nevents {{ worker_connections {connections}; }}\nhttp {{ access_log off;\n\
             client_body_temp_path {dir}/nb; proxy_temp_path {dir}/np; fastcgi_temp_path {dir}/nf;\n\
             uwsgi_temp_path {dir}/nu; scgi_temp_path {dir}/ns; keepalive_timeout 300s; keepalive_requests 100000000;\n\
             client_max_body_size 0; proxy_request_buffering off; proxy_read_timeout 1h;\n\
             upstream o {{ server {origin}; keepalive 256; keepalive_requests 100000000; }}\n\
             server {{ listen {plain} backlog=4096; listen {tls} ssl http2 backlog=4096;\n\
             ssl_certificate {dir}/{key}.pem; ssl_certificate_key {dir}/{key}.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
             ssl_session_cache shared:s:10m; proxy_http_version 1.1;\n\
             location / {{ proxy_pass http://o; proxy_set_header Connection \"\";\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n\
             location /ws {{ proxy_pass http://o; proxy_set_header Connection upgrade;\n\
             proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
        )
    }

    fn lyre(&self, setup: &Setup) -> String {
        let Ends { plain, tls, origin, .. } = self;
        let (d, key) = (self.dir.display(), setup.key);
        format!(
            "[[listener]]\naddress = \"{plain}\"\nkind = \"http\"\n[[listener]]\naddress = \"{tls}\"\nkind = \"https\"\n\
             [tls]\ncertificates = [{{ cert = \"{d}/{key}.crt\", key = \"{d}/{key}.key\" }}]\n\
             [nextcloud]\nhosts = [\"bench.test\", \"127.0.0.1\"]\nservers = [\"{origin}\"]\nmax_requests_per_server = 20000\n\
             upgrades_per_second = 1000000\n[timeouts]\nkeepalive = \"300s\"\n\
             [limits]\nmax_connections = 18000\nmax_connections_per_client = 18000\nmax_keepalive_requests = 100000000\n\
             [worker]\ncores = {}\n[admin]\nsocket = \"{d}/lyre.sock\"\n[log]\naccess = \"{d}/access.log\"\n",
            setup.workers
        )
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_answer(address: SocketAddr, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.write_all(b"GET /100 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let mut answer = [0; 12];
        if stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 200" {
            return;
        }
        if Instant::now() > deadline {
            panic!(
                "{address} does not answer 200: {:?}\n{}",
                String::from_utf8_lossy(&answer),
                std::fs::read_to_string(log).unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
