//! A server for a request: the pick, the place at it, the wait for one.

use crate::net::clock::{Timer, now};
use crate::policy::balance::{Candidate, Pick, pick};
use crate::policy::health::is_usable;
use crate::serve::core::{Core, PoolView, Upstream, elapsed_ns};
use crate::serve::health;
use crate::serve::queue::Queue;
use crate::serve::reply::Own;
use std::rc::Rc;

/// A request's place at a server; leaving it lets the next one in line in.
pub struct Slot {
    pub upstream: Rc<Upstream>,
    /// In the pool's list.
    pub index: usize,
    core: usize,
    queue: Rc<Queue>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstream.server.leave(self.core);
        self.queue.wake_first();
    }
}

/// What a look at the pool gave.
enum Look {
    Slot(Slot),
    AllFull,
    NoneUsable,
}

/// A place at a server of `pool` other than `excluded`; waits in line when all are full. The second value is the time
/// spent in line, in nanoseconds.
pub async fn acquire(
    core: &Core,
    pool: &PoolView,
    excluded: Option<usize>,
    timer: &Timer,
) -> Result<(Slot, Option<u64>), Own> {
    if pool.queue.is_empty() {
        match look(core, pool, excluded) {
            Look::Slot(slot) => return Ok((slot, None)),
            Look::NoneUsable => return Err(Own::NoServer),
            Look::AllFull => {}
        }
    }
    wait(core, pool, excluded, timer).await
}

async fn wait(
    core: &Core,
    pool: &PoolView,
    excluded: Option<usize>,
    timer: &Timer,
) -> Result<(Slot, Option<u64>), Own> {
    let since = now();
    let counters = core.counters();
    counters.queued.bump();
    counters.waiting.up();
    let _waiting = scopeguard(|| counters.waiting.down());
    timer.arm(pool.shared.settings.queue_timeout);
    let turn = pool.queue.wait(|| match look(core, pool, excluded) {
        Look::Slot(slot) => Some(Ok(slot)),
        Look::NoneUsable => Some(Err(Own::NoServer)),
        Look::AllFull => None,
    });
    match timer.bound(turn).await {
        Ok(Ok(slot)) => Ok((slot?, Some(elapsed_ns(since)))),
        Ok(Err(_)) => Err(Own::QueueFull),
        Err(_) => Err(Own::QueueTimeout),
    }
}

fn look(core: &Core, pool: &PoolView, excluded: Option<usize>) -> Look {
    let max = pool.shared.settings.max_requests_per_server;
    let state = health::pool_state(&pool.shared);
    // Another core may take the place between the look and the step; then look again, a few times.
    for _ in 0..4 {
        let view = |index: usize| match pool.servers.get(index) {
            Some(upstream) => Candidate {
                is_usable: is_usable(health::state(&upstream.server), state) && !upstream.is_ejected(core),
                is_excluded: excluded == Some(index),
                outstanding: upstream.server.outstanding(),
                capacity: max,
                weight: 1,
            },
            None => Candidate { is_usable: false, is_excluded: true, outstanding: 0, capacity: 0, weight: 1 },
        };
        match pick(pool.servers.len(), view, fastrand::u64(..)) {
            Pick::Queue => return Look::AllFull,
            Pick::None => return Look::NoneUsable,
            Pick::Peer(index) => {
                let Some(upstream) = pool.servers.get(index) else { return Look::NoneUsable };
                if upstream.server.enter(core.index, max) {
                    return Look::Slot(Slot {
                        upstream: upstream.clone(),
                        index,
                        core: core.index,
                        queue: pool.queue.clone(),
                    });
                }
            }
        }
    }
    Look::AllFull
}

/// Runs `end` when the scope is left, also by cancellation.
fn scopeguard<F: FnMut()>(end: F) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(end)
}
