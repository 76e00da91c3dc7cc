//! Receive windows that grow with what is uploaded. Most connections never upload more than a form, so all begin small;
//! a long upload earns more room, as long as the core's budget for such room lasts. The connection's window is the bound
//! on what can be waiting in memory for a slow server, whatever the number of streams.

use super::H2;
use super::mux::Mux;
use std::cell::Cell;

/// Of each stream in the beginning.
pub(super) const STREAM_BYTES: u32 = 64 * 1024;
/// Of all streams of a connection together, in the beginning.
pub(super) const CONNECTION_BYTES: u32 = 256 * 1024;

/// Uploaded bytes of one stream, and the window they earn. The last fills a path of 300 Mbit/s and 100 ms.
const STEPS: [(u64, u32); 3] = [(64 << 10, 256 << 10), (512 << 10, 1 << 20), (8 << 20, 4 << 20)];

/// Room all connections of a core may have earned.
const CORE_BYTES_MAX: u64 = 128 << 20;

thread_local! {
    static EARNED: Cell<u64> = const { Cell::new(0) };
}

/// The window that so large an upload earns.
pub(super) fn earned(uploaded: u64) -> u32 {
    STEPS.iter().rev().find(|(bytes, _)| uploaded >= *bytes).map_or(STREAM_BYTES, |(_, window)| *window)
}

/// What one connection has.
#[derive(Default)]
pub(super) struct Windows {
    /// Zero: as in the beginning.
    earned: u32,
}

impl Windows {
    /// Grants what the streams earned, and takes it back when none is left. Answers whether anything changed.
    pub(super) fn follow(&mut self, mux: &Mux, h2: &mut H2) -> bool {
        if !mux.is_busy() {
            mux.forget_uploads();
        }
        let wanted = mux.window_wanted();
        let wanted = if wanted > STREAM_BYTES { wanted } else { 0 };
        if wanted == self.earned {
            return false;
        }
        let spent = EARNED.get() - u64::from(self.earned);
        if wanted > self.earned && spent + u64::from(wanted) > CORE_BYTES_MAX {
            return false;
        }
        // Refused while the last change is not acknowledged: then the next look tries again.
        if h2.set_initial_window_size(wanted.max(STREAM_BYTES)).is_err() {
            return false;
        }
        h2.set_target_window_size(wanted.max(CONNECTION_BYTES));
        self.earned = wanted;
        EARNED.set(spent + u64::from(wanted));
        true
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let _ = EARNED.try_with(|earned| earned.set(earned.get().saturating_sub(u64::from(self.earned))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_the_upload_and_never_beyond_the_last_step() {
        assert_eq!(earned(0), STREAM_BYTES);
        assert_eq!(earned((64 << 10) - 1), STREAM_BYTES);
        for (bytes, window) in STEPS {
            assert_eq!(earned(bytes), window);
        }
        assert_eq!(earned(u64::MAX), 4 << 20);
    }
}
