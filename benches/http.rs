//! Data-plane benchmark: Lyre, HAProxy and nginx in one run, pinned alike, same origin, interleaved rounds.
//!
//! Prints ratios to HAProxy and writes docs/bench/http.md. Placement A: the proxy has CPU 1 for itself and the origin
//! shares CPU 0 with the load generator. Placement B: proxy and origin share CPU 1. CPU per request is the growth of
//! the proxy's run time (`/proc/PID/task/*/schedstat`) over the requests answered.
//!
//! Environment: `LYRE_BENCH_ROUNDS` (3), `LYRE_BENCH_SECONDS` (2), `LYRE_BENCH_ONLY` (substring of a case name),
//! `LYRE_BIN` (target/dist/lyre).
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod shipped;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONTENDERS: [&str; 3] = ["haproxy", "nginx", "lyre"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("origin") {
        return origin(arguments[2].parse().unwrap());
    }
    for tool in ["haproxy", "nginx", "wrk", "h2load", "openssl", "taskset"] {
        assert!(found(tool), "{tool} is not installed; run tests/peers.sh bench");
    }
    let bench = Bench::new();
    let mut report = Report::new(&bench);
    throughput(&bench, &mut report);
    fixed_rate(&bench, &mut report);
    handshakes(&bench, &mut report);
    idle_memory(&bench, &mut report);
    report.finish();
}

