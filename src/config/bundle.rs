//! A configuration as it travels from the privileged parent to the worker: the text and everything outside the text
//! that the settings depend on, read by the parent, so that the worker opens nothing and both build the same
//! `Settings`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Bundle {
    pub path: PathBuf,
    pub text: String,
    /// `--node`, or the node found by its addresses.
    pub node: Option<String>,
    /// Contents of secret, certificate and key files by path as typed. Passwords and keys of adverts are not among
    /// them: only the parent speaks VRRP.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Values of the environment variables that the text names (`secret_env`).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Addresses of this host by interface, so that checks give the same answer in the worker.
    pub interfaces: Vec<Interface>,
    /// CPUs the parent may use: the default of `worker.cores`. 0 counts as 1.
    #[serde(default)]
    pub cpus: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<ipnet::IpNet>,
}
