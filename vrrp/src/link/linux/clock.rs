//! Clocks and waiting. The speaker lives on CLOCK_MONOTONIC; the wall clock serves only to read the age of packets.
#![allow(unsafe_code)]

use crate::authentication::Utc;
use crate::params::Time;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Now, on CLOCK_MONOTONIC.
pub fn now() -> Time {
    Time(read(ClockId::CLOCK_MONOTONIC))
}

/// For how long the machine has been suspended since it started: what CLOCK_MONOTONIC does not count. None if this
/// thread was interrupted between the readings of the clocks every time, so that their difference tells nothing.
pub fn suspended() -> Option<Duration> {
    const MEANWHILE_MAX: u64 = 1_000_000;
    (0..3).find_map(|_| {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let boot = read(ClockId::CLOCK_BOOTTIME);
        let meanwhile = read(ClockId::CLOCK_MONOTONIC).saturating_sub(before);
        (meanwhile <= MEANWHILE_MAX).then(|| Duration::from_nanos(boot.saturating_sub(before)))
    })
}

/// Nanoseconds since 1970 by the wall clock, for authentication only.
pub fn utc() -> Utc {
    Utc(read(ClockId::CLOCK_REALTIME))
}

/// When a packet arrived, from its CLOCK_REALTIME stamp.
///
/// The stamp's age is taken against the wall clock of this very moment. A wall clock that was stepped in between
/// makes that age wrong, so it is clamped: not after now, not before `queue_was_empty`, when the queue last had nothing.
pub(super) fn arrival(stamp_nanos: u64, queue_was_empty: Time) -> Time {
    let (wall, now) = (read(ClockId::CLOCK_REALTIME), now());
    let age = wall.saturating_sub(stamp_nanos);
    Time(now.0.saturating_sub(age)).clamp(queue_was_empty.min(now), now)
}

/// Sleeps until a descriptor is ready or the deadline has passed. Marks the ready ones in `revents`.
///
/// A signal ends the sleep early, like a timeout: the caller looks at the clock anyway.
pub fn wait(descriptors: &mut [libc::pollfd], deadline: Option<Time>) -> io::Result<()> {
    for entry in descriptors.iter_mut() {
        entry.revents = 0;
    }
    let timeout = deadline.map(|deadline| timespec(deadline.since(now())));
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: the slice is valid for its length during the call, `timeout` is null or points to a live timespec.
    let ready =
        unsafe { libc::ppoll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, timeout, std::ptr::null()) };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// An entry for [`wait`] that becomes ready with data, a hang-up or an error.
pub fn readable(descriptor: RawFd) -> libc::pollfd {
    libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 }
}

fn timespec(duration: Duration) -> libc::timespec {
    let seconds = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos() as libc::c_long }
}

fn read(clock: ClockId) -> u64 {
    // Both clocks exist on every Linux, so an error cannot happen; zero would only mean "the far past".
    clock_gettime(clock).map_or(0, |t| (t.tv_sec() as u64) * 1_000_000_000 + t.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_from_the_future_arrived_now() {
        let stamp = read(ClockId::CLOCK_REALTIME) + 3_600_000_000_000;
        let before = now();
        assert!(arrival(stamp, Time(0)) >= before);
    }

    #[test]
    fn a_stamp_from_before_a_clock_step_arrived_after_the_queue_was_empty() {
        let empty = now();
        assert_eq!(arrival(0, empty), empty);
    }

    #[test]
    fn the_age_of_a_stamp_is_kept() {
        let age = Duration::from_millis(250);
        let stamp = read(ClockId::CLOCK_REALTIME) - age.as_nanos() as u64;
        let arrived = arrival(stamp, Time(0));
        assert!(now().since(arrived) >= age && now().since(arrived) < age + Duration::from_secs(2));
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let deadline = now().plus(Duration::from_millis(20));
        wait(&mut [], Some(deadline)).unwrap();
        assert!(now() >= deadline);
    }
}
