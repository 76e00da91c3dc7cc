//! Real PHP-FPM behind a real nginx: what PHP makes of a body is what counts. Skipped, saying so, where one is missing.

use crate::edge::{Client, Edge, PATIENCE};
use crate::port;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tells what it was told of the body, as Nextcloud's set-up check asks.
const SCRIPT: &str = r#"<?php
$body = file_get_contents('php://input');
if ($_SERVER['REQUEST_URI'] === '/status.php') { echo '{"installed":true,"maintenance":false,"needsDbUpgrade":false}'; exit; }
http_response_code(201);
echo ($_SERVER['CONTENT_LENGTH'] ?? 'none') . ' ' . strlen($body) . ' ' . md5($body) . ' ' . $_SERVER['REQUEST_URI'];
"#;

struct Php {
    processes: Vec<Child>,
    directory: PathBuf,
    address: SocketAddr,
}

impl Php {
    fn start() -> Option<Php> {
        let find = |names: &[&str]| names.iter().find(|path| Path::new(path).exists()).map(ToString::to_string);
        let nginx = find(&["/usr/sbin/nginx", "/usr/bin/nginx"])?;
        let fpm = find(&["/usr/sbin/php-fpm8.2", "/usr/sbin/php-fpm8.4", "/usr/sbin/php-fpm8.3", "/usr/sbin/php-fpm"])?;
        let address = port::quiet();
        let directory =
            std::env::temp_dir().join(format!("lyre-php-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&directory).unwrap();
        let at = directory.display();
        let is_root = nix::unistd::Uid::effective().is_root();
        let pool = format!(
            "[global]\nerror_log = {at}/fpm.log\ndaemonize = no\n[www]\nlisten = {at}/fpm.sock\npm = static\n\
             pm.max_children = 4\n{}",
            if is_root { "user = root\ngroup = root\nlisten.mode = 0666\n" } else { "" }
        );
        std::fs::write(directory.join("fpm.conf"), pool).unwrap();
        std::fs::write(directory.join("index.php"), SCRIPT).unwrap();
        // As Nextcloud's own sample: requests are not buffered, so PHP sees a body as it comes.
        let config = format!(
            "{} daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; client_max_body_size 0; client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
             fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
             server {{ listen {address}; location / {{ include /etc/nginx/fastcgi_params;\n\
             fastcgi_param SCRIPT_FILENAME {at}/index.php; fastcgi_pass unix:{at}/fpm.sock;\n\
             fastcgi_request_buffering off; fastcgi_max_temp_file_size 0; }} }} }}\n",
            if is_root { "user root;" } else { "" }
        );
        std::fs::write(directory.join("nginx.conf"), config).unwrap();
        let mut php = Php { processes: Vec::new(), directory, address };
        let conf = php.directory.join("fpm.conf");
        let mut fpm = Command::new(fpm);
        fpm.args(["-n", "-F", "-y"]).arg(conf).stderr(Stdio::null()).stdout(Stdio::null());
        if is_root {
            fpm.arg("-R");
        }
        php.processes.push(fpm.spawn().unwrap());
        let mut web = Command::new(nginx);
        web.arg("-p").arg(&php.directory).args(["-c", "nginx.conf"]).stderr(Stdio::null());
        php.processes.push(web.spawn().unwrap());
        let deadline = Instant::now() + PATIENCE;
        let socket = php.directory.join("fpm.sock");
        while TcpStream::connect(address).is_err() || UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "nginx or PHP-FPM does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(php)
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Their masters end their workers when asked, not when killed.
            let pid = nix::unistd::Pid::from_raw(process.id() as i32);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM);
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Head and pieces apart: in one read the web server would learn the length by itself.
fn slowly(client: &mut Client, body: &[u8]) {
    client.send(
        "PUT /remote.php/dav/files/u/a%2Fb%23 HTTP/1.1\r\nHost: cloud.test\r\nTransfer-Encoding: Chunked\r\n\r\n",
    );
    for piece in body.chunks(body.len().div_ceil(2).max(1)) {
        std::thread::sleep(Duration::from_millis(300));
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
}

#[test]
fn php_sees_the_length_of_a_body_that_came_without_one() {
    let Some(php) = Php::start() else {
        eprintln!("SKIPPED: php_sees_the_length_of_a_body_that_came_without_one: needs nginx and PHP-FPM");
        return;
    };
    let body: Vec<u8> = (0..1337u32).map(|n| (n * 7 % 251) as u8).collect();
    // Without the edge PHP sees an empty body, and says 201: the reason for all this.
    let mut bare = TcpStream::connect(php.address).map(Client::over).unwrap();
    slowly(&mut bare, &body);
    let lost = bare.response("PUT");
    assert_eq!((lost.status, lost.text().split(' ').next()), (201, Some("")));
    let config = format!("[nextcloud]\nhosts = [\"cloud.test\"]\nservers = [\"{}\"]\n", php.address);
    for driver in ["epoll", "io_uring"] {
        let edge = Edge::start(&config, driver, 1);
        for count in [1337, 400_000] {
            let body: Vec<u8> = body.iter().copied().cycle().take(count).collect();
            let mut client = edge.connect();
            slowly(&mut client, &body);
            let response = client.response("PUT");
            let digest = md5(&php, &body);
            let expected = format!("{count} {count} {digest} /remote.php/dav/files/u/a%2Fb%23");
            assert_eq!((response.status, response.text()), (201, expected), "{driver}");
        }
    }
}

fn md5(php: &Php, body: &[u8]) -> String {
    let path = php.directory.join("expected");
    std::fs::write(&path, body).unwrap();
    let output = Command::new("md5sum").arg(&path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}
