//! What looks at one thing. A probe never waits: it says which descriptors and which moment it waits for, and the
//! tracker thread waits for all of them together.

pub mod file;
pub mod gateway;
pub mod http;
pub mod link;
pub mod neighbour;
pub mod pool;
pub mod process;
pub mod script;
pub mod tls;

use crate::config::settings::track::{Tracker, TrackerKind};
use crate::control::track::judge::Outcome;
use crate::control::view::View;
use lyre_vrrp::params::Time;
use nix::poll::PollFd;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A result with its reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub outcome: Outcome,
    pub reason: String,
}

pub trait Probe: Send {
    /// What to wait for, besides the deadline.
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>);
    /// When [`Probe::advance`] has something to do, whatever is readable.
    fn deadline(&self) -> Option<Time>;
    /// Goes as far as it can without waiting; at most one finding a call.
    fn advance(&mut self, now: Time) -> Option<Finding>;
}

/// What probes need to know of the node.
pub struct Surroundings {
    pub view: Arc<View>,
    /// Not the node's own, although they may be on its interfaces.
    pub virtual_addresses: Vec<IpAddr>,
}

/// `None` for the worker, whom the real-time thread watches itself.
pub fn of(tracker: &Tracker, around: &Surroundings, now: Time) -> Option<Box<dyn Probe>> {
    let pace = Pace::new(now, tracker.interval);
    Some(match &tracker.kind {
        TrackerKind::Proxy => return None,
        TrackerKind::Link { interface } => Box::new(link::Link::new(interface.clone())),
        TrackerKind::BackendPool { pool, min } => {
            Box::new(pool::Pool::new(Arc::clone(&around.view), pool.clone(), *min, pace))
        }
        TrackerKind::Gateway { address, interface } => {
            let virtual_addresses = around.virtual_addresses.clone();
            Box::new(gateway::Gateway::new(*address, interface.clone(), virtual_addresses, pace, tracker.timeout))
        }
        TrackerKind::Http(check) => Box::new(http::Http::new(check.clone(), pace, tracker.timeout)),
        TrackerKind::Script { command, user } => {
            Box::new(script::Script::new(command.clone(), user.clone(), pace, tracker.timeout))
        }
        TrackerKind::Process { which, min } => Box::new(process::Process::new(which.clone(), *min, pace)),
        TrackerKind::File { path, mode } => Box::new(file::File::new(path.clone(), *mode)),
    })
}

/// The moments of a periodic check: a grid from its start, from which a late one does not slip.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    next: Time,
    interval: Duration,
}

impl Pace {
    /// The first moment is `now`.
    pub fn new(now: Time, interval: Duration) -> Pace {
        Pace { next: now, interval: interval.max(Duration::from_millis(1)) }
    }

    pub fn next(&self) -> Time {
        self.next
    }

    /// Whether it is time. Moments that were missed are skipped.
    pub fn is_due(&mut self, now: Time) -> bool {
        if now < self.next {
            return false;
        }
        let step = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let missed = (now.0 - self.next.0) / step;
        self.next = Time(self.next.0.saturating_add(step.saturating_mul(missed.saturating_add(1))));
        true
    }
}

impl Finding {
    pub fn good(reason: impl Into<String>) -> Option<Finding> {
        Some(Finding { outcome: Outcome::Good, reason: reason.into() })
    }

    pub fn bad(reason: impl Into<String>) -> Option<Finding> {
        Some(Finding { outcome: Outcome::Bad, reason: reason.into() })
    }

    pub fn of(is_good: bool, reason: impl Into<String>) -> Option<Finding> {
        if is_good { Finding::good(reason) } else { Finding::bad(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_keeps_its_grid_and_skips_what_it_missed() {
        let at = |ms: u64| Time(ms * 1_000_000);
        let mut pace = Pace::new(at(1000), Duration::from_millis(100));
        assert!(pace.is_due(at(1000)) && !pace.is_due(at(1099)));
        assert!(pace.is_due(at(1130)));
        assert_eq!(pace.next(), at(1200));
        assert!(pace.is_due(at(5050)));
        assert_eq!(pace.next(), at(5100));
    }
}
