//! Wall time for log stamps and the Date field, from one system clock read a tick.

use crate::net::clock::{Now, now};
use crate::telemetry::access::imf_fixdate;
use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct DateLine {
    /// Wall time minus the core's clock, in nanoseconds.
    offset: Cell<u64>,
    second: Cell<u64>,
    text: RefCell<[u8; 29]>,
}

impl Default for DateLine {
    fn default() -> DateLine {
        let date = DateLine { offset: Cell::new(0), second: Cell::new(u64::MAX), text: RefCell::new([b' '; 29]) };
        date.refresh(now());
        date
    }
}

impl DateLine {
    /// Once a tick.
    #[allow(clippy::disallowed_methods)] // stamps are what wall time is for
    pub fn refresh(&self, now: Now) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.offset.set((wall.as_nanos() as u64).saturating_sub(now.0));
        if self.second.replace(wall.as_secs()) != wall.as_secs() {
            self.text.replace(imf_fixdate(wall.as_secs()));
        }
    }

    pub fn wall(&self, now: Now) -> Duration {
        Duration::from_nanos(self.offset.get().saturating_add(now.0))
    }

    /// IMF-fixdate (RFC 9110 §5.6.7), at most one tick old.
    pub fn bytes(&self) -> [u8; 29] {
        *self.text.borrow()
    }
}
