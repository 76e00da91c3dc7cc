//! The worker from outside: raw clients in front, scripted origins behind, each test on both drivers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers outside of test functions

mod abuse;
mod acceptance;
mod browser;
mod client;
mod crowd;
mod desync;
#[path = "../lab/dns.rs"]
mod dns;
mod docker;
#[allow(dead_code)]
mod edge;
mod exapps;
mod failures;
mod h2;
mod h2_attacks;
mod h2_life;
#[allow(dead_code)]
mod h2_raw;
mod h2_spec;
mod limits;
mod messages;
mod names;
mod operations;
#[allow(dead_code)]
mod origin;
mod php;
#[path = "../lab/port.rs"]
mod port;
mod presets;
mod real;
mod slow_read;
mod spool;
mod streams;
mod tls;
mod tools;
#[path = "../lab/worker.rs"]
mod worker;
