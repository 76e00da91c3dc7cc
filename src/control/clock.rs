//! The parent's clock: CLOCK_MONOTONIC, the same the VRRP speaker and its machine use.

use lyre_vrrp::params::Time;
use nix::time::{ClockId, clock_gettime};

pub fn now() -> Time {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, Into::into);
    Time(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Wall time in milliseconds since 1970, only ever shown to people.
#[allow(clippy::disallowed_methods)] // a stamp for status and logs, never compared
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
