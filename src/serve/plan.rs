//! The synchronous steps of the walk: received head in, owned outgoing head out. Parsed heads are views into a receive
//! buffer and an index of 1 KiB; neither lives across an await.

use crate::config::settings::{self, ListenerKind};
use crate::net::pool;
use crate::policy::headers::{self, Backward, Onward};
use crate::policy::route;
use crate::proto::http1::exchange::{Exchange, ExchangeFault, Framing, Reply, Step};
use crate::proto::http1::response::unfold;
use crate::proto::http1::{
    BodyLength, HeadReader, Limits, Method, Parsed, RequestError, RequestHead, ResponseError, ResponseHead, TargetForm,
};
use crate::serve::connection::Connection;
use crate::serve::core::{Core, RequestId, View};
use crate::serve::record::RequestText;
use crate::serve::reply::{Failure, Own};
use std::net::IpAddr;

/// What the walk does with a request.
pub enum Plan {
    Forward(Forward),
    /// Answered here.
    Local(Local),
}

pub struct Forward {
    pub pool: usize,
    pub exchange: Exchange,
    pub method: Method,
    pub body: BodyLength,
    pub text: RequestText,
    pub client: IpAddr,
}

pub struct Local {
    pub kind: LocalKind,
    pub text: RequestText,
    pub client: IpAddr,
    /// The connection may go on after it.
    pub keeps: bool,
}

pub enum LocalKind {
    /// 308 to this place.
    Redirect(Vec<u8>),
    /// `OPTIONS *`: 204.
    Options,
}

/// Looks for a request head in `bytes`. `Ok(None)`: there is more to come.
pub fn request(
    connection: &Connection,
    view: &View,
    reader: &mut HeadReader,
    bytes: &[u8],
    id: &RequestId,
) -> Result<Option<(Plan, usize)>, Failure> {
    let core = &connection.core;
    let settings = &view.snapshot.settings;
    let mut fields = core.fields.borrow_mut();
    match reader.request(bytes, &mut fields, &limits(&settings.limits)) {
        Ok(Parsed::NeedMore) => Ok(None),
        Ok(Parsed::Done { head, consumed }) => plan(connection, view, &head, id).map(|plan| Some((plan, consumed))),
        Err(error) => Err(Failure::Request(error)),
    }
}

fn plan(connection: &Connection, view: &View, head: &RequestHead<'_>, id: &RequestId) -> Result<Plan, Failure> {
    let core = &connection.core;
    let settings = &view.snapshot.settings;
    let served = connection.served.get().saturating_add(1);
    let may_keep = !core.is_draining() && served < settings.limits.keepalive_requests_max;
    let exchange = Exchange::new(head, may_keep);
    if connection.kind == ListenerKind::RedirectToHttps || head.target_form() == TargetForm::Asterisk {
        return Ok(Plan::Local(local(connection, head, may_keep)));
    }
    if head.host().is_some_and(|host| !connection.is_for(host)) {
        return Err(Failure::Request(RequestError::Misdirected));
    }
    route::check_depth(head.path()).map_err(|_| Own::AboveRoot)?;
    if headers::is_loop(head) {
        return Err(Own::Loop.into());
    }
    let route = route::route(&settings.routes, head.host(), head.path()).and_then(|index| settings.routes.get(index));
    let pool = route.ok_or(Own::NoRoute)?.pool;
    let client = connection.origin.client(head, &settings.trust);
    let onward = Onward {
        framing: Framing::of_request(head.body()),
        request_id: connection.origin.request_id(head, id.as_str().as_bytes()),
        forwards_expect: true,
        default_host: b"",
    };
    let mut text = text(head);
    let dropped = headers::write_request(&mut text.head, head, &connection.origin, &client, &onward);
    core.counters().fields_dropped.add(u64::from(dropped.unusual));
    Ok(Plan::Forward(Forward {
        pool,
        exchange,
        method: head.method(),
        body: head.body(),
        text,
        client: client.address,
    }))
}

