//! What reading a configuration needs from its host. A trait, so that tests and the fuzzer need no disk.

use std::io;
use std::path::Path;

pub trait Files {
    /// The whole text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The names in a directory, in any order.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// An environment variable, for `${_ENV NAME}`.
    fn environment(&self, name: &str) -> Option<String>;
}
