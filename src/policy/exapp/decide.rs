//! What becomes of a request below `/exapps/`: HaRP's order of checks, first match decides.
//!
//! ```text
//!  banned > dot-dot > app id > app_api (control, engine) > signed by AppAPI > record > life-cycle call > route > user
//! ```
//!
//! [`decide`] is asked again with what it said it needs, over the same [`Facts`]; it keeps nothing. HaRP asks for the
//! user before it looks at routes, and answers 401 when that fails; here the route comes first, and a public one never
//! waits in vain.

use super::failures::Kind;
use super::path::{has_parent_segment, is_internal, place};
use super::record::{Record, User};
use super::records::{Asker, Lookup};
use super::routes::{Level, Rule};
use std::sync::Arc;

/// What came in `harp-shared-key`, compared by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Absent,
    Wrong,
    Right,
}

/// The fields by which AppAPI signs a request to an ExApp; all of them, or it is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'r> {
    pub id: &'r [u8],
    pub version: &'r [u8],
    pub host: &'r [u8],
    pub port: &'r [u8],
    /// Goes on as it came.
    pub authorization: &'r [u8],
}

/// A request as far as the decision looks at it. Its method is none of it: routes name paths only.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'r> {
    /// Raw, without query.
    pub path: &'r [u8],
    pub is_banned: bool,
    pub key: Key,
    /// Not empty.
    pub engine_port: Option<&'r [u8]>,
    pub signature: Option<Signature<'r>>,
    /// It carries a session or an Authorization.
    pub has_credentials: bool,
}

impl<'r> Facts<'r> {
    /// `field` gives the last value of a name; `is_key` compares in constant time.
    pub fn of(
        path: &'r [u8],
        has_session: bool,
        field: impl Fn(&str) -> Option<&'r [u8]>,
        is_key: impl FnOnce(&[u8]) -> bool,
    ) -> Facts<'r> {
        let sent = field("harp-shared-key");
        let key = match sent {
            None => Key::Absent,
            Some(value) if is_key(value) => Key::Right,
            Some(_) => Key::Wrong,
        };
        let signature = || {
            sent?;
            Some(Signature {
                id: field("ex-app-id")?,
                version: field("ex-app-version")?,
                host: field("ex-app-host")?,
                port: field("ex-app-port")?,
                // An empty one proves nothing: such a request takes the way of the others.
                authorization: field("authorization-app-api").filter(|value| !value.is_empty())?,
            })
        };
        Facts {
            path,
            is_banned: false,
            key,
            engine_port: field("docker-engine-port").filter(|port| !port.is_empty()),
            signature: signature(),
            has_credentials: has_session || field("authorization").is_some(),
        }
    }
}

/// What was found out on demand.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub record: Option<Lookup>,
    pub user: Option<UserLookup>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserLookup {
    Known(Arc<User>),
    /// Nextcloud does not know these credentials.
    Unknown,
    /// Nextcloud did not say.
    Failed,
}

