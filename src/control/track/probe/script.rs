//! A program of the operator's that ends with status 0, or does not.

use super::{Finding, Pace, Probe};
use crate::config::settings::track::Command;
use crate::control::script;
use crate::control::spawn::Exit;
use lyre_vrrp::params::Time;
use nix::poll::{PollFd, PollFlags};
use std::time::Duration;

pub struct Script {
    command: Command,
    user: Option<String>,
    pace: Pace,
    timeout: Duration,
    running: Option<Running>,
}

struct Running {
    script: script::Script,
    deadline: Time,
    /// Its time was up; only its end is awaited.
    is_killed: bool,
}

impl Script {
    pub fn new(command: Command, user: Option<String>, pace: Pace, timeout: Duration) -> Script {
        Script { command, user, pace, timeout, running: None }
    }

    fn start(&mut self, now: Time) -> Option<Finding> {
        match script::Script::start(&self.command, &[], self.user.as_deref()) {
            Ok(script) => {
                self.running = Some(Running { script, deadline: now.plus(self.timeout), is_killed: false });
                None
            }
            Err(error) => Finding::bad(error.to_string()),
        }
    }
}

impl Probe for Script {
    fn interests<'a>(&'a self, into: &mut Vec<PollFd<'a>>) {
        into.extend(self.running.iter().map(|running| PollFd::new(running.script.pidfd(), PollFlags::POLLIN)));
    }

    fn deadline(&self) -> Option<Time> {
        match &self.running {
            Some(Running { is_killed: true, .. }) => None,
            Some(running) => Some(running.deadline),
            None => Some(self.pace.next()),
        }
    }

    /// One run at a time: a slow one delays the next.
    fn advance(&mut self, now: Time) -> Option<Finding> {
        if let Some(running) = &mut self.running {
            if let Some(exit) = running.script.try_wait() {
                let was_killed = running.is_killed;
                self.running = None;
                return if was_killed { None } else { Finding::of(exit == Exit::Code(0), exit.to_string()) };
            }
            if now >= running.deadline && !running.is_killed {
                running.is_killed = true;
                running.script.kill();
                return Finding::bad(format!("did not end within {:?}", self.timeout));
            }
            return None;
        }
        if self.pace.is_due(now) { self.start(now) } else { None }
    }
}

/// A tracker that is gone leaves nothing running.
impl Drop for Script {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.script.kill();
            let mut ended = [PollFd::new(running.script.pidfd(), PollFlags::POLLIN)];
            // SIGKILL is prompt; a process stuck in the kernel is left to init.
            let _ = nix::poll::poll(&mut ended, 100_u8);
            let _ = running.script.try_wait();
        }
    }
}
