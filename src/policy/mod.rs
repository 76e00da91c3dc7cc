//! Pure decisions; time and randomness are arguments. Siblings do not call each other.
//!
//! [`route`] which pool, [`balance`] which of its servers, [`health`] which of them may be asked, [`retry`] what after a
//! failure, [`headers`] what each side gets to read, [`nextcloud`] which paths are special, [`document`] where an office
//! document lives, [`admission`] how fast WebSockets may come.

pub mod admission;
pub mod balance;
pub mod document;
pub mod headers;
pub mod health;
pub mod nextcloud;
pub mod retry;
pub mod route;

#[cfg(test)]
mod tests;
