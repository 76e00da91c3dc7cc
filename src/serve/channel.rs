//! The socket between parent and worker: SOCK_SEQPACKET, one JSON message a packet, descriptors as SCM_RIGHTS.
//!
//! ```text
//! packet   | kind (1) | descriptors of the whole message (4, little endian) | JSON, at most 64 KiB |
//! kind 'D'   more descriptors of the message that follows; no JSON
//! kind 'M'   the message
//! kind 'L'   the message, its JSON in a sealed memfd that is the last descriptor of this packet
//! ```
//!
//! The kernel passes at most 253 descriptors a packet, so long lists go ahead in `D` packets of [`BATCH`]. What comes in is
//! untrusted on both ends: sizes, counts and seals are checked before anything is read or kept, and every descriptor of
//! a refused message is closed. After any error but [`ChannelError::Stuck`] the channel is out of step: drop it.

#![allow(unsafe_code)] // taking ownership of descriptors the kernel just gave us

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, recvmsg,
    sendmsg, socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// JSON above this size travels in a memfd. Two packets of it fit any default socket buffer (208 KiB).
const INLINE_MAX: usize = 64 << 10;
/// Descriptors per packet; the kernel's own limit is 253 (SCM_MAX_FD).
const BATCH: usize = 200;
/// JSON of one message. A configuration with a few hundred certificates stays far below it.
const PAYLOAD_MAX: u64 = 64 << 20;
const HEADER: usize = 5;
/// Room for the kernel's maximum, so that truncation only ever means that descriptors ran out.
const KERNEL_BATCH_MAX: usize = 253;

/// One end, before it is split into its directions.
pub struct Channel(OwnedFd);

/// Sending end. Not clonable: a message of several packets must not be cut by another.
pub struct Sender(Arc<OwnedFd>);

/// Receiving end, with the descriptors of a message that is not complete yet.
pub struct Receiver {
    socket: Arc<OwnedFd>,
    descriptors_max: usize,
    pending: Vec<OwnedFd>,
    buffer: Vec<u8>,
    control: Vec<u8>,
}

/// A message and the descriptors that came with it, in the sender's order.
#[derive(Debug)]
pub struct Received<M> {
    pub message: M,
    pub descriptors: Vec<OwnedFd>,
}

#[derive(Debug)]
pub enum ChannelError {
    /// The other end is gone.
    Closed,
    /// The other end does not read; nothing of the message was sent.
    Stuck,
    /// Not a SOCK_SEQPACKET unix socket.
    NotAChannel,
    TooLarge {
        bytes: u64,
    },
    /// Header missing, unknown kind, or an inconsistent descriptor count.
    Framing(&'static str),
    TooManyDescriptors {
        max: usize,
    },
    /// The kernel could not install every descriptor: this process has too many open.
    DescriptorsLost,
    /// A payload memfd whose content could still change.
    Unsealed,
    Json(serde_json::Error),
    System {
        operation: &'static str,
        error: Errno,
    },
    Payload(std::io::Error),
}

impl Channel {
    /// Both ends, close-on-exec.
    pub fn pair() -> Result<(Channel, Channel), ChannelError> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|error| ChannelError::System { operation: "socketpair", error })?;
        Ok((Channel(a), Channel(b)))
    }

    /// An inherited end: must be a SOCK_SEQPACKET socket.
    pub fn from_fd(socket: OwnedFd) -> Result<Channel, ChannelError> {
        match getsockopt(&socket, sockopt::SockType) {
            Ok(SockType::SeqPacket) => Ok(Channel(socket)),
            _ => Err(ChannelError::NotAChannel),
        }
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// The two directions; they may live on different threads. A message with more than `descriptors_max` descriptors
    /// is refused (the parent, which expects none, passes 0).
    pub fn split(self, descriptors_max: usize) -> (Sender, Receiver) {
        let socket = Arc::new(self.0);
        let receiver = Receiver {
            socket: Arc::clone(&socket),
            descriptors_max,
            pending: Vec::new(),
            buffer: vec![0; HEADER + INLINE_MAX],
            control: nix::cmsg_space!([RawFd; KERNEL_BATCH_MAX]),
        };
        (Sender(socket), receiver)
    }
}

