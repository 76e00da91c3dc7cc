//! A named pipe that somebody may read. Nothing ever waits for him.

use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

pub struct Fifo {
    path: PathBuf,
    /// While there is a reader, or was one a moment ago.
    open: Option<File>,
    /// Open on both ends, for a reader who is sure to come: lines wait for him in the pipe.
    is_held: bool,
    lost: u64,
}

impl Fifo {
    /// Makes it, readable and writable for its owner only, if it is not there.
    pub fn open(path: &Path) -> Fifo {
        match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => tracing::warn!(target: "lyre::hooks", path = %path.display(), %error, "cannot make the FIFO"),
        }
        Fifo { path: path.to_owned(), open: None, is_held: false, lost: 0 }
    }

    /// For a reader of our own, who runs as `reader` if that is not this process' own account: then it becomes his, if it
    /// was ours.
    pub fn held(path: &Path, reader: Option<(u32, u32)>) -> Fifo {
        let mut fifo = Fifo { is_held: true, ..Fifo::open(path) };
        if let Err(error) = fifo.hold(reader) {
            tracing::warn!(target: "lyre::hooks", path = %path.display(), %error, "cannot open the FIFO");
        }
        fifo
    }

    fn hold(&mut self, reader: Option<(u32, u32)>) -> io::Result<()> {
        self.reopen()?;
        let Some((file, (uid, gid))) = self.open.as_ref().zip(reader) else { return Ok(()) };
        if file.metadata()?.uid() == nix::unistd::geteuid().as_raw() {
            fchown(file, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Lines that nobody read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// A whole line or nothing: lines are shorter than what a pipe takes at once.
    pub fn write(&mut self, line: &str) {
        if self.try_write(line).is_ok() {
            return;
        }
        // The reader may be another one by now. What is held is only full, and closing it would lose what it has.
        if !self.is_held {
            self.open = None;
            if self.try_write(line).is_ok() {
                return;
            }
            self.open = None;
        }
        self.lost += 1;
    }

    fn try_write(&mut self, line: &str) -> io::Result<()> {
        if self.open.is_none() {
            self.reopen()?;
        }
        self.open.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()))
    }

    fn reopen(&mut self) -> io::Result<()> {
        // Nobody may have put a file there to be filled.
        if !fs::symlink_metadata(&self.path)?.file_type().is_fifo() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut options = OpenOptions::new();
        // Without a reader this fails at once (ENXIO), unless we are one ourselves.
        options.read(self.is_held).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
        self.open = Some(options.open(&self.path)?);
        Ok(())
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

    #[test]
    fn lines_wait_for_a_reader_who_is_sure_to_come_until_the_pipe_is_full() {
        let path = std::env::temp_dir().join(format!("lyre-fifo-held-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut fifo = Fifo::held(&path, None);
        fifo.write("early\n");
        assert_eq!(fifo.lost(), 0);
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let mut buffer = [0; 64];
        let length = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"early\n");
        drop(reader);
        let line = "x".repeat(1000) + "\n";
        (0..100).for_each(|_| fifo.write(&line));
        assert!(fifo.lost() > 10, "{}", fifo.lost());
        // The next reader has all that was there, and then, when nobody writes any more, the end.
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let kept = 100 - usize::try_from(fifo.lost()).unwrap();
        drop(fifo);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.lines().count(), kept);
        fs::remove_file(&path).unwrap();
    }
}
