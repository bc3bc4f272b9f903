//! A request head, whole and byte by byte.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::http1::head::fuzz(data));
