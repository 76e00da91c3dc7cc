//! A real nginx behind and a real curl in front. Skipped, saying so, where one is not installed.

use crate::edge::{Edge, PATIENCE};
use crate::port;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

struct Nginx {
    process: Child,
    directory: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    /// Serves files of its directory and takes PUT there. `None` where there is no nginx.
    fn start() -> Option<Nginx> {
        let binary = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists())?;
        let address = port::quiet();
        let directory =
            std::env::temp_dir().join(format!("lyre-nginx-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(directory.join("www")).unwrap();
        let at = directory.display();
        // Workers that stay who we are can write what we made.
        let user = if nix::unistd::Uid::effective().is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_max_body_size 0; client_body_temp_path {at}/body; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {address}; root {at}/www; dav_methods PUT DELETE MKCOL COPY MOVE; }} }}\n"
        );
        std::fs::write(directory.join("nginx.conf"), config).unwrap();
        let process = Command::new(binary)
            .args(["-p", directory.to_str()?, "-c", "nginx.conf"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Nginx { process, directory, address };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(nginx)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join("www").join(name)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers on a quick shutdown, not when it is killed.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.process.id() as i32), nix::sys::signal::SIGTERM);
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn curl(edge: &Edge, arguments: &[&str], path: &str) -> Output {
    Command::new("curl")
        .args(["-sS", "--max-time", "60", "-H", "Host: cloud.test"])
        .args(arguments)
        .arg(format!("http://{}{path}", edge.address))
        .output()
        .unwrap()
}

#[test]
fn curl_and_nginx_get_along_through_the_edge() {
    let has_curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    let Some(nginx) = Nginx::start().filter(|_| has_curl) else {
        eprintln!("skipped: needs nginx and curl");
        return;
    };
    let config = format!(
        "[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"{}\"]\ncheck = {{ kind = \"tcp\" }}\n",
        nginx.address
    );
    let content: Vec<u8> = (0..20_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let local = nginx.directory.join("local");
    std::fs::write(&local, &content).unwrap();
    let local = local.to_str().unwrap();
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start(&config, driver, 1);
        // With a length and Expect, as curl sends large files; then chunked from a pipe.
        let put =
            curl(&edge, &["-T", local, "-H", "Expect: 100-continue", "-o", "/dev/null", "-w", "%{http_code}"], "/a");
        assert_eq!(put.stdout, b"201", "{driver}");
        assert!(std::fs::read(nginx.file("a")).unwrap() == content);
        let chunked = ["-X", "PUT", "-H", "Transfer-Encoding: chunked", "--data-binary"];
        let from = format!("@{local}");
        let put =
            curl(&edge, &[&chunked[..], &[from.as_str(), "-o", "/dev/null", "-w", "%{http_code}"]].concat(), "/b");
        assert_eq!(put.stdout, b"201", "{driver}");
        assert!(std::fs::read(nginx.file("b")).unwrap() == content);
        assert!(curl(&edge, &[], "/a").stdout == content);
        let range = curl(&edge, &["-r", "1000-1999", "-w", "%{http_code}"], "/a");
        assert!(range.stdout == [&content[1000..2000], b"206"].concat());
        let head = curl(&edge, &["-I", "--http1.0"], "/a");
        assert!(String::from_utf8_lossy(&head.stdout).contains("Content-Length: 20000000"));
        let made = curl(&edge, &["-X", "MKCOL", "-o", "/dev/null", "-w", "%{http_code}"], "/d/");
        let to = "Destination: http://cloud.test/d/b";
        let moved = curl(&edge, &["-X", "MOVE", "-H", to, "-o", "/dev/null", "-w", "%{http_code}"], "/b");
        assert_eq!((made.stdout.as_slice(), moved.stdout.as_slice()), (&b"201"[..], &b"204"[..]), "{driver}");
        let many = curl(&edge, &["-o", "/dev/null", "-w", "%{http_code},"], "/[1-20]");
        assert_eq!(many.stdout, b"404,".repeat(20));
        std::fs::remove_dir_all(nginx.file("d")).unwrap();
        std::fs::remove_file(nginx.file("a")).unwrap();
    }
}
