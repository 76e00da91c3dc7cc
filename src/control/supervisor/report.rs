//! What is known, as status and as metrics.

use super::Supervisor;
use crate::control::ha::{Pair, word};
use crate::control::status::{
    Config, Core, NodeState, PairLink, Peer, RaisedAlarm, Router, RouterCounters, Status, Worker, WorkerState,
};
use lyre_vrrp::machine::State;
use lyre_vrrp::params::Time;
use lyre_vrrp::runner::{Alarm, Alarms, Counters, Drops, RouterStatus};
use std::fmt::Write;
use std::sync::atomic::Ordering;

impl Supervisor {
    /// `worker_json` is the worker's part: an object whose `pools` get a place of their own.
    pub(super) fn status(&self, now: Time, worker_json: Option<&str>) -> Status {
        let mut detail: serde_json::Map<_, _> =
            worker_json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        let pools = detail.remove("pools").unwrap_or_default();
        Status {
            node: self
                .settings
                .cluster
                .as_ref()
                .and_then(|cluster| Some(cluster.nodes.get(cluster.this)?.name.clone())),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: now.since(self.started).as_secs_f64(),
            state: self.state(),
            config: Config {
                path: self.bundle.path.clone(),
                loaded_unix_ms: self.loaded_unix_ms,
                reloads: self.reloads.done,
                failed_reloads: self.reloads.failed,
                last_error: self.reloads.last_error.clone(),
            },
            listeners: self.listeners.bound(),
            routers: self.router_status().iter().map(|router| self.router(now, router)).collect(),
            worker: self.worker_status(now),
            cores: self.core_status(),
            pair: self
                .succession
                .descriptors()
                .map(|_| PairLink { is_up: self.succession.is_link_up(), peer_connections: self.succession.known() }),
            pools,
            detail,
            transitions: self.history.iter().cloned().collect(),
        }
    }

    fn state(&self) -> NodeState {
        if self.is_stopping {
            NodeState::Stopping
        } else if self.hand_over.is_some() {
            NodeState::HandingOver
        } else if !self.worker.is_ready() {
            NodeState::Starting
        } else if self.is_draining {
            NodeState::Draining
        } else {
            NodeState::Serving
        }
    }

    fn router_status(&self) -> Vec<RouterStatus> {
        self.pair.as_ref().map(Pair::status).unwrap_or_default()
    }

    fn router(&self, now: Time, status: &RouterStatus) -> Router {
        let settings = self.settings.routers.iter().find(|router| router.name == status.name);
        Router {
            name: status.name.clone(),
            interface: status.interface.clone(),
            vrid: settings.map_or(0, |router| router.vrid),
            addresses: settings.map_or(Vec::new(), |router| router.held().map(ToString::to_string).collect()),
            state: word(status.state),
            since: now.since(status.since).as_secs_f64(),
            reason: self.reasons.get(&status.name).cloned(),
            priority: status.priority.0,
            peer: status.active_peer.map(|(address, priority)| Peer { address, priority: priority.0 }),
            alarms: status
                .alarms
                .raised()
                .map(|(alarm, since)| raised(alarm, now.since(since).as_secs_f64()))
                .collect(),
            counters: counters(&status.counters, &status.alarms),
        }
    }

    fn worker_status(&self, now: Time) -> Worker {
        let state = match self.worker.pid() {
            None => WorkerState::Down,
            Some(_) if self.worker.is_stopping() => WorkerState::Stopping,
            Some(_) if self.worker.is_ready() => WorkerState::Ready,
            Some(_) => WorkerState::Starting,
        };
        Worker {
            state,
            pid: self.worker.pid(),
            uptime: self.worker.started().map(|started| now.since(started).as_secs_f64()),
            starts: self.worker.tallies.starts,
            crashes: self.worker.tallies.crashes,
            hangs: self.worker.tallies.hangs,
            last_exit: self.worker.tallies.last_exit.clone(),
            restart_in: self.worker.restart_at().map(|at| at.since(now).as_secs_f64()),
        }
    }

