//! What is told of TCP services.

use super::label;
use crate::policy::service::Standing;
use crate::serve::shared::Snapshot;
use crate::serve::tcp::{Desk, End, Member, Service};
use serde_json::{Value, json};
use std::fmt::{Result, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn status(snapshot: &Snapshot) -> Vec<Value> {
    snapshot.services.iter().map(|service| one(service)).collect()
}

fn one(service: &Service) -> Value {
    let servers: Vec<Value> = service.members.iter().map(|member| server(service, member)).collect();
    let desk = &service.desk;
    let ends: serde_json::Map<String, Value> = ends(desk)
        .filter(|(_, count)| *count > 0)
        .map(|((side, reason), count)| (format!("{side}.{reason}"), count.into()))
        .collect();
    json!({
        "name": service.settings.name,
        "writer": service.writer().map(|writer| writer.server.name.as_str()),
        "writer_changes": desk.writer_changes.load(Relaxed),
        "usable": service.usable(),
        "sessions": desk.sum(|cell| cell.open.read()),
        "accepted": desk.sum(|cell| cell.accepted.read()),
        "bytes_in": desk.sum(|cell| cell.bytes_in.read()),
        "bytes_out": desk.sum(|cell| cell.bytes_out.read()),
        "failures": ends,
        "servers": servers,
    })
}

fn server(service: &Service, member: &Arc<Member>) -> Value {
    let is_writer = service.writer().is_some_and(|writer| Arc::ptr_eq(writer, member));
    json!({
        "name": member.server.name,
        "address": member.server.place.to_string(),
        "addresses": super::names::addresses(&member.server),
        "state": word(member.standing()),
        "reason": member.reason(),
        "is_writer": is_writer,
        "sessions": member.server.outstanding(),
        "sessions_total": member.server.cells().map(|cell| cell.requests.read()).sum::<u64>(),
        "failures": member.server.cells().map(|cell| cell.failures.read()).sum::<u64>(),
    })
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "unknown",
        Standing::Good => "up",
        Standing::Donor => "donor",
        Standing::Bad => "down",
    }
}

/// How sessions ended that did not end well.
fn ends(desk: &Desk) -> impl Iterator<Item = ((&'static str, &'static str), u64)> + '_ {
    End::ALL.into_iter().filter_map(|end| {
        let count = desk.sum(|cell| cell.ends.get(end as usize).map_or(0, |counter| counter.read()));
        Some((end.cause()?, count))
    })
}

type PerService = (&'static str, &'static str, &'static str, fn(&Service) -> u64);
type PerServer = (&'static str, &'static str, &'static str, fn(&Service, &Arc<Member>) -> u64);

const SERVICES: [PerService; 5] = [
    ("lyre_tcp_sessions", "gauge", "Open sessions.", |service| service.desk.sum(|cell| cell.open.read())),
    ("lyre_tcp_sessions_total", "counter", "Connections of clients.", |service| {
        service.desk.sum(|cell| cell.accepted.read())
    }),
    ("lyre_tcp_received_bytes_total", "counter", "Bytes from clients.", |service| {
        service.desk.sum(|cell| cell.bytes_in.read())
    }),
    ("lyre_tcp_sent_bytes_total", "counter", "Bytes to clients.", |service| {
        service.desk.sum(|cell| cell.bytes_out.read())
    }),
    ("lyre_tcp_writer_changes_total", "counter", "Times another server became the writer.", |service| {
        service.desk.writer_changes.load(Relaxed)
    }),
];

const SERVERS: [PerServer; 5] = [
    ("lyre_tcp_server_up", "gauge", "1 if the server can be used.", |_, member| {
        u64::from(matches!(member.standing(), Standing::Good | Standing::Donor))
    }),
    ("lyre_tcp_server_writer", "gauge", "1 if all sessions go to the server.", |service, member| {
        u64::from(service.writer().is_some_and(|writer| Arc::ptr_eq(writer, member)))
    }),
    ("lyre_tcp_server_sessions", "gauge", "Sessions at the server.", |_, member| member.server.outstanding().into()),
    ("lyre_tcp_server_sessions_total", "counter", "Sessions the server was connected for.", |_, member| {
        member.server.cells().map(|cell| cell.requests.read()).sum()
    }),
    ("lyre_tcp_server_failures_total", "counter", "Connects that failed and sessions that broke.", |_, member| {
        member.server.cells().map(|cell| cell.failures.read()).sum()
    }),
];

pub(super) fn write(out: &mut String, snapshot: &Snapshot) -> Result {
    if snapshot.services.is_empty() {
        return Ok(());
    }
    for (name, kind, help, read) in SERVICES {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for service in &snapshot.services {
            writeln!(out, "{name}{{service=\"{}\"}} {}", label(&service.settings.name), read(service))?;
        }
    }
    let name = "lyre_tcp_failed_total";
    writeln!(out, "# HELP {name} Sessions that did not end by both sides closing.\n# TYPE {name} counter")?;
    for service in &snapshot.services {
        for ((side, reason), count) in ends(&service.desk).filter(|(_, count)| *count > 0) {
            let service = label(&service.settings.name);
            writeln!(out, "{name}{{service=\"{service}\",side=\"{side}\",reason=\"{reason}\"}} {count}")?;
        }
    }
    for (name, kind, help, read) in SERVERS {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        for service in &snapshot.services {
            for member in &service.members {
                let (service_name, server) = (label(&service.settings.name), label(&member.server.name));
                writeln!(out, "{name}{{service=\"{service_name}\",server=\"{server}\"}} {}", read(service, member))?;
            }
        }
    }
    Ok(())
}
