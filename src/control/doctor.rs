//! `lyre doctor vrrp`: why a pair does not pair. Looks at this host and listens for a while; changes nothing.
//!
//! [`gather`] and [`listen`] collect [`facts`], [`judge`] (pure) makes findings of them. A cause that can be tried is
//! tried (is an advert that is on the wire also in a socket? does the kernel let one out?); what cannot be tried is
//! read from where it is configured.

mod advert;
pub mod facts;
mod firewall;
mod gather;
pub mod judge;
mod listen;

use crate::config::settings::Settings;
use crate::control::status::Status;
use judge::Finding;
use std::time::Duration;

/// Everything found about the virtual routers of `settings`, listening for `wait`. `status` is what the lyre that runs
/// here says, if one does.
pub fn vrrp(settings: &Settings, status: Option<&Status>, wait: Duration) -> Vec<Finding> {
    judge::judge(&gather::facts(settings, status, wait))
}

/// Long enough for three adverts of anybody on this LAN with ordinary settings.
pub fn usual_wait(settings: &Settings) -> Duration {
    let longest = settings.routers.iter().map(|router| router.advert_interval_cs).max().unwrap_or(0);
    (Duration::from_millis(u64::from(longest) * 10) * 4).max(Duration::from_secs(4))
}
