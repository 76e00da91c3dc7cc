//! The gateway to ExApps: asks, waits and forwards what `policy::exapp` decides.
//!
//! ```text
//!  head --> step --(asks)--> lookup: one question to Nextcloud for all who wait (memory) --> step again
//!            |--> forward ---> the request walk, to the ExApp (upstreams)
//!            |--> control ---> answered here, or by the container engine (engine)
//!            '--> refused ---> a short text, or nothing at all
//! ```
//!
//! The memory is one for all cores, behind a lock that is held for a decision; connections are each core's own.

mod control;
mod engine;
mod forward;
mod lookup;
pub mod memory;
mod step;
pub mod upstreams;

use crate::net::pool;
use crate::net::stream::Bytes;
use crate::policy::exapp::decide::Known;
use crate::policy::exapp::reply::Reply;
use crate::proto::http1::Method;
use crate::serve::connection::Next;
use crate::serve::core::View;
use crate::serve::downstream::Downstream;
use crate::serve::exchange::Finished;
use crate::serve::plan::Gated;
use crate::serve::record::Record;
use crate::serve::reply::{self, About, Own};
use crate::serve::request::{Fault, send_on};
use step::{Shape, Step};

/// Serves a request below `/exapps/`.
pub async fn serve<D: Downstream>(
    down: &D,
    view: &View,
    gated: Gated,
    rest: Option<Bytes>,
    record: &mut Record,
) -> Result<Finished, Fault> {
    let connection = down.connection();
    let core = &connection.core;
    record.client = gated.client;
    let mut known = Known::default();
    loop {
        let stepped = step::step(connection, view, &gated, &mut known, &record.id)?;
        if let Some(flight) = stepped.revalidate {
            drop(lookup::start_record(core.clone(), flight));
        }
        match stepped.step {
            Step::Ask(question) => lookup::ask(core, question, &mut known).await,
            Step::Forward(sent) => {
                let pool = core.exapps.pool(core, &sent.host, sent.port);
                upstreams::resolved(&pool).await;
                let finished = send_on(down, view, &pool, sent.forward, rest, record).await;
                step::answered(connection, view, &sent.statuses, gated.client, record.status);
                return finished;
            }
            Step::Control(target, engine_port, mut shape) => {
                record.request = std::mem::take(&mut shape.text);
                let reply = match (engine_port, &view.snapshot.settings.exapps) {
                    (Some(port), Some(exapps)) => {
                        let call = (shape.method, port, target.as_slice());
                        match engine::raw::forward(connection, view, exapps, &gated, call).await {
                            Ok((pool, forward)) => return send_on(down, view, &pool, forward, rest, record).await,
                            Err(reply) => reply,
                        }
                    }
                    _ => control::answer(down, view, &target, &shape, rest).await?,
                };
                return respond(down, view, &reply, &shape, record).await;
            }
            Step::Refuse(refused, mut shape) => {
                record.request = std::mem::take(&mut shape.text);
                record.end = Some(Own::ExApp.into());
                let Some((status, text)) = refused.answer.response() else {
                    return Ok(Finished::Next(Next::Abort));
                };
                let reply = Reply { status, content_type: "text/plain", body: text.into() };
                return respond(down, view, &reply, &shape, record).await;
            }
        }
    }
}

/// The connection ends with it: these are rare, and a body may still be on its way.
async fn respond<D: Downstream>(
    down: &D,
    view: &View,
    reply: &Reply,
    shape: &Shape,
    record: &mut Record,
) -> Result<Finished, Fault> {
    let date = down.connection().core.date.bytes();
    let about = About { request_id: "", date: &date, head_only: shape.method == Method::Head, closes: true };
    let mut out = pool::vector();
    record.status = reply.status;
    record.bytes_out = reply::plain(&mut out, reply.status, reply.content_type, &reply.body, &about);
    let head_bytes = out.len() - record.bytes_out as usize;
    down.timer().arm(view.snapshot.settings.timeouts.client_idle);
    match down.timer().bound(down.send_head(out, head_bytes, true)).await {
        Ok((Ok(()), out)) => pool::recycle(out),
        Ok((Err(_), _)) => return Err(Own::ClientGone.into()),
        Err(_) => return Err(Own::ClientStuck.into()),
    }
    Ok(Finished::Next(Next::Linger))
}
