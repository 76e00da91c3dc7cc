//! lyre.toml as typed.