fn found(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin command -v {tool}")])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Ends its process when dropped.
struct Running(Child);

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

struct Bench {
    dir: PathBuf,
    lyre: PathBuf,
    seconds: u64,
    rounds: u64,
    only: Option<String>,
}

/// One contender in front of an origin.
struct Proxy {
    running: Running,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Bench {
    fn new() -> Bench {
        let dir = std::env::temp_dir().join(format!("lyre-bench-http-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, kind) in [("ec", "ec"), ("rsa", "rsa")] {
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=bench.test"]);
            command.args(["-addext", "subjectAltName=DNS:bench.test"]);
            if kind == "ec" {
                command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
            } else {
                command.args(["-newkey", "rsa:2048"]);
            }
            let (key, cert) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.crt")));
            command.arg("-keyout").arg(&key).arg("-out").arg(&cert).stderr(Stdio::null());
            assert!(command.status().unwrap().success(), "openssl req");
            let joined = [std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap()].concat();
            std::fs::write(dir.join(format!("{name}.pem")), joined).unwrap();
        }
        let lyre = shipped::lyre().unwrap();
        Bench {
            dir,
            lyre,
            seconds: setting("LYRE_BENCH_SECONDS", 2),
            rounds: setting("LYRE_BENCH_ROUNDS", 3),
            only: std::env::var("LYRE_BENCH_ONLY").ok(),
        }
    }

    fn wanted(&self, case: &str) -> bool {
        self.only.as_deref().is_none_or(|only| case.contains(only))
    }

    /// An origin pinned to `cpu`.
    fn origin(&self, cpu: usize) -> (Running, SocketAddr) {
        let address = free_address();
        let child = Command::new("taskset")
            .args(["-c", &cpu.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args(["origin", &address.port().to_string()])
            .spawn()
            .unwrap();
        let running = Running(child);
        wait_for(address);
        (running, address)
    }

    fn start(&self, contender: &str, origin: SocketAddr, key: &str) -> Proxy {
        let (plain, tls) = (free_address(), free_address());
        let pem = self.dir.join(format!("{key}.pem"));
        let config = self.dir.join(format!("{contender}.conf"));
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]);
        match contender {
            "haproxy" => {
                std::fs::write(&config, haproxy(plain, tls, origin, &pem)).unwrap();
                command.args(["haproxy", "-db", "-q", "-f"]).arg(&config);
            }
            "nginx" => {
                std::fs::write(&config, nginx(&self.dir, plain, tls, origin, &pem)).unwrap();
                command.args(["nginx", "-p"]).arg(&self.dir).arg("-c").arg(&config);
            }
            _ => {
                std::fs::write(&config, lyre(&self.dir, plain, tls, origin, key)).unwrap();
                command.arg(&self.lyre).args(["run", "--config"]).arg(&config);
            }
        }
        let log = std::fs::File::create(self.dir.join(format!("{contender}.log"))).unwrap();
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        command.stdout(Stdio::null()).stderr(log);
        let running = Running(command.spawn().unwrap());
        wait_for(plain);
        wait_for(tls);
        wait_for_answer(plain, &self.dir.join(format!("{contender}.log")));
        Proxy { running, plain, tls }
    }
}

fn haproxy(plain: SocketAddr, tls: SocketAddr, origin: SocketAddr, pem: &Path) -> String {
    format!(
        "global\n nbthread 1\n maxconn 9500\n ssl-default-bind-options ssl-min-ver TLSv1.2\n\
         defaults\n mode http\n option http-keep-alive\n option forwardfor\n http-reuse always\n\
         timeout client 60s\n timeout server 60s\n timeout connect 5s\n timeout http-keep-alive 300s\n\
         frontend f\n bind {plain}\n bind {tls} ssl crt {}\n default_backend b\n\
         backend b\n server s {origin}\n",
        pem.display()
    )
}

fn nginx(dir: &Path, plain: SocketAddr, tls: SocketAddr, origin: SocketAddr, pem: &Path) -> String {
    let (dir, pem) = (dir.display(), pem.display());
    format!(
        "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000; pid {dir}/nginx.pid;\n\
         error_log {dir}/nginx.error;\nevents {{ worker_connections 19000; }}\nhttp {{ access_log off;\n\
         client_body_temp_path {dir}/nb; proxy_temp_path {dir}/np; fastcgi_temp_path {dir}/nf;\n\
         uwsgi_temp_path {dir}/nu; scgi_temp_path {dir}/ns; keepalive_timeout 300s; keepalive_requests 100000000;\n\
         upstream o {{ server {origin}; keepalive 256; keepalive_requests 100000000; }}\n\
         server {{ listen {plain} backlog=4096; listen {tls} ssl backlog=4096;\n\
         ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_session_cache shared:s:10m;\n\
         location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
    )
}

fn lyre(dir: &Path, plain: SocketAddr, tls: SocketAddr, origin: SocketAddr, key: &str) -> String {
    let d = dir.display();
    format!(
        "[[listener]]\naddress = \"{plain}\"\nkind = \"http\"\n[[listener]]\naddress = \"{tls}\"\nkind = \"https\"\n\
         [tls]\ncertificates = [{{ cert = \"{d}/{key}.crt\", key = \"{d}/{key}.key\" }}]\n\
         [nextcloud]\nhosts = [\"bench.test\", \"127.0.0.1\"]\nservers = [\"{origin}\"]\nmax_requests_per_server = 4096\n\
         [timeouts]\nkeepalive = \"300s\"\n\
         [limits]\nmax_connections = 18000\nmax_connections_per_client = 18000\nmax_keepalive_requests = 100000000\n\
         [worker]\ncores = 1\n[admin]\nsocket = \"{d}/lyre.sock\"\n[log]\naccess = \"{d}/access.log\"\n"
    )
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

/// Nanoseconds of CPU that `pid` and its descendants have used.
fn cpu_nanos(pid: u32) -> u64 {
    family(pid)
        .iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten())
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let children = std::fs::read_dir(format!("/proc/{}/task", found[next]))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
            .collect::<String>();
        found.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        next += 1;
    }
    found
}

/// Memory written to by the family, in bytes.
fn private_dirty(pid: u32) -> u64 {
    family(pid)
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .flat_map(|text| {
            text.lines()
                .filter(|l| l.starts_with("Private_Dirty:"))
                .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
        .sum::<u64>()
        * 1024
}

#[derive(Default, Clone)]
struct Samples(Vec<f64>);

impl Samples {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn throughput(bench: &Bench, report: &mut Report) {
    let mut rows = Vec::new();
    for (scheme, body, connections) in [
        ("plain", 100, 64),
        ("plain", 10_240, 64),
        ("plain", 1_048_576, 16),
        ("tls", 100, 64),
        ("tls", 10_240, 64),
        ("tls", 1_048_576, 16),
    ] {
        for placement in ["A", "B"] {
            let case = format!("throughput {scheme} {body} B, placement {placement}, {connections} connections");
            if !bench.wanted(&case) {
                continue;
            }
            let (_origin, origin) = bench.origin(if placement == "A" { 0 } else { 1 });
            let mut cpu = BTreeMap::<&str, Samples>::new();
            let mut rate = BTreeMap::<&str, Samples>::new();
            for _ in 0..bench.rounds {
                for contender in CONTENDERS {
                    let proxy = bench.start(contender, origin, "ec");
                    let url = match scheme {
                        "plain" => format!("http://{}/{body}", proxy.plain),
                        _ => format!("https://{}/{body}", proxy.tls),
                    };
                    wrk(&url, connections, 1); // warm pools and caches
                    let before = cpu_nanos(proxy.running.0.id());
                    let (requests, per_second, errors) = wrk(&url, connections, bench.seconds);
                    let used = cpu_nanos(proxy.running.0.id()) - before;
                    assert!(requests > 0 && errors == 0, "{case}: {contender}: {requests} requests, {errors} errors");
                    cpu.entry(contender).or_default().0.push(used as f64 / 1000.0 / requests as f64);
                    rate.entry(contender).or_default().0.push(per_second);
                }
            }
            let line = ratios(&case, &cpu, &rate);
            println!("{line}");
            rows.push(line);
        }
    }
    report.section(
        "CPU per request and throughput",
        "| case | HAProxy µs | nginx | Lyre | HAProxy req/s | nginx | Lyre |\n|---|---|---|---|---|---|---|",
        &rows,
    );
}

fn ratios(case: &str, cpu: &BTreeMap<&str, Samples>, rate: &BTreeMap<&str, Samples>) -> String {
    let (c, r) = (|who: &str| cpu[who].median(), |who: &str| rate[who].median());
    format!(
        "| {case} | {:.1} | {:.2}x | {:.2}x | {:.0} | {:.2}x | {:.2}x |",
        c("haproxy"),
        c("nginx") / c("haproxy"),
        c("lyre") / c("haproxy"),
        r("haproxy"),
        r("nginx") / r("haproxy"),
        r("lyre") / r("haproxy"),
    )
}

/// Requests answered, per second, and socket or status errors.
fn wrk(url: &str, connections: u32, seconds: u64) -> (u64, f64, u64) {
    let output = Command::new("taskset")
        .args(["-c", "0", "wrk", "-t1", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), url])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut requests = 0;
    let mut rate = 0.0;
    let mut errors = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [count, "requests", "in", ..] => requests = count.parse().unwrap_or(0),
            ["Requests/sec:", value] => rate = value.parse().unwrap_or(0.0),
            ["Socket", "errors:", rest @ ..] => {
                errors += rest.iter().filter_map(|w| w.trim_end_matches(',').parse::<u64>().ok()).sum::<u64>();
            }
            ["Non-2xx", .., count] => errors += count.parse::<u64>().unwrap_or(1),
            _ => {}
        }
    }
    (requests, rate, errors)
}

fn fixed_rate(bench: &Bench, report: &mut Report) {
    let mut rows = Vec::new();
    for (body, connections, each) in [(100, 64, 100), (10_240, 64, 50), (100, 8, 100)] {
        let case = format!("fixed rate plain {body} B, {connections} connections x {each}/s, placement A");
        if !bench.wanted(&case) {
            continue;
        }
        let (_origin, origin) = bench.origin(0);
        let mut line = format!("| {case} |");
        for contender in CONTENDERS {
            let (mut p50, mut p99, mut cpu) = (Samples::default(), Samples::default(), Samples::default());
            for _ in 0..bench.rounds {
                let proxy = bench.start(contender, origin, "ec");
                let log = bench.dir.join("h2load.log");
                let _ = std::fs::remove_file(&log);
                let before = cpu_nanos(proxy.running.0.id());
                let status = Command::new("taskset")
                    .args(["-c", "0", "h2load", "--h1", "-m1", "-t1", "-D", "3"])
                    .args(["-c", &connections.to_string(), &format!("--rps={each}")])
                    .arg(format!("--log-file={}", log.display()))
                    .arg(format!("http://{}/{body}", proxy.plain))
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
                assert!(status.success(), "h2load");
                let used = cpu_nanos(proxy.running.0.id()) - before;
                let mut times: Vec<u64> = std::fs::read_to_string(&log)
                    .unwrap_or_default()
                    .lines()
                    .filter_map(|l| l.split('\t').nth(2)?.parse().ok())
                    .collect();
                times.sort_unstable();
                let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize] as f64;
                p50.0.push(at(0.50));
                p99.0.push(at(0.99));
                cpu.0.push(used as f64 / 1000.0 / times.len() as f64);
            }
            let _ = write!(line, " {:.0} / {:.0}; {:.1} |", p50.median(), p99.median(), cpu.median());
        }
        println!("{line}");
        rows.push(line);
    }
    report.section(
        "Latency at a fixed rate: p50 / p99 µs; CPU µs per request",
        "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|",
        &rows,
    );
}

fn handshakes(bench: &Bench, report: &mut Report) {
    let mut rows = Vec::new();
    for (key, label) in [("ec", "ECDSA P-256"), ("rsa", "RSA-2048")] {
        let case = format!("full handshake {label}, one at a time");
        if !bench.wanted(&case) {
            continue;
        }
        let (_origin, origin) = bench.origin(0);
        let mut line = format!("| {case} |");
        for contender in CONTENDERS {
            let (mut cpu, mut count) = (Samples::default(), Samples::default());
            for _ in 0..bench.rounds {
                let proxy = bench.start(contender, origin, key);
                let before = cpu_nanos(proxy.running.0.id());
                let output = Command::new("taskset")
                    .args(["-c", "0", "openssl", "s_time", "-new", "-time", &bench.seconds.to_string()])
                    .args(["-connect", &proxy.tls.to_string()])
                    .output()
                    .unwrap();
                let used = cpu_nanos(proxy.running.0.id()) - before;
                let text = String::from_utf8_lossy(&output.stdout);
                let done = text
                    .lines()
                    .find(|l| l.contains("connections in") && l.contains("real seconds"))
                    .and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok())
                    .unwrap_or(0);
                assert!(done > 0, "{contender}: no handshake succeeded: {text}");
                cpu.0.push(used as f64 / 1000.0 / done as f64);
                count.0.push(done as f64 / bench.seconds as f64);
            }
            let _ = write!(line, " {:.0}; {:.0}/s |", cpu.median(), count.median());
        }
        println!("{line}");
        rows.push(line);
    }
    report.section(
        "TLS full handshakes: CPU µs each; rate of one client",
        "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|",
        &rows,
    );
}