fn local(connection: &Connection, head: &RequestHead<'_>, may_keep: bool) -> Local {
    let mut text = text(head);
    // Enough of a head for the log line.
    text.head.extend_from_slice(head.method_bytes());
    text.head.push(b' ');
    text.head.extend_from_slice(head.target());
    let host = head.host().unwrap_or_default();
    text.head.extend_from_slice(b"\r\nhost: ");
    text.head.extend_from_slice(host);
    let kind = if head.target_form() == TargetForm::Asterisk {
        LocalKind::Options
    } else {
        let name = crate::proto::http1::authority::Authority::parse(host).map_or(host, |authority| authority.host);
        let mut location = Vec::with_capacity(8 + name.len() + head.target().len());
        location.extend_from_slice(b"https://");
        location.extend_from_slice(name);
        location.extend_from_slice(head.target());
        LocalKind::Redirect(location)
    };
    let keeps = may_keep
        && head.body().is_empty()
        && !head.wants_close()
        && head.version() == crate::proto::http1::Version::Http11;
    Local { kind, text, client: connection.origin.peer, keeps }
}

fn text(head: &RequestHead<'_>) -> RequestText {
    RequestText { head: pool::vector(), method_bytes: head.method_bytes().len(), target_bytes: head.target().len() }
}

/// A response head, judged and rewritten.
pub enum Judged {
    NeedMore,
    /// To be sent on at once if `Some`; `is_continue` says that the client may send its body now.
    Interim {
        out: Option<Vec<u8>>,
        consumed: usize,
        is_continue: bool,
    },
    Final(Final),
    Tunnel {
        out: Vec<u8>,
        consumed: usize,
    },
}

pub struct Final {
    pub status: u16,
    pub reply: Reply,
    /// The head as the client gets it; the body's first bytes go behind it.
    pub out: Vec<u8>,
    pub consumed: usize,
    /// A server error that is not Nextcloud's own maintenance answer.
    pub is_server_error: bool,
}

/// Looks for a response head in `bytes`.
pub fn response(
    core: &Core,
    exchange: &mut Exchange,
    reader: &mut HeadReader,
    bytes: &[u8],
) -> Result<Judged, Failure> {
    let mut fields = core.fields.borrow_mut();
    match reader.response(bytes, &mut fields, &Limits::default()) {
        Ok(Parsed::NeedMore) => Ok(Judged::NeedMore),
        Ok(Parsed::Done { head, consumed }) => judge(core, exchange, &head, consumed),
        Err(ResponseError::ObsFold) => {
            let mut straight = bytes.to_vec();
            unfold(&mut straight);
            match HeadReader::new().response(&straight, &mut fields, &Limits::default()) {
                Ok(Parsed::NeedMore) => Ok(Judged::NeedMore),
                Ok(Parsed::Done { head, consumed }) => judge(core, exchange, &head, consumed),
                Err(error) => Err(Failure::Response(error)),
            }
        }
        Err(error) => Err(Failure::Response(error)),
    }
}

fn judge(core: &Core, exchange: &mut Exchange, head: &ResponseHead<'_>, consumed: usize) -> Result<Judged, Failure> {
    match exchange.response_head(head).map_err(fault)? {
        Step::Interim { relay } => {
            let out = relay.then(|| {
                let mut out = pool::vector();
                headers::write_interim(&mut out, head);
                out
            });
            Ok(Judged::Interim { out, consumed, is_continue: head.status() == 100 })
        }
        Step::Tunnel => {
            let mut out = pool::vector();
            headers::write_upgrade(&mut out, head);
            Ok(Judged::Tunnel { out, consumed })
        }
        Step::Final(reply) => {
            let mut out = pool::vector();
            let date = core.date.bytes();
            headers::write_response(&mut out, head, &Backward { reply, date: &date, hsts: None });
            let status = head.status();
            let is_server_error = status >= 500 && head.value(crate::proto::http1::Name::MaintenanceMode).is_none();
            Ok(Judged::Final(Final { status, reply, out, consumed, is_server_error }))
        }
    }
}

fn fault(fault: ExchangeFault) -> Failure {
    match fault {
        ExchangeFault::UnexpectedUpgrade => Own::UpgradeMismatch.into(),
        ExchangeFault::TooManyInterim => Own::TooManyInterims.into(),
        ExchangeFault::Unsolicited => Failure::Response(ResponseError::Trailing),
    }
}

fn limits(limits: &settings::Limits) -> Limits {
    Limits {
        head_bytes_max: limits.head_bytes_max,
        line_bytes_max: limits.header_line_bytes_max,
        fields_max: limits.header_count_max,
        target_bytes_max: limits.target_bytes_max,
    }
}
