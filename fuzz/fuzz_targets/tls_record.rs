//! The record layer over scripts of good and bad records.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lockring::tls::record::fuzz(data));
