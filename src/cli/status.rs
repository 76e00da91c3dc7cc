//! `lyre status`: what the admin socket answers, for people.

pub(super) mod exapps;

use super::client::Client;
use super::orders;
use super::output::{self, Colour, Style};
use crate::config::calendar::show_time;
use crate::control::status::{Certificate, NodeState, Router, Status, Tracker, Transition, WorkerState};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const STATUS_WAIT: Duration = Duration::from_secs(10);
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const TRANSITIONS_SHOWN: usize = 5;

/// Cursor home, and erase from there: the picture stays where it is.
const REDRAW: &str = "\x1b[H\x1b[J";
const CLEAR: &str = "\x1b[2J";

pub(super) fn run(client: &Client, json: bool, watch: bool) -> ExitCode {
    if watch && !json {
        return watch_it(client);
    }
    loop {
        let began = Instant::now();
        let answer = match client.get("/v1/status", STATUS_WAIT) {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) => return orders::show(&answer, json),
            Err(error) => return error.fail(),
        };
        let text = match (json, serde_json::from_str::<Status>(&answer.body)) {
            (false, Ok(status)) => render(&status, None, Style::of_stdout()),
            _ => answer.body,
        };
        if !watch {
            return output::print(&text);
        }
        if output::try_print(&text).is_err() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(WATCH_INTERVAL.saturating_sub(began.elapsed()));
    }
}

/// Until Ctrl-C or a closed pipe. A lyre that restarts is waited for.
fn watch_it(client: &Client) -> ExitCode {
    let style = Style::of_stdout();
    let mut earlier: Option<(Instant, Status)> = None;
    let mut text = CLEAR.to_owned();
    loop {
        let now = Instant::now();
        let answer = client.get("/v1/status", STATUS_WAIT);
        text += REDRAW;
        match answer.map(|answer| serde_json::from_str::<Status>(&answer.body)) {
            Ok(Ok(status)) => {
                let before = earlier.as_ref().map(|(then, status)| (now - *then, status));
                text += &render(&status, before, style);
                earlier = Some((now, status));
            }
            Ok(Err(_)) => text += &format!("{} gives no status\n", client.socket().display()),
            Err(error) => text += &format!("{}\n", style.paint(Colour::Bad, error)),
        }
        if output::try_print(&text).is_err() {
            return ExitCode::SUCCESS;
        }
        text.clear();
        std::thread::sleep(WATCH_INTERVAL.saturating_sub(now.elapsed()));
    }
}

