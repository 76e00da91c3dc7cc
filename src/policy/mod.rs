//! Pure decisions; time and randomness are arguments. Siblings do not call each other.
//!
//! [`route`] which pool, [`balance`] which of its servers, [`health`] which of them may be asked, [`retry`] what after a
//! failure, [`headers`] what each side gets to read; [`service`] which server a TCP connection goes to.

pub mod balance;
pub mod headers;
pub mod health;
pub mod retry;
pub mod route;
pub mod service;

#[cfg(test)]
mod tests;