impl Sender {
    /// Sends one message. Waits at most `patience` for room in the other end's queue; with `Duration::ZERO` it never
    /// blocks. `Stuck` after a first packet is `Closed`: the channel is out of step then.
    pub fn send<M: Serialize>(
        &mut self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<(), ChannelError> {
        let json = serde_json::to_vec(message).map_err(ChannelError::Json)?;
        let payload = if json.len() > INLINE_MAX { Some(sealed_payload(&json)?) } else { None };
        let total = u32::try_from(descriptors.len())
            .map_err(|_| ChannelError::TooManyDescriptors { max: u32::MAX as usize })?
            .to_le_bytes();
        let deadline = Instant::now() + patience;

        let mut raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let mut is_first = true;
        while raw.len() > BATCH {
            let rest = raw.split_off(BATCH);
            self.packet(b'D', total, &[], &raw, deadline, is_first)?;
            raw = rest;
            is_first = false;
        }
        match &payload {
            Some(memfd) => {
                raw.push(memfd.as_raw_fd());
                self.packet(b'L', total, &[], &raw, deadline, is_first)
            }
            None => self.packet(b'M', total, &json, &raw, deadline, is_first),
        }
    }

    fn packet(
        &mut self,
        kind: u8,
        total: [u8; 4],
        json: &[u8],
        descriptors: &[RawFd],
        deadline: Instant,
        is_first: bool,
    ) -> Result<(), ChannelError> {
        let header = [kind, total[0], total[1], total[2], total[3]];
        let parts = [IoSlice::new(&header), IoSlice::new(json)];
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<UnixAddr>(self.0.as_raw_fd(), &parts, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !wait_writable(&self.0, left)? {
                        return Err(if is_first { ChannelError::Stuck } else { ChannelError::Closed });
                    }
                }
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(ChannelError::System { operation: "sendmsg", error }),
            }
        }
    }
}

impl Receiver {
    /// The next message; blocks.
    pub fn receive<M: DeserializeOwned>(&mut self) -> Result<Received<M>, ChannelError> {
        loop {
            if let Some(received) = self.step(MsgFlags::empty())? {
                return Ok(received);
            }
        }
    }

