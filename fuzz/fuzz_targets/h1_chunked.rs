//! A chunked body, whole and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::http1::chunked::fuzz(data));
