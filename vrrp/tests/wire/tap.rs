//! Records every frame on the LAN, or of one node, with the kernel's time stamp, and answers questions about the adverts
//! among them.

use super::{Lan, Node};
use lyre_vrrp::packet::{self, Advert, Carrier, Dialect, Password, Peer, Peers, Wire};
use lyre_vrrp::params::Centis;
use nix::sys::socket::{ControlMessageOwned, LinkAddr, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub struct Tap {
    frames: Arc<Mutex<Vec<Frame>>>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    _node: Option<Node>,
}

/// One frame as seen on the wire.
#[derive(Clone)]
pub struct Frame {
    /// Since the epoch, by the kernel.
    pub at: Duration,
    pub bytes: Vec<u8>,
    /// Sent by the node that is tapped, not received.
    pub is_outgoing: bool,
}

/// One advert as seen on the wire.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Duration,
    pub source: IpAddr,
    pub advert: Advert,
}

impl Tap {
    /// A node of its own that only listens; the switch floods all adverts to it.
    pub fn on(lan: &Lan) -> Tap {
        let node = lan.node(250);
        let mut tap = Tap::at(&node);
        tap._node = Some(node);
        tap
    }

    /// Sees what this node's kernel receives and sends, before any program does.
    pub fn at(node: &Node) -> Tap {
        Tap::record(node.enter(packet_socket))
    }

    /// Sees only what this node sends, so that a flood of other frames cannot make it lose any.
    pub fn of_sent(node: &Node) -> Tap {
        let socket = node.enter(packet_socket);
        keep_only(&socket, &[(libc::SKF_AD_PKTTYPE, u32::from(libc::PACKET_OUTGOING))]);
        Tap::record(socket)
    }

    fn record(socket: Socket) -> Tap {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)); // refused in a user namespace
        let (frames, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let reader = thread::spawn({
            let (frames, is_over) = (Arc::clone(&frames), Arc::clone(&is_over));
            move || record(&socket, &frames, &is_over)
        });
        Tap { frames, is_over, reader: Some(reader), _node: None }
    }

    pub fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A moment to ask about later ones; the tap's own clock.
    pub fn now(&self) -> Duration {
        wall_clock()
    }

    /// All valid adverts of one family since a moment, in order.
    pub fn adverts(&self, is_v4: bool, since: Duration) -> Vec<Seen> {
        let frames = self.frames();
        let recent = frames.iter().filter(|frame| frame.at >= since);
        recent.filter_map(read_advert).filter(|seen| seen.source.is_ipv4() == is_v4).collect()
    }

    /// Who advertised a priority above 0 since a moment.
    pub fn actives(&self, is_v4: bool, since: Duration) -> Vec<IpAddr> {
        let adverts = self.adverts(is_v4, since);
        let mut sources: Vec<_> = adverts.iter().filter(|s| s.advert.priority.0 > 0).map(|s| s.source).collect();
        sources.sort();
        sources.dedup();
        sources
    }

    /// The longest time in which two nodes were Active at once.
    ///
    /// A node is Active from its first advert until its last before priority 0 or a silence of one and a half
    /// intervals.
    pub fn longest_overlap(&self, is_v4: bool, since: Duration, interval: Duration) -> Duration {
        let mut reigns: BTreeMap<IpAddr, Vec<(Duration, Duration)>> = BTreeMap::new();
        for seen in self.adverts(is_v4, since) {
            let of_source = reigns.entry(seen.source).or_default();
            match of_source.last_mut() {
                _ if seen.advert.priority.0 == 0 => of_source.push((Duration::MAX, Duration::ZERO)),
                Some((_, last)) if seen.at.saturating_sub(*last) < interval * 3 / 2 => *last = seen.at,
                _ => of_source.push((seen.at, seen.at)),
            }
        }
        let mut longest = Duration::ZERO;
        for (one, its) in &reigns {
            for (_, others) in reigns.iter().filter(|(other, _)| *other > one) {
                for (first, last) in its.iter().flat_map(|a| others.iter().map(|b| (a.0.max(b.0), a.1.min(b.1)))) {
                    longest = longest.max(last.saturating_sub(first));
                }
            }
        }
        longest
    }

    /// What tshark says of the recording with this display filter: one line a packet.
    pub fn tshark(&self, filter: &str) -> String {
        let path = std::env::temp_dir().join(format!("lyre-tap-{}-{:p}.pcap", std::process::id(), self));
        fs::write(&path, pcap(&self.frames())).unwrap();
        let output = Command::new("tshark").arg("-r").arg(&path).args(["-Y", filter]).output().unwrap();
        let _ = fs::remove_file(&path);
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

/// Sees every frame of the calling thread's namespace.
pub fn packet_socket() -> Socket {
    let everything = Protocol::from((libc::ETH_P_ALL as u16).to_be() as i32);
    Socket::new(Domain::PACKET, Type::RAW, Some(everything)).unwrap()
}

/// Has the kernel drop all frames but those whose ancillary words (`SKF_AD_…`) are these.
pub fn keep_only(socket: &Socket, words: &[(libc::c_int, u32)]) {
    let op = |code: u32, jf, k| SockFilter::new(code as u16, 0, jf, k);
    let mut filter = Vec::new();
    for (number, (word, value)) in words.iter().enumerate() {
        let to_the_end = 2 * (words.len() - number) as u8 - 1;
        filter.push(op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (libc::SKF_AD_OFF + word) as u32));
        filter.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_the_end, *value));
    }
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, u32::MAX));
    filter.push(op(libc::BPF_RET | libc::BPF_K, 0, 0));
    socket.attach_filter(&filter).unwrap();
}

