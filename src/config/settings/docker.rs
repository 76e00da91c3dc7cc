//! The container engine that AppAPI makes ExApps with.

use super::Secret;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docker {
    /// Its Unix socket.
    pub socket: Arc<Path>,
    /// Directories of this host that ExApps may have, with all that is below them.
    pub mounts: Vec<String>,
    /// ExApps may have graphics cards.
    pub devices: bool,
    /// ExApps may have this host's own network.
    pub host_network: bool,
    /// What a container gets to open its tunnel with.
    pub frp_client: Option<FrpClient>,
}

/// PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrpClient {
    pub ca: Secret,
    pub certificate: Secret,
    pub key: Secret,
}
