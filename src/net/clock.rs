//! The core's one clock read a loop turn, and one hashed timer wheel for all its deadlines.
//!
//! The driver loop reads the clock once a turn (`refresh`) and withdraws the reading before it parks (`release`):
//! what runs while the loop sleeps reads the clock itself, never a stale value. The wheel is driven by one glommio
//! timer, which exists only while a deadline is armed and sleeps until the next slot in use.

mod wheel;

use glommio::timer::Timer as CoreTimer;
use nix::time::{ClockId, clock_gettime};
use pin_project_lite::pin_project;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use wheel::Wheel;

/// The core's time: nanoseconds of CLOCK_MONOTONIC, read once per loop turn by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

impl Now {
    /// Zero if `earlier` is later.
    pub fn since(self, earlier: Now) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub fn after(self, delay: Duration) -> Now {
        Now(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// This core's current time (thread local).
pub fn now() -> Now {
    CORE.with(Core::now)
}

/// Starts a loop turn: reads the clock for everybody.
pub(super) fn refresh() {
    CORE.with(|core| core.reading.set(read()));
}

/// Ends the last turn before sleep: from here on every reader reads for itself.
pub(super) fn release() {
    CORE.with(|core| core.reading.set(0));
}

/// One deadline, re-armed for about a nanosecond. Belongs to one connection task. Resolution 64 ms.
/// Arm it on a glommio executor only; later deadlines than 150 years count as never.
pub struct Timer {
    key: u32,
    /// The wheel is the thread's.
    _here: PhantomData<*const ()>,
}

/// The deadline passed before the future was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl Timer {
    /// A disarmed timer on this core's wheel.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Timer {
        Timer { key: CORE.with(|core| core.wheel.borrow_mut().insert()), _here: PhantomData }
    }

    /// Fires `after` from now; replaces an earlier deadline.
    pub fn arm(&self, after: Duration) {
        CORE.with(|core| core.arm(self.key, after));
    }

    pub fn disarm(&self) {
        CORE.with(|core| core.wheel.borrow_mut().disarm(self.key));
    }

    /// Runs `future` until it is ready or the armed deadline passes. Dropping `future` then must be safe for it.
    pub fn bound<F: Future>(&self, future: F) -> Bound<'_, F> {
        Bound { timer: self, future }
    }

    /// Ready once the armed deadline has passed; for hand-written poll functions.
    pub fn poll_elapsed(&self, cx: &mut Context<'_>) -> Poll<Elapsed> {
        CORE.with(|core| core.poll_elapsed(self.key, cx))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // At thread exit the wheel may be gone already; then there is nothing to leave.
        let waker = CORE.try_with(|core| core.wheel.borrow_mut().remove(self.key));
        drop(waker);
    }
}

pin_project! {
    /// See [`Timer::bound`]. Written out, because an async function would hold `future` twice.
    pub struct Bound<'a, F> {
        timer: &'a Timer,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Bound<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let bound = self.project();
        match bound.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => bound.timer.poll_elapsed(cx).map(Err),
        }
    }
}

thread_local! {
    static CORE: Core = Core {
        reading: Cell::new(0),
        wheel: RefCell::new(Wheel::new()),
        ticker: RefCell::new(Ticker { executor: None, due: 0, waker: None }),
    };
}

struct Core {
    /// The turn's clock reading; 0 while the driver loop sleeps or there is none.
    reading: Cell<u64>,
    wheel: RefCell<Wheel>,
    ticker: RefCell<Ticker>,
}

/// The task that turns the wheel.
struct Ticker {
    /// The executor it runs on; a thread may run several in its life.
    executor: Option<usize>,
    /// When it will look next.
    due: u64,
    waker: Option<Waker>,
}

impl Core {
    fn now(&self) -> Now {
        match self.reading.get() {
            0 => Now(read()),
            reading => Now(reading),
        }
    }

