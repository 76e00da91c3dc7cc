//! Cells that one core writes and the scraper reads: a relaxed load and store, never a locked instruction.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Only grows. Written by its owning core alone; two writers would lose counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn bump(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down. Same rule: one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn up(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub fn down(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the duration buckets in milliseconds; a last bucket takes the rest.
pub const BUCKETS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000];

/// Durations in fixed buckets; values are not cumulative until they are printed.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS_MS.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    pub fn record(&self, ns: u64) {
        let ms = ns / 1_000_000;
        let slot = BUCKETS_MS.iter().position(|bound| ms < *bound).unwrap_or(BUCKETS_MS.len());
        if let Some(bucket) = self.buckets.get(slot) {
            bucket.bump();
        }
        self.sum_ns.add(ns);
    }

    /// Counts a bucket, in the order of [`BUCKETS_MS`] with the unbounded one last.
    pub fn read(&self) -> [u64; BUCKETS_MS.len() + 1] {
        std::array::from_fn(|slot| self.buckets.get(slot).map_or(0, Counter::read))
    }

    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.read()
    }
}

/// How many kinds of failure a core can count; `serve::reply` owns their names.
pub const FAILURES_MAX: usize = 128;

/// How many budgets of an HTTP/2 connection are counted.
pub const ABUSES_MAX: usize = 10;

/// Everything one core counts. Aligned so that two cores never share a cache line.
#[repr(align(128))]
#[derive(Debug)]
pub struct CoreCounters {
    pub accepted: Counter,
    /// Connections turned away at the door: over the core's or the client's limit.
    pub refused: Counter,
    pub requests: Counter,
    /// By status class: 0 = nothing was answered, then 1xx to 5xx.
    pub responses: [Counter; 6],
    pub failures: [Counter; FAILURES_MAX],
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub upstream_connects: Counter,
    pub upstream_reuses: Counter,
    /// Idle connections the server closed or that grew too old.
    pub upstream_evicted: Counter,
    /// Idle connections closed because the server sent bytes nobody asked for.
    pub upstream_unsolicited: Counter,
    pub retries: Counter,
    pub queued: Counter,
    /// Request fields dropped before forwarding because a CGI server would fold their names.
    pub fields_dropped: Counter,
    pub log_dropped: Counter,
    pub panics: Counter,
    pub handshakes: Counter,
    pub handshakes_resumed: Counter,
    pub handshakes_failed: Counter,
    /// Connections closed at a listener for balancers: by somebody who is none of them, and without a good header.
    pub proxy_strangers: Counter,
    pub proxy_refused: Counter,
    pub failed_logins: Counter,
    /// Bans for failed logins; of a client, and of one credential of it.
    pub bans: Counter,
    pub credentials_refused: Counter,
    pub h2_connections: Counter,
    /// Streams refused because their connection has too many requests at work.
    pub h2_refused: Counter,
    /// Connections closed because a budget was overdrawn; `proto::http2::meter` owns the names.
    pub h2_abuses: [Counter; ABUSES_MAX],
    pub duration: Histogram,
    pub connections: Gauge,
    pub in_flight: Gauge,
    pub waiting: Gauge,
    pub tunnels: Gauge,
    pub handshaking: Gauge,
    /// Banned clients whose answer waits.
    pub tarpitted: Gauge,
    /// Connections whose PROXY header is awaited.
    pub introducing: Gauge,
}

impl Default for CoreCounters {
    fn default() -> CoreCounters {
        CoreCounters {
            accepted: Counter::default(),
            refused: Counter::default(),
            requests: Counter::default(),
            responses: Default::default(),
            failures: std::array::from_fn(|_| Counter::default()),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            upstream_connects: Counter::default(),
            upstream_reuses: Counter::default(),
            upstream_evicted: Counter::default(),
            upstream_unsolicited: Counter::default(),
            retries: Counter::default(),
            queued: Counter::default(),
            fields_dropped: Counter::default(),
            log_dropped: Counter::default(),
            panics: Counter::default(),
            handshakes: Counter::default(),
            handshakes_resumed: Counter::default(),
            handshakes_failed: Counter::default(),
            proxy_strangers: Counter::default(),
            proxy_refused: Counter::default(),
            failed_logins: Counter::default(),
            bans: Counter::default(),
            credentials_refused: Counter::default(),
            h2_connections: Counter::default(),
            h2_refused: Counter::default(),
            h2_abuses: Default::default(),
            duration: Histogram::default(),
            connections: Gauge::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            tunnels: Gauge::default(),
            handshaking: Gauge::default(),
            tarpitted: Gauge::default(),
            introducing: Gauge::default(),
        }
    }
}

impl CoreCounters {
    pub fn response(&self, status: u16) {
        let class = usize::from(status / 100);
        if let Some(counter) = self.responses.get(class) {
            counter.bump();
        }
    }

    pub fn failure(&self, index: usize) {
        if let Some(counter) = self.failures.get(index) {
            counter.bump();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_whose_bound_exceeds_it() {
        let histogram = Histogram::default();
        histogram.record(0);
        histogram.record(1_000_000);
        histogram.record(3_600_000_000_000);
        let read = histogram.read();
        assert_eq!((read[0], read[1], read[BUCKETS_MS.len()]), (1, 1, 1));
        assert_eq!(histogram.sum_ns(), 3_600_001_000_000);
    }

    #[test]
    fn a_gauge_never_passes_below_zero() {
        let gauge = Gauge::default();
        gauge.down();
        assert_eq!(gauge.read(), 0);
        gauge.up();
        assert_eq!(gauge.read(), 1);
    }

    #[test]
    fn an_unknown_status_class_is_counted_nowhere() {
        let counters = CoreCounters::default();
        counters.response(999);
        counters.response(207);
        assert_eq!(counters.responses.iter().map(Counter::read).sum::<u64>(), 1);
    }
}
