//! The one thread that owns the access log's file. Cores hand it full buffers and get empty ones back.
//!
//! A core never waits: when the writer is behind by [`BACKLOG`] buffers, the core drops its lines and counts them.

use crate::config::settings::AccessLog;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Buffers a core may have on their way; with [`crate::telemetry::access::BUFFER_BYTES`] each this bounds its memory.
const BACKLOG: usize = 16;

/// Of all cores and the main thread; deeper than any sum of their back logs is pointless.
const QUEUE_MAX: usize = 256;

enum Message {
    Lines { bytes: Vec<u8>, home: SyncSender<Vec<u8>> },
    Reopen(AccessLog),
    End,
}

/// The thread. Dropping it writes what was handed over and ends.
pub struct Writer {
    messages: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

/// A core's way to the writer.
pub struct Outlet {
    messages: SyncSender<Message>,
    home: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

impl Writer {
    pub fn start(target: AccessLog) -> io::Result<Writer> {
        let (messages, inbox) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || run(&inbox, &target))?;
        Ok(Writer { messages, thread: Some(thread) })
    }

    pub fn outlet(&self) -> Outlet {
        let (home, empty) = sync_channel(BACKLOG);
        for _ in 0..BACKLOG {
            // Room is there: the channel was made with it.
            let _ = home.try_send(Vec::new());
        }
        Outlet { messages: self.messages.clone(), home, empty }
    }

    /// Opens the target again, for log rotation and reloads. Called by the main thread, which may wait.
    pub fn reopen(&self, target: AccessLog) {
        let _ = self.messages.send(Message::Reopen(target));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Outlet {
    /// Hands `full` over and answers with an empty buffer, or gives `full` back when the writer is behind.
    pub fn swap(&self, full: Vec<u8>) -> Result<Vec<u8>, Vec<u8>> {
        let Ok(empty) = self.empty.try_recv() else { return Err(full) };
        match self.messages.try_send(Message::Lines { bytes: full, home: self.home.clone() }) {
            Ok(()) => Ok(empty),
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                let _ = self.home.try_send(empty);
                match message {
                    Message::Lines { bytes, .. } => Err(bytes),
                    Message::Reopen(_) | Message::End => Err(Vec::new()),
                }
            }
        }
    }
}

enum Target {
    Off,
    Stderr,
    File(File),
}

fn run(inbox: &Receiver<Message>, target: &AccessLog) {
    let mut target = open(target);
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Lines { mut bytes, home } => {
                write(&mut target, &bytes);
                bytes.clear();
                let _ = home.try_send(bytes);
            }
            Message::Reopen(to) => target = open(&to),
            Message::End => return,
        }
    }
}

fn write(target: &mut Target, bytes: &[u8]) {
    // A full disk must not stop the edge; the operator sees the gap in the log.
    let _ = match target {
        Target::Off => Ok(()),
        Target::Stderr => io::stderr().lock().write_all(bytes),
        Target::File(file) => file.write_all(bytes),
    };
}

fn open(target: &AccessLog) -> Target {
    match target {
        AccessLog::Off => Target::Off,
        AccessLog::Stderr => Target::Stderr,
        AccessLog::File(path) => match append_to(path) {
            Ok(file) => Target::File(file),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot open the access log, its lines go to stderr");
                Target::Stderr
            }
        },
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_core_reach_the_file_in_order_and_its_buffers_come_back() {
        let path = std::env::temp_dir().join(format!("lyre-writer-{}-{:x}.log", std::process::id(), fastrand::u64(..)));
        let writer = Writer::start(AccessLog::File(path.clone())).expect("thread");
        let outlet = writer.outlet();
        for round in 0..100 {
            let mut line = format!("{round}\n").into_bytes();
            while let Err(refused) = outlet.swap(line) {
                line = refused;
                std::thread::yield_now();
            }
        }
        drop(writer);
        let text = std::fs::read_to_string(&path).expect("log");
        std::fs::remove_file(&path).expect("remove");
        let expected: String = (0..100).map(|round| format!("{round}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_writer_that_is_behind_gives_the_lines_back_instead_of_blocking() {
        let (messages, _inbox) = sync_channel(0);
        let (home, empty) = sync_channel(1);
        home.try_send(Vec::new()).expect("room");
        let outlet = Outlet { messages, home, empty };
        assert_eq!(outlet.swap(b"line\n".to_vec()), Err(b"line\n".to_vec()));
    }
}
