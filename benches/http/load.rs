//! The load generators: wrk for HTTP/1.1, h2load for HTTP/2 and for transfers.

use std::process::Command;

#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    /// Of sockets and of statuses.
    pub(crate) errors: u64,
    /// All that the generator said, for when it has failed.
    said: String,
}

impl Load {
    pub(crate) fn assert_clean(&self, case: &str) {
        let Load { requests, errors, said, .. } = self;
        assert!(*requests > 0 && *errors == 0, "{case}: {requests} requests, {errors} errors\n{said}");
    }
}

pub(crate) fn wrk(cpus: &str, threads: u32, url: &str, connections: u32, seconds: u64) -> Load {
    let threads = format!("-t{threads}");
    let connections = connections.to_string();
    let mut load = run(&["-c", cpus, "wrk", &threads, "-c", &connections, "-d", &format!("{seconds}s"), url]);
    for line in load.said.clone().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [count, "requests", "in", ..] => load.requests = count.parse().unwrap_or(0),
            ["Requests/sec:", value] => load.per_second = value.parse().unwrap_or(0.0),
            ["Socket", "errors:", rest @ ..] => {
                load.errors += rest.iter().filter_map(|w| w.trim_end_matches(',').parse::<u64>().ok()).sum::<u64>();
            }
            ["Non-2xx", .., count] => load.errors += count.parse::<u64>().unwrap_or(1),
            _ => {}
        }
    }
    load
}

/// h2load on CPU 0. The cipher is prescribed: otherwise OpenSSL would take the client's favourite and rustls its own.
pub(crate) fn h2load(arguments: &[&str]) -> Load {
    let mut load = run(&[&["-c", "0", "h2load", "-t1", "--tls13-ciphers=TLS_AES_256_GCM_SHA384"], arguments].concat());
    for line in load.said.clone().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["finished", "in", _, rate, "req/s,", ..] => load.per_second = rate.parse().unwrap_or(0.0),
            ["requests:", numbers @ ..] => {
                for pair in numbers.chunks_exact(2) {
                    let count = pair[0].parse::<u64>().unwrap_or(0);
                    match pair[1].trim_end_matches(',') {
                        "succeeded" => load.requests = count,
                        "failed" | "errored" | "timeout" => load.errors += count,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    load
}

/// What the generator says; the numbers are still to be read from it.
fn run(arguments: &[&str]) -> Load {
    let output = Command::new("taskset").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    Load { said, ..Load::default() }
}
