//! A body without a length, gathered before any server hears of its request: PHP would take it for an empty one. Small
//! ones stay in memory, the rest goes to the spool.

use crate::net::clock::Timer;
use crate::net::pool;
use crate::net::spool::{Draft, SpoolError};
use crate::proto::http1::emit;
use crate::proto::http1::exchange::Exchange;
use crate::serve::core::{Core, View};
use crate::serve::downstream::Downstream;
use crate::serve::reply::{Failure, Own};
use crate::serve::upload::{Upload, allowance};

/// Bodies up to this size never see the disk.
const SMALL_BYTES_MAX: usize = 16 * 1024;

/// A piece on its way to the disk.
const PIECE_BYTES: usize = 48 * 1024;

/// Takes all of the body off the client and puts its length into `head`, which ends without a framing field.
pub async fn gather<D: Downstream>(
    client: &D,
    view: &View,
    mut upload: Upload,
    head: &mut Vec<u8>,
    state: &mut Exchange,
) -> Result<Upload, Failure> {
    let core = &client.connection().core;
    let idle_max = view.snapshot.settings.timeouts.client_idle;
    let timer = Timer::new();
    if state.awaits_continue() {
        state.continued();
        timer.arm(idle_max);
        match timer.bound(client.send_interim(emit::CONTINUE.to_vec())).await {
            Ok((Ok(()), _)) => {}
            _ => return Err(Own::ClientGone.into()),
        }
    }
    let mut allowance = allowance(&view.snapshot.settings.timeouts);
    upload.undress(view.snapshot.settings.spool.body_bytes_max);
    let mut piece = pool::vector();
    let mut draft: Option<Draft> = None;
    while !upload.is_done() {
        upload.take(client, &timer, &mut allowance, &mut piece).await?;
        let is_large = piece.len() >= if draft.is_some() { PIECE_BYTES } else { SMALL_BYTES_MAX };
        if is_large && !upload.is_done() {
            write(core, view, &mut draft, &mut piece).await?;
        }
    }
    if draft.is_some() && !piece.is_empty() {
        write(core, view, &mut draft, &mut piece).await?;
    }
    let spooled = match draft {
        Some(draft) => Some(draft.finish().await.map_err(|error| broken(core, error))?),
        None => None,
    };
    // Behind the last field, before the empty line.
    head.truncate(head.len().saturating_sub(2));
    emit::content_length(head, upload.bytes);
    emit::end(head);
    if spooled.is_none() {
        head.extend_from_slice(&piece);
    }
    pool::recycle(piece);
    upload.measured(spooled);
    Ok(upload)
}

async fn write(core: &Core, view: &View, draft: &mut Option<Draft>, piece: &mut Vec<u8>) -> Result<(), Failure> {
    let bytes = std::mem::replace(piece, pool::vector());
    let result = async {
        let draft = match draft {
            Some(draft) => draft,
            None => {
                let spool = core.shared.spool.as_ref().ok_or(SpoolError::Full)?;
                draft.insert(spool.draft(view.snapshot.settings.spool.bytes_max).await?)
            }
        };
        draft.write(bytes).await
    };
    if let Some(free) = result.await.map_err(|error| broken(core, error))? {
        pool::recycle(free);
    }
    Ok(())
}

fn broken(core: &Core, error: SpoolError) -> Failure {
    match error {
        SpoolError::Full => Own::SpoolFull.into(),
        SpoolError::Broken(error) => {
            core.warn_seldom(|others| {
                tracing::error!(%error, others, "the spool cannot be used: see [spool] directory");
            });
            Own::SpoolBroken.into()
        }
    }
}