/// The whole picture. `before` is an earlier status and how long ago it was, for rates.
fn render(status: &Status, before: Option<(Duration, &Status)>, style: Style) -> String {
    let mut lines = vec![head(status, style), config_line(status, style)];
    section(&mut lines, style, "addresses", &status.routers, |router| router_lines(router, style));
    section(&mut lines, style, "trackers", &status.trackers, |tracker| vec![tracker_line(tracker, style)]);
    section(&mut lines, style, "certificates", &status.certificates, |one| vec![certificate_line(one, style)]);
    worker(&mut lines, status, before, style);
    pools(&mut lines, status, style);
    services(&mut lines, status, style);
    let told = exapps::lines(status.detail.get("exapps"));
    section(&mut lines, style, "exapps", &told, |line| vec![line.clone()]);
    let first = status.transitions.len().saturating_sub(TRANSITIONS_SHOWN);
    let last = status.transitions.get(first..).unwrap_or_default();
    section(&mut lines, style, "transitions", last, |transition| vec![transition_line(transition)]);
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text of the other side, without anything that moves the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn head(status: &Status, style: Style) -> String {
    let (colour, state) = match status.state {
        NodeState::Serving => (Colour::Good, "serving"),
        NodeState::Starting => (Colour::Odd, "starting"),
        NodeState::Draining => (Colour::Odd, "draining"),
        NodeState::HandingOver => (Colour::Odd, "handing over"),
        NodeState::Stopping => (Colour::Odd, "stopping"),
    };
    let node = status.node.as_deref().unwrap_or("this node");
    format!(
        "{} {}, lyre {}, up {}, process {}",
        style.paint(Colour::Strong, printable(node)),
        style.paint(colour, state),
        printable(&status.version),
        age(status.uptime),
        status.pid
    )
}

fn config_line(status: &Status, style: Style) -> String {
    let config = &status.config;
    let mut line = format!("{}, read {}", config.path.display(), wall(config.loaded_unix_ms));
    if let Some(error) = &config.last_error {
        let error = format!("\nthe last reload failed: {}", printable(error));
        line += &style.paint(Colour::Bad, error);
    }
    line
}

fn certificate_line(certificate: &Certificate, style: Style) -> String {
    let path = printable(&certificate.path.display().to_string());
    let Some(seconds) = certificate.expires_in else { return path };
    let state = match seconds {
        ..=0 => style.paint(Colour::Bad, format!("expired {} ago", age(-seconds as f64))),
        1..=604_800 => style.paint(Colour::Odd, format!("expires in {}", age(seconds as f64))),
        _ => format!("expires in {}", age(seconds as f64)),
    };
    format!("{path}: {state}")
}

fn router_lines(router: &Router, style: Style) -> Vec<String> {
    let (colour, state) = match router.state.as_str() {
        "active" => (Colour::Good, "Active"),
        "backup" => (Colour::Faint, "Backup"),
        _ => (Colour::Bad, "not taking part"),
    };
    let reason = router.reason.as_deref().map(|reason| format!(" ({})", printable(reason))).unwrap_or_default();
    let holder = match &router.peer {
        Some(peer) if router.state != "active" => format!(", held by {} (priority {})", peer.address, peer.priority),
        _ => String::new(),
    };
    let addresses = printable(&router.addresses.join(", "));
    let mut lines = vec![
        format!(
            "{addresses} on {}: {} for {}{reason}{holder}",
            printable(&router.interface),
            style.paint(colour, state),
            age(router.since)
        ),
        style.paint(
            Colour::Faint,
            format!(
                "  {}, vrid {}, priority {}{}, adverts {} sent, {} received",
                printable(&router.name),
                router.vrid,
                router.priority,
                if router.weight == 0 { String::new() } else { format!(" ({:+} by trackers)", router.weight) },
                router.counters.adverts_sent,
                router.counters.adverts_received
            ),
        ),
    ];
    lines.extend(router.alarms.iter().map(|alarm| {
        let (name, remedy) = (printable(&alarm.name), printable(&alarm.remedy));
        style.paint(Colour::Bad, format!("  alarm {name} for {}: {remedy}", age(alarm.since)))
    }));
    lines.extend(router.faults.iter().map(|fault| style.paint(Colour::Bad, format!("  fault: {}", printable(fault)))));
    lines
}

fn tracker_line(tracker: &Tracker, style: Style) -> String {
    let (colour, state) = match tracker.state.as_str() {
        "good" => (Colour::Good, "good"),
        "bad" => (Colour::Bad, "bad"),
        _ => (Colour::Odd, "not known yet"),
    };
    let since = tracker.since.map(|since| format!(" for {}", age(since))).unwrap_or_default();
    let effect = match (tracker.fault, tracker.weight) {
        (true, _) => ", a fault".to_owned(),
        (false, 0) => String::new(),
        (false, weight) => format!(", priority {weight:+}"),
    };
    let (name, reason) = (printable(&tracker.name), printable(&tracker.reason));
    format!("{name} ({}) {}{since}{effect}: {reason}", printable(&tracker.kind), style.paint(colour, state))
}

fn worker(lines: &mut Vec<String>, status: &Status, before: Option<(Duration, &Status)>, style: Style) {
    if status.listeners.is_empty() && status.cores.is_empty() {
        return;
    }
    let worker = &status.worker;
    let (colour, state) = match worker.state {
        WorkerState::Ready => (Colour::Good, "ready"),
        WorkerState::Starting => (Colour::Odd, "starting"),
        WorkerState::Stopping => (Colour::Odd, "stopping"),
        WorkerState::Down => (Colour::Bad, "down"),
    };
    let mut line = format!("  {}", style.paint(colour, state));
    if let Some(uptime) = worker.uptime {
        line += &format!(" for {}", age(uptime));
    }
    line += &format!(", {} starts, {} crashes, {} hangs", worker.starts, worker.crashes, worker.hangs);
    if worker.starvations > 0 {
        line += &format!(", {} times without CPU", worker.starvations);
    }
    if let Some(exit) = &worker.last_exit {
        line += &format!(", last end: {}", printable(exit));
    }
    if let Some(wait) = worker.restart_in {
        line += &format!(", next start in {wait:.1} s");
    }
    lines.push(String::new());
    lines.push(style.paint(Colour::Strong, "worker"));
    lines.push(line);
    let listeners: Vec<String> = status.listeners.iter().map(|address| address.to_string()).collect();
    lines.push(format!("  listens on {}", listeners.join(", ")));
    for core in &status.cores {
        lines.push(format!(
            "  core {}: {} connections, {} requests running, {} tunnels",
            core.core, core.connections, core.requests, core.tunnels
        ));
    }
    lines.extend(traffic_lines(status, before));
}

/// What the worker counted since it started, and between two looks.
fn traffic_lines(status: &Status, before: Option<(Duration, &Status)>) -> Vec<String> {
    if !status.detail.contains_key("traffic") {
        return Vec::new();
    }
    let total = |name: &str| counted(status, name).unwrap_or(0);
    let mut lines = vec![format!(
        "  {} requests, {} retries, {} waiting for a server, {} in and {} out",
        total("requests"),
        total("retries"),
        total("waiting"),
        size(total("bytes_in") as f64),
        size(total("bytes_out") as f64)
    )];
    let Some((elapsed, before)) = before.filter(|(elapsed, _)| !elapsed.is_zero()) else { return lines };
    // A worker that started anew counts from zero: no rate for one look.
    let rate = |name: &str| {
        let difference = counted(status, name)?.checked_sub(counted(before, name)?)?;
        Some(difference as f64 / elapsed.as_secs_f64())
    };
    if let (Some(requests), Some(bytes_in), Some(bytes_out)) = (rate("requests"), rate("bytes_in"), rate("bytes_out")) {
        lines.push(format!("  {requests:.0} requests/s, {}/s in, {}/s out", size(bytes_in), size(bytes_out)));
    }
    lines
}

fn counted(status: &Status, name: &str) -> Option<u64> {
    status.detail.get("traffic")?.get(name)?.as_u64()
}

/// `1.5 MiB`
fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    for unit in units {
        if value < 1024.0 || unit == "TiB" {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    String::new()
}

fn pools(lines: &mut Vec<String>, status: &Status, style: Style) {
    for pool in status.pools.as_array().into_iter().flatten() {
        let name = pool.get("name").and_then(Value::as_str).unwrap_or("?");
        let servers = pool.get("servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        section(lines, style, &format!("pool {}", printable(name)), servers, |server| vec![server_line(server, style)]);
    }
}

fn services(lines: &mut Vec<String>, status: &Status, style: Style) {
    for service in status.detail.get("services").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| service.get(name).and_then(Value::as_str);
        let count = |name: &str| service.get(name).and_then(Value::as_u64).unwrap_or(0);
        let servers = service.get("servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut title = format!("tcp {}: {} sessions", printable(text("name").unwrap_or("?")), count("sessions"));
        if let Some(writer) = text("writer") {
            title += &format!(", all to {}", printable(writer));
        }
        section(lines, style, &title, servers, |server| vec![server_line(server, style)]);
    }
}

/// Name and state first, then everything else the worker says of a server.
fn server_line(server: &Value, style: Style) -> String {
    let text = |name: &str| server.get(name).and_then(Value::as_str).map(printable);
    let name = text("name").or_else(|| text("address")).unwrap_or_default();
    let state = text("state").unwrap_or_else(|| "unknown".to_owned());
    let colour = match state.as_str() {
        "up" => Colour::Good,
        "maintenance" | "draining" | "unknown" | "ejected" => Colour::Odd,
        _ => Colour::Bad,
    };
    let facts = server.as_object();
    let first = ["outstanding", "requests"];
    let told = ["name", "address", "state", "outstanding", "requests"];
    let rest =
        facts.into_iter().flatten().filter(|(key, value)| !told.contains(&key.as_str()) && value.as_u64() != Some(0));
    let first = first.iter().filter_map(|key| fact(key, server.get(key)?));
    let rest: Vec<String> = first.chain(rest.filter_map(|(key, value)| fact(key, value))).collect();
    format!("{name} {}: {}", style.paint(colour, state), rest.join(", "))
}

/// `2 outstanding`, `last error: refused`, `last check: 3.2 ms`
fn fact(key: &str, value: &Value) -> Option<String> {
    let name = printable(&key.replace('_', " "));
    match value {
        Value::Number(number) => match name.strip_suffix(" ms") {
            Some(name) => Some(format!("{name}: {:.1} ms", number.as_f64().unwrap_or(0.0))),
            None => Some(format!("{number} {name}")),
        },
        Value::String(text) if !text.is_empty() => Some(format!("{name}: {}", printable(text))),
        Value::Bool(true) => Some(name),
        Value::Array(list) if !list.is_empty() => {
            let texts: Vec<String> = list.iter().filter_map(Value::as_str).map(printable).collect();
            Some(format!("{name}: {}", texts.join(" ")))
        }
        _ => None,
    }
}

fn transition_line(transition: &Transition) -> String {
    format!(
        "{} {}: {} to {} ({})",
        wall(transition.unix_ms),
        printable(&transition.router),
        printable(&transition.from),
        printable(&transition.to),
        printable(&transition.reason)
    )
}

fn section<T>(lines: &mut Vec<String>, style: Style, title: &str, items: &[T], line: impl Fn(&T) -> Vec<String>) {
    if items.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(style.paint(Colour::Strong, title));
    lines.extend(items.iter().flat_map(line).map(|line| format!("  {line}")));
}

fn wall(unix_ms: u64) -> String {
    show_time(i64::try_from(unix_ms / 1_000).unwrap_or(0))
}

/// Two units at most: `3 d 4 h`.
fn age(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests;
