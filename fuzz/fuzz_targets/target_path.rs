//! A request-target and the routing view of its path.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::http::target::fuzz(data));
