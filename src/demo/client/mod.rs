//! The people in front of the pair: a steady stream of requests and three long-lived connections, all watched.
//!
//! - [`probe`]: one new connection per request, at a fixed rate, plain HTTP. Measures the gap.
//! - [`keepalive`]: a few TLS connections with a request every now and then, over both address families.
//! - [`transfer`]: a paced download, a paced upload and a WebSocket, all over TLS.
//!
//! Each writes what it saw to the [`Ledger`]; nobody retries a request, so that no loss is hidden.

mod answer;
mod keepalive;
pub mod ledger;
mod probe;
mod tls;
mod transfer;

use crate::demo::lab::Host;
use ledger::Ledger;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub use tls::trust;
pub use transfer::Kind as TransferKind;

/// A request without a complete answer after this long is lost; people reload.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A transfer without a byte for this long gives up by itself.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Keep-alive clients and the pause of each between two requests.
const KEEPALIVE_CLIENTS: usize = 8;
const KEEPALIVE_PAUSE: Duration = Duration::from_millis(50);

/// Where the pair is found.
#[derive(Clone)]
pub struct Target {
    /// Host header and TLS name.
    pub name: String,
    pub plain: SocketAddr,
    /// One per address family.
    pub tls: [SocketAddr; 2],
    /// Trusts the demo's certificate only.
    pub trust: Arc<rustls::ClientConfig>,
}

/// All clients, running until dropped.
pub struct Clients {
    pub ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

/// What a client does until it is told to stop.
type Work = Box<dyn FnOnce(&Target, &Ledger, &AtomicBool) + Send>;

impl Clients {
    /// Starts everybody on `host`; `rate` is that of the probe, in requests a second.
    pub fn start(host: &Host, target: &Target, rate: u32, with_transfers: bool) -> Clients {
        let ledger = Arc::new(Ledger::new(1 + KEEPALIVE_CLIENTS));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut go = |work: Work| {
            let (target, ledger, stop) = (target.clone(), Arc::clone(&ledger), Arc::clone(&stop));
            threads.push(host.thread(move || work(&target, &ledger, &stop)));
        };
        go(Box::new(move |target, ledger, stop| probe::run(target, rate, ledger, stop)));
        for index in 0..KEEPALIVE_CLIENTS {
            go(Box::new(move |target, ledger, stop| keepalive::run(target, index, KEEPALIVE_PAUSE, ledger, stop)));
        }
        for kind in TransferKind::ALL.into_iter().filter(|_| with_transfers) {
            go(Box::new(move |target, ledger, stop| transfer::run(target, kind, ledger, stop)));
        }
        Clients { ledger, stop, threads }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A client that panicked has already said so; the demo's result is in the ledger.
            drop(thread.join());
        }
    }
}
