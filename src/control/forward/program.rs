//! The forwarding program as eBPF instructions, and the two bpf(2) calls that load and attach it.
//!
//! Written by hand because it is forty instructions: a compiler toolchain would be a larger dependency than Lyre.
//! Register use: r6 context, r7 packet start, r8 packet end, r9 scratch that survives calls.

use std::net::IpAddr;

/// One eBPF instruction (linux/bpf.h `struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Insn {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;
const SKC_LOOKUP_TCP: i32 = 99;
const SK_RELEASE: i32 = 86;
const TCP_LISTEN: i32 = 10;
/// Offset of `state` in `struct bpf_sock`.
const SOCK_STATE: i16 = 72;

/// Where the headers of an Ethernet frame without VLAN tag and without IP options lie.
struct Layout {
    ethertype: u16,
    protocol: i16,
    source: i16,
    destination: i16,
    address_len: i16,
    tcp: i16,
}

const V4: Layout = Layout { ethertype: 0x0800, protocol: 23, source: 26, destination: 30, address_len: 4, tcp: 34 };
const V6: Layout = Layout { ethertype: 0x86dd, protocol: 20, source: 22, destination: 38, address_len: 16, tcp: 54 };

/// Jump targets, resolved when the program is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    Pass,
    NotV4,
    Match(u16),
    Forward,
}

#[derive(Default)]
struct Assembler {
    code: Vec<Insn>,
    jumps: Vec<(usize, Label)>,
    labels: Vec<(Label, usize)>,
}

impl Assembler {
    fn op(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.code.push(Insn { code, registers: dst | src << 4, offset, immediate });
    }

    fn mov(&mut self, dst: u8, src: u8) {
        self.op(0xbf, dst, src, 0, 0);
    }

    fn mov_imm(&mut self, dst: u8, value: i32) {
        self.op(0xb7, dst, 0, 0, value);
    }

    fn add_imm(&mut self, dst: u8, value: i32) {
        self.op(0x07, dst, 0, 0, value);
    }

    fn load32(&mut self, dst: u8, src: u8, offset: i16) {
        self.op(0x61, dst, src, offset, 0);
    }

    fn load16(&mut self, dst: u8, src: u8, offset: i16) {
        self.op(0x69, dst, src, offset, 0);
    }

    fn load8(&mut self, dst: u8, src: u8, offset: i16) {
        self.op(0x71, dst, src, offset, 0);
    }

    fn store32(&mut self, dst: u8, offset: i16, src: u8) {
        self.op(0x63, dst, src, offset, 0);
    }

    fn store16(&mut self, dst: u8, offset: i16, src: u8) {
        self.op(0x6b, dst, src, offset, 0);
    }

    fn and_imm(&mut self, dst: u8, value: i32) {
        self.op(0x57, dst, 0, 0, value);
    }

    fn call(&mut self, helper: i32) {
        self.op(0x85, 0, 0, 0, helper);
    }

    fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op(0x05, 0, 0, 0, 0);
    }

    /// 32-bit comparison: the immediate is not sign extended.
    fn jump_if_equal(&mut self, register: u8, value: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op(0x16, register, 0, 0, value);
    }

    fn jump_unless_equal(&mut self, register: u8, value: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op(0x56, register, 0, 0, value);
    }

    fn jump_if_greater(&mut self, left: u8, right: u8, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.op(0x2d, left, right, 0, 0);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    fn finish(mut self) -> Vec<Insn> {
        for (at, label) in self.jumps {
            let target = self.labels.iter().find(|(l, _)| *l == label).map_or(at + 1, |(_, target)| *target);
            if let Some(insn) = self.code.get_mut(at) {
                insn.offset = i16::try_from(target as i64 - at as i64 - 1).unwrap_or(0);
            }
        }
        self.code
    }
}

/// A big-endian value as a little-endian load sees it.
fn wire16(value: u16) -> i32 {
    i32::from(u16::from_ne_bytes(value.to_be_bytes()))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = i32> + '_ {
    bytes.chunks_exact(4).map(|c| i32::from_ne_bytes([c[0], c[1], c[2], c[3]]))
}

