//! A worker started as its parent would, without one.

use lyre::config::settings::Settings;
use lyre::control::listeners::Listeners;
use lyre::serve::page::SharedPage;
use lyre::serve::worker::Worker;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The worker, and where the first thing it listens on was bound.
#[allow(dead_code)]
pub fn start(settings: Settings) -> (Worker, SocketAddr) {
    let (worker, bound) = start_all(settings);
    (worker, bound[0])
}

/// The worker, and where everything it listens on was bound, by address.
pub fn start_all(settings: Settings) -> (Worker, Vec<SocketAddr>) {
    let cores = settings.worker.cores;
    let listeners = Listeners::default().bind_missing(&settings, cores).unwrap_or_else(|_| panic!("bind"));
    let bound = listeners.bound();
    let (names, descriptors) = listeners.handout();
    let sockets = names.into_iter().zip(descriptors.iter().map(|fd| fd.try_clone_to_owned().unwrap())).collect();
    let (page, _memfd) = SharedPage::create(c"lyre-page").unwrap();
    (Worker::start(settings, Arc::new(page), sockets).unwrap(), bound)
}

/// The sum of all metrics that begin so.
pub fn metric(worker: &Worker, name: &str) -> u64 {
    let metrics = lyre::serve::report::metrics(&worker.shared);
    let lines = metrics.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until it `is_so`; `complaint` tells what is not.
pub fn wait(patience: Duration, is_so: impl Fn() -> bool, complaint: impl Fn() -> String) {
    let deadline = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < deadline, "{}", complaint());
        std::thread::sleep(Duration::from_millis(5));
    }
}
