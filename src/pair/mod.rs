//! The link between the nodes of a pair: who has which client connection, and the words of a planned hand-over.
//!
//! It never decides who is Active (VRRP does). Without it the nodes are two plain VRRP routers; with it a client
//! whose node died learns so at once (`control::tickle`), and a planned hand-over cuts nothing (`control::forward`).
//!
//! Reading order: [`wire`] (frames, pure), [`connections`] (ours, as the cores report them), [`table`] (the peer's,
//! in memory shared with the parent), [`bulletin`] (what else is to be told: writers, bans), [`identity`] (mutual TLS from the cluster secret), [`link`] (two threads in
//! the unprivileged worker; blocking sockets, because ten frames a second do not need a ring).

pub mod bulletin;
pub mod connections;
pub mod identity;
pub mod link;
pub mod table;
pub mod wire;