    fn core_status(&self) -> Vec<Core> {
        let lines = self.view.page.lines().iter().take(self.cores).enumerate();
        lines
            .map(|(core, line)| Core {
                core,
                connections: line.connections.load(Ordering::Relaxed),
                requests: line.requests.load(Ordering::Relaxed),
                tunnels: line.tunnels.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// The parent's part of `/metrics`: Prometheus text. The worker's own part is appended by the caller.
    pub(super) fn metrics(&self, now: Time) -> String {
        let mut text = Metrics(String::new());
        let tallies = &self.worker.tallies;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.family("lyre_build_info", "gauge", "Always 1.").sample("lyre_build_info", &version, 1);
        text.single("lyre_uptime_seconds", "gauge", "Of the parent process.", now.since(self.started).as_secs_f64());
        text.single("lyre_worker_up", "gauge", "1 while a worker accepts.", u8::from(self.worker.is_ready()));
        text.single("lyre_worker_starts_total", "counter", "Worker processes started.", tallies.starts);
        text.single("lyre_worker_crashes_total", "counter", "Workers that ended without an order.", tallies.crashes);
        text.single("lyre_worker_hangs_total", "counter", "Workers killed because a core hung.", tallies.hangs);
        text.single("lyre_config_reloads_total", "counter", "Configurations taken over.", self.reloads.done);
        text.single("lyre_config_failed_reloads_total", "counter", "Configurations refused.", self.reloads.failed);
        let is_good = u8::from(self.reloads.last_error.is_none());
        text.single("lyre_config_last_reload_successful", "gauge", "1 unless the last reload failed.", is_good);
        self.vrrp_metrics(now, &mut text);
        text.0
    }

    fn vrrp_metrics(&self, now: Time, text: &mut Metrics) {
        let routers = self.router_status();
        if routers.is_empty() {
            return;
        }
        let lost = self.pair.as_ref().map_or(0, Pair::lost_events);
        text.single("lyre_vrrp_lost_events_total", "counter", "Speaker events that found the queue full.", lost);
        type Read = fn(&RouterStatus, Time) -> f64;
        let gauges: [(&str, &str, Read); 3] = [
            ("lyre_vrrp_state", "0 initialize, 1 backup, 2 active.", |router, _| match router.state {
                State::Initialize => 0.0,
                State::Backup => 1.0,
                State::Active => 2.0,
            }),
            ("lyre_vrrp_state_seconds", "Time in this state.", |router, now| now.since(router.since).as_secs_f64()),
            ("lyre_vrrp_priority", "As advertised.", |router, _| f64::from(router.priority.0)),
        ];
        for (name, help, read) in gauges {
            text.family(name, "gauge", help);
            for router in &routers {
                text.sample(name, &labels(router), read(router, now));
            }
        }
        type Count = fn(&Counters) -> u64;
        let families: [(&str, &str, Count); 13] = [
            ("adverts_sent", "Adverts sent.", |c| c.adverts_sent),
            ("adverts_received", "Valid adverts received.", |c| c.adverts_received),
            ("transitions_to_active", "Times it became Active.", |c| c.transitions_to_active),
            ("releases_sent", "Adverts of priority 0 sent.", |c| c.releases_sent),
            ("releases_received", "Adverts of priority 0 received.", |c| c.releases_received),
            ("late_own_adverts", "Adverts that left more than half an interval late.", |c| c.late_own_adverts),
            ("send_errors", "Adverts the kernel refused to send.", |c| c.send_errors),
            ("address_list_mismatches", "Adverts with other addresses than ours.", |c| c.address_list_mismatches),
            ("announcements_sent", "Gratuitous ARP and neighbour advertisement frames.", |c| c.announcements_sent),
            ("address_errors", "Refused changes of addresses.", |c| c.address_errors),
            ("interval_mismatches", "Adverts with another interval than ours.", |c| c.interval_mismatches),
            ("lease_refreshes", "Renewals of the addresses' lease.", |c| c.lease_refreshes),
            ("stalls", "Times this node stood still so long that a peer may have taken over.", |c| c.stalls),
        ];
        for (name, help, count) in families {
            let name = format!("lyre_vrrp_{name}_total");
            text.family(&name, "counter", help);
            for router in &routers {
                text.sample(&name, &labels(router), count(&router.counters));
            }
        }
        type Look = fn(&Alarms, Alarm) -> u64;
        let of_alarms: [(&str, &str, &str, Look); 2] = [
            ("lyre_vrrp_alarm", "gauge", "1 while the alarm is raised.", |a, alarm| a.is_raised(alarm).into()),
            ("lyre_vrrp_alarm_signs_total", "counter", "How often its condition was seen.", |a, alarm| {
                a.counts(alarm).1
            }),
        ];
        for (name, kind, help, look) in of_alarms {
            text.family(name, kind, help);
            for (router, alarm) in routers.iter().flat_map(|router| Alarm::ALL.map(|alarm| (router, alarm))) {
                let [router_label, interface] = labels(router);
                let labels = [router_label, interface, ("alarm", alarm.name())];
                text.sample(name, &labels, look(&router.alarms, alarm));
            }
        }
        let name = "lyre_vrrp_drops_total";
        text.family(name, "counter", "Received datagrams that were refused.");
        for router in &routers {
            for (reason, count) in drops(&router.counters.drops) {
                let [router, interface] = labels(router);
                text.sample(name, &[router, interface, ("reason", reason)], count);
            }
        }
    }
}

fn labels(router: &RouterStatus) -> [(&'static str, &str); 2] {
    [("router", &router.name), ("interface", &router.interface)]
}

fn raised(alarm: Alarm, since: f64) -> RaisedAlarm {
    RaisedAlarm { name: alarm.name().to_owned(), since, remedy: alarm.remedy().to_owned() }
}

fn counters(counters: &Counters, alarms: &Alarms) -> RouterCounters {
    let signs = Alarm::ALL.map(|alarm| (alarm.name().to_owned(), alarms.counts(alarm).1));
    RouterCounters {
        adverts_sent: counters.adverts_sent,
        adverts_received: counters.adverts_received,
        transitions_to_active: counters.transitions_to_active,
        releases_sent: counters.releases_sent,
        releases_received: counters.releases_received,
        late_own_adverts: counters.late_own_adverts,
        send_errors: counters.send_errors,
        drops: drops(&counters.drops).map(|(reason, count)| (reason.to_owned(), count)).into(),
        interval_mismatches: counters.interval_mismatches,
        address_list_mismatches: counters.address_list_mismatches,
        announcements_sent: counters.announcements_sent,
        address_errors: counters.address_errors,
        stalls: counters.stalls,
        longest_stall: counters.longest_stall.as_secs_f64(),
        alarm_signs: signs.into_iter().filter(|(_, count)| *count > 0).collect(),
    }
}

/// By reason; no rest pattern, so that a new reason is not forgotten here.
fn drops(drops: &Drops) -> [(&'static str, u64); 11] {
    let Drops { vrid, length, ttl, version, kind, checksum, interval, address_list, source, ip, authentication } =
        *drops;
    [
        ("vrid", vrid),
        ("length", length),
        ("ttl", ttl),
        ("version", version),
        ("kind", kind),
        ("checksum", checksum),
        ("interval", interval),
        ("address_list", address_list),
        ("source", source),
        ("ip", ip),
        ("authentication", authentication),
    ]
}

/// Prometheus text format.
struct Metrics(String);

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Metrics {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let quoted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", quoted.join(","));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}
