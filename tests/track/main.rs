//! Trackers and hooks for real: `lyre run` in network namespaces, something there breaks, and its routers follow.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod hooks;
mod kinds;
mod lab;
mod pair;
