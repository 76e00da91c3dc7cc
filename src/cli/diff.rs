//! `lyre check --diff`: what a reload would change in the lyre that runs here.

use super::client::Client;
use super::output::{self, Colour, Style};
use super::{FAILED, check};
use crate::config::{
    self,
    outline::{NEEDS_RESTART, outline},
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(10);

type Outline = BTreeMap<String, String>;

#[derive(Debug, PartialEq, Eq)]
struct Change<'a> {
    place: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
}

pub(super) fn run(path: &Path, node: Option<&str>, client: &Client, json: bool) -> ExitCode {
    let report = config::read(path, node);
    let Some((settings, _)) = &report.outcome else { return check::run(path, node, json) };
    let answer = match client.get("/v1/config", WAIT) {
        Ok(answer) => answer,
        Err(error) => return error.fail(),
    };
    let Ok(running) = serde_json::from_str::<Outline>(&answer.body) else {
        let error = std::io::Error::other("the lyre that runs here does not tell its configuration (another version?)");
        return output::fail(&error);
    };
    let written = outline(settings);
    let changes = changes(&running, &written);
    let needs_restart = changes.iter().any(needs_restart);
    let printed = output::print(&if json { as_json(&changes) } else { as_text(&changes) });
    if needs_restart { ExitCode::from(FAILED) } else { printed }
}

fn changes<'a>(running: &'a Outline, written: &'a Outline) -> Vec<Change<'a>> {
    let places: std::collections::BTreeSet<&String> = running.keys().chain(written.keys()).collect();
    let value = |outline: &'a Outline, place: &str| outline.get(place).map(String::as_str);
    let change = |place: &'a String| Change { place, from: value(running, place), to: value(written, place) };
    places.into_iter().map(change).filter(|change| change.from != change.to).collect()
}

fn needs_restart(change: &Change) -> bool {
    NEEDS_RESTART.iter().any(|(place, _)| *place == change.place)
}

fn as_text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing would change\n".to_owned();
    }
    let style = Style::of_stdout();
    let line = |change: &Change| {
        let note = match needs_restart(change) {
            true => style.paint(Colour::Bad, "  needs a restart, a reload is refused"),
            false => String::new(),
        };
        match (change.from, change.to) {
            (Some(from), Some(to)) => format!("~ {}: {from} -> {to}{note}\n", change.place),
            (Some(from), None) => format!("- {}: {from}{note}\n", change.place),
            (_, to) => format!("+ {}: {}{note}\n", change.place, to.unwrap_or_default()),
        }
    };
    changes.iter().map(line).collect()
}

fn as_json(changes: &[Change]) -> String {
    let object = |change: &Change| json!({ "place": change.place, "from": change.from, "to": change.to, "needs_restart": needs_restart(change) });
    format!("{:#}\n", json!({ "changes": changes.iter().map(object).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_added_and_removed_values_are_told_apart() {
        let outline = |pairs: &[(&str, &str)]| -> Outline {
            pairs.iter().map(|(place, value)| (place.to_string(), value.to_string())).collect()
        };
        let running = outline(&[("a", "1"), ("b", "2"), ("worker.cores", "2")]);
        let written = outline(&[("a", "1"), ("c", "3"), ("worker.cores", "4")]);
        let text = as_text(&changes(&running, &written));
        assert!(text.starts_with("- b: 2\n+ c: 3\n~ worker.cores: 2 -> 4"), "{text}");
        assert!(text.contains("needs a restart"));
        assert_eq!(as_text(&changes(&running, &running)), "nothing would change\n");
    }
}
