//! Orders to a running lyre: `failover`, `reload`, `drain`, and `metrics`.

use super::client::{Answer as HttpAnswer, Client};
use super::output::{self, Colour, Style};
use super::{FAILED, status};
use crate::control::status::{Answer, Failover};
use std::process::ExitCode;
use std::time::Duration;

/// The node bounds its own work (a drain may take `timeouts.drain`); this only ends waiting for a dead one.
const ORDER_WAIT: Duration = Duration::from_secs(15 * 60);

const METRICS_WAIT: Duration = Duration::from_secs(10);

/// `lyre failover`: success means that a peer holds every address now.
pub(super) fn failover(client: &Client, json: bool) -> ExitCode {
    let answer = match client.post("/v1/failover", ORDER_WAIT) {
        Ok(answer) => answer,
        Err(error) => return error.fail(),
    };
    let Ok(result) = serde_json::from_str::<Failover>(&answer.body) else { return show(&answer, json) };
    if json {
        let printed = output::print(&answer.body);
        return if result.moved { printed } else { ExitCode::from(FAILED) };
    }
    let style = Style::of_stdout();
    let mut text = String::new();
    for holder in &result.holders {
        let name = holder.holder.as_deref().map_or(style.paint(Colour::Bad, "nobody known"), str::to_owned);
        text += &format!("{}: held by {name}\n", holder.router);
    }
    let release = result.release_ms.map(|ms| format!(", the peer answered {ms:.1} ms after the release"));
    let colour = if result.moved { Colour::Good } else { Colour::Bad };
    let message = style.paint(colour, status::printable(&result.message));
    text += &format!("{message}{} ({:.1} ms in all)\n", release.unwrap_or_default(), result.total_ms);
    let printed = output::print(&text);
    if result.moved { printed } else { ExitCode::from(FAILED) }
}

/// An order that is answered by a message.
pub(super) fn order(client: &Client, path: &str, json: bool) -> ExitCode {
    match client.post(path, ORDER_WAIT) {
        Ok(answer) => show(&answer, json),
        Err(error) => error.fail(),
    }
}

pub(super) fn metrics(client: &Client) -> ExitCode {
    match client.get("/metrics", METRICS_WAIT) {
        Ok(answer) if answer.status == 200 => output::print(&answer.body),
        Ok(answer) => show(&answer, false),
        Err(error) => error.fail(),
    }
}

/// The answer on stdout, or its problems on stderr.
pub(super) fn show(answer: &HttpAnswer, json: bool) -> ExitCode {
    let succeeded = (200..300).contains(&answer.status);
    if json {
        let printed = output::print(&answer.body);
        return if succeeded { printed } else { ExitCode::from(FAILED) };
    }
    let parsed = serde_json::from_str::<Answer>(&answer.body);
    let parsed = parsed.unwrap_or_else(|_| Answer { message: answer.body.trim().to_owned(), errors: Vec::new() });
    if succeeded {
        return output::print(&format!("{}\n", status::printable(&parsed.message)));
    }
    for error in &parsed.errors {
        output::note(error);
    }
    output::note(format_args!(
        "{} {}",
        Style::of_stderr().paint(Colour::Bad, "lyre:"),
        status::printable(&parsed.message)
    ));
    ExitCode::from(FAILED)
}
