//! TCP services of a worker: raw clients in front, scripted and real servers behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers outside of test functions

mod cluster;
mod edge;
mod galera;
mod services;
