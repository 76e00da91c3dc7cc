//! Removing an image that nothing uses any more.

use super::{Call, Next, Steps, done, parse};
use crate::policy::exapp::control;
use crate::policy::exapp::reply::Reply;
use serde_json::{Value, json};

pub(super) struct Removal {
    image: String,
    /// Known once the image was looked at.
    size_bytes: Option<u64>,
}

impl Removal {
    pub(super) fn new(image: String) -> Removal {
        Removal { image, size_bytes: None }
    }

    fn path(&self) -> String {
        format!("/images/{}", control::encode(&self.image, b""))
    }

    fn result(bytes_freed: u64) -> Next {
        Next::Done(Reply::json(200, &json!({ "deleted": true, "bytes_freed": bytes_freed })))
    }
}

impl Steps for Removal {
    fn begin(&mut self) -> Next {
        Next::Call(Call::get(format!("{}/json", self.path())))
    }

    fn heard(&mut self, status: u16, body: &[u8]) -> Next {
        if status == 404 {
            let reply = json!({ "deleted": true, "bytes_freed": 0, "reason": "not_found" });
            return Next::Done(Reply::json(200, &reply));
        }
        let Some(size_bytes) = self.size_bytes else {
            let size = parse(body).get("Size").and_then(Value::as_u64);
            self.size_bytes = Some(size.filter(|_| status == 200).unwrap_or(0));
            return Next::Call(Call::delete(self.path()));
        };
        match status {
            200 => {
                let list = parse(body);
                let is_deleted = |entry: &Value| entry.get("Deleted").is_some();
                // Without it the image only lost a name.
                let is_gone = list.as_array().is_some_and(|list| list.iter().any(is_deleted));
                Removal::result(if is_gone { size_bytes } else { 0 })
            }
            409 => Next::Done(Reply::json(200, &json!({ "deleted": false, "reason": "in_use" }))),
            _ => done(503, format!("Error removing image '{}': Status {status}", self.image)),
        }
    }

    fn activity(&self) -> &'static str {
        "image removal"
    }
}
