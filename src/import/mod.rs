//! Configurations of other programs, read and written anew as lyre.toml. Pure: text in, text out; `cli` opens the files.

pub mod keepalived;
