//! The binary that is measured: the one that is shipped.

use std::io;
use std::path::{Path, PathBuf};

/// `LYRE_BIN`, or what `make dist` built.
pub(crate) fn lyre() -> io::Result<PathBuf> {
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/dist/lyre");
    let path = std::env::var_os("LYRE_BIN").map_or_else(built, PathBuf::from);
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{} is missing: make dist", path.display()));
    if path.exists() { Ok(path) } else { Err(missing()) }
}
