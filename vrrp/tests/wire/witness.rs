//! What one node's kernel received, sent and changed, with its time stamps: the evidence for [`super::verdict`].

use super::Node;
use super::strain::be_urgent;
use super::tap::{Frame, Tap, read_advert, wall_clock};
use super::verdict::{Note, Noted};
use lyre_vrrp::link::Change;
use lyre_vrrp::link::linux::clock;
use lyre_vrrp::link::linux::netlink::Monitor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub struct Witness {
    tap: Tap,
    /// Address changes and interruptions.
    notes: Arc<Mutex<Vec<Noted>>>,
    is_over: Arc<AtomicBool>,
    watcher: Option<JoinHandle<()>>,
}

impl Witness {
    pub fn of(node: &Node) -> Witness {
        let (notes, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let monitor = node.enter(|| Monitor::open().unwrap());
        let watcher = thread::spawn({
            let (notes, is_over) = (Arc::clone(&notes), Arc::clone(&is_over));
            move || watch(monitor, &notes, &is_over)
        });
        Witness { tap: Tap::at(node), notes, is_over, watcher: Some(watcher) }
    }

    /// The test is about to end the program or to take its cable.
    pub fn excuse(&self) {
        note(&self.notes, Note::Excused);
    }

    /// The test is about to start the program or to mend its cable.
    pub fn interrupt(&self) {
        note(&self.notes, Note::Interrupted);
    }

    /// Everything about one family, in order of time.
    pub fn account(&self, is_v4: bool) -> Vec<Noted> {
        let frames = self.tap.frames();
        let mut account: Vec<_> = frames.iter().filter_map(read).collect();
        account.extend(self.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        account.retain(|noted| match &noted.note {
            Note::Heard { source, .. } | Note::Sent { source, .. } => source.is_ipv4() == is_v4,
            Note::Announced(address) | Note::Gained(address) | Note::Lost(address) => address.is_ipv4() == is_v4,
            Note::Excused | Note::Interrupted => true,
        });
        account.sort_by_key(|noted| noted.at);
        account
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.watcher.take().map(JoinHandle::join);
    }
}

fn watch(mut monitor: Monitor, notes: &Mutex<Vec<Noted>>, is_over: &AtomicBool) {
    be_urgent();
    while !is_over.load(Ordering::Acquire) {
        let deadline = clock::now().plus(Duration::from_millis(50));
        let _ = clock::wait(&mut [clock::readable(monitor.descriptor())], Some(deadline));
        let _ = monitor.drain(|change| {
            if let Change::Address { address, is_removed, .. } = change {
                note(notes, if is_removed { Note::Lost(address) } else { Note::Gained(address) });
            }
        });
    }
}

fn note(notes: &Mutex<Vec<Noted>>, what: Note) {
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(Noted { at: wall_clock(), note: what });
}

fn read(frame: &Frame) -> Option<Noted> {
    let noted = |note| Some(Noted { at: frame.at, note });
    if let Some(seen) = read_advert(frame) {
        let (source, priority, interval) = (seen.source, seen.advert.priority.0, seen.advert.interval.duration());
        return noted(match frame.is_outgoing {
            true => Note::Sent { source, priority },
            false => Note::Heard { source, priority, interval },
        });
    }
    if frame.is_outgoing { noted(Note::Announced(announced(&frame.bytes)?)) } else { None }
}

/// The address in a gratuitous ARP packet or an unsolicited neighbour advertisement.
fn announced(bytes: &[u8]) -> Option<IpAddr> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?));
    match bytes.get(12..14)? {
        [0x08, 0x06] if address(28)? == address(38)? => Some(address(28)?.into()),
        [0x86, 0xdd] if bytes.get(20) == Some(&58) && bytes.get(54) == Some(&136) && bytes.get(38) == Some(&0xff) => {
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(62..78)?).ok()?).into())
        }
        _ => None,
    }
}
