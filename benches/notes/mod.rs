//! Tables are made by the run, what they mean is written by people: a new run keeps what stands below the marker.

use std::io;
use std::path::Path;

/// Its own line. Everything from it to the end of the file belongs to people.
const MARKER: &str = "<!-- Written by hand from here on: the next run keeps it. -->";

/// Writes `tables` to `path`, above the notes that are there.
pub(crate) fn save(path: &Path, tables: &str) -> io::Result<()> {
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, with_notes(tables, &old))
}

fn with_notes(tables: &str, old: &str) -> String {
    let notes = old.find(MARKER).and_then(|at| old.get(at + MARKER.len()..)).unwrap_or_default();
    format!("{}\n\n{MARKER}\n{}", tables.trim_end(), notes.strip_prefix('\n').unwrap_or(notes))
}
