//! The synchronous steps of the walk: received head in, owned outgoing head out. Parsed heads are views into a receive
//! buffer and an index of 1 KiB; neither lives across an await.

use crate::config::settings::{self, Balance, ListenerKind, PoolKind, Prefix};
use crate::net::pool;
use crate::policy::headers::{self, Backward, Onward, Rewrite};
use crate::policy::nextcloud::{self, Place};
use crate::policy::{document, login, route};
use crate::proto::http1::exchange::{Exchange, ExchangeFault, Framing, Reply, Step};
use crate::proto::http1::response::unfold;
use crate::proto::http1::{
    BodyLength, HeadReader, Limits, Method, Name, Parsed, RequestError, RequestHead, ResponseError, ResponseHead,
    TargetForm,
};
use crate::serve::abuse::Refusal;
use crate::serve::balance::Wish;
use crate::serve::connection::Connection;
use crate::serve::core::{Core, RequestId, View};
use crate::serve::record::RequestText;
use crate::serve::reply::{Failure, Own};
use std::net::IpAddr;
use std::time::Duration;

/// What the walk does with a request.
pub enum Plan {
    /// To a server of the pool with this index.
    Forward(usize, Forward),
    /// To an ExApp, if the gateway lets it.
    ExApp(Gated),
    /// Answered here.
    Local(Local),
}

/// A request below `/exapps/`: its head is read again whenever more is known.
pub struct Gated {
    /// As received.
    pub head: Vec<u8>,
    pub client: IpAddr,
    pub may_keep: bool,
}

pub struct Forward {
    pub exchange: Exchange,
    pub method: Method,
    pub body: BodyLength,
    pub text: RequestText,
    pub client: IpAddr,
    pub wish: Wish,
    /// Instead of the pool's.
    pub response_timeout: Option<Duration>,
    /// A WebSocket is asked for.
    pub is_upgrade: bool,
    /// The body has no length and its server must be told one: `text` has no framing field yet.
    pub needs_length: bool,
}

impl Forward {
    /// With nothing special about it.
    pub fn new(head: &RequestHead<'_>, gated: &Gated, text: RequestText) -> Forward {
        Forward {
            exchange: Exchange::new(head, gated.may_keep),
            method: head.method(),
            body: head.body(),
            text,
            client: gated.client,
            wish: Wish::default(),
            response_timeout: None,
            is_upgrade: false,
            needs_length: false,
        }
    }
}

pub struct Local {
    pub kind: LocalKind,
    pub text: RequestText,
    pub client: IpAddr,
    /// The connection may go on after it.
    pub keeps: bool,
}

pub enum LocalKind {
    Redirect {
        status: u16,
        location: Vec<u8>,
    },
    /// `OPTIONS *`: 204.
    Options,
    /// Kept out; how long still, if there is an end.
    Banned(Option<Duration>),
    TooFast,
}

/// A request that gets no further, and what is known of it. Boxed where it is an error: it is rare.
pub struct Refused {
    pub failure: Failure,
    pub text: RequestText,
    pub client: Option<IpAddr>,
}

impl Refused {
    /// `bytes` are what there is of a head.
    pub fn early(failure: impl Into<Failure>, bytes: &[u8]) -> Box<Refused> {
        Box::new(Refused { failure: failure.into(), text: RequestText::glimpse(bytes), client: None })
    }
}

/// Looks for a request head in `bytes`. `Ok(None)`: there is more to come.
pub fn request(
    connection: &Connection,
    view: &View,
    reader: &mut HeadReader,
    bytes: &[u8],
    id: &RequestId,
) -> Result<Option<(Plan, usize)>, Box<Refused>> {
    let core = &connection.core;
    let settings = &view.snapshot.settings;
    let mut fields = core.fields.borrow_mut();
    match reader.request(bytes, &mut fields, &limits(&settings.limits)) {
        Ok(Parsed::NeedMore) => Ok(None),
        Ok(Parsed::Done { head, consumed }) => match plan(connection, view, &head, id) {
            Ok(Plan::ExApp(gated)) => {
                let head = bytes.get(..consumed).unwrap_or_default().to_vec();
                Ok(Some((Plan::ExApp(Gated { head, ..gated }), consumed)))
            }
            Ok(plan) => Ok(Some((plan, consumed))),
            Err(failure) => {
                let client = connection.origin.client(&head, &settings.trust).address;
                Err(Box::new(Refused { failure, text: short_text(&head), client: Some(client) }))
            }
        },
        Err(error) => Err(Refused::early(Failure::Request(error), bytes)),
    }
}

