//! The driver on an own io_uring: multishot accept and receive, sends as ring entries, one `io_uring_enter` a turn.
//!
//! Completion work runs only inside our own enter (DEFER_TASKRUN), never in between: what a multishot receive can take
//! in before its cancel is seen stays bounded.
//!
//! Ownership: whatever the kernel may touch (a vector being sent, an address being connected to) lives in the slab
//! entry of its socket until the final completion; tasks hold keys, never pointers. A closed socket's entry, and with
//! it the descriptor, goes away with its last completion. A dropped future leaves its operation behind: received
//! bytes queue at the socket, a send runs on until the socket closes.
#![allow(unsafe_code)]

mod listener;
mod socket;

pub(super) use listener::Listener;
pub(super) use socket::Socket;

use super::Usage;
use super::arena::{self, Arena};
use super::bell::Bell;
use super::buffers::HeapPool;
use super::park::Drowsiness;
use super::slab::{Key, Slab};
use crate::net::clock;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Submission entries; a turn that needs more submits in between.
const SUBMISSIONS: u32 = 1024;

/// Completion entries: eight times the submissions, for multishot operations complete unasked.
const COMPLETIONS: u32 = 8192;

/// Provided buffers of a core, 16 KiB each, touched only when used.
const BUFFERS: u16 = 1024;

/// Completions copied out of the ring at a time.
const BATCH: usize = 64;

/// Completions handled in one turn before tasks get to run.
const TURN_MAX: usize = 4096;

pub(super) struct Ring {
    uring: RefCell<IoUring>,
    /// Entries that found the submission queue full.
    backlog: RefCell<VecDeque<squeue::Entry>>,
    sockets: RefCell<Slab<socket::State>>,
    listeners: RefCell<Slab<listener::State>>,
    arena: Rc<Arena>,
    pool: Rc<HeapPool>,
    bell: Arc<Bell>,
    /// Operations whose final completion is still to come.
    operations: Cell<usize>,
    starved: Cell<u64>,
}

/// The kind of an operation. A socket has at most one of each in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    Receive = 1 << 0,
    Send = 1 << 1,
    AwaitReadable = 1 << 2,
    AwaitWritable = 1 << 3,
    Connect = 1 << 4,
    Accept = 1 << 5,
    /// Cancels others; not counted.
    Cancel = 1 << 6,
    CancelAccept = 1 << 7,
    /// Of no socket, and not counted: it waits as long as the ring lives.
    AwaitBell = 0,
}

/// One completion queue entry.
#[derive(Clone, Copy)]
struct Completion {
    word: u64,
    result: i32,
    flags: u32,
}

impl Completion {
    fn is_final(&self) -> bool {
        !io_uring::cqueue::more(self.flags)
    }

    /// The byte count, or the errno.
    fn outcome(&self) -> Result<usize, i32> {
        usize::try_from(self.result).map_err(|_| -self.result)
    }
}