#[derive(Debug)]
pub enum Decision<'r> {
    /// Look up the app of this id, which is lower-case.
    NeedRecord(String, Asker<'r>),
    /// Look up whose the credentials are, for the app of this id.
    NeedUser(String),
    Forward(Forward<'r>),
    /// A call to the control API: the path behind `/exapps/app_api`.
    Control(&'r [u8]),
    /// A call to the container engine at this port, with its path.
    Engine(u16, &'r [u8]),
    Refuse(Refused),
}

/// A request that goes to an ExApp.
#[derive(Debug)]
pub struct Forward<'r> {
    /// Lower-case.
    pub id: String,
    pub target: &'r [u8],
    pub record: Arc<Record>,
    pub identity: Identity<'r>,
    /// Responses with one of these are failures of the client.
    pub statuses: Vec<u16>,
}

/// Whom the ExApp is told that the request is from.
#[derive(Debug)]
pub enum Identity<'r> {
    AppApi(Signature<'r>),
    /// Nobody, or a user of Nextcloud.
    Client(Option<Arc<User>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub answer: Answer,
    /// Counts against the client.
    pub failure: Option<Kind>,
}

/// What the client gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing at all.
    Drop,
    Unauthorized,
    Forbidden,
    NotFound,
    Unavailable,
}

impl Answer {
    /// Status and whole body, text/plain; `None` says nothing and closes.
    pub fn response(self) -> Option<(u16, &'static str)> {
        match self {
            Answer::Drop => None,
            Answer::Unauthorized => Some((401, "401 Unauthorized")),
            Answer::Forbidden => Some((403, "403 Forbidden")),
            Answer::NotFound => Some((404, "404 Not Found")),
            Answer::Unavailable => Some((503, "503 Service Unavailable (HaRP)")),
        }
    }
}

/// Why a request goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Banned,
    ParentSegment,
    NoApp,
    /// Of a control call.
    ControlKey,
    /// Of a signed request.
    SignedKey,
    EnginePort,
    UnknownApp,
    /// Nextcloud disabled it a moment ago.
    Withdrawn,
    BadMetadata,
    NoMetadata,
    /// What a signed request says about the app cannot be used.
    BadSignature,
    /// A life-cycle call that AppAPI did not make.
    Internal,
    NoRoute,
    Level,
    /// Who it is was not to be found out.
    NoUser,
}

impl Reason {
    pub const ALL: [Reason; 15] = [
        Reason::Banned,
        Reason::ParentSegment,
        Reason::NoApp,
        Reason::ControlKey,
        Reason::SignedKey,
        Reason::EnginePort,
        Reason::UnknownApp,
        Reason::Withdrawn,
        Reason::BadMetadata,
        Reason::NoMetadata,
        Reason::BadSignature,
        Reason::Internal,
        Reason::NoRoute,
        Reason::Level,
        Reason::NoUser,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Banned => "banned",
            Reason::ParentSegment => "parent_segment",
            Reason::NoApp => "no_app",
            Reason::ControlKey => "control_key",
            Reason::SignedKey => "signed_key",
            Reason::EnginePort => "engine_port",
            Reason::UnknownApp => "unknown_app",
            Reason::Withdrawn => "withdrawn",
            Reason::BadMetadata => "bad_metadata",
            Reason::NoMetadata => "no_metadata",
            Reason::BadSignature => "bad_signature",
            Reason::Internal => "internal",
            Reason::NoRoute => "no_route",
            Reason::Level => "level",
            Reason::NoUser => "no_user",
        }
    }

    /// The answer, what it counts as, and whether the right key excuses it.
    fn consequence(self) -> (Answer, Option<Kind>, bool) {
        match self {
            Reason::Banned => (Answer::Drop, None, false),
            Reason::ParentSegment => (Answer::Drop, Some(Kind::Scan), true),
            Reason::NoApp | Reason::UnknownApp => (Answer::NotFound, Some(Kind::Scan), true),
            Reason::ControlKey => (Answer::Unauthorized, Some(Kind::Key), false),
            Reason::SignedKey => (Answer::Drop, Some(Kind::Key), false),
            Reason::EnginePort | Reason::BadSignature => (Answer::Unavailable, None, false),
            Reason::Withdrawn | Reason::BadMetadata => (Answer::NotFound, None, false),
            // Never 404: AppAPI takes that for an app without an init step.
            Reason::NoMetadata | Reason::NoUser => (Answer::Unavailable, None, false),
            Reason::Internal => (Answer::Drop, Some(Kind::Policy), false),
            Reason::NoRoute => (Answer::NotFound, Some(Kind::Policy), false),
            Reason::Level => (Answer::Forbidden, Some(Kind::Policy), false),
        }
    }
}

pub fn decide<'r>(facts: &Facts<'r>, known: &Known) -> Decision<'r> {
    judge(facts, known).unwrap_or_else(|reason| {
        let (answer, failure, is_excusable) = reason.consequence();
        let failure = failure.filter(|_| !(is_excusable && facts.key == Key::Right));
        Decision::Refuse(Refused { reason, answer, failure })
    })
}

