//! What is in each message, in the order in which it is written.

use super::json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Names and values a user may attach to a login or a proxy. The shared key is one of them.
pub type Metas = BTreeMap<String, Hidden>;

/// What is, or may be, a secret: never printed, zeroed when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

/// The first message of a control connection.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arch: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Over the token and `timestamp` ([`crate::proto::frp::cipher::privilege_key`]).
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub privilege_key: Hidden,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
    /// Empty for the first login of a client's life; later what the last answer said. A bearer secret.
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub run_id: Hidden,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_id: String,
    #[serde(skip_serializing_if = "Metas::is_empty", deserialize_with = "json::metas")]
    pub metas: Metas,
    /// Always written, never believed: it is how the reference server's own gateways skip authentication.
    #[serde(skip_deserializing)]
    pub client_spec: Nothing,
    #[serde(skip_serializing_if = "is_zero")]
    pub pool_count: i64,
}

/// `{}`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Nothing {}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoginResp {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub run_id: Hidden,
    /// Not empty: refused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewProxy {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
    /// Empty means tcp.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_type: String,
    #[serde(skip_serializing_if = "is_false")]
    pub use_encryption: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub use_compression: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bandwidth_limit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bandwidth_limit_mode: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub group_key: Hidden,
    #[serde(skip_serializing_if = "Metas::is_empty", deserialize_with = "json::metas")]
    pub metas: Metas,
    #[serde(skip_serializing_if = "Metas::is_empty", deserialize_with = "json::metas")]
    pub annotations: Metas,
    #[serde(skip_serializing_if = "is_zero")]
    pub remote_port: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewProxyResp {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloseProxy {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewWorkConn {
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub run_id: Hidden,
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub privilege_key: Hidden,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartWorkConn {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src_addr: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_addr: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub src_port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    pub dst_port: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ping {
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub privilege_key: Hidden,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pong {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewVisitorConn {
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub run_id: Hidden,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
    #[serde(skip_serializing_if = "Hidden::is_empty")]
    pub sign_key: Hidden,
    #[serde(skip_serializing_if = "is_zero")]
    pub timestamp: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub use_encryption: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub use_compression: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewVisitorConnResp {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&mut bytes);
    }
}

impl Hidden {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Hidden {
        Hidden(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({} bytes)", self.0.len())
    }
}

/// Without the metas: the shared key is one of them.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.metas.keys().collect();
        f.debug_struct("Login")
            .field("version", &self.version)
            .field("hostname", &self.hostname)
            .field("os", &self.os)
            .field("user", &self.user)
            .field("metas", &names)
            .field("pool_count", &self.pool_count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LoginResp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginResp").field("error", &self.error).finish_non_exhaustive()
    }
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_false(value: &bool) -> bool {
    !value
}
