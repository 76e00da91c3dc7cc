//! What is known, as status and as metrics.

use super::{Supervisor, mib};
use crate::config::settings::track::{self as config, TrackerKind};
use crate::control::clock;
use crate::control::events::standing_word;
use crate::control::ha::{Pair, word};
use crate::control::status::{
    Certificate, Config, Core, Hooks, NodeState, PairLink, Peer, RaisedAlarm, Router, RouterCounters, Status, Tracker,
    Worker, WorkerState,
};
use lyre_vrrp::machine::{Health, State};
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
            trackers: self.tracker_status(now),
            hooks: self.hook_status(),
            worker: self.worker_status(now),
            cores: self.core_status(),
            certificates: self.certificate_status(),
            pair: self
                .succession
                .descriptors()
                .map(|_| PairLink { is_up: self.succession.is_link_up(), peer_connections: self.succession.known() }),
            pools,
            detail,
            transitions: self.history.iter().cloned().collect(),
        }
    }

    fn certificate_status(&self) -> Vec<Certificate> {
        let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or(0);
        let of = |certificate: &crate::config::settings::Certificate| {
            let not_after = certificate.not_after();
            let expires_in = not_after.map(|at| at - now);
            Certificate { path: certificate.cert_path.clone(), not_after, expires_in }
        };
        self.settings.certificates.iter().map(of).collect()
    }

    fn certificate_metrics(&self, text: &mut Metrics) {
        if self.settings.certificates.is_empty() {
            return;
        }
        let name = "lyre_tls_certificate_not_after_seconds";
        text.family(name, "gauge", "When a served certificate expires, in seconds since 1970.");
        for certificate in self.certificate_status() {
            let path = certificate.path.display().to_string();
            if let Some(at) = certificate.not_after {
                text.sample(name, &[("certificate", path.as_str())], at);
            }
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
            base_priority: settings.map_or(0, |router| router.priority),
            weight: self.tracks.board().verdict(&status.name).weight,
            health: word(status.health),
            faults: self.faults(now, &status.name),
            peer: status.active_peer.map(|(address, priority)| Peer { address, priority: priority.0 }),
            alarms: status
                .alarms
                .raised()
                .map(|(alarm, since)| raised(alarm, now.since(since).as_secs_f64()))
                .collect(),
            counters: counters(&status.counters, &status.alarms),
        }
    }

    /// What keeps a router from its addresses, or would.
    fn faults(&self, now: Time, router: &str) -> Vec<String> {
        let speaks = |tracker: &Tracker| tracker.fault && tracker.routers.iter().any(|name| name == router);
        let trackers = self.tracker_status(now).into_iter().filter(speaks);
        trackers.map(|tracker| format!("{}: {}", tracker.name, tracker.reason)).collect()
    }

    /// Those of the worker first, which the real-time thread watches itself.
    fn tracker_status(&self, now: Time) -> Vec<Tracker> {
        let health = self.tracks.board().worker();
        let of_worker = self.settings.trackers.iter().filter(|tracker| tracker.kind == TrackerKind::Proxy);
        let of_worker = of_worker.map(|tracker| proxy_tracker(tracker, health));
        let others = self.tracks.reports();
        let others = others.iter().map(|report| Tracker {
            name: report.name.clone(),
            kind: report.kind.to_owned(),
            state: standing_word(report.standing).to_owned(),
            since: Some(now.since(report.since).as_secs_f64()),
            reason: report.reason.clone(),
            fault: report.verdict.is_fault,
            weight: report.verdict.weight,
            routers: report.routers.clone(),
            checks: report.checks,
            bad_checks: report.bad_checks,
            turns: report.turns,
        });
        of_worker.chain(others).collect()
    }

    fn hook_status(&self) -> Hooks {
        let tally = self.hooks.tally();
        Hooks {
            runs: tally.runs,
            failures: tally.failures,
            dropped: tally.dropped,
            lost_lines: tally.lost_lines,
            dropped_subscribers: self.dropped_subscribers,
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
            starvations: self.worker.tallies.starvations,
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
        let help = "Times a core got no CPU for the hang timeout.";
        text.single("lyre_worker_starvations_total", "counter", help, tallies.starvations);
        text.single("lyre_config_reloads_total", "counter", "Configurations taken over.", self.reloads.done);
        text.single("lyre_config_failed_reloads_total", "counter", "Configurations refused.", self.reloads.failed);
        let is_good = u8::from(self.reloads.last_error.is_none());
        text.single("lyre_config_last_reload_successful", "gauge", "1 unless the last reload failed.", is_good);
        self.certificate_metrics(&mut text);
        self.vrrp_metrics(now, &mut text);
        self.tracker_metrics(now, &mut text);
        text.0
    }

    fn tracker_metrics(&self, now: Time, text: &mut Metrics) {
        let trackers = self.tracker_status(now);
        type Read = fn(&Tracker) -> f64;
        let families: [(&str, &str, &str, Read); 6] = [
            ("lyre_tracker_good", "gauge", "1 good, 0 bad, -1 not known yet.", |tracker| {
                match tracker.state.as_str() {
                    "good" => 1.0,
                    "bad" => 0.0,
                    _ => -1.0,
                }
            }),
            ("lyre_tracker_fault", "gauge", "1 while it keeps its routers from their addresses.", |tracker| {
                f64::from(u8::from(tracker.fault))
            }),
            ("lyre_tracker_weight", "gauge", "What it adds to priorities.", |tracker| f64::from(tracker.weight)),
            ("lyre_tracker_checks_total", "counter", "Results.", |tracker| tracker.checks as f64),
            ("lyre_tracker_bad_checks_total", "counter", "Bad results.", |tracker| tracker.bad_checks as f64),
            ("lyre_tracker_turns_total", "counter", "Changes between good and bad.", |tracker| tracker.turns as f64),
        ];
        for (name, kind, help, read) in families.into_iter().filter(|_| !trackers.is_empty()) {
            text.family(name, kind, help);
            for tracker in &trackers {
                text.sample(name, &[("tracker", &tracker.name), ("kind", &tracker.kind)], read(tracker));
            }
        }
        let hooks = self.hook_status();
        text.single("lyre_hook_runs_total", "counter", "Scripts and readers of FIFOs started.", hooks.runs);
        text.single("lyre_hook_failures_total", "counter", "Of these: failed, or too slow.", hooks.failures);
        text.single("lyre_hook_dropped_total", "counter", "Not run, because too many waited.", hooks.dropped);
        text.single("lyre_hook_lost_lines_total", "counter", "Lines of FIFOs that nobody read.", hooks.lost_lines);
        let dropped = hooks.dropped_subscribers;
        text.single("lyre_events_dropped_subscribers_total", "counter", "Event streams read too slowly.", dropped);
    }

    fn vrrp_metrics(&self, now: Time, text: &mut Metrics) {
        let routers = self.router_status();
        if routers.is_empty() {
            return;
        }
        let lost = self.pair.as_ref().map_or(0, Pair::lost_events);
        text.single("lyre_vrrp_lost_events_total", "counter", "Speaker events that found the queue full.", lost);
        type Read = fn(&RouterStatus, Time) -> f64;
        let gauges: [(&str, &str, Read); 4] = [
            ("lyre_vrrp_state", "0 initialize, 1 backup, 2 active.", |router, _| match router.state {
                State::Initialize => 0.0,
                State::Backup => 1.0,
                State::Active => 2.0,
            }),
            ("lyre_vrrp_state_seconds", "Time in this state.", |router, now| now.since(router.since).as_secs_f64()),
            ("lyre_vrrp_fault", "1 while it must not hold its addresses.", |router, _| {
                f64::from(u8::from(router.health == Health::Unable))
            }),
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
                text.sample(name, &[router, interface, ("reason", reason), ("mib", mib::of_drop(reason))], count);
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
        rfc6527: mib::statistics(counters).map(|(name, count)| (name.to_owned(), count)).into(),
    }
}

/// As one of the others; since when is not known.
fn proxy_tracker(tracker: &config::Tracker, health: Health) -> Tracker {
    let is_good = health == Health::Able;
    let weight = match tracker.effect {
        config::Effect::Fault => 0,
        config::Effect::Weight(weight) => {
            if (weight > 0) == is_good {
                weight
            } else {
                0
            }
        }
    };
    let reason = match health {
        Health::Able => "the worker serves",
        Health::Degraded => "no web server is usable",
        Health::Unable => "the worker does not run, or hangs",
    };
    Tracker {
        name: tracker.name.clone(),
        kind: tracker.kind.name().to_owned(),
        state: if is_good { "good" } else { "bad" }.to_owned(),
        since: None,
        reason: reason.to_owned(),
        fault: tracker.effect == config::Effect::Fault && health == Health::Unable,
        weight,
        routers: tracker.routers.clone(),
        checks: 0,
        bad_checks: 0,
        turns: 0,
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