    fn arm(&self, key: u32, after: Duration) {
        let now = self.now();
        // Half the range is "never" and keeps every sum of the wheel far from overflow.
        let deadline = now.after(after).0.min(u64::MAX / 4);
        let due = {
            let mut wheel = self.wheel.borrow_mut();
            if !wheel.arm(key, deadline, now.0) {
                return;
            }
            wheel.due()
        };
        self.wake_ticker_before(due.unwrap_or(deadline));
    }

    fn poll_elapsed(&self, key: u32, cx: &Context<'_>) -> Poll<Elapsed> {
        let now = self.now().0;
        let mut wheel = self.wheel.borrow_mut();
        if wheel.is_expired(key, now) {
            return Poll::Ready(Elapsed);
        }
        let slot = wheel.waker(key);
        if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let old = slot.replace(cx.waker().clone());
        drop(wheel);
        drop(old);
        Poll::Pending
    }

    /// Makes sure that the ticker looks at `due`, spawning it if there is none.
    fn wake_ticker_before(&self, due: u64) {
        let mut ticker = self.ticker.borrow_mut();
        let executor = glommio::executor().id();
        if ticker.executor != Some(executor) {
            ticker.executor = Some(executor);
            ticker.due = due;
            ticker.waker = None;
            drop(ticker);
            glommio::spawn_local(turn_wheel()).detach();
        } else if due < ticker.due {
            ticker.due = due;
            let waker = ticker.waker.take();
            drop(ticker);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// One look of the ticker: wakes what is due. Answers when to look again, none once the wheel is empty.
    fn tick(&self, due: &mut Vec<Waker>) -> Option<Duration> {
        if self.reading.get() != 0 {
            self.reading.set(read());
        }
        let now = self.now().0;
        self.wheel.borrow_mut().advance(now, due);
        due.drain(..).for_each(Waker::wake);
        let next = self.wheel.borrow().due();
        let mut ticker = self.ticker.borrow_mut();
        match next {
            Some(next) => ticker.due = next,
            None => ticker.executor = None,
        }
        next.map(|next| Duration::from_nanos(next.saturating_sub(now)))
    }

    /// Waits for the planned time, or until an earlier deadline came in.
    fn poll_ticker(&self, timer: &mut CoreTimer, planned: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut ticker = self.ticker.borrow_mut();
        if ticker.due < planned {
            return Poll::Ready(());
        }
        ticker.waker = Some(cx.waker().clone());
        drop(ticker);
        Pin::new(timer).poll(cx).map(|_| ())
    }
}

/// Waits for `period`; for the steady beat of an executor, which must not stop whatever else does.
///
/// glommio 0.9.0 goes to sleep with tasks in line when its preempt timer fires before the first of them ran (the thread
/// lost its CPU in between), and then only a timer or another thread wakes it. The beat itself may be among those tasks,
/// so later timers stand behind it: each bounds one such sleep.
pub async fn tick(period: Duration) {
    let mut beat = CoreTimer::new(period);
    let mut behind = BACKSTOPS_MS.map(|ms| CoreTimer::new(period + Duration::from_millis(ms)));
    poll_fn(|cx| {
        for timer in &mut behind {
            let _ = Pin::new(timer).poll(cx);
        }
        Pin::new(&mut beat).poll(cx).map(|_| ())
    })
    .await;
}

/// Far enough apart that one pause of the machine does not use up several.
const BACKSTOPS_MS: [u64; 7] = [20, 50, 100, 200, 400, 800, 1600];

async fn turn_wheel() {
    let mut due = Vec::new();
    while let Some(wait) = CORE.with(|core| core.tick(&mut due)) {
        let planned = CORE.with(|core| core.ticker.borrow().due);
        let mut timer = CoreTimer::new(wait);
        poll_fn(|cx| CORE.with(|core| core.poll_ticker(&mut timer, planned, cx))).await;
    }
}

/// Nanoseconds of CLOCK_MONOTONIC, never 0. The clock exists on every Linux, so the call cannot fail.
fn read() -> u64 {
    match clock_gettime(ClockId::CLOCK_MONOTONIC) {
        Ok(time) => (time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64).max(1),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests;
