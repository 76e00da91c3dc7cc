//! Sockets, TLS and timers on a glommio executor. Knows nothing of HTTP or policy.
//!
//! Reading order: [`clock`] (the core's time and timer wheel), [`pool`] (its reusable memory), [`shelves`] (a vector for
//! many connections), [`driver`] (ring or epoll), [`stream`] (plain or TLS bytes as one type), [`tls`], [`h2`] (streams as
//! the frame layer wants them), [`dns`] (one question), [`target`] (where a server is), `upstream` (connect, idle pool),
//! [`relay`], [`splice`] (bodies by the kernel alone), [`spool`] (bytes on disk).

pub mod clock;
pub mod dns;
pub mod driver;
pub mod h2;
pub mod pool;
pub mod relay;
pub mod shelves;
pub mod splice;
pub mod spool;
pub mod stream;
pub mod target;
pub mod tls;
pub mod upstream;

#[cfg(test)]
mod testing;
