//! What is told of ExApps: the apps, their tunnels, who was refused and why.

use super::label;
use crate::policy::ban::Network;
use crate::serve::exapps::memory::time;
use crate::serve::shared::Shared;
use serde_json::{Value, json};
use std::fmt::{Result, Write};
use std::time::Duration;

/// `None` without `[exapps]`.
pub(super) fn status(shared: &Shared) -> Option<Value> {
    shared.snapshot().settings.exapps.as_ref()?;
    let tunnels = shared.tunnels.list();
    let memory = shared.exapps.lock();
    let (gateway, now) = (&memory.gateway, time());
    let mut apps: Vec<Value> = Vec::new();
    for (id, record) in gateway.records.known() {
        let (counted, tunnel) = (gateway.tally.of(id), tunnels.iter().find(|up| up.port == record.port));
        apps.push(json!({
            "id": id,
            "version": record.version,
            "place": format!("{}:{}", record.host, record.port),
            "forwarded": counted.forwarded,
            "refused": counted.refused,
            "tunnel_client": tunnel.map(|up| up.client.to_string()),
            "tunnel_up_seconds": tunnel.map(|up| up.age.as_secs_f64()),
        }));
    }
    apps.sort_by(|one, other| one["id"].as_str().cmp(&other["id"].as_str()));
    let tunnels = tunnels.iter().map(|up| {
        json!({
            "name": up.name,
            "port": up.port,
            "client": up.client.to_string(),
            "up_seconds": up.age.as_secs_f64(),
        })
    });
    let refusals = gateway.tally.refusals().filter(|(_, count)| *count > 0);
    let refusals: serde_json::Map<String, Value> =
        refusals.map(|(reason, count)| (reason.as_str().to_owned(), count.into())).collect();
    let bans = gateway.failures.bans(now).map(|(network, left)| ban(network, left));
    Some(json!({
        "apps": apps,
        "tunnels": tunnels.collect::<Vec<Value>>(),
        "tunnel_clients": shared.tunnels.sessions(),
        "refusals": refusals,
        "bans": bans.collect::<Vec<Value>>(),
    }))
}

/// Of the gateway alone, as `lyre bans --json` shows all.
pub(super) fn bans(shared: &Shared) -> Vec<Value> {
    let memory = shared.exapps.lock();
    memory.gateway.failures.bans(time()).map(|(network, left)| ban(network, left)).collect()
}

fn ban(network: Network, left: Duration) -> Value {
    json!({
        "client": network.to_string(),
        "reason": "exapps",
        "left_seconds": left.as_secs_f64(),
        "is_of_other_node": false,
    })
}

pub(super) fn write(out: &mut String, shared: &Shared) -> Result {
    if shared.snapshot().settings.exapps.is_none() {
        return Ok(());
    }
    write_tunnels(out, shared)?;
    let memory = shared.exapps.lock();
    let tally = &memory.gateway.tally;
    let apps: Vec<_> = tally.apps().collect();
    head(out, "lyre_exapp_forwarded_total", "counter", "Requests that went to an ExApp.")?;
    for (id, app) in &apps {
        writeln!(out, "lyre_exapp_forwarded_total{{app=\"{}\"}} {}", label(id), app.forwarded)?;
    }
    head(out, "lyre_exapp_refused_total", "counter", "Requests to an ExApp that were refused.")?;
    for (id, app) in &apps {
        writeln!(out, "lyre_exapp_refused_total{{app=\"{}\"}} {}", label(id), app.refused)?;
    }
    head(out, "lyre_exapps_refusals_total", "counter", "Requests refused at the gateway, by reason.")?;
    for (reason, count) in tally.refusals().filter(|(_, count)| *count > 0) {
        writeln!(out, "lyre_exapps_refusals_total{{reason=\"{}\"}} {count}", reason.as_str())?;
    }
    head(out, "lyre_exapps_failures_total", "counter", "What counts towards a ban, by kind.")?;
    for (kind, count) in tally.failures().filter(|(_, count)| *count > 0) {
        writeln!(out, "lyre_exapps_failures_total{{kind=\"{}\"}} {count}", kind.as_str())?;
    }
    head(out, "lyre_exapps_bans_total", "counter", "Clients banned at the gateway.")?;
    writeln!(out, "lyre_exapps_bans_total {}", tally.bans())?;
    head(out, "lyre_exapps_bans", "gauge", "Clients that are banned at the gateway now.")?;
    writeln!(out, "lyre_exapps_bans {}", memory.gateway.failures.bans(time()).count())
}

fn write_tunnels(out: &mut String, shared: &Shared) -> Result {
    head(out, "lyre_exapps_tunnel_clients", "gauge", "Clients of tunnels that are logged in.")?;
    writeln!(out, "lyre_exapps_tunnel_clients {}", shared.tunnels.sessions())?;
    head(out, "lyre_exapps_tunnel_up_seconds", "gauge", "How long a tunnel is up.")?;
    for up in shared.tunnels.list() {
        let (name, port, age) = (label(&up.name), up.port, up.age.as_secs_f64());
        writeln!(out, "lyre_exapps_tunnel_up_seconds{{name=\"{name}\",port=\"{port}\"}} {age}")?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