fn plan(connection: &Connection, view: &View, head: &RequestHead<'_>, id: &RequestId) -> Result<Plan, Failure> {
    let core = &connection.core;
    let settings = &view.snapshot.settings;
    let served = connection.served.get().saturating_add(1);
    let may_keep = !core.is_draining() && served < settings.limits.keepalive_requests_max;
    let exchange = Exchange::new(head, may_keep);
    let client = connection.origin.client(head, &settings.trust);
    let credential = login::credential(head.value(Name::Authorization).unwrap_or_default());
    if let Some(refusal) = core.shared.abuse.check(settings, client.address, credential) {
        return Ok(Plan::Local(refused(refusal, client.address, head, may_keep)));
    }
    if head.target_form() == TargetForm::Asterisk {
        return Ok(Plan::Local(local(client.address, head, may_keep, LocalKind::Options)));
    }
    if connection.kind == ListenerKind::RedirectToHttps {
        return Ok(Plan::Local(local(client.address, head, may_keep, to_https(head))));
    }
    if head.host().is_some_and(|host| !connection.is_for(host)) {
        return Err(Failure::Request(RequestError::Misdirected));
    }
    route::check_depth(head.path()).map_err(|_| Own::AboveRoot)?;
    if headers::is_loop(head) {
        return Err(Own::Loop.into());
    }
    let route = route::route(&settings.routes, head.host(), head.path()).and_then(|index| settings.routes.get(index));
    let route = route.ok_or(Own::NoRoute)?;
    let pool = settings.pools.get(route.pool).ok_or(Own::NoRoute)?;
    let is_nextcloud = pool.kind == PoolKind::Nextcloud;
    let place = if is_nextcloud { place(head)? } else { Place::Usual };
    if place == Place::ExApp {
        return match settings.exapps {
            Some(_) => Ok(Plan::ExApp(Gated { head: Vec::new(), client: client.address, may_keep })),
            None => Err(Own::NoGateway.into()),
        };
    }
    if let Some(kind) = answered_here(place, head) {
        return Ok(Plan::Local(local(client.address, head, may_keep, kind)));
    }
    // PHP takes a body without a length for an empty one, and says that all went well.
    let needs_length = is_nextcloud && head.body() == BodyLength::Chunked;
    let onward = Onward {
        framing: if needs_length { Framing::None } else { Framing::of_request(head.body()) },
        request_id: connection.origin.request_id(head, id.as_str().as_bytes()),
        forwards_expect: !needs_length,
        default_host: b"",
        rewrite: (route.prefix != Prefix::Kept)
            .then(|| Rewrite { target: route::target(route, head.target()), host_suffix: route::hosted(route) }),
    };
    let document = (pool.balance == Balance::Document).then(|| document::key(head.target())).flatten();
    let mut text = text(head);
    if let Some(Rewrite { target: (first, rest), .. }) = onward.rewrite {
        text.target_bytes = first.len() + rest.len();
    }
    let dropped = headers::write_request(&mut text.head, head, &connection.origin, &client, &onward);
    core.counters().fields_dropped.add(u64::from(dropped.unusual));
    Ok(Plan::Forward(
        route.pool,
        Forward {
            exchange,
            method: head.method(),
            body: head.body(),
            text,
            client: client.address,
            wish: Wish { is_light: matches!(place, Place::Light | Place::Pulse), document },
            response_timeout: (place == Place::Pulse).then_some(nextcloud::PULSE_TIMEOUT),
            is_upgrade: head.is_websocket_upgrade(),
            needs_length,
        },
    ))
}

/// What a path of the web servers is; some are not for clients at all.
fn place(head: &RequestHead<'_>) -> Result<Place, Own> {
    let path = head.path();
    let place = if nextcloud::needs_normal(path) {
        let mut normal = pool::vector();
        let is_normal = route::normalize(path, &mut normal);
        let place = nextcloud::place(path, is_normal.is_ok().then_some(&*normal));
        pool::recycle(normal);
        place
    } else {
        nextcloud::place(path, None)
    };
    match place {
        Place::Hidden => Err(Own::Hidden),
        place => Ok(place),
    }
}

fn answered_here(place: Place, head: &RequestHead<'_>) -> Option<LocalKind> {
    let location = match place {
        Place::DavRoot => nextcloud::DAV_ROOT.to_vec(),
        Place::WellKnown => [nextcloud::WELL_KNOWN_BASE, head.target()].concat(),
        Place::Usual | Place::Light | Place::Pulse | Place::Hidden | Place::ExApp => return None,
    };
    Some(LocalKind::Redirect { status: 301, location })
}

