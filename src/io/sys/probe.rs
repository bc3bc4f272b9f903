//! What the kernel gives, found out by asking for it: each ring set-up flag by a ring of its own, and
//! whether the clock is disciplined. Changes nothing.

use std::io;
use std::mem::MaybeUninit;

use crate::limits;

/// Which of a worker's ring set-up flags this kernel takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingFlags {
    /// `IORING_SETUP_SINGLE_ISSUER`, Linux 6.0.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN` (with `SINGLE_ISSUER`, which it needs), Linux 6.1.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN`, Linux 5.19.
    pub coop_taskrun: bool,
    /// `IORING_SETUP_SUBMIT_ALL`, Linux 5.18.
    pub submit_all: bool,
    /// A completion queue of [`limits::RING_COMPLETIONS`] entries.
    pub large_queue: bool,
}

/// Tries the ring set-up flags one by one.
///
/// # Errors
/// The system call's, if not even a ring without flags can be made.
pub fn ring_flags() -> io::Result<RingFlags> {
    type Set = fn(&mut io_uring::Builder) -> &mut io_uring::Builder;
    // Small, so that a memory limit refuses the large queue only.
    let with = |set: Set| set(&mut io_uring::IoUring::builder()).build(SMALL);
    with(|builder| builder)?;
    let takes = |set: Set| with(set).is_ok();
    let mut large = io_uring::IoUring::builder();
    large.setup_cqsize(limits::RING_COMPLETIONS);
    let large: io::Result<io_uring::IoUring> = large.build(limits::RING_ENTRIES);
    Ok(RingFlags {
        single_issuer: takes(|builder| builder.setup_single_issuer()),
        defer_taskrun: takes(|builder| builder.setup_single_issuer().setup_defer_taskrun()),
        coop_taskrun: takes(|builder| builder.setup_coop_taskrun()),
        submit_all: takes(|builder| builder.setup_submit_all()),
        large_queue: large.is_ok_and(|ring| ring.params().cq_entries() >= limits::RING_COMPLETIONS),
    })
}

const SMALL: u32 = 8;

/// Whether something disciplines the system's clock (`adjtimex(2)`); `None` if the kernel does not tell.
#[must_use]
pub fn clock_is_disciplined() -> Option<bool> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `state` is a timex of integers, for which zero is valid; `modes` 0 asks and sets nothing.
    let result = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    if result < 0 {
        return None;
    }
    // SAFETY: it was zeroed, so every byte is initialised, and the kernel wrote integers.
    let state = unsafe { state.assume_init() };
    Some(state.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_with_those_they_need() {
        // A kernel or container without io_uring is a valid place to run the tests.
        if let Ok(flags) = ring_flags() {
            assert!(!flags.defer_taskrun || flags.single_issuer);
            assert!(!flags.single_issuer || flags.submit_all, "6.0 is newer than 5.18");
        }
    }

    #[test]
    fn the_clock_answers_the_same_twice() {
        assert_eq!(clock_is_disciplined(), clock_is_disciplined());
    }
}
