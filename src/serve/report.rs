//! What the worker tells about itself: Prometheus text and the worker's part of the status.

mod exapps;
mod names;
mod services;

use crate::policy::health::State;
use crate::proto::http2::meter::Abuse;
use crate::serve::health;
use crate::serve::reply::Failure;
use crate::serve::shared::Shared;
use crate::telemetry::counters::{BUCKETS_MS, CoreCounters};
use serde_json::{Value, json};
use std::fmt::Write;

/// `pools` and everything else a status shows of the worker.
pub fn status(shared: &Shared) -> Value {
    let snapshot = shared.snapshot();
    let pools: Vec<Value> = snapshot
        .pools
        .iter()
        .map(|pool| {
            let servers: Vec<Value> = pool
                .servers
                .iter()
                .map(|server| {
                    let sum = |read: fn(&crate::serve::shared::Cell) -> u64| server.cells().map(read).sum::<u64>();
                    json!({
                        "name": server.name,
                        "address": server.place.to_string(),
                        "addresses": names::addresses(server),
                        "reason": server.target.trouble(),
                        "state": word(health::state(server)),
                        "outstanding": server.outstanding(),
                        "requests": sum(|cell| cell.requests.read()),
                        "errors": sum(|cell| cell.errors.read()),
                        "failures": sum(|cell| cell.failures.read()),
                    })
                })
                .collect();
            json!({
                "name": pool.settings.name,
                "state": format!("{:?}", health::pool_state(pool)).to_lowercase(),
                "max_requests_per_server": pool.settings.max_requests_per_server,
                "servers": servers,
            })
        })
        .collect();
    let sum = |read: fn(&CoreCounters) -> u64| shared.counters.iter().map(read).sum::<u64>();
    let failures: serde_json::Map<String, Value> = failures(shared)
        .map(|(failure, count)| {
            let answer = failure.answer();
            (format!("{}.{}", answer.side.as_str(), answer.code), count.into())
        })
        .collect();
    json!({
        "pools": pools,
        "services": services::status(&snapshot),
        "exapps": exapps::status(shared),
        "traffic": {
            "connections": sum(|core| core.connections.read()),
            "accepted": sum(|core| core.accepted.read()),
            "refused": sum(|core| core.refused.read()),
            "requests": sum(|core| core.requests.read()),
            "in_flight": sum(|core| core.in_flight.read()),
            "waiting": sum(|core| core.waiting.read()),
            "tunnels": sum(|core| core.tunnels.read()),
            "bytes_in": sum(|core| core.bytes_in.read()),
            "bytes_out": sum(|core| core.bytes_out.read()),
            "upstream_connects": sum(|core| core.upstream_connects.read()),
            "upstream_reuses": sum(|core| core.upstream_reuses.read()),
            "retries": sum(|core| core.retries.read()),
        },
        "abuse": {
            "bans": shared.abuse.bans().len(),
            "failed_logins": sum(|core| core.failed_logins.read()),
            "bans_total": sum(|core| core.bans.read()),
            "credentials_refused": sum(|core| core.credentials_refused.read()),
            "tarpitted": sum(|core| core.tarpitted.read()),
        },
        "failures": failures,
    })
}

/// What `lyre bans --json` shows.
pub fn bans(shared: &Shared) -> Value {
    let bans = shared.abuse.bans().into_iter().map(|(ban, left)| {
        json!({
            "client": ban.network.to_string(),
            "reason": ban.reason.as_str(),
            "left_seconds": left.map(|left| left.as_secs_f64()),
            "is_of_other_node": ban.is_learnt,
        })
    });
    json!({ "bans": bans.chain(exapps::bans(shared)).collect::<Vec<Value>>() })
}

fn word(state: State) -> &'static str {
    match state {
        State::Unknown => "unknown",
        State::Up => "up",
        State::Maintenance => "maintenance",
        State::Down => "down",
        State::Draining => "draining",
    }
}

/// Failures that happened, over all cores.
fn failures(shared: &Shared) -> impl Iterator<Item = (Failure, u64)> + '_ {
    Failure::all().filter_map(|failure| {
        let count =
            shared.counters.iter().filter_map(|core| core.failures.get(failure.index())).map(|c| c.read()).sum();
        (count > 0).then_some((failure, count))
    })
}

