//! A named pipe that somebody may read. Nothing ever waits for him.

use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub struct Fifo {
    path: PathBuf,
    /// While there is a reader, or was one a moment ago.
    open: Option<File>,
    lost: u64,
}

impl Fifo {
    /// Makes it, readable and writable for its owner only, if it is not there.
    pub fn open(path: &Path) -> Fifo {
        match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => tracing::warn!(target: "lyre::hooks", path = %path.display(), %error, "cannot make the FIFO"),
        }
        Fifo { path: path.to_owned(), open: None, lost: 0 }
    }

    /// Lines that nobody read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A whole line or nothing: lines are shorter than what a pipe takes at once.
    pub fn write(&mut self, line: &str) {
        if self.try_write(line).is_err() {
            // The reader may be another one by now.
            self.open = None;
            if self.try_write(line).is_err() {
                self.open = None;
                self.lost += 1;
            }
        }
    }

    fn try_write(&mut self, line: &str) -> io::Result<()> {
        if self.open.is_none() {
            // Without a reader this fails at once (ENXIO). Nobody may have put a file there to be filled.
            if !fs::symlink_metadata(&self.path)?.file_type().is_fifo() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let mut options = OpenOptions::new();
            self.open = Some(options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(&self.path)?);
        }
        self.open.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_reader_gets_whole_lines_and_his_absence_costs_nothing_but_lines() {
        let path = std::env::temp_dir().join(format!("lyre-fifo-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut fifo = Fifo::open(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fifo.write("nobody\n");
        assert_eq!(fifo.lost(), 1);
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        fifo.write("one\n");
        fifo.write("two\n");
        let mut buffer = [0; 64];
        let length = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"one\ntwo\n");
        // One that is there and does not read: the pipe fills, then lines are lost.
        let line = "x".repeat(1000) + "\n";
        (0..100).for_each(|_| fifo.write(&line));
        assert!(fifo.lost() > 10, "{}", fifo.lost());
        drop(reader);
        fifo.write("nobody again\n");
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        fifo.write("back\n");
        let length = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"back\n");
        fs::remove_file(&path).unwrap();
    }
}
