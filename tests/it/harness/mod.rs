//! What the tests stand on: the proxy as a child process, clients, scripted origins, certificates, real
//! apps. Waiting is always for a condition, with a deadline.

pub mod client;
pub mod http;
pub mod lockring;
pub mod nameserver;
pub mod origin;
pub mod pebble;
pub mod pki;
#[macro_use]
pub mod python;
pub mod refusal;
pub mod tickets;

use std::time::{Duration, Instant};

pub use client::Client;
pub use lockring::{Lockring, Setup};
pub use origin::Origin;

/// How long anything that must happen may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Asks `probe` again and again until it gives a value.
#[track_caller]
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the long form of a test was asked for.
pub fn long() -> bool {
    std::env::var_os("LOCKRING_LONG").is_some_and(|v| v == "1")
}

/// Whether `needle` occurs in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// A body of `length` bytes in which any loss, doubling or exchange of bytes shows.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut x: u32 = 0x9E37_79B9;
    (0..length)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x.to_le_bytes()[0]
        })
        .collect()
}
