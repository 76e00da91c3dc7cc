//! Pure decisions; time and randomness are arguments. Siblings do not call each other.
//!
//! [`route`] which pool, [`balance`] which of its servers, [`health`] which of them may be asked, [`retry`] what after a
//! failure, [`headers`] what each side gets to read, [`login`] which logins failed, [`ban`] who failed too often,
//! [`rate`] who is too fast, [`nextcloud`] which paths are special, [`document`] where an office document lives,
//! [`admission`] how fast WebSockets may come, [`tunnel`] what the end of one means, [`pace`] how slowly bodies may
//! come and go, [`resolve`] which addresses a name has; [`service`] which server a TCP connection goes to.
//! [`exapp`] is the gateway to ExApps, a room of its own; it takes the networks of `ban` as whom to count.

pub mod admission;
pub mod balance;
pub mod ban;
pub mod document;
pub mod exapp;
pub mod headers;
pub mod health;
pub mod login;
pub mod nextcloud;
pub mod pace;
pub mod rate;
pub mod resolve;
pub mod retry;
pub mod route;
pub mod service;
pub mod tunnel;

#[cfg(test)]
mod tests;
