//! Entry of the worker process.

use std::os::fd::OwnedFd;

/// Runs the worker until the parent tells it to stop or dies. `channel` is the seqpacket socket to the parent.
/// The process was already stripped of privileges.
pub fn main(channel: OwnedFd) -> Result<(), Box<dyn std::error::Error>> {
    drop(channel);
    Ok(())
}
