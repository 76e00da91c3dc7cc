//! A configuration as it travels from the privileged parent to the worker: the text and every file it names,
//! read by the parent, so that the worker opens nothing and both build the same `Settings`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    pub path: PathBuf,
    pub text: String,
    /// `--node`, or the node found by its addresses.
    pub node: Option<String>,
    /// Contents of secret, certificate and key files by path as typed.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Addresses of this host by interface, so that checks give the same answer in the worker.
    pub interfaces: Vec<Interface>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<ipnet::IpNet>,
}