/// The whole program for these virtual addresses and this peer.
pub(super) fn assemble(addresses: &[IpAddr], peer: [u8; 6]) -> Vec<Insn> {
    let mut a = Assembler::default();
    a.mov(6, 1);
    a.load32(7, 6, 0);
    a.load32(8, 6, 4);

    // Came from the peer: whatever it is, it stays here.
    check_length(&mut a, 14);
    let same = Label::Match(2);
    a.load32(1, 7, 6);
    a.jump_unless_equal(1, i32::from_ne_bytes([peer[0], peer[1], peer[2], peer[3]]), same);
    a.load16(1, 7, 10);
    a.jump_if_equal(1, i32::from(u16::from_ne_bytes([peer[4], peer[5]])), Label::Pass);
    a.label(same);

    a.load16(1, 7, 12);
    a.jump_unless_equal(1, wire16(V4.ethertype), Label::NotV4);
    check_length(&mut a, V4.tcp + 20);
    a.load8(1, 7, 14);
    a.jump_unless_equal(1, 0x45, Label::Pass); // options: rare enough to leave to the kernel
    a.load16(1, 7, 20);
    a.and_imm(1, wire16(0x3fff));
    a.jump_unless_equal(1, 0, Label::Pass); // fragment
    family(&mut a, &V4, addresses, Label::Match(4));

    a.label(Label::NotV4);
    a.jump_unless_equal(1, wire16(V6.ethertype), Label::Pass);
    check_length(&mut a, V6.tcp + 20);
    family(&mut a, &V6, addresses, Label::Match(6));

    a.label(Label::Forward);
    a.load32(7, 6, 0);
    a.load32(8, 6, 4);
    check_length(&mut a, 14);
    a.load32(1, 7, 0);
    a.store32(7, 6, 1);
    a.load16(1, 7, 4);
    a.store16(7, 10, 1);
    a.mov_imm(1, i32::from_ne_bytes([peer[0], peer[1], peer[2], peer[3]]));
    a.store32(7, 0, 1);
    a.mov_imm(1, i32::from(u16::from_ne_bytes([peer[4], peer[5]])));
    a.store16(7, 4, 1);
    a.mov_imm(0, XDP_TX);
    a.op(0x95, 0, 0, 0, 0);

    a.label(Label::Pass);
    a.mov_imm(0, XDP_PASS);
    a.op(0x95, 0, 0, 0, 0);
    a.finish()
}

/// Passes the packet unless it has `bytes` bytes.
fn check_length(a: &mut Assembler, bytes: i16) {
    a.mov(1, 7);
    a.add_imm(1, i32::from(bytes));
    a.jump_if_greater(1, 8, Label::Pass);
}

