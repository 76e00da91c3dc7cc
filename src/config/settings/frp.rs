//! The server of ExApps' tunnels.

use super::Certificate;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub struct Frp {
    pub listen: SocketAddr,
    /// `None`: plain connections only.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: Certificate,
    /// PEM. Clients must have a certificate of one of these; without, the shared key is all that is asked for.
    pub client_ca: Option<Arc<[u8]>>,
}
