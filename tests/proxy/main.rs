//! The worker from outside: raw clients in front, scripted origins behind, each test on both drivers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)] // helpers outside of test functions

mod edge;
mod failures;
mod limits;
mod messages;
mod operations;
mod origin;
mod streams;
mod tls;
