//! The worker process: one core's composition of `net`, `proto` and `policy`. State is `Rc`, not `Arc`.

pub mod channel;
pub mod page;
pub mod parent;
pub mod reply;
pub mod worker;
