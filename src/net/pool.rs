//! The core's reusable memory: 64 KiB body buffers and growable vectors for heads and TLS records. Thread local, last
//! in first out, bounded: a steady state allocates nothing and the warm buffer is the next one out.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Bytes of a body buffer: the knee between cache misses and system calls.
pub const BODY_BYTES: usize = 64 * 1024;

/// A body buffer is a little longer, so that 64 KiB of plaintext fit in it encrypted.
const SLACK_BYTES: usize = 512;

/// Body buffers kept idle per core; more are freed on return.
const BODY_IDLE_MAX: usize = 64;

/// Vectors kept idle per core.
const VECTOR_IDLE_MAX: usize = 256;

/// A vector grown beyond this goes back to the allocator. A batch of full TLS records for 64 KiB fits.
const VECTOR_BYTES_MAX: usize = 72 * 1024;

/// New vectors begin here: most heads fit.
const VECTOR_BYTES: usize = 2 * 1024;

thread_local! {
    static BODIES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static VECTORS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// 64 KiB of the core's pool; returns on drop. Contents are left-overs.
pub struct BodyBuffer(Box<[u8]>);

/// A body buffer: take it when bytes are there, drop it before waiting.
pub fn body() -> BodyBuffer {
    let idle = BODIES.with_borrow_mut(Vec::pop);
    BodyBuffer(idle.unwrap_or_else(|| vec![0; BODY_BYTES + SLACK_BYTES].into_boxed_slice()))
}

/// An empty vector with some capacity. Give it back with [`recycle`].
pub fn vector() -> Vec<u8> {
    VECTORS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(VECTOR_BYTES))
}

/// Takes a vector into the pool; its contents are forgotten.
pub fn recycle(mut vector: Vec<u8>) {
    if vector.capacity() == 0 || vector.capacity() > VECTOR_BYTES_MAX {
        return;
    }
    vector.clear();
    // At thread exit the pool may be gone; then the vector is simply freed.
    let _ = VECTORS.try_with(|idle| {
        let mut idle = idle.borrow_mut();
        if idle.len() < VECTOR_IDLE_MAX {
            idle.push(vector);
        }
    });
}

impl BodyBuffer {
    /// All of it, a little more than 64 KiB.
    pub(super) fn with_slack(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Deref for BodyBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.get(..BODY_BYTES).unwrap_or(&[])
    }
}

impl DerefMut for BodyBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.get_mut(..BODY_BYTES).unwrap_or(&mut [])
    }
}

impl Drop for BodyBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        let _ = BODIES.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < BODY_IDLE_MAX {
                idle.push(buffer);
            }
        });
    }
}

/// A filled vector of the pool, read from the front; returns on drop.
#[derive(Default)]
pub struct Pooled {
    bytes: Vec<u8>,
    start: usize,
}

impl Pooled {
    pub fn new(bytes: Vec<u8>) -> Pooled {
        Pooled { bytes, start: 0 }
    }

    /// Adds bytes at the end.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What is left, to be kept.
    pub fn into_vec(mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..self.start.min(bytes.len()));
        bytes
    }

    /// Drops the first `n` bytes; `n` larger than the rest leaves it empty.
    pub fn advance(&mut self, n: usize) {
        self.start = self.start.saturating_add(n).min(self.bytes.len());
    }
}

impl Deref for Pooled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or(&[])
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returned_memory_is_the_next_handed_out() {
        let mut first = body();
        first[0] = 42;
        drop(first);
        assert_eq!(body()[0], 42);

        recycle(Vec::with_capacity(12_345));
        assert_eq!(vector().capacity(), 12_345);
    }

    #[test]
    fn what_is_left_can_be_kept() {
        let mut pooled = Pooled::new(b"abcdef".to_vec());
        pooled.advance(2);
        assert_eq!(pooled.into_vec(), b"cdef");
    }

    #[test]
    fn giant_vectors_are_not_hoarded() {
        recycle(Vec::with_capacity(10 << 20));
        assert!(vector().capacity() <= VECTOR_BYTES_MAX);
    }

    #[test]
    fn advancing_past_the_end_leaves_nothing() {
        let mut bytes = Pooled::new(b"abc".to_vec());
        bytes.advance(1);
        assert_eq!(&*bytes, b"bc");
        bytes.advance(usize::MAX);
        assert!(bytes.is_empty());
    }
}
