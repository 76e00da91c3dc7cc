//! `lyre run` and the worker process it starts.

use super::FAILED;
use super::output::{self, Colour, Style};
use crate::config::bundle::Bundle;
use crate::config::settings::Settings;
use crate::control::supervisor::{self, ExitReason};
use crate::{config, control, serve, telemetry};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(path: &Path, node: Option<&str>) -> ExitCode {
    let report = config::read(path, node);
    let Some((settings, bundle)) = report.outcome else {
        let style = Style::of_stderr();
        for problem in &report.errors {
            output::note(format_args!("{} {problem}", style.paint(Colour::Bad, "error:")));
        }
        output::note(format_args!("lyre: not started; lyre check tells more about {}", path.display()));
        return ExitCode::from(FAILED);
    };
    telemetry::init_tracing(settings.log.format, settings.log.level);
    for warning in &report.warnings {
        tracing::warn!(target: "lyre::config", "{warning}");
    }
    serve(settings, bundle)
}

/// The hidden `lyre worker`: gives up its privileges, then serves until its parent ends it.
pub(super) fn worker(orders: &[OsString]) -> ExitCode {
    let channel = match control::entry::enter(orders) {
        Ok(channel) => channel,
        Err(error) => return output::fail(&error),
    };
    match serve::worker::main(channel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(error.as_ref()),
    }
}

/// Blocks until told to stop.
fn serve(settings: Settings, bundle: Bundle) -> ExitCode {
    match supervisor::run(settings, bundle) {
        Ok(ExitReason::Stopped) => ExitCode::SUCCESS,
        Ok(ExitReason::Forced) => ExitCode::from(FAILED),
        Err(error) => output::fail(&error),
    }
}
