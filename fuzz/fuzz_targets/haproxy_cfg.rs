//! Any text as haproxy.cfg, of which every list and map holds the same: an error, or TOML that parses, never a panic.
//!
//! Seeds: `cargo +nightly fuzz run haproxy_cfg fuzz/corpus/haproxy_cfg tests/import/haproxy`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::import::{Files, haproxy};
use std::io;
use std::path::Path;

struct Input<'a>(&'a str);

impl Files for Input<'_> {
    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        match path.extension() {
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Ok(vec!["a.pem".to_owned(), "a.pem.key".to_owned()]),
        }
    }

    fn environment(&self, name: &str) -> Option<String> {
        name.starts_with('A').then(|| "value".to_owned())
    }
}

fuzz_target!(|text: &str| {
    let Ok(import) = haproxy::import(Path::new("haproxy.cfg"), &Input(text)) else { return };
    assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
    for finding in &import.findings {
        assert!(!finding.to_string().contains(|c: char| c.is_control()), "{finding:?}");
    }
});
