//! Any text as nginx.conf, which includes itself and whatever it names: an error, or TOML that parses, never a panic.
//!
//! Seeds: `cargo +nightly fuzz run nginx_conf fuzz/corpus/nginx_conf tests/import/nginx`
#![no_main]

use libfuzzer_sys::fuzz_target;
use lyre::import::{Files, nginx};
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
    let Ok(import) = nginx::import(Path::new("nginx.conf"), &Input(text)) else { return };
    assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
    for finding in &import.findings {
        assert!(!finding.to_string().contains(|c: char| c.is_control()), "{finding:?}");
    }
});
