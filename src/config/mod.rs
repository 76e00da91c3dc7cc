//! lyre.toml: what the operator typed (`file`), what the program relies on (`settings`), and what is wrong (`error`).

pub mod bundle;
pub mod error;
pub mod file;
pub mod settings;

use bundle::Bundle;
use error::{ConfigErrors, Problem};
use settings::Settings;
use std::path::Path;

/// Everything one look at a configuration found.
pub struct Report {
    /// What can be run; there when `errors` is empty.
    pub outcome: Option<(Settings, Bundle)>,
    pub errors: Vec<Problem>,
    /// Worth an operator's look, no reason not to start.
    pub warnings: Vec<Problem>,
}

/// Reads the file, every file it names and this host's interfaces. Warnings go to the log.
pub fn load(path: &Path, node: Option<&str>) -> Result<(Settings, Bundle), ConfigErrors> {
    let report = read(path, node);
    for warning in &report.warnings {
        tracing::warn!(target: "lyre::config", "{warning}");
    }
    report.outcome.ok_or(ConfigErrors(report.errors))
}

/// As [`load`], with the warnings for the caller to show.
pub fn read(path: &Path, _node: Option<&str>) -> Report {
    let problem = Problem::of_file(path, "not read yet".to_owned());
    Report { outcome: None, errors: vec![problem], warnings: Vec::new() }
}

/// The same settings from a bundle that `load` made, without touching the file system, environment or network.
pub fn from_bundle(bundle: &Bundle) -> Result<Settings, ConfigErrors> {
    Err(ConfigErrors(vec![Problem::of_file(&bundle.path, "not read yet".to_owned())]))
}
