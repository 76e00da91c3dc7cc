//! The process, not the traffic: privileged parent, worker supervision, VRRP bridge, admin socket.
//!
//! Reading order: [`supervisor`] (the main thread's loop), [`worker`] (the one worker process and its restarts),
//! [`spawn`] and [`entry`] (both sides of starting it), [`privileges`] and [`confine`] (what is needed, what is given
//! up), [`listeners`], [`ha`] (the VRRP speaker), [`handover`] (a planned one, as a value), [`succession`] (what becomes
//! of connections: [`forward`], [`tickle`]), [`admin`] and [`status`]. [`doctor`] is of another process.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod confine;
pub mod doctor;
pub mod entry;
pub mod forward;
pub mod ha;
pub mod handover;
#[cfg(test)]
mod lan;
pub mod listeners;
pub mod notify;
pub mod privileges;
pub mod pulse;
pub mod signals;
pub mod spawn;
pub mod status;
pub mod succession;
pub mod supervisor;
pub mod tickle;
pub mod view;
pub mod worker;