fn judge<'r>(facts: &Facts<'r>, known: &Known) -> Result<Decision<'r>, Reason> {
    if facts.is_banned {
        return Err(Reason::Banned);
    }
    if has_parent_segment(facts.path) {
        return Err(Reason::ParentSegment);
    }
    let place = place(facts.path).ok_or(Reason::NoApp)?;
    if place.id == b"app_api" {
        return control(facts, place.target);
    }
    let id = String::from_utf8_lossy(place.id).to_ascii_lowercase();
    match facts.signature {
        Some(_) if facts.key != Key::Right => Err(Reason::SignedKey),
        Some(signature) => signed(id, place.target, signature, known),
        None => unsigned(id, place.target, facts, known),
    }
}

fn control<'r>(facts: &Facts<'r>, target: &'r [u8]) -> Result<Decision<'r>, Reason> {
    if facts.key != Key::Right {
        return Err(Reason::ControlKey);
    }
    match facts.engine_port.filter(|_| !target.starts_with(b"/docker/")) {
        None => Ok(Decision::Control(target)),
        Some(port) => {
            let port = std::str::from_utf8(port).ok().and_then(|port| port.trim().parse().ok());
            Ok(Decision::Engine(port.filter(|port| *port != 0).ok_or(Reason::EnginePort)?, target))
        }
    }
}

/// AppAPI may do everything, also to an app that Nextcloud does not tell about.
fn signed<'r>(id: String, target: &'r [u8], signature: Signature<'r>, known: &Known) -> Result<Decision<'r>, Reason> {
    let record = match &known.record {
        None => return Ok(Decision::NeedRecord(id, Asker::AppApi(signature))),
        Some(Lookup::Known(record)) => record.clone(),
        Some(Lookup::NotFound | Lookup::Withdrawn | Lookup::Invalid | Lookup::Failed) => {
            let record = Record::of_headers(signature.version, signature.host, signature.port);
            Arc::new(record.ok_or(Reason::BadSignature)?)
        }
    };
    let (identity, statuses) = (Identity::AppApi(signature), Vec::new());
    Ok(Decision::Forward(Forward { id, target, record, identity, statuses }))
}

fn unsigned<'r>(id: String, target: &'r [u8], facts: &Facts<'r>, known: &Known) -> Result<Decision<'r>, Reason> {
    let record = match &known.record {
        None => return Ok(Decision::NeedRecord(id, Asker::Client)),
        Some(Lookup::Known(record)) => record.clone(),
        Some(Lookup::NotFound) => return Err(Reason::UnknownApp),
        Some(Lookup::Withdrawn) => return Err(Reason::Withdrawn),
        Some(Lookup::Invalid) => return Err(Reason::BadMetadata),
        Some(Lookup::Failed) => return Err(Reason::NoMetadata),
    };
    if is_internal(target) {
        return Err(Reason::Internal);
    }
    let rule = record.routes.rule(target).ok_or(Reason::NoRoute)?;
    let Some(user) = user(facts, known, rule)? else { return Ok(Decision::NeedUser(id)) };
    let level = user.as_ref().map_or(Level::Public, |user| user.level);
    if level < rule.level {
        return Err(Reason::Level);
    }
    let (identity, statuses) = (Identity::Client(user), rule.statuses.to_vec());
    Ok(Decision::Forward(Forward { id, target, record, identity, statuses }))
}

/// Who makes the request, as far as it matters; the outer `None` is not known yet.
fn user(facts: &Facts<'_>, known: &Known, rule: Rule<'_>) -> Result<Option<Option<Arc<User>>>, Reason> {
    if !facts.has_credentials {
        return Ok(Some(None));
    }
    match &known.user {
        None => Ok(None),
        Some(UserLookup::Known(user)) => Ok(Some(Some(user.clone()))),
        Some(UserLookup::Unknown) => Ok(Some(None)),
        // What is for everybody needs nobody's name.
        Some(UserLookup::Failed) if rule.level == Level::Public => Ok(Some(None)),
        Some(UserLookup::Failed) => Err(Reason::NoUser),
    }
}

#[cfg(test)]
mod tests;
