//! VRRP for Lyre: RFC 9568 (version 3, IPv4 and IPv6) and RFC 3768 (version 2).
//!
//! Reading order: [`params`] (units and formulas), [`packet`] (bytes) and [`authentication`] (their HMAC trailer),
//! [`machine`] (the protocol, pure), [`group`] (machines that move together), [`announce`] (gratuitous ARP and
//! neighbour advertisements as bytes), [`alarm`] (what an operator should look at), [`link`] (what the machine needs
//! from an operating system), [`runner`] (the loop that joins them). Everything but [`link::linux`] and [`runner`] is free of sockets, clocks and logging.

pub mod alarm;
pub mod announce;
pub mod authentication;
pub mod error;
pub mod group;
pub mod link;
pub mod machine;
pub mod packet;
pub mod params;
pub mod runner;
