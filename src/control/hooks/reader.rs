//! The operator's program that reads a FIFO: started with us, started again when it ends by itself, ended with us.
//!
//! keepalived starts it once and asks it to end before the last lines are written. Here it gets those first, then the end
//! of the FIFO, and is asked only if that is not enough.

use crate::config::settings::track::Command;
use crate::control::backoff::Backoff;
use crate::control::hooks::runner::Counters;
use crate::control::script::Script;
use crate::control::spawn::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a reader may take over the lines it still has, once nobody writes to its FIFO any more.
const READ_ON: Duration = Duration::from_secs(2);
/// And once it was asked to end.
const END: Duration = Duration::from_secs(3);

/// Whoever drops it waits for its end, and has released it and closed the FIFO before, in this order.
pub struct Reader {
    task: Task,
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What makes it the same one after a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub command: Command,
    pub fifo: PathBuf,
    pub user: Option<String>,
}

impl Reader {
    pub fn start(task: Task, counters: Arc<Counters>) -> io::Result<Reader> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let keeper = Keeper { task: task.clone(), bell: Arc::clone(&bell), counters };
        let thread = std::thread::Builder::new().name("fifo-reader".to_owned()).spawn(move || keeper.keep())?;
        Ok(Reader { task, bell, thread: Some(thread) })
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    /// It need not be started again, and has [`READ_ON`] and [`END`]. Does not wait. Before the FIFO is closed: afterwards
    /// one that ended in between counts as failed.
    pub fn release(&self) {
        let _ = self.bell.write(1);
    }

    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.release();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    task: Task,
    bell: Arc<EventFd>,
    counters: Arc<Counters>,
}

impl Keeper {
    fn keep(&self) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            self.counters.runs.fetch_add(1, Ordering::Relaxed);
            let why = match self.start() {
                Err(error) => error,
                Ok(script) => match self.ended_by_itself(&script) {
                    Some(exit) => format!("ended by itself: {exit}"),
                    None => return finish(&script),
                },
            };
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            let pause = backoff.after(started.elapsed());
            let (program, fifo) = (self.task.command.program.display(), self.task.fifo.display());
            tracing::warn!(target: "lyre::hooks", %program, %fifo, again_in = ?pause, "the reader of a FIFO: {why}");
            if wait([self.bell.as_fd()], pause) {
                return;
            }
        }
    }

    fn start(&self) -> Result<Script, String> {
        let path = path_argument(&self.task.fifo);
        Script::start(&self.task.command, &[path], self.task.user.as_deref()).map_err(|error| error.to_string())
    }

    /// `None` if it was released first.
    fn ended_by_itself(&self, script: &Script) -> Option<Exit> {
        loop {
            wait([script.pidfd(), self.bell.as_fd()], Duration::MAX);
            if wait([self.bell.as_fd()], Duration::ZERO) {
                return None;
            }
            if let Some(exit) = script.try_wait() {
                return Some(exit);
            }
        }
    }
}

/// Its FIFO is closed, or is about to be.
fn finish(script: &Script) {
    if wait([script.pidfd()], READ_ON) && script.try_wait().is_some() {
        return;
    }
    script.terminate();
    wait([script.pidfd()], END);
    script.kill();
    wait([script.pidfd()], END);
    let _ = script.try_wait();
}

fn path_argument(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether one of them became readable within `time`.
fn wait<const N: usize>(fds: [BorrowedFd; N], time: Duration) -> bool {
    let started = Instant::now();
    loop {
        let left = time.saturating_sub(started.elapsed());
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = if time == Duration::MAX {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        };
        match poll(&mut fds, timeout) {
            Ok(0) if time != Duration::MAX && started.elapsed() >= time => return false,
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return true,
            // Nothing that could be waited for: never spin.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(100));
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::hooks::fifo::Fifo;
    use crate::control::script::identity;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A folder that every account may use.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("lyre-reader-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
            Folder(path)
        }

        /// A reader that runs this shell text, with the FIFO as `$0` and the folder as `$D`.
        fn reader(&self, text: &str) -> (Fifo, Reader, Arc<Counters>) {
            let text = format!("D={}; {text}", self.0.display());
            let command = Command { program: "/bin/sh".into(), arguments: vec!["-c".to_owned(), text] };
            let (fifo, counters) = (self.0.join("pipe"), Arc::new(Counters::default()));
            let open = Fifo::held(&fifo, identity(None));
            let task = Task { command, fifo, user: None };
            (open, Reader::start(task, Arc::clone(&counters)).unwrap(), counters)
        }

        fn log(&self) -> String {
            fs::read_to_string(self.0.join("log")).unwrap_or_default()
        }

        #[track_caller]
        fn until(&self, holds: impl Fn(&str) -> bool) {
            let started = Instant::now();
            while !holds(&self.log()) {
                assert!(started.elapsed() < Duration::from_secs(40), "{}", self.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_has_every_line_is_there_again_when_it_ends_and_ends_with_its_fifo() {
        let folder = Folder::new("lines");
        let text = "while read -r line; do echo \"$line\" >> $D/log; [ \"$line\" != fail ] || exit 3; done < \"$0\"; \
                    echo end >> $D/log";
        let (mut fifo, reader, counters) = folder.reader(text);
        ["one\n", "fail\n", "two\n"].iter().for_each(|line| fifo.write(line));
        folder.until(|log| log.contains("two"));
        fifo.write("last\n");
        reader.release();
        drop(fifo);
        drop(reader);
        assert_eq!(folder.log(), "one\nfail\ntwo\nlast\nend\n");
        let (runs, failures) = (counters.runs.load(Ordering::Relaxed), counters.failures.load(Ordering::Relaxed));
        assert_eq!((runs, failures), (2, 1));
    }

    #[test]
    fn one_that_does_not_end_with_its_fifo_is_asked_and_then_killed() {
        for (name, trap, asked) in [("asked", "echo asked >> $D/log; exit", "asked\n"), ("killed", "", "")] {
            let folder = Folder::new(name);
            let (_fifo, reader, _) = folder
                .reader(&format!("trap '{trap}' TERM; echo $$ >> $D/log; while :; do sleep 1000 & wait $!; done"));
            folder.until(|log| log.ends_with('\n'));
            let pid = folder.log().trim().to_owned();
            drop(reader);
            assert_eq!(folder.log(), format!("{pid}\n{asked}"));
            assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
        }
    }
}