/// TCP to one of our addresses, not a SYN, no socket of ours: to `Forward`; else to `Pass`.
fn family(a: &mut Assembler, layout: &Layout, addresses: &[IpAddr], matched: Label) {
    if !addresses.iter().any(|address| address.is_ipv4() == (layout.address_len == 4)) {
        return a.jump(Label::Pass); // the verifier refuses code that nothing reaches
    }
    a.load8(1, 7, layout.protocol);
    a.jump_unless_equal(1, 6, Label::Pass);
    let mut next = if layout.address_len == 4 { 100 } else { 200 };
    for address in addresses {
        let bytes: Vec<u8> = match (address, layout.address_len) {
            (IpAddr::V4(v4), 4) => v4.octets().to_vec(),
            (IpAddr::V6(v6), 16) => v6.octets().to_vec(),
            _ => continue,
        };
        let other = Label::Match(next);
        next = next.wrapping_add(1);
        for (index, word) in words(&bytes).enumerate() {
            a.load32(1, 7, layout.destination + 4 * index as i16);
            a.jump_unless_equal(1, word, other);
        }
        a.jump(matched);
        a.label(other);
    }
    a.jump(Label::Pass);

    a.label(matched);
    a.load8(1, 7, layout.tcp + 13);
    a.and_imm(1, 0x12);
    a.jump_if_equal(1, 0x02, Label::Pass); // SYN without ACK: a new connection, ours

    // struct bpf_sock_tuple at the top of the stack: addresses, then ports, in wire order.
    let tuple_len = 2 * layout.address_len + 4;
    let tuple = -((tuple_len + 7) & !7);
    for index in 0..(2 * layout.address_len / 4) {
        a.load32(1, 7, layout.source + 4 * index);
        a.store32(10, tuple + 4 * index, 1);
    }
    a.load32(1, 7, layout.tcp);
    a.store32(10, tuple + 2 * layout.address_len, 1);
    a.mov(1, 6);
    a.mov(2, 10);
    a.add_imm(2, i32::from(tuple));
    a.mov_imm(3, i32::from(tuple_len));
    a.mov_imm(4, -1); // BPF_F_CURRENT_NETNS
    a.mov_imm(5, 0);
    a.call(SKC_LOOKUP_TCP);
    a.op(0x55, 0, 0, 1, 0); // found: skip the jump
    a.jump(Label::Forward);
    a.load32(9, 0, SOCK_STATE);
    a.mov(1, 0);
    a.call(SK_RELEASE);
    a.jump_if_equal(9, TCP_LISTEN, Label::Forward);
    a.jump(Label::Pass);
}

/// bpf(2), which nix does not wrap.
#[allow(unsafe_code)]
pub(super) mod bpf {
    use super::Insn;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    const PROG_LOAD: i32 = 5;
    const LINK_CREATE: i32 = 28;
    const PROG_TYPE_XDP: u32 = 6;
    const ATTACH_XDP: u32 = 37;
    /// Generic mode: works on every driver, and after checksum and segmentation offload.
    const XDP_FLAGS_SKB_MODE: u32 = 2;

    #[repr(C)]
    #[derive(Default)]
    struct ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        rest: [u64; 12],
    }

    #[repr(C)]
    #[derive(Default)]
    struct LinkCreate {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
        rest: [u64; 6],
    }

    fn call<T>(command: i32, attributes: &mut T) -> io::Result<OwnedFd> {
        // SAFETY: `attributes` is a live, zero-padded bpf_attr of the given size; the kernel reads it only.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
        match i32::try_from(fd) {
            // SAFETY: a non-negative answer of these commands is a new descriptor that nobody else owns.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(in super::super) fn load(program: &[Insn]) -> io::Result<OwnedFd> {
        let mut log = vec![0_u8; 16 * 1024];
        let mut attributes = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: program.len() as u32,
            insns: program.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            ..ProgLoad::default()
        };
        let first = match call(PROG_LOAD, &mut attributes) {
            Ok(fd) => return Ok(fd),
            Err(error) => error,
        };
        if first.kind() == io::ErrorKind::PermissionDenied {
            return Err(first);
        }
        // Once more with the verifier's log: a refusal without its reason helps nobody.
        (attributes.log_level, attributes.log_size, attributes.log_buf) =
            (1, log.len() as u32, log.as_mut_ptr() as u64);
        call(PROG_LOAD, &mut attributes).map_err(|error| {
            let text = String::from_utf8_lossy(&log);
            let text = text.trim_end_matches('\0').trim_end();
            let tail: Vec<&str> = text.lines().rev().take(4).collect();
            io::Error::new(
                error.kind(),
                format!("the kernel's verifier refused the program: {error}: {}", tail.join(" < ")),
            )
        })
    }

    pub(in super::super) fn attach(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
        call(
            LINK_CREATE,
            &mut LinkCreate {
                prog_fd: program.as_raw_fd() as u32,
                target_ifindex: interface,
                attach_type: ATTACH_XDP,
                flags: XDP_FLAGS_SKB_MODE,
                ..LinkCreate::default()
            },
        )
    }
}
