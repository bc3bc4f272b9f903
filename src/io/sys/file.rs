//! Calls on files that the standard library does not have in the oldest compiler that is supported.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// Kinds of file systems whose files only one kernel sees, by their numbers (linux/magic.h): ext2 to 4, XFS,
/// Btrfs, tmpfs, overlay, F2FS, bcachefs, and ZFS, which is not in it.
const LOCAL_FILE_SYSTEMS: [u32; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1];

/// Takes the one lock of a file (`flock(2)`) if nobody has it. It ends with the last descriptor of this
/// opening of the file, so the kernel releases it when the process dies, however it dies.
///
/// # Errors
/// The system call's, such as that the file system has no locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    flock(file, libc::LOCK_EX)
}

/// Takes a lock that any number may share, and that keeps [`try_lock`] out; the rest is as there.
///
/// # Errors
/// As of [`try_lock`].
pub fn try_lock_shared(file: &File) -> io::Result<bool> {
    flock(file, libc::LOCK_SH)
}

fn flock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    loop {
        // SAFETY: the descriptor is open as long as `file`.
        let result = unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(false),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// Whether a file lies on a file system that other machines certainly do not see, so that a lock on it keeps
/// out all there are. Where the kernel does not tell, it may be seen.
#[must_use]
pub fn is_local(file: &File) -> bool {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the descriptor is open as long as `file`, and `found` is a statfs to be written.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) };
    // SAFETY: it is a struct of integers that was zeroed, so every byte is initialised.
    let found = unsafe { found.assume_init() };
    result == 0 && LOCAL_FILE_SYSTEMS.iter().any(|kind| i128::from(*kind) == i128::from(found.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_once() {
        let path = std::env::temp_dir().join(format!("lockring-flock-{}", std::process::id()));
        let (first, second) = (File::create(&path).unwrap(), File::create(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn a_shared_lock_is_had_by_many_and_keeps_the_one_out() {
        let path = std::env::temp_dir().join(format!("lockring-flock-shared-{}", std::process::id()));
        let [first, second, third] = std::array::from_fn(|_| File::create(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(try_lock_shared(&first).unwrap() && try_lock_shared(&second).unwrap());
        drop(first);
        assert!(!try_lock(&third).unwrap());
        drop(second);
        assert!(try_lock(&third).unwrap());
    }

    #[test]
    fn file_systems_of_the_kernel_are_told_apart() {
        assert!(!is_local(&File::open("/proc/self/stat").unwrap()), "not in the list");
        if let Ok(memory) = File::open("/dev/shm") {
            assert!(is_local(&memory));
        }
    }
}
