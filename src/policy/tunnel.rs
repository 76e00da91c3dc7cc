//! What it means that one end of a tunnel is suddenly gone. Browsers close a WebSocket's connection without a goodbye of
//! TLS once the closing handshake is over; that breaks nothing, and must not look as if we had.

/// Whose end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Without a goodbye, but not in the middle of anything we know of: FIN without close_notify, a cancelled stream.
    Silent,
    /// Reset, or nothing more can be sent there.
    Broken,
}

/// What to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The tunnel is over in good order.
    Over,
    ClientLeft,
    ServerBroke,
}

/// `has_other_ended`: the opposite side had said its last word, and it was passed on.
pub fn meaning(side: Side, departure: Departure, has_other_ended: bool) -> Meaning {
    match (side, departure, has_other_ended) {
        (Side::Client | Side::Server, Departure::Silent, true) => Meaning::Over,
        (Side::Client, Departure::Silent | Departure::Broken, _) => Meaning::ClientLeft,
        (Side::Server, Departure::Silent | Departure::Broken, _) => Meaning::ServerBroke,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_may_go_silently_after_the_other_ended_and_is_named_otherwise() {
        use Departure::{Broken, Silent};
        for (side, departure, has_other_ended, expected) in [
            (Side::Client, Silent, true, Meaning::Over),
            (Side::Client, Silent, false, Meaning::ClientLeft),
            (Side::Client, Broken, true, Meaning::ClientLeft),
            (Side::Client, Broken, false, Meaning::ClientLeft),
            (Side::Server, Silent, true, Meaning::Over),
            (Side::Server, Silent, false, Meaning::ServerBroke),
            (Side::Server, Broken, true, Meaning::ServerBroke),
            (Side::Server, Broken, false, Meaning::ServerBroke),
        ] {
            let found = meaning(side, departure, has_other_ended);
            assert_eq!(found, expected, "{side:?} {departure:?} {has_other_ended}");
        }
    }
}
