//! Waiting until a container runs and is healthy, within AppAPI's patience.

use super::{Call, Next, Steps, done, parse, text_at};
use crate::policy::exapp::control::Names;
use crate::policy::exapp::reply::Reply;
use serde_json::{Value, json};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(500);
const TRIES_MAX: u32 = 180;

pub(super) struct Watch {
    names: Names,
    tries: u32,
    status: String,
    health: Option<String>,
}

impl Watch {
    pub(super) fn new(names: Names) -> Watch {
        Watch { names, tries: 0, status: "unknown".into(), health: None }
    }

    fn result(&self, is_started: bool, reason: Option<&str>) -> Reply {
        let mut result = json!({ "started": is_started, "status": self.status, "health": self.health });
        if let Some(reason) = reason {
            result["reason"] = Value::from(reason);
        }
        Reply::json(200, &result)
    }

    fn look(&mut self, container: &Value) {
        self.status = text_at(container, "/State/Status").unwrap_or("unknown").to_owned();
        // Podman has a status of health also where there is no check.
        let health = text_at(container, "/State/Health/Status").filter(|health| *health != "none");
        self.health = health.map(str::to_owned);
    }
}

impl Steps for Watch {
    fn begin(&mut self) -> Next {
        Next::Call(Call::get(format!("/containers/{}/json", self.names.container)))
    }

    fn heard(&mut self, status: u16, body: &[u8]) -> Next {
        match status {
            200 => self.look(&parse(body)),
            404 => {
                let result = json!({ "started": false, "status": "not_found", "reason": "container not found" });
                return Next::Done(Reply::json(200, &result));
            }
            _ => {
                let container = &self.names.container;
                return done(503, format!("Error inspecting container '{container}': Status {status}"));
            }
        }
        match (self.status.as_str(), self.health.as_deref()) {
            ("running", None | Some("healthy")) => return Next::Done(self.result(true, None)),
            ("running", Some("unhealthy")) => return Next::Done(self.result(true, Some("unhealthy"))),
            ("paused" | "exited" | "dead", _) => {
                let reason = format!("non-recoverable state: {}", self.status);
                return Next::Done(self.result(false, Some(&reason)));
            }
            _ => {}
        }
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            return Next::Done(self.result(false, Some("timeout after max tries")));
        }
        Next::Wait(INTERVAL)
    }

    fn activity(&self) -> &'static str {
        ""
    }

    fn timed_out(&self) -> Option<Reply> {
        Some(self.result(false, Some("overall timeout")))
    }
}
