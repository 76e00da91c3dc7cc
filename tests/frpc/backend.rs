//! What is behind a tunnel: a web server on a unix socket that counts what it is sent and answers as much as it is asked.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Backend {
    path: PathBuf,
}

/// Bytes that neither repeat soon nor compress to nothing.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect()
}

pub fn request(up: usize, down: usize) -> Vec<u8> {
    let mut request = format!("POST /{down} HTTP/1.1\r\nhost: app\r\ncontent-length: {up}\r\n\r\n").into_bytes();
    request.extend_from_slice(&pattern(up));
    request
}

impl Backend {
    pub fn start() -> Backend {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lyre-frpc-{}-{number}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        Backend { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One request, one answer, closed: the client of a tunnel learns of its end by the end of the stream.
fn serve(mut stream: UnixStream) -> Option<()> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        let have = stream.read(&mut piece).ok().filter(|have| *have > 0)?;
        bytes.extend_from_slice(&piece[..have]);
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let down: usize = text.strip_prefix("POST /")?.split(' ').next()?.parse().ok()?;
    let up: usize = text.split("content-length: ").nth(1)?.split('\r').next()?.parse().ok()?;
    while bytes.len() < head + up {
        let have = stream.read(&mut piece).ok().filter(|have| *have > 0)?;
        bytes.extend_from_slice(&piece[..have]);
    }
    let received = if bytes[head..] == pattern(up)[..] { up.to_string() } else { "something else".to_owned() };
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {down}\r\nx-received: {received}\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok()?;
    stream.write_all(&pattern(down)).ok()
}
