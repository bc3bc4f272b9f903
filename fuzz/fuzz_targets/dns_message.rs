//! Any bytes as a DNS message.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| lockring::acme::dns::fuzz(input));
