//! A configuration text: a model, or errors with their places.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::config::fuzz(data));
