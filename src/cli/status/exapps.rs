//! The gateway's part of the picture: apps, tunnels, who was refused.

use super::{age, printable};
use serde_json::Value;

/// Nothing without a gateway, or with nothing to tell.
pub(in crate::cli) fn lines(exapps: Option<&Value>) -> Vec<String> {
    let Some(exapps) = exapps else { return Vec::new() };
    let list = |name: &str| exapps.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (apps, tunnels) = (list("apps"), list("tunnels"));
    let is_apps = |tunnel: &Value| apps.iter().any(|app| text(app, "tunnel_client") == text(tunnel, "client"));
    let mut lines: Vec<String> = apps.iter().map(app).collect();
    lines.extend(tunnels.iter().filter(|tunnel| !is_apps(tunnel)).map(tunnel));
    let refusals = exapps.get("refusals").and_then(Value::as_object).into_iter().flatten();
    let refusals: Vec<String> = refusals.map(|(reason, count)| format!("{count} {}", printable(reason))).collect();
    if !refusals.is_empty() {
        lines.push(format!("refused: {}", refusals.join(", ")));
    }
    let bans: Vec<String> = list("bans").iter().map(|ban| text(ban, "client")).collect();
    if !bans.is_empty() {
        lines.push(format!("banned: {}", bans.join(", ")));
    }
    lines
}

fn app(app: &Value) -> String {
    let count = |name: &str| app.get(name).and_then(Value::as_u64).unwrap_or(0);
    let tunnel = match app.get("tunnel_up_seconds").and_then(Value::as_f64) {
        Some(up) => format!("tunnel from {} up {}, ", text(app, "tunnel_client"), age(up)),
        None => String::new(),
    };
    let (id, version, place) = (text(app, "id"), text(app, "version"), text(app, "place"));
    format!("{id} {version} at {place}: {tunnel}{} forwarded, {} refused", count("forwarded"), count("refused"))
}

/// One that no known app is behind.
fn tunnel(tunnel: &Value) -> String {
    let port = tunnel.get("port").and_then(Value::as_u64).unwrap_or(0);
    let up = age(tunnel.get("up_seconds").and_then(Value::as_f64).unwrap_or(0.0));
    format!("tunnel {} on {port} from {} up {up}", text(tunnel, "name"), text(tunnel, "client"))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).map(printable).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_apps_with_their_tunnels_and_who_was_refused() {
        let told = serde_json::json!({
            "apps": [
                { "id": "foo", "version": "1.0.0", "place": "127.0.0.1:23000", "forwarded": 12, "refused": 3,
                  "tunnel_client": "10.0.0.5:40000", "tunnel_up_seconds": 75.0 },
                { "id": "bar\u{1b}[31m", "version": "2", "place": "bar:9000", "forwarded": 0, "refused": 0,
                  "tunnel_client": null, "tunnel_up_seconds": null }
            ],
            "tunnels": [
                { "name": "foo", "port": 23000, "client": "10.0.0.5:40000", "up_seconds": 75.0 },
                { "name": "engine", "port": 24000, "client": "10.0.0.6:40000", "up_seconds": 2.0 }
            ],
            "refusals": { "level": 3, "unknown_app": 1 },
            "bans": [ { "client": "192.0.2.7", "left_seconds": 20.0 } ]
        });
        assert_eq!(
            lines(Some(&told)),
            [
                "foo 1.0.0 at 127.0.0.1:23000: tunnel from 10.0.0.5:40000 up 1 min 15 s, 12 forwarded, 3 refused",
                "bar[31m 2 at bar:9000: 0 forwarded, 0 refused",
                "tunnel engine on 24000 from 10.0.0.6:40000 up 2.0 s",
                "refused: 3 level, 1 unknown_app",
                "banned: 192.0.2.7",
            ]
        );
        assert!(lines(None).is_empty() && lines(Some(&Value::Null)).is_empty());
    }
}
