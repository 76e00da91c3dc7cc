//! What operators, and the parent for an earlier worker, say about bans.

use crate::pair::wire::{self, Term};
use crate::policy::ban::{Network, Reason};
use crate::serve::exapps;
use crate::serve::parent::{BanChange, Banned};
use crate::serve::report;
use crate::serve::shared::Shared;
use std::time::Duration;

/// The bans, or what became of `change`; the error says why nothing did.
pub fn bans(shared: &Shared, change: Option<BanChange>) -> Result<String, String> {
    let snapshot = shared.snapshot();
    match change {
        None => Ok(report::bans(shared).to_string()),
        Some(BanChange::Ban { address, length_ms }) => {
            let length = length_ms.map(Duration::from_millis);
            let network = Network::of(address);
            if !shared.abuse.ban(&snapshot.settings, address, length, Reason::Order) {
                return Err(format!("{address} is never banned: it is exempt, a trusted proxy, a server or this host"));
            }
            let how_long =
                length.map_or("until it is lifted".to_owned(), |length| format!("for {} s", length.as_secs()));
            tracing::warn!(client = %network, reason = Reason::Order.as_str(), "client banned {how_long}");
            Ok(format!("{network} is banned {how_long}"))
        }
        Some(BanChange::Unban { address }) => {
            let network = Network::of(address);
            let is_deaf = shared.pairing().is_some_and(|pairing| !pairing.is_connected());
            let beside = if is_deaf { "; the other node does not hear us, say it there too" } else { "" };
            let was_shut_out = shared.exapps.lock().gateway.failures.unban(network, exapps::memory::time());
            if !shared.abuse.unban(address) && !was_shut_out {
                return Err(format!("{network} is not banned{beside}"));
            }
            tracing::warn!(client = %network, "client let in again by order");
            Ok(format!("{network} may come in again{beside}"))
        }
    }
}

/// Who is exempt by now stays out of it.
pub fn restore(shared: &Shared, bans: &[Banned]) {
    let snapshot = shared.snapshot();
    for ban in bans {
        if ban.is_learnt {
            let term = ban.left_ms.map_or(Term::Open, Term::Ms);
            let said = wire::Ban { address: ban.address, term, is_order: ban.is_order };
            shared.abuse.learn(&snapshot.settings, &said);
            continue;
        }
        let reason = if ban.is_order { Reason::Order } else { Reason::FailedLogins };
        shared.abuse.ban(&snapshot.settings, ban.address, ban.left_ms.map(Duration::from_millis), reason);
    }
}