fn record(socket: &Socket, frames: &Mutex<Vec<Frame>>, is_over: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    while !is_over.load(Ordering::Acquire) {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty());
        let Ok(message) = received else { continue };
        let stamp = message.cmsgs().unwrap().find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        let length = message.bytes;
        let direction = message.address.and_then(|address| address.as_link_addr().map(LinkAddr::pkttype));
        let frame = Frame {
            at: stamp.unwrap_or_default(),
            bytes: buffer[..length].to_vec(),
            is_outgoing: direction == Some(libc::PACKET_OUTGOING),
        };
        frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

/// The clock of the kernel's time stamps.
pub fn wall_clock() -> Duration {
    #[allow(clippy::disallowed_methods)] // compared with the kernel's wall clock stamps only
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

pub fn read_advert(frame: &Frame) -> Option<Seen> {
    let ether_type = frame.bytes.get(12..14)?;
    let packet_bytes = frame.bytes.get(14..)?;
    let (carrier, message) = match ether_type {
        [0x08, 0x00] if packet_bytes.get(9) == Some(&packet::PROTOCOL) => packet::ipv4(packet_bytes).ok()?,
        [0x86, 0xdd] if packet_bytes.get(6) == Some(&packet::PROTOCOL) => {
            let address = |at: usize| -> Option<IpAddr> {
                Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet_bytes.get(at..at + 16)?).ok()?).into())
            };
            let carrier = Carrier { source: address(8)?, destination: address(24)?, ttl: *packet_bytes.get(7)? };
            (carrier, packet_bytes.get(40..)?)
        }
        _ => return None,
    };
    let advert = dialect(message, &carrier)?.decode(message, &carrier).ok()?.advert;
    Some(Seen { at: frame.at, source: carrier.source, advert })
}

/// One that accepts this message whatever its version, password, destination and TTL.
fn dialect(message: &[u8], carrier: &Carrier) -> Option<Dialect> {
    let wire = match message.first()? >> 4 {
        2 => Wire::V2 {
            interval: Centis::new(u16::from(*message.get(5)?) * 100)?,
            password: (*message.get(4)? == 1).then(|| Password::new(&message[message.len() - 8..])),
        },
        _ => Wire::V3,
    };
    let peers = match carrier.destination.is_multicast() {
        true => Peers::Multicast,
        false => Peers::Unicast(vec![Peer { address: carrier.source, ttl: 0..=255 }]),
    };
    Some(Dialect { wire, peers, has_trailer: true })
}

/// The classic capture file format, microseconds, Ethernet.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for frame in frames {
        let length = frame.bytes.len() as u32;
        for word in [frame.at.as_secs() as u32, frame.at.subsec_micros(), length, length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&frame.bytes);
    }
    file
}
