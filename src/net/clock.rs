//! The core's one clock read a loop turn, and one hashed timer wheel for all its deadlines.

use std::future::Future;
use std::time::Duration;

/// The core's time: nanoseconds of CLOCK_MONOTONIC, read once per loop turn by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

/// This core's current time (thread local).
pub fn now() -> Now {
    Now(0)
}

/// One deadline, re-armed for about a nanosecond. Belongs to one connection task. Resolution 64 ms.
pub struct Timer {}

/// The deadline passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Timer {
    /// A disarmed timer on this core's wheel.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Timer {
        Timer {}
    }

    /// Fires `after` from now; replaces an earlier deadline.
    pub fn arm(&self, _after: Duration) {}

    pub fn disarm(&self) {}

    /// Runs `future` until it is ready or the armed deadline passes. Dropping `future` then must be safe for it.
    pub async fn bound<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        Ok(future.await)
    }
}
