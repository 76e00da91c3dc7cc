//! The kernel's word on processes that begin: its proc connector. It tells only who has CAP_NET_ADMIN (before Linux 6.6) and
//! lives in the host's own namespaces; everybody else finds new processes by looking.
//!
//! ```text
//! nlmsghdr 16 | cn_msg 20 | 36 what 4, cpu 4, time 8 | 52 fork: parent pid, tgid, child pid, tgid; exec, comm: pid, tgid
//! ```

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, sendto};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const HEADER: usize = 16;
const MESSAGE: usize = 20;
const WHAT: usize = HEADER + MESSAGE;
const DATA: usize = WHAT + 16;

const ACKNOWLEDGED: u32 = 0;
const FORKED: u32 = 1;
const EXECUTED: u32 = 2;
const RENAMED: u32 = 0x200;

const LISTEN: u32 = 1;
const IGNORE: u32 = 2;

/// Read in one go; a host that starts nothing but processes must not keep the thread.
const DRAIN_MAX: usize = 256;

/// A subscription.
pub(super) struct Starts {
    socket: Socket,
}

/// What one message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// This process is there, or is another program now.
    Began(Pid),
    /// Whether we are told anything.
    Allowed(bool),
    Nothing,
}

impl Starts {
    pub(super) fn open() -> io::Result<Starts> {
        let domain = Domain::from(libc::AF_NETLINK);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::from(libc::NETLINK_CONNECTOR)))?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(&filter())?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, libc::CN_IDX_PROC))?;
        let starts = Starts { socket };
        starts.ask(LISTEN)?;
        // The kernel has answered by now. Others' events may stand before its answer.
        for said in std::iter::from_fn(|| starts.read().transpose()).take(DRAIN_MAX) {
            if let Said::Allowed(is_allowed) = said? {
                return if is_allowed { Ok(starts) } else { Err(io::ErrorKind::PermissionDenied.into()) };
            }
        }
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether one began that is meant; reads what there is. True, too, when some were missed.
    pub(super) fn any(&self, is_meant: impl Fn(Pid) -> bool) -> bool {
        let mut found = false;
        for _ in 0..DRAIN_MAX {
            match self.read() {
                Ok(None) => break,
                Ok(Some(Said::Began(pid))) => found = found || is_meant(pid),
                Ok(Some(Said::Allowed(_) | Said::Nothing)) => {}
                Err(_) => found = true,
            }
        }
        found
    }

    fn ask(&self, order: u32) -> io::Result<()> {
        let message = question(order);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// `None` when there is nothing more.
    fn read(&self) -> io::Result<Option<Said>> {
        let mut buffer = [0; 256];
        match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            // Only the kernel has number 0.
            Ok((length, Some(from))) if from.pid() == 0 => Ok(Some(said(buffer.get(..length).unwrap_or_default()))),
            Ok(_) => Ok(Some(Said::Nothing)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(Errno::EINTR) => Ok(Some(Said::Nothing)),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Starts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Older kernels go on making messages for those who left without a word.
impl Drop for Starts {
    fn drop(&mut self) {
        let _ = self.ask(IGNORE);
    }
}

fn question(order: u32) -> Vec<u8> {
    let length = (HEADER + MESSAGE + size_of::<u32>()) as u32;
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend((libc::NLMSG_DONE as u16).to_ne_bytes());
    message.extend([0; 10]); // flags, number, sender
    message.extend(libc::CN_IDX_PROC.to_ne_bytes());
    message.extend(libc::CN_VAL_PROC.to_ne_bytes());
    message.extend([0; 8]); // number, number acknowledged
    message.extend((size_of::<u32>() as u16).to_ne_bytes());
    message.extend([0; 2]); // flags
    message.extend(order.to_ne_bytes());
    message
}

fn said(message: &[u8]) -> Said {
    let number = |at: usize| message.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let process = |at: usize| number(at).and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let began = match number(WHAT) {
        Some(ACKNOWLEDGED) => return number(DATA).map_or(Said::Nothing, |error| Said::Allowed(error == 0)),
        Some(FORKED) => process(DATA + 12),
        Some(EXECUTED | RENAMED) => process(DATA + 4),
        _ => None,
    };
    began.map_or(Said::Nothing, Said::Began)
}

/// Lets pass what [`said`] understands, of processes and not of their other threads: a busy host makes many.
fn filter() -> Vec<SockFilter> {
    let load = |at: usize| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at as u32, 0, 0);
    let copy = (libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0);
    // The kernel loads in the network's order what it has written in its own.
    let is = |what: u32, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, what.to_be(), yes, no);
    let end = |bytes| (libc::BPF_RET | libc::BPF_K, bytes, 0, 0);
    let program = [
        load(WHAT),
        is(EXECUTED, 12, 0),
        is(ACKNOWLEDGED, 11, 0),
        is(FORKED, 1, 0),
        is(RENAMED, 4, 8),
        load(DATA + 8),
        copy,
        load(DATA + 12),
        (libc::BPF_JMP | libc::BPF_JA, 3, 0, 0),
        load(DATA),
        copy,
        load(DATA + 4),
        (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 1, 0),
        end(0),
        end(u32::MAX),
    ];
    program.into_iter().map(|(code, k, yes, no)| SockFilter::new(code as u16, yes, no, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u32, data: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; WHAT];
        bytes.extend(what.to_ne_bytes());
        bytes.extend([0; 12]);
        bytes.extend(data.iter().flat_map(|number| number.to_ne_bytes()));
        bytes
    }

    #[test]
    fn messages_say_which_process_began_and_short_ones_say_nothing() {
        let began = |pid| Said::Began(Pid::from_raw(pid));
        assert_eq!(said(&event(FORKED, &[1, 1, 7, 7])), began(7));
        assert_eq!(said(&event(EXECUTED, &[8, 8])), began(8));
        assert_eq!(said(&event(RENAMED, &[9, 9])), began(9));
        assert_eq!(said(&event(ACKNOWLEDGED, &[0])), Said::Allowed(true));
        assert_eq!(said(&event(ACKNOWLEDGED, &[1])), Said::Allowed(false));
        assert_eq!(said(&event(0x8000_0000, &[8, 8, 0, 0])), Said::Nothing);
        assert_eq!(said(&event(EXECUTED, &[8, u32::MAX])), Said::Nothing);
        let whole = event(FORKED, &[1, 1, 7, 7]);
        assert!((0..whole.len()).all(|length| said(&whole[..length]) == Said::Nothing));
    }
}
