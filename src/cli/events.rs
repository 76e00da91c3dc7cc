//! `lyre events`: what happens, as it happens.

use super::client::Client;
use super::output;
use super::status::printable;
use crate::config::calendar::show_time;
use crate::control::events::{Line, Story};
use std::process::ExitCode;

/// Until Ctrl-C, a closed pipe, or the end of the running lyre, which is a failure: nothing more will be told.
pub(super) fn run(client: &Client, json: bool) -> ExitCode {
    let outcome = client.lines("/v1/events", |line| {
        let text = match (json, serde_json::from_str::<Line>(line)) {
            (false, Ok(line)) => format!("{}\n", render(&line)),
            _ => format!("{line}\n"),
        };
        output::try_print(&text).is_ok()
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.fail(),
    }
}

fn render(line: &Line) -> String {
    let what = match &line.story {
        Story::Subscribed => "listening".to_owned(),
        Story::Transition { router, from, to, reason } => format!("{router}: {from} to {to} ({reason})"),
        Story::Ability { router, health, weight: 0 } => format!("{router}: {health}"),
        Story::Ability { router, health, weight } => format!("{router}: {health}, priority {weight:+} by trackers"),
        Story::Tracker { tracker, state, fault, weight, reason, .. } => {
            let effect = match (fault, weight) {
                (true, _) => ", a fault".to_owned(),
                (false, 0) => String::new(),
                (false, weight) => format!(", priority {weight:+}"),
            };
            format!("tracker {tracker}: {state}{effect}: {reason}")
        }
        Story::Alarm { router, detail, .. } => format!("{router}: alarm: {detail}"),
        Story::AlarmRaised { router, alarm, remedy } => format!("{router}: alarm {alarm}: {remedy}"),
        Story::AlarmCleared { router, alarm } => format!("{router}: alarm {alarm} is over"),
        Story::Dropped { reason } => format!("dropped: {reason}"),
    };
    let time = show_time(i64::try_from(line.unix_ms / 1_000).unwrap_or(0));
    format!("{time} {}", printable(&what).replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_for_people() {
        let story = Story::Tracker {
            tracker: "uplink".into(),
            kind: "gateway".into(),
            state: "bad".into(),
            fault: true,
            weight: 0,
            reason: "192.0.2.1 does not answer on eth0".into(),
            routers: vec!["vip1-v4".into()],
        };
        let text = render(&Line { unix_ms: 0, story });
        assert!(text.ends_with(" tracker uplink: bad, a fault: 192.0.2.1 does not answer on eth0"), "{text}");
    }
}