    /// The next message, or `None` when none has arrived completely.
    pub fn try_receive<M: DeserializeOwned>(&mut self) -> Result<Option<Received<M>>, ChannelError> {
        loop {
            match self.step(MsgFlags::MSG_DONTWAIT) {
                Ok(Some(received)) => return Ok(Some(received)),
                Ok(None) => {}
                Err(ChannelError::System { error: Errno::EAGAIN, .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// One packet; `None` if it did not complete a message.
    fn step<M: DeserializeOwned>(&mut self, flags: MsgFlags) -> Result<Option<Received<M>>, ChannelError> {
        let length = self.packet(flags)?;
        let Some(([kind, total @ ..], json)) =
            self.buffer.get(..length).and_then(|packet| packet.split_first_chunk::<HEADER>())
        else {
            return Err(ChannelError::Framing("packet shorter than its header"));
        };
        let total = u32::from_le_bytes(*total) as usize;
        let max = self.descriptors_max;
        if total > max {
            return Err(ChannelError::TooManyDescriptors { max });
        }
        let payload = match kind {
            b'D' if self.pending.len() < total => return Ok(None),
            b'D' => return Err(ChannelError::Framing("more descriptors than announced")),
            b'M' => None,
            b'L' => Some(self.pending.pop().ok_or(ChannelError::Framing("no payload descriptor"))?),
            _ => return Err(ChannelError::Framing("unknown kind of packet")),
        };
        if self.pending.len() != total {
            return Err(ChannelError::Framing("descriptor count differs from the announced one"));
        }
        let message = match payload {
            None => serde_json::from_slice(json),
            Some(memfd) => serde_json::from_slice(&read_payload(memfd)?),
        }
        .map_err(ChannelError::Json)?;
        Ok(Some(Received { message, descriptors: std::mem::take(&mut self.pending) }))
    }

    /// Reads one packet into `buffer`, its descriptors into `pending`.
    fn packet(&mut self, flags: MsgFlags) -> Result<usize, ChannelError> {
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            // The spare capacity of `control` is what cmsg_space! reserved; recvmsg wants it as a slice.
            self.control.resize(self.control.capacity(), 0);
            let packet = match recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut self.control), flags)
            {
                Ok(packet) => packet,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(error) => return Err(ChannelError::System { operation: "recvmsg", error }),
            };
            for message in packet.cmsgs().map_err(|_| ChannelError::DescriptorsLost)? {
                if let ControlMessageOwned::ScmRights(descriptors) = message {
                    // SAFETY: the kernel installed these for this packet; nobody else knows the numbers.
                    self.pending.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            if self.pending.len() > self.descriptors_max.saturating_add(1) {
                self.pending.clear();
                return Err(ChannelError::TooManyDescriptors { max: self.descriptors_max });
            }
            if packet.flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(ChannelError::Framing("packet longer than allowed"));
            }
            return match packet.bytes {
                0 => Err(ChannelError::Closed),
                length => Ok(length),
            };
        }
    }
}

impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChannelError::Closed => f.write_str("the other process is gone"),
            ChannelError::Stuck => f.write_str("the other process does not read its messages"),
            ChannelError::NotAChannel => f.write_str("not a sequenced-packet socket"),
            ChannelError::TooLarge { bytes } => {
                write!(f, "message of {bytes} bytes, at most {PAYLOAD_MAX} are allowed")
            }
            ChannelError::Framing(rule) => write!(f, "malformed packet: {rule}"),
            ChannelError::TooManyDescriptors { max } => write!(f, "message with more than {max} descriptors"),
            ChannelError::DescriptorsLost => f.write_str("descriptors were lost: too many open files"),
            ChannelError::Unsealed => f.write_str("payload is not a sealed memory file"),
            ChannelError::Json(error) => write!(f, "malformed message: {error}"),
            ChannelError::System { operation, error } => write!(f, "{operation}: {error}"),
            ChannelError::Payload(error) => write!(f, "payload: {error}"),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ChannelError::Json(error) => Some(error),
            ChannelError::System { error, .. } => Some(error),
            ChannelError::Payload(error) => Some(error),
            _ => None,
        }
    }
}

fn wait_writable(socket: &OwnedFd, left: Duration) -> Result<bool, ChannelError> {
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(ChannelError::System { operation: "poll", error }),
    }
}

fn sealed_payload(json: &[u8]) -> Result<OwnedFd, ChannelError> {
    if json.len() as u64 > PAYLOAD_MAX {
        return Err(ChannelError::TooLarge { bytes: json.len() as u64 });
    }
    let memfd = memfd_create("lyre-message", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|error| ChannelError::System { operation: "memfd_create", error })?;
    let mut file = File::from(memfd);
    file.write_all(json).map_err(ChannelError::Payload)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))
        .map_err(|error| ChannelError::System { operation: "fcntl(F_ADD_SEALS)", error })?;
    Ok(file.into())
}