fn idle_memory(bench: &Bench, report: &mut Report) {
    let mut rows = Vec::new();
    for connections in [2_000_usize, 8_000] {
        let case = format!("{connections} idle keep-alive connections, plain");
        if !bench.wanted(&case) {
            continue;
        }
        let (_origin, origin) = bench.origin(0);
        let mut line = format!("| {case} |");
        for contender in CONTENDERS {
            let proxy = bench.start(contender, origin, "ec");
            let mut open = Vec::new();
            let ask = |open: &mut Vec<TcpStream>| {
                let mut stream = TcpStream::connect(proxy.plain).unwrap();
                stream.write_all(b"GET /100 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
                let mut answer = [0; 1024];
                assert!(stream.read(&mut answer).unwrap() > 100);
                open.push(stream);
            };
            for _ in 0..700 {
                ask(&mut open); // the first ones pay for tables and pools: Lyre has 1024 receive buffers, two a request
            }
            let before = private_dirty(proxy.running.0.id());
            for _ in 0..connections {
                ask(&mut open);
            }
            std::thread::sleep(Duration::from_millis(300));
            let grown = private_dirty(proxy.running.0.id()).saturating_sub(before);
            let _ = write!(line, " {:.0} |", grown as f64 / connections as f64);
        }
        println!("{line}");
        rows.push(line);
    }
    report.section(
        "Memory written per idle connection, bytes in user space",
        "| case | HAProxy | nginx | Lyre |\n|---|---|---|---|",
        &rows,
    );
}

struct Report {
    text: String,
    complete: bool,
}

impl Report {
    fn new(bench: &Bench) -> Report {
        let first = |command: &str, arguments: &[&str]| {
            let output = Command::new("sh")
                .args(["-c", &format!("PATH=$PATH:/usr/sbin {command} {} 2>&1", arguments.join(" "))])
                .output();
            output
                .map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or_default().to_owned())
                .unwrap_or_default()
        };
        let cpu = std::fs::read_to_string("/proc/cpuinfo")
            .unwrap_or_default()
            .lines()
            .find_map(|l| l.strip_prefix("model name").map(|r| r.trim_start_matches([' ', '\t', ':']).to_owned()))
            .unwrap_or_default();
        let text = format!(
            "# Data plane\n\nMade by `make bench-http`. Medians of {} rounds of {} s, contenders interleaved.\n\n\
             - kernel {}, CPU {cpu}, {} cores\n- {}\n- {}\n- {}\n- Lyre commit {}, access log and metrics on; HAProxy and nginx without access log\n\n\
             Placement A: the proxy alone on CPU 1, origin and load generator on CPU 0. Placement B: proxy and origin share CPU 1.\n\
             Ratios are to HAProxy; below 1 is less CPU, above 1 more requests.\n",
            bench.rounds,
            bench.seconds,
            first("uname", &["-r"]),
            std::thread::available_parallelism().map(usize::from).unwrap_or(0),
            first("haproxy", &["-v"]),
            first("nginx", &["-v"]),
            first("wrk", &["-v"]),
            first("git", &["rev-parse", "--short", "HEAD"]),
        );
        Report { text, complete: bench.only.is_none() }
    }

    fn section(&mut self, title: &str, head: &str, rows: &[String]) {
        if !rows.is_empty() {
            let _ = write!(self.text, "\n## {title}\n\n{head}\n{}\n", rows.join("\n"));
        }
    }

    fn finish(self) {
        let place = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/bench/http.md");
        if self.complete {
            std::fs::write(&place, self.text).unwrap();
            println!("bench-http: wrote docs/bench/http.md");
        } else {
            println!("bench-http: partial run, docs/bench/http.md left as it is");
        }
    }
}

