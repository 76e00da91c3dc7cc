//! Bytes that have to wait on disk, in files without a name. Threads of their own write and read them, so that no core
//! waits for a disk.
//!
//! A file that never had a name (`O_TMPFILE`) is gone when its last descriptor is: also when this process dies, so
//! nothing is ever left to clean up. The directory's file system must know such files; ext4, xfs, btrfs, tmpfs and
//! overlayfs (Linux 6.1) do.

mod answer;

use answer::{Answer, Promise};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

/// Disks do a few things at once; what is more waits.
const THREADS: usize = 2;

/// Pieces of one draft that may be on their way to the disk. Bounds the memory of a client that is faster than it.
const PIECES_IN_FLIGHT: usize = 8;

/// The directory, and the threads that work in it. One per worker.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    /// Bytes promised to files that exist.
    used: AtomicU64,
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Why bytes could not be kept.
#[derive(Debug)]
pub enum SpoolError {
    /// The disk is full, or what may be used of it.
    Full,
    Broken(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => SpoolError::Full,
            _ => SpoolError::Broken(error),
        }
    }
}

impl Spool {
    /// Starts the threads. Call it where no executor runs: they inherit the CPUs of the caller.
    pub fn start(directory: PathBuf) -> io::Result<Spool> {
        let (jobs, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..THREADS {
            let inbox = inbox.clone();
            std::thread::Builder::new().name("spool".to_owned()).spawn(move || work(&inbox))?;
        }
        Ok(Spool(Arc::new(Inner { directory, used: AtomicU64::new(0), jobs })))
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Relaxed)
    }

    /// A new file. All files together may hold `bytes_max`.
    pub async fn draft(&self, bytes_max: u64) -> Result<Draft, SpoolError> {
        let directory = self.0.directory.clone();
        let file = self.0.run(move || create(&directory)).await?;
        let held = Held { file: Some(file), bytes: AtomicU64::new(0), inner: self.0.clone() };
        Ok(Draft { held: Arc::new(held), bytes: 0, bytes_max, in_flight: VecDeque::new() })
    }
}

impl Inner {
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Answer<T> {
        let (promise, answer) = Promise::new();
        // Without threads the promise is dropped, and its answer is an error.
        let _ = self.jobs.send(Box::new(move || promise.keep(work())));
        answer
    }

    fn reserve(&self, bytes: u64, bytes_max: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|used| *used <= bytes_max);
        self.used.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// A file of ours and the bytes reserved for it. The last holder closes it, on a thread of the spool: giving back the
/// blocks of a large file takes its time.
struct Held {
    file: Option<File>,
    bytes: AtomicU64,
    inner: Arc<Inner>,
}

impl Held {
    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.used.fetch_sub(self.bytes.load(Relaxed), Relaxed);
        let file = self.file.take();
        let _ = self.inner.jobs.send(Box::new(move || drop(file)));
    }
}

/// A file that is being written. Dropped, it is gone.
pub struct Draft {
    held: Arc<Held>,
    bytes: u64,
    bytes_max: u64,
    in_flight: VecDeque<Answer<Vec<u8>>>,
}

impl Draft {
    /// Appends `bytes`; waits only while too much is on its way already. Answers buffers that are free again.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, SpoolError> {
        let count = bytes.len() as u64;
        if !self.held.inner.reserve(count, self.bytes_max) {
            return Err(SpoolError::Full);
        }
        self.held.bytes.fetch_add(count, Relaxed);
        let (held, at) = (self.held.clone(), self.bytes);
        self.bytes += count;
        self.in_flight.push_back(self.held.inner.run(move || {
            held.file()?.write_all_at(&bytes, at)?;
            Ok(bytes)
        }));
        if self.in_flight.len() <= PIECES_IN_FLIGHT {
            return Ok(None);
        }
        match self.in_flight.pop_front() {
            Some(answer) => Ok(Some(answer.await?)),
            None => Ok(None),
        }
    }

    /// Once all is written.
    pub async fn finish(mut self) -> Result<Spooled, SpoolError> {
        while let Some(answer) = self.in_flight.pop_front() {
            answer.await?;
        }
        Ok(Spooled { held: self.held, bytes: self.bytes })
    }
}

/// A complete file. Clones share it.
#[derive(Clone)]
pub struct Spooled {
    held: Arc<Held>,
    pub bytes: u64,
}

impl Spooled {
    /// Up to `count` bytes from `at` on; fewer only at the end.
    pub fn read(&self, at: u64, count: usize) -> Answer<Vec<u8>> {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let held = self.held.clone();
        self.held.inner.run(move || {
            let mut buffer = vec![0; count.min(left)];
            held.file()?.read_exact_at(&mut buffer, at)?;
            Ok(buffer)
        })
    }
}

/// Without a name, and never to get one.
fn create(directory: &PathBuf) -> io::Result<File> {
    let flags = nix::libc::O_TMPFILE | nix::libc::O_EXCL;
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(directory)
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    loop {
        // Holding the lock while waiting lets the other thread wait for it instead; either gets the next job.
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
