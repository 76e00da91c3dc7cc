//! Starting an executor so that it surely begins.
//!
//! glommio 0.9.0 goes to sleep with tasks in line when its preempt timer fires before the first of them ran, as it does when
//! the new thread loses its CPU for that long (see [`clock::tick`](crate::net::clock::tick)). Before its first task ran an
//! executor has no timer and nobody has a waker of it, so it would sleep for ever. Whoever does not begin in time is left
//! asleep, which costs a thread, and another is started in its place.

use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder};
use std::future::Future;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A new thread that has not begun by then sleeps, or the machine stands still; then one more does no harm.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// So many in a row do not fall asleep.
const ATTEMPTS_MAX: usize = 10;

/// Runs `work` on an executor of `builder`'s, whichever begins first. Answers once it has begun or could not be made.
pub(super) fn begin<F, W>(
    patience: Duration,
    builder: impl Fn() -> LocalExecutorBuilder,
    work: W,
) -> Result<ExecutorJoinHandle<()>, GlommioError<()>>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let work = Arc::new(Mutex::new(Some(work)));
    let mut started: Vec<(ExecutorJoinHandle<()>, Receiver<()>)> = Vec::new();
    while started.len() < ATTEMPTS_MAX {
        let (begun, has_begun) = mpsc::channel();
        let work = work.clone();
        let handle = builder().spawn(move || async move {
            let begun = begun;
            let Some(work) = take(&work, &begun) else { return };
            drop(begun);
            work().await;
        })?;
        match has_begun.recv_timeout(patience) {
            Ok(()) => return Ok(handle),
            // It could not be made, and says why; or another was faster.
            Err(RecvTimeoutError::Disconnected) => handle.join()?,
            Err(RecvTimeoutError::Timeout) => started.push((handle, has_begun)),
        }
        if let Some(first) = started.iter().position(|(_, has_begun)| has_begun.try_recv().is_ok()) {
            // The handles of the others are dropped, which leaves their threads alone.
            return Ok(started.swap_remove(first).0);
        }
        tracing::warn!("a thread fell asleep before it began, another is started");
    }
    Err(io::Error::from(io::ErrorKind::TimedOut).into())
}

/// The work, unless another has it. Who has it has said so before anybody finds it gone.
fn take<W>(work: &Mutex<Option<W>>, begun: &Sender<()>) -> Option<W> {
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = work.take()?;
    let _ = begun.send(());
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::Placement;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    /// Preempt timers so short that some fire before the first task, as happens on a machine under load now and then.
    #[test]
    fn an_executor_that_falls_asleep_before_its_first_task_is_replaced_and_its_work_done_once() {
        let (done, works) = mpsc::channel();
        for round in 0..10 {
            let (done, is_first) = (done.clone(), AtomicBool::new(true));
            let builder = move || {
                // The first is preempted at once, those after it as usual.
                let preempt =
                    if is_first.swap(false, SeqCst) { Duration::from_nanos(1) } else { Duration::from_secs(1) };
                LocalExecutorBuilder::new(Placement::Unbound).preempt_timer(preempt).ring_depth(16).io_memory(64 << 10)
            };
            let work = move || async move {
                let _ = done.send(round);
            };
            let _detached = begin(Duration::from_millis(50), builder, work).unwrap();
            assert_eq!(works.recv_timeout(Duration::from_secs(60)), Ok(round));
        }
    }

    #[test]
    fn an_executor_that_cannot_be_made_says_why() {
        let builder = || LocalExecutorBuilder::new(Placement::Fixed(usize::MAX));
        assert!(begin(PATIENCE, builder, || async {}).is_err());
    }
}
