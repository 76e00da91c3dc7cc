//! What AppAPI's Docker calls mean to the container engine: each is a plan that says which call comes next, hears its
//! answer, and ends in the reply to AppAPI.
//!
//! Paths have no API version; who makes the calls puts one before them. Statuses and texts are HaRP's.

mod certificates;
mod create;
mod image;
mod life;
pub mod tar;
mod version;
mod wait;

use super::control::Command;
use super::reply::Reply;
use serde_json::Value;
use std::time::Duration;

pub use certificates::FrpFiles;
pub use create::Policy;
pub use version::Versions;

/// A call to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub method: &'static str,
    pub path: String,
    /// Empty without a body.
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Call {
    fn get(path: String) -> Call {
        Call { method: "GET", path, content_type: "", body: Vec::new() }
    }

    fn delete(path: String) -> Call {
        Call { method: "DELETE", ..Call::get(path) }
    }

    fn post(path: String) -> Call {
        Call { method: "POST", ..Call::get(path) }
    }

    fn post_json(path: &str, body: &Value) -> Call {
        let body = body.to_string().into_bytes();
        Call { content_type: "application/json", body, ..Call::post(path.to_owned()) }
    }

    fn put_tar(path: String, body: Vec<u8>) -> Call {
        Call { method: "PUT", path, content_type: "application/x-tar", body }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Response { status: u16, body: Vec<u8> },
    Unreachable,
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Call(Call),
    /// Come back after this long, by [`Plan::waited`].
    Wait(Duration),
    Done(Reply),
}

/// One verb's course of action.
trait Steps {
    fn begin(&mut self) -> Next;

    fn heard(&mut self, status: u16, body: &[u8]) -> Next;

    /// What a timeout interrupted, as AppAPI is told.
    fn activity(&self) -> &'static str;

    fn waited(&mut self) -> Next {
        self.begin()
    }

    /// The reply when time runs out, if it is not an error.
    fn timed_out(&self) -> Option<Reply> {
        None
    }

    /// What did not go well, for the log.
    fn notes(&self) -> &[String] {
        &[]
    }
}

pub struct Plan {
    port: u16,
    /// For all calls together.
    pub time_max: Duration,
    steps: Box<dyn Steps>,
}

impl Plan {
    /// `frp` are the files that let a tunnel in, if there are any. A command that `policy` forbids is answered at once.
    pub fn new(port: u16, command: Command, policy: &Policy, frp: Option<FrpFiles>) -> Result<Plan, Reply> {
        let (time_max_s, steps): (u64, Box<dyn Steps>) = match command {
            Command::Exists(names) => (15, Box::new(life::Exists(names))),
            Command::Create(create) => (60, Box::new(create::Creation::new(create, policy)?)),
            Command::Start(names) => (30, Box::new(life::Change::start(names))),
            Command::Stop(names) => (30, Box::new(life::Change::stop(names))),
            // AppAPI gives up after 150.
            Command::WaitForStart(names) => (105, Box::new(wait::Watch::new(names))),
            Command::Remove { names, with_data } => (60, Box::new(life::Removal::new(names, with_data))),
            Command::ImageRemove { image } => (30, Box::new(image::Removal::new(image))),
            // AppAPI gives up after 180.
            Command::InstallCertificates { names, bundle, with_frp } => {
                (170, Box::new(certificates::Installation::new(names, bundle, frp.filter(|_| with_frp))))
            }
        };
        Ok(Plan { port, time_max: Duration::from_secs(time_max_s), steps })
    }

    pub fn begin(&mut self) -> Next {
        self.steps.begin()
    }

    pub fn heard(&mut self, answer: Answer) -> Next {
        match answer {
            Answer::Response { status, body } => self.steps.heard(status, &body),
            Answer::Unreachable => {
                Next::Done(Reply::text(503, format!("Could not connect to Docker Engine on port {}", self.port)))
            }
            Answer::TimedOut => Next::Done(self.timed_out()),
        }
    }

    pub fn waited(&mut self) -> Next {
        self.steps.waited()
    }

    /// The reply when [`Plan::time_max`] is over.
    pub fn timed_out(&self) -> Reply {
        let error = || {
            let text = match self.steps.activity() {
                "" => format!("Timeout communicating with Docker Engine on port {}", self.port),
                activity => format!("Timeout communicating with Docker Engine for {activity}"),
            };
            Reply::text(504, text)
        };
        self.steps.timed_out().unwrap_or_else(error)
    }

    pub fn notes(&self) -> &[String] {
        self.steps.notes()
    }
}

fn done(status: u16, text: impl Into<String>) -> Next {
    Next::Done(Reply::text(status, text))
}

fn not_found(container: &str) -> Next {
    done(404, format!("Container '{container}' not found."))
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

/// A text of an answer, wherever it stands in it.
fn text_at<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
