//! Receive buffers. A [`Chunk`] is a filled one on its way through the core; dropping it brings the buffer home.

#![allow(unsafe_code)]

use super::arena::Arena;
use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

/// Bytes of one receive buffer: a whole request head in all but odd cases, and one TLS record.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers the heap pool keeps for reuse; more are freed.
const IDLE_MAX: usize = 256;

/// Received bytes in a pool buffer; empty means end of stream.
pub struct Chunk {
    storage: Storage,
    start: u32,
    end: u32,
}

enum Storage {
    /// End of stream.
    None,
    Heap(Box<[u8]>, Rc<HeapPool>),
    /// The arena knows where the bytes begin and end.
    Provided(u16, Rc<Arena>),
}

impl Chunk {
    pub(super) fn end_of_stream() -> Chunk {
        Chunk { storage: Storage::None, start: 0, end: 0 }
    }

    /// The first `filled` bytes of `buffer`, which goes back to `home`.
    pub(super) fn heap(buffer: Box<[u8]>, filled: usize, home: &Rc<HeapPool>) -> Chunk {
        let end = filled.min(buffer.len()) as u32;
        Chunk { storage: Storage::Heap(buffer, home.clone()), start: 0, end }
    }

    /// A buffer the kernel filled; the caller gives up its claim to `id`.
    pub(super) fn provided(id: u16, arena: &Rc<Arena>) -> Chunk {
        Chunk { storage: Storage::Provided(id, arena.clone()), start: 0, end: 0 }
    }

    /// The unread bytes, to be worked on in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let range = self.start as usize..self.end as usize;
        match &mut self.storage {
            Storage::None => &mut [],
            Storage::Heap(buffer, _) => buffer.get_mut(range).unwrap_or(&mut []),
            // SAFETY: a chunk is the only holder of its buffer, and it is borrowed mutably.
            Storage::Provided(id, arena) => unsafe { arena.bytes_mut(*id) },
        }
    }

    /// Drops the first `n` bytes; `n` larger than the rest leaves it empty.
    pub fn advance(&mut self, n: usize) {
        if let Storage::Provided(id, arena) = &self.storage {
            arena.advance(*id, n);
            return;
        }
        let rest = (self.end - self.start) as usize;
        self.start += n.min(rest) as u32;
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let range = self.start as usize..self.end as usize;
        match &self.storage {
            Storage::None => &[],
            Storage::Heap(buffer, _) => buffer.get(range).unwrap_or(&[]),
            Storage::Provided(id, arena) => arena.bytes(*id),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.storage, Storage::None) {
            Storage::None => {}
            Storage::Heap(buffer, home) => home.give(buffer),
            Storage::Provided(id, arena) => arena.give(id),
        }
    }
}

/// Buffers from the heap, last in first out so that the warm one is reused.
pub(super) struct HeapPool {
    idle: RefCell<Vec<Box<[u8]>>>,
    out: Cell<usize>,
}

impl HeapPool {
    pub(super) fn new() -> Rc<HeapPool> {
        Rc::new(HeapPool { idle: RefCell::new(Vec::new()), out: Cell::new(0) })
    }

    pub(super) fn take(&self) -> Box<[u8]> {
        self.out.set(self.out.get() + 1);
        self.idle.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    pub(super) fn give(&self, buffer: Box<[u8]>) {
        self.out.set(self.out.get() - 1);
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }

    /// Buffers not at home.
    pub(super) fn out(&self) -> usize {
        self.out.get()
    }
}
