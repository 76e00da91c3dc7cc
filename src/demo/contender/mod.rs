//! What runs on the two nodes: Lyre, or for comparison what people run today.

pub mod keepalived;
pub mod lyre;
mod process;

use crate::demo::error::DemoError;

/// A pair under test. Nodes are counted 0 and 1.
///
/// Every hook returns when the thing has been done to the node, not when the pair has coped with it.
pub trait Contender {
    fn name(&self) -> &str;

    /// Starts everything on a node that has nothing running.
    fn start(&mut self, node: usize) -> Result<(), DemoError>;

    /// Kills everything on the node at once, without a goodbye.
    fn kill(&mut self, node: usize) -> Result<(), DemoError>;

    /// Kills what serves HTTP.
    fn kill_proxy(&mut self, node: usize) -> Result<(), DemoError>;

    /// Stops what serves HTTP without ending it.
    fn freeze_proxy(&mut self, node: usize) -> Result<(), DemoError>;

    /// Moves the address away from the node, as its operator would before maintenance.
    fn hand_over(&mut self, node: usize) -> Result<(), DemoError>;

    /// Repairs what the hooks above did: afterwards the node takes part again.
    fn repair(&mut self, node: usize) -> Result<(), DemoError>;

    /// Whether the node says of itself that it takes part: processes up, router Active or Backup. An error means that it
    /// never will, because its process has ended.
    fn is_ready(&mut self, node: usize) -> Result<bool, DemoError>;

    /// Last words of the node, for people who must find out why a condition did not come about.
    fn log_tail(&self, node: usize) -> String;
}
