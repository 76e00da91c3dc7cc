//! A send to a client that may be slow, but not for ever.
//!
//! Most sends are over at once. While one is not, the client is looked at now and then: what it takes meanwhile is
//! progress, however long the piece as a whole takes. The first look costs it no time, for nothing is known before.

use crate::net::clock::{Now, now};
use crate::policy::pace::{Download, Late};
use crate::serve::downstream::Downstream;
use crate::serve::reply::Own;
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// See [`deliver`]. Written out, because an async function would hold the send twice.
    pub struct Delivery<'a, D, F> {
        client: &'a D,
        pace: &'a mut Download,
        bytes: u64,
        since: Now,
        // What the client had taken at the last look.
        taken: Option<u64>,
        #[pin]
        sending: F,
    }
}

/// Runs `sending`, which sends `bytes`, to its end, or until the client was waited for long enough. Uses its timer.
pub fn deliver<'a, D: Downstream, F: Future>(
    client: &'a D,
    pace: &'a mut Download,
    bytes: usize,
    sending: F,
) -> Delivery<'a, D, F> {
    client.timer().arm(pace.look());
    Delivery { client, pace, bytes: bytes as u64, since: now(), taken: None, sending }
}

impl<D: Downstream, F: Future> Future for Delivery<'_, D, F> {
    type Output = Result<F::Output, Own>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let delivery = self.project();
        if let Poll::Ready(output) = delivery.sending.poll(cx) {
            let bytes = match *delivery.taken {
                None => *delivery.bytes,
                Some(before) => delivery.client.taken().unwrap_or(before).saturating_sub(before),
            };
            // Sent is sent: whether it was too slow shows when it keeps us waiting again.
            let _ = delivery.pace.taken(now().since(*delivery.since), bytes);
            return Poll::Ready(Ok(output));
        }
        loop {
            ready!(delivery.client.timer().poll_elapsed(cx));
            let taken = delivery.client.taken().unwrap_or(0);
            if let Some(before) = *delivery.taken {
                let waited = now().since(*delivery.since);
                if let Err(late) = delivery.pace.taken(waited, taken.saturating_sub(before)) {
                    return Poll::Ready(Err(match late {
                        Late::Silent => Own::ClientStuck,
                        Late::Slow => Own::ClientSlow,
                    }));
                }
            }
            *delivery.taken = Some(taken);
            *delivery.since = now();
            delivery.client.timer().arm(delivery.pace.look());
        }
    }
}
