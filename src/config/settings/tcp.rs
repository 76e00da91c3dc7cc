//! What `[[tcp]]` amounts to.

use super::{Secret, Server};
use ipnet::IpNet;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A TCP service: connections passed on as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Unique, also among pools.
    pub name: String,
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    /// Never empty.
    pub servers: Vec<Server>,
    pub mode: Mode,
    pub check: Check,
    /// Until a server was found and answered.
    pub connect_timeout: Duration,
    /// Both directions silent; `None`: as long as both ends live.
    pub idle_timeout: Option<Duration>,
    /// Tell the server who the client is.
    pub proxy_protocol: Option<ProxyVersion>,
    /// Over all cores.
    pub max_connections_per_server: u32,
    /// Who may connect; empty: everybody.
    pub allow: Vec<IpNet>,
}

/// Where connections go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    LeastConnections,
    Source,
    First,
    /// All to one server until it is lost, and then all to another.
    SingleWriter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub kind: CheckKind,
    pub interval: Duration,
    pub timeout: Duration,
    pub rise: u32,
    pub fall: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// A completed TCP handshake.
    Connect,
    /// Logged in, asking for the state of the cluster.
    Galera { user: String, password: Secret, tls: Option<CheckTls> },
}

/// How a check makes sure whom it talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckTls {
    /// PEM of who may have issued the server's certificate; `None`: it is not checked.
    pub roots: Option<Arc<[u8]>>,
    /// In the certificate; `None`: the server's own address or name.
    pub name: Option<ServerName<'static>>,
}