type Metric = (&'static str, &'static str, &'static str, fn(&CoreCounters) -> u64);

/// Per core: name, kind, help, value.
const METRICS: [Metric; 30] = [
    ("lyre_frontend_connections", "gauge", "Open client connections.", |core| core.connections.read()),
    ("lyre_frontend_connections_total", "counter", "Accepted client connections.", |core| core.accepted.read()),
    ("lyre_frontend_refused_total", "counter", "Connections over a limit.", |core| core.refused.read()),
    ("lyre_frontend_requests_total", "counter", "Requests begun.", |core| core.requests.read()),
    ("lyre_frontend_requests_in_flight", "gauge", "Requests in progress.", |core| core.in_flight.read()),
    ("lyre_frontend_requests_waiting", "gauge", "Requests in line for a server.", |core| core.waiting.read()),
    ("lyre_frontend_tunnels", "gauge", "Open upgraded connections.", |core| core.tunnels.read()),
    ("lyre_frontend_received_bytes_total", "counter", "Request body bytes.", |core| core.bytes_in.read()),
    ("lyre_frontend_sent_bytes_total", "counter", "Response body bytes.", |core| core.bytes_out.read()),
    ("lyre_backend_connects_total", "counter", "Connections opened to servers.", |core| core.upstream_connects.read()),
    ("lyre_backend_reuses_total", "counter", "Requests on a kept connection.", |core| core.upstream_reuses.read()),
    ("lyre_backend_evicted_total", "counter", "Kept connections closed unused.", |core| core.upstream_evicted.read()),
    ("lyre_backend_unsolicited_total", "counter", "Connections closed for bytes nobody asked for.", |core| {
        core.upstream_unsolicited.read()
    }),
    ("lyre_backend_retries_total", "counter", "Requests sent again.", |core| core.retries.read()),
    ("lyre_backend_queued_total", "counter", "Requests that had to wait for a server.", |core| core.queued.read()),
    ("lyre_header_dropped_total", "counter", "Request fields dropped for their names.", |core| {
        core.fields_dropped.read()
    }),
    ("lyre_log_dropped_total", "counter", "Access log lines lost to a slow writer.", |core| core.log_dropped.read()),
    ("lyre_tls_handshakes_total", "counter", "TLS handshakes completed.", |core| core.handshakes.read()),
    ("lyre_tls_resumed_total", "counter", "TLS handshakes that resumed a session.", |core| {
        core.handshakes_resumed.read()
    }),
    ("lyre_tls_failed_total", "counter", "TLS handshakes that failed.", |core| core.handshakes_failed.read()),
    ("lyre_tls_handshaking", "gauge", "TLS handshakes in progress.", |core| core.handshaking.read()),
    ("lyre_proxy_strangers_total", "counter", "Connections from outside proxy_protocol.", |core| {
        core.proxy_strangers.read()
    }),
    ("lyre_proxy_refused_total", "counter", "Connections without a good PROXY header.", |core| {
        core.proxy_refused.read()
    }),
    ("lyre_abuse_failed_logins_total", "counter", "Logins that servers refused.", |core| core.failed_logins.read()),
    ("lyre_abuse_bans_total", "counter", "Clients banned for failed logins.", |core| core.bans.read()),
    ("lyre_abuse_credentials_refused_total", "counter", "Credentials refused after failing again and again.", |core| {
        core.credentials_refused.read()
    }),
    ("lyre_abuse_tarpitted", "gauge", "Banned clients whose answer waits.", |core| core.tarpitted.read()),
    ("lyre_h2_connections_total", "counter", "Client connections that speak HTTP/2.", |core| {
        core.h2_connections.read()
    }),
    ("lyre_h2_refused_total", "counter", "Streams beyond what a connection may have at work.", |core| {
        core.h2_refused.read()
    }),
    ("lyre_core_panics_total", "counter", "Connections lost to a bug.", |core| core.panics.read()),
];

pub fn metrics(shared: &Shared) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String does not fail.
    let _ = write_metrics(&mut out, shared);
    out
}

