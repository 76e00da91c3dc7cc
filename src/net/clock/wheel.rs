//! A hashed timer wheel: pure, the time is an argument, a due entry answers with its waker.
//!
//! Moving a deadline later is a store: the entry stays in its old slot and is put into the right one when that slot
//! comes up. Only an earlier deadline relinks. Slots are lists threaded through the entries, so the wheel allocates
//! for growth only.

use crate::net::shelves::Shelves;
use std::task::Waker;

/// Width of a slot, nanoseconds.
pub(super) const TICK_NS: u64 = 64_000_000;

/// Slots, about 65 s. A later deadline waits in the last slot and is put off again from there.
const SLOTS: u64 = 1024;

const NONE: u32 = u32::MAX;
const UNLINKED: u64 = u64::MAX;

pub(super) struct Wheel {
    entries: Shelves<Entry>,
    free: u32,
    heads: Vec<u32>,
    occupied: [u64; SLOTS as usize / 64],
    linked: usize,
    /// The last tick that was handled; every linked entry is in a slot after it.
    done: u64,
}

struct Entry {
    /// Nanoseconds; 0 is disarmed.
    deadline: u64,
    /// The tick whose slot holds the entry.
    tick: u64,
    previous: u32,
    /// Also links the free list.
    next: u32,
    waker: Option<Waker>,
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        Wheel {
            entries: Shelves::new(),
            free: NONE,
            heads: vec![NONE; SLOTS as usize],
            occupied: [0; SLOTS as usize / 64],
            linked: 0,
            done: 0,
        }
    }

    /// A disarmed entry.
    pub(super) fn insert(&mut self) -> u32 {
        let fresh = Entry { deadline: 0, tick: UNLINKED, previous: NONE, next: NONE, waker: None };
        if self.free == NONE {
            return self.entries.push(fresh) as u32;
        }
        let key = self.free;
        self.free = self.entry(key).next;
        *self.entry(key) = fresh;
        key
    }

    /// The waker is the caller's to drop: dropping it may run code that comes back to this wheel.
    pub(super) fn remove(&mut self, key: u32) -> Option<Waker> {
        self.unlink(key);
        let free = self.free;
        let entry = self.entry(key);
        entry.next = free;
        let waker = entry.waker.take();
        self.free = key;
        waker
    }

    /// Answers whether the entry went into another slot, so that [`Wheel::due`] may have changed.
    pub(super) fn arm(&mut self, key: u32, deadline: u64, now: u64) -> bool {
        let entry = self.entry(key);
        entry.deadline = deadline;
        if entry.tick <= deadline.div_ceil(TICK_NS) {
            return false;
        }
        self.unlink(key);
        if self.linked == 0 {
            self.done = now / TICK_NS;
        }
        self.link(key);
        true
    }

    pub(super) fn disarm(&mut self, key: u32) {
        self.entry(key).deadline = 0;
    }

    pub(super) fn is_expired(&mut self, key: u32, now: u64) -> bool {
        let deadline = self.entry(key).deadline;
        deadline != 0 && deadline <= now
    }

    pub(super) fn waker(&mut self, key: u32) -> &mut Option<Waker> {
        &mut self.entry(key).waker
    }

    /// When [`Wheel::advance`] has work next, in nanoseconds. None: the wheel is empty.
    pub(super) fn due(&self) -> Option<u64> {
        self.next_tick().map(|tick| tick * TICK_NS)
    }

    /// Empties the slots up to `now`: due entries hand out their waker, postponed ones move on.
    pub(super) fn advance(&mut self, now: u64, due: &mut Vec<Waker>) {
        let until = now / TICK_NS;
        while let Some(tick) = self.next_tick().filter(|tick| *tick <= until) {
            self.done = tick;
            let mut key = self.heads[slot(tick)];
            while key != NONE {
                let next = self.entry(key).next;
                self.unlink(key);
                let entry = self.entry(key);
                if entry.deadline > now {
                    self.link(key);
                } else if entry.deadline != 0 {
                    due.extend(entry.waker.take());
                }
                key = next;
            }
        }
        self.done = self.done.max(until);
    }

    fn next_tick(&self) -> Option<u64> {
        if self.linked == 0 {
            return None;
        }
        let first = slot(self.done + 1);
        let words = self.occupied.len();
        for step in 0..=words {
            let at = (first / 64 + step) % words;
            let mut word = self.occupied[at];
            if step == 0 {
                word &= u64::MAX << (first % 64);
            }
            if word != 0 {
                let found = at as u64 * 64 + u64::from(word.trailing_zeros());
                return Some(self.done + 1 + (found + SLOTS - first as u64) % SLOTS);
            }
        }
        None
    }

    fn link(&mut self, key: u32) {
        let done = self.done;
        let entry = self.entry(key);
        let tick = entry.deadline.div_ceil(TICK_NS).clamp(done + 1, done + SLOTS - 1);
        let head = self.heads[slot(tick)];
        let entry = self.entry(key);
        entry.tick = tick;
        entry.previous = NONE;
        entry.next = head;
        if head != NONE {
            self.entry(head).previous = key;
        }
        self.heads[slot(tick)] = key;
        self.occupied[slot(tick) / 64] |= 1 << (slot(tick) % 64);
        self.linked += 1;
    }

    fn unlink(&mut self, key: u32) {
        let entry = self.entry(key);
        let Entry { tick, previous, next, .. } = *entry;
        if tick == UNLINKED {
            return;
        }
        entry.tick = UNLINKED;
        if next != NONE {
            self.entry(next).previous = previous;
        }
        if previous != NONE {
            self.entry(previous).next = next;
        } else {
            self.heads[slot(tick)] = next;
            if next == NONE {
                self.occupied[slot(tick) / 64] &= !(1 << (slot(tick) % 64));
            }
        }
        self.linked -= 1;
    }

    /// Keys come from `insert` and are the caller's until `remove`: always in range.
    fn entry(&mut self, key: u32) -> &mut Entry {
        &mut self.entries[key as usize]
    }
}

