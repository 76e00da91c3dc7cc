//! How many servers of a pool are usable, as the worker writes it into the shared page.

use super::{Finding, Pace, Probe};
use crate::control::view::View;
use lyre_vrrp::params::Time;
use nix::poll::PollFd;
use std::sync::Arc;

pub struct Pool {
    view: Arc<View>,
    name: String,
    min: u32,
    pace: Pace,
}

impl Pool {
    pub fn new(view: Arc<View>, name: String, min: u32, pace: Pace) -> Pool {
        Pool { view, name, min, pace }
    }
}

impl Probe for Pool {
    fn interests<'a>(&'a self, _into: &mut Vec<PollFd<'a>>) {}

    fn deadline(&self) -> Option<Time> {
        Some(self.pace.next())
    }

    /// Nothing is found while no worker runs or none has looked yet: the built-in tracker speaks about that.
    fn advance(&mut self, now: Time) -> Option<Finding> {
        if !self.pace.is_due(now) || self.view.worker() == 0 || !self.view.page.is_ready() {
            return None;
        }
        let (usable, servers) = self.view.page.pool(&self.name)?;
        Finding::of(usable >= self.min, format!("{usable} of {servers} servers usable"))
    }
}
