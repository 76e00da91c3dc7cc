//! A server for a request: the pick, the place at it, the wait for one.

use crate::config::settings::{Balance, PoolKind};
use crate::net::clock::{Timer, now};
use crate::policy::balance::{Candidate, Pick, pick, pick_best};
use crate::policy::health::is_usable;
use crate::policy::{document, nextcloud};
use crate::serve::core::{Core, Lines, PoolView, Upstream, elapsed_ns};
use crate::serve::health;
use crate::serve::reply::Own;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

/// A WebSocket that would have to wait for longer is told to come back.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(5);

/// A request's place at a server; leaving it lets the next one in line in.
pub struct Slot {
    pub upstream: Rc<Upstream>,
    /// In the pool's list.
    pub index: usize,
    core: usize,
    lines: Rc<Lines>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstream.server.leave(self.core);
        self.lines.wake();
    }
}

/// What a request wants of its server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// May use the places that are kept for short requests.
    pub is_light: bool,
    /// The office document it is about.
    pub document: Option<u64>,
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
    wish: Wish,
    timer: &Timer,
) -> Result<(Slot, Option<u64>), Own> {
    let line = if wish.is_light { &pool.lines.light } else { &pool.lines.usual };
    if line.is_empty() {
        match look(core, pool, excluded, wish) {
            Look::Slot(slot) => return Ok((slot, None)),
            Look::NoneUsable => return Err(Own::NoServer),
            Look::AllFull => {}
        }
    }
    if !pool.shared.crowd.join(pool.shared.settings.queue_max) {
        return Err(Own::QueueFull);
    }
    let since = now();
    let counters = core.counters();
    counters.queued.bump();
    counters.waiting.up();
    let _waiting = scopeguard(|| {
        counters.waiting.down();
        pool.shared.crowd.leave();
    });
    timer.arm(pool.shared.settings.queue_timeout);
    let turn = line.wait(|| match look(core, pool, excluded, wish) {
        Look::Slot(slot) => Some(Ok(slot)),
        Look::NoneUsable => Some(Err(Own::NoServer)),
        Look::AllFull => None,
    });
    match timer.bound(turn).await {
        Ok(slot) => Ok((slot?, Some(elapsed_ns(since)))),
        Err(_) => Err(Own::QueueTimeout),
    }
}

/// Whether anybody could take a request at all.
pub fn has_server(pool: &PoolView) -> bool {
    let state = health::pool_state(&pool.shared);
    pool.servers.iter().any(|upstream| is_usable(health::state(&upstream.server), state))
}

/// Whether a server other than the one at `index` has room.
pub fn has_other_server(core: &Core, pool: &PoolView, index: usize) -> bool {
    let settings = &pool.shared.settings;
    let state = health::pool_state(&pool.shared);
    let is_open = |(at, upstream): (usize, &Rc<Upstream>)| {
        let is_up = is_usable(health::state(&upstream.server), state) && !upstream.is_ejected(core);
        at != index && is_up && upstream.server.outstanding() < settings.max_requests_per_server
    };
    settings.balance == Balance::Load && pool.servers.iter().enumerate().any(is_open)
}

/// A WebSocket's turn: after a fail-over all clients come at once, and each costs the web servers a login.
pub async fn admit_upgrade(pool: &PoolView, timer: &Timer) -> Result<(), Own> {
    match pool.shared.crowd.upgrade(&pool.shared.upgrade_rate(), now().0, UPGRADE_PATIENCE) {
        None => Err(Own::UpgradeRate),
        Some(Duration::ZERO) => Ok(()),
        Some(wait) => {
            timer.arm(wait);
            let _ = timer.bound(pending::<()>()).await;
            Ok(())
        }
    }
}

fn look(core: &Core, pool: &PoolView, excluded: Option<usize>, wish: Wish) -> Look {
    let settings = &pool.shared.settings;
    let max = settings.max_requests_per_server;
    let max = match settings.kind {
        PoolKind::Nextcloud if !wish.is_light => max - max / nextcloud::LIGHT_SHARE,
        PoolKind::Nextcloud | PoolKind::ExApp | PoolKind::Other => max,
    };
    let state = health::pool_state(&pool.shared);
    // Where only one server is right, what this core alone thinks of it must not send the request to a wrong one.
    let is_bound = settings.balance == Balance::First || wish.document.is_some();
    // Another core may take the place between the look and the step; then look again, a few times.
    for _ in 0..4 {
        let view = |index: usize| match pool.servers.get(index) {
            Some(upstream) => Candidate {
                is_usable: is_usable(health::state(&upstream.server), state)
                    && (is_bound || !upstream.is_ejected(core)),
                is_excluded: !is_bound && excluded == Some(index),
                outstanding: upstream.server.outstanding(),
                capacity: max,
                weight: 1,
            },
            None => Candidate { is_usable: false, is_excluded: true, outstanding: 0, capacity: 0, weight: 1 },
        };
        let servers = pool.servers.len();
        let picked = match wish.document {
            Some(key) => pick_best(servers, view, |index| {
                pool.servers.get(index).map_or(0, |upstream| document::score(key, upstream.server.name.as_bytes()))
            }),
            None if is_bound => pick_best(servers, view, |index| u64::MAX - index as u64),
            None => pick(servers, view, fastrand::u64(..)),
        };
        match picked {
            Pick::Queue => return Look::AllFull,
            Pick::None => return Look::NoneUsable,
            Pick::Peer(index) => {
                let Some(upstream) = pool.servers.get(index) else { return Look::NoneUsable };
                if upstream.server.enter(core.index, max) {
                    let (upstream, lines) = (upstream.clone(), pool.lines.clone());
                    return Look::Slot(Slot { upstream, index, core: core.index, lines });
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