fn slot(tick: u64) -> usize {
    (tick % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn advance(wheel: &mut Wheel, now: u64) -> usize {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.len()
    }

    fn armed(wheel: &mut Wheel, deadline: u64, now: u64) -> u32 {
        let key = wheel.insert();
        wheel.arm(key, deadline, now);
        *wheel.waker(key) = Some(Waker::from(Arc::new(Count(AtomicUsize::new(0)))));
        key
    }

    #[test]
    fn fires_not_before_the_deadline_and_within_one_slot_after_it() {
        for after in [1, TICK_NS - 1, TICK_NS, TICK_NS + 1, 10 * TICK_NS, 1023 * TICK_NS, 5000 * TICK_NS + 7] {
            for start in [1, 5 * TICK_NS, 1_000_000 * TICK_NS + 12_345] {
                let mut wheel = Wheel::new();
                let deadline = start + after;
                armed(&mut wheel, deadline, start);
                let mut fired = None;
                while let Some(due) = wheel.due() {
                    if advance(&mut wheel, due) == 1 {
                        fired = Some(due);
                    }
                }
                let fired = fired.unwrap();
                assert!(fired >= deadline && fired < deadline + TICK_NS, "{fired} for {deadline}");
            }
        }
    }

    #[test]
    fn a_later_deadline_is_obeyed_without_relinking() {
        let mut wheel = Wheel::new();
        let key = armed(&mut wheel, 2 * TICK_NS, 1);
        wheel.arm(key, 20 * TICK_NS, 1);
        assert_eq!(wheel.due(), Some(2 * TICK_NS));
        assert_eq!(advance(&mut wheel, 2 * TICK_NS), 0);
        assert_eq!(wheel.due(), Some(20 * TICK_NS));
        assert_eq!(advance(&mut wheel, 20 * TICK_NS), 1);
    }

    #[test]
    fn an_earlier_deadline_moves_the_entry_forward() {
        let mut wheel = Wheel::new();
        let key = armed(&mut wheel, 500 * TICK_NS, 1);
        wheel.arm(key, 3 * TICK_NS, 1);
        assert_eq!(wheel.due(), Some(3 * TICK_NS));
        assert_eq!(advance(&mut wheel, 3 * TICK_NS), 1);
        assert_eq!(wheel.due(), None);
    }

    #[test]
    fn disarmed_and_removed_entries_never_fire_and_leave_the_wheel_empty() {
        let mut wheel = Wheel::new();
        let disarmed = armed(&mut wheel, 2 * TICK_NS, 1);
        let removed = armed(&mut wheel, 2 * TICK_NS, 1);
        wheel.disarm(disarmed);
        assert!(wheel.remove(removed).is_some());
        assert_eq!(advance(&mut wheel, 10 * TICK_NS), 0);
        assert_eq!(wheel.due(), None);
        assert!(!wheel.is_expired(disarmed, 10 * TICK_NS));
    }

    #[test]
    fn random_operations_never_fire_early_nor_miss_a_slot() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut wheel = Wheel::new();
        let mut model: std::collections::BTreeMap<u32, u64> = std::collections::BTreeMap::new();
        let mut keys = Vec::new();
        let mut now = 1;
        for _ in 0..20_000 {
            match random.u8(0..10) {
                0..3 => keys.push(wheel.insert()),
                3 if !keys.is_empty() => {
                    let key = keys.swap_remove(random.usize(..keys.len()));
                    wheel.remove(key);
                    model.remove(&key);
                }
                4 if !keys.is_empty() => {
                    let key = keys[random.usize(..keys.len())];
                    wheel.disarm(key);
                    model.remove(&key);
                }
                5..8 if !keys.is_empty() => {
                    let key = keys[random.usize(..keys.len())];
                    let deadline = now + random.u64(..2000 * TICK_NS);
                    wheel.arm(key, deadline, now);
                    wheel.waker(key).get_or_insert_with(|| Waker::noop().clone());
                    model.insert(key, deadline);
                }
                _ => {
                    now += random.u64(..300 * TICK_NS);
                    advance(&mut wheel, now);
                    for (key, deadline) in &model {
                        let fired = wheel.waker(*key).is_none();
                        let slot_over = now / TICK_NS >= deadline.div_ceil(TICK_NS);
                        assert!(fired || !slot_over, "seed {seed}: {deadline} missed at {now}");
                        assert!(!fired || *deadline <= now, "seed {seed}: {deadline} early at {now}");
                    }
                    model.retain(|key, _| wheel.waker(*key).is_some());
                }
            }
        }
    }
}
