//! The real binary in front of a real Apache with PHP-FPM and WebDAV, used by real clients: curl and cadaver. And the
//! largest bodies people move: 5 GiB each way, with the worker's memory bounded.
//!
//! `LYRE_TEST_GIB` makes the large bodies smaller (5).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, unreachable_pub)] // helpers of tests

#[path = "lab/port.rs"]
mod port;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// What a worker may grow by while 5 GiB pass: its pools of 64 KiB buffers and the allocator's slack.
const GROWTH_MAX: u64 = 48 << 20;

/// A child that is told to end, then waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Apache, PHP-FPM and Lyre on loopback, files in a directory of their own. All gone when dropped.
struct Site {
    lyre: Running,
    _apache: Running,
    _fpm: Running,
    directory: PathBuf,
    http: SocketAddr,
    https: SocketAddr,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn missing() -> Option<&'static str> {
    let is_there =
        |name: &str| ["/usr/bin", "/usr/sbin", "/bin"].iter().any(|directory| Path::new(directory).join(name).exists());
    ["apache2", "php-fpm8.2", "cadaver", "curl"].into_iter().find(|name| !is_there(name))
}

impl Site {
    /// `None`, with the reason printed, where a part is missing.
    fn start(test: &str) -> Option<Site> {
        if let Some(name) = missing() {
            println!("SKIPPED: {test}: needs {name}");
            return None;
        }
        let directory =
            std::env::temp_dir().join(format!("lyre-webdav-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::create_dir_all(directory.join("www/dav")).unwrap();
        let at = directory.display().to_string();
        let is_root = nix::unistd::Uid::effective().is_root();
        if is_root {
            // Apache's children give up root: they need to reach and own the tree.
            assert!(Command::new("chown").args(["-R", "www-data", &at]).status().unwrap().success());
        }
        let status = r#"{"installed":true,"maintenance":false,"needsDbUpgrade":false,"version":"32.0.3.2","versionstring":"32.0.3","edition":"","productname":"Nextcloud","extendedSupport":false}"#;
        fs::write(
            directory.join("www/status.php"),
            format!("<?php header('Content-Type: application/json'); echo '{status}';"),
        )
        .unwrap();
        fs::write(
            directory.join("www/echo.php"),
            "<?php $b = file_get_contents('php://input'); header('Content-Type: application/json'); echo json_encode(['method' => $_SERVER['REQUEST_METHOD'], \
             'length' => strlen($b), 'xff' => $_SERVER['HTTP_X_FORWARDED_FOR'] ?? null, 'proto' => $_SERVER['HTTP_X_FORWARDED_PROTO'] ?? null, \
             'host' => $_SERVER['HTTP_HOST'], 'uri' => $_SERVER['REQUEST_URI'], 'spoof' => $_SERVER['HTTP_X_REAL_IP'] ?? null], JSON_UNESCAPED_SLASHES);",
        )
        .unwrap();

        let user = if is_root { "user = www-data\ngroup = www-data\nlisten.owner = www-data\n" } else { "" };
        fs::write(
            directory.join("fpm.conf"),
            format!("[global]\nerror_log = {at}/fpm.log\ndaemonize = no\n[www]\n{user}listen = {at}/fpm.sock\npm = static\npm.max_children = 4\n"),
        )
        .unwrap();
        let fpm = Command::new("/usr/sbin/php-fpm8.2")
            .args(["-F", "-y"])
            .arg(directory.join("fpm.conf"))
            .stderr(Stdio::null())
            .spawn();

        let (apache_at, http, https) = (port::quiet(), port::quiet(), port::quiet());
        let modules = ["mpm_event", "authz_core", "dir", "mime", "proxy", "proxy_fcgi", "dav", "dav_fs"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let user = if is_root { "User www-data\nGroup www-data\n" } else { "" };
        fs::write(
            directory.join("apache.conf"),
            format!(
                "{modules}{user}ServerName 127.0.0.1\nListen {apache_at}\nPidFile {at}/apache.pid\nErrorLog {at}/apache.log\n\
                 TypesConfig /etc/mime.types\nDocumentRoot {at}/www\nDAVLockDB {at}/DavLock\nKeepAlive On\nAllowEncodedSlashes NoDecode\nLimitRequestBody 0\nKeepAliveTimeout 5\n\
                 <Directory {at}/www>\nRequire all granted\n</Directory>\n<Location /dav>\nDAV On\n</Location>\n\
                 <FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:{at}/fpm.sock|fcgi://localhost\"\n</FilesMatch>\n"
            ),
        )
        .unwrap();
        let apache = Command::new("/usr/sbin/apache2")
            .args(["-DFOREGROUND", "-f"])
            .arg(directory.join("apache.conf"))
            .stderr(Stdio::null())
            .spawn();

        let key = rcgen::generate_simple_self_signed(vec!["cloud.test".to_owned()]).unwrap();
        fs::write(directory.join("cloud.pem"), key.cert.pem()).unwrap();
        fs::write(directory.join("cloud.key"), key.signing_key.serialize_pem()).unwrap();
        let config = format!(
            "[[listener]]\naddress = \"{http}\"\nkind = \"http\"\n[[listener]]\naddress = \"{https}\"\nkind = \"https\"\n\
             [tls]\ncertificates = [{{ cert = \"cloud.pem\", key = \"cloud.key\" }}]\n\
             [nextcloud]\nhosts = [\"cloud.test\", \"localhost\"]\nservers = [\"{apache_at}\"]\n[admin]\nsocket = \"{at}/lyre.sock\"\n\
             [log]\naccess = \"off\"\n"
        );
        fs::write(directory.join("lyre.toml"), config).unwrap();
        let log = fs::File::create(directory.join("lyre.log")).unwrap();
        let lyre = Command::new(env!("CARGO_BIN_EXE_lyre"))
            .args(["run", "--config"])
            .arg(directory.join("lyre.toml"))
            .stderr(log)
            .spawn();
        let site = Site {
            lyre: Running(lyre.unwrap()),
            _apache: Running(apache.unwrap()),
            _fpm: Running(fpm.unwrap()),
            directory,
            http,
            https,
        };
        until("lyre listens", || TcpStream::connect(http).is_ok());
        until("a web server is up", || site.curl(&[], "/status.php").contains("\"installed\":true"));
        Some(site)
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "300", "-H", "Host: cloud.test"])
            .args(arguments)
            .arg(format!("http://{}{path}", self.http))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn curl_tls(&self, arguments: &[&str], path: &str) -> String {
        let port = self.https.port();
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "300", "--resolve", &format!("cloud.test:{port}:127.0.0.1")])
            .arg("--cacert")
            .arg(self.directory.join("cloud.pem"))
            .args(arguments)
            .arg(format!("https://cloud.test:{port}{path}"))
            .output()
            .unwrap();
        let log = fs::read_to_string(self.directory.join("lyre.log")).unwrap_or_default();
        assert!(output.status.success(), "curl {path}: {}\n{log}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Anonymous memory of the worker, the parent's one child that touches traffic.
    fn worker_bytes(&self) -> u64 {
        let parent = self.lyre.0.id();
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap().flatten();
        let children: String = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
        let worker = children.split_whitespace().next().expect("a worker").to_owned();
        let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

#[test]
fn php_sees_the_client_the_scheme_and_the_target_as_they_were() {
    let Some(site) = Site::start("php_sees_the_client_the_scheme_and_the_target_as_they_were") else { return };
    let plain = site.curl(&["-H", "X-Forwarded-For: 6.6.6.6", "-H", "X-Real-IP: 6.6.6.6"], "/echo.php/a%2Fb%20c?x=%3A");
    for expected in [
        "\"xff\":\"127.0.0.1\"",
        "\"proto\":\"http\"",
        "\"host\":\"cloud.test\"",
        "\"spoof\":\"127.0.0.1\"",
        "/echo.php/a%2Fb%20c?x=%3A",
    ] {
        assert!(plain.contains(expected), "{expected} in {plain}");
    }
    let tls = site.curl_tls(&["-X", "PUT", "--data-binary", "0123456789"], "/echo.php");
    for expected in ["\"proto\":\"https\"", "\"method\":\"PUT\"", "\"length\":10"] {
        assert!(tls.contains(expected), "{expected} in {tls}");
    }
    let expects =
        site.curl_tls(&["-X", "PUT", "-H", "Expect: 100-continue", "--data-binary", "0123456789"], "/echo.php");
    assert!(expects.contains("\"length\":10"), "{expects}");
}

#[test]
fn cadaver_walks_a_webdav_tree_through_the_edge() {
    let Some(site) = Site::start("cadaver_walks_a_webdav_tree_through_the_edge") else { return };
    let file = site.directory.join("local.txt");
    fs::write(&file, "through the edge\n").unwrap();
    let fetched = site.directory.join("fetched.txt");
    let commands = format!(
        "mkcol folder\ncd folder\nput {} one.txt\nlock one.txt\nunlock one.txt\ncopy one.txt two.txt\nmove two.txt three.txt\nls\nget three.txt {}\ndelete one.txt\nls\ncd ..\nrmcol folder\nls\nquit\n",
        file.display(),
        fetched.display()
    );
    // neon takes the Host from the URL.
    let mut cadaver = Command::new("cadaver")
        .arg(format!("http://localhost:{}/dav/", site.http.port()))
        .env("HOME", &site.directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    cadaver.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = cadaver.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(fs::read_to_string(&fetched).ok().as_deref(), Some("through the edge\n"), "{said}");
    assert!(said.contains("three.txt"), "{said}");
    for failure in ["failed", "Could not", "Error"] {
        assert!(!said.contains(failure), "{said}");
    }
    assert!(!site.directory.join("www/dav/folder").exists(), "the folder was removed: {said}");
}

#[test]
fn five_gibibytes_each_way_leave_the_worker_small() {
    let Some(site) = Site::start("five_gibibytes_each_way_leave_the_worker_small") else { return };
    let gibibytes = std::env::var("LYRE_TEST_GIB").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(5);
    let size = gibibytes << 30;
    // Sparse: the bytes are real on the wire only.
    let big = site.directory.join("big");
    fs::File::create(&big).unwrap().set_len(size).unwrap();
    fs::File::create(site.directory.join("www/big.bin")).unwrap().set_len(size).unwrap();
    site.curl(&[], "/status.php");
    let before = site.worker_bytes();
    let got = site.curl_tls(&["-o", "/dev/null", "-w", "%{http_code} %{size_download}"], "/big.bin");
    assert_eq!(got, format!("200 {size}"));
    let after_download = site.worker_bytes();
    let put = site
        .curl(&["-T", big.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code} %{size_upload}"], "/dav/big.bin");
    assert_eq!(put, format!("201 {size}"));
    assert_eq!(fs::metadata(site.directory.join("www/dav/big.bin")).unwrap().len(), size);
    let after_upload = site.worker_bytes();
    let grown = after_download.max(after_upload).saturating_sub(before);
    println!("{gibibytes} GiB each way: the worker grew by {} KiB", grown >> 10);
    assert!(grown <= GROWTH_MAX, "the worker grew by {} MiB", grown >> 20);
}
