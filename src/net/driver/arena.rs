//! The provided buffers of one ring: memory the kernel fills on its own account.
//!
//! A buffer is in exactly one of three places: offered to the kernel, queued at a socket, or inside a `Chunk`.
//! Buffers queue at a socket as a list threaded through this table, so that an idle socket owns three words.
//! Memory is touched only as buffers are used.
#![allow(unsafe_code)]

use super::buffers::BUFFER_BYTES;
use io_uring::types::BufRingEntry;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// Buffers begin this far apart: the odd cache lines keep the heads of all requests from sharing a few cache sets.
const STRIDE: usize = BUFFER_BYTES + 5 * 64;

pub(super) struct Arena {
    memory: Mapping,
    /// The ring of offers: entries the kernel takes from the head, we append at the tail.
    offers: Mapping,
    count: u16,
    tail: Cell<u16>,
    home: Cell<u16>,
    filled: Vec<Filled>,
}

/// What a buffer holds while it is out.
#[derive(Default)]
struct Filled {
    start: Cell<u32>,
    end: Cell<u32>,
    /// The next buffer of the same socket.
    next: Cell<u16>,
}

/// Buffers of one socket in order of arrival.
#[derive(Default, Clone, Copy)]
pub(super) struct Queue {
    first: u16,
    last: u16,
    length: u16,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        usize::from(self.length)
    }
}

impl Arena {
    /// `count` buffers, a power of two up to 32768, none offered yet.
    pub(super) fn new(count: u16) -> io::Result<Arena> {
        debug_assert!(count.is_power_of_two());
        Ok(Arena {
            memory: Mapping::new(usize::from(count) * STRIDE)?,
            offers: Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?,
            count,
            tail: Cell::new(0),
            home: Cell::new(0),
            filled: (0..count).map(|_| Filled::default()).collect(),
        })
    }

    /// Address and entries of the ring of offers, page aligned, for registration.
    pub(super) fn offers(&self) -> (u64, u16) {
        (self.offers.start.as_ptr() as u64, self.count)
    }

    pub(super) fn offer_all(&self) {
        (0..self.count).for_each(|id| self.give(id));
    }

    /// Offers a buffer to the kernel again. The caller must be its only holder.
    pub(super) fn give(&self, id: u16) {
        let tail = self.tail.get();
        let entries = self.offers.start.as_ptr().cast::<BufRingEntry>();
        let entry = entries.wrapping_add(usize::from(tail & (self.count - 1)));
        // SAFETY: the index is masked into the mapping, which lives as long as `self`. Entries between tail and
        // tail + count are ours to write: the kernel reads only below the published tail, and at most `count`
        // buffers exist.
        unsafe {
            (*entry).set_addr(self.address(id) as u64);
            (*entry).set_len(BUFFER_BYTES as u32);
            (*entry).set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail word lies inside the first entry, is aligned, and is shared with the kernel, which loads
        // it with acquire.
        unsafe {
            let word = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(word).store(tail.wrapping_add(1), Ordering::Release);
        }
        self.home.set(self.home.get() + 1);
    }

    /// The kernel says that it filled `length` bytes of buffer `id`.
    pub(super) fn note_filled(&self, id: u16, length: usize) {
        self.home.set(self.home.get().saturating_sub(1));
        if let Some(filled) = self.filled.get(usize::from(id)) {
            filled.start.set(0);
            filled.end.set(length.min(BUFFER_BYTES) as u32);
        }
    }

    /// Buffers not offered to the kernel.
    pub(super) fn out(&self) -> usize {
        usize::from(self.count) - usize::from(self.home.get())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.home.get() == 0
    }

    /// The unread bytes of a buffer that is out. The caller holds the buffer for as long as the slice.
    pub(super) fn bytes(&self, id: u16) -> &[u8] {
        let Some(filled) = self.filled.get(usize::from(id)) else { return &[] };
        let (start, end) = (filled.start.get(), filled.end.get());
        // SAFETY: start <= end <= BUFFER_BYTES, inside the mapping. The kernel wrote these bytes before it posted
        // the completion and does not touch the buffer until it is given back, which its holder does by giving up
        // the id; no other code writes to the memory.
        unsafe { std::slice::from_raw_parts(self.address(id).wrapping_add(start as usize), (end - start) as usize) }
    }

    /// Like [`Arena::bytes`], to be worked on in place.
    ///
    /// # Safety
    ///
    /// The caller must be the only holder of the buffer and must not look at it otherwise while the slice lives.
    #[allow(clippy::mut_from_ref)] // the arena is a table of buffers: exclusive is the buffer, not the table
    pub(super) unsafe fn bytes_mut(&self, id: u16) -> &mut [u8] {
        let Some(filled) = self.filled.get(usize::from(id)) else { return &mut [] };
        let (start, end) = (filled.start.get(), filled.end.get());
        // SAFETY: as in `bytes`; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address(id).wrapping_add(start as usize), (end - start) as usize) }
    }

    /// Drops the first `n` unread bytes; `n` larger than the rest leaves none.
    pub(super) fn advance(&self, id: u16, n: usize) {
        if let Some(filled) = self.filled.get(usize::from(id)) {
            let rest = filled.end.get() - filled.start.get();
            filled.start.set(filled.start.get() + (n.min(rest as usize) as u32));
        }
    }

    pub(super) fn push(&self, queue: &mut Queue, id: u16) {
        if queue.length == 0 {
            queue.first = id;
        } else if let Some(last) = self.filled.get(usize::from(queue.last)) {
            last.next.set(id);
        }
        queue.last = id;
        queue.length += 1;
    }

    pub(super) fn peek(&self, queue: &Queue) -> Option<u16> {
        (queue.length > 0).then_some(queue.first)
    }

    pub(super) fn pop(&self, queue: &mut Queue) -> Option<u16> {
        let id = self.peek(queue)?;
        queue.length -= 1;
        queue.first = self.filled.get(usize::from(id))?.next.get();
        Some(id)
    }

    fn address(&self, id: u16) -> *mut u8 {
        self.memory.start.as_ptr().cast::<u8>().wrapping_add(usize::from(id) * STRIDE)
    }
}

/// Anonymous, zeroed, page-aligned memory.
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    fn new(length: usize) -> io::Result<Mapping> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh private mapping at an address of the kernel's choice disturbs nobody.
        let start = unsafe { mmap_anonymous(None, size, access, MapFlags::MAP_PRIVATE)? };
        Ok(Mapping { start, length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; every user of the memory borrows or outlives nothing of it.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_queue_in_order_and_return_home() {
        let arena = Arena::new(4).unwrap();
        arena.offer_all();
        assert_eq!(arena.out(), 0);
        let mut queue = Queue::default();
        for (id, length) in [(2, 10), (0, 20), (3, 30)] {
            arena.note_filled(id, length);
            arena.push(&mut queue, id);
        }
        assert_eq!((queue.len(), arena.out()), (3, 3));
        for (id, length) in [(2, 10), (0, 20), (3, 30)] {
            assert_eq!(arena.pop(&mut queue), Some(id));
            assert_eq!(arena.bytes(id).len(), length);
            arena.advance(id, 7);
            assert_eq!(arena.bytes(id).len(), length - 7);
            arena.give(id);
        }
        assert_eq!(arena.pop(&mut queue), None);
        assert_eq!(arena.out(), 0);
    }
}
