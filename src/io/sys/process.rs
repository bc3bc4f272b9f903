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

/// Keeps pages of 2 MiB out of this process: what a burst leaves could be given back only in steps of them,
/// which makes a connection's memory several times what it uses.
///
/// # Errors
/// The system call's.
pub fn forbid_huge_pages() -> io::Result<()> {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: this option takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns pages that this thread's heap does not use to the system. The allocator does so by itself only
/// as it works on, so after a burst it would hold them until the next one.
pub fn release_free_memory() {
    // SAFETY: takes no pointer and may be called at any time by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
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

/// Kills every process of the group that `leader` made, so far as it still exists. The group keeps its
/// number from being given to another process as long as anybody is in it.
pub fn kill_group(leader: u32) {
    // 0 and 1 would name the caller's own group and everybody; no child has either number.
    let Some(group) = i32::try_from(leader).ok().filter(|group| *group > 1) else { return };
    // SAFETY: the call takes numbers only.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}
