//! `lyre exapp list` and `show`: the apps behind the gateway, as the status has them.

use super::client::Client;
use super::{FAILED, orders, output, status};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);

pub(super) fn list(client: &Client, json: bool) -> ExitCode {
    told(client, |exapps| if json { Ok(lined(exapps)) } else { Ok(table(exapps)) })
}

pub(super) fn show(client: &Client, app: &str, json: bool) -> ExitCode {
    told(client, |exapps| {
        let one = find(exapps, app).ok_or_else(|| unknown(exapps, app))?;
        Ok(if json { lined(one) } else { facts(one) })
    })
}

/// Prints what `tell` makes of the status's part.
fn told(client: &Client, tell: impl FnOnce(&Value) -> Result<String, String>) -> ExitCode {
    let answer = match client.get("/v1/status", WAIT) {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return orders::show(&answer, false),
        Err(error) => return error.fail(),
    };
    let status = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
    let exapps = status.pointer("/detail/exapps").filter(|exapps| exapps.is_object());
    let missing = || "no [exapps] is served here, or the worker does not answer: see lyre status".to_owned();
    match exapps.ok_or_else(missing).and_then(tell) {
        Ok(text) => output::print(&text),
        Err(why) => {
            output::note(why);
            ExitCode::from(FAILED)
        }
    }
}

fn table(exapps: &Value) -> String {
    let lines = status::exapps::lines(Some(exapps));
    match lines.is_empty() {
        true => "no app was asked for yet\n".to_owned(),
        false => lines.iter().map(|line| format!("{line}\n")).collect(),
    }
}

fn apps(exapps: &Value) -> impl Iterator<Item = &Value> {
    exapps.get("apps").and_then(Value::as_array).into_iter().flatten()
}

/// Ids are compared as the gateway does: without regard to case.
fn find<'v>(exapps: &'v Value, app: &str) -> Option<&'v Value> {
    apps(exapps).find(|one| one.get("id").and_then(Value::as_str).is_some_and(|id| id.eq_ignore_ascii_case(app)))
}

fn unknown(exapps: &Value, app: &str) -> String {
    let known: Vec<&str> = apps(exapps).filter_map(|one| one.get("id")?.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    status::printable(&format!("{app} was not asked for since the worker's start; known are: {known}"))
}

/// One fact a line.
fn facts(app: &Value) -> String {
    let facts = app.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        status::printable(&format!("{}: {value}\n", name.replace('_', " ")))
    };
    facts.map(line).collect()
}

fn lined(value: &Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exapps() -> Value {
        serde_json::json!({ "apps": [
            { "id": "foo", "version": "1.0.0", "forwarded": 3, "tunnel_client": null },
            { "id": "bar", "version": "2", "forwarded": 0, "tunnel_client": "10.0.0.5:4000" }
        ] })
    }

    #[test]
    fn an_app_is_found_by_its_id_and_shown_fact_by_fact() {
        let exapps = exapps();
        assert_eq!(facts(find(&exapps, "FOO").unwrap()), "forwarded: 3\nid: foo\nversion: 1.0.0\n");
        assert!(facts(find(&exapps, "bar").unwrap()).contains("tunnel client: 10.0.0.5:4000\n"));
    }

    #[test]
    fn an_app_that_is_not_known_is_answered_with_those_that_are() {
        let exapps = exapps();
        assert!(find(&exapps, "baz").is_none());
        assert_eq!(
            unknown(&exapps, "baz\u{1b}"),
            "baz was not asked for since the worker's start; known are: foo, bar"
        );
    }
}
