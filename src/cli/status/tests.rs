use super::*;

fn status() -> Status {
    let json = r#"{
        "node": "edge-a", "version": "0.1.0", "pid": 100, "uptime": 90061.0, "state": "serving",
        "config": { "path": "/etc/lyre/lyre.toml", "loaded_unix_ms": 1000, "reloads": 1, "failed_reloads": 1,
                    "last_error": "lyre.toml:1:1: x" },
        "listeners": ["0.0.0.0:443"],
        "routers": [
            { "name": "vip1-v4", "interface": "eth0", "vrid": 51, "addresses": ["192.0.2.10/24"], "state": "active",
              "since": 75.0, "reason": "ActiveDown", "priority": 254, "peer": null,
              "counters": { "adverts_sent": 5, "adverts_received": 6, "transitions_to_active": 1 } },
            { "name": "vip2-v4", "interface": "eth0", "vrid": 52, "addresses": ["192.0.2.20/24"], "state": "backup",
              "since": 1.5, "reason": null, "priority": 253, "peer": { "address": "192.0.2.12", "priority": 254 },
              "counters": { "adverts_sent": 0, "adverts_received": 9, "transitions_to_active": 0 } }
        ],
        "worker": { "state": "ready", "pid": 101, "uptime": 12.0, "starts": 2, "crashes": 1, "hangs": 0,
                    "last_exit": "killed by SIGKILL", "restart_in": null },
        "cores": [ { "core": 0, "connections": 3, "requests": 2, "tunnels": 1 } ],
        "pools": [ { "name": "web", "servers": [
            { "name": "10.0.0.21:80", "address": "10.0.0.21:80", "state": "up", "outstanding": 2, "requests": 40, "last_check_ms": 3.21 },
            { "name": "10.0.0.22:80", "address": "10.0.0.22:80", "state": "down", "last_error": "refused\u001b[31m" } ] } ],
        "detail": { "traffic": { "requests": 2000, "retries": 1, "waiting": 0, "bytes_in": 3072, "bytes_out": 1572864 } },
        "transitions": [ { "unix_ms": 0, "router": "vip1-v4", "from": "backup", "to": "active", "reason": "ActiveDown" } ]
    }"#;
    serde_json::from_str(json).unwrap()
}

#[test]
fn shows_who_holds_what_since_when_and_why() {
    assert_eq!(
        render(&status(), None, Style::Plain),
        "\
edge-a serving, lyre 0.1.0, up 1 d 1 h, process 100
/etc/lyre/lyre.toml, read 1970-01-01 00:00:01 UTC
the last reload failed: lyre.toml:1:1: x

addresses
  192.0.2.10/24 on eth0: Active for 1 min 15 s (ActiveDown)
    vip1-v4, vrid 51, priority 254, adverts 5 sent, 6 received
  192.0.2.20/24 on eth0: Backup for 1.5 s, held by 192.0.2.12 (priority 254)
    vip2-v4, vrid 52, priority 253, adverts 0 sent, 9 received

worker
  ready for 12 s, 2 starts, 1 crashes, 0 hangs, last end: killed by SIGKILL
  listens on 0.0.0.0:443
  core 0: 3 connections, 2 requests running, 1 tunnels
  2000 requests, 1 retries, 0 waiting for a server, 3.0 KiB in and 1.5 MiB out

pool web
  10.0.0.21:80 up: 2 outstanding, 40 requests, last check: 3.2 ms
  10.0.0.22:80 down: last error: refused[31m

transitions
  1970-01-01 00:00:00 UTC vip1-v4: backup to active (ActiveDown)
"
    );
}

fn earlier(requests: u64) -> Status {
    let mut earlier = status();
    let traffic = serde_json::json!({ "requests": requests, "bytes_in": 1024, "bytes_out": 0 });
    earlier.detail = serde_json::Map::from_iter([("traffic".to_owned(), traffic)]);
    earlier
}

#[test]
fn an_alarm_is_shown_below_its_router_with_its_remedy() {
    use crate::control::status::RaisedAlarm;
    let mut status = status();
    let remedy = "make both nodes equal".to_owned();
    status.routers[1].alarms.push(RaisedAlarm { name: "interval_mismatch".to_owned(), since: 62.0, remedy });
    let shown = render(&status, None, Style::Plain);
    let expected = "0 sent, 9 received\n    alarm interval_mismatch for 1 min 2 s: make both nodes equal\n";
    assert!(shown.contains(expected), "{shown}");
}

#[test]
fn rates_are_what_was_counted_between_two_looks() {
    let shown = render(&status(), Some((Duration::from_secs(2), &earlier(1000))), Style::Plain);
    assert!(shown.contains("  500 requests/s, 1.0 KiB/s in, 768.0 KiB/s out\n"), "{shown}");
}

#[test]
fn a_worker_that_started_anew_shows_no_rate_below_zero() {
    let shown = render(&status(), Some((Duration::from_secs(2), &earlier(9000))), Style::Plain);
    assert!(!shown.contains("requests/s"), "{shown}");
}

#[test]
fn a_status_without_a_worker_is_still_a_picture() {
    let mut status = status();
    status.detail.clear();
    status.pools = Value::Null;
    status.cores.clear();
    status.worker.state = WorkerState::Down;
    status.worker.restart_in = Some(0.2);
    let shown = render(&status, None, Style::Plain);
    assert!(
        shown.contains(
            "  down for 12 s, 2 starts, 1 crashes, 0 hangs, last end: killed by SIGKILL, next start in 0.2 s"
        ),
        "{shown}"
    );
}

#[test]
fn shows_trackers_with_their_effect_and_what_keeps_a_router_from_its_address() {
    let mut status = status();
    let tracker = |name: &str, state: &str, fault, weight, reason: &str| Tracker {
        name: name.into(),
        kind: "script".into(),
        state: state.into(),
        since: Some(5.0),
        reason: reason.into(),
        fault,
        weight,
        routers: vec!["vip2-v4".into()],
        checks: 0,
        bad_checks: 0,
        turns: 0,
    };
    status.trackers = vec![
        tracker("disk", "bad", true, 0, "exited with status 1"),
        tracker("load", "good", false, 20, "exited with status 0"),
        tracker("new", "unknown", false, 0, "no result yet"),
    ];
    status.routers[1].weight = 20;
    status.routers[1].faults = vec!["disk: exited with status 1".into()];
    let text = render(&status, None, Style::Plain);
    for line in [
        "    vip2-v4, vrid 52, priority 253 (+20 by trackers), adverts 0 sent, 9 received",
        "    fault: disk: exited with status 1",
        "trackers",
        "  disk (script) bad for 5.0 s, a fault: exited with status 1",
        "  load (script) good for 5.0 s, priority +20: exited with status 0",
        "  new (script) not known yet for 5.0 s: no result yet",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\nis missing in:\n{text}");
    }
}
