//! Calls of AppAPI that go to the container engine as they are: is it there, pull this image (its progress is streamed),
//! show this container, show its log. `policy::exapp::control` says which may pass.

use super::{CONNECT_TIMEOUT, Engine};
use crate::config::settings::ExApps;
use crate::net::clock::Timer;
use crate::policy::exapp::control;
use crate::policy::exapp::reply::Reply;
use crate::proto::http1::exchange::Framing;
use crate::proto::http1::{HeadReader, Method, Parsed, RequestHead, emit};
use crate::serve::connection::Connection;
use crate::serve::core::{PoolView, View};
use crate::serve::exapps::upstreams;
use crate::serve::plan::{self, Gated};
use std::sync::Arc;

/// What an engine reads of a request. Nothing else reaches it: AppAPI's key and its Basic credentials end here.
const PASSED: [&[u8]; 5] = [b"accept", b"content-type", b"user-agent", b"x-registry-auth", b"x-registry-config"];

/// The engine as a server, and the request as it gets it; or the answer.
pub(in crate::serve::exapps) async fn forward(
    connection: &Connection,
    view: &View,
    exapps: &ExApps,
    gated: &Gated,
    (method, port, target): (Method, u16, &[u8]),
) -> Result<(PoolView, plan::Forward), Reply> {
    let path = control::raw_call(method, target).ok_or_else(|| Reply::text(403, "403 Forbidden"))?;
    let core = &connection.core;
    let engine = Engine { core, docker: exapps.docker.as_ref(), port };
    let timer = Timer::new();
    timer.arm(CONNECT_TIMEOUT);
    let versions = timer.bound(engine.versions()).await.ok().flatten();
    let (Some(versions), Some(target)) = (versions, engine.target()) else {
        return Err(Reply::text(503, format!("Could not connect to Docker Engine on port {port}")));
    };
    let mut fields = core.fields.borrow_mut();
    let parsed = HeadReader::new().request(&gated.head, &mut fields, &plan::limits(&view.snapshot.settings.limits));
    // It was read before.
    let Ok(Parsed::Done { head, .. }) = parsed else { return Err(Reply::text(400, "400: Bad Request")) };
    let pool = upstreams::engine(port, target, core.shared.counters.len());
    Ok((PoolView::of(Arc::new(pool)), sent(&head, gated, &versions.path(&path))))
}

fn sent(head: &RequestHead<'_>, gated: &Gated, path: &str) -> plan::Forward {
    let mut text = plan::text(head);
    let query = head.target().iter().position(|byte| *byte == b'?').and_then(|at| head.target().get(at..));
    let query = query.unwrap_or_default();
    let out = &mut text.head;
    emit::request_line(out, head.method_bytes(), path.as_bytes(), query);
    emit::field(out, b"Host", b"docker");
    for line in head.fields() {
        let name = line.name_bytes();
        if !line.is_connection_option() && PASSED.iter().any(|passed| passed.eq_ignore_ascii_case(name)) {
            emit::field(out, name, line.value());
        }
    }
    if head.expects_continue() {
        emit::field(out, b"Expect", b"100-continue");
    }
    match Framing::of_request(head.body()) {
        Framing::Length(length) | Framing::Declared(length) => emit::content_length(out, length),
        Framing::Chunked => emit::chunked(out),
        Framing::None | Framing::UntilClose => {}
    }
    emit::end(out);
    text.target_bytes = path.len() + query.len();
    plan::Forward::new(head, gated, text)
}