fn to_https(head: &RequestHead<'_>) -> LocalKind {
    let host = head.host().unwrap_or_default();
    let name = crate::proto::http1::authority::Authority::parse(host).map_or(host, |authority| authority.host);
    let location = [b"https://", name, head.target()].concat();
    LocalKind::Redirect { status: 308, location }
}

fn local(client: IpAddr, head: &RequestHead<'_>, may_keep: bool, kind: LocalKind) -> Local {
    Local { kind, text: short_text(head), client, keeps: keeps(head, may_keep) }
}

fn refused(refusal: Refusal, client: IpAddr, head: &RequestHead<'_>, may_keep: bool) -> Local {
    let (kind, keeps) = match refusal {
        Refusal::Banned(left) => (LocalKind::Banned(left), false),
        Refusal::TooFast => (LocalKind::TooFast, keeps(head, may_keep)),
    };
    Local { kind, text: short_text(head), client, keeps }
}

fn keeps(head: &RequestHead<'_>, may_keep: bool) -> bool {
    may_keep && head.body().is_empty() && !head.wants_close() && head.version() == crate::proto::http1::Version::Http11
}

pub fn short_text(head: &RequestHead<'_>) -> RequestText {
    let accept = head.value(Name::Accept).unwrap_or_default();
    RequestText::short(head.method_bytes(), head.target(), head.host().unwrap_or_default(), accept)
}

pub fn text(head: &RequestHead<'_>) -> RequestText {
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
    /// 502, 503 or 504 without a word on when or why.
    pub is_unavailable: bool,
}

/// Fields that the responses of a pool get.
#[derive(Clone, Copy, Default)]
pub struct Dress<'a> {
    pub hsts: Option<&'a [u8]>,
    pub is_protected: bool,
}

impl<'a> Dress<'a> {
    pub fn of(settings: &'a settings::Settings, pool: &settings::Pool, connection: &Connection) -> Dress<'a> {
        if pool.kind != PoolKind::Nextcloud {
            return Dress::default();
        }
        let is_https = connection.origin.scheme == headers::Scheme::Https;
        Dress { hsts: settings.hsts.as_deref().filter(|_| is_https).map(str::as_bytes), is_protected: true }
    }
}

/// Looks for a response head in `bytes`.
pub fn response(
    core: &Core,
    exchange: &mut Exchange,
    reader: &mut HeadReader,
    bytes: &[u8],
    dress: Dress<'_>,
) -> Result<Judged, Failure> {
    let mut fields = core.fields.borrow_mut();
    match reader.response(bytes, &mut fields, &Limits::default()) {
        Ok(Parsed::NeedMore) => Ok(Judged::NeedMore),
        Ok(Parsed::Done { head, consumed }) => judge(core, exchange, &head, consumed, dress),
        Err(ResponseError::ObsFold) => {
            let mut straight = bytes.to_vec();
            unfold(&mut straight);
            match HeadReader::new().response(&straight, &mut fields, &Limits::default()) {
                Ok(Parsed::NeedMore) => Ok(Judged::NeedMore),
                Ok(Parsed::Done { head, consumed }) => judge(core, exchange, &head, consumed, dress),
                Err(error) => Err(Failure::Response(error)),
            }
        }
        Err(error) => Err(Failure::Response(error)),
    }
}

fn judge(
    core: &Core,
    exchange: &mut Exchange,
    head: &ResponseHead<'_>,
    consumed: usize,
    dress: Dress<'_>,
) -> Result<Judged, Failure> {
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
            headers::write_response(
                &mut out,
                head,
                &Backward { reply, date: &date, hsts: dress.hsts, is_protected: dress.is_protected },
            );
            let status = head.status();
            let is_server_error = status >= 500 && head.value(Name::MaintenanceMode).is_none();
            let is_unavailable =
                is_server_error && matches!(status, 502..=504) && head.value(Name::RetryAfter).is_none();
            Ok(Judged::Final(Final { status, reply, out, consumed, is_server_error, is_unavailable }))
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

pub fn limits(limits: &settings::Limits) -> Limits {
    Limits {
        head_bytes_max: limits.head_bytes_max,
        line_bytes_max: limits.header_line_bytes_max,
        fields_max: limits.header_count_max,
        target_bytes_max: limits.target_bytes_max,
    }
}
