//! Which servers may be asked: active checks with rise and fall counts, Nextcloud's `/status.php` verdict, and passive
//! ejection of a server whose real requests keep failing.
//!
//! ```text
//!            first verdict decides            `fall` times Down
//!  Unknown ------------------------> Up ------------------------> Down
//!                                    ^ '-- Maintenance at once     |
//!                                    |          |                  |
//!                                    '----------'-- `rise` times <-'
//!  Draining lies over any of them while the operator wants it.
//! ```

use serde::Deserialize;
use std::time::{Duration, Instant};

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Up,
    /// Alive, but Nextcloud answers 503: maintenance mode or a pending database upgrade.
    Maintenance,
    Down,
}

/// The body of `/status.php` and its HTTP status as a verdict. Nextcloud answers 200 during maintenance too, so the
/// JSON decides; a server that is not installed is not one to send clients to.
pub fn status_verdict(http_status: u16, body: &[u8]) -> Verdict {
    #[derive(Deserialize)]
    struct Status {
        installed: bool,
        #[serde(default)]
        maintenance: bool,
        #[serde(default, rename = "needsDbUpgrade")]
        needs_db_upgrade: bool,
    }
    if http_status != 200 {
        return Verdict::Down;
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(Status { installed: false, .. }) | Err(_) => Verdict::Down,
        Ok(status) if status.maintenance || status.needs_db_upgrade => Verdict::Maintenance,
        Ok(_) => Verdict::Up,
    }
}

/// A server's state as checks and the operator see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not checked yet; may be asked, so that a start needs no waiting.
    Unknown,
    Up,
    Maintenance,
    Down,
    /// Takes nothing new; the operator's wish.
    Draining,
}

/// One server's active health.
#[derive(Debug, Clone)]
pub struct Health {
    checked: State,
    is_draining: bool,
    rise: u32,
    fall: u32,
    /// Consecutive verdicts against `checked`.
    streak: u32,
}

impl Health {
    /// `rise` and `fall`: consecutive verdicts that change the state; 0 counts as 1.
    pub fn new(rise: u32, fall: u32) -> Health {
        Health { checked: State::Unknown, is_draining: false, rise: rise.max(1), fall: fall.max(1), streak: 0 }
    }

    pub fn state(&self) -> State {
        if self.is_draining { State::Draining } else { self.checked }
    }

    pub fn set_draining(&mut self, on: bool) {
        self.is_draining = on;
    }

    /// Takes a check's verdict; answers the new state if it changed.
    pub fn verdict(&mut self, verdict: Verdict) -> Option<State> {
        let before = self.state();
        self.count(verdict);
        (self.state() != before).then(|| self.state())
    }

    fn count(&mut self, verdict: Verdict) {
        let (target, needed) = match (self.checked, verdict) {
            (State::Unknown, Verdict::Up) => (State::Up, 1),
            (State::Unknown, Verdict::Maintenance) => (State::Maintenance, 1),
            (State::Unknown, Verdict::Down) => (State::Down, 1),
            (State::Down, Verdict::Up) => (State::Up, self.rise),
            (State::Down, Verdict::Maintenance) => (State::Maintenance, self.rise),
            (State::Up | State::Maintenance, Verdict::Down) => (State::Down, self.fall),
            // Nextcloud said so itself, there is nothing to smooth.
            (State::Up, Verdict::Maintenance) => (State::Maintenance, 1),
            (State::Maintenance, Verdict::Up) => (State::Up, 1),
            (State::Up, Verdict::Up)
            | (State::Maintenance, Verdict::Maintenance)
            | (State::Down, Verdict::Down)
            // `checked` is never Draining; `is_draining` lies over it.
            | (State::Draining, _) => (self.checked, 1),
        };
        self.streak = if target == self.checked { 0 } else { self.streak + 1 };
        if self.streak >= needed {
            self.checked = target;
            self.streak = 0;
        }
    }
}

/// What a pool as a whole may do, from its servers' states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolState {
    /// Ask servers that are up (or not checked yet); the others drain.
    Serving,
    /// All that live are in maintenance: ask them, their own 503 tells clients what is going on.
    Maintenance,
    /// Nobody to ask: the edge answers 503.
    Down,
}

pub fn pool_state(states: impl IntoIterator<Item = State>) -> PoolState {
    let mut pool = PoolState::Down;
    for state in states {
        match state {
            State::Unknown | State::Up => return PoolState::Serving,
            State::Maintenance => pool = PoolState::Maintenance,
            State::Down | State::Draining => {}
        }
    }
    pool
}

/// Whether a server in `state` takes new requests while its pool is in `pool`.
pub fn is_usable(state: State, pool: PoolState) -> bool {
    match state {
        State::Unknown | State::Up => true,
        State::Maintenance => pool == PoolState::Maintenance,
        State::Down | State::Draining => false,
    }
}

/// Consecutive failures of real requests that eject a server.
pub const EJECT_AFTER: u32 = 5;
/// First ejection; each further one lasts twice as long.
pub const EJECT_FIRST: Duration = Duration::from_secs(10);
pub const EJECT_MAX: Duration = Duration::from_secs(300);

/// How a real request to a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Any well-formed response, whatever its status: a 502 a web node makes of one bad request must not eject it.
    Answered,
    /// Connect failed, connection lost before the head was complete, or the head broke the protocol.
    Failed,
}

/// One server's passive health, as one core sees it.
#[derive(Debug, Clone, Default)]
pub struct Ejection {
    failures: u32,
    until: Option<Instant>,
    /// Length of the last ejection; halves are forgotten once the server answers again.
    last: Option<Duration>,
}

impl Ejection {
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Takes the outcome of a request. `servers` are in the pool, `ejected` of them are ejected now: at least half of
    /// the pool, and at least one server, always stays. Answers how long the server is ejected if that begins now.
    pub fn outcome(&mut self, outcome: Outcome, now: Instant, servers: usize, ejected: usize) -> Option<Duration> {
        match outcome {
            Outcome::Answered => {
                self.failures = 0;
                if !self.is_ejected(now) {
                    // Back for longer than it was out: the next ejection starts small again.
                    let is_proven = self.until.zip(self.last).is_none_or(|(until, last)| now >= until + last);
                    if is_proven {
                        (self.until, self.last) = (None, None);
                    }
                }
                None
            }
            Outcome::Failed => {
                self.failures += 1;
                let may_eject = (ejected + 1) * 2 <= servers;
                if self.failures < EJECT_AFTER || self.is_ejected(now) || !may_eject {
                    return None;
                }
                let length = self.last.map_or(EJECT_FIRST, |last| (last * 2).min(EJECT_MAX));
                self.failures = 0;
                (self.until, self.last) = (Some(now + length), Some(length));
                Some(length)
            }
        }
    }
}

#[cfg(test)]
mod tests;
