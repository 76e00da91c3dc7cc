//! Two more fences around the worker where the kernel has them: landlock (no file system writes) and a seccomp list of
//! system calls it never needs. Both are best effort; the missing one is reported, not fatal.

#![allow(unsafe_code)] // landlock and seccomp have no safe wrapper

use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Answers what could not be put up and why. Needs no_new_privs.
pub fn confine(writable: Option<&Path>, spool: &Path) -> Vec<(&'static str, Errno)> {
    let landlock = deny_writes(writable, spool).err().map(|error| ("landlock", error));
    let seccomp = deny_calls().err().map(|error| ("seccomp", error));
    landlock.into_iter().chain(seccomp).collect()
}

/// Kernel ABI: struct landlock_ruleset_attr, first version.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

/// Kernel ABI: struct landlock_path_beneath_attr (packed).
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

const WRITE_FILE: u64 = 1 << 1;
const MAKE_REG: u64 = 1 << 8;
/// EXECUTE, WRITE_FILE, REMOVE_DIR, REMOVE_FILE and MAKE_*; reading stays free. All are in landlock's first version.
const DENIED: u64 = 1 | WRITE_FILE | (1 << 4) | (1 << 5) | 0x1fc0;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// No file can be written, made, removed or executed, except regular files in the directory of `writable` (an access
/// log that has to be reopened), files without a name in `spool`, and what is already open.
fn deny_writes(writable: Option<&Path>, spool: &Path) -> Result<(), Errno> {
    let attributes = Ruleset { handled_access_fs: DENIED };
    // SAFETY: the pointer and size describe a live struct of the kernel's layout.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size_of::<Ruleset>(), 0)
    })?;
    // SAFETY: just made for us; descriptor numbers fit.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // Files without a name are opened for writing, never made or removed in the kernel's sense.
    let allowed = [(writable.and_then(Path::parent), WRITE_FILE | MAKE_REG), (Some(spool), WRITE_FILE)];
    for (path, allowed_access) in allowed {
        let Some(directory) = path.and_then(|path| std::fs::File::open(path).ok()) else { continue };
        let rule = PathBeneath { allowed_access, parent_fd: directory.as_raw_fd() };
        // SAFETY: as above; `directory` is open.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
        })?;
    }
    // SAFETY: only restricts this process.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// System calls a proxy never makes and exploits like. They fail with EPERM instead of killing, so that a library that
/// merely tries one goes on.
const DENIED_CALLS: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    // A worker that keeps its parent's user must not signal it or take its descriptors.
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_mknodat,
];

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// Classic BPF over struct seccomp_data: word 0 is the call number, word 1 the architecture.
fn deny_calls() -> Result<(), Errno> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let deny = libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32;
    let mut program = vec![
        instruction(BPF_LD | BPF_W | BPF_ABS, 4, 0, 0),
        // Another architecture's call numbers (32-bit entry) would slip past the list: none of them is allowed.
        instruction(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
        instruction(BPF_RET | BPF_K, deny, 0, 0),
        instruction(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
    ];
    for call in DENIED_CALLS {
        program.push(instruction(BPF_JMP | BPF_JEQ | BPF_K, *call as u32, 0, 1));
        program.push(instruction(BPF_RET | BPF_K, deny, 0, 0));
    }
    program.push(instruction(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` and the program it points to live through the call; the kernel copies both.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) })
        .map(drop)
}