impl Ring {
    pub(super) fn start(buffers: Option<u16>) -> io::Result<Rc<Ring>> {
        let uring = set_up()?;
        let arena = Rc::new(Arena::new(buffers.unwrap_or(BUFFERS))?);
        let (address, entries) = arena.offers();
        // SAFETY: the arena's mapping is page aligned, holds `entries` entries and outlives the ring: both are
        // owned by `Ring`, whose drop closes the ring first or leaks the arena.
        unsafe { uring.submitter().register_buf_ring_with_flags(address, entries, arena::GROUP, 0) }
            .map_err(|error| explain("provided buffer rings", error))?;
        arena.offer_all();
        let ring = Rc::new(Ring {
            uring: RefCell::new(uring),
            backlog: RefCell::new(VecDeque::new()),
            sockets: RefCell::new(Slab::new()),
            listeners: RefCell::new(Slab::new()),
            arena,
            pool: HeapPool::new(),
            bell: Bell::hang()?,
            operations: Cell::new(0),
            starved: Cell::new(0),
        });
        ring.listen_for_the_bell();
        glommio::spawn_local(run(ring.clone())).detach();
        Ok(ring)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            sockets: self.sockets.borrow().len() + self.listeners.borrow().len(),
            buffers_out: self.arena.out() + self.pool.out(),
            operations: self.operations.get(),
            starved: self.starved.get(),
        }
    }

    /// Queues one operation of `key` for the next turn.
    ///
    /// Memory that `entry` points to must stay valid until its final completion: callers put it in the slab first.
    fn submit(&self, key: Key, op: Op, entry: squeue::Entry) {
        self.operations.set(self.operations.get() + 1);
        self.push(entry.user_data(word_of(key, op)));
    }

    /// Asks the kernel to end what matches. Always answered, success or not; not counted as an operation.
    fn cancel(&self, key: Key, op: Op, which: CancelBuilder) {
        self.push(opcode::AsyncCancel2::new(which).build().user_data(word_of(key, op)));
    }

    /// Multishot: each ring of the bell is a completion.
    fn listen_for_the_bell(&self) {
        let entry = opcode::PollAdd::new(fd_of(&self.bell.fd()), libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(word_of(Key { index: 0, generation: 0 }, Op::AwaitBell)));
    }

    fn push(&self, entry: squeue::Entry) {
        let mut backlog = self.backlog.borrow_mut();
        let mut uring = self.uring.borrow_mut();
        // SAFETY: see `submit`: the memory belongs to the slab until the final completion.
        if !backlog.is_empty() || unsafe { uring.submission().push(&entry) }.is_err() {
            backlog.push_back(entry);
        }
    }

    /// Submits what is queued and handles what is complete. Answers whether anything happened.
    fn turn(&self) -> bool {
        self.enter();
        self.handle()
    }

    fn handle(&self) -> bool {
        let mut handled = 0;
        let mut batch = [Completion { word: 0, result: 0, flags: 0 }; BATCH];
        while handled < TURN_MAX {
            let count = self.reap(&mut batch);
            for completion in batch.iter().take(count) {
                self.complete(*completion);
            }
            handled += count;
            if count < BATCH {
                break;
            }
        }
        handled > 0 || !self.backlog.borrow().is_empty() || !self.uring.borrow_mut().submission().is_empty()
    }

    fn enter(&self) {
        let mut uring = self.uring.borrow_mut();
        loop {
            let submissions = uring.submission();
            if submissions.is_empty() && !submissions.taskrun() && !submissions.cq_overflow() {
                return;
            }
            drop(submissions);
            if let Err(error) = uring.submit() {
                // EBUSY and EAGAIN: completions must be taken, or memory freed, first. The entries stay queued.
                let is_expected = matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR));
                if !is_expected {
                    tracing::error!(%error, "io_uring_enter failed");
                }
                return;
            }
            let mut backlog = self.backlog.borrow_mut();
            if backlog.is_empty() {
                return;
            }
            let mut submissions = uring.submission();
            while let Some(entry) = backlog.pop_front() {
                // SAFETY: as in `push`.
                if unsafe { submissions.push(&entry) }.is_err() {
                    backlog.push_front(entry);
                    break;
                }
            }
        }
    }

    /// Copies completions out, so that handling them may queue new entries.
    fn reap(&self, batch: &mut [Completion; BATCH]) -> usize {
        let mut uring = self.uring.borrow_mut();
        let mut count = 0;
        for (slot, entry) in batch.iter_mut().zip(&mut uring.completion()) {
            *slot = Completion { word: entry.user_data(), result: entry.result(), flags: entry.flags() };
            count += 1;
        }
        count
    }

    /// Waits in the kernel for a completion, at most this long.
    fn wait(&self, at_most: Duration) {
        let uring = self.uring.borrow();
        let time = Timespec::from(at_most);
        // ETIME: nothing came. EINTR and the like: the loop looks for itself.
        let _ = uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time));
    }

    fn complete(&self, completion: Completion) {
        let Some((key, op)) = op_of(completion.word) else { return };
        if !matches!(op, Op::Cancel | Op::CancelAccept | Op::AwaitBell) && completion.is_final() {
            self.operations.set(self.operations.get().saturating_sub(1));
        }
        match op {
            Op::Accept => self.accepted(key, completion),
            Op::CancelAccept => self.accept_cancelled(key),
            Op::Receive => self.received(key, completion),
            Op::Send => self.sent(key, completion),
            Op::AwaitReadable => self.became_readable(key),
            Op::AwaitWritable => self.became_writable(key),
            Op::Connect => self.connected(key, completion),
            Op::Cancel => self.cancelled(key, completion),
            Op::AwaitBell => {
                if completion.is_final() {
                    self.listen_for_the_bell();
                }
                self.bell.answer();
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.operations.get() > 0 {
            // The kernel winds operations down after the ring is closed: their memory must never be reused.
            std::mem::forget(self.arena.clone());
            std::mem::forget(self.sockets.replace(Slab::new()));
        }
    }
}

/// The loop: lives as long as its executor.
async fn run(ring: Rc<Ring>) {
    let mut drowsy = Drowsiness::default();
    loop {
        clock::refresh();
        if ring.turn() || super::is_awake() {
            drowsy = Drowsiness::default();
        } else if let Some(nap) = drowsy.nap() {
            clock::release();
            ring.wait(nap);
            clock::refresh();
            // At once: to enter again would let a multishot receive take in more before it can be cancelled.
            if ring.handle() {
                drowsy = Drowsiness::default();
            }
        }
        glommio::executor().yield_now().await;
    }
}

fn set_up() -> io::Result<IoUring> {
    let uring = IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_single_issuer()
        .setup_submit_all()
        .dontfork()
        .build(SUBMISSIONS)
        .map_err(|error| explain("io_uring", error))?;
    if !uring.params().is_feature_nodrop() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel's io_uring may drop completions"));
    }
    Ok(uring)
}

fn explain(what: &str, error: io::Error) -> io::Error {
    let reason = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "forbidden by a seccomp profile or kernel.io_uring_disabled",
        Some(libc::ENOSYS) => "not built into this kernel, or hidden by a seccomp profile",
        Some(libc::EINVAL) => "kernel too old, 6.0 is needed",
        Some(libc::ENOMEM) => "locked-memory limit (RLIMIT_MEMLOCK) too low",
        _ => return io::Error::new(error.kind(), format!("{what}: {error}")),
    };
    io::Error::new(io::ErrorKind::Unsupported, format!("{what}: {reason} ({error})"))
}

/// user_data: slab index, generation, operation.
fn word_of(key: Key, op: Op) -> u64 {
    u64::from(key.index) | u64::from(key.generation) << 32 | u64::from(op as u8) << 56
}

fn op_of(word: u64) -> Option<(Key, Op)> {
    const OPS: [Op; 9] = [
        Op::Receive,
        Op::Send,
        Op::AwaitReadable,
        Op::AwaitWritable,
        Op::Connect,
        Op::Accept,
        Op::Cancel,
        Op::CancelAccept,
        Op::AwaitBell,
    ];
    let bits = (word >> 56) as u8;
    let op = OPS.into_iter().find(|op| *op as u8 == bits)?;
    Some((Key { index: word as u32, generation: (word >> 32) as u32 & 0x00ff_ffff }, op))
}

fn fd_of(fd: &impl AsRawFd) -> Fd {
    Fd(fd.as_raw_fd() as RawFd)
}

/// Puts the context's waker in `slot` unless it is there; the old one is the caller's to drop outside any borrow.
fn exchange(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    slot.replace(cx.waker().clone())
}
