//! TCP services of a worker: raw clients in front, scripted and real servers behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers outside of test functions

mod cluster;
#[path = "../lab/dns.rs"]
#[allow(dead_code)]
mod dns;
mod edge;
mod galera;
mod names;
mod pair;
#[path = "../lab/port.rs"]
mod port;
mod services;
