//! Any order of bytes, ends, timers and connects against one exchange.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::proxy::exchange::fuzz(data, std::time::Instant::now()));
