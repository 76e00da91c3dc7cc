//! `lyre doctor`: what keeps this node from doing its work, and what to do about it.

use super::FAILED;
use super::client::Client;
use super::output::{self, Colour, Style};
use crate::config::{self, settings::Settings};
use crate::control::doctor;
use crate::control::doctor::judge::{Finding, Level};
use crate::control::status::Status;
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const STATUS_WAIT: Duration = Duration::from_secs(2);

pub(super) fn vrrp(path: &Path, node: Option<&str>, client: &Client, wait: Option<Duration>, json: bool) -> ExitCode {
    let report = config::read(path, node);
    let Some((settings, _)) = report.outcome else {
        return output::fail(&config::error::ConfigErrors(report.errors));
    };
    if settings.routers.is_empty() {
        return output::print(&nothing(&settings, json));
    }
    let wait = wait.unwrap_or_else(|| doctor::usual_wait(&settings));
    let findings = doctor::vrrp(&settings, running(client).as_ref(), wait);
    let printed = output::print(&if json { machine(&findings) } else { people(&findings, wait, Style::of_stdout()) });
    if findings.iter().any(|finding| finding.level == Level::Fail) { ExitCode::from(FAILED) } else { printed }
}

fn nothing(settings: &Settings, json: bool) -> String {
    if json { machine(&[]) } else { format!("{} has no [[vip]]: nothing to examine\n", settings.source.display()) }
}

/// What the lyre here says, if one runs.
fn running(client: &Client) -> Option<Status> {
    let answer = client.get("/v1/status", STATUS_WAIT).ok().filter(|answer| answer.status == 200)?;
    serde_json::from_str(&answer.body).ok()
}

/// One line a check; what to do in the same line.
fn people(findings: &[Finding], wait: Duration, style: Style) -> String {
    let mut text = String::new();
    for Finding { check, subject, level, message, remedy } in findings {
        let colour = match level {
            Level::Ok => Colour::Good,
            Level::Warn => Colour::Odd,
            Level::Fail => Colour::Bad,
        };
        let level = style.paint(colour, format!("{:<4}", level.word()));
        let arrow = if remedy.is_empty() { "" } else { " -> " };
        text += &format!("{level}  {subject:<12} {check:<11} {message}{arrow}{remedy}\n");
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (fails, warnings) = (count(Level::Fail), count(Level::Warn));
    text + &format!("listened for {} s: {fails} failed, {warnings} warnings\n", wait.as_secs_f64())
}

fn machine(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|f| json!({ "check": f.check, "subject": f.subject, "level": f.level.word(), "message": f.message, "remedy": f.remedy }))
        .collect();
    let is_ok = !findings.iter().any(|finding| finding.level == Level::Fail);
    format!("{:#}\n", json!({ "ok": is_ok, "findings": list }))
}
