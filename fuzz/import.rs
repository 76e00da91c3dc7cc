//! What both importers of web proxies are given, and what must hold of their answer.

use lyre::import::{Files, Import};
use std::io;
use std::path::Path;

/// One text, whatever is read; and the same names in every directory.
pub struct Input<'a>(pub &'a str);

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

pub fn check(import: &Import) {
    assert!(import.toml.parse::<toml::Table>().is_ok(), "{}", import.toml);
    for finding in &import.findings {
        assert!(!finding.to_string().contains(|c: char| c.is_control()), "{finding:?}");
    }
}
