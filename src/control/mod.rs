//! The process, not the traffic: privileged parent, worker supervision, VRRP bridge, admin socket.

pub mod forward;
