//! A value in memory that the worker shares with its parent (sealed memfd). Only atomics, so either side may write
//! anything at any time; the parent treats what it reads as hints of an untrusted process.

#![allow(unsafe_code)] // one shared mapping

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

/// Names as numbers, where only atomics can be shared (FNV-1a). Never 0.
pub fn hash_name(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step).max(1)
}

/// Types that another process may write at any time.
///
/// # Safety
/// The type consists of atomics only, has no padding that matters, and all zero bytes are a valid value of it.
pub unsafe trait Plain: Sync {}

/// A mapping; derefs to `T`. Share it between threads in an `Arc`.
pub struct Shared<T: Plain> {
    at: NonNull<T>,
}

/// Why a descriptor is not usable.
#[derive(Debug)]
pub enum SharedError {
    /// Not a memfd of the right size that can no longer shrink: reading it could be a bus error.
    WrongDescriptor,
    System {
        operation: &'static str,
        error: Errno,
    },
}

impl<T: Plain> Shared<T> {
    const SIZE: NonZeroUsize = match NonZeroUsize::new(size_of::<T>()) {
        Some(size) => size,
        None => NonZeroUsize::MIN,
    };

    /// A zeroed value and the descriptor to pass on. Its size is sealed.
    pub fn create(name: &CStr) -> Result<(Shared<T>, OwnedFd), SharedError> {
        let failed = |operation| move |error| SharedError::System { operation, error };
        let memfd =
            memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).map_err(failed("memfd_create"))?;
        nix::unistd::ftruncate(&memfd, Self::SIZE.get() as libc::off_t).map_err(failed("ftruncate"))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(failed("fcntl(F_ADD_SEALS)"))?;
        Ok((Shared::map(&memfd)?, memfd))
    }

    /// Maps what another process created.
    pub fn open(memfd: OwnedFd) -> Result<Shared<T>, SharedError> {
        let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|_| SharedError::WrongDescriptor)?;
        let stat = nix::sys::stat::fstat(&memfd).map_err(|error| SharedError::System { operation: "fstat", error })?;
        let is_fixed = SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK);
        if !is_fixed || stat.st_size != Self::SIZE.get() as libc::off_t {
            return Err(SharedError::WrongDescriptor);
        }
        Shared::map(&memfd)
    }

    fn map(memfd: &impl AsFd) -> Result<Shared<T>, SharedError> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory. The file is SIZE bytes
        // and sealed against shrinking (both checked by the callers), so every access stays inside it.
        let at = unsafe {
            mmap(None, Self::SIZE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, memfd, 0)
        }
        .map_err(|error| SharedError::System { operation: "mmap", error })?;
        Ok(Shared { at: at.cast() })
    }
}

impl<T: Plain> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is SIZE bytes, page aligned, lives as long as `self`, and consists of atomics only, for
        // which every bit pattern is valid and writes by others are allowed.
        unsafe { self.at.as_ref() }
    }
}

// SAFETY: the content is atomics; the mapping is not tied to a thread.
unsafe impl<T: Plain> Send for Shared<T> {}
// SAFETY: as above; `&Shared<T>` only yields `&T`.
unsafe impl<T: Plain> Sync for Shared<T> {}

impl<T: Plain> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: this mapping is ours and no `&T` outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), Self::SIZE.get()) };
    }
}

impl std::fmt::Display for SharedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SharedError::WrongDescriptor => f.write_str("descriptor is not sealed memory of the expected size"),
            SharedError::System { operation, error } => write!(f, "{operation}: {error}"),
        }
    }
}

impl std::error::Error for SharedError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SharedError::WrongDescriptor => None,
            SharedError::System { error, .. } => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Words([AtomicU64; 512]);
    // SAFETY: atomics only.
    unsafe impl Plain for Words {}

    #[test]
    fn both_mappings_see_the_same_memory() {
        let (one, memfd) = Shared::<Words>::create(c"test").unwrap();
        let two = Shared::<Words>::open(memfd).unwrap();
        two.0[511].store(7, Ordering::Relaxed);
        assert_eq!(one.0[511].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn the_memory_cannot_be_resized() {
        let (_shared, memfd) = Shared::<Words>::create(c"test").unwrap();
        assert_eq!(nix::unistd::ftruncate(&memfd, 0), Err(Errno::EPERM));
    }

    #[test]
    fn other_descriptors_are_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Shared::<Words>::open(null.into()), Err(SharedError::WrongDescriptor)));
        let small = memfd_create("small", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(matches!(Shared::<Words>::open(small), Err(SharedError::WrongDescriptor)));
    }
}
