//! lyre.toml: what the operator typed (`file`), what the program relies on (`settings`), and what is wrong (`error`).

pub mod bundle;
pub mod error;
pub mod file;
pub mod settings;
