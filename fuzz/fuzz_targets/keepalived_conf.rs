//! Any text as keepalived.conf that includes itself and one other: an error, or TOML that parses, never a panic.
//!
//! Seeds: `cargo +nightly fuzz run keepalived_conf fuzz/corpus/keepalived_conf tests/import/keepalived`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::import::keepalived::{self, Files};
use std::io;
use std::path::Path;

/// The input is the file and everything it includes, until the depth limit or the circle ends it.
struct Input<'a>(&'a str);

impl Files for Input<'_> {
    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["a.conf".to_owned(), "b.conf".to_owned()])
    }

    fn environment(&self, name: &str) -> Option<String> {
        name.starts_with('A').then(|| "value".to_owned())
    }
}

fuzz_target!(|text: &str| {
    let Ok(import) = keepalived::import(Path::new("keepalived.conf"), "edge-a", &Input(text)) else { return };
    assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
    for finding in &import.findings {
        assert!(!finding.to_string().contains(|c: char| c.is_control()), "{finding:?}");
    }
});