fn write_metrics(out: &mut String, shared: &Shared) -> std::fmt::Result {
    for (name, kind, help, read) in METRICS {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for (index, core) in shared.counters.iter().enumerate() {
            writeln!(out, "{name}{{core=\"{index}\"}} {}", read(core))?;
        }
    }
    let spooled = shared.spool.as_ref().map_or(0, |spool| spool.used());
    writeln!(out, "# HELP lyre_spool_bytes Request bodies without a length that wait on disk.")?;
    writeln!(out, "# TYPE lyre_spool_bytes gauge\nlyre_spool_bytes {spooled}")?;
    writeln!(out, "# HELP lyre_frontend_responses_total Responses by status class.")?;
    writeln!(out, "# TYPE lyre_frontend_responses_total counter")?;
    for (class, label) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
        let count: u64 = shared.counters.iter().filter_map(|core| core.responses.get(class)).map(|c| c.read()).sum();
        writeln!(out, "lyre_frontend_responses_total{{code=\"{label}\"}} {count}")?;
    }
    writeln!(out, "# HELP lyre_http_failed_total Exchanges that did not end with a server's complete answer.")?;
    writeln!(out, "# TYPE lyre_http_failed_total counter")?;
    for (failure, count) in failures(shared) {
        let answer = failure.answer();
        writeln!(
            out,
            "lyre_http_failed_total{{side=\"{}\",reason=\"{}\"}} {count}",
            answer.side.as_str(),
            answer.code
        )?;
    }
    let bans = shared.abuse.bans().len();
    writeln!(
        out,
        "# HELP lyre_abuse_bans Clients that are banned now.\n# TYPE lyre_abuse_bans gauge\nlyre_abuse_bans {bans}"
    )?;
    write_abuses(out, shared)?;
    write_durations(out, shared)?;
    write_servers(out, shared)?;
    names::write(out, shared)?;
    exapps::write(out, shared)?;
    services::write(out, &shared.snapshot())
}

fn write_abuses(out: &mut String, shared: &Shared) -> std::fmt::Result {
    let name = "lyre_h2_calmed_total";
    writeln!(out, "# HELP {name} HTTP/2 connections closed because a budget was overdrawn.\n# TYPE {name} counter")?;
    for abuse in Abuse::ALL {
        let cells = shared.counters.iter().filter_map(|core| core.h2_abuses.get(abuse as usize));
        let count: u64 = cells.map(|cell| cell.read()).sum();
        if count > 0 {
            writeln!(out, "{name}{{reason=\"{}\"}} {count}", abuse.reason())?;
        }
    }
    Ok(())
}

fn write_durations(out: &mut String, shared: &Shared) -> std::fmt::Result {
    let name = "lyre_frontend_request_duration_seconds";
    writeln!(out, "# HELP {name} First byte of a request to the last of its response.\n# TYPE {name} histogram")?;
    let mut buckets = [0u64; BUCKETS_MS.len() + 1];
    let mut sum_ns = 0u64;
    for core in &shared.counters {
        buckets.iter_mut().zip(core.duration.read()).for_each(|(sum, count)| *sum += count);
        sum_ns = sum_ns.wrapping_add(core.duration.sum_ns());
    }
    let mut total = 0;
    for (count, bound) in buckets.iter().zip(BUCKETS_MS.map(Some).into_iter().chain([None])) {
        total += count;
        match bound {
            Some(ms) => writeln!(out, "{name}_bucket{{le=\"{}\"}} {total}", ms as f64 / 1e3)?,
            None => writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {total}")?,
        }
    }
    writeln!(out, "{name}_sum {}\n{name}_count {total}", sum_ns as f64 / 1e9)
}

fn write_servers(out: &mut String, shared: &Shared) -> std::fmt::Result {
    let snapshot = shared.snapshot();
    let servers = || snapshot.pools.iter().flat_map(|pool| &pool.servers);
    type PerServer = (&'static str, &'static str, &'static str, fn(&crate::serve::shared::Server) -> u64);
    let metrics: [PerServer; 5] = [
        ("lyre_server_up", "gauge", "1 if the server takes requests.", |server| {
            u64::from(matches!(health::state(server), State::Up | State::Unknown))
        }),
        ("lyre_server_outstanding", "gauge", "Requests at the server now.", |server| server.outstanding().into()),
        ("lyre_server_requests_total", "counter", "Answers of the server.", |server| {
            server.cells().map(|cell| cell.requests.read()).sum()
        }),
        ("lyre_server_errors_total", "counter", "Answers of 500 and above outside maintenance.", |server| {
            server.cells().map(|cell| cell.errors.read()).sum()
        }),
        ("lyre_server_failures_total", "counter", "Requests the server failed to answer.", |server| {
            server.cells().map(|cell| cell.failures.read()).sum()
        }),
    ];
    for (name, kind, help, read) in metrics {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for server in servers() {
            writeln!(
                out,
                "{name}{{pool=\"{}\",server=\"{}\"}} {}",
                label(&server.pool),
                label(&server.name),
                read(server)
            )?;
        }
    }
    Ok(())
}

/// A label value: names come from the configuration and may hold anything.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
