//! Clocks that the standard library does not read.

use std::time::Duration;

/// Time since the machine was started, including the time that it was suspended (`CLOCK_BOOTTIME`).
#[must_use]
pub fn since_boot() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec that lives through the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::since_boot;

    #[test]
    fn it_goes_on() {
        let first = since_boot();
        assert!(first.as_secs() > 0);
        assert!(since_boot() >= first);
    }
}
