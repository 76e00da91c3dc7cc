//! Per-core counters, the access log, and the set-up of `tracing`. No locks shared by cores.
//!
//! Reading order: [`counters`] (cells one core writes and the scraper reads), [`access`] (one line a request),
//! [`writer`] (the thread that owns the log's file).

pub mod access;
pub mod counters;
pub mod writer;

use crate::config::settings::LogFormat;
use tracing::level_filters::LevelFilter;

/// Sends `tracing` events to stderr in the operator's format. A second call in one process changes nothing.
pub fn init_tracing(format: LogFormat, level: tracing::Level) {
    let events = tracing_subscriber::fmt().with_max_level(LevelFilter::from_level(level)).with_writer(std::io::stderr);
    // Losing the race against an earlier call is fine: somebody has set logging up.
    let _ = match format {
        LogFormat::Text => events.with_ansi(false).with_target(false).try_init(),
        LogFormat::Json => events.json().flatten_event(true).try_init(),
    };
}
