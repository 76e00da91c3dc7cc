//! What a check says to a MariaDB server and understands of its answers: greeting, login, and the rows of a SHOW.
//!
//! A check logs in, because a server that only accepts connections proves nothing, and because connections that end
//! before their login count against the edge's address (`max_connect_errors`).

pub mod conversation;
mod cursor;
mod login;
mod packet;
mod rows;

use std::fmt;

/// An account without any grant is enough.
pub struct Login<'a> {
    pub user: &'a str,
    pub password: &'a [u8],
    /// Not in clear: what follows the greeting goes over TLS.
    pub tls: bool,
}

/// Why a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The server said no, in its own words.
    Refused {
        code: u16,
        message: String,
    },
    /// Larger than any answer to what was asked.
    TooLarge,
    Malformed(&'static str),
    /// The account wants a way to log in that is not spoken here.
    Plugin(String),
    /// TLS is wanted, and the server has none.
    NoTls,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Refused { code, message } => {
                write!(f, "error {code}: {message}")?;
                match code {
                    1045 => f.write_str(
                        " (user or password of the check are not the account's, or the server wants TLS: set check.tls)",
                    ),
                    1129 => f.write_str(" (FLUSH HOSTS on the server lifts this)"),
                    1130 => f.write_str(" (the account must be allowed from this node's address)"),
                    3159 => f.write_str(" (the server wants TLS: set check.tls)"),
                    _ => Ok(()),
                }
            }
            Fault::TooLarge => f.write_str("an answer longer than any expected"),
            Fault::Malformed(what) => write!(f, "no MariaDB: {what}"),
            Fault::Plugin(name) => {
                write!(f, "the account logs in by {name:?}: create it with mysql_native_password")
            }
            Fault::NoTls => {
                f.write_str("it offers no TLS, and check.tls wants it (ssl_cert and ssl_key of the server)")
            }
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests;
