//! Which server a connection of a TCP service goes to: one for all ([`writer`]) or one of several ([`spread`]); and what
//! a database node says of itself ([`galera`]).

pub mod galera;
pub mod spread;
pub mod writer;

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Not asked yet.
    Unknown,
    Good,
    /// Feeds another node a copy of its data: usable, if nobody better is.
    Donor,
    Bad,
}

/// Whether a server may be given connections, among `all` of its service.
pub fn is_usable(standing: Standing, all: &[Standing]) -> bool {
    match standing {
        Standing::Good => true,
        Standing::Donor => !all.contains(&Standing::Good),
        Standing::Unknown | Standing::Bad => false,
    }
}
