//! Exists, start, stop, remove.

use super::{Call, Next, Steps, done, not_found, parse, text_at};
use crate::policy::exapp::control::Names;
use crate::policy::exapp::reply::Reply;
use serde_json::json;

pub(super) struct Exists(pub(super) Names);

impl Steps for Exists {
    fn begin(&mut self) -> Next {
        Next::Call(Call::get(format!("/containers/{}/json", self.0.container)))
    }

    fn heard(&mut self, status: u16, body: &[u8]) -> Next {
        match status {
            200 => {
                let container = parse(body);
                let image = text_at(&container, "/Config/Image").or(text_at(&container, "/Image")).unwrap_or("");
                Next::Done(Reply::json(200, &json!({ "exists": true, "image_ref": image })))
            }
            404 => Next::Done(Reply::json(200, &json!({ "exists": false }))),
            _ => done(503, format!("Error communicating with Docker Engine: Status {status}")),
        }
    }

    fn activity(&self) -> &'static str {
        ""
    }
}

/// To running, or to stopped.
pub(super) struct Change {
    names: Names,
    verb: &'static str,
    progressive: &'static str,
    already: &'static str,
    activity: &'static str,
}

impl Change {
    pub(super) fn start(names: Names) -> Change {
        let (progressive, already) = ("starting", "Container already started");
        Change { names, verb: "start", progressive, already, activity: "container start" }
    }

    pub(super) fn stop(names: Names) -> Change {
        let (progressive, already) = ("stopping", "Container already stopped");
        Change { names, verb: "stop", progressive, already, activity: "container stop" }
    }
}

impl Steps for Change {
    fn begin(&mut self) -> Next {
        Next::Call(Call::post(format!("/containers/{}/{}", self.names.container, self.verb)))
    }

    fn heard(&mut self, status: u16, _: &[u8]) -> Next {
        let (container, progressive) = (&self.names.container, self.progressive);
        match status {
            204 => Next::Done(Reply::empty()),
            304 => done(200, self.already),
            404 => not_found(container),
            _ => done(503, format!("Error {progressive} container '{container}' via Docker Engine: Status {status}")),
        }
    }

    fn activity(&self) -> &'static str {
        self.activity
    }
}

/// The container, then its data.
pub(super) struct Removal {
    names: Names,
    with_data: bool,
    is_at_data: bool,
}

impl Removal {
    pub(super) fn new(names: Names, with_data: bool) -> Removal {
        Removal { names, with_data, is_at_data: false }
    }
}

impl Steps for Removal {
    fn begin(&mut self) -> Next {
        Next::Call(Call::delete(format!("/containers/{}?force=true", self.names.container)))
    }

    fn heard(&mut self, status: u16, _: &[u8]) -> Next {
        let Names { container, volume, .. } = &self.names;
        match status {
            204 | 404 | 409 if !self.is_at_data && self.with_data => {
                self.is_at_data = true;
                Next::Call(Call::delete(format!("/volumes/{volume}")))
            }
            409 if self.is_at_data => done(409, format!("Volume '{volume}' is in use and could not be removed.")),
            204 | 404 | 409 => Next::Done(Reply::empty()),
            _ if self.is_at_data => {
                done(503, format!("Error removing volume '{volume}' via Docker Engine: Status {status}"))
            }
            _ => done(503, format!("Error removing container '{container}' via Docker Engine: Status {status}")),
        }
    }

    fn activity(&self) -> &'static str {
        if self.is_at_data { "volume removal" } else { "container removal" }
    }
}
