//! Lyre: the high-availability edge for Nextcloud. This file is the map; modules are in reading order.
//!
//! Arrows point down only: `cli` -> `demo`, `import`, `control` -> `serve` -> `net`, `policy` -> `proto`; `config` and
//! `telemetry` are readable from all of them. See docs/architecture.md.

pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod import;
pub mod net;
pub mod pair;
pub mod policy;
pub mod proto;
pub mod serve;
pub mod shared;
pub mod telemetry;
