//! An answer that is given here, whole.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Empty without a body.
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    /// AppAPI shows the first 120 bytes at most: the cause comes first.
    pub fn text(status: u16, text: impl Into<String>) -> Reply {
        Reply { status, content_type: "text/plain; charset=utf-8", body: text.into().into_bytes() }
    }

    pub fn json(status: u16, value: &Value) -> Reply {
        Reply { status, content_type: "application/json; charset=utf-8", body: value.to_string().into_bytes() }
    }

    pub fn empty() -> Reply {
        Reply { status: 204, content_type: "", body: Vec::new() }
    }
}
