//! Any text as nginx.conf, which includes itself and whatever it names: an error, or TOML that parses, never a panic.
//!
//! Seeds: `cargo +nightly fuzz run nginx_conf fuzz/corpus/nginx_conf tests/import/nginx`
#![no_main]

#[path = "../import.rs"]
mod import;

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Ok(result) = lyre::import::nginx::import(Path::new("nginx.conf"), &import::Input(text)) {
        import::check(&result);
    }
});
