//! A registry with one image, whose only layer comes when the test says so.

use aws_lc_rs::digest::{SHA256, digest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

pub struct Registry {
    pub address: SocketAddr,
    state: Arc<State>,
}

struct State {
    manifest: String,
    config: String,
    layer: Vec<u8>,
    is_released: Mutex<bool>,
    released: Condvar,
}

impl Registry {
    pub fn start(listener: TcpListener) -> Registry {
        // Two empty blocks are an archive of nothing.
        let layer = vec![0; 1024];
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        });
        let config = config.to_string();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": sha256(config.as_bytes()),
            },
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": layer.len(), "digest": sha256(&layer),
            }],
        });
        let (manifest, is_released, released) = (manifest.to_string(), Mutex::default(), Condvar::new());
        let state = Arc::new(State { manifest, config, layer, is_released, released });
        let address = listener.local_addr().unwrap();
        let all = state.clone();
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = all.clone();
                std::thread::spawn(move || state.serve(stream));
            }
        });
        Registry { address, state }
    }

    /// The layer may come.
    pub fn release(&self) {
        *self.state.is_released.lock().unwrap() = true;
        self.state.released.notify_all();
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut first = [0];
        stream.peek(&mut first).ok()?;
        if first == [0x16] {
            // It tries TLS first; that this is HTTP it understands.
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            return None;
        }
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let line = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        let mut words = line.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let (content_type, body) = self.answer(path)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
             Connection: close\r\n\r\n",
            body.len(),
            sha256(body)
        );
        stream.write_all(head.as_bytes()).ok()?;
        if method != "HEAD" {
            stream.write_all(body).ok()?;
        }
        Some(())
    }

    fn answer(&self, path: &str) -> Option<(&'static str, &[u8])> {
        if path.contains("/manifests/") {
            return Some(("application/vnd.docker.distribution.manifest.v2+json", self.manifest.as_bytes()));
        }
        if path.ends_with(&sha256(self.config.as_bytes())) {
            return Some(("application/octet-stream", self.config.as_bytes()));
        }
        if path.ends_with(&sha256(&self.layer)) {
            let released = self.released.wait_while(self.is_released.lock().unwrap(), |released| !*released);
            drop(released.unwrap());
            return Some(("application/octet-stream", &self.layer));
        }
        Some(("application/json", b"{}"))
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
