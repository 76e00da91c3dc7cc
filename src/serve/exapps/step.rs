//! The synchronous steps: the head is read again each time, since nothing of it outlives a wait.

use super::forward;
use super::lookup::{Question, forwarded};
use super::memory::time;
use crate::policy::ban::Network;
use crate::policy::exapp::decide::{Decision, Facts, Known, Refused};
use crate::policy::exapp::gateway::{self, Client};
use crate::policy::exapp::{edits, records, sessions};
use crate::proto::http1::{BodyLength, HeadReader, Method, Name, Parsed, RequestHead};
use crate::serve::connection::Connection;
use crate::serve::core::{RequestId, View};
use crate::serve::plan::{self, Gated};
use crate::serve::record::RequestText;
use crate::serve::reply::{Failure, Own};
use aws_lc_rs::digest;
use std::net::IpAddr;

pub(super) struct Stepped {
    pub(super) step: Step,
    pub(super) revalidate: Option<records::Flight>,
}

/// What comes next; owns all it needs.
pub(super) enum Step {
    Ask(Question),
    Forward(Box<Sent>),
    /// The path behind `/exapps/app_api`; the port of the container engine that it is for, if it is for one.
    Control(Vec<u8>, Option<u16>, Shape),
    Refuse(Refused, Shape),
}

/// A request to an ExApp.
pub(super) struct Sent {
    pub(super) forward: plan::Forward,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) statuses: Vec<u16>,
}

/// What an answer of ours depends on.
pub(super) struct Shape {
    pub(super) text: RequestText,
    pub(super) method: Method,
    pub(super) body: BodyLength,
    pub(super) expects_continue: bool,
    /// Of a call to a container engine.
    pub(super) engine_port: Option<Vec<u8>>,
}

pub(super) fn step(
    connection: &Connection,
    view: &View,
    gated: &Gated,
    known: &mut Known,
    id: &RequestId,
) -> Result<Stepped, Failure> {
    let core = &connection.core;
    let settings = &view.snapshot.settings;
    let exapps = settings.exapps.as_ref().ok_or(Own::NoGateway)?;
    let mut fields = core.fields.borrow_mut();
    let parsed = HeadReader::new().request(&gated.head, &mut fields, &plan::limits(&settings.limits));
    // It was read before.
    let Parsed::Done { head, .. } = parsed.map_err(Failure::Request)? else { return Err(Own::HeadTimeout.into()) };
    let has_session = sessions::passphrase(head.values(Name::Cookie)).is_some();
    let facts = Facts::of(head.path(), has_session, |name| last(&head, name), |key| exapps.shared_key.matches(key));
    let client = client(view, gated.client, has_session.then(|| credentials(&head)));
    let stepped = core.shared.exapps.lock().gateway.step(&facts, &client, known, time());
    if stepped.is_banned {
        tracing::warn!(client = %client.network.address(), "banned from ExApps");
    }
    let step = match stepped.step {
        gateway::Step::FetchRecord(flight) => Step::Ask(Question::Record(flight)),
        gateway::Step::JoinRecord(number) => Step::Ask(Question::JoinRecord(number)),
        gateway::Step::FetchUser(app, flight) => {
            Step::Ask(Question::User(app, asked_with(&head, gated.client), flight))
        }
        gateway::Step::JoinUser(number) => Step::Ask(Question::JoinUser(number)),
        gateway::Step::Done(Decision::Forward(to)) => {
            Step::Forward(Box::new(forward::sent(connection, view, &head, gated, &to, id)))
        }
        gateway::Step::Done(Decision::Control(target)) => Step::Control(target.to_vec(), None, shape(&head)),
        gateway::Step::Done(Decision::Engine(port, target)) => Step::Control(target.to_vec(), Some(port), shape(&head)),
        gateway::Step::Done(Decision::Refuse(refused)) => Step::Refuse(refused, shape(&head)),
        // The gateway answers needs by what it knows.
        gateway::Step::Done(Decision::NeedRecord(..) | Decision::NeedUser(_)) => return Err(Own::Panicked.into()),
    };
    if let Step::Refuse(refused, _) = &step {
        tracing::debug!(client = %gated.client, reason = refused.reason.as_str(), "refused at the gateway to ExApps");
    }
    Ok(Stepped { step, revalidate: stepped.revalidate })
}

/// The ExApp answered a request of the route that has these `statuses`.
pub(super) fn answered(connection: &Connection, view: &View, statuses: &[u16], address: IpAddr, status: u16) {
    let client = client(view, address, None);
    let mut memory = connection.core.shared.exapps.lock();
    if memory.gateway.answered(statuses, &client, status, time()) {
        tracing::warn!(client = %client.network.address(), "banned from ExApps");
    }
}

fn client(view: &View, address: IpAddr, credentials: Option<sessions::Digest>) -> Client {
    let is_exempt = view.snapshot.settings.abuse.is_exempt(address);
    Client { network: Network::of(address), is_exempt, credentials }
}

/// HaRP's rule: of several fields with one name the last.
pub(super) fn last<'a>(head: &RequestHead<'a>, name: &str) -> Option<&'a [u8]> {
    let lines = head.fields().filter(|line| line.name_bytes().eq_ignore_ascii_case(name.as_bytes()));
    lines.last().map(|line| line.value())
}

/// Everything that says who somebody is.
fn credentials(head: &RequestHead<'_>) -> sessions::Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    for (kind, name) in [(b"c", Name::Cookie), (b"a", Name::Authorization)] {
        for value in head.values(name) {
            context.update(kind);
            context.update(&value.len().to_le_bytes());
            context.update(value);
        }
    }
    let mut digest = [0; 32];
    digest.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

/// The field lines with which Nextcloud is asked who this is.
fn asked_with(head: &RequestHead<'_>, client: IpAddr) -> Vec<u8> {
    let mut lines = Vec::new();
    for line in head.fields().filter(|line| edits::is_asked_with(line.name_bytes())) {
        lines.extend_from_slice(&[line.name_bytes(), b": ", line.value(), b"\r\n"].concat());
    }
    forwarded(client, &mut lines);
    lines
}

fn shape(head: &RequestHead<'_>) -> Shape {
    Shape {
        text: plan::short_text(head),
        method: head.method(),
        body: head.body(),
        expects_continue: head.expects_continue(),
        engine_port: last(head, "docker-engine-port").map(<[u8]>::to_vec),
    }
}
