//! Whether the worker's cores still move: compares heartbeat counters over time. A value; the clock is an argument.

use crate::serve::page::CORES_MAX;
use lyre_vrrp::params::Time;
use std::time::Duration;

/// Looks without movement before a core may count as hung, however long they took: a single late look proves that the
/// watcher slept, not that the core did.
const LOOKS_MIN: u32 = 4;

#[derive(Clone, Copy, Default)]
struct Core {
    beat: u64,
    moved: Time,
    looks: u32,
}

/// The last seen beat of every core. Allocates nothing after `new`.
pub struct Pulse {
    cores: Box<[Core; CORES_MAX]>,
    last_look: Time,
}

impl Pulse {
    pub fn new(now: Time) -> Pulse {
        let core = Core { moved: now, ..Core::default() };
        Pulse { cores: Box::new([core; CORES_MAX]), last_look: now }
    }

    /// Forgets what was seen: another worker is looked at from now on.
    pub fn restart(&mut self, now: Time) {
        self.cores.fill(Core { moved: now, ..Core::default() });
        self.last_look = now;
    }

    /// Notes the current beats. Answers the first core that has not moved for `timeout`, over several looks.
    ///
    /// If the watcher itself was away for half of the timeout (stopped, starved, a paused machine), the cores probably
    /// were too: they get a fresh start.
    pub fn look(&mut self, now: Time, timeout: Duration, beats: impl Iterator<Item = u64>) -> Option<usize> {
        let was_away = now.since(self.last_look) > timeout / 2;
        self.last_look = now;
        let mut hung = None;
        for (index, (core, beat)) in self.cores.iter_mut().zip(beats).enumerate() {
            if core.beat != beat || was_away {
                *core = Core { beat, moved: now, looks: 0 };
                continue;
            }
            core.looks = core.looks.saturating_add(1);
            if core.looks >= LOOKS_MIN && now.since(core.moved) >= timeout && hung.is_none() {
                hung = Some(index);
            }
        }
        hung
    }

    /// The core that has stood still for longest, over more than one look, and for how long.
    pub fn stillest(&self, now: Time) -> Option<(usize, Duration)> {
        let still = self.cores.iter().enumerate().filter(|(_, core)| core.looks > 0);
        let longest = still.min_by_key(|(_, core)| core.moved)?;
        Some((longest.0, now.since(longest.1.moved)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_core_that_stops_is_found_after_the_timeout() {
        let mut pulse = Pulse::new(at(0));
        for ms in (0..1000).step_by(20) {
            assert_eq!(pulse.look(at(ms), TIMEOUT, [ms, ms + 1].into_iter()), None);
        }
        let found = (1000..2000).step_by(20).find(|ms| pulse.look(at(*ms), TIMEOUT, [*ms, 7].into_iter()).is_some());
        assert_eq!(found, Some(1500));
    }

    #[test]
    fn a_watcher_that_slept_blames_nobody() {
        let mut pulse = Pulse::new(at(0));
        assert_eq!(pulse.look(at(20), TIMEOUT, [1].into_iter()), None);
        assert_eq!(pulse.look(at(5000), TIMEOUT, [1].into_iter()), None);
        assert_eq!(pulse.look(at(5020), TIMEOUT, [1].into_iter()), None);
    }

    #[test]
    fn the_stillest_core_is_known_before_the_timeout() {
        let mut pulse = Pulse::new(at(0));
        pulse.look(at(20), TIMEOUT, [1, 1].into_iter());
        pulse.look(at(40), TIMEOUT, [1, 2].into_iter());
        assert_eq!(pulse.stillest(at(50)), Some((0, Duration::from_millis(30))));
        pulse.look(at(60), TIMEOUT, [2, 3].into_iter());
        assert_eq!(pulse.stillest(at(60)), None);
    }

    #[test]
    fn another_worker_starts_afresh() {
        let mut pulse = Pulse::new(at(0));
        for ms in (0..480).step_by(20) {
            pulse.look(at(ms), TIMEOUT, [0].into_iter());
        }
        pulse.restart(at(490));
        for ms in (500..900).step_by(20) {
            assert_eq!(pulse.look(at(ms), TIMEOUT, [0].into_iter()), None);
        }
    }
}
