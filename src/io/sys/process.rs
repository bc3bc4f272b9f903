//! What the process may use.

use std::io;

/// Raises the soft limit of open descriptors to the hard one and gives the new figure.
///
/// # Errors
/// The system call's.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = limit()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit that lives through the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

/// Forbids core dumps, which would write keys to a disk.
///
/// # Errors
/// The system call's.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit that lives through the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The user whose rights files are opened with. The owner of `/proc/self` is root's in a process that may
/// not be traced, so it does not tell.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: the call takes nothing, and cannot fail.
    unsafe { libc::geteuid() }
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that lives through the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if result == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}
