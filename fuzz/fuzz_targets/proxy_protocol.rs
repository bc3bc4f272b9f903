//! The first bytes of a connection as a PROXY protocol prefix.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| lockring::wire::proxy_protocol::fuzz(input));
