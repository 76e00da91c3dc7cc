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
            { "name": "10.0.0.21:80", "address": "10.0.0.21:80", "state": "up", "outstanding": 2, "last_check_ms": 3.21 },
            { "name": "10.0.0.22:80", "address": "10.0.0.22:80", "state": "down", "last_error": "refused\u001b[31m" } ] } ],
        "detail": { "cores": [ { "requests_total": 1500 }, { "requests_total": 500 } ] },
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
the last reload changed nothing: lyre.toml:1:1: x

addresses
  192.0.2.10/24 on eth0: Active for 1 min 15 s (ActiveDown)
    vip1-v4, vrid 51, priority 254, adverts 5 sent, 6 received
  192.0.2.20/24 on eth0: Backup for 1.5 s, held by 192.0.2.12 (priority 254)
    vip2-v4, vrid 52, priority 253, adverts 0 sent, 9 received

worker
  ready for 12 s, 2 starts, 1 crashes, 0 hangs, last end: killed by SIGKILL
  listens on 0.0.0.0:443
  core 0: 3 connections, 2 requests running, 1 tunnels

pool web
  10.0.0.21:80 up last check 3.2 ms, outstanding 2
  10.0.0.22:80 down last error refused[31m

transitions
  1970-01-01 00:00:00 UTC vip1-v4: backup to active (ActiveDown)
"
    );
}

#[test]
fn rates_are_what_was_counted_between_two_looks() {
    let (now, mut before) = (status(), status());
    before.detail = serde_json::from_str(r#"{ "cores": [ { "requests_total": 1000 } ] }"#).unwrap();
    let shown = render(&now, Some((Duration::from_secs(2), &before)), Style::Plain);
    assert!(shown.contains("  500 requests a second\n"), "{shown}");
}

#[test]
fn a_worker_that_started_anew_shows_no_negative_rate() {
    let (now, mut before) = (status(), status());
    before.detail = serde_json::from_str(r#"{ "requests_total": 9000 }"#).unwrap();
    let shown = render(&now, Some((Duration::from_secs(2), &before)), Style::Plain);
    assert!(!shown.contains("a second"), "{shown}");
}
