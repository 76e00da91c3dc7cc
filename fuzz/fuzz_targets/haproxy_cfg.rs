//! Any text as haproxy.cfg, of which every list and map holds the same: an error, or TOML that parses, never a panic.
//!
//! Seeds: `cargo +nightly fuzz run haproxy_cfg fuzz/corpus/haproxy_cfg tests/import/haproxy`
#![no_main]

#[path = "../import.rs"]
mod import;

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Ok(result) = lyre::import::haproxy::import(Path::new("haproxy.cfg"), &import::Input(text)) {
        import::check(&result);
    }
});
