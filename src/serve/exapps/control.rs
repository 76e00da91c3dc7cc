//! AppAPI's calls to the gateway itself: is it there, which release, apps enabled and disabled, containers.

use super::engine;
use super::memory::time;
use super::step::Shape;
use crate::net::clock::Timer;
use crate::net::stream::Bytes;
use crate::policy::exapp::control::{self, BODY_BYTES_MAX, Endpoint};
use crate::policy::exapp::record::Record;
use crate::policy::exapp::reply::Reply;
use crate::proto::http1::emit;
use crate::serve::core::View;
use crate::serve::downstream::Downstream;
use crate::serve::reply::{Failure, Own};
use crate::serve::upload::{Upload, allowance};
use std::sync::Arc;

pub(super) async fn answer<D: Downstream>(
    down: &D,
    view: &View,
    target: &[u8],
    shape: &Shape,
    rest: Option<Bytes>,
) -> Result<Reply, Failure> {
    let memory = &down.connection().core.shared.exapps;
    Ok(match control::endpoint(shape.method, target) {
        Err(reply) => reply,
        Ok(Endpoint::Heartbeat) => control::heartbeat(),
        Ok(Endpoint::Info) => control::info(env!("CARGO_PKG_VERSION")),
        Ok(Endpoint::Docker(verb)) => {
            let exapps = view.snapshot.settings.exapps.as_ref().ok_or(Own::NoGateway)?;
            let body = body(down, view, shape, rest).await?;
            engine::command(&down.connection().core, exapps, verb, shape.engine_port.as_deref(), &body).await
        }
        Ok(Endpoint::Withdraw(id)) => match memory.lock().gateway.records.withdraw(&id, time()) {
            true => Reply::empty(),
            false => Reply::text(404, "404: Not Found"),
        },
        Ok(Endpoint::Push(id)) => match Record::parse(&body(down, view, shape, rest).await?) {
            Ok(record) => {
                memory.lock().gateway.records.push(&id, Arc::new(record), time());
                Reply::empty()
            }
            Err(error) => {
                tracing::warn!(app = id, %error, "AppAPI pushed something that is no record of an ExApp");
                control::bad_record()
            }
        },
    })
}

/// The whole body of the request.
async fn body<D: Downstream>(down: &D, view: &View, shape: &Shape, rest: Option<Bytes>) -> Result<Vec<u8>, Failure> {
    let timer = Timer::new();
    let mut allowance = allowance(&view.snapshot.settings.timeouts);
    let mut upload = Upload::new(shape.body, down.received(shape.body), rest, Some(BODY_BYTES_MAX as u64))?;
    upload.undress(BODY_BYTES_MAX as u64);
    if shape.expects_continue && !upload.has_begun() {
        timer.arm(view.snapshot.settings.timeouts.client_idle);
        match timer.bound(down.send_interim(emit::CONTINUE.to_vec())).await {
            Ok((Ok(()), _)) => {}
            _ => return Err(Own::ClientGone.into()),
        }
    }
    let mut body = Vec::new();
    while !upload.is_done() {
        upload.take(down, &timer, &mut allowance, &mut body).await?;
    }
    Ok(body)
}
