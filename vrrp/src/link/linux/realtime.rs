//! Makes the calling thread hard to delay: real-time class, memory that stays, a stack that is there.
#![allow(unsafe_code)]

use nix::sys::resource::{Resource, setrlimit};
use std::fs;
use std::io;

/// Something the system refused; the speaker works without it, only less punctually.
#[derive(Debug)]
pub struct Shortfall {
    /// What is missing, for people: "real-time scheduling".
    pub what: &'static str,
    /// The capability that would allow it.
    pub capability: &'static str,
    pub cause: io::Error,
}

/// Stack touched in advance; the deepest path of the speaker needs a small part of it.
const STACK_PREFAULT_BYTES: usize = 128 * 1024;

/// Best effort, on the thread to be protected. Returns what could not be had.
pub fn protect_thread(priority: u8) -> Vec<Shortfall> {
    let mut missing = Vec::new();
    if let Err(cause) = schedule_fifo(priority) {
        missing.push(Shortfall { what: "real-time scheduling", capability: "CAP_SYS_NICE", cause });
        be_nice();
    }
    if let Err(cause) = lock_memory() {
        missing.push(Shortfall { what: "locked memory", capability: "CAP_IPC_LOCK", cause });
    }
    prefault_stack();
    missing
}

/// Puts the calling thread into the real-time class SCHED_FIFO.
pub(super) fn schedule_fifo(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: libc::c_int::from(priority) };
    // Children must not inherit the class: a forked worker at FIFO would starve the machine.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // The system call itself, because musl's wrapper refuses and glibc's is the same; 0 is the calling thread.
    // SAFETY: `parameter` is live during the call, which only reads it.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) })
}

/// Second best to a real-time class. Fine slack, because ordinary threads wake up to 50 µs late by default.
fn be_nice() {
    // SAFETY: neither call takes a pointer; a refusal changes nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1usize);
    }
}

/// Keeps this process in memory.
///
/// What is mapped later is locked when first touched (ONFAULT), else allocators that reserve a gigabyte would get it
/// filled. Without an unlimited allowance only what is there now: a limit that is hit later would fail allocations.
fn lock_memory() -> io::Result<()> {
    let unlimited = setrlimit(Resource::RLIMIT_MEMLOCK, libc::RLIM_INFINITY, libc::RLIM_INFINITY).is_ok();
    let flags = if unlimited { libc::MCL_CURRENT | libc::MCL_FUTURE } else { libc::MCL_CURRENT };
    // SAFETY: no pointers.
    check(unsafe { libc::mlockall(flags | libc::MCL_ONFAULT) }.into())?;
    populate_program();
    Ok(())
}

/// Reads the program's own text into memory, so that the first take-over does not wait for a disk.
fn populate_program() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(program_mapping) {
        // SAFETY: MADV_POPULATE_READ only faults pages in; an address range that is gone gives an error, ignored here.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_POPULATE_READ) };
    }
}

/// Start and length of a mapping that is a readable part of a file: `55d0-55e0 r-xp 0000 08:01 42 /usr/bin/lyre`.
fn program_mapping(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let flags = fields.next()?;
    let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    if !is_file || !flags.starts_with('r') {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[inline(never)]
fn prefault_stack() {
    let mut pages = [0u8; STACK_PREFAULT_BYTES];
    std::hint::black_box(&mut pages);
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_mappings_are_files_only() {
        let text = "7f10-7f20 r-xp 00000000 fe:01 1234                  /usr/bin/lyre";
        assert_eq!(program_mapping(text), Some((0x7f10, 0x10)));
        assert_eq!(program_mapping("7f10-7f20 rw-p 00000000 00:00 0 "), None);
        assert_eq!(program_mapping("7f10-7f20 r-xp 00000000 00:00 0 [vdso]"), None);
        assert_eq!(program_mapping("nonsense"), None);
    }
}
