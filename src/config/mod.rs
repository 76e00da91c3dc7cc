//! lyre.toml: what the operator typed (`file`), what the program relies on (`settings`), and what is wrong (`error`).

pub(crate) mod calendar;
mod cloudflare;
mod file;
mod findings;
mod host;
pub(crate) mod names;
mod read;
mod shared_key;
mod suggest;
pub(crate) mod x509;

pub mod bundle;
pub mod error;
pub mod outline;
pub mod settings;
pub mod units;

use bundle::Bundle;
use error::{ConfigErrors, Problem};
use findings::Findings;
use host::{Host, Machine, Packed};
use settings::Settings;
use std::path::{Path, PathBuf};

/// Everything one look at a configuration found.
pub struct Report {
    /// What can be run; there when `errors` is empty.
    pub outcome: Option<(Settings, Bundle)>,
    pub errors: Vec<Problem>,
    /// Worth an operator's look, no reason not to start.
    pub warnings: Vec<Problem>,
}

/// Reads the file, every file it names and this host's interfaces. `node` is `--node`. Warnings go to the log.
pub fn load(path: &Path, node: Option<&str>) -> Result<(Settings, Bundle), ConfigErrors> {
    let report = read(path, node);
    for warning in &report.warnings {
        tracing::warn!(target: "lyre::config", "{warning}");
    }
    report.outcome.ok_or(ConfigErrors(report.errors))
}

/// As [`load`], with the warnings for the caller to show.
pub fn read(path: &Path, node: Option<&str>) -> Report {
    let text = match host::read_text(path) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem::of_file(path, format!("cannot be read: {error}"));
            return Report { outcome: None, errors: vec![problem], warnings: Vec::new() };
        }
    };
    let mut machine = Machine::new(path, text.clone(), node);
    let (settings, errors, warnings) = understand(path, &text, node, &mut machine);
    let outcome = settings.map(|settings| {
        let mut bundle = machine.bundle;
        bundle.node =
            settings.cluster.as_ref().and_then(|cluster| cluster.nodes.get(cluster.this)).map(|n| n.name.clone());
        (settings, bundle)
    });
    Report { outcome, errors, warnings }
}

/// The same settings from a bundle that `load` made, without touching the file system, environment or network.
pub fn from_bundle(bundle: &Bundle) -> Result<Settings, ConfigErrors> {
    let report = read_bundle(bundle);
    report.outcome.map(|(settings, _)| settings).ok_or(ConfigErrors(report.errors))
}

/// `bundle` with the certificate and key files of `settings` as they are now.
pub fn with_certificates_reread(bundle: &Bundle, settings: &Settings) -> Result<Bundle, ConfigErrors> {
    let base = bundle.path.parent().unwrap_or(Path::new(""));
    let of_certificates = |path: &Path| {
        let path = base.join(path);
        settings.certificates.iter().any(|certificate| certificate.cert_path == path || certificate.key_path == path)
    };
    let mut renewed = bundle.clone();
    let mut errors = Vec::new();
    for (path, content) in renewed.files.iter_mut().filter(|(path, _)| of_certificates(path)) {
        match host::read_file(&base.join(path)) {
            Ok(bytes) => *content = bytes,
            Err(error) => errors.push(Problem::of_file(&base.join(path), format!("cannot be read: {error}"))),
        }
    }
    if errors.is_empty() { Ok(renewed) } else { Err(ConfigErrors(errors)) }
}

/// As [`from_bundle`], with the warnings.
pub fn read_bundle(bundle: &Bundle) -> Report {
    let mut packed = Packed(bundle);
    let (settings, errors, warnings) = understand(&bundle.path, &bundle.text, bundle.node.as_deref(), &mut packed);
    Report { outcome: settings.map(|settings| (settings, bundle.clone())), errors, warnings }
}

/// Where the admin socket of the lyre that runs with this configuration is. For its clients: a file that is not there,
/// not readable or wrong elsewhere is no reason not to ask.
pub fn admin_socket(path: &Path) -> PathBuf {
    let text = host::read_text(path).unwrap_or_default();
    let mut machine = Machine::new(path, String::new(), None);
    let (document, _) = toml::de::DeTable::parse_recoverable(&text);
    let socket = document.get_ref().get("admin").and_then(|admin| admin.get_ref().get("socket"));
    match socket.and_then(|socket| socket.get_ref().as_str()) {
        Some(socket) => path.parent().unwrap_or(Path::new("")).join(socket),
        None => machine.admin_socket(),
    }
}

type Understood = (Option<Settings>, Vec<Problem>, Vec<Problem>);

fn understand(path: &Path, text: &str, node: Option<&str>, host: &mut dyn Host) -> Understood {
    let mut context = read::Context {
        f: Findings::new(path, text),
        host,
        base: path.parent().map(Path::to_owned).unwrap_or_default(),
        node: node.map(str::to_owned),
        now: now(),
    };
    let settings = read::settings(&mut context, path, text);
    let (errors, warnings) = context.f.finish();
    (settings, errors, warnings)
}

/// Seconds since 1970. Wall time is what certificates are dated in.
#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