/// A minimal origin: one epoll loop, fixed answers of `/N` bytes, `/status.php`. Level triggered, requests that fit
/// one read. It only has to be faster than any proxy.
fn origin(port: u16) {
    use std::os::fd::AsRawFd;
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    listener.set_nonblocking(true).unwrap();
    unsafe {
        libc::listen(listener.as_raw_fd(), 4096);
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    let epoll = unsafe { libc::epoll_create1(0) };
    let watch = |fd: i32, events: i32| {
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) };
    };
    watch(listener.as_raw_fd(), libc::EPOLLIN);
    let mut streams: BTreeMap<i32, (TcpStream, Vec<u8>, usize)> = BTreeMap::new();
    let answer = |body: usize| {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {body}\r\n\r\n")
                .into_bytes();
        bytes.resize(bytes.len() + body, b'x');
        bytes
    };
    let answers: BTreeMap<&str, Vec<u8>> = [("/100", 100), ("/10240", 10_240), ("/1048576", 1_048_576)]
        .into_iter()
        .map(|(path, body)| (path, answer(body)))
        .collect();
    let state = br#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2","versionstring":"32.0.3","edition":"","productname":"Nextcloud","extendedSupport":false}"#;
    let status = [
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", state.len())
            .as_bytes(),
        state,
    ]
    .concat();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    loop {
        let ready = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 512, -1) };
        for event in events.iter().take(ready.max(0) as usize) {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    let _ = stream.set_nonblocking(true);
                    let _ = stream.set_nodelay(true);
                    watch(stream.as_raw_fd(), libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET);
                    streams.insert(stream.as_raw_fd(), (stream, Vec::new(), 0));
                }
                continue;
            }
            let Some((stream, out, sent)) = streams.get_mut(&fd) else { continue };
            let mut closed = false;
            let mut buffer = [0_u8; 16 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => {
                        closed = true;
                        break;
                    }
                    Ok(n) => {
                        let path = buffer[..n].split(|b| *b == b' ').nth(1).and_then(|p| std::str::from_utf8(p).ok());
                        let reply = path.and_then(|p| answers.get(p)).unwrap_or(&status);
                        if *sent == out.len() {
                            out.clear();
                            *sent = 0;
                        }
                        out.extend_from_slice(reply);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        closed = true;
                        break;
                    }
                }
            }
            while *sent < out.len() {
                match stream.write(&out[*sent..]) {
                    Ok(n) => *sent += n,
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        closed = true;
                        break;
                    }
                }
            }
            if closed {
                streams.remove(&fd);
            }
        }
    }
}