/// The whole content. Only a sealed memfd is read: anything else could block or change under us.
fn read_payload(memfd: OwnedFd) -> Result<Vec<u8>, ChannelError> {
    let wanted = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE;
    let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|_| ChannelError::Unsealed)?;
    if !SealFlag::from_bits_truncate(seals).contains(wanted) {
        return Err(ChannelError::Unsealed);
    }
    let file = File::from(memfd);
    let bytes = file.metadata().map_err(ChannelError::Payload)?.len();
    if bytes > PAYLOAD_MAX {
        return Err(ChannelError::TooLarge { bytes });
    }
    let mut content = vec![0; usize::try_from(bytes).map_err(|_| ChannelError::TooLarge { bytes })?];
    file.read_exact_at(&mut content, 0).map_err(ChannelError::Payload)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn ends(descriptors_max: usize) -> (Sender, Receiver) {
        let (a, b) = Channel::pair().unwrap();
        (a.split(0).0, b.split(descriptors_max).1)
    }

    fn files(count: usize) -> Vec<File> {
        (0..count).map(|_| File::open("/dev/null").unwrap()).collect()
    }

    fn is_close_on_exec(fd: &OwnedFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC != 0
    }

    #[test]
    fn a_message_arrives_with_its_descriptors_in_order() {
        let (mut sender, mut receiver) = ends(2);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        sender.send(&"hello", &[null.as_fd(), reader.as_fd()], Duration::ZERO).unwrap();
        let received = receiver.receive::<String>().unwrap();
        assert_eq!(received.message, "hello");
        assert!(received.descriptors.iter().all(is_close_on_exec));
        writer.write_all(b"x").unwrap();
        let mut byte = [0];
        File::from(received.descriptors.into_iter().nth(1).unwrap()).read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn many_descriptors_travel_in_batches() {
        let (mut sender, mut receiver) = ends(501);
        let files = files(501);
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        sender.send(&1, &borrowed, Duration::ZERO).unwrap();
        sender.send(&2, &borrowed[..1], Duration::ZERO).unwrap();
        let first = receiver.try_receive::<u8>().unwrap().unwrap();
        assert_eq!((first.message, first.descriptors.len()), (1, 501));
        let second = receiver.try_receive::<u8>().unwrap().unwrap();
        assert_eq!((second.message, second.descriptors.len()), (2, 1));
    }

    #[test]
    fn a_large_message_travels_in_a_memfd() {
        let (mut sender, mut receiver) = ends(200);
        let text = "x".repeat(5 << 20);
        let files = files(200);
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        sender.send(&text, &borrowed, Duration::ZERO).unwrap();
        let received = receiver.receive::<String>().unwrap();
        assert_eq!((received.message, received.descriptors.len()), (text, 200));
    }

    #[test]
    fn a_payload_that_could_change_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        let (mut sender, mut receiver) = (a.split(0).0, b.split(0).1);
        let open = File::from(memfd_create("open", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        let deadline = Instant::now();
        sender.packet(b'L', [0; 4], &[], &[open.as_raw_fd()], deadline, true).unwrap();
        assert!(matches!(receiver.receive::<String>(), Err(ChannelError::Unsealed)));
    }

    #[test]
    fn unexpected_descriptors_are_refused_and_closed() {
        let (mut sender, mut receiver) = ends(0);
        let (reader, mut writer) = std::io::pipe().unwrap();
        sender.send(&1, &[reader.as_fd(), reader.as_fd()], Duration::ZERO).unwrap();
        assert!(matches!(receiver.receive::<u8>(), Err(ChannelError::TooManyDescriptors { max: 0 })));
        drop(reader);
        drop(receiver);
        assert_eq!(writer.write_all(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn malformed_packets_are_errors() {
        for (packet, descriptors) in
            [(&b"M"[..], 0), (b"X\0\0\0\0", 0), (b"M\x01\0\0\0{}", 0), (b"M\0\0\0\0{}", 1), (b"L\0\0\0\0", 0)]
        {
            let (a, b) = Channel::pair().unwrap();
            let mut receiver = b.split(3).1;
            let null = File::open("/dev/null").unwrap();
            let raw = vec![null.as_raw_fd(); descriptors];
            let control = [ControlMessage::ScmRights(&raw)];
            let control = if descriptors == 0 { &control[..0] } else { &control[..] };
            let parts = [IoSlice::new(packet)];
            sendmsg::<UnixAddr>(a.0.as_raw_fd(), &parts, control, MsgFlags::empty(), None).unwrap();
            let result = receiver.receive::<serde_json::Value>();
            assert!(matches!(result, Err(ChannelError::Framing(_))), "{packet:?}: {result:?}");
        }
    }

    #[test]
    fn nothing_to_read_is_none_and_a_gone_peer_is_closed() {
        let (sender, mut receiver) = ends(0);
        assert!(receiver.try_receive::<u8>().unwrap().is_none());
        drop(sender);
        assert!(matches!(receiver.try_receive::<u8>(), Err(ChannelError::Closed)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_stuck_not_blocking() {
        let (a, _b) = Channel::pair().unwrap();
        let mut sender = a.split(0).0;
        let text = "x".repeat(INLINE_MAX - 100);
        let error = (0..100).find_map(|_| sender.send(&text, &[], Duration::ZERO).err()).unwrap();
        assert!(matches!(error, ChannelError::Stuck));
    }
}
