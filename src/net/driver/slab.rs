//! Slots addressed by index and generation, so that a late completion of a closed socket meets nobody.

use crate::net::shelves::Shelves;

pub(super) struct Slab<T> {
    slots: Shelves<Slot<T>>,
    free: Vec<u32>,
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) index: u32,
    /// Below [`GENERATIONS`].
    pub(super) generation: u32,
}

/// Generations wrap here: 24 bits, which leaves a byte of a 64-bit word for the kind of an operation.
const GENERATIONS: u32 = 1 << 24;

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { slots: Shelves::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        let index = self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { index: index as u32, generation: 0 }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(key.index);
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
