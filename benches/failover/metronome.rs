//! What the machine itself did to everybody on it: when a processor stood still, and when the address moved.
//!
//! A thread at the highest real-time priority on every processor wakes each millisecond. Nothing on this machine may
//! delay it; where it is late by far, the hypervisor had taken the processor away.

use lyre::demo::lab::{Host, VIRTUAL_V4};
use lyre_vrrp::link::Change;
use lyre_vrrp::link::linux::clock::{now, readable, wait};
use lyre_vrrp::link::linux::netlink::Monitor;
use lyre_vrrp::link::linux::realtime::protect_thread;
use lyre_vrrp::params::Time;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const BEAT: Duration = Duration::from_millis(1);

/// Above every contender's.
const PRIORITY: u8 = 98;

/// An Active that gets no processor for this long has missed two adverts of 10 ms, and the third is due.
pub(crate) const STANDSTILL: Duration = Duration::from_millis(18);

/// From the end of a standstill to the removal of the address it caused: the loser has to hear the new Active first.
const AFTERMATH: Duration = Duration::from_millis(150);

pub(crate) struct Metronome {
    stop: Arc<AtomicBool>,
    processors: Vec<JoinHandle<io::Result<Vec<Standstill>>>>,
    nodes: Vec<JoinHandle<io::Result<()>>>,
    removals: Arc<Mutex<io::Result<Vec<Time>>>>,
}

#[derive(Debug, Clone, Copy)]
struct Standstill {
    end: Time,
    length: Duration,
}

/// What was seen from the start to the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// Times the address was taken off a node.
    pub(crate) moves: usize,
    /// Those that followed a standstill of a processor.
    pub(crate) explained: usize,
    pub(crate) standstills: usize,
    pub(crate) longest: Duration,
}

impl Metronome {
    pub(crate) fn start(nodes: &[Host]) -> Metronome {
        let stop = Arc::new(AtomicBool::new(false));
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let beat = |processor| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || beat(processor, &stop))
        };
        let processors = (0..processors).map(beat).collect();
        let removals = Arc::new(Mutex::new(Ok(Vec::new())));
        let watch = |node: &Host| {
            let (stop, removals) = (Arc::clone(&stop), Arc::clone(&removals));
            node.thread(move || {
                if let Err(error) = watch(&stop, &removals) {
                    *locked(&removals) = Err(error);
                }
            })
        };
        let nodes = nodes.iter().map(watch).collect();
        Metronome { stop, processors, nodes, removals }
    }

    /// An error if anything could not be watched to the end: silence would look like a good result.
    pub(crate) fn finish(self) -> io::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut standstills = Vec::new();
        for processor in self.processors {
            standstills.extend(processor.join().map_err(|_| io::Error::other("a beat panicked"))??);
        }
        for node in self.nodes {
            node.join().map_err(|_| io::Error::other("a watcher panicked"))??;
        }
        let moves = std::mem::replace(&mut *locked(&self.removals), Ok(Vec::new()))?;
        let follows = |at: &&Time| {
            standstills.iter().any(|still| {
                **at >= Time(still.end.0.saturating_sub(BEAT.as_nanos() as u64)) && at.since(still.end) <= AFTERMATH
            })
        };
        Ok(Seen {
            moves: moves.len(),
            explained: moves.iter().filter(follows).count(),
            standstills: standstills.len(),
            longest: standstills.iter().map(|still| still.length).max().unwrap_or_default(),
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beat(processor: usize, stop: &AtomicBool) -> io::Result<Vec<Standstill>> {
    let mut standstills = Vec::with_capacity(4096);
    let mut own = CpuSet::new();
    own.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &own))?;
    if let Some(missing) = protect_thread(PRIORITY).into_iter().next() {
        return Err(missing.cause);
    }
    while !stop.load(Ordering::Relaxed) {
        let due = now().plus(BEAT);
        wait(&mut [], Some(due))?;
        let (end, length) = (now(), now().since(due));
        if length >= STANDSTILL {
            standstills.push(Standstill { end, length });
        }
    }
    Ok(standstills)
}

/// Notes whenever the virtual address goes from this node.
fn watch(stop: &AtomicBool, removals: &Mutex<io::Result<Vec<Time>>>) -> io::Result<()> {
    let mut monitor = Monitor::open()?;
    if let Some(missing) = protect_thread(PRIORITY - 1).into_iter().next() {
        return Err(missing.cause);
    }
    while !stop.load(Ordering::Relaxed) {
        wait(&mut [readable(monitor.descriptor())], Some(now().plus(Duration::from_millis(50))))?;
        let mut has_missed = false;
        monitor.drain(|change| match change {
            Change::Address { address, is_removed: true, .. } if address == VIRTUAL_V4 => {
                if let Ok(removals) = &mut *locked(removals) {
                    removals.push(now());
                }
            }
            Change::Unknown => has_missed = true,
            Change::Address { .. } | Change::Link { .. } => {}
        })?;
        if has_missed {
            return Err(io::Error::other("the kernel dropped notifications of addresses"));
        }
    }
    Ok(())
}
