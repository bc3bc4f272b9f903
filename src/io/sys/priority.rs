//! How a thread gives way to the others.

use std::io;

/// The lowest of the ordinary priorities (`nice(2)`).
const NICEST: libc::c_int = 19;

/// Gives the calling thread the least share of a busy CPU, but some. On Linux a thread has a priority of
/// its own, and threads that it starts later take it over.
///
/// # Errors
/// The system call's.
pub fn be_nice() -> io::Result<()> {
    // SAFETY: it takes plain numbers; who 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread only what no other thread wants (`SCHED_IDLE`).
///
/// # Errors
/// The system call's.
pub fn be_idle() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: `none` is a valid sched_param that lives through the call; pid 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::{be_idle, be_nice};

    /// Nice value and scheduling policy of the calling thread (proc(5), fields 19 and 41 of `stat`).
    fn of_this_thread() -> (String, String) {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        (fields[16].to_owned(), fields[38].to_owned())
    }

    #[test]
    fn only_the_calling_thread_gives_way() {
        let before = of_this_thread();
        std::thread::spawn(|| {
            be_nice().unwrap();
            assert_eq!(of_this_thread().0, "19");
            be_idle().unwrap();
            assert_eq!(of_this_thread().1, "5");
        })
        .join()
        .unwrap();
        assert_eq!(of_this_thread(), before);
    }
}
