//! The process, not the traffic: privileged parent, worker supervision, VRRP bridge, admin socket.
//!
//! Reading order: [`supervisor`] (the main thread's loop), [`worker`] (the one worker process and its restarts),
//! [`spawn`] and [`entry`] (both sides of starting it), [`stall`] (why a core stands still), [`privileges`] and
//! [`confine`] (what is needed, what is given up), [`listeners`], [`ha`] and [`routers`] (the VRRP speaker and what it
//! runs), [`handover`] (a planned one, as a value), [`succession`] (what becomes
//! of connections: [`forward`], [`tickle`]), [`track`] (what the addresses depend on), [`hooks`] and
//! [`events`] (who is told), [`admin`] and [`status`]. [`doctor`] and [`frp_files`] are of another process.

pub mod admin;
pub mod backoff;
pub mod certificates;
pub mod clock;
pub mod confine;
pub mod doctor;
pub mod entry;
pub mod events;
pub mod forward;
pub mod frp_files;
pub mod ha;
pub mod handover;
pub mod hooks;
#[cfg(test)]
mod lan;
pub mod listeners;
pub mod notify;
pub mod privileges;
pub mod pulse;
pub mod routers;
pub mod script;
pub mod signals;
pub mod spawn;
pub mod stall;
pub mod status;
pub mod succession;
pub mod supervisor;
pub mod tickle;
pub mod track;
pub mod view;
pub mod worker;
